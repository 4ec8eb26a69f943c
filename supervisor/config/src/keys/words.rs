//! Keys whose values are words, and what the words stand for.

use watt_core::{
    plan::{
        Condition, Network, OnFailure, Overlap, PathMatch, Protocol, RestartOrder, RestartPolicy, Role,
        TlsVersion,
    },
    sandbox::{Namespace, Personality, Profile, ProtectHome, ProtectProc, ProtectSystem},
};

/// Words and what they mean, without the type they stand for.
pub(crate) trait WordList: Sync + std::fmt::Debug {
    /// Each word with a few words about it.
    fn words(&self) -> Vec<(&'static str, &'static str)>;
}

/// Words, what they stand for, and a few words about each. The first word for a value is the one that is shown.
#[derive(Debug)]
pub(crate) struct Words<T: 'static>(pub(crate) &'static [(&'static str, T, &'static str)]);

impl<T: Sync + std::fmt::Debug> WordList for Words<T> {
    fn words(&self) -> Vec<(&'static str, &'static str)> {
        self.0.iter().map(|(word, _, doc)| (*word, *doc)).collect()
    }
}

/// The words of `listen`, besides a port number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenWord {
    Auto,
    Unix,
    Fd,
    Port,
    None,
}

/// The words of `ready`, and the keys of its table that name a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadyWord {
    Started,
    Listening,
    Tcp,
    Notify,
}

/// The words of `scheduling.policy`; the realtime ones have a priority beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SchedulerWord {
    Other,
    Batch,
    Idle,
    Fifo,
    RoundRobin,
}

/// The words of `scheduling.io`; all but the last have a level beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IoClassWord {
    Realtime,
    BestEffort,
    Idle,
}

/// The words of `system_calls` that stand for a whole list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallsWord {
    All,
    /// What this profile allows.
    Of(Profile),
}

/// What stands in place of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllOrNone {
    All,
    None,
}

/// The words of `catch_up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatchUpWord {
    Skip,
    One,
    All,
}

/// The one word `give_up` and `retry_failed_after` know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Never;

/// The words of `logs.access`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessWord {
    None,
    Gateway,
    All,
}

pub(crate) static ACCESS: Words<AccessWord> = Words(&[
    ("none", AccessWord::None, "no request"),
    ("gateway", AccessWord::Gateway, "those of clients"),
    ("all", AccessWord::All, "those and the calls between services"),
]);

pub(crate) static LISTEN: Words<ListenWord> = Words(&[
    ("auto", ListenWord::Auto, "whatever the kernel shows the program listening on"),
    ("unix", ListenWord::Unix, "the Unix socket named by `$WATT_SOCKET` and `{socket}`"),
    ("fd", ListenWord::Fd, "a socket it inherits, by systemd's protocol (`$LISTEN_FDS`)"),
    ("port", ListenWord::Port, "the TCP port in `$PORT` and `{port}`"),
    ("none", ListenWord::None, "nothing: the program accepts no connections"),
]);

pub(crate) static TLS_VERSION: Words<TlsVersion> =
    Words(&[("1.2", TlsVersion::V1_2, "TLS 1.2"), ("1.3", TlsVersion::V1_3, "TLS 1.3")]);

/// Whether they are required.
pub(crate) static CLIENT_CERTIFICATES: Words<bool> = Words(&[
    ("required", true, "who has none is turned away"),
    ("optional", false, "who has none is served; who has one of somebody else's is turned away"),
]);

pub(crate) static PROTOCOL: Words<Protocol> = Words(&[
    ("http1", Protocol::Http1, "HTTP/1.1, or a protocol of its own"),
    ("h2c", Protocol::H2c, "HTTP/2 without TLS, as gRPC has it"),
    ("http2", Protocol::H2c, "the same"),
]);

pub(crate) static PATH_MATCH: Words<PathMatch> = Words(&[
    ("prefix", PathMatch::Prefix, "the path and everything below it"),
    ("exact", PathMatch::Exact, "the path alone"),
    (
        "regex",
        PathMatch::Regex,
        "a regular expression of the whole path, as it comes over the wire; it has to describe what that is decoded to as well",
    ),
]);

/// What responses are compressed in.
pub(crate) static CODING: Words<&str> =
    Words(&[("br", "br", "brotli"), ("zstd", "zstd", "Zstandard"), ("gzip", "gzip", "gzip")]);

/// Whether other letters are another path.
pub(crate) static PATH_CASE: Words<bool> = Words(&[
    (
        "guarded",
        false,
        "the same path to some services: a request that would get past what this route asks for is refused",
    ),
    ("exact", true, "another path, which other routes take"),
]);

pub(crate) static NETWORK: Words<Network> = Words(&[
    ("private", Network::Private, "a network namespace for each worker"),
    ("host", Network::Host, "the host's network"),
]);

pub(crate) static CONDITION: Words<Condition> = Words(&[
    ("ready", Condition::Ready, "every worker is ready"),
    ("started", Condition::Started, "every worker's program runs"),
    (
        "healthy",
        Condition::Healthy,
        "every worker is ready and has passed the check of its `health`, if it has one",
    ),
    (
        "completed",
        Condition::Completed,
        "every worker has ended, however it did, and is not started again soon",
    ),
    ("completed_successfully", Condition::CompletedSuccessfully, "every worker ended with exit status 0"),
    ("service_started", Condition::Started, "Compose's word for `started`"),
    ("service_healthy", Condition::Healthy, "Compose's word for `healthy`"),
    (
        "service_completed_successfully",
        Condition::CompletedSuccessfully,
        "Compose's word for `completed_successfully`",
    ),
    ("process_started", Condition::Started, "process-compose's word for `started`"),
    ("process_healthy", Condition::Healthy, "process-compose's word for `healthy`"),
    ("process_log_ready", Condition::Ready, "process-compose's word for `ready`"),
    ("process_completed", Condition::Completed, "process-compose's word for `completed`"),
    (
        "process_completed_successfully",
        Condition::CompletedSuccessfully,
        "process-compose's word for `completed_successfully`",
    ),
]);

pub(crate) static READY: Words<ReadyWord> = Words(&[
    ("listening", ReadyWord::Listening, "the kernel shows it listening"),
    ("started", ReadyWord::Started, "its program runs"),
    ("tcp", ReadyWord::Tcp, "it accepts a connection"),
    ("notify", ReadyWord::Notify, "it sends `READY=1` (sd_notify)"),
]);

pub(crate) static RELOAD: Words<bool> = Words(&[
    ("on-request", false, "only when somebody asks for it"),
    ("on-change", true, "also whenever the text of the file or of its `.env` is another one"),
]);

pub(crate) static ORDER: Words<RestartOrder> = Words(&[
    (
        "start-first",
        RestartOrder::StartFirst,
        "the new one gets ready before the old one is stopped, where both can run",
    ),
    ("stop-first", RestartOrder::StopFirst, "the old one is stopped before the new one is started"),
]);

pub(crate) static ON_FAILURE: Words<OnFailure> = Words(&[
    ("keep", OnFailure::Keep, "they stay, beside the old ones that were not"),
    (
        "roll_back",
        OnFailure::RollBack,
        "the configuration from before the reload comes back, and its workers",
    ),
    ("rollback", OnFailure::RollBack, "Compose's word for `roll_back`"),
    ("pause", OnFailure::Keep, "Compose's word for `keep`"),
]);

pub(crate) static POLICY: Words<RestartPolicy> = Words(&[
    ("always", RestartPolicy::Always, "after every exit"),
    ("on-failure", RestartPolicy::OnFailure, "after every exit but status 0"),
    ("never", RestartPolicy::Never, "not at all: the service runs to completion"),
    ("unless-stopped", RestartPolicy::Always, "Compose's word for `always`"),
    ("no", RestartPolicy::Never, "Compose's word for `never`"),
]);

pub(crate) static NEVER: Words<Never> = Words(&[("never", Never, "not at all")]);

pub(crate) static OVERLAP: Words<Overlap> = Words(&[
    ("forbid", Overlap::Forbid, "it is skipped"),
    ("allow", Overlap::Allow, "it begins beside it"),
    ("replace", Overlap::Replace, "the earlier one is stopped, and then it begins"),
]);

pub(crate) static CATCH_UP: Words<CatchUpWord> = Words(&[
    ("skip", CatchUpWord::Skip, "nothing"),
    ("one", CatchUpWord::One, "the last one, unless the next one is in time"),
    ("all", CatchUpWord::All, "each one, one after the other; of very many, the last 100"),
]);

pub(crate) static METHOD: Words<&str> = Words(&[
    ("GET", "GET", ""),
    ("POST", "POST", ""),
    ("PUT", "PUT", ""),
    ("PATCH", "PATCH", ""),
    ("DELETE", "DELETE", ""),
    ("HEAD", "HEAD", ""),
    ("OPTIONS", "OPTIONS", ""),
]);

pub(crate) static PROFILE: Words<Profile> = Words(&[
    ("off", Profile::Off, "limits and the names of the mesh, and nothing else"),
    ("standard", Profile::Standard, "what no service needs is out of reach"),
    ("strict", Profile::Strict, "nothing of the host is in reach but what the program needs to run"),
]);

pub(crate) static ROLE: Words<Role> = Words(&[
    ("view", Role::View, "look: status, events, logs"),
    ("operate", Role::Operate, "start, stop and restart services as well"),
    ("admin", Role::Admin, "everything"),
]);

pub(crate) static PROTECT_SYSTEM: Words<ProtectSystem> = Words(&[
    ("false", ProtectSystem::No, "as file modes say"),
    ("true", ProtectSystem::Yes, "`/usr` and the boot loader are read-only"),
    ("full", ProtectSystem::Full, "`/etc` is read-only as well"),
    (
        "strict",
        ProtectSystem::Strict,
        "everything is read-only but `/dev`, `/proc`, `/sys`, the temporary folders, the worker's own folder and its `$STATE_DIRECTORY`",
    ),
]);

pub(crate) static PROTECT_HOME: Words<ProtectHome> = Words(&[
    ("false", ProtectHome::No, "as file modes say"),
    ("read_only", ProtectHome::ReadOnly, "they cannot be written"),
    ("hidden", ProtectHome::Hidden, "they look empty"),
    ("true", ProtectHome::Hidden, "systemd's word for `hidden`"),
]);

pub(crate) static PROTECT_PROC: Words<ProtectProc> = Words(&[
    ("default", ProtectProc::Default, "all"),
    ("invisible", ProtectProc::Invisible, "those of the same user"),
    ("ptraceable", ProtectProc::Ptraceable, "those it may trace"),
]);

pub(crate) static NAMESPACES: Words<Namespace> = Words(&[
    ("cgroup", Namespace::Cgroup, "cgroups"),
    ("ipc", Namespace::Ipc, "System V IPC and POSIX message queues"),
    ("mnt", Namespace::Mount, "mounts"),
    ("net", Namespace::Network, "networks"),
    ("pid", Namespace::Pid, "processes"),
    ("time", Namespace::Time, "clocks"),
    (
        "user",
        Namespace::User,
        "users, in which a program has every right over the other kinds it makes there",
    ),
    ("uts", Namespace::Uts, "the host name"),
]);

pub(crate) static PERSONALITY: Words<Personality> = Words(&[
    ("linux", Personality::Linux, "the processor as it is"),
    ("linux32", Personality::Linux32, "the processor as a 32-bit one: `uname -m` says `i686` on `x86_64`"),
]);

pub(crate) static SCHEDULER: Words<SchedulerWord> = Words(&[
    ("other", SchedulerWord::Other, "time-sharing, the usual one"),
    ("batch", SchedulerWord::Batch, "time-sharing for work that does not interact"),
    ("idle", SchedulerWord::Idle, "when nothing else runs"),
    ("fifo", SchedulerWord::Fifo, "realtime, first in first out"),
    ("round_robin", SchedulerWord::RoundRobin, "realtime, in turns"),
    ("rr", SchedulerWord::RoundRobin, "systemd's word for `round_robin`"),
]);

pub(crate) static IO_CLASS: Words<IoClassWord> = Words(&[
    ("best_effort", IoClassWord::BestEffort, "the usual class"),
    ("idle", IoClassWord::Idle, "when nobody else wants the disk"),
    ("realtime", IoClassWord::Realtime, "first access to the disk"),
]);

pub(crate) static CALLS: Words<CallsWord> = Words(&[
    ("all", CallsWord::All, "no call is refused"),
    ("standard", CallsWord::Of(Profile::Standard), "what the profile `standard` allows"),
    ("strict", CallsWord::Of(Profile::Strict), "what the profile `strict` allows"),
]);

pub(crate) static ALL_OR_NONE: Words<AllOrNone> =
    Words(&[("all", AllOrNone::All, "all"), ("none", AllOrNone::None, "none")]);

//! Keys whose values are words, and what the words stand for.

use watt_core::plan::{Condition, Network, RestartPolicy};

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

/// The one word `give_up` and `retry_failed_after` know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Never;

pub(crate) static LISTEN: Words<ListenWord> = Words(&[
    ("auto", ListenWord::Auto, "whatever the kernel shows the program listening on"),
    ("unix", ListenWord::Unix, "the Unix socket named by `$WATT_SOCKET` and `{socket}`"),
    ("fd", ListenWord::Fd, "a socket it inherits, by systemd's protocol (`$LISTEN_FDS`)"),
    ("port", ListenWord::Port, "the TCP port in `$PORT` and `{port}`"),
    ("none", ListenWord::None, "nothing: the program accepts no connections"),
]);

pub(crate) static NETWORK: Words<Network> = Words(&[
    ("private", Network::Private, "a network namespace for each worker"),
    ("host", Network::Host, "the host's network"),
]);

pub(crate) static CONDITION: Words<Condition> = Words(&[
    ("ready", Condition::Ready, "every worker is ready"),
    ("started", Condition::Started, "every worker's program runs"),
    ("completed", Condition::Completed, "every worker ended with exit status 0"),
    ("service_healthy", Condition::Ready, "Compose's word for `ready`"),
    ("service_started", Condition::Started, "Compose's word for `started`"),
    ("service_completed_successfully", Condition::Completed, "Compose's word for `completed`"),
]);

pub(crate) static READY: Words<ReadyWord> = Words(&[
    ("listening", ReadyWord::Listening, "the kernel shows it listening"),
    ("started", ReadyWord::Started, "its program runs"),
    ("tcp", ReadyWord::Tcp, "it accepts a connection"),
    ("notify", ReadyWord::Notify, "it sends `READY=1` (sd_notify)"),
]);

pub(crate) static POLICY: Words<RestartPolicy> = Words(&[
    ("always", RestartPolicy::Always, "after every exit"),
    ("on-failure", RestartPolicy::OnFailure, "after every exit but status 0"),
    ("never", RestartPolicy::Never, "not at all: the service runs to completion"),
    ("unless-stopped", RestartPolicy::Always, "Compose's word for `always`"),
    ("no", RestartPolicy::Never, "Compose's word for `never`"),
]);

pub(crate) static NEVER: Words<Never> = Words(&[("never", Never, "not at all")]);

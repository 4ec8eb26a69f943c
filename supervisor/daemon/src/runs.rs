//! What is known of each run: its process, its descriptors, its cgroup, and where it accepts.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::parent_id,
    },
    sync::{Arc, Mutex},
};

use tokio::{sync::mpsc, task::JoinHandle};
use watt_api::mesh::Endpoint;
use watt_core::{
    WorkerId,
    worker::{ExecFailure, ExitCause},
};
use watt_os::{
    cgroup::Group,
    descendants::{Environment, Marks},
    namespace::{self, Kind},
    pidfd, process_info,
};
use watt_spawner::protocol::WaitStatus;

use crate::{
    containment::Containment,
    launch::Accepts,
    life,
    oom::{self, Ended},
    readiness::Watching,
    record::{RunNote, RunOf, Said},
    snapshot::RunFacts,
    stalls::Stalls,
};

/// Signals of signal(7) that are sent here.
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGHUP: i32 = 1;
/// Wakes a stopped process, which could not act on any other signal but KILL.
pub(crate) const SIGCONT: i32 = 18;

/// One run of a worker.
#[derive(Debug)]
pub(crate) struct Run {
    /// Whose run it is.
    pub(crate) worker: WorkerId,
    /// When it was started: milliseconds since the Unix epoch.
    pub(crate) started_at_ms: u64,
    /// How it accepts.
    pub(crate) accepts: Accepts,
    /// Where it was found accepting.
    pub(crate) endpoint: Option<Endpoint>,
    /// Its cgroup; unusable where there is none.
    pub(crate) group: Group,
    /// The id of its cgroup in the v2 hierarchy.
    pub(crate) cgroup_id: Option<u64>,
    /// Out-of-memory kills its cgroup had counted when the run was started: a cgroup that could not be removed is used
    /// again.
    pub(crate) oom_kills_before: u64,
    /// Those that were told already.
    pub(crate) oom_kills_told: u64,
    /// Whose memory ended at the last of them, where that is known.
    pub(crate) oom_ended: Option<Ended>,
    /// How often memory had ended at the limits it is under, when that was looked at last.
    pub(crate) memory_ended: Option<oom::Counts>,
    /// Forks that the limit of processes had refused in its cgroup when the run was started.
    pub(crate) pids_refused_before: u64,
    /// Whether it was told that the limit of processes refused a fork.
    pub(crate) pids_limit_told: bool,
    /// The entry of the environment by which its processes can be told without a cgroup.
    pub(crate) environment: Vec<u8>,
    /// A digest of its secrets; not known of a run that was taken over.
    pub(crate) secrets: Option<u64>,
    /// Its main process, from the moment it was cloned: the one that was, or one that has taken its place.
    pub(crate) main: Option<Main>,
    /// The one that was cloned and when that started, if another one has taken its place.
    pub(crate) first: Option<(u32, u64)>,
    /// The number of the main process in a PID namespace of the run's own, whose init `main` is then.
    pub(crate) inside: Option<u32>,
    /// How often the spawner was told of another one and has not answered.
    pub(crate) follows: u32,
    /// How its main process ended, while what it has said before is being heard.
    pub(crate) unjudged: Option<WaitStatus>,
    /// Whether it has named one that had ended by then.
    pub(crate) has_lost_main: bool,
    /// Signals that could not be sent because the process was not there yet.
    pub(crate) owed_signals: Vec<i32>,
    /// The step that failed before its program was executed.
    pub(crate) exec_failure: Option<ExecFailure>,
    /// Descriptors the exec stage made, by name: listeners, `diag`, namespaces.
    pub(crate) descriptors: BTreeMap<String, Arc<OwnedFd>>,
    /// Ids of the listeners that the proxy was given for it.
    pub(crate) listeners: Vec<String>,
    /// The watch for its sign of readiness and its endpoint.
    pub(crate) watching: Option<Watching>,
    /// What it has said to that.
    pub(crate) said: Said,
    /// Whether its hook `post_start` was not begun yet.
    pub(crate) owes_post_start: bool,
    /// Where sockets for that watch's probes go.
    pub(crate) probe_sockets: Option<mpsc::Sender<OwnedFd>>,
    /// What is being done about it beside the loop: signals, and the end of its secrets.
    pub(crate) acts: Vec<JoinHandle<()>>,
    /// Whether the folder of its secrets has been removed, or is being.
    pub(crate) are_secrets_removed: bool,
    /// The same, for the task that may be about to write them; held while the folder changes.
    pub(crate) are_secrets_over: Arc<Mutex<bool>>,
    /// Tasks that wait for its limits to act.
    pub(crate) limit_watches: Vec<Task>,
    /// What it stalls for.
    pub(crate) stalls: Stalls,
    /// Tasks that end with it.
    pub(crate) tasks: Vec<Task>,
}

/// The main process of a run.
#[derive(Debug)]
pub(crate) struct Main {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    /// When it started, as the kernel counts ([`process_info::start_time`]); 0 when it had ended before one could look.
    pub(crate) started: u64,
    /// How it ended, when it has.
    pub(crate) exit: Option<WaitStatus>,
}

/// A task that is aborted when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(pub(crate) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Run {
    /// A run whose process is asked for. `mark` is its value of [`life::VARIABLE`].
    pub(crate) fn new(worker: WorkerId, group: Group, mark: &str, started_at_ms: u64) -> Run {
        Run {
            worker,
            started_at_ms,
            accepts: Accepts::Nowhere,
            endpoint: None,
            cgroup_id: group.id(),
            oom_kills_before: 0,
            oom_kills_told: 0,
            oom_ended: None,
            memory_ended: None,
            pids_refused_before: 0,
            pids_limit_told: false,
            group,
            environment: format!("{}={mark}", life::VARIABLE).into_bytes(),
            secrets: None,
            main: None,
            first: None,
            inside: None,
            follows: 0,
            unjudged: None,
            has_lost_main: false,
            owed_signals: Vec::new(),
            exec_failure: None,
            descriptors: BTreeMap::new(),
            listeners: Vec::new(),
            watching: None,
            said: Said::default(),
            owes_post_start: false,
            probe_sockets: None,
            acts: Vec::new(),
            are_secrets_removed: false,
            are_secrets_over: Arc::default(),
            limit_watches: Vec::new(),
            stalls: Stalls::default(),
            tasks: Vec::new(),
        }
    }

    /// Leaves aside what its cgroup has counted so far. A new one has counted nothing.
    pub(crate) fn count_from_now(&mut self) {
        let (oom_kills, pids_refused) = (self.group.oom_kills(), self.group.pids_limit_hits());
        (self.oom_kills_before, self.oom_kills_told) = (oom_kills, oom_kills);
        self.pids_refused_before = pids_refused;
    }

    /// Whether it took a port of the host other than the one it was told: two of such a program cannot run at a time.
    pub(crate) fn has_own_port(&self) -> bool {
        match (&self.endpoint, &self.accepts) {
            (Some(Endpoint::Tcp { address }), Accepts::Found(told)) => address.port() != *told,
            _ => false,
        }
    }

    /// The note for a successor.
    pub(crate) fn note(&self) -> RunNote {
        RunNote {
            of: RunOf::Worker {
                service: self.worker.service.to_string(),
                index: self.worker.index,
                second: self.worker.second,
                accepts: (&self.accepts).into(),
                endpoint: self.endpoint.clone(),
                oom_kills_before: self.oom_kills_before,
                pids_refused_before: self.pids_refused_before,
                said: self.said,
                first: self.first,
                inside: self.inside,
                owes_post_start: self.owes_post_start,
            },
            started_at_ms: self.started_at_ms,
        }
    }

    /// Forks that its limit of processes has refused.
    pub(crate) fn pids_refused(&self) -> u64 {
        self.group.pids_limit_hits().saturating_sub(self.pids_refused_before)
    }

    /// What the proxy is told of it.
    pub(crate) fn facts(&self) -> RunFacts {
        RunFacts {
            endpoint: self.endpoint.clone(),
            cgroup: self.cgroup_id,
            pid: self.live_pid(),
            is_stopping: self.said.stopping,
        }
    }

    /// What holds its processes.
    pub(crate) fn containment(&self) -> Containment {
        match &self.main {
            _ if self.group.is_usable() => Containment::Group(self.group.clone()),
            Some(_) => Containment::Marks(self.marks()),
            None => Containment::Nothing,
        }
    }

    /// What its processes can be told by, besides a cgroup.
    pub(crate) fn marks(&self) -> Marks {
        let own = self.main.as_ref().map(|main| (main.pid, main.started));
        let (main, main_started) = self.first.or(own).unwrap_or_default();
        let namespaces =
            [("netns", Kind::Network), ("userns", Kind::User)].into_iter().filter_map(|(name, kind)| {
                namespace::Id::of_descriptor(self.descriptors.get(name)?.as_fd(), kind).ok()
            });
        Marks {
            main,
            main_started,
            later: own.filter(|_| self.first.is_some()),
            namespaces: namespaces.collect(),
            environment: Some(Environment::Entry(self.environment.clone())),
            ancestor: Some(parent_id()),
        }
    }

    /// Which check has kept it from getting ready, and how that failed last.
    pub(crate) fn early_failure(&self) -> Option<(&'static str, String)> {
        self.watching.as_ref()?.early_failure()
    }

    /// The pid while the main process lives.
    pub(crate) fn live_pid(&self) -> Option<u32> {
        self.main.as_ref().filter(|main| main.exit.is_none()).map(|main| main.pid)
    }

    /// Sends a signal to the main process, by its pidfd alone: a pid may mean another process by now.
    pub(crate) fn signal_main(&mut self, signal: i32) {
        match &self.main {
            Some(main) if main.exit.is_none() => main.signal(signal),
            Some(_) => {}
            None => self.owed_signals.push(signal),
        }
    }

    /// The main process is there.
    pub(crate) fn spawned(&mut self, pid: u32, pidfd: OwnedFd) {
        let main = Main::new(pid, pidfd);
        for signal in self.owed_signals.drain(..) {
            main.signal(signal);
        }
        self.main = Some(main);
    }

    /// Why the run ended. The kernel does not say in its counters whom it killed, so that a SIGKILL is one for memory only where
    /// such a kill takes the whole run (`oom_group`). `limit` is the one that was met.
    pub(crate) fn cause(
        &self,
        exit: WaitStatus,
        oom_kills: u64,
        oom_group: bool,
        limit: Option<u64>,
    ) -> ExitCause {
        if let Some(failure) = &self.exec_failure {
            return ExitCause::ExecFailed(failure.clone());
        }
        match exit {
            WaitStatus { signaled: true, code: SIGKILL, .. }
            | WaitStatus { code: WaitStatus::UNSEEN, .. }
                if oom_group && oom_kills > self.oom_kills_before =>
            {
                ExitCause::OutOfMemory { limit }
            }
            WaitStatus { signaled: true, code, core_dumped, .. } => {
                ExitCause::Signaled { signal: code, core_dumped }
            }
            WaitStatus { code: WaitStatus::UNSEEN, .. } => ExitCause::Unknown,
            WaitStatus { signaled: false, code: 0, .. } if self.has_lost_main => ExitCause::Unknown,
            WaitStatus { signaled: false, code, .. } => ExitCause::Exited(code),
        }
    }
}

impl Main {
    pub(crate) fn new(pid: u32, pidfd: OwnedFd) -> Main {
        Main { pid, pidfd, started: process_info::start_time(pid).unwrap_or(0), exit: None }
    }

    /// Sends a signal, by the pidfd alone.
    pub(crate) fn signal(&self, signal: i32) {
        match pidfd::send_signal(self.pidfd.as_fd(), signal) {
            Ok(()) => {}
            // It has been reaped; the news of it is on its way.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3) => {}
            Err(error) => tracing::warn!("cannot send signal {signal} to process {}: {error}", self.pid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watt_core::ServiceId;

    #[test]
    fn a_kill_is_out_of_memory_only_when_the_kernel_counted_one() {
        let worker = WorkerId::new(ServiceId::new("api").unwrap(), 0);
        let mut run = Run::new(worker, Group::default(), "1-2/3", 0);
        let exit = |code, signaled| WaitStatus {
            code,
            signaled,
            core_dumped: false,
            at_ms: 0,
            cpu_us: 0,
            rss_max: 0,
        };
        let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
        assert_eq!(run.cause(exit(9, true), 0, true, Some(1)), killed);
        let oom = ExitCause::OutOfMemory { limit: Some(1) };
        assert_eq!(run.cause(exit(9, true), 1, true, Some(1)), oom.clone());
        // It may have been another process that the kernel killed, and an operator who killed this one.
        assert_eq!(run.cause(exit(9, true), 1, false, Some(1)), killed);
        assert_eq!(run.cause(exit(9, false), 1, true, Some(1)), ExitCause::Exited(9));
        assert_eq!(run.cause(exit(137, false), 1, true, Some(1)), ExitCause::Exited(137));
        assert_eq!(run.cause(exit(WaitStatus::UNSEEN, false), 0, true, None), ExitCause::Unknown);
        assert_eq!(run.cause(exit(WaitStatus::UNSEEN, false), 1, true, Some(1)), oom);
        // It has named another process, which had ended by then, and left the rest to that.
        run.has_lost_main = true;
        assert_eq!(run.cause(exit(0, false), 0, true, None), ExitCause::Unknown);
        assert_eq!(run.cause(exit(3, false), 0, true, None), ExitCause::Exited(3));
        let failure = ExecFailure { step: "cwd".into(), object: "/x".into(), errno: 2 };
        run.exec_failure = Some(failure.clone());
        assert_eq!(run.cause(exit(1, false), 0, true, None), ExitCause::ExecFailed(failure));
    }
}

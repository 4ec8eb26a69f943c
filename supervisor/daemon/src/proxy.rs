//! The mesh proxy's process: how it is started, and when again.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use watt_core::AppName;
use watt_exec::plan::{Capabilities, Identity, LaunchPlan, Scheduling};
use watt_os::rlimit::{self, Resource};

use crate::{
    addresses,
    launch::{Host, SLICE_NS},
    runs::Main,
};

/// Runs of the proxy are numbered from here on, out of the way of workers' runs.
pub(crate) const FIRST_RUN: u64 = 1 << 62;

/// The listener that a proxy of this program takes the daemon's connection from, by its name at the spawner and in the runtime folder.
pub(crate) fn listener(program: u64) -> String {
    match program {
        0 => "proxy.sock".to_owned(),
        number => format!("proxy-{number}.sock"),
    }
}

/// The program whose proxy's listener has this name.
pub(crate) fn program_of(listener_name: &str) -> Option<u64> {
    let number = match listener_name {
        "proxy.sock" => 0,
        name => name.strip_prefix("proxy-")?.strip_suffix(".sock")?.parse().ok()?,
    };
    (listener(number) == listener_name).then_some(number)
}

/// Where names lead on the host's network, by its name at the spawner and at the proxy.
pub(crate) const MESH_HOST: &str = "mesh/host";

/// A proxy that lived this long failed by accident, and the next one is started at once.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// The wait before a restart of a proxy that keeps failing: doubles from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The proxy's process and record.
#[derive(Debug)]
pub(crate) struct Proxy {
    phase: Phase,
    next_run: u64,
    failures_in_row: u32,
    record: Record,
}

/// What a successor has to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// How often it was replaced.
    pub(crate) restarts: u64,
}

/// What it is doing.
#[derive(Debug)]
enum Phase {
    /// There is none, and none is wanted (yet, or any more).
    Down,
    /// It was asked for or runs.
    Up { run: u64, since: Instant, main: Option<Main> },
    /// It ended, and will be started again.
    Waiting { until: Instant },
}

impl Proxy {
    pub(crate) fn new(record: Record) -> Proxy {
        Proxy { phase: Phase::Down, next_run: FIRST_RUN, failures_in_row: 0, record }
    }

    /// Takes over one that a predecessor started.
    pub(crate) fn adopt(&mut self, now: Instant, run: u64, main: Option<Main>) {
        self.next_run = self.next_run.max(run + 1);
        self.phase = Phase::Up { run, since: now, main };
    }

    /// A number for a run that is being asked for now.
    pub(crate) fn starting(&mut self, now: Instant) -> u64 {
        let run = self.next_run;
        self.next_run += 1;
        self.phase = Phase::Up { run, since: now, main: None };
        run
    }

    /// Its process was cloned.
    pub(crate) fn spawned(&mut self, of: u64, process: Main) {
        if let Phase::Up { run, main, .. } = &mut self.phase
            && *run == of
        {
            *main = Some(process);
        }
    }

    /// It ended or could not be started: it is started again, sooner or later. `false` when that is known already.
    pub(crate) fn ended(&mut self, now: Instant, of: u64) -> bool {
        let Phase::Up { run, since, .. } = &self.phase else { return false };
        if *run != of {
            return false;
        }
        let steady = now.saturating_duration_since(*since) >= STEADY_AFTER;
        self.failures_in_row = if steady { 0 } else { self.failures_in_row.saturating_add(1) };
        self.record.restarts += 1;
        let wait = match self.failures_in_row {
            0 | 1 => Duration::ZERO,
            failures => BACKOFF.0.saturating_mul(1 << (failures - 2).min(16)).min(BACKOFF.1),
        };
        self.phase = Phase::Waiting { until: now + wait };
        true
    }

    /// No other one is to be started.
    pub(crate) fn retire(&mut self) {
        if let Phase::Waiting { .. } = self.phase {
            self.phase = Phase::Down;
        }
    }

    /// When it is to be started again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Down | Phase::Up { .. } => None,
        }
    }

    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|until| until <= now)
    }

    /// Leaves out the number of another program's.
    pub(crate) fn leave_out(&mut self, run: u64) {
        self.next_run = self.next_run.max(run + 1);
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.phase {
            Phase::Up { main: Some(main), .. } => Some(main.pid),
            Phase::Up { main: None, .. } | Phase::Down | Phase::Waiting { .. } => None,
        }
    }

    pub(crate) fn record(&self) -> Record {
        self.record
    }
}

/// How the proxy is started: under a user of its own when we are root, without capabilities in any case.
pub(crate) fn launch(
    app: &AppName,
    threads: usize,
    host: &Host,
    inherited: &BTreeMap<String, String>,
) -> LaunchPlan {
    let argv = ["wattctl", "mesh-proxy", "--app", app.as_str(), "--threads", &threads.to_string()]
        .map(|argument| argument.as_bytes().to_vec());
    // Listeners are numbered from 3 on; the second of the two is our program.
    // Where whom the host trusts is written down, if elsewhere than usual.
    let kept = ["WATT_LOG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter_map(|name| Some((name, inherited.get(name)?.as_str())));
    let own = [("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "proxy")];
    let env = kept.chain(own).map(|(name, value)| format!("{name}={value}").into_bytes());
    let env = env.chain(watt_fault::variable().map(String::into_bytes));
    LaunchPlan {
        argv: argv.into(),
        program: Some(PathBuf::from("/proc/self/fd/4")),
        env: env.collect(),
        cwd: PathBuf::from("/"),
        listeners: 2,
        // A dump would have the keys of TLS in it, and what clients sent.
        rlimits: nofile().into_iter().chain([(Resource::Core.number(), 0, 0)]).collect(),
        umask: 0o077,
        identity: host.proxy_group.map(|id| Identity { uid: id, gid: id, groups: Vec::new() }),
        capabilities: Some(Capabilities { bounding: 0, ambient: 0 }),
        no_new_privs: true,
        parent_death_signal: Some(crate::runs::SIGKILL),
        scheduling: Scheduling { slice_ns: Some(SLICE_NS), ..Scheduling::default() },
        ..LaunchPlan::default()
    }
}

/// Every connection takes a descriptor, so that the proxy gets as many as it may have.
fn nofile() -> Option<(u32, u64, u64)> {
    let limit = rlimit::get(None, Resource::Nofile).ok()?;
    Some((Resource::Nofile.number(), limit.hard, limit.hard))
}

/// The user and group of the proxy: its own when root starts it.
pub(crate) fn group(app: &AppName, uid: u32) -> Option<u32> {
    (uid == 0).then(|| addresses::unprivileged_id(app))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_keeps_failing_is_started_ever_later() {
        let mut proxy = Proxy::new(Record::default());
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            let run = proxy.starting(now);
            proxy.ended(now, run);
            let until = proxy.deadline().unwrap();
            waits.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000]);
        assert_eq!(proxy.record().restarts, 12);

        let run = proxy.starting(now);
        proxy.ended(now + STEADY_AFTER, run);
        assert!(proxy.is_wanted(now + STEADY_AFTER), "one that served well is replaced at once");
    }

    #[test]
    fn a_listener_is_of_one_program() {
        for program in [0, 1, 12] {
            assert_eq!(program_of(&listener(program)), Some(program));
        }
        for other in ["proxy-0.sock", "proxy-01.sock", "proxy-x.sock", "control.sock", "gateway/0/0"] {
            assert_eq!(program_of(other), None, "{other}");
        }
    }

    #[test]
    fn news_of_an_earlier_run_change_nothing() {
        let mut proxy = Proxy::new(Record::default());
        let now = Instant::now();
        let first = proxy.starting(now);
        assert!(proxy.ended(now, first) && !proxy.ended(now, first));
        let second = proxy.starting(now);
        assert!(!proxy.ended(now, first));
        assert!(second > first && proxy.deadline().is_none());
    }
}

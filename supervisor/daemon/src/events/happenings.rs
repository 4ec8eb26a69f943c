//! The kinds of events, but for those of limits ([`super::limits`]). A new one is a struct here, a `describe`, and a word in the list of `Event::kind`.

use std::path::PathBuf;

use watt_api::control::{Event, Exit, UpgradeProgram, WorkerState};
use watt_core::{RunId, ServiceId, WorkerId};

use super::{Happening, Level};
use crate::words::counted;

/// A worker entered a state.
#[derive(Debug)]
pub struct WorkerEntered {
    /// Which.
    pub worker: WorkerId,
    /// Its run, while there is one.
    pub run: Option<RunId>,
    /// The state.
    pub state: WorkerState,
    /// How the run ended, when it is an end that brought it there.
    pub exit: Option<Exit>,
    /// In words: `ready`, `exit 3; retry in 400ms`.
    pub text: String,
}

impl Happening for WorkerEntered {
    const KIND: &'static str = "worker_state";

    fn level(&self) -> Level {
        match self.state {
            WorkerState::Backoff | WorkerState::Failed | WorkerState::Unready => Level::Warn,
            WorkerState::Ready
            | WorkerState::Completed
            | WorkerState::Asleep
            | WorkerState::Down
            | WorkerState::Waiting
            | WorkerState::Starting
            | WorkerState::Draining
            | WorkerState::Stopping => Level::Info,
        }
    }

    fn describe(self, event: &mut Event) {
        about(event, self.worker, self.run);
        event.state = Some(self.state);
        event.exit = self.exit;
        event.text = self.text;
    }
}

/// A worker that was ready is not ready or not healthy any more, by what was seen of it.
#[derive(Debug)]
pub struct CheckFailed {
    /// Which.
    pub worker: WorkerId,
    /// Its run.
    pub run: RunId,
    /// `startup`, `ready` or `health`.
    pub check: &'static str,
    /// What was seen: `GET /healthz: status 503`.
    pub text: String,
}

impl Happening for CheckFailed {
    const KIND: &'static str = "check_failed";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        about(event, self.worker, Some(self.run));
        event.data.insert("check".into(), self.check.into());
        event.text = format!("{} check failed: {}", self.check, self.text);
    }
}

/// What was applied of one service.
#[derive(Debug)]
pub struct Single {
    /// Its name.
    pub service: String,
    /// Whether it was taken out of the application.
    pub is_removed: bool,
    /// By whom.
    pub by: String,
}

/// Another configuration is in force.
#[derive(Debug)]
pub struct Reloaded {
    /// The service, if one alone was applied.
    pub single: Option<Single>,
    /// Services of which what was applied holds no longer.
    pub taken_back: Vec<String>,
    /// How many things differ from the one before.
    pub changes: usize,
    /// Services that are new.
    pub added: Vec<String>,
    /// Services that go.
    pub removed: Vec<String>,
    /// Services whose workers are replaced.
    pub renewed: Vec<String>,
}

impl Happening for Reloaded {
    const KIND: &'static str = "reloaded";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        let changes = counted(self.changes as u64, "change");
        let mut text = match (&self.single, self.changes) {
            (Some(Single { service, is_removed: true, by }), _) => {
                format!("{by} took {service} out of the application: {changes}")
            }
            (Some(Single { service, is_removed: false, by }), _) => {
                format!("{by} applied {service}: {changes}")
            }
            (None, 0) => "the configuration was read again: nothing differs".to_owned(),
            (None, _) => format!("another configuration is in force: {changes}"),
        };
        if let Some(Single { service, is_removed: _, by }) = self.single {
            event.data.insert("applied".into(), service.into());
            event.data.insert("by".into(), by.into());
        }
        let parts = [
            ("added", self.added),
            ("removed", self.removed),
            ("renewed", self.renewed),
            ("taken_back", self.taken_back),
        ];
        for (word, services) in parts {
            if !services.is_empty() {
                text.push_str(&format!("; {}: {}", word.replace('_', " "), services.join(", ")));
            }
            event.data.insert(word.into(), services.into());
        }
        event.text = text;
        event.data.insert("changes".into(), self.changes.into());
    }
}

/// Another version of watt takes over, or tries to.
#[derive(Debug)]
pub struct UpgradeStarted {
    /// What runs.
    pub from: UpgradeProgram,
    /// What is to take over.
    pub to: UpgradeProgram,
}

impl Happening for UpgradeStarted {
    const KIND: &'static str = "upgrade_started";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("{} is to take over from {}", program(&self.to), program(&self.from));
        programs(event, Some(&self.from), &self.to);
    }
}

/// It has, and stays.
#[derive(Debug)]
pub struct Upgraded {
    /// What ran before.
    pub from: UpgradeProgram,
    /// What runs now.
    pub to: UpgradeProgram,
}

impl Happening for Upgraded {
    const KIND: &'static str = "upgraded";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("{} has taken over from {}", program(&self.to), program(&self.from));
        programs(event, Some(&self.from), &self.to);
    }
}

/// It has not, and the program before goes on.
#[derive(Debug)]
pub struct UpgradeRolledBack {
    /// What was to take over.
    pub to: UpgradeProgram,
    /// Why it did not.
    pub reason: String,
}

impl Happening for UpgradeRolledBack {
    const KIND: &'static str = "upgrade_rolled_back";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = format!(
            "{} did not take over, and the program before goes on: {}",
            program(&self.to),
            self.reason
        );
        programs(event, None, &self.to);
        event.data.insert("reason".into(), self.reason.into());
    }
}

fn program(program: &UpgradeProgram) -> String {
    format!("{} (version {})", program.path, program.version)
}

fn programs(event: &mut Event, from: Option<&UpgradeProgram>, to: &UpgradeProgram) {
    for (name, program) in from.map(|from| ("from", from)).into_iter().chain([("to", to)]) {
        event.data.insert(name.into(), program.path.clone().into());
        event.data.insert(format!("{name}_version"), program.version.clone().into());
    }
}

/// A configuration was read and does not take the place of the one in force.
#[derive(Debug)]
pub struct ReloadRefused {
    /// Why not.
    pub reason: String,
}

impl Happening for ReloadRefused {
    const KIND: &'static str = "reload_refused";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("the configuration in force stays: {}", self.reason);
    }
}

/// A call inside the mesh, or a connection out of it, was refused.
#[derive(Debug)]
pub struct CallRefused {
    /// The calling service, when known.
    pub caller: Option<String>,
    /// What it wanted to reach.
    pub target: String,
    /// The rule, in words.
    pub reason: String,
}

impl Happening for CallRefused {
    const KIND: &'static str = "refused";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let caller = self.caller.as_deref().unwrap_or("a caller nobody knows");
        event.text = format!("{caller} cannot reach {}: {}", self.target, self.reason);
        event.service = self.caller;
        event.data.insert("target".into(), self.target.into());
        event.data.insert("reason".into(), self.reason.into());
    }
}

/// A service's list of destinations does not have what it wanted to reach outside.
#[derive(Debug)]
pub struct EgressRefused {
    /// The service.
    pub caller: String,
    /// The address and port, or the name.
    pub target: String,
    /// Why not, in words.
    pub reason: String,
    /// What the list would need to have, as the configuration writes it.
    pub allow: Option<String>,
}

impl Happening for EgressRefused {
    const KIND: &'static str = "egress_refused";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let Self { caller, target, reason, allow } = self;
        event.text = format!("{caller} cannot reach {target}: {reason}");
        if let Some(allow) = allow {
            let line = format!("services.{caller}.egress.allow: [\"{allow}\"]");
            event.text.push_str(&format!("; this would allow it: {line}"));
            event.data.insert("allow".into(), allow.into());
            event.data.insert("line".into(), line.into());
        }
        event.service = Some(caller);
        event.data.insert("target".into(), target.into());
        event.data.insert("reason".into(), reason.into());
    }
}

/// The mesh proxy ended and a new one took its listeners.
#[derive(Debug)]
pub struct ProxyReplaced {
    /// How the old one ended, in words.
    pub exit: String,
    /// How often that has happened.
    pub restarts: u64,
}

impl Happening for ProxyReplaced {
    const KIND: &'static str = "proxy_replaced";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("the mesh proxy ended ({}) and was replaced", self.exit);
        event.data.insert("exit".into(), self.exit.into());
        event.data.insert("restarts".into(), self.restarts.into());
    }
}

/// The daemon ended, and this one took over.
#[derive(Debug)]
pub struct DaemonReplaced {
    /// How often that has happened.
    pub restarts: u64,
    /// How many runs it found.
    pub runs: usize,
}

impl Happening for DaemonReplaced {
    const KIND: &'static str = "daemon_replaced";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("a new daemon took over {}", counted(self.runs as u64, "run"));
        event.data.insert("restarts".into(), self.restarts.into());
        event.data.insert("runs".into(), self.runs.into());
    }
}

/// Every service has reached what was wanted of it for the first time.
#[derive(Debug)]
pub struct AppReady {
    /// How many services there are.
    pub services: usize,
}

impl Happening for AppReady {
    const KIND: &'static str = "app_ready";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("{} ready", counted(self.services as u64, "service"));
        event.data.insert("services".into(), self.services.into());
    }
}

/// The application begins to end.
#[derive(Debug)]
pub struct AppStopping {
    /// Killed at once in place of drained.
    pub now: bool,
}

impl Happening for AppStopping {
    const KIND: &'static str = "app_stopping";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        event.text = if self.now { "killing every service" } else { "stopping every service" }.into();
        event.data.insert("now".into(), self.now.into());
    }
}

/// A service's output cannot be written to its file; it is kept in memory alone.
#[derive(Debug)]
pub struct LogFileFailed {
    /// Whose; `None` for watt's own processes.
    pub service: Option<ServiceId>,
    /// The file.
    pub path: PathBuf,
    /// What could not be done and why.
    pub error: String,
}

impl Happening for LogFileFailed {
    const KIND: &'static str = "log_file_failed";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("{}: {}; output is kept in memory alone", self.path.display(), self.error);
        event.service = self.service.map(|service| service.to_string());
        event.data.insert("path".into(), self.path.display().to_string().into());
        event.data.insert("error".into(), self.error.into());
    }
}

/// A service's output goes to its file again.
#[derive(Debug)]
pub struct LogFileRecovered {
    /// Whose; `None` for watt's own processes.
    pub service: Option<ServiceId>,
    /// The file.
    pub path: PathBuf,
    /// How many lines are missing in it.
    pub missing: u64,
}

impl Happening for LogFileRecovered {
    const KIND: &'static str = "log_file_recovered";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        let missing = counted(self.missing, "line");
        event.text = format!("{} is written again; {missing} missing", self.path.display());
        event.service = self.service.map(|service| service.to_string());
        event.data.insert("path".into(), self.path.display().to_string().into());
        event.data.insert("missing".into(), self.missing.into());
    }
}

/// Lines did not get into systemd's journal, which reads too slowly or is not there. Their files have them.
#[derive(Debug)]
pub struct JournalLost {
    /// How many, since it was told the last time.
    pub count: u64,
    /// Why the last one did not.
    pub error: String,
}

impl Happening for JournalLost {
    const KIND: &'static str = "journal_lost";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let lines = counted(self.count, "line");
        event.text = format!("{lines} did not get into the journal: {}", self.error);
        event.data.insert("count".into(), self.count.into());
    }
}

/// A process that may not tried to use the control socket.
#[derive(Debug)]
pub struct ControlRefused {
    /// Its user.
    pub uid: u32,
    /// Its process, when the kernel says.
    pub pid: Option<i32>,
    /// Who that is, in words.
    pub who: String,
    /// What it wanted to do, in words: `POST /v1/stop`.
    pub what: String,
}

impl Happening for ControlRefused {
    const KIND: &'static str = "control_refused";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("{} was refused at the control socket: {}", self.who, self.what);
        event.data.insert("request".into(), self.what.into());
        event.data.insert("uid".into(), self.uid.into());
        event.data.extend(self.pid.map(|pid| ("pid".to_owned(), pid.into())));
    }
}

pub(super) fn about(event: &mut Event, worker: WorkerId, run: Option<RunId>) {
    event.service = Some(worker.service.to_string());
    event.worker = Some(worker.index);
    event.run = run.map(|run| run.0);
}

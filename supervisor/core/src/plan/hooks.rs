//! Commands that are run at points of a worker's life.

use std::time::Duration;

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookPoint {
    /// Before each start. The program is executed when it has succeeded.
    PreStart,
    /// When a run is ready for the first time.
    PostStart,
    /// Before the stop signal.
    PreStop,
    /// When no process of a run is left. The next run waits for it.
    PostStop,
    /// When a run has failed.
    OnFailure,
}

impl HookPoint {
    /// All of them, in the order of a life.
    pub const ALL: [HookPoint; 5] = [
        HookPoint::PreStart,
        HookPoint::PostStart,
        HookPoint::PreStop,
        HookPoint::PostStop,
        HookPoint::OnFailure,
    ];

    /// As the configuration has it.
    pub const fn name(self) -> &'static str {
        match self {
            HookPoint::PreStart => "pre_start",
            HookPoint::PostStart => "post_start",
            HookPoint::PreStop => "pre_stop",
            HookPoint::PostStop => "post_stop",
            HookPoint::OnFailure => "on_failure",
        }
    }
}

/// A command that is run in the service's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// It is killed after this time.
    pub timeout: Duration,
}

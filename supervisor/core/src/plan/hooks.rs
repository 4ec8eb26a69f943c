//! What is done at points of a worker's life.

use std::{collections::BTreeMap, time::Duration};

use crate::ServiceId;

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

    /// Whether something waits for its end.
    pub const fn is_awaited(self) -> bool {
        match self {
            HookPoint::PreStart | HookPoint::PreStop | HookPoint::PostStop => true,
            HookPoint::PostStart | HookPoint::OnFailure => false,
        }
    }
}

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// What is done.
    pub act: HookAct,
    /// It is ended after this time.
    pub timeout: Duration,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAct {
    /// Runs a program in the service's sandbox. Program and arguments; never empty.
    Command(Vec<String>),
    /// Sends a request.
    Webhook(Webhook),
}

/// A POST that says what has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Who gets it.
    pub receiver: Receiver,
    /// Path and query.
    pub path: String,
    /// Fields of its head besides watt's own.
    pub headers: BTreeMap<String, String>,
    /// How often it is sent again when it was not answered with success.
    pub retries: u32,
}

/// Who gets a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// A service of the mesh.
    Service(ServiceId),
    /// Somebody outside.
    Host {
        /// A name or an address. One of IPv6 has no brackets.
        name: String,
        /// The port.
        port: u16,
    },
}

//! What a daemon is told at its start, and how it tells that it could not start.

use std::{fs, io, path::PathBuf};

use watt_api::control::Problem;
use watt_core::plan::Listener;
use watt_spawner::format::readable;

use crate::{
    control::ServeError,
    gateway::Place,
    holder::Holder,
    journal,
    places::{PlaceError, Places},
    words,
};

/// The arguments of `wattctl daemon`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The application's name, which may be another one than the configuration's.
    pub app: String,
    /// The configuration file.
    pub file: PathBuf,
    /// Its runtime folder.
    pub runtime: PathBuf,
    /// Its state folder.
    pub state: PathBuf,
    /// Whether what watt says goes to the journal, and with it what services write, unless the configuration says otherwise.
    pub is_on_journal: bool,
    /// That journal.
    pub journal: journal::Target,
}

impl Settings {
    /// The journal for what services write.
    pub(crate) fn journal(&self, is_on: bool) -> Option<journal::Target> {
        is_on.then(|| self.journal.clone())
    }
}

/// Why an application cannot be started (or taken over).
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{0}")]
    Name(watt_core::NameError),
    #[error("{0}")]
    Config(watt_config::Report),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the connection to the spawner failed while {doing}")]
    Spawner { doing: &'static str, source: io::Error },
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot listen on {place}: {reason}")]
    Gateway { listener: String, place: Place, reason: GatewayRefusal },
    #[error("cannot listen on {what}")]
    Listen { what: String, source: io::Error },
    #[error("what an earlier daemon kept has form {found}; this version reads {} to {}", readable().start(), readable().end())]
    Form { found: u32 },
    #[error(transparent)]
    Control(ServeError),
    #[error("cannot {what}")]
    Runtime { what: &'static str, source: io::Error },
}

/// Why a listener of the gateway's cannot be bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayRefusal {
    #[error("the port is taken by {0}")]
    Taken(Holder),
    #[error("{0} listens there")]
    Listens(Holder),
    #[error("a file is there that is no socket")]
    NoSocket,
    #[error("there is no {0}")]
    Account(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Other(String),
}

impl StartError {
    /// One word for `wattctl up`, which makes an exit code of it.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            StartError::Name(_) | StartError::Config(_) => "config",
            StartError::Gateway { reason: GatewayRefusal::Taken(_) | GatewayRefusal::Listens(_), .. } => {
                "port_taken"
            }
            StartError::Gateway { reason: GatewayRefusal::Denied(_), .. } => "forbidden",
            StartError::Place(error) if error.is_denied() => "forbidden",
            StartError::Gateway { .. }
            | StartError::Place(_)
            | StartError::Spawner { .. }
            | StartError::Write { .. }
            | StartError::Listen { .. }
            | StartError::Form { .. }
            | StartError::Control(_)
            | StartError::Runtime { .. } => "host",
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            StartError::Place(error) => Some(error.hint().to_owned()),
            StartError::Gateway { reason: GatewayRefusal::Taken(_), listener, .. } => {
                let key = match listener.as_str() {
                    Listener::SERVER => "server.port".to_owned(),
                    name => format!("gateway.listeners.{name}.port"),
                };
                Some(format!("stop that process, or set another `{key}`"))
            }
            StartError::Gateway { reason: GatewayRefusal::Listens(_), listener, .. } => {
                Some(format!("stop that process, or set another `gateway.listeners.{listener}.unix`"))
            }
            StartError::Gateway { reason: GatewayRefusal::NoSocket, listener, .. } => {
                Some(format!("remove it, or set another `gateway.listeners.{listener}.unix`"))
            }
            StartError::Gateway { reason: GatewayRefusal::Denied(_), place: Place::Tcp(_), .. } => Some(
                "ports below 1024 are for root, unless the sysctl net.ipv4.ip_unprivileged_port_start allows them"
                    .to_owned(),
            ),
            StartError::Gateway { .. }
            | StartError::Name(_)
            | StartError::Config(_)
            | StartError::Spawner { .. }
            | StartError::Write { .. }
            | StartError::Listen { .. }
            | StartError::Form { .. }
            | StartError::Control(_)
            | StartError::Runtime { .. } => None,
        }
    }

    /// Leaves the reason for `wattctl up`, which prints it and removes it. The log has it as well.
    pub(crate) fn leave(&self, places: &Places) {
        let problem = Problem {
            code: self.code().to_owned(),
            message: words::chain(self),
            hint: self.hint(),
            report: None,
        };
        tracing::error!(code = problem.code, "{}", problem.message);
        // Problems are strings, which always have a JSON form; and when nothing can be written the log has to do.
        let written = serde_json::to_vec(&problem).map(|json| fs::write(places.error(), json));
        if let Ok(Err(error)) = written {
            tracing::error!("cannot write {}: {error}", places.error().display());
        }
    }
}

//! The control server: HTTP/1.1 with JSON over the application's control socket (`watt_api::control`).
//!
//! It decides nothing. A request is checked for form, becomes a [`Command`] to the loop, and the loop's answer becomes
//! the reply; events and output are read from where they are kept.
//!
//! - `server` accepts, has `roles` find out who it is, and hands requests to `routes`, the one table of what there is and of what
//!   role it takes.
//! - `scrapes` says to the proxy what was counted, which collectors get from there over TCP.
//! - Each resource is a file: `status`, `services`, `gateway`, `operations`, `limits`, `jobs`, `metrics`, `audit`, `tasks`, `events`, `logs`, `openapi`.
//! - `request` reads what came, `body` writes what goes, and `problem` is the one place where errors become replies.

mod audit;
mod body;
mod cache;
mod command;
mod events;
mod gateway;
mod graph;
mod jobs;
mod limits;
mod logs;
mod metrics;
mod openapi;
mod operations;
mod peer;
mod problem;
mod request;
mod roles;
mod routes;
mod scrapes;
mod server;
mod services;
mod status;
mod tasks;
#[cfg(test)]
mod tests;
mod upgrade;

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::problem::Failure;
pub use self::{
    command::{Command, Refusal, Reply, Services, Single, TaskCommand},
    roles::Roles,
    server::{ServeError, Server},
};
use crate::{events::Events, logs::Logs};

/// How many operations and streams may be under way at a time. Each holds a connection for as long as it takes.
const LONG_CALLS_MAX: usize = 100;

/// What the resources work with.
#[derive(Debug, Clone)]
struct Control {
    commands: mpsc::Sender<Command>,
    events: Events,
    logs: Logs,
    long_calls: Arc<Semaphore>,
    /// Audits at a time, held until their work is done, whether somebody still waits for it or not.
    audits: Arc<Semaphore>,
    /// Becomes true when the server ends: streams end then.
    stopping: watch::Receiver<bool>,
}

impl Control {
    /// Asks the loop. What it does goes on when the future is dropped.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Busy,
            mpsc::error::TrySendError::Closed(_) => Failure::Ending,
        })?;
        Ok(answer.await.map_err(|_| Failure::Ending)??)
    }
}

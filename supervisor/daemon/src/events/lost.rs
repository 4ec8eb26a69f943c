//! The event of a request that a worker was lost with.

use watt_api::control::Event;
use watt_core::WorkerId;

use super::{Happening, Level};

/// A request was lost with the worker that had it: whether it was acted upon, its sender has to find out.
#[derive(Debug)]
pub struct RequestLost {
    /// The service that it was for.
    pub service: String,
    /// The worker's run.
    pub run: u64,
    /// The worker, while its run is known.
    pub worker: Option<WorkerId>,
    /// The request's method.
    pub method: String,
    /// Its path as the worker got it, without a query.
    pub path: String,
    /// How it was lost, in words.
    pub reason: String,
}

impl Happening for RequestLost {
    const KIND: &'static str = "request_lost";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let Self { service, run, worker, method, path, reason } = self;
        event.text = format!("{method} {path} was lost: {reason}");
        event.service = Some(service);
        event.worker = worker.map(|worker| worker.index);
        event.run = Some(run);
        event.data.insert("method".into(), method.into());
        event.data.insert("path".into(), path.into());
        event.data.insert("reason".into(), reason.into());
    }
}

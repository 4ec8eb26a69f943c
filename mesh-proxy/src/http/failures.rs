//! What a client is told when no worker answers, and what is noted of it.

use std::io;

use super::{
    body::{Pump, PumpError},
    chunked::ChunkError,
    connection::After,
    deadline::Progress,
    exchange::{Exchange, Stop},
    request::Refusal,
    response::BadResponse,
};
use crate::{
    access::CutOff,
    guards,
    lost::LostRequest,
    respond::{Failure, Reason},
    thread::Report,
    worker::Worker,
};

impl Exchange<'_> {
    /// Says which request it was that a worker was lost with: nobody else can tell whether it was acted upon.
    pub(super) fn name_lost(&self, worker: &Worker, reason: String) {
        let name = &self.request.service.name;
        worker.report(Report::Lost(LostRequest::new(name, worker.run, &self.connection.request_out, reason)));
    }

    /// Answers in the worker's place.
    pub(super) async fn fail(&mut self, mut failure: Failure) -> After {
        if let Some(returning) = &self.request.returning {
            // Pages of other origins read failures as well.
            failure.lines.extend_from_slice(&returning.lines);
        }
        let close = self.uploading() || !self.request.keep_alive || self.connection.is_closing();
        let is_clients = match failure.reason {
            Reason::Refused(_) => true,
            Reason::DeadlineExceeded => self.is_wish() || self.waits_for_client(),
            _ => false,
        };
        if failure.reason.status() >= 500 && !is_clients {
            self.request.service.tally.count_failure();
        }
        if matches!(failure.reason, Reason::TryTimeout | Reason::DeadlineExceeded) {
            self.request.service.tally.count_timed_out();
        }
        self.failed_with(failure.reason);
        // Its place is another one's while the client takes the answer.
        self.ticket = None;
        let manner = self.request.manner(close);
        self.connection.respond(&failure, manner).await
    }

    /// What is wrong with the framing of the request's body, or its size.
    pub(super) fn bad_chunk(&self, error: ChunkError) -> Failure {
        if error != ChunkError::TooMuch {
            return Refusal::Chunk.into();
        }
        let service = &self.request.service;
        service.tally.count_denied(Reason::BodyTooLarge);
        let message = guards::too_large(self.request.body_max.unwrap_or_default());
        Failure::new(Reason::BodyTooLarge, Some(service.name.clone()), message)
    }

    /// The same once a response has come. The worker waits for a body that goes no further, and the client is told as long as it can be.
    pub(super) fn body_broken(&self, download: &Pump, error: ChunkError) -> Stop {
        let failure = self.bad_chunk(error);
        if download.has_begun() { Stop::Abort } else { failure.into() }
    }

    pub(super) fn connection_lost(&self, error: &io::Error) -> Failure {
        let name = &self.request.service.name;
        let message = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                format!("A worker of `{name}` closed the connection before it answered.")
            }
            _ => format!("The connection to a worker of `{name}` broke before it answered: {error}."),
        };
        Failure::new(Reason::ConnectionLost, Some(name.clone()), message)
    }

    pub(super) fn bad_response(&self, error: BadResponse) -> Failure {
        self.bad_body(&error.to_string())
    }

    pub(super) fn bad_body(&self, what: &str) -> Failure {
        let name = &self.request.service.name;
        let message = format!("The response of a worker of `{name}` cannot be passed on: {what}.");
        Failure::new(Reason::BadResponse, Some(name.clone()), message)
    }

    pub(super) fn too_long(&self) -> Failure {
        let name = &self.request.service.name;
        if self.uploading() {
            let message =
                format!("The request's body did not come fast enough, or `{name}` did not read it, in time.");
            return Failure::new(Reason::RequestTimeout, Some(name.clone()), message);
        }
        let message = format!("A worker of `{name}` did not begin to answer in time.");
        Failure::new(Reason::FirstByteTimeout, Some(name.clone()), message)
    }

    /// The time of each try was too short for those that were asked.
    pub(super) fn no_try_left(&self) -> Failure {
        let name = &self.request.service.name;
        let message = match self.tries {
            0 | 1 => format!("A worker of `{name}` did not begin to answer in the time that one try has."),
            tries => {
                format!("None of {tries} tries began to be answered by `{name}` in the time that each has.")
            }
        };
        Failure::new(Reason::TryTimeout, Some(name.clone()), message)
    }

    /// A response that ends in the middle: the client's connection is all that can be ended to say so.
    pub(super) fn broken_off(&self, download: &Pump, error: PumpError) -> Stop {
        let what = match error {
            PumpError::Source(error) => {
                self.connection.peer.stream.break_off(&error);
                format!("it broke off: {error}")
            }
            PumpError::Chunk(error) => error.to_string(),
            // The client has gone.
            PumpError::Sink => return Stop::Abort,
        };
        tracing::debug!(service = &*self.request.service.name, what, "a response could not be completed");
        if download.has_begun() {
            self.request.service.tally.count_failure();
            return Stop::Broken(what);
        }
        self.bad_body(&what).into()
    }

    /// The time of the whole request is over. What the client has a part of can only be broken off.
    pub(super) fn over(&mut self) -> Stop {
        let service = &self.request.service;
        if self.progress.get() == Progress::Nothing {
            let message = format!("`{}` did not answer within the time that the request has.", service.name);
            return Failure::new(Reason::DeadlineExceeded, Some(service.name.clone()), message).into();
        }
        if !self.is_wish() {
            service.tally.count_failure();
        }
        service.tally.count_timed_out();
        self.connection.note(|outcome| outcome.cut_off(CutOff::InResponse));
        Stop::Abort
    }

    /// Whether the rest of the request is what is missing.
    pub(super) fn waits_for_client(&self) -> bool {
        self.uploading() && self.upload.is_starved()
    }

    /// Whether the client set the time, and so no service failed that takes longer. Otherwise anybody could have one fail.
    pub(super) fn is_wish(&self) -> bool {
        self.request.deadline.is_some_and(|deadline| deadline.is_wish)
    }
}

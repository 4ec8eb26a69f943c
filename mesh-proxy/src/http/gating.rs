//! A request at the gate of its service: waits for its turn, or is refused, and says what it came to.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use super::{
    exchange::{Exchange, Stop},
    head::list,
};
use crate::{
    breaker::Change,
    failures::Outcome,
    gate::{Entry, Gate, Refused, Waiting},
    respond::{Failure, Reason},
    troubles,
    worker::Queued,
};

impl Exchange<'_> {
    /// Gets through the gate, if there is one.
    pub(super) async fn pass_gate(&mut self) -> Result<(), Stop> {
        let Some(gate) = self.request.service.gate.clone() else { return Ok(()) };
        let passed = match gate.enter(self.request.urgency) {
            Ok(Entry::Passes(ticket)) => Ok(ticket),
            Ok(Entry::Waits(waiting)) => self.wait_at_gate(waiting).await?,
            Err(refused) => Err(refused),
        };
        self.ticket = Some(passed.map_err(|refused| self.refused(&gate, refused))?);
        Ok(())
    }

    /// Waits for its turn, unless the client goes away.
    async fn wait_at_gate(&mut self, waiting: Waiting) -> Result<Result<crate::gate::Ticket, Refused>, Stop> {
        let _queued = Queued::new(&self.request.service.tally);
        let mut passing = pin!(waiting.pass());
        poll_fn(|cx| match passing.as_mut().poll(cx) {
            Poll::Ready(passed) => Poll::Ready(Ok(passed)),
            Poll::Pending => self.connection.poll_gone(cx).map(|()| Err(Stop::Abort)),
        })
        .await
    }

    fn refused(&self, gate: &Arc<Gate>, refused: Refused) -> Stop {
        let service = &self.request.service;
        let count = &service.tally.refused[refused.number()];
        count.set(count.get() + 1);
        gate.refused(refused);
        let name = &service.name;
        let message = match refused {
            Refused::Open(_) => format!("`{name}` fails, and is not asked for a while."),
            Refused::Full => format!("As many requests are at `{name}` and wait for it as may."),
            Refused::Late => format!("The request waited for its turn at `{name}` for as long as it may."),
            Refused::Shed => format!("More urgent requests to `{name}` came while this one waited."),
        };
        let retry_after_s = match refused {
            // Rounded up: a client that comes back exactly then must not be too early.
            Refused::Open(left) => left.as_secs() + u64::from(left.subsec_nanos() > 0),
            Refused::Full | Refused::Late | Refused::Shed => 1,
        };
        Failure::new(refused.reason(), Some(name.clone()), message).retry_after(Some(retry_after_s)).into()
    }

    /// What it came to in the end. The breaker learns of it once.
    pub(super) fn came_to(&mut self, outcome: Outcome) {
        self.judge(outcome);
        let Some(change) = self.ticket.as_mut().and_then(|ticket| ticket.tell(outcome)) else { return };
        let service = &self.request.service;
        if matches!(change, Change::Opened { .. }) {
            service.tally.breaker_opened.set(service.tally.breaker_opened.get() + 1);
        }
        self.thread.tell(troubles::breaker(&service.name, change));
    }

    /// The same, of an answer of the proxy's own. Not all of them are the service's failure.
    pub(super) fn failed_with(&mut self, reason: Reason) {
        let outcome = match reason {
            // What this process lacks is no fault of a worker.
            Reason::ConnectionRefused | Reason::ConnectTimeout if self.dispatch.is_ours => return,
            Reason::ConnectionRefused | Reason::ConnectTimeout | Reason::TlsFailed => Outcome::Connect,
            // Nor is a client that has no patience, or is slow to send: anybody could have a service fail by that. Nor is time that was
            // spent waiting for a worker.
            Reason::ConnectionLost | Reason::RequestTimeout | Reason::DeadlineExceeded
                if self.waits_for_client() =>
            {
                return;
            }
            Reason::DeadlineExceeded if self.is_wish() || self.came_late() => return,
            Reason::DeadlineExceeded if self.dispatch.service.workers.is_empty() => return,
            Reason::ConnectionLost => Outcome::Reset,
            Reason::FirstByteTimeout
            | Reason::TryTimeout
            | Reason::RequestTimeout
            | Reason::DeadlineExceeded => Outcome::Timeout,
            Reason::BadResponse => Outcome::Status(502),
            Reason::Refused(_)
            | Reason::NoRoute
            | Reason::Misdirected
            | Reason::MethodNotAllowed
            | Reason::UnknownHost
            | Reason::UnknownService
            | Reason::PolicyDenied
            | Reason::NoFile
            | Reason::FilesUnavailable
            | Reason::NoDocument
            | Reason::NotListening
            | Reason::ServiceFailed
            | Reason::ServiceStopped
            | Reason::NoWorker
            | Reason::TooManyWaiting
            | Reason::Injected(_)
            | Reason::AddressDenied
            | Reason::CorsDenied
            | Reason::BodyTooLarge
            | Reason::RateLimited
            | Reason::CredentialsMissing
            | Reason::CredentialsWrong
            | Reason::RoleMissing
            | Reason::RuleDenied
            | Reason::AuthorityUnavailable
            | Reason::FilterFailed
            | Reason::KeysUnavailable
            | Reason::AuthBusy
            | Reason::BreakerOpen
            | Reason::BulkheadFull
            | Reason::QueueTimeout
            | Reason::Shed
            | Reason::NotCached => return,
        };
        self.came_to(outcome);
    }
}

/// `u=5, i` (RFC 9218 §4.1). What is not understood says nothing.
pub(super) fn urgency(value: &[u8]) -> Option<u8> {
    let said = list(value).filter_map(|member| member.strip_prefix(b"u="));
    let number = |digits: &[u8]| match digits {
        [digit @ b'0'..=b'7'] | [digit @ b'0'..=b'7', b';', ..] => Some(digit - b'0'),
        _ => None,
    };
    said.filter_map(number).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_urgent_a_request_is() {
        for (value, expected) in [
            ("u=0", Some(0)),
            ("u=7, i", Some(7)),
            ("i, u=5", Some(5)),
            ("u=1;x=2", Some(1)),
            ("u=1, u=2", Some(2)),
            ("i", None),
            ("u=8", None),
            ("u=", None),
            ("u=10", None),
            ("5", None),
            ("", None),
        ] {
            assert_eq!(urgency(value.as_bytes()), expected, "{value}");
        }
    }
}

//! Waits on purpose, for tests of what calls the gateway.

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    body::Body,
    connection::{After, Connection},
    prepare::Prepared,
};
use crate::{
    access::CutOff,
    respond::{Failure, Reason},
    timer::Ticks,
};

/// Longer than any pause.
const PAUSE_MAX: Ticks = Ticks::from_ms(3_600_000);

/// How a pause ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paused {
    Over,
    /// The client is gone.
    Gone,
}

impl Connection {
    /// Waits so long, and not beyond the last instant. When the proxy is about to end, it waits no longer.
    pub(crate) async fn pause(&mut self, time: Duration, last: Option<Instant>) -> Paused {
        let until = Instant::now() + time;
        let mut sleep = std::pin::pin!(tokio::time::sleep_until(last.map_or(until, |last| last.min(until))));
        // It is not to ring, but wakes this task with all others that are to look at what the proxy does.
        self.alarm.set(PAUSE_MAX);
        poll_fn(|cx| {
            if self.thread.is_hurrying()
                || self.alarm.poll(cx).is_ready()
                || sleep.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Paused::Over);
            }
            self.poll_gone(cx).map(|()| Paused::Gone)
        })
        .await
    }

    /// Waits on purpose. What becomes of the connection, where that was all: the service has nothing to do with it.
    pub(super) async fn delayed(&mut self, request: &Prepared, delay: Duration) -> Option<After> {
        let last = request.deadline.map(|deadline| deadline.at);
        if self.pause(delay, last).await == Paused::Gone {
            self.note(|outcome| outcome.cut_off(CutOff::ByClient));
            return Some(After::Close);
        }
        if last.is_none_or(|last| last > Instant::now()) {
            return None;
        }
        let message = "The request's time ended in a delay that is made on purpose.".to_owned();
        let failure = Failure::new(Reason::Injected(504), None, message);
        let close = !request.keep_alive || request.body != Body::Done || self.thread.is_closing();
        Some(self.respond(&failure, request.manner(close)).await)
    }
}

//! Whether a request is sent again, and when. Where it goes then is [`crate::dispatch`]'s affair.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use tokio::time::Sleep;

use super::{
    answer::Answer,
    exchange::{Exchange, Stop},
};
use crate::{failures::Outcome, table::Service};

/// How a connection was lost with a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    /// Some of the request was accepted.
    pub(crate) delivered: bool,
    /// The worker said that it does not take it now.
    pub(crate) refused: bool,
    /// The connection had waited for a request, and may have been closed for that alone.
    pub(crate) waited: bool,
}

impl Service {
    /// The end of a try that begins now.
    pub(super) fn try_from_now(&self) -> Option<Pin<Box<Sleep>>> {
        self.try_timeout.map(|time| Box::pin(tokio::time::sleep(time)))
    }
}

impl Exchange<'_> {
    /// Whether it is, after its connection was lost before the client saw a byte of a response.
    pub(super) fn may_send_again(&mut self, loss: &Loss) -> bool {
        let retries = &self.request.service.retries;
        if loss.waited {
            self.tries -= 1;
        }
        let wanted = if loss.delivered {
            // That it was closed because it waited is only likely, so this is one of the tries' affairs as well.
            let tries = if loss.waited { 1 } else { self.tries };
            retries.on.have(Outcome::Reset) && tries < retries.attempts
        } else {
            loss.waited && !loss.refused || retries.on.have(Outcome::Connect)
        };
        let safe = self.request.may_repeat || !loss.delivered;
        self.upload_broken = false;
        // An interim response is one, too: its worker began to act.
        self.upload.rewind() && safe && wanted && self.interims == 0
    }

    /// Whether an answer is one after which another one is asked for.
    pub(super) fn is_unwanted(&mut self, answer: &Answer) -> bool {
        self.is_sent_on_after(Outcome::Status(answer.verdict))
    }

    /// Whether another worker is asked after the time of a try.
    pub(super) fn may_ask_another(&mut self) -> bool {
        self.is_sent_on_after(Outcome::Timeout)
    }

    fn is_sent_on_after(&mut self, outcome: Outcome) -> bool {
        let is_sent = self.request.service.retries.on.have(outcome) && self.may_try_again();
        if is_sent {
            self.judge(outcome);
        }
        is_sent
    }

    /// Whether it may be sent once more although its worker lives. The last question uses up what may be sent.
    fn may_try_again(&mut self) -> bool {
        self.request.may_repeat
            && self.interims == 0
            && self.tries < self.request.service.retries.attempts
            && self.upload.is_whole()
            && self.dispatch.may_resend()
    }

    /// Makes ready to send it once more, and waits before that.
    pub(super) async fn rest(&mut self) -> Result<(), Stop> {
        self.upload.rewind();
        self.upload_broken = false;
        let mut over = pin!(tokio::time::sleep(self.request.service.retries.wait(self.tries)));
        poll_fn(|cx| match over.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.connection.poll_gone(cx).map(|()| Err(Stop::Abort)),
        })
        .await
    }
}

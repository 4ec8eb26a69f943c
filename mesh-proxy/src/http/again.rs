//! Whether a request is sent again, and when. Where it goes then is [`crate::dispatch`]'s affair.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use super::{
    answer::Answer,
    exchange::{Exchange, Stop},
};
use crate::failures::Outcome;

impl Exchange<'_> {
    /// Whether it is, after its connection was lost before the client saw a byte of a response. `delivered`: some of it was accepted;
    /// `reused`: the connection had waited, and may have been closed for that alone.
    pub(super) fn may_send_again(&mut self, delivered: bool, reused: bool) -> bool {
        let retries = &self.request.service.retries;
        let wanted = match (reused, delivered) {
            (true, _) => true,
            (false, false) => retries.on.have(Outcome::Connect),
            (false, true) => retries.on.have(Outcome::Reset) && self.tries < retries.attempts,
        };
        if reused {
            self.tries -= 1;
        }
        let safe = self.request.may_repeat || !delivered;
        self.upload_broken = false;
        // An interim response is one, too: its worker began to act.
        self.upload.rewind() && safe && wanted && self.interims == 0
    }

    /// Whether an answer is one after which another one is asked for.
    pub(super) fn is_unwanted(&self, answer: &Answer) -> bool {
        self.request.service.retries.on.have(Outcome::Status(answer.verdict)) && self.may_try_again()
    }

    /// Whether another worker is asked after the time of a try.
    pub(super) fn may_ask_another(&self) -> bool {
        self.request.service.retries.on.have(Outcome::Timeout) && self.may_try_again()
    }

    /// Whether it may be sent once more although its worker lives. The last question is counted, whatever it is answered.
    fn may_try_again(&self) -> bool {
        let service = &self.request.service;
        self.request.may_repeat
            && self.interims == 0
            && self.tries < service.retries.attempts
            && self.upload.is_whole()
            && service.tally.resend(self.thread.clock.now())
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

//! What each try of a request says about the worker that had it.

use std::rc::Rc;

use tokio::time::Instant;

use super::exchange::Exchange;
use crate::{affinity::Wish, affinity::set_cookie, balance::Balance, failures::Outcome, worker::Worker};

/// A worker that has a request, until it is known what that came to there.
pub(super) struct Trial {
    worker: Rc<Worker>,
    /// When it got it, where that matters.
    since: Option<Instant>,
    era: u32,
}

impl Exchange<'_> {
    /// This worker gets it now.
    pub(super) fn is_at(&mut self, worker: &Rc<Worker>) {
        let balance = &self.request.service.balance;
        let since = matches!(balance, Balance::LeastLatency).then(Instant::now);
        if let Balance::Sticky(cookie) = balance {
            let index = worker.index.get();
            let knows_it = self.request.wish == Wish::Index(index);
            let cookie = (!knows_it).then(|| set_cookie(cookie, index, &self.connection.client));
            self.request.returning.get_or_insert_default().worker_cookie = cookie;
        }
        self.trial = Some(Trial { worker: Rc::clone(worker), since, era: worker.era() });
    }

    /// What it came to there. Only the first word counts.
    pub(super) fn judge(&mut self, outcome: Outcome) {
        let Some(Trial { worker, since, era }) = self.trial.take() else { return };
        self.request.service.judge(self.thread, &worker, era, outcome);
        if let Some(since) = since {
            let now = self.thread.clock.now();
            match outcome {
                Outcome::Status(..500) => worker.latency.observe(since.elapsed(), now),
                Outcome::Status(_) | Outcome::Connect | Outcome::Reset | Outcome::Timeout => {
                    worker.latency.failed(since.elapsed(), now);
                }
            }
        }
    }
}

//! Gets a request to a worker: picks one, connects, goes on to the next, and waits for one when there is none.

use std::{rc::Rc, time::Duration};

use tokio::time::Instant;
use watt_api::mesh::Outlook;

use crate::{
    balance,
    http::Stream,
    pool::{self, ConnectError},
    respond::{Failure, Reason},
    table::Service,
    thread::Thread,
    worker::{Flight, Tally, Worker},
};

/// When a service's last ready worker refuses a connection it has most likely just died, and the news of that is on
/// its way. Requests wait this long for it before they fail.
const NEWS_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection to a worker, and the request that is counted there.
pub(crate) struct Reached {
    pub(crate) stream: Stream,
    pub(crate) flight: Flight,
    /// Requests were answered on it before.
    pub(crate) reused: bool,
}

/// One request's search for a worker, over all its attempts.
pub(crate) struct Dispatch<'t> {
    thread: &'t Rc<Thread>,
    pub(crate) service: Rc<Service>,
    /// Runs that did not answer this request.
    tried: Vec<u64>,
    last_error: Option<Failure>,
    /// Until when it waits for news of workers that refuse, and until when for a worker; both set when it begins to.
    news_until: Option<Instant>,
    worker_until: Option<Instant>,
}

impl<'t> Dispatch<'t> {
    pub(crate) fn new(thread: &'t Rc<Thread>, service: Rc<Service>) -> Self {
        Dispatch {
            thread,
            service,
            tried: Vec::new(),
            last_error: None,
            news_until: None,
            worker_until: None,
        }
    }

    /// A connection to a worker: a kept one if there is and it may be, which costs no system call, else a new one.
    pub(crate) async fn connection(&mut self, fresh: bool) -> Result<Reached, Failure> {
        self.reach(!fresh, None).await
    }

    /// A connection on which nothing was sent, at another port of the worker if one is given.
    pub(crate) async fn new_connection(&mut self, port: Option<u16>) -> Result<Reached, Failure> {
        self.reach(false, port).await
    }

    async fn reach(&mut self, reuse: bool, port: Option<u16>) -> Result<Reached, Failure> {
        loop {
            let Some(worker) = self.pick() else {
                // A closed port is the caller's affair, and no sign that workers died.
                if port.is_some()
                    && let Some(failure) = self.last_error.take()
                {
                    return Err(failure);
                }
                self.wait().await?;
                continue;
            };
            // Counted from now on, so that those who connect at the same time spread.
            let flight = Flight::new(worker.clone(), self.service.tally.clone());
            if reuse && let Some(stream) = pool::take(flight.worker(), self.thread.clock.now()) {
                return Ok(Reached { stream, flight, reused: true });
            }
            match pool::connect(flight.worker(), port, self.service.connect_timeout).await {
                Ok(stream) => {
                    if port.is_none() {
                        flight.worker().reached();
                    }
                    return Ok(Reached { stream, flight, reused: false });
                }
                Err(error) => {
                    // Nor is it a reason to pass the worker over.
                    if port.is_none() {
                        flight.worker().refused(self.thread.clock.now());
                    }
                    let failure = self.connect_failure(&error);
                    self.give_up_on(flight.worker(), failure);
                }
            }
        }
    }

    /// This worker did not answer; the next attempt goes to another one.
    pub(crate) fn give_up_on(&mut self, worker: &Worker, failure: Failure) {
        self.tried.push(worker.run);
        self.last_error = Some(failure);
    }

    fn pick(&self) -> Option<&Rc<Worker>> {
        balance::pick(&self.service.workers, self.thread.clock.now(), &self.tried)
    }

    fn connect_failure(&self, error: &ConnectError) -> Failure {
        let name = &self.service.name;
        let (reason, message) = match error {
            ConnectError::Refused(error) => {
                (Reason::ConnectionRefused, format!("No worker of `{name}` could be connected to: {error}."))
            }
            ConnectError::Timeout => {
                (Reason::ConnectTimeout, format!("No worker of `{name}` accepted a connection in time."))
            }
            ConnectError::NoSocket => (
                Reason::ConnectTimeout,
                format!("No socket in the network of a worker of `{name}` was at hand in time."),
            ),
        };
        Failure::new(reason, Some(name.clone()), message)
    }

    /// Waits for a table that may have a worker for this request. An error when there is no hope or no more time.
    async fn wait(&mut self) -> Result<(), Failure> {
        let hold = self.service.hold_timeout;
        let after = |length| Instant::now() + length;
        let (until, expired) = match self.last_error.clone() {
            // The table still says that workers are ready.
            Some(failure) if !self.service.workers.is_empty() => {
                (*self.news_until.get_or_insert_with(|| after(NEWS_TIMEOUT.min(hold))), failure)
            }
            _ => {
                self.hope()?;
                (*self.worker_until.get_or_insert_with(|| after(hold)), self.nobody_came())
            }
        };
        let held = Held::enter(&self.service)?;
        let changed = self.thread.changed.notified();
        let waited = tokio::time::timeout_at(until, changed).await;
        drop(held);
        waited.map_err(|_| expired)?;
        let table = self.thread.table();
        let Some(service) = table.service(&self.service.name) else {
            let message = format!("`{}` was removed from the application.", self.service.name);
            return Err(Failure::new(Reason::UnknownService, Some(self.service.name.clone()), message));
        };
        self.service = service.clone();
        Ok(())
    }

    /// Whether a worker may come.
    fn hope(&self) -> Result<(), Failure> {
        let name = &self.service.name;
        let failure = |reason, message| Failure::new(reason, Some(name.clone()), message);
        match &self.service.outlook {
            Outlook::Coming => Ok(()),
            Outlook::Failed { reason, retry_after_s } => {
                let message = format!("`{name}` failed and is not running: {reason}.");
                Err(failure(Reason::ServiceFailed, message).retry_after(*retry_after_s))
            }
            Outlook::Stopped => Err(failure(Reason::ServiceStopped, format!("`{name}` was stopped."))),
            Outlook::NotListening => {
                Err(failure(Reason::NotListening, format!("`{name}` does not accept connections.")))
            }
        }
    }

    fn nobody_came(&self) -> Failure {
        let message = format!("No worker of `{}` became ready in time.", self.service.name);
        Failure::new(Reason::NoWorker, Some(self.service.name.clone()), message).retry_after(Some(1))
    }
}

/// A request that waits, counted as long as this lives.
struct Held(Rc<Tally>);

impl Held {
    fn enter(service: &Service) -> Result<Held, Failure> {
        let tally = &service.tally;
        if tally.held.get() >= service.hold_requests_max {
            let message = format!("Too many requests wait for a worker of `{}` already.", service.name);
            return Err(Failure::new(Reason::TooManyWaiting, Some(service.name.clone()), message)
                .retry_after(Some(1)));
        }
        tally.held.set(tally.held.get() + 1);
        Ok(Held(tally.clone()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get() - 1);
    }
}

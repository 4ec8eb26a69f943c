//! Gets a request to a worker: picks one, connects, goes on to the next, and waits for one when there is none.

use std::rc::Rc;

use tokio::time::Instant;
use watt_api::mesh::{Outlook, Protocol};

use crate::{
    affinity::Wish,
    balance::Asked,
    failures::Outcome,
    http::{Loss, Stream},
    http2::links,
    pool::{self, ConnectError},
    respond::{Failure, Reason},
    table::Service,
    thread::Thread,
    worker::{Flight, Tally, Worker},
};

/// The most workers that are lost with one request. It may be what kills them: the second one's loss is proof enough
/// that those that are left are spared, and only a successor is asked, once.
const LOSSES_MAX: u32 = 3;

/// What a connection to a worker is for.
#[derive(Debug, Clone, Copy)]
enum For {
    /// A request, in the protocol that the service speaks. `fresh`: not on a connection that was used before.
    Request { fresh: bool },
    /// Whatever is sent, at this port of the worker if one is given.
    Bytes { port: Option<u16> },
}

impl For {
    fn port(self) -> Option<u16> {
        match self {
            For::Request { .. } => None,
            For::Bytes { port } => port,
        }
    }
}

/// Runs that a request does not go to for now. Of most requests there are none.
#[derive(Debug, Default)]
pub(crate) struct LeftOut(Vec<(u64, Why)>);

/// Why a run is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It did not answer.
    Failed,
    /// Its queue was full. When there is no other one, it is waited for.
    Full,
    /// It answered, but not so that it would do: others come first, and after them it is asked once more.
    Answered,
    /// Workers die of this request, it seems.
    Spared,
}

impl LeftOut {
    pub(crate) fn has(&self, run: u64) -> bool {
        self.0.iter().any(|(other, _)| *other == run)
    }

    pub(crate) fn add(&mut self, run: u64, why: Why) {
        self.0.push((run, why));
    }

    /// Those that are left out for this alone may be asked again. Whether there were any.
    fn take_back(&mut self, why: Why) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, other)| *other != why);
        self.0.len() < before
    }
}

/// A connection to a worker, and the request that is counted there.
pub(crate) struct Reached {
    pub(crate) stream: Stream,
    pub(crate) flight: Flight,
    /// Requests were answered on it before, and none was under way there.
    pub(crate) reused: bool,
}

/// One request's search for a worker, over all its attempts.
pub(crate) struct Dispatch<'t> {
    thread: &'t Rc<Thread>,
    pub(crate) service: Rc<Service>,
    /// The worker that it is to go to before others.
    wish: Wish,
    left_out: LeftOut,
    /// A full queue is waited for by now.
    patient: bool,
    /// Lost together with a kept connection; its next answer tells whether it died.
    suspect: Option<Rc<Worker>>,
    losses: u32,
    /// The next time that it is sent is one that was asked for by [`Dispatch::may_resend`].
    again: bool,
    last_error: Option<Failure>,
    /// The last error is one of this process's, or of the daemon's.
    pub(crate) is_ours: bool,
    /// Whether the last error may be a death of which the news is on its way.
    died: bool,
    /// Until when it waits for a worker; set when it begins to.
    until: Option<Instant>,
}

impl<'t> Dispatch<'t> {
    /// One that any worker will do for.
    pub(crate) fn new(thread: &'t Rc<Thread>, service: Rc<Service>) -> Self {
        Dispatch {
            thread,
            service,
            wish: Wish::Any,
            left_out: LeftOut::default(),
            patient: false,
            suspect: None,
            losses: 0,
            again: false,
            last_error: None,
            is_ours: false,
            died: false,
            until: None,
        }
    }

    /// The same for one that goes to this worker before others.
    pub(crate) fn wishing(self, wish: Wish) -> Self {
        Dispatch { wish, ..self }
    }

    /// A connection to a worker: a kept one if there is and it may be, which costs no system call, else a new one.
    pub(crate) async fn connection(&mut self, fresh: bool) -> Result<Reached, Failure> {
        self.reach(For::Request { fresh }).await
    }

    /// A connection on which nothing was sent, at another port of the worker if one is given.
    pub(crate) async fn new_connection(&mut self, port: Option<u16>) -> Result<Reached, Failure> {
        self.reach(For::Bytes { port }).await
    }

    async fn reach(&mut self, what_for: For) -> Result<Reached, Failure> {
        let port = what_for.port();
        loop {
            let suspect = self.suspect.take().filter(|worker| worker.is_ready());
            let suspected = suspect.is_some();
            let Some(worker) = suspect.or_else(|| self.pick().cloned()) else {
                self.look_further(port).await?;
                continue;
            };
            // Counted from now on, so that those who connect at the same time spread.
            let flight = Flight::new(worker, self.service.tally.clone());
            match self.connect(flight.worker(), what_for).await {
                Ok((stream, reused)) => {
                    if !reused && port.is_none() {
                        flight.worker().reached();
                    }
                    return Ok(Reached { stream, flight, reused });
                }
                Err(error) => {
                    self.not_connected(flight.worker(), port, &error);
                    if !self.service.retries.on.have(Outcome::Connect) && !matches!(error, ConnectError::Full)
                    {
                        return Err(self.no_answer());
                    }
                }
            }
            if suspected && !self.may_lose_another() {
                return Err(self.no_answer());
            }
        }
    }

    /// To this worker, in its protocol. Whether requests were answered on the connection before, and none is under way there.
    async fn connect(&self, worker: &Worker, what_for: For) -> Result<(Stream, bool), ConnectError> {
        let patient = self.patient || self.service.workers.len() == 1;
        let timeout = self.service.connect_timeout;
        match (what_for, self.service.protocol) {
            (For::Request { fresh }, Protocol::H2c) => {
                let linked = links::open(self.thread, worker, patient, timeout).await?;
                // One that broke is gone, so whatever there is now is as good as a new one.
                Ok((linked.stream, linked.reused && !fresh))
            }
            (For::Request { fresh: false }, Protocol::Http1) => {
                match pool::take(worker, self.thread.clock.now()) {
                    Some(stream) => Ok((stream, true)),
                    None => {
                        Ok((pool::connect(worker, None, patient, Protocol::Http1, timeout).await?, false))
                    }
                }
            }
            (For::Request { fresh: true }, Protocol::Http1) => {
                Ok((pool::connect(worker, None, patient, Protocol::Http1, timeout).await?, false))
            }
            (For::Bytes { port }, _) => {
                Ok((pool::connect(worker, port, patient, Protocol::Http1, timeout).await?, false))
            }
        }
    }

    fn not_connected(&mut self, worker: &Worker, port: Option<u16>, error: &ConnectError) {
        match error {
            // Another port is no reason to pass the worker over.
            ConnectError::Refused(_) | ConnectError::Timeout if port.is_none() => {
                worker.refused(self.thread.clock.now());
                self.service.judge(self.thread, worker, worker.era(), Outcome::Connect);
            }
            _ => {}
        }
        let why = if matches!(error, ConnectError::Full) { Why::Full } else { Why::Failed };
        self.died = matches!(error, ConnectError::Refused(_));
        self.is_ours = matches!(error, ConnectError::Ours(_) | ConnectError::NoSocket);
        let failure = self.connect_failure(error);
        self.give_up_on(worker, why, failure);
    }

    /// No worker is left: looks for another one in the newest table, then at those whose queue was full, then waits.
    async fn look_further(&mut self, port: Option<u16>) -> Result<(), Failure> {
        let table = self.thread.table();
        let Some(service) = table.service(&self.service.name) else {
            let message = format!("`{}` was removed from the application.", self.service.name);
            return Err(Failure::new(Reason::UnknownService, Some(self.service.name.clone()), message));
        };
        if !Rc::ptr_eq(&self.service, service) {
            self.service = service.clone();
            return Ok(());
        }
        if self.left_out.take_back(Why::Full) {
            self.patient = true;
            return Ok(());
        }
        if self.left_out.take_back(Why::Answered) {
            return Ok(());
        }
        // A closed port is the caller's affair, and no sign that workers died.
        if port.is_some() && self.last_error.is_some() {
            return Err(self.no_answer());
        }
        self.wait().await
    }

    /// The connection to a worker was lost before it answered. Whether the request may be sent again, as far as the
    /// workers' safety goes.
    pub(crate) fn lost(&mut self, worker: &Rc<Worker>, loss: &Loss, failure: Failure) -> bool {
        if loss.waited {
            // A connection that waited may have been closed for that alone.
            self.last_error = Some(failure);
            self.suspect = loss.delivered.then(|| worker.clone());
            return true;
        }
        self.died |= !loss.refused;
        self.give_up_on(worker, Why::Failed, failure);
        !loss.delivered || self.may_lose_another()
    }

    /// It is asked for again what this worker did not answer as it should.
    pub(crate) fn avoid(&mut self, worker: &Worker) {
        self.left_out.add(worker.run, Why::Answered);
    }

    /// Whether it may go to one more worker although one had it, as far as the sum of such requests goes. The next time that it is sent is
    /// counted then.
    pub(crate) fn may_resend(&mut self) -> bool {
        let may = self.service.tally.may_resend(self.thread.clock.now());
        self.again |= may;
        may
    }

    /// It is sent now.
    pub(crate) fn sends(&mut self) {
        if std::mem::take(&mut self.again) {
            self.service.tally.count_retry();
        }
    }

    /// A worker was lost with this request.
    fn may_lose_another(&mut self) -> bool {
        self.losses += 1;
        if self.losses + 1 == LOSSES_MAX {
            let table = self.thread.table();
            let newest = table.service(&self.service.name).unwrap_or(&self.service);
            newest.workers.iter().for_each(|worker| self.left_out.add(worker.run, Why::Spared));
        }
        self.losses < LOSSES_MAX && self.may_resend()
    }

    /// This worker did not answer; the next attempt goes to another one.
    fn give_up_on(&mut self, worker: &Worker, why: Why, failure: Failure) {
        self.left_out.add(worker.run, why);
        self.last_error = Some(failure);
    }

    fn pick(&self) -> Option<&Rc<Worker>> {
        let asked = Asked { now: self.thread.clock.now(), left_out: &self.left_out, wish: self.wish };
        self.service.balance.pick(&self.service.workers, asked)
    }

    fn connect_failure(&self, error: &ConnectError) -> Failure {
        let name = &self.service.name;
        let nobody = match self.service.is_upstream {
            true => format!("Nobody at `{name}`"),
            false => format!("No worker of `{name}`"),
        };
        let (reason, message) = match error {
            ConnectError::Refused(error) => {
                (Reason::ConnectionRefused, format!("{nobody} could be connected to: {error}."))
            }
            ConnectError::Ours(error) => (
                Reason::ConnectionRefused,
                format!("The proxy could not make a connection to a worker of `{name}`: {error}."),
            ),
            ConnectError::OtherPort => (
                Reason::ConnectionRefused,
                format!("`{name}` is on the host's network, where only its own port is its own."),
            ),
            ConnectError::Timeout | ConnectError::Full => {
                (Reason::ConnectTimeout, format!("{nobody} accepted a connection in time."))
            }
            ConnectError::Tls(why) => {
                (Reason::TlsFailed, format!("TLS with `{name}` did not come to be: {why}."))
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
        let listed = !self.service.workers.is_empty();
        if listed && !self.died && self.last_error.is_some() {
            return Err(self.no_answer());
        }
        self.hope()?;
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.service.hold_timeout);
        let held = Held::enter(&self.service)?;
        let changed = self.thread.changed.notified();
        let waited = tokio::time::timeout_at(until, changed).await;
        drop(held);
        waited.map_err(|_| if listed { self.no_answer() } else { self.nobody_came() })
    }

    /// What the last worker's failure was.
    fn no_answer(&mut self) -> Failure {
        self.last_error.take().unwrap_or_else(|| self.nobody_came())
    }

    /// Whether a worker may come.
    fn hope(&self) -> Result<(), Failure> {
        let name = &self.service.name;
        let failure = |reason, message| Failure::new(reason, Some(name.clone()), message);
        match &self.service.outlook {
            Outlook::Coming => Ok(()),
            Outlook::Asleep => {
                self.thread.want(&self.service);
                Ok(())
            }
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
        tally.set_held(tally.held.get() + 1);
        Ok(Held(tally.clone()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.set_held(self.0.held.get() - 1);
    }
}

//! What all requests to a service pass on their way, where the service has limits of its own: a breaker, and a bulkhead with a queue.
//!
//! The one thing of the request path that threads share, and only for services that ask for it: a limit that each thread keeps by itself
//! would be exceeded by their number. The lock is held for a few comparisons, and for waking one that waits where somebody made room.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use watt_api::mesh::{self, Snapshot, Trouble};

use crate::{
    breaker::{Admitted, Breaker, Change},
    failures::Outcome,
    respond::Reason,
    troubles,
};

/// How often it is told that requests are refused for one reason.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How urgent a request is that does not say it (RFC 9218 §4.1); 0 is the most, 7 the least.
pub(crate) const URGENCY: u8 = 3;

/// The gates of the services that have one.
pub(crate) type Gates = BTreeMap<String, Arc<Gate>>;

/// What the newest snapshot says of them. One whose limits are gone lets through those that wait.
pub(crate) fn renew(gates: &mut Gates, snapshot: &Snapshot) {
    let now = Instant::now();
    let limited = |traffic: &mesh::Traffic| traffic.breaker.is_some() || traffic.bulkhead.is_some();
    gates.retain(|name, gate| {
        let stays = snapshot.services.get(name).is_some_and(|service| limited(&service.traffic));
        if !stays {
            gate.state().rule(&mesh::Traffic::default(), now);
        }
        stays
    });
    for (name, service) in &snapshot.services {
        if limited(&service.traffic) {
            gates.entry(name.clone()).or_default().state().rule(&service.traffic, now);
        }
    }
}

/// A service's gate.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    breaker: Option<Breaker>,
    /// `None`: as many as come.
    bulkhead: Option<mesh::Bulkhead>,
    in_flight: usize,
    /// Those that wait, the most urgent and then the oldest first.
    waiting: BTreeMap<(u8, u64), oneshot::Sender<Turn>>,
    /// How many have waited.
    turns: u64,
    told: [Told; REASONS],
}

/// What becomes of one that waits.
#[derive(Debug)]
enum Turn {
    Granted,
    /// It goes no further.
    Refused(Refused),
}

/// When it was told last that requests are refused for a reason, and how many were since.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    at: Option<Instant>,
    since: u64,
    why: Option<Refused>,
}

impl Told {
    fn due(&mut self, now: Instant) -> Option<(Refused, u64)> {
        let is_due = self.at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY);
        let why = self.why.filter(|_| is_due && self.since > 0)?;
        self.at = Some(now);
        Some((why, std::mem::take(&mut self.since)))
    }
}

/// Why a request does not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The breaker is open, for so long.
    Open(Duration),
    /// As many are in flight and wait as may.
    Full,
    /// It waited for as long as it may.
    Late,
    /// A more urgent one came.
    Shed,
}

/// How many kinds of those there are.
pub(crate) const REASONS: usize = 4;

impl Refused {
    /// Why, in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Refused::Open(_) => "the breaker was open",
            Refused::Full => "as many were in flight and waited as may",
            Refused::Late => "they had waited for as long as they may",
            Refused::Shed => "more urgent ones came",
        }
    }

    /// What the client is told.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Refused::Open(_) => Reason::BreakerOpen,
            Refused::Full => Reason::BulkheadFull,
            Refused::Late => Reason::QueueTimeout,
            Refused::Shed => Reason::Shed,
        }
    }

    pub(crate) fn number(self) -> usize {
        match self {
            Refused::Open(_) => 0,
            Refused::Full => 1,
            Refused::Late => 2,
            Refused::Shed => 3,
        }
    }
}

impl Gate {
    /// A panic while the lock was held leaves counts that are as good as before.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request through at once, or has it wait, or not.
    pub(crate) fn enter(self: &Arc<Self>, urgency: u8) -> Result<Entry, Refused> {
        let mut state = self.state();
        let admitted = match &mut state.breaker {
            Some(breaker) => Some(breaker.admit(Instant::now()).map_err(Refused::Open)?),
            None => None,
        };
        let mut ticket = Ticket { gate: Arc::clone(self), admitted, has_place: false };
        let place = state.take_place(urgency);
        drop(state);
        // From here on the ticket gives back what it has.
        match place? {
            Place::Taken => ticket.has_place = true,
            Place::NoneNeeded => {}
            Place::Queued { key, turn, until } => {
                let queued = Queued { gate: Arc::clone(self), key, turn, is_over: false };
                return Ok(Entry::Waits(Waiting { ticket, queued, until }));
            }
        }
        Ok(Entry::Passes(ticket))
    }

    /// One was refused.
    pub(crate) fn refused(&self, why: Refused) {
        let told = &mut self.state().told[why.number()];
        *told = Told { since: told.since + 1, why: Some(why), ..*told };
    }

    /// What is to be told now of those that were.
    pub(crate) fn refusals(&self, service: &str) -> Vec<Trouble> {
        let now = Instant::now();
        let mut state = self.state();
        let due = state.told.iter_mut().filter_map(|told| told.due(now));
        due.map(|(why, count)| troubles::refused(service, why, count)).collect()
    }

    /// Whether the breaker keeps requests out.
    pub(crate) fn is_open(&self) -> bool {
        self.state().breaker.as_ref().is_some_and(|breaker| breaker.is_open(Instant::now()))
    }

    /// What one that was let through came to. When that opens the breaker, those that wait need not wait any longer.
    fn tell(&self, admitted: Admitted, outcome: Outcome) -> Option<Change> {
        let mut state = self.state();
        let change = state.breaker.as_mut()?.tell(admitted, outcome, Instant::now())?;
        if let Change::Opened { length, .. } = change {
            let waiting = std::mem::take(&mut state.waiting);
            // There may be many of them.
            drop(state);
            for (_, waiting) in waiting {
                refuse(waiting, Refused::Open(length));
            }
        }
        Some(change)
    }
}

/// How it stands with a place.
enum Place {
    NoneNeeded,
    Taken,
    Queued { key: (u8, u64), turn: oneshot::Receiver<Turn>, until: Instant },
}

impl State {
    fn rule(&mut self, rules: &mesh::Traffic, now: Instant) {
        match (&mut self.breaker, &rules.breaker) {
            (Some(breaker), Some(rules)) => breaker.rule(rules.into(), now),
            (breaker, rules) => *breaker = rules.as_ref().map(|rules| Breaker::new(rules.into(), now)),
        }
        self.bulkhead.clone_from(&rules.bulkhead);
        self.grant();
    }

    fn take_place(&mut self, urgency: u8) -> Result<Place, Refused> {
        let Some(rules) = &self.bulkhead else { return Ok(Place::NoneNeeded) };
        if self.in_flight < rules.in_flight_max && self.waiting.is_empty() {
            self.in_flight += 1;
            return Ok(Place::Taken);
        }
        if self.waiting.len() >= rules.queue_max {
            // The least urgent one, and of those the one that came last.
            match self.waiting.last_entry() {
                Some(last) if last.key().0 > urgency => refuse(last.remove(), Refused::Shed),
                Some(_) | None => return Err(Refused::Full),
            }
        }
        let until = Instant::now() + Duration::from_millis(rules.queue_timeout_ms);
        let (sender, turn) = oneshot::channel();
        let key = (urgency, self.turns);
        self.turns += 1;
        self.waiting.insert(key, sender);
        Ok(Place::Queued { key, turn, until })
    }

    /// Somebody has gone.
    fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.grant();
    }

    fn grant(&mut self) {
        let max = self.bulkhead.as_ref().map_or(usize::MAX, |rules| rules.in_flight_max);
        while self.in_flight < max
            && let Some((_, next)) = self.waiting.pop_first()
        {
            // Who waits no longer takes itself out under the same lock.
            if next.send(Turn::Granted).is_ok() {
                self.in_flight += 1;
            }
        }
    }
}

/// Tells one that waited. It may have gone.
fn refuse(waiting: oneshot::Sender<Turn>, why: Refused) {
    let _ = waiting.send(Turn::Refused(why));
}

/// What becomes of a request at the gate.
#[derive(Debug)]
pub(crate) enum Entry {
    Passes(Ticket),
    Waits(Waiting),
}

/// A request that waits for its turn.
#[derive(Debug)]
pub(crate) struct Waiting {
    ticket: Ticket,
    queued: Queued,
    until: Instant,
}

impl Waiting {
    /// Waits for its turn.
    pub(crate) async fn pass(self) -> Result<Ticket, Refused> {
        let Waiting { mut ticket, mut queued, until } = self;
        let turn = tokio::time::timeout_at(until, &mut queued.turn).await;
        // Between the end of the time and this look its turn may have come.
        match turn.ok().and_then(Result::ok).or_else(|| queued.leave()) {
            Some(Turn::Granted) => {
                queued.is_over = true;
                ticket.has_place = true;
                Ok(ticket)
            }
            Some(Turn::Refused(why)) => Err(why),
            None => Err(Refused::Late),
        }
    }
}

/// A place in the queue, until this is dropped.
#[derive(Debug)]
struct Queued {
    gate: Arc<Gate>,
    key: (u8, u64),
    turn: oneshot::Receiver<Turn>,
    is_over: bool,
}

impl Queued {
    /// Waits no longer. What has become of it meanwhile, if anything has.
    fn leave(&mut self) -> Option<Turn> {
        let gone = self.gate.state().waiting.remove(&self.key).is_none();
        gone.then(|| self.turn.try_recv().ok()).flatten()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(Turn::Granted) = self.leave()
        {
            self.gate.state().leave();
        }
    }
}

/// A request that was let through, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    admitted: Option<Admitted>,
    has_place: bool,
}

impl Ticket {
    /// What it came to. What becomes of the breaker by that. Only the first word counts.
    pub(crate) fn tell(&mut self, outcome: Outcome) -> Option<Change> {
        let admitted = self.admitted.take()?;
        self.gate.tell(admitted, outcome)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.admitted.is_none() && !self.has_place {
            return;
        }
        let mut state = self.gate.state();
        if let (Some(breaker), Some(admitted)) = (&mut state.breaker, self.admitted) {
            breaker.forget(admitted);
        }
        if self.has_place {
            state.leave();
        }
    }
}

#[cfg(test)]
mod tests;

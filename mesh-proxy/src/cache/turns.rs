//! Many requests for one thing that is not stored: one of them gets it, the others wait for that.
//!
//! Where it turns out that the response is not to be stored they have waited for nothing, so that is remembered for a while, and nobody waits
//! then. Waiting is for a short time in any case: the one that gets it may have a client that reads slowly.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use watt_cache::Place;

/// How long a request waits at most.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(5);

/// For how long nobody waits for what was not stored.
const VAIN_MS: u64 = 10_000;

/// The parts, each with its own lock, and how much of what was in vain each remembers.
const PARTS: usize = 64;
const VAIN_MAX: usize = 1024;

/// Who gets what.
#[derive(Debug)]
pub(crate) struct Turns {
    hasher: RandomState,
    parts: Box<[Mutex<Part>]>,
}

#[derive(Debug, Default)]
struct Part {
    /// By the hash of what it is. That two things may have one costs a wait.
    leads: HashMap<u64, watch::Receiver<()>>,
    /// Until when nobody waits.
    vain: HashMap<u64, u64>,
}

/// What a request does.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It gets it, for the others as well.
    Leads(Lead),
    /// Another one does: until the sender of this is gone.
    Follows(watch::Receiver<()>),
    /// It gets it, for itself.
    Alone,
}

/// A request that gets something, until this is dropped.
#[derive(Debug)]
pub(crate) struct Lead {
    turns: Arc<Turns>,
    print: u64,
    _sender: watch::Sender<()>,
}

impl Default for Turns {
    fn default() -> Self {
        Turns { hasher: RandomState::new(), parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }
}

impl Turns {
    /// A request for this.
    pub(crate) fn take(self: &Arc<Self>, uri: &[u8], place: &Place, now_ms: u64) -> Turn {
        let print = self.print(uri, place);
        let mut part = self.part(print);
        match part.vain.get(&print) {
            Some(until) if *until > now_ms => return Turn::Alone,
            Some(_) => drop(part.vain.remove(&print)),
            None => {}
        }
        if let Some(lead) = part.leads.get(&print) {
            return Turn::Follows(lead.clone());
        }
        let (sender, receiver) = watch::channel(());
        part.leads.insert(print, receiver);
        Turn::Leads(Lead { turns: Arc::clone(self), print, _sender: sender })
    }

    /// Somebody has waited for this for as long as may be.
    pub(crate) fn was_too_long(&self, uri: &[u8], place: &Place, now_ms: u64) {
        self.forgo(self.print(uri, place), now_ms);
    }

    /// Nobody waits for this for a while.
    fn forgo(&self, print: u64, now_ms: u64) {
        let mut part = self.part(print);
        if part.vain.len() >= VAIN_MAX {
            part.vain.clear();
        }
        part.vain.insert(print, now_ms.saturating_add(VAIN_MS));
    }

    fn print(&self, uri: &[u8], place: &Place) -> u64 {
        self.hasher.hash_one((uri, place))
    }

    fn part(&self, print: u64) -> MutexGuard<'_, Part> {
        // The remainder is smaller than a usize. Nothing that is done under the lock can panic half way.
        let part = &self.parts[(print % PARTS as u64) as usize];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead {
    /// It is not to be stored.
    pub(crate) fn was_in_vain(self, now_ms: u64) {
        self.turns.forgo(self.print, now_ms);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.turns.part(self.print).leads.remove(&self.print);
    }
}

#[cfg(test)]
mod tests {
    use watt_cache::Side;

    use super::*;

    fn place() -> Place {
        Place { service: "api".into(), side: Side::Gateway, route: 0 }
    }

    #[test]
    fn one_leads_until_it_is_done() {
        let turns = Arc::new(Turns::default());
        let Turn::Leads(lead) = turns.take(b"a", &place(), 0) else { panic!("it does not lead") };
        let Turn::Follows(mut follower) = turns.take(b"a", &place(), 0) else { panic!("it does not follow") };
        assert!(matches!(turns.take(b"b", &place(), 0), Turn::Leads(_)));
        assert!(follower.has_changed().is_ok());
        drop(lead);
        assert!(follower.has_changed().is_err());
        follower.mark_unchanged();
        let Turn::Leads(lead) = turns.take(b"a", &place(), 0) else { panic!("it does not lead") };
        lead.was_in_vain(0);
        assert!(matches!(turns.take(b"a", &place(), VAIN_MS - 1), Turn::Alone));
        let Turn::Leads(_lead) = turns.take(b"a", &place(), VAIN_MS) else { panic!("it does not lead") };
        turns.was_too_long(b"a", &place(), VAIN_MS);
        assert!(matches!(turns.take(b"a", &place(), VAIN_MS), Turn::Alone));
        assert!(matches!(turns.take(b"a", &place(), 2 * VAIN_MS), Turn::Follows(_)));
    }

    #[test]
    fn what_was_in_vain_takes_no_more_memory_than_it_may() {
        let turns = Arc::new(Turns::default());
        for number in 0..200_000u32 {
            if let Turn::Leads(lead) = turns.take(&number.to_le_bytes(), &place(), 0) {
                lead.was_in_vain(0);
            }
        }
        let count = |part: &Mutex<Part>| part.lock().unwrap().vain.len();
        assert!(turns.parts.iter().all(|part| count(part) <= VAIN_MAX));
    }
}

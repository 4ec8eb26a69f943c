//! What is kept of those whose requests are counted: one time for each, in bounded memory, for all threads of the proxy.
//!
//! Limits have to be exact over all threads, or clients get a multiple of what was written, by chance. So this is the one thing that they
//! share. A request takes the lock of a small part of it, for a few comparisons.
//!
//! Keys are up to clients, and a flood of them must not take memory without end, nor make others' counts be forgotten that matter. So each
//! limit has a ledger of its own: whoever writes a new value into a header that one limit counts by has that one forget, and no other. Keys are
//! kept in sets of a few places, found by a hash that nobody outside can foresee. Where a set is full, the whole part grows, up to a
//! bound and as long as there is room for all ledgers together, and then the key goes whose time is nearest: what was forgotten of it is the
//! least there is. A key whose time has passed is worth nothing, so its place is free.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::rate::{Outcome, Rate};

/// The parts of a ledger, each with its own lock.
const PARTS: usize = 64;

/// The places of a set.
const SET: usize = 16;

/// The most sets of a part: 262,144 keys and 4 MiB for all parts together.
const SETS_MAX: usize = 256;

/// The sets of a part that need no room: 2,048 keys and 32 KiB for all parts together. A flood at other limits does not take them.
const SETS_OWN: usize = 2;

/// The room that there is for all other sets of all ledgers: 32 MiB.
const ROOM: usize = (32 << 20) / (SET * size_of::<Place>());

/// The ledgers of all limits.
#[derive(Debug)]
pub struct Ledgers {
    by_limit: Mutex<HashMap<Box<str>, Arc<Ledger>>>,
    room: Arc<AtomicUsize>,
}

impl Default for Ledgers {
    fn default() -> Self {
        Ledgers::with_room(ROOM)
    }
}

impl Ledgers {
    fn with_room(sets: usize) -> Ledgers {
        Ledgers { by_limit: Mutex::default(), room: Arc::new(AtomicUsize::new(sets)) }
    }

    /// That of a limit: the same one for everybody who asks, as long as it is [kept](Ledgers::keep).
    pub fn get(&self, limit: &str) -> Arc<Ledger> {
        let mut ledgers = lock(&self.by_limit);
        if let Some(ledger) = ledgers.get(limit) {
            return Arc::clone(ledger);
        }
        let ledger = Arc::new(Ledger::new(Arc::clone(&self.room)));
        ledgers.insert(limit.into(), Arc::clone(&ledger));
        ledger
    }

    /// Forgets those of limits that there are no more.
    pub fn keep(&self, is_there: impl Fn(&str) -> bool) {
        lock(&self.by_limit).retain(|limit, _| is_there(limit));
    }
}

/// A key and what it has used.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The hash of its key; 0 is nobody.
    print: u64,
    /// In nanoseconds.
    used: u64,
}

/// Everything that a limit counts.
#[derive(Debug)]
pub struct Ledger {
    hasher: RandomState,
    parts: Box<[Mutex<Part>]>,
    room: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Part {
    /// Sets one after the other; their number is a power of 2.
    places: Vec<Place>,
}

impl Ledger {
    fn new(room: Arc<AtomicUsize>) -> Ledger {
        Ledger {
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            room,
        }
    }

    /// One more request that is counted under this key.
    pub fn take(&self, key: Key<'_>, rate: &Rate, now_ns: u64) -> Outcome {
        let print = self.print(key);
        let mut part = self.part(print);
        let place = part.place(print, now_ns, &self.room);
        let (used, outcome) = rate.take(place.used, now_ns);
        place.used = used;
        outcome
    }

    /// One that was counted is not counted after all.
    pub fn give_back(&self, key: Key<'_>, rate: &Rate) {
        let print = self.print(key);
        if let Some(place) = self.part(print).known(print) {
            place.used = rate.give_back(place.used);
        }
    }

    /// How many keys there is room for at present.
    pub fn size(&self) -> usize {
        self.parts.iter().map(|part| lock(part).places.len()).sum()
    }

    fn print(&self, key: Key<'_>) -> u64 {
        self.hasher.hash_one(key).max(1)
    }

    fn part(&self, print: u64) -> MutexGuard<'_, Part> {
        // The remainder is smaller than a usize.
        lock(&self.parts[(print % PARTS as u64) as usize])
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let taken = |part: &Mutex<Part>| (lock(part).places.len() / SET).saturating_sub(SETS_OWN);
        self.room.fetch_add(self.parts.iter().map(taken).sum(), Ordering::Relaxed);
    }
}

/// What a limit counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key<'k> {
    /// All requests together.
    Everyone,
    /// A client's address, see [`crate::address::counted`].
    Address(std::net::IpAddr),
    /// A client whose address is not known.
    Nowhere,
    /// A service that calls.
    Service(&'k str),
    /// Somebody who is known.
    User(&'k str),
    /// The values of a header, as they came.
    Value(&'k [u8]),
}

/// Nothing that is done under the locks can panic half way.
fn lock<T>(locked: &Mutex<T>) -> MutexGuard<'_, T> {
    locked.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Part {
    fn set(&mut self, print: u64) -> &mut [Place] {
        let sets = self.places.len() / SET;
        // The lowest bits say which part it is.
        let set = (print / PARTS as u64) as usize & sets.saturating_sub(1);
        self.places.get_mut(set * SET..(set + 1) * SET).unwrap_or_default()
    }

    fn known(&mut self, print: u64) -> Option<&mut Place> {
        self.set(print).iter_mut().find(|place| place.print == print)
    }

    /// The place of a key: its own, or a new one.
    fn place(&mut self, print: u64, now_ns: u64, room: &AtomicUsize) -> &mut Place {
        loop {
            let set = self.set(print);
            // Its own one, else the one that is the least loss.
            let index = (0..set.len()).min_by_key(|index| match set[*index] {
                place if place.print == print => (0, 0),
                place if place.used <= now_ns => (1, 0),
                place => (2, place.used),
            });
            let is_free = index.is_some_and(|index| set[index].print == print || set[index].used <= now_ns);
            let Some(index) = index.filter(|_| is_free || !self.may_grow(room)) else {
                self.grow(now_ns);
                continue;
            };
            let place = &mut self.set(print)[index];
            if place.print != print {
                *place = Place { print, used: 0 };
            }
            return place;
        }
    }

    /// Whether there may be twice as many sets. Then the room for them is taken.
    fn may_grow(&self, room: &AtomicUsize) -> bool {
        let sets = self.places.len() / SET;
        let more = (sets * 2).max(1).saturating_sub(SETS_OWN.max(sets));
        let take = |left: usize| left.checked_sub(more);
        sets < SETS_MAX && room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Twice as many sets, with what is still worth something. Each set becomes two, so that all of it has a place.
    fn grow(&mut self, now_ns: u64) {
        let sets = (self.places.len() / SET * 2).max(1);
        let before = std::mem::replace(&mut self.places, vec![Place::default(); sets * SET]);
        for place in before.into_iter().filter(|place| place.used > now_ns) {
            if let Some(free) = self.set(place.print).iter_mut().find(|free| free.print == 0) {
                *free = place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, num::NonZeroU64, time::Duration};

    use super::*;

    fn rate(requests: u64, burst: u64) -> Rate {
        let some = |number| NonZeroU64::new(number).unwrap();
        Rate::new(some(requests), Duration::from_secs(1), some(burst))
    }

    fn ledger() -> Arc<Ledger> {
        Ledgers::default().get("x")
    }

    fn address(number: u32) -> Key<'static> {
        Key::Address(Ipv4Addr::from(number).into())
    }

    fn passes(outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Admitted { .. })
    }

    #[test]
    fn limits_and_keys_are_counted_apart() {
        let ledgers = Ledgers::default();
        let rate = rate(1, 1);
        let take = |limit: &str, key: Key<'_>| passes(ledgers.get(limit).take(key, &rate, 5));
        for key in [address(1), address(2), Key::Everyone, Key::Nowhere, Key::Service("a"), Key::Value(b"a")]
        {
            assert!(take("x", key) && take("y", key), "{key:?}");
            assert!(!take("x", key) && !take("y", key), "{key:?}");
        }
        ledgers.keep(|limit| limit == "x");
        assert!(!take("x", address(1)) && take("y", address(1)), "what is gone is forgotten");
    }

    #[test]
    fn what_is_given_back_was_not_counted() {
        let ledger = ledger();
        let rate = rate(1, 1);
        assert!(passes(ledger.take(address(1), &rate, 5)));
        ledger.give_back(address(1), &rate);
        ledger.give_back(address(9), &rate);
        assert!(passes(ledger.take(address(1), &rate, 5)));
        assert!(!passes(ledger.take(address(1), &rate, 5)));
    }

    #[test]
    fn many_threads_get_together_what_one_may() {
        let ledger = ledger();
        let rate = rate(1, 1_000);
        let passed: usize = std::thread::scope(|scope| {
            let count = || (0..500).filter(|_| passes(ledger.take(address(7), &rate, 9))).count();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1_000);
    }

    #[test]
    fn few_keys_take_little_memory() {
        let ledger = ledger();
        for number in 0..64 {
            ledger.take(address(number), &rate(1, 1), 5);
        }
        assert!(ledger.size() <= 1_024, "{}", ledger.size());
    }

    #[test]
    fn keys_are_all_remembered_up_to_a_bound() {
        let ledger = ledger();
        let rate = rate(1, 1);
        assert!((0..30_000).all(|number| passes(ledger.take(address(number), &rate, 5))));
        assert_eq!((0..30_000).filter(|number| passes(ledger.take(address(*number), &rate, 5))).count(), 0);
    }

    #[test]
    fn a_flood_takes_no_more_memory_and_leaves_those_who_used_much() {
        let ledger = ledger();
        let (heavy, light) = (rate(1, 100), rate(1, 1));
        for _ in 0..100 {
            assert!(passes(ledger.take(Key::Value(b"heavy"), &heavy, 5)));
        }
        for number in 0..1_000_000 {
            assert!(passes(ledger.take(address(number), &light, 5)));
        }
        assert_eq!(ledger.size(), PARTS * SETS_MAX * SET);
        assert!(!passes(ledger.take(Key::Value(b"heavy"), &heavy, 5)), "it is not forgotten");
        // Later everything is free again, for others as well.
        let later = 200_000_000_000;
        assert!(passes(ledger.take(Key::Value(b"heavy"), &heavy, later)));
        assert!((0..1_000).all(|number| passes(ledger.take(address(number), &light, later))));
    }

    #[test]
    fn a_flood_at_one_limit_has_no_other_one_forget() {
        let ledgers = Ledgers::default();
        // What is counted for a long time is worth more than what is counted for a short one, and would be kept in its place.
        let (short, long) = (rate(1_000, 100), rate(1, 1));
        let login = ledgers.get("login");
        while passes(login.take(address(7), &short, 5)) {}
        let tenant = ledgers.get("tenant");
        for number in 0..1_000_000_u32 {
            tenant.take(Key::Value(&number.to_be_bytes()), &long, 5);
        }
        assert!(!passes(login.take(address(7), &short, 5)), "it is not forgotten");
    }

    #[test]
    fn all_ledgers_together_are_bounded_and_give_back_what_they_had() {
        let ledgers = Ledgers::with_room(1_000);
        let rate = rate(1, 1);
        let flood = |limit: &str| {
            let ledger = ledgers.get(limit);
            (0..100_000).for_each(|number| drop(ledger.take(address(number), &rate, 5)));
            ledger.size()
        };
        let own = PARTS * SETS_OWN * SET;
        let sizes: usize = ["a", "b", "c"].map(flood).iter().sum();
        assert!(sizes <= 3 * own + 1_000 * SET, "{sizes}");
        assert!(flood("d") >= own, "each has a part of its own");
        ledgers.keep(|_| false);
        assert_eq!(ledgers.room.load(Ordering::Relaxed), 1_000);
    }
}

//! The stored responses, for all threads of a proxy, in bounded memory.
//!
//! They are parted by their URI's hash, and each part has a lock, which is held for a look or a change. What somebody sends just now is
//! held by him, and counts until he is done: clients that read slowly cannot have more kept than the limit. So does what is being
//! stored and not there as a whole yet.
//!
//! Purges look at all there is, part after part, in place of indices: there is nothing then that can come apart. A response that was asked for
//! before a purge, or before something was changed at its URI, is not stored when it comes after that.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    entry::Entry,
    fields::Fields,
    key::path_start,
    sieve::{Sieve, Slot},
};

/// The parts, each with its own lock.
const PARTS: usize = 256;

/// The most responses with one URI. Of more, those that came first go.
const VARIANTS_MAX: usize = 64;

/// How much of what was made invalid a part remembers.
const LATELY_MAX: usize = 64;

/// What is being stored at a time may take this part of the memory.
const RESERVED_PART: usize = 2;

/// Whose a response is: that of a service, for somebody, along a rule. Two rules may have a service see two different requests for one URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The service.
    pub service: Arc<str>,
    /// Who it is for.
    pub side: Side,
    /// The rule; 0 is none.
    pub route: u64,
}

/// Whom a response is for. A service is told in `Forwarded` which one calls it, and gets what a caller says in such fields itself; so what it
/// gives to one is never another one's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Side {
    /// Clients from outside.
    Gateway,
    /// Operators at the mesh.
    Operators,
    /// This service.
    Service(Arc<str>),
}

/// All of it. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hasher: RandomState,
    parts: Box<[Mutex<Part>]>,
    /// The most memory, and what is taken: by what is stored, by what is still sent, by what is being stored.
    bytes_max: AtomicUsize,
    bytes: AtomicUsize,
    /// What is being stored, of that.
    reserved: AtomicUsize,
    entries_max: AtomicUsize,
    entries: AtomicUsize,
    /// Where the next part is that has to make room.
    turn: AtomicUsize,
    stored: AtomicU64,
    evicted: AtomicU64,
    purged: AtomicU64,
}

#[derive(Debug, Default)]
struct Part {
    /// By URI, in the order they came.
    found: HashMap<Box<[u8]>, Vec<Slot>>,
    entries: Sieve<Arc<Entry>>,
    /// How often something was made invalid here, and what it was the last times: the hash of a URI, or of all of them.
    generation: u64,
    lately: VecDeque<Option<u64>>,
}

/// What there is for a request.
#[derive(Debug, Clone)]
pub enum Looked {
    /// A response for it.
    Found(Arc<Entry>),
    /// One for other requests with its URI.
    Variants,
    /// Nothing.
    Nothing,
}

/// What is to be removed. All that is said has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Purge {
    /// Of this service.
    pub service: Option<String>,
    /// With exactly this URI; with any scheme and host where it begins with a slash.
    pub uri: Option<Vec<u8>>,
    /// With a URI that begins like this, likewise.
    pub prefix: Option<Vec<u8>>,
    /// With this tag.
    pub tag: Option<Vec<u8>>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// The memory, in bytes, with what is being sent and stored.
    pub bytes: u64,
    /// The most of it.
    pub bytes_max: u64,
    /// Responses.
    pub entries: u64,
    /// How many were stored so far.
    pub stored: u64,
    /// How many had to make room.
    pub evicted: u64,
    /// How many were purged, or made invalid by a request that changed something.
    pub purged: u64,
}

impl Default for Store {
    fn default() -> Self {
        Store(Arc::new(Inner {
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            bytes_max: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            entries_max: AtomicUsize::new(usize::MAX),
            entries: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            stored: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            purged: AtomicU64::new(0),
        }))
    }
}

impl Store {
    /// So much memory, and so many responses. What is too much goes.
    pub fn limit(&self, bytes_max: usize, entries_max: usize) {
        self.0.bytes_max.store(bytes_max, Relaxed);
        self.0.entries_max.store(entries_max, Relaxed);
        self.make_room();
    }

    /// What there is for a request.
    pub fn look(&self, uri: &[u8], place: &Place, request: Fields<'_>) -> Looked {
        let part = &mut *self.part(uri);
        let Some(slots) = part.found.get(uri) else { return Looked::Nothing };
        // The one that came last is the one to be used (RFC 9111 §4).
        let is_for =
            |slot: &&Slot| part.entries.get(**slot).is_some_and(|entry| entry.is_for(place, request));
        let Some(slot) = slots.iter().rev().find(is_for).copied() else { return Looked::Variants };
        part.entries.touch(slot);
        part.entries.get(slot).cloned().map_or(Looked::Nothing, Looked::Found)
    }

    /// What is to be said when a response is stored that is asked for now.
    pub fn generation(&self, uri: &[u8]) -> u64 {
        self.part(uri).generation
    }

    /// Stores a response, unless something was made invalid since. Whether it did.
    pub fn put(&self, entry: Arc<Entry>, generation: u64) -> bool {
        if entry.reserved_bytes() > self.0.bytes_max.load(Relaxed) {
            return false;
        }
        let uri = entry.uri().clone();
        let mut part = self.part(&uri);
        if !part.is_valid_since(generation, self.print(&uri)) {
            return false;
        }
        let Part { found, entries, .. } = &mut *part;
        let slots = found.entry(uri[..].into()).or_default();
        let mut gone = Vec::new();
        slots.retain(|slot| {
            let stays = entries.get(*slot).is_some_and(|other| !other.is_replaced_by(&entry));
            if !stays {
                gone.extend(entries.remove(*slot));
            }
            stays
        });
        if slots.len() >= VARIANTS_MAX {
            gone.extend(entries.remove(slots.remove(0)));
        }
        // Before anybody can see it, and take it out and count that.
        self.0.entries.fetch_add(1, Relaxed);
        slots.push(entries.insert(entry));
        drop(part);
        self.0.entries.fetch_sub(gone.len(), Relaxed);
        self.0.stored.fetch_add(1, Relaxed);
        // Their memory is freed without the lock.
        drop(gone);
        self.make_room();
        true
    }

    /// Removes this one, if it is still there.
    pub fn remove(&self, entry: &Arc<Entry>) {
        let mut part = self.part(entry.uri());
        let slots = part.found.get(&entry.uri()[..]).map_or(&[][..], |slots| slots);
        let is_it = |slot: &&Slot| part.entries.get(**slot).is_some_and(|other| Arc::ptr_eq(other, entry));
        let slot = slots.iter().find(is_it).copied();
        let gone = slot.and_then(|slot| part.remove(slot));
        drop(part);
        self.0.entries.fetch_sub(usize::from(gone.is_some()), Relaxed);
    }

    /// No response with this URI may be used any longer.
    pub fn invalidate(&self, uri: &[u8]) {
        let mut part = self.part(uri);
        part.note(Some(self.print(uri)));
        let slots = part.found.remove(uri).unwrap_or_default();
        let gone: Vec<_> = slots.into_iter().filter_map(|slot| part.entries.remove(slot)).collect();
        drop(part);
        self.was_purged(gone.len());
    }

    /// Removes what is said, and what is asked for now is not stored. Returns how many there were.
    pub fn purge(&self, purge: &Purge) -> usize {
        let mut count = 0;
        for part in &self.0.parts {
            let mut part = lock(part);
            part.note(None);
            let slots: Vec<Slot> =
                part.entries.iter().filter(|(_, entry)| purge.is_for(entry)).map(|(slot, _)| slot).collect();
            let gone: Vec<_> = slots.into_iter().filter_map(|slot| part.remove(slot)).collect();
            drop(part);
            count += gone.len();
            self.was_purged(gone.len());
        }
        count
    }

    fn was_purged(&self, count: usize) {
        self.0.entries.fetch_sub(count, Relaxed);
        self.0.purged.fetch_add(count as u64, Relaxed);
    }

    /// How much there is.
    pub fn status(&self) -> Status {
        let Inner { bytes, bytes_max, entries, stored, evicted, purged, .. } = &*self.0;
        Status {
            bytes: bytes.load(Relaxed) as u64,
            bytes_max: bytes_max.load(Relaxed) as u64,
            entries: entries.load(Relaxed) as u64,
            stored: stored.load(Relaxed),
            evicted: evicted.load(Relaxed),
            purged: purged.load(Relaxed),
        }
    }

    /// Memory for a response that is going to be stored. `None` when as much is taken by such as may be.
    pub fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let mut reserved = Reserved { store: Arc::downgrade(&self.0), bytes: 0, is_stored: false };
        reserved.grow(bytes).then_some(reserved)
    }

    /// Lets entries go until there is no more than may be.
    fn make_room(&self) {
        let Inner { bytes, bytes_max, entries, entries_max, turn, parts, .. } = &*self.0;
        let is_full = || {
            bytes.load(Relaxed) > bytes_max.load(Relaxed) || entries.load(Relaxed) > entries_max.load(Relaxed)
        };
        // Twice around: what was used stays the first time, also where it is the only one of its part.
        let mut in_vain = 0;
        while is_full() && in_vain < 2 * parts.len() {
            let index = turn.fetch_add(1, Relaxed) % parts.len();
            let mut part = lock(&parts[index]);
            let gone = part.entries.next_to_go().and_then(|slot| part.remove(slot));
            drop(part);
            match gone {
                Some(_) => {
                    entries.fetch_sub(1, Relaxed);
                    self.0.evicted.fetch_add(1, Relaxed);
                    in_vain = 0;
                }
                None => in_vain += 1,
            }
        }
    }

    fn part(&self, uri: &[u8]) -> MutexGuard<'_, Part> {
        // The remainder is smaller than a usize.
        lock(&self.0.parts[(self.print(uri) % PARTS as u64) as usize])
    }

    fn print(&self, uri: &[u8]) -> u64 {
        self.0.hasher.hash_one(uri)
    }
}

impl Part {
    /// Something is invalid from now on.
    fn note(&mut self, print: Option<u64>) {
        self.generation += 1;
        self.lately.push_back(print);
        if self.lately.len() > LATELY_MAX {
            self.lately.pop_front();
        }
    }

    /// Whether nothing with this hash was made invalid since. What is not known any longer may have been.
    fn is_valid_since(&self, generation: u64, print: u64) -> bool {
        let since = usize::try_from(self.generation - generation).unwrap_or(usize::MAX);
        let is_other = |other: &Option<u64>| other.is_some_and(|other| other != print);
        since <= self.lately.len() && self.lately.iter().rev().take(since).all(is_other)
    }

    fn remove(&mut self, slot: Slot) -> Option<Arc<Entry>> {
        let entry = self.entries.remove(slot)?;
        let uri = &entry.uri()[..];
        if let Some(slots) = self.found.get_mut(uri) {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.found.remove(uri);
            }
        }
        Some(entry)
    }
}

impl Purge {
    fn is_for(&self, entry: &Entry) -> bool {
        let holds = |wanted: &Option<Vec<u8>>, is: &dyn Fn(&[u8]) -> bool| wanted.as_deref().is_none_or(is);
        self.service.as_deref().is_none_or(|service| *entry.place().service == *service)
            && holds(&self.uri, &|uri| meant(entry, uri) == uri)
            && holds(&self.prefix, &|prefix| meant(entry, prefix).starts_with(prefix))
            && holds(&self.tag, &|tag| entry.has_tag(tag))
    }
}

/// The URI of a response, or its path and query where no more is asked about.
fn meant<'e>(entry: &'e Entry, asked: &[u8]) -> &'e [u8] {
    let start = path_start(entry.uri()).filter(|_| asked.starts_with(b"/")).unwrap_or(0);
    &entry.uri()[start..]
}

/// Nothing that is done under the lock can panic half way.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of the store, until this is dropped.
pub struct Reserved {
    /// Not the store itself, which would keep itself by what it keeps.
    store: Weak<Inner>,
    bytes: usize,
    /// It is of a response that is stored, and not on its way.
    is_stored: bool,
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserved({})", self.bytes)
    }
}

impl Reserved {
    /// So much more. False when as much is taken by what is being stored as may be: then it is as it was.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Some(store) = self.store.upgrade().map(Store) else { return false };
        let Inner { reserved, bytes_max, bytes: all, .. } = &*store.0;
        let before = reserved.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > bytes_max.load(Relaxed) / RESERVED_PART {
            reserved.fetch_sub(bytes, Relaxed);
            return false;
        }
        all.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        store.make_room();
        // What is left is being sent, and cannot go.
        if all.load(Relaxed) > bytes_max.load(Relaxed) {
            self.shrink(bytes);
            return false;
        }
        true
    }

    fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
        let Some(store) = self.store.upgrade() else { return };
        store.bytes.fetch_sub(bytes, Relaxed);
        if !self.is_stored {
            store.reserved.fetch_sub(bytes, Relaxed);
        }
    }

    /// It is exactly so much, and of a response that is there as a whole. False where there is no room for it.
    pub fn settle(&mut self, bytes: usize) -> bool {
        match bytes.checked_sub(self.bytes) {
            Some(more) => {
                if !self.grow(more) {
                    return false;
                }
            }
            None => self.shrink(self.bytes - bytes),
        }
        self.is_stored = true;
        if let Some(store) = self.store.upgrade() {
            store.reserved.fetch_sub(self.bytes, Relaxed);
        }
        true
    }

    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{Asked, Making, Moment, Naming, Settings, fields::tests::with, judge::judge};

    fn place(service: &str) -> Place {
        Place { service: service.into(), side: Side::Gateway, route: 0 }
    }

    /// A response with these fields, to a request with those.
    fn entry(
        store: &Store,
        uri: &str,
        service: &str,
        response: &str,
        request: &str,
        len: usize,
    ) -> Option<Arc<Entry>> {
        let response = format!("Cache-Control: max-age=60\n{response}");
        let naming = Naming { tags: Some("cache-tag".into()), ..Naming::default() };
        let making = with(&response, |fields| {
            let judged =
                judge(&Asked::default(), 200, fields, &Settings::default(), 0, Moment::default()).unwrap();
            with(request, |asked| Making::new(b"HTTP/1.1 200 OK", fields, |_| false, judged, asked, &naming))
        });
        let size = making.size(len, uri.as_bytes());
        let mut reserved = store.reserve(size)?;
        let is_settled = reserved.settle(size);
        let body = Bytes::from(vec![7; len]);
        let uri: Arc<[u8]> = uri.as_bytes().into();
        is_settled.then(|| Arc::new(making.with_body(body, uri, place(service), reserved)))
    }

    fn put(store: &Store, uri: &str, response: &str, request: &str) -> bool {
        let generation = store.generation(uri.as_bytes());
        entry(store, uri, "api", response, request, 100).is_some_and(|entry| store.put(entry, generation))
    }

    fn found(store: &Store, uri: &str, request: &str) -> Looked {
        with(request, |fields| store.look(uri.as_bytes(), &place("api"), fields))
    }

    fn is_found(store: &Store, uri: &str) -> bool {
        matches!(found(store, uri, ""), Looked::Found(_))
    }

    fn roomy() -> Store {
        let store = Store::default();
        store.limit(1 << 20, 1000);
        store
    }

    #[test]
    fn a_response_is_found_by_those_it_is_for() {
        let store = roomy();
        assert!(matches!(found(&store, "http://a/x", ""), Looked::Nothing));
        assert!(put(&store, "http://a/x", "Vary: foo", "foo: 1"));
        assert!(put(&store, "http://a/x", "Vary: foo", "foo: 2"));
        assert!(matches!(found(&store, "http://a/x", "foo: 1"), Looked::Found(_)));
        assert!(matches!(found(&store, "http://a/x", "foo: 3"), Looked::Variants));
        assert!(put(&store, "http://a/x", "Vary: foo", "foo: 1"), "in place of the other one");
        assert_eq!(store.status().entries, 2);
        for number in 0..200 {
            assert!(put(&store, "http://a/x", "Vary: foo", &format!("foo: {number}")));
        }
        assert_eq!(store.status().entries, VARIANTS_MAX as u64);
        let other = with("foo: 199", |fields| store.look(b"http://a/x", &place("web"), fields));
        assert!(matches!(other, Looked::Variants));
        for side in [Side::Operators, Side::Service("api".into())] {
            let place = Place { side, ..place("api") };
            let other = with("foo: 199", |fields| store.look(b"http://a/x", &place, fields));
            assert!(matches!(other, Looked::Variants), "{place:?}");
        }
    }

    #[test]
    fn what_is_purged_is_gone_and_nothing_else() {
        let filled = || {
            let store = roomy();
            for (uri, tags) in [("http://a/x", "t1, t2"), ("http://a/xy", "t2 t3"), ("http://b/x", "t11")] {
                assert!(put(&store, uri, &format!("Cache-Tag: {tags}"), ""));
            }
            store
        };
        let some = |text: &str| Some(text.as_bytes().to_vec());
        let none = Purge::default();
        for (purge, left) in [
            (Purge { tag: some("t1"), ..none.clone() }, &["http://a/xy", "http://b/x"][..]),
            (Purge { tag: some("t2"), ..none.clone() }, &["http://b/x"]),
            (Purge { tag: some("t"), ..none.clone() }, &["http://a/x", "http://a/xy", "http://b/x"]),
            (Purge { uri: some("http://a/x"), ..none.clone() }, &["http://a/xy", "http://b/x"]),
            (Purge { prefix: some("http://a/x"), ..none.clone() }, &["http://b/x"]),
            (Purge { prefix: some("/xy"), ..none.clone() }, &["http://a/x", "http://b/x"]),
            (Purge { uri: some("/x"), ..none.clone() }, &["http://a/xy"]),
            (
                Purge { service: Some("api".into()), tag: some("t3"), ..none.clone() },
                &["http://a/x", "http://b/x"],
            ),
            (
                Purge { service: Some("web".into()), ..none.clone() },
                &["http://a/x", "http://a/xy", "http://b/x"],
            ),
            (none.clone(), &[]),
        ] {
            let store = filled();
            assert_eq!(store.purge(&purge), 3 - left.len(), "{purge:?}");
            for uri in ["http://a/x", "http://a/xy", "http://b/x"] {
                assert_eq!(is_found(&store, uri), left.contains(&uri), "{purge:?} {uri}");
            }
            assert_eq!(store.status().entries, left.len() as u64);
        }
    }

    #[test]
    fn what_was_asked_for_before_a_purge_is_not_stored_after_it() {
        let store = roomy();
        for forget in [
            |store: &Store| _ = store.purge(&Purge::default()),
            |store: &Store| store.invalidate(b"http://a/x"),
        ] {
            let generation = store.generation(b"http://a/x");
            let entry = entry(&store, "http://a/x", "api", "", "", 10).unwrap();
            forget(&store);
            assert!(!store.put(entry, generation) && !is_found(&store, "http://a/x"));
        }
        // What was changed elsewhere does not count, as long as it is known what that was.
        for (changed, is_stored) in [(LATELY_MAX, true), (LATELY_MAX + 1, false)] {
            let generation = store.generation(b"http://a/x");
            let elsewhere = (0..).map(|number| format!("http://b/{number}"));
            let part = |uri: &str| store.print(uri.as_bytes()) % PARTS as u64;
            let beside = elsewhere.filter(|uri| part(uri) == part("http://a/x"));
            beside.take(changed).for_each(|uri| store.invalidate(uri.as_bytes()));
            let entry = entry(&store, "http://a/x", "api", "", "", 10).unwrap();
            assert_eq!(store.put(entry, generation), is_stored, "{changed}");
            store.invalidate(b"http://a/x");
        }
        assert_eq!(store.status().bytes, 0);
    }

    #[test]
    fn what_is_used_stays_when_room_is_made() {
        let store = Store::default();
        store.limit(40_000, 1000);
        assert!(put(&store, "http://a/often", "", ""));
        for number in 0..1000 {
            assert!(is_found(&store, "http://a/often"), "{number}");
            assert!(put(&store, &format!("http://a/{number}"), "", ""));
            assert!(store.status().bytes <= 40_000);
        }
        assert!(store.status().evicted > 900);
        store.limit(40_000, 5);
        assert_eq!(store.status().entries, 5);
        store.limit(0, 0);
        let Status { bytes, entries, .. } = store.status();
        assert_eq!((bytes, entries), (0, 0));
        assert!(!put(&store, "http://a/x", "", ""));
    }

    #[test]
    fn what_is_still_sent_counts() {
        let store = Store::default();
        store.limit(10_000, 1000);
        let mut sent = Vec::new();
        for number in 0..100 {
            let uri = format!("http://a/{number}");
            put(&store, &uri, "", "");
            if let Looked::Found(entry) = found(&store, &uri, "") {
                sent.push(entry);
            }
            assert!(store.status().bytes <= 10_000);
        }
        assert!(sent.len() < 20, "no more than there is room for");
        sent.clear();
        assert!(put(&store, "http://a/x", "", ""));
    }

    #[test]
    fn what_is_being_stored_takes_half_at_most() {
        let store = Store::default();
        store.limit(10_000, 1000);
        let mut first = store.reserve(3_000).unwrap();
        assert!(first.grow(1_500) && !first.grow(1_000));
        assert!(store.reserve(501).is_none());
        assert_eq!(store.status().bytes, 4_500);
        assert!(first.settle(4_000));
        assert!(store.reserve(5_000).is_some(), "one that is there as a whole is not on its way");
        drop(first);
        assert_eq!(store.status().bytes, 0);
    }

    #[test]
    fn threads_share_it() {
        let store = roomy();
        store.limit(50_000, 60);
        thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for number in 0..500 {
                        put(store, &format!("http://a/{}", number % 90), "", "");
                        is_found(store, &format!("http://a/{}", (number + thread) % 90));
                        if number % 50 == 0 {
                            store.purge(&Purge { prefix: Some(b"http://a/1".into()), ..Purge::default() });
                        }
                        store.invalidate(format!("http://a/{}", (number * 7) % 90).as_bytes());
                    }
                });
            }
        });
        let there = (0..90).filter(|number| is_found(&store, &format!("http://a/{number}"))).count();
        assert_eq!(store.status().entries, there as u64);
        store.purge(&Purge::default());
        assert_eq!((store.status().bytes, store.status().entries), (0, 0));
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_there_is(steps in prop::collection::vec((0u8..5, 0usize..12, 0usize..3_000), 1..80)) {
            let store = Store::default();
            store.limit(12_000, 6);
            for (step, which, len) in steps {
                let uri = format!("http://a/{which}");
                match step {
                    0 | 1 => {
                        let generation = store.generation(uri.as_bytes());
                        if let Some(entry) = entry(&store, &uri, "api", "", "", len) {
                            store.put(entry, generation);
                        }
                    }
                    2 => drop(found(&store, &uri, "")),
                    3 => store.invalidate(uri.as_bytes()),
                    _ => {
                        if let Looked::Found(entry) = found(&store, &uri, "") {
                            store.remove(&entry);
                        }
                    }
                }
                let Status { bytes, entries, .. } = store.status();
                prop_assert!(bytes <= 12_000 && entries <= 6);
                let there = (0..12).filter(|number| is_found(&store, &format!("http://a/{number}"))).count();
                prop_assert_eq!(entries, there as u64);
            }
            store.purge(&Purge::default());
            prop_assert_eq!(store.status().bytes, 0);
        }
    }
}

//! What is known of the services' ways out, for all threads together: a name is asked on one thread and
//! connected to on another.
//!
//! Locks are held for a look into a small map, once for each name and each connection; bytes are counted
//! without one.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use watt_api::mesh::{Outgoing, OutgoingCounts};

use super::{answers::Answers, tally::Tally};
use crate::{
    dns::Name,
    refusals::{Refusal, Refusals},
};

/// How many destinations of one service are counted apart. The rest is counted together.
const DESTINATIONS_MAX: usize = 64;
/// How many destinations the daemon is told of at a time: half a megabyte, of the eight that may wait for it.
const TOLD_MAX: usize = 2048;
/// How often the names of a list are looked up because of connections that were refused.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);

/// All services.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    services: Mutex<BTreeMap<String, Service>>,
    /// The service that was told last, from which the next round goes on.
    told_last: Mutex<String>,
}

/// One service.
#[derive(Debug, Default)]
struct Service {
    answers: Answers,
    destinations: BTreeMap<String, Arc<Tally>>,
    others: Arc<Tally>,
    told: Option<Vec<Outgoing>>,
    refusals: Refusals,
    to_tell: Vec<EgressRefusal>,
    looked_up: Option<Instant>,
}

/// Something that a service's list does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EgressRefusal {
    /// The service.
    pub(crate) caller: String,
    /// The address and port, or the name.
    pub(crate) target: String,
    /// Why not, in words.
    pub(crate) reason: String,
    /// What the list would need to have.
    pub(crate) allow: Option<String>,
}

impl Outside {
    /// Forgets services that are none any longer.
    pub(crate) fn retain(&self, is_service: impl Fn(&str) -> bool) {
        self.services().retain(|name, _| is_service(name));
    }

    /// The service was told that the host of this name has these addresses, for so many seconds.
    pub(crate) fn learn(&self, service: &str, name: &Name, addresses: &[(Ipv4Addr, u32)]) {
        if addresses.is_empty() {
            return;
        }
        self.with(service, |service| {
            for (address, ttl) in addresses {
                service.answers.add(name, *address, Duration::from_secs(u64::from(*ttl)));
            }
        });
    }

    /// The names under which the service knows this address. Not copied: others wait meanwhile.
    pub(crate) fn names_of(&self, service: &str, address: Ipv4Addr) -> Vec<Arc<Name>> {
        let services = self.services();
        services
            .get(service)
            .map(|service| service.answers.names_of(address).cloned().collect())
            .unwrap_or_default()
    }

    /// Where to count what the service does at this destination.
    pub(crate) fn tally(&self, service: &str, destination: &str) -> Arc<Tally> {
        self.with(service, |service| service.tally(destination))
    }

    /// Counts a refusal, and keeps it to be told unless it was told lately.
    pub(crate) fn refuse(&self, destination: &str, refusal: EgressRefusal) {
        let EgressRefusal { caller, target, reason, allow } = refusal.clone();
        self.with(&caller, |service| {
            service.tally(destination).refused();
            let told = Refusal { caller: Some(caller.clone()), target, reason };
            if service.refusals.is_news(&told) {
                let Refusal { target, reason, .. } = &told;
                tracing::info!(caller, target, reason, allow, "no way out");
                service.to_tell.push(refusal);
            }
        });
    }

    /// Whether it is time to look up the names of this service's list. Says so once in a while.
    pub(crate) fn may_look_up(&self, service: &str) -> bool {
        let now = Instant::now();
        self.with(service, |service| {
            let due = service.looked_up.is_none_or(|at| now.duration_since(at) >= LOOK_UP_EVERY);
            if due {
                service.looked_up = Some(now);
            }
            due
        })
    }

    /// A daemon has come that was told nothing.
    pub(crate) fn hello(&self) {
        self.services().values_mut().for_each(|service| service.told = None);
    }

    /// Takes what the daemon was not told yet. Of refusals the limit on news is the bound.
    pub(crate) fn refusals(&self) -> Vec<EgressRefusal> {
        self.services().values_mut().flat_map(|service| std::mem::take(&mut service.to_tell)).collect()
    }

    /// What was counted, of services where the daemon was told something else. Of very many the rest is for
    /// the next time.
    pub(crate) fn counts(&self) -> Vec<(String, Vec<Outgoing>)> {
        let mut services = self.services();
        let mut told_last = self.told_last.lock().unwrap_or_else(PoisonError::into_inner);
        let after = (Bound::Excluded(told_last.clone()), Bound::Unbounded);
        let upto = (Bound::Unbounded, Bound::Included(told_last.clone()));
        let mut news = Vec::new();
        let mut destinations = 0;
        for range in [after, upto] {
            for (name, service) in services.range_mut::<String, _>(range) {
                if destinations >= TOLD_MAX {
                    return news;
                }
                let Some(counted) = service.news() else { continue };
                destinations += counted.len();
                told_last.clone_from(name);
                news.push((name.clone(), counted));
            }
        }
        news
    }

    fn with<T>(&self, service: &str, act: impl FnOnce(&mut Service) -> T) -> T {
        act(self.services().entry(service.to_owned()).or_default())
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, Service>> {
        // What a thread left behind that panicked is counts and names, each whole by itself.
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    fn tally(&mut self, destination: &str) -> Arc<Tally> {
        if let Some(known) = self.destinations.get(destination) {
            return Arc::clone(known);
        }
        if self.destinations.len() >= DESTINATIONS_MAX && !self.make_room() {
            return Arc::clone(&self.others);
        }
        let tally = Arc::<Tally>::default();
        self.destinations.insert(destination.to_owned(), Arc::clone(&tally));
        tally
    }

    /// Moves one destination to the others: one that nobody uses now, rather one where no connection was ever
    /// made, and of those the one that was tried the longest time ago.
    fn make_room(&mut self) -> bool {
        let unused = self.destinations.iter().filter(|(_, tally)| Arc::strong_count(tally) == 1);
        let last = |tally: &Tally| {
            let counts = tally.read();
            (counts.connections > 0, counts.last_ms)
        };
        let Some(name) = unused.min_by_key(|(_, tally)| last(tally)).map(|(name, _)| name.clone()) else {
            return false;
        };
        if let Some(tally) = self.destinations.remove(&name) {
            self.others.add(&tally);
        }
        true
    }

    fn news(&mut self) -> Option<Vec<Outgoing>> {
        if self.is_told() {
            return None;
        }
        let now: Vec<Outgoing> =
            self.counted().map(|(to, counts)| Outgoing { to: to.to_owned(), counts }).collect();
        self.told = Some(now.clone());
        Some(now)
    }

    /// Without a copy of any name: most services do nothing in most seconds.
    fn is_told(&self) -> bool {
        let told = self.told.iter().flatten().map(|told| (&*told.to, told.counts));
        self.counted().eq(told)
    }

    fn counted(&self) -> impl Iterator<Item = (&str, OutgoingCounts)> {
        let apart = self.destinations.iter().map(|(to, tally)| (&**to, tally.read()));
        apart.chain(Some(("", self.others.read())).filter(|(_, others)| others.last_ms > 0))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::atomic::Ordering};

    use super::{super::tally::Open, *};

    fn counts(outside: &Outside) -> BTreeMap<String, OutgoingCounts> {
        let all = outside.counts().into_iter().flat_map(|(_, destinations)| destinations);
        all.map(|Outgoing { to, counts }| (to, counts)).collect()
    }

    fn refusal(target: &str) -> EgressRefusal {
        EgressRefusal {
            caller: "api".into(),
            target: target.into(),
            reason: "not allowed".into(),
            allow: None,
        }
    }

    #[test]
    fn what_happens_at_a_destination_is_counted() {
        let outside = Outside::default();
        assert_eq!(outside.counts(), []);
        let tally = outside.tally("api", "db:1");
        let open = tally.connected(Duration::from_micros(30));
        drop(outside.tally("api", "db:1").connected(Duration::from_micros(10)));
        open.traffic().there.fetch_add(5, Ordering::Relaxed);
        open.traffic().back.fetch_add(7, Ordering::Relaxed);
        tally.failed();
        let seen = counts(&outside)["db:1"];
        assert!(seen.last_ms > 0);
        let expected = OutgoingCounts {
            connections: 2,
            open: 1,
            failed: 1,
            refused: 0,
            sent: 5,
            received: 7,
            connect_us_total: 40,
            connect_us_max: 30,
            last_ms: seen.last_ms,
        };
        assert_eq!(seen, expected);
        assert_eq!(outside.counts(), [], "told once");
        drop(open);
        assert_eq!(counts(&outside)["db:1"].open, 0);
        outside.hello();
        assert_eq!(counts(&outside)["db:1"].open, 0, "a new daemon is told again");
    }

    #[test]
    fn a_scan_neither_grows_the_list_nor_hides_what_is_used() {
        let outside = Outside::default();
        drop(outside.tally("api", "used").connected(Duration::ZERO));
        let _open = outside.tally("api", "open").connected(Duration::ZERO);
        for number in 0..10 * DESTINATIONS_MAX {
            let target = format!("192.0.2.1:{number}");
            outside.refuse(&target, refusal(&target));
        }
        let counts = counts(&outside);
        assert_eq!(counts.len(), DESTINATIONS_MAX + 1);
        assert_eq!((counts["used"].connections, counts["open"].open), (1, 1));
        let refused: u64 = counts.values().map(|outgoing| outgoing.refused).sum();
        assert_eq!(refused, 10 * DESTINATIONS_MAX as u64);
        assert!(outside.refusals().len() <= DESTINATIONS_MAX);
    }

    #[test]
    fn more_open_destinations_than_are_counted_apart_are_counted_together() {
        let outside = Outside::default();
        let open: Vec<Open> = (0..DESTINATIONS_MAX + 3)
            .map(|number| outside.tally("api", &number.to_string()).connected(Duration::ZERO))
            .collect();
        assert_eq!(counts(&outside)[""].open, 3);
        drop(open);
        assert_eq!(counts(&outside)[""].open, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_once_in_a_while_and_of_each_service() {
        let outside = Outside::default();
        for _ in 0..3 {
            outside.refuse("a:1", refusal("a:1"));
        }
        outside.refuse("a:1", EgressRefusal { caller: "web".into(), ..refusal("a:1") });
        let told: Vec<String> = outside.refusals().into_iter().map(|refusal| refusal.caller).collect();
        assert_eq!(told, ["api", "web"]);
        assert_eq!(outside.refusals(), []);
        tokio::time::advance(Duration::from_secs(60)).await;
        outside.refuse("a:1", refusal("a:1"));
        assert_eq!(outside.refusals().len(), 1);
    }

    #[test]
    fn of_very_many_services_all_are_told_in_turn() {
        let outside = Outside::default();
        let count = 2 * TOLD_MAX + 1;
        let act = || {
            for number in 0..count {
                outside.tally(&number.to_string(), "db:1").failed();
            }
        };
        let mut told = BTreeSet::new();
        for _ in 0..3 {
            act();
            let now: BTreeSet<String> = outside.counts().into_iter().map(|(service, _)| service).collect();
            assert_eq!(now.len(), TOLD_MAX);
            told.extend(now);
        }
        assert_eq!(told.len(), count, "also those that had news each time");
        assert_eq!((0..3).map(|_| outside.counts().len()).sum::<usize>(), count - TOLD_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_up_once_in_a_while() {
        let outside = Outside::default();
        assert_eq!([(); 2].map(|()| outside.may_look_up("api")), [true, false]);
        tokio::time::advance(LOOK_UP_EVERY).await;
        assert!(outside.may_look_up("api"));
    }

    #[test]
    fn services_that_are_gone_are_forgotten() {
        let outside = Outside::default();
        let name = Name::new("example.org").unwrap();
        let address = Ipv4Addr::new(192, 0, 2, 1);
        outside.learn("api", &name, &[(address, 60)]);
        assert_eq!(outside.names_of("api", address), [Arc::new(name)]);
        assert_eq!(outside.names_of("web", address), [], "another service was told nothing");
        outside.retain(|_| false);
        assert_eq!(outside.names_of("api", address), []);
    }
}

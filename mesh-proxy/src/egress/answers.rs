//! Which names a service asked for, and what it was told: by that, a connection to a bare address has a name.
//!
//! An answer counts for as long as it says, but for [`KEPT_MIN`] at least: programs keep addresses longer
//! than they should, and an address that just expired is hardly anybody else's yet.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::dns::Name;

/// The floor under a TTL. Java keeps addresses for 30 s by default (`networkaddress.cache.ttl`), connection
/// pools longer.
const KEPT_MIN: Duration = Duration::from_secs(300);
/// The ceiling, against answers that would be kept for 68 years (RFC 2181 §8).
const KEPT_MAX: Duration = Duration::from_secs(24 * 3600);
/// How many pairs of name and address are kept for one service.
const PAIRS_MAX: usize = 4096;
/// How many of these one address may have. All are looked at for each connection there, while the proxy's other threads wait
/// to look at their own.
const NAMES_MAX: usize = 32;

/// The answers that one service got.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    known: HashMap<Ipv4Addr, Vec<Known>>,
    pairs: usize,
}

/// A name of an address.
#[derive(Debug)]
struct Known {
    name: Arc<Name>,
    until: Instant,
}

impl Answers {
    /// The service was told that the host of this name has this address.
    pub(crate) fn add(&mut self, name: &Name, address: Ipv4Addr, ttl: Duration) {
        if self.pairs >= PAIRS_MAX {
            self.make_room();
        }
        let until = Instant::now() + ttl.clamp(KEPT_MIN, KEPT_MAX);
        let names = self.known.entry(address).or_default();
        if let Some(known) = names.iter_mut().find(|known| *known.name == *name) {
            // Another answer, which is shorter, takes nothing away.
            known.until = until.max(known.until);
            return;
        }
        let new = Known { name: Arc::new(name.clone()), until };
        if names.len() < NAMES_MAX {
            names.push(new);
            self.pairs += 1;
        } else if let Some(first) = names.iter_mut().min_by_key(|known| known.until) {
            *first = new;
        }
    }

    /// The names that led to this address, as far as that still counts.
    pub(crate) fn names_of(&self, address: Ipv4Addr) -> impl Iterator<Item = &Arc<Name>> {
        let now = Instant::now();
        let names = self.known.get(&address).into_iter().flatten();
        names.filter(move |known| known.until > now).map(|known| &known.name)
    }

    /// Drops what is over, or the quarter that would be over first.
    fn make_room(&mut self) {
        let now = Instant::now();
        let mut ends: Vec<Instant> = self.known.values().flatten().map(|known| known.until).collect();
        let quarter = PAIRS_MAX / 4;
        let limit = if ends.len() > quarter { *ends.select_nth_unstable(quarter).1 } else { now };
        let limit = limit.max(now);
        self.known.retain(|_, names| {
            names.retain(|known| known.until > limit);
            !names.is_empty()
        });
        self.pairs = self.known.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn names(answers: &Answers) -> Vec<String> {
        let mut names: Vec<String> = answers.names_of(ADDRESS).map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_as_long_as_it_says_within_reason() {
        let mut answers = Answers::default();
        answers.add(&name("short.org"), ADDRESS, Duration::ZERO);
        answers.add(&name("long.org"), ADDRESS, Duration::from_secs(1000));
        answers.add(&name("ever.org"), ADDRESS, Duration::from_secs(u64::from(u32::MAX)));
        assert_eq!(names(&answers), ["ever.org", "long.org", "short.org"]);
        assert_eq!(answers.names_of(Ipv4Addr::new(192, 0, 2, 2)).count(), 0);
        tokio::time::advance(KEPT_MIN).await;
        assert_eq!(names(&answers), ["ever.org", "long.org"]);
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert_eq!(names(&answers), ["ever.org"]);
        tokio::time::advance(KEPT_MAX).await;
        assert_eq!(names(&answers), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn asking_again_prolongs_and_never_shortens() {
        let mut answers = Answers::default();
        answers.add(&name("a.org"), ADDRESS, Duration::from_secs(3000));
        answers.add(&name("a.org"), ADDRESS, Duration::ZERO);
        tokio::time::advance(Duration::from_secs(2999)).await;
        assert_eq!(names(&answers), ["a.org"]);
        answers.add(&name("a.org"), ADDRESS, Duration::ZERO);
        tokio::time::advance(KEPT_MIN - Duration::from_secs(1)).await;
        assert_eq!(names(&answers), ["a.org"]);
        assert_eq!(answers.pairs, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_and_the_newest_are_kept() {
        let mut answers = Answers::default();
        for number in 0..3 * PAIRS_MAX {
            answers.add(&name(&format!("n{number}.org")), Ipv4Addr::from(number as u32), Duration::ZERO);
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(answers.pairs <= PAIRS_MAX);
        }
        let known = answers.known.values().map(Vec::len).sum::<usize>();
        assert_eq!(answers.pairs, known);
        assert!(known > PAIRS_MAX / 2);
        let last = Ipv4Addr::from(3 * PAIRS_MAX as u32 - 1);
        assert_eq!(answers.names_of(last).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_in_one_moment_is_bounded_as_well() {
        let mut answers = Answers::default();
        for number in 0..2 * PAIRS_MAX {
            let address = Ipv4Addr::from(number as u32 / 4);
            answers.add(&name(&format!("n{number}.org")), address, Duration::ZERO);
        }
        assert!(answers.pairs <= PAIRS_MAX);
        assert!(answers.names_of(Ipv4Addr::from(2 * PAIRS_MAX as u32 / 4 - 1)).count() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_has_no_more_names_than_can_be_looked_at_for_each_connection() {
        let mut answers = Answers::default();
        answers.add(&name("kept.org"), ADDRESS, Duration::from_secs(3000));
        for number in 0..PAIRS_MAX {
            answers.add(&name(&format!("n{number}.org")), ADDRESS, Duration::ZERO);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let known = names(&answers);
        assert_eq!((known.len(), answers.pairs), (NAMES_MAX, NAMES_MAX));
        for still in ["kept.org".to_owned(), format!("n{}.org", PAIRS_MAX - 1)] {
            assert!(known.contains(&still), "{still} is not in {known:?}");
        }
    }
}

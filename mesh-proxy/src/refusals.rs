//! Tells the daemon what was refused, without letting a service that tries in a loop fill the event stream.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// How long the same refusal is not told again.
const QUIET: Duration = Duration::from_secs(10);
/// How many different ones are told in that time.
const REMEMBERED_MAX: usize = 64;

/// A call or connection that was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    /// The calling service, when known.
    pub(crate) caller: Option<String>,
    /// What it wanted to reach.
    pub(crate) target: String,
    /// Why not, in words.
    pub(crate) reason: String,
}

/// The refusals of one thread that were told lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: RefCell<BTreeMap<Refusal, Instant>>,
}

impl Refusals {
    /// Whether this one is to be told now.
    pub(crate) fn is_news(&self, refusal: &Refusal) -> bool {
        let now = Instant::now();
        let mut told = self.told.borrow_mut();
        told.retain(|_, at| now.duration_since(*at) < QUIET);
        if told.len() >= REMEMBERED_MAX || told.contains_key(refusal) {
            return false;
        }
        told.insert(refusal.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(target: u32) -> Refusal {
        Refusal { caller: None, target: target.to_string(), reason: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_is_told_once_in_a_while() {
        let refusals = Refusals::default();
        assert!(refusals.is_news(&refusal(1)));
        assert!(!refusals.is_news(&refusal(1)));
        assert!(refusals.is_news(&refusal(2)));
        tokio::time::advance(QUIET).await;
        assert!(refusals.is_news(&refusal(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_scan_is_bounded() {
        let refusals = Refusals::default();
        assert_eq!((0..10_000).filter(|target| refusals.is_news(&refusal(*target))).count(), REMEMBERED_MAX);
    }
}

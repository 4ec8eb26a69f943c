//! How often requests may come: asks the ledgers, and says how it stands.

use std::{cell::OnceCell, collections::HashSet, num::NonZeroU64, sync::Arc, time::Duration};

use tokio::time::Instant;
use watt_api::mesh::{self, CountedBy, Snapshot};
use watt_policies::{
    address,
    ledger::{Key, Ledger, Ledgers},
    rate::{Outcome, Rate},
};

use super::{Asking, Passed};
use crate::{
    auth::Identity,
    http::Side,
    respond::{Failure, Reason},
};

/// What is counted, for all threads of the proxy.
#[derive(Debug)]
pub(crate) struct Counted {
    ledgers: Ledgers,
    since: Instant,
}

impl Default for Counted {
    fn default() -> Self {
        Counted { ledgers: Ledgers::default(), since: Instant::now() }
    }
}

impl Counted {
    /// Forgets what was counted for limits that there are no more.
    pub(crate) fn keep(&self, snapshot: &Snapshot) {
        let of_listeners = snapshot.listeners.values().filter_map(|one| one.routes.as_ref()).flatten();
        let of_routes = snapshot.routes.iter().chain(of_listeners).map(|route| &route.guard);
        let guards = of_routes.chain(snapshot.services.values().map(|service| &*service.guard));
        let limits: HashSet<&str> = guards.flat_map(|guard| &guard.limits).map(|limit| &*limit.id).collect();
        self.ledgers.keep(|limit| limits.contains(limit));
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[derive(Debug)]
pub(super) struct Limit {
    id: Box<str>,
    /// Where it counts. Looked for with the first request, and the one of the limit of this name before, if there was one.
    ledger: OnceCell<Arc<Ledger>>,
    name: Box<str>,
    rate: Rate,
    header: Option<Box<[u8]>>,
    pub(super) by: CountedBy,
    /// For `RateLimit-Policy`.
    policy: Box<str>,
}

/// Counts a request at all of these, or at none if one of them has had enough.
pub(super) fn count<'l>(
    limits: impl Iterator<Item = &'l Limit>,
    asking: &Asking<'_>,
    passed: &mut Passed,
) -> Result<(), Failure> {
    let mut limits = limits.peekable();
    if limits.peek().is_none() {
        return Ok(());
    }
    let counted = asking.thread.counted();
    let now_ns = counted.now_ns();
    let mut policies = b"RateLimit-Policy: ".to_vec();
    let mut states = b"RateLimit: ".to_vec();
    let mut taken: Vec<(&Limit, Key<'_>)> = Vec::new();
    let mut refused = None;
    let known = passed.known.take();
    for limit in limits {
        let key = limit.key(asking, known.as_ref().map(|known| &*known.identity));
        let outcome = limit.ledger(counted).take(key, &limit.rate, now_ns);
        if policies.last() != Some(&b' ') {
            policies.extend_from_slice(b", ");
            states.extend_from_slice(b", ");
        }
        policies.extend_from_slice(limit.policy.as_bytes());
        let (left, full_after) = match outcome {
            Outcome::Admitted { left, full_after } => {
                taken.push((limit, key));
                (left.min(limit.rate.requests()), full_after)
            }
            Outcome::Refused { retry_after, full_after } => {
                refused = Some((limit, retry_after));
                (0, full_after)
            }
        };
        states.extend_from_slice(format!("\"{}\";r={left};t={}", limit.name, seconds(full_after)).as_bytes());
        if refused.is_some() {
            break;
        }
    }
    for line in [policies, states] {
        passed.lines.extend_from_slice(&line);
        passed.lines.extend_from_slice(b"\r\n");
    }
    let Some((limit, retry_after)) = refused else {
        passed.known = known;
        return Ok(());
    };
    for (limit, key) in taken {
        limit.ledger(counted).give_back(key, &limit.rate);
    }
    let message = format!(
        "Too many requests: `{}` allows {} in {:?}.",
        limit.name,
        limit.rate.requests(),
        limit.rate.per()
    );
    Err(asking.deny(Reason::RateLimited, message).retry_after(Some(seconds(retry_after).max(1))))
}

/// Rounded up: who comes back exactly then must not be too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Limit {
    pub(super) fn new(limit: &mesh::RateLimit) -> Limit {
        let some = |number: u64| NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN);
        let per = Duration::from_millis(limit.per_ms);
        let window = match per.as_secs() {
            // The draft has whole seconds.
            0 => String::new(),
            seconds => format!(";w={seconds}"),
        };
        Limit {
            id: limit.id.as_str().into(),
            ledger: OnceCell::new(),
            name: limit.name.as_str().into(),
            rate: Rate::new(some(limit.requests), per, some(limit.burst)),
            header: limit.header.as_ref().map(|name| name.as_bytes().into()),
            by: limit.by,
            policy: format!("\"{}\";q={}{window}", limit.name, limit.requests).into(),
        }
    }

    fn ledger(&self, counted: &Counted) -> &Ledger {
        self.ledger.get_or_init(|| counted.ledgers.get(&self.id))
    }

    fn key<'k>(&self, asking: &Asking<'k>, identity: Option<&'k Identity>) -> Key<'k> {
        if let Some(value) = self.header.as_ref().and_then(|name| asking.header(name)) {
            return Key::Value(value);
        }
        if let (CountedBy::User, Some(identity)) = (self.by, identity) {
            return Key::User(&identity.name);
        }
        let caller = match &asking.client.side {
            Side::Gateway => None,
            // Whoever is no service may do to the application what he likes anyway.
            Side::Mesh { caller } => Some(caller.as_deref().unwrap_or_default()),
        };
        match (self.by, caller) {
            (CountedBy::Everyone, _) => Key::Everyone,
            (CountedBy::Address | CountedBy::Service | CountedBy::User, Some(caller)) => Key::Service(caller),
            // No service has such a name.
            (CountedBy::Service, None) => Key::Service("(gateway)"),
            (CountedBy::Address | CountedBy::User, None) => {
                asking.address().map_or(Key::Nowhere, |address| Key::Address(address::counted(address)))
            }
        }
    }
}

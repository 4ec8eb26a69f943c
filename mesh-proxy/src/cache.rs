//! The cache of responses: what the proxy's threads have in common of it, and what services and routes say of it.
//!
//! What is decided, and what is stored, is `watt_cache`'s; what becomes of a request that it is of use to is `http::cached`'s. The store is shared,
//! because each thread with one of its own would ask for everything as often as there are threads, and because a purge is one for all.

mod turns;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
    sync::Arc,
    time::SystemTime,
};

use tokio::time::Instant;
use watt_api::mesh::{self, Believed, CacheCookies, RouteCache, Snapshot};
use watt_cache::{Cookies, Moment, Naming, Place, Purge, Settings, Store};

pub(crate) use self::turns::{Lead, Turn, Turns, WAIT_MAX};
use crate::http::Side;

/// What the threads share.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) store: Store,
    /// Who gets what is not there.
    pub(crate) turns: Arc<Turns>,
    since: Instant,
}

impl Default for Cached {
    fn default() -> Self {
        Cached { store: Store::default(), turns: Arc::default(), since: Instant::now() }
    }
}

impl Cached {
    pub(crate) fn now(&self) -> Moment {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Moment {
            ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            unix_s: unix.as_secs(),
        }
    }

    /// Removes what is said. Returns how many responses there were.
    pub(crate) fn purge(&self, purge: mesh::CachePurge) -> u64 {
        let mesh::CachePurge { service, uri, prefix, tag } = purge;
        let bytes = |text: Option<String>| text.map(String::into_bytes);
        let purge = Purge { service, uri: bytes(uri), prefix: bytes(prefix), tag: bytes(tag) };
        self.store.purge(&purge) as u64
    }

    /// How much there is.
    pub(crate) fn status(&self) -> mesh::CacheStatus {
        let watt_cache::Status { bytes, bytes_max, entries, stored, evicted, purged } = self.store.status();
        mesh::CacheStatus { bytes, bytes_max, entries, stored, evicted, purged }
    }

    /// Keeps as much as a snapshot says, and nothing that was stored under other rules than hold now.
    pub(crate) fn renew(&self, before: &Snapshot, snapshot: &Snapshot) {
        let limits = snapshot.cache.unwrap_or_default();
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        self.store.limit(size(limits.bytes_max), size(limits.entries_max));
        let now = said(snapshot);
        for (name, before) in said(before) {
            if now.get(name) != Some(&before) {
                self.store.purge(&Purge { service: Some(name.to_owned()), ..Purge::default() });
            }
        }
    }
}

/// What is said of the cache for a service: by itself, and by the routes that lead there and say something, each with its host and path.
#[derive(Debug, Default, PartialEq)]
struct SaidOf<'s> {
    service: Option<&'s mesh::Cache>,
    routes: Vec<(Option<&'s str>, &'s str, &'s RouteCache)>,
}

/// The same for each service of which anything is said.
fn said(snapshot: &Snapshot) -> BTreeMap<&str, SaidOf<'_>> {
    let mut all: BTreeMap<&str, SaidOf<'_>> = BTreeMap::new();
    for (name, service) in &snapshot.services {
        if let Some(cache) = &service.cache {
            all.entry(name).or_default().service = Some(cache);
        }
    }
    for route in snapshot.all_routes() {
        let Some(cache) = &route.cache else { continue };
        let shares = route.split.iter().map(|share| share.service.as_str());
        for name in shares.chain([route.service.as_str()]) {
            let said = (route.host.as_deref(), route.path.as_str(), cache);
            all.entry(name).or_default().routes.push(said);
        }
    }
    all
}

/// Whether anything is stored.
pub(crate) fn is_used(snapshot: &Snapshot) -> bool {
    let is_on = |route: &mesh::Route| matches!(route.cache, Some(RouteCache::On(_)));
    snapshot.services.values().any(|service| service.cache.is_some()) || snapshot.all_routes().any(is_on)
}

/// What a service, or a route, says.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) settings: Settings,
    pub(crate) naming: Naming,
    /// HEAD is answered as well.
    pub(crate) head: bool,
    pub(crate) entry_max: usize,
    believes: Believed,
}

impl Rules {
    pub(crate) fn new(cache: &mesh::Cache) -> Rules {
        let mesh::Cache {
            head,
            entry_max,
            ttl_s,
            heuristic_percent,
            while_revalidate_s,
            if_error_s,
            vary,
            tags,
            cookies,
            believes,
        } = cache;
        Rules {
            settings: Settings {
                default_ttl_s: *ttl_s,
                heuristic_percent: u64::from(*heuristic_percent),
                while_revalidate_s: *while_revalidate_s,
                if_error_s: *if_error_s,
                cookies: match cookies {
                    CacheCookies::Refuse => Cookies::Refuse,
                    CacheCookies::Strip => Cookies::Strip,
                    CacheCookies::Keep => Cookies::Keep,
                },
            },
            naming: Naming {
                vary: vary.iter().map(|name| name.as_str().into()).collect(),
                tags: tags.as_deref().map(Box::from),
            },
            head: *head,
            entry_max: usize::try_from(*entry_max).unwrap_or(usize::MAX),
            believes: *believes,
        }
    }

    /// Whether what a client asks of the cache counts.
    pub(crate) fn believes(&self, side: &Side) -> bool {
        match (self.believes, side) {
            (Believed::Nobody, _) | (Believed::Services, Side::Gateway) => false,
            (Believed::Everybody, _) | (Believed::Services, Side::Mesh { .. }) => true,
        }
    }
}

/// What a route says.
#[derive(Debug)]
pub(crate) enum OfRoute {
    Off,
    On(Rc<Rules>),
}

impl OfRoute {
    pub(crate) fn new(cache: &RouteCache) -> OfRoute {
        match cache {
            RouteCache::Off => OfRoute::Off,
            RouteCache::On(cache) => OfRoute::On(Rc::new(Rules::new(cache))),
        }
    }
}

/// A number for what a route makes of requests before a service sees them, and for what it asks of them besides a path; 0 for nothing. Two routes
/// that differ in that may have different responses for one URI. It is the same in each life of the proxy, so that a reload changes it only where
/// that changes.
pub(crate) fn route_number(route: &mesh::Route) -> u64 {
    if route.rewrite.is_none() && route.request_headers.is_nothing() && route.conditions.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    let mesh::HeaderRules { remove, set, add } = &route.request_headers;
    (&route.path, &route.rewrite, remove, set, add, format!("{:?}", route.conditions)).hash(&mut hasher);
    hasher.finish().max(1)
}

/// A request that the cache may be of use to.
#[derive(Debug)]
pub(crate) struct Caching {
    pub(crate) rules: Rc<Rules>,
    pub(crate) uri: Vec<u8>,
    pub(crate) place: Place,
    /// What the client asks of the cache counts.
    pub(crate) is_believed: bool,
    /// It says who asks, in fields that are the operator's own.
    pub(crate) is_for_one: bool,
    /// It may be answered by what is stored, and stored itself. Otherwise it makes invalid what it changes, and that is all.
    pub(crate) stores: bool,
    /// It is the proxy's own, to have a fresh response.
    pub(crate) is_refresh: bool,
}

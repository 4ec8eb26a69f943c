//! Which responses are stored, as the proxy is told it.

use std::time::Duration;

use watt_api::mesh;
use watt_core::plan::{Cache, CacheCookies, CacheStore, Plan, RouteCache};

use super::traffic::believed;

/// How much; `None` where nothing is.
pub(super) fn limits(plan: &Plan) -> Option<mesh::CacheLimits> {
    let of_route = plan.all_routes().any(|route| matches!(route.cache, Some(RouteCache::On(_))));
    let is_used = of_route || plan.services.values().any(|service| service.cache.is_some());
    let CacheStore { bytes_max, entries_max } = plan.cache;
    is_used.then_some(mesh::CacheLimits { bytes_max, entries_max })
}

/// Of a route.
pub(crate) fn of_route(cache: &RouteCache) -> mesh::RouteCache {
    match cache {
        RouteCache::Off => mesh::RouteCache::Off,
        RouteCache::On(cache) => mesh::RouteCache::On(of(cache)),
    }
}

/// Of a service.
pub(super) fn of(cache: &Cache) -> mesh::Cache {
    let Cache {
        head,
        entry_max,
        ttl,
        heuristic_percent,
        stale_while_revalidate,
        stale_if_error,
        vary,
        tags,
        cookies,
        believes,
    } = cache;
    mesh::Cache {
        head: *head,
        entry_max: *entry_max,
        ttl_s: ttl.map(seconds),
        heuristic_percent: *heuristic_percent,
        while_revalidate_s: seconds(*stale_while_revalidate),
        if_error_s: seconds(*stale_if_error),
        vary: vary.clone(),
        tags: Some(tags.clone()),
        cookies: match cookies {
            CacheCookies::Refuse => mesh::CacheCookies::Refuse,
            CacheCookies::Strip => mesh::CacheCookies::Strip,
            CacheCookies::Keep => mesh::CacheCookies::Keep,
        },
        believes: believed(*believes),
    }
}

/// Rounded up: HTTP has no parts of a second, and no time at all is what nobody wrote.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

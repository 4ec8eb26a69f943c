//! What requests have to pass, as the proxy is told it.

use watt_api::mesh;
use watt_core::plan::{AddressRule, Cors, CountedBy, Guard, RateLimit, Route, Service};

use super::millis;

/// Of a route.
pub(crate) fn of_route(route: &Route) -> mesh::Guard {
    let Route { path, matching, host, methods, conditions, .. } = route;
    // All that tells one route from another: what is counted is the route's, wherever it is in the file.
    let place = || format!("route {host:?} {matching:?} {path} {methods:?} {conditions:?}");
    guard(&route.guard, place)
}

/// Of a service.
pub(super) fn of_service(service: &Service) -> mesh::Guard {
    guard(&service.guard, || format!("service {}", service.id))
}

fn guard(guard: &Guard, place: impl Fn() -> String) -> mesh::Guard {
    let Guard { addresses, cors, body_max, limits } = guard;
    mesh::Guard {
        addresses: addresses.iter().map(address_rule).collect(),
        cors: cors.as_ref().map(self::cors),
        body_max: *body_max,
        limits: limits.iter().map(|limit| self::limit(limit, &place)).collect(),
    }
}

fn address_rule(AddressRule { allows, network }: &AddressRule) -> mesh::AddressRule {
    let (address, bits) = network.unzip();
    mesh::AddressRule { allows: *allows, address, bits: bits.unwrap_or(0) }
}

fn cors(cors: &Cors) -> mesh::Cors {
    let Cors { origins, methods, headers, expose, credentials, max_age } = cors;
    mesh::Cors {
        origins: origins.clone(),
        methods: methods.clone(),
        headers: headers.clone(),
        expose: expose.clone(),
        credentials: *credentials,
        max_age_s: max_age.map(|age| age.as_secs()),
    }
}

fn limit(limit: &RateLimit, place: &impl Fn() -> String) -> mesh::RateLimit {
    let RateLimit { name, of_gateway, requests, per, burst, header, by } = limit;
    let place = if *of_gateway { "gateway".to_owned() } else { place() };
    mesh::RateLimit {
        id: format!("{name} of {place}"),
        name: name.clone(),
        requests: requests.get(),
        per_ms: millis(*per),
        burst: burst.get(),
        header: header.clone(),
        by: match by {
            CountedBy::Address => mesh::CountedBy::Address,
            CountedBy::Service => mesh::CountedBy::Service,
            CountedBy::Everyone => mesh::CountedBy::Everyone,
        },
    }
}

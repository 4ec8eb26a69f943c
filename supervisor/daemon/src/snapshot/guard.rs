//! What requests have to pass, as the proxy is told it.

use std::{collections::BTreeMap, path::PathBuf};

use watt_api::mesh;
use watt_certificates::Certificates;
use watt_core::plan::{
    AccessRule, AddressRule, ApiKey, Auth, Authority, Basic, Caller, CertificateNames, Cors, CountedBy,
    Filter, Guard, Hidden, Jwt, KeysAt, Plan, RateLimit, RemoteKeys, Route, Service, User,
};

use super::millis;

/// Of a route. `listener` has it for itself.
pub(crate) fn of_route(listener: Option<&str>, route: &Route) -> mesh::Guard {
    guard(&route.guard, || place(listener, route))
}

/// All that tells one route from another: what is counted is the route's, wherever it is in the file.
fn place(listener: Option<&str>, route: &Route) -> String {
    let Route { path, matching, host, methods, conditions, .. } = route;
    let of = listener.map_or(String::new(), |name| format!("{name} "));
    format!("{of}route {host:?} {matching:?} {path} {methods:?} {conditions:?}")
}

/// How it is known who asks, everywhere, with what is in the files of it.
pub(super) fn auths(plan: &Plan, read: &Certificates) -> BTreeMap<String, mesh::Auth> {
    let of_route = |listener: Option<&str>, route: &Route| {
        let auth = route.guard.auth.as_ref()?;
        Some((auth_name(auth, || place(listener, route)), self::auth(auth, plan, read)))
    };
    let common = plan.routes.iter().filter_map(|route| of_route(None, route));
    let own = plan.listeners.iter().flat_map(|(name, listener)| {
        listener.routes.iter().flatten().filter_map(|route| of_route(Some(name), route))
    });
    common.chain(own).collect()
}

fn auth_name(auth: &Auth, place: impl Fn() -> String) -> String {
    if auth.of_gateway { "gateway".to_owned() } else { place() }
}

fn auth(auth: &Auth, plan: &Plan, read: &Certificates) -> mesh::Auth {
    let Auth { of_gateway: _, key_header, keys, key_file, basic, jwt } = auth;
    let key = |ApiKey { name, hash: Hidden(hash), roles }: &ApiKey| mesh::ApiKey {
        name: name.clone(),
        hash: hash.clone(),
        roles: roles.clone(),
    };
    mesh::Auth {
        key_header: key_header.clone(),
        keys: keys.iter().map(key).collect(),
        key_file: text(key_file.as_ref(), read).map(mesh::Secret),
        basic: basic.as_ref().map(|basic| self::basic(basic, plan, read)),
        jwt: jwt.as_ref().map(|jwt| self::jwt(jwt, read)),
    }
}

/// What a file says. All of them were read before the plan came into force.
fn text(file: Option<&PathBuf>, read: &Certificates) -> Option<String> {
    file.map(|file| read.get(file).map_or_else(String::new, |text| text.text().to_owned()))
}

fn basic(basic: &Basic, plan: &Plan, read: &Certificates) -> mesh::Basic {
    let Basic { realm, users, file } = basic;
    let user = |User { name, password: Hidden(password), roles }: &User| mesh::User {
        name: name.clone(),
        password: mesh::Secret(password.clone()),
        roles: roles.clone(),
    };
    mesh::Basic {
        realm: if realm.is_empty() { plan.name.to_string() } else { realm.clone() },
        users: users.iter().map(user).collect(),
        file: text(file.as_ref(), read).map(mesh::Secret),
    }
}

fn jwt(jwt: &Jwt, read: &Certificates) -> mesh::Jwt {
    let Jwt {
        jwks,
        key_file,
        secret_file,
        remote,
        algorithms,
        issuer,
        audiences,
        skew,
        name_claim,
        roles_claim,
        claims,
    } = jwt;
    mesh::Jwt {
        jwks: jwks.clone(),
        key_file: text(key_file.as_ref(), read),
        secret: text(secret_file.as_ref(), read).map(mesh::Secret),
        remote: remote.as_ref().map(remote_keys),
        algorithms: algorithms.clone(),
        issuer: issuer.clone(),
        audiences: audiences.clone(),
        skew_s: skew.as_secs(),
        name_claim: name_claim.clone(),
        roles_claim: roles_claim.clone(),
        claims: claims.clone(),
    }
}

fn remote_keys(RemoteKeys { from, path, every }: &RemoteKeys) -> mesh::RemoteKeys {
    let (service, host) = match from {
        KeysAt::Service(id) => (id.to_string(), format!("{id}.plt.local")),
        KeysAt::Server(server) => (server.to_string(), server.host().unwrap_or_default()),
    };
    mesh::RemoteKeys { service, host, path: path.clone(), every_ms: millis(*every) }
}

/// Of a service.
pub(super) fn of_service(service: &Service) -> mesh::Guard {
    guard(&service.guard, || format!("service {}", service.id))
}

fn guard(guard: &Guard, place: impl Fn() -> String) -> mesh::Guard {
    let Guard { addresses, cors, body_max, limits, auth, roles, rules, authority, filters } = guard;
    mesh::Guard {
        addresses: addresses.iter().map(address_rule).collect(),
        cors: cors.as_ref().map(self::cors),
        body_max: *body_max,
        limits: limits.iter().map(|limit| self::limit(limit, &place)).collect(),
        auth: auth.as_ref().map(|auth| auth_name(auth, &place)),
        roles: roles.clone(),
        rules: rules.iter().map(access_rule).collect(),
        authority: authority.as_ref().map(self::authority),
        filters: filters.iter().map(filter).collect(),
    }
}

fn filter(Filter { service, path, timeout, may_fail }: &Filter) -> mesh::Filter {
    mesh::Filter {
        service: service.to_string(),
        path: path.clone(),
        timeout_ms: millis(*timeout),
        may_fail: *may_fail,
    }
}

fn authority(Authority { service, path, copy, timeout }: &Authority) -> mesh::Authority {
    mesh::Authority {
        service: service.to_string(),
        path: path.clone(),
        copy: copy.clone(),
        timeout_ms: millis(*timeout),
    }
}

fn access_rule(rule: &AccessRule) -> mesh::AccessRule {
    let AccessRule { allows, methods, path, roles, users, claims, callers, certificate } = rule;
    let service = |caller: &Caller| match caller {
        Caller::Gateway => None,
        Caller::Service(id) => Some(id.to_string()),
    };
    mesh::AccessRule {
        allows: *allows,
        methods: methods.clone(),
        path: path.clone(),
        roles: roles.clone(),
        users: users.clone(),
        claims: claims.clone(),
        callers: callers.iter().filter_map(service).collect(),
        clients: callers.contains(&Caller::Gateway),
        certificate: certificate.as_ref().map(certificate_names),
    }
}

fn certificate_names(names: &CertificateNames) -> mesh::CertificateNames {
    let CertificateNames { cn, dns, uri, email } = names.clone();
    mesh::CertificateNames { cn, dns, uri, email }
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
            CountedBy::User => mesh::CountedBy::User,
        },
    }
}

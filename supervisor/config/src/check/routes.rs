//! Routes that exclude each other or lead nowhere.

use std::collections::HashMap;

use watt_core::{
    ServiceId,
    plan::{
        Balance, HeaderRules, Listen, PathMatch, Route, RouteCondition, RouteTarget, Upstream,
        UpstreamServer, ValueTest,
    },
};

use crate::{
    decode::{RouteDraft, ServiceDraft},
    report::{Problem, Problems},
    scalar::quote,
    source::Span,
};

/// How many routes there may be, and how many regular expressions in them: each thread of the proxy keeps its own.
const ROUTES_MAX: usize = 10_000;
const EXPRESSIONS_MAX: usize = 500;

/// How much routes may answer and set by themselves, together: each thread of the proxy keeps it.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Checks those of all listeners.
pub(crate) fn routes(services: &[ServiceDraft], routes: &[&RouteDraft], problems: &mut Problems) {
    let listens: HashMap<&ServiceId, &ServiceDraft> =
        services.iter().map(|draft| (&draft.service.id, draft)).collect();
    bounds(routes, problems);
    upstreams(routes, problems);
    sticky(services, routes, problems);
    redirects(routes, problems);
    for (id, at) in routes.iter().flat_map(|draft| &draft.services) {
        if let Some(target) = listens.get(id).filter(|target| target.service.listen == Listen::None) {
            let message =
                format!("{} accepts no connections, so no request can be sent to it", quote(id.as_str()));
            let problem = Problem::new(*at, message);
            problems.push(problem.related(target.listen_at.unwrap_or(target.at), "its `listen` is `none`"));
        }
    }
}

/// A cookie has one name for the whole gateway: routes that share it have to agree on what it may say, or each would have the client forget the
/// other's.
fn sticky(services: &[ServiceDraft], routes: &[&RouteDraft], problems: &mut Problems) {
    let mut first: HashMap<&str, (Vec<&ServiceId>, Span)> = HashMap::new();
    for draft in routes {
        let RouteTarget::Split { sticky: Some(name), .. } = &draft.route.target else { continue };
        let mut services = draft.route.target.services();
        services.sort();
        let (known, at) = first.entry(name).or_insert_with(|| (services.clone(), draft.at));
        if *known != services {
            let message = format!("the cookie {} is another route's, with other services", quote(name));
            let problem = Problem::new(draft.at, message).related(*at, "the first one is here");
            problems.push(problem.hint("give each of them a name of its own"));
        }
    }
    let mut taken: HashMap<&str, Span> = first.into_iter().map(|(name, (_, at))| (name, at)).collect();
    for draft in services {
        let Balance::Sticky(name) = &draft.service.traffic.balance else { continue };
        if let Some(other) = taken.insert(name, draft.at) {
            let message = format!("the cookie {} says two things", quote(name));
            let problem = Problem::new(draft.at, message).related(other, "the other one is here");
            problems.push(problem.hint("write `balance: { by: sticky, cookie: … }` with a name of its own"));
        }
    }
}

/// One that leads to where it comes from, and would be followed until the browser has had enough.
fn redirects(routes: &[&RouteDraft], problems: &mut Problems) {
    for draft in routes {
        let route = &draft.route;
        let RouteTarget::Redirect { to, .. } = &route.target else { continue };
        let plain = |path: &str| path.trim_end_matches('/').to_owned();
        if route.matching != PathMatch::Regex && plain(to) == plain(&route.path) {
            problems.push(
                Problem::new(draft.at, "a redirect to where it comes from")
                    .hint("write another path, or a URL"),
            );
        }
    }
}

/// The proxy knows one way to speak to a server.
fn upstreams(routes: &[&RouteDraft], problems: &mut Problems) {
    let mut first: HashMap<&UpstreamServer, (&Upstream, Span)> = HashMap::new();
    for draft in routes {
        let RouteTarget::Upstream(upstream) = &draft.route.target else { continue };
        let (known, at) = *first.entry(&upstream.server).or_insert((upstream, draft.at));
        if known != upstream {
            let message =
                format!("two routes say different things of {}", quote(&upstream.server.to_string()));
            let problem = Problem::new(draft.at, message).related(at, "the first one is here");
            problems.push(
                problem
                    .hint("`host`, `protocol`, `timeouts` and `ca` are the same for all routes to a server"),
            );
        }
    }
}

fn bounds(routes: &[&RouteDraft], problems: &mut Problems) {
    if let Some(draft) = routes.get(ROUTES_MAX) {
        problems.push(Problem::new(draft.at, format!("more than {ROUTES_MAX} routes")));
    }
    let written = |route: &Route| {
        let headers = |rules: &HeaderRules| {
            let pairs = rules.set.iter().chain(&rules.add);
            pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>()
        };
        let body = if let RouteTarget::Respond { body, .. } = &route.target { body.len() } else { 0 };
        body + headers(&route.request_headers) + headers(&route.response_headers)
    };
    let mut bytes = 0;
    let first_beyond = routes.iter().find(|draft| {
        bytes += written(&draft.route);
        bytes > TEXT_BYTES_MAX
    });
    if let Some(draft) = first_beyond {
        let message = format!("bodies and headers of routes of more than {} MB", TEXT_BYTES_MAX >> 20);
        problems.push(Problem::new(draft.at, message).hint("a service answers with more"));
    }
    let of = |route: &Route| {
        let in_conditions =
            route.conditions.iter().filter(|condition| matches!(condition.test, ValueTest::Regex(_))).count();
        in_conditions + usize::from(route.matching == PathMatch::Regex)
    };
    let mut count = 0;
    let first_beyond = routes.iter().find(|draft| {
        count += of(&draft.route);
        count > EXPRESSIONS_MAX
    });
    if let Some(draft) = first_beyond {
        let message = format!("more than {EXPRESSIONS_MAX} regular expressions in routes");
        problems
            .push(Problem::new(draft.at, message).hint("paths with parameters, `/users/{id}`, cost less"));
    }
}

/// What two routes may not have in common: everything that decides, for one method.
#[derive(PartialEq, Eq, Hash)]
struct Key<'r> {
    path: String,
    matching: PathMatch,
    host: Option<&'r str>,
    conditions: Vec<&'r RouteCondition>,
    method: Option<&'r str>,
}

/// Those of one listener.
pub(super) fn equals(routes: &[RouteDraft], problems: &mut Problems) {
    let mut first: HashMap<Key<'_>, Span> = HashMap::new();
    for draft in routes {
        let methods = draft.route.methods.iter().map(|method| Some(method.as_str()));
        let every = draft.route.methods.is_empty().then_some(None);
        let mut told = false;
        for method in methods.chain(every) {
            let key = key(&draft.route, method);
            match first.get(&key) {
                // One of its own methods is there twice, or another one was told.
                Some(place) if *place == draft.at || told => {}
                Some(place) => {
                    problems.push(equal(draft, method, *place));
                    told = true;
                }
                None => {
                    first.insert(key, draft.at);
                }
            }
        }
    }
}

fn key<'r>(route: &'r Route, method: Option<&'r str>) -> Key<'r> {
    let mut conditions: Vec<_> = route.conditions.iter().collect();
    conditions.sort();
    let path = match route.matching {
        PathMatch::Regex => route.path.clone(),
        // Parameters take the same, whatever they are called.
        PathMatch::Prefix | PathMatch::Exact => {
            let plain = |segment| if str::starts_with(segment, "{") { "{}" } else { segment };
            route.path.split('/').map(plain).collect::<Vec<_>>().join("/")
        }
    };
    Key { path, matching: route.matching, host: route.host.as_deref(), conditions, method }
}

fn equal(draft: &RouteDraft, method: Option<&str>, first: Span) -> Problem {
    let route = &draft.route;
    let method = method.map_or(String::new(), |method| format!("{method} of "));
    let host = route.host.as_deref().map_or(String::new(), |host| format!(" for {}", quote(host)));
    let alike = if route.conditions.is_empty() { "" } else { " with the same conditions" };
    let message = format!("two routes for {method}{}{host}{alike}", quote(&route.path));
    Problem::new(draft.at, message)
        .related(first, "the first one is here")
        .hint("keep one of them, or give them different paths or hosts")
}

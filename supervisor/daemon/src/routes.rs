//! The gateway's rules as the proxy and operators get them.

use watt_api::{
    control::{self, Requests},
    mesh,
};
use watt_core::{
    ServiceId,
    plan::{
        Compress, HeaderRules, Listener, Notice, PathMatch, Plan, RequestPart, Route, RouteCondition,
        RouteFault, RouteTarget, ValueTest,
    },
};

use crate::{
    apis,
    app::App,
    control::Reply,
    folders,
    gateway::{self, AllBound},
    operate::answer,
    status, tls,
};

/// What is shown in place of a value that a request gets: it may be a key to something.
const HIDDEN: &str = "…";

/// The rules of a configuration, without what only services are to see.
pub fn of_configuration(plan: &Plan) -> control::Routes {
    control::Routes {
        app: plan.name.to_string(),
        file: plan.file.clone(),
        gateway: None,
        routes: of_plan(plan).into_iter().map(shown).collect(),
        upstreams: plan
            .upstreams()
            .map(|upstream| (upstream.server.to_string(), Requests::default()))
            .collect(),
        listeners: gateway::in_order(plan)
            .map(|(name, listener)| of_one(plan, &AllBound::new(), name, listener))
            .collect(),
    }
}

/// A listener: where it is bound, or where the configuration wants it.
fn of_one(plan: &Plan, bound: &AllBound, name: &str, listener: &Listener) -> control::ListenerRoutes {
    let own = |routes: &Vec<Route>| of_listener(name, routes).into_iter().map(shown).collect();
    let to_https = listener.to_https.map(|to| tls::to_https(to, plan, bound));
    control::ListenerRoutes {
        name: name.to_owned(),
        url: tls::url(listener, bound.get(name)),
        routes: listener.routes.as_ref().map(own),
        redirect: to_https.map(|to| format!("https, port {}", to.port)),
    }
}

impl App {
    pub(crate) fn routes(&self, reply: Reply<Box<control::Routes>>) {
        let mut routes = control::Routes {
            gateway: self.gateway_url(),
            listeners: gateway::in_order(&self.plan)
                .map(|(name, listener)| of_one(&self.plan, &self.gateway, name, listener))
                .collect(),
            ..of_configuration(&self.plan)
        };
        for (name, requests) in &mut routes.upstreams {
            *requests = self.counts.get(name).map(status::requests).unwrap_or_default();
        }
        answer(reply, Ok(Box::new(routes)));
    }
}

fn shown(mut route: mesh::Route) -> mesh::Route {
    let mesh::HeaderRules { remove: _, set, add } = &mut route.request_headers;
    set.iter_mut().chain(add).for_each(|(_, value)| HIDDEN.clone_into(value));
    route
}

/// In the order of the file.
pub(crate) fn of_plan(plan: &Plan) -> Vec<mesh::Route> {
    plan.routes.iter().map(|one| route(None, one)).collect()
}

/// Those that a listener has for itself.
pub(crate) fn of_listener(name: &str, routes: &[Route]) -> Vec<mesh::Route> {
    routes.iter().map(|one| route(Some(name), one)).collect()
}

fn route(listener: Option<&str>, route: &Route) -> mesh::Route {
    let Route {
        path,
        matching,
        case_exact,
        host,
        methods,
        conditions,
        target,
        rewrite,
        request_headers,
        response_headers,
        fault,
        mirror,
        guard: _,
        cache,
        deprecation,
        sunset,
        compress,
    } = route;
    let (mut service, mut split, mut sticky_cookie) = (String::new(), Vec::new(), None);
    let (mut answer, mut files, mut page) = (None, None, None);
    match target {
        RouteTarget::Service(id) => service = id.to_string(),
        RouteTarget::Split { shares, sticky } => {
            let share = |(id, weight): &(_, u32)| mesh::RouteShare {
                service: ServiceId::to_string(id),
                weight: *weight,
            };
            split = shares.iter().map(share).collect();
            sticky_cookie = sticky.clone();
        }
        RouteTarget::Upstream(upstream) => service = upstream.server.to_string(),
        RouteTarget::Files(of) => files = Some(folders::files(of)),
        RouteTarget::ApiPage(of) => page = Some(apis::page(listener, route, of)),
        RouteTarget::Redirect { status, to } => {
            answer = Some(mesh::RouteAnswer::Redirect { status: *status, to: to.clone() });
        }
        RouteTarget::Respond { status, body, content_type } => {
            answer = Some(mesh::RouteAnswer::Fixed {
                status: *status,
                body: body.clone(),
                content_type: content_type.clone(),
            });
        }
    }
    mesh::Route {
        path: path.clone(),
        matching: match matching {
            PathMatch::Prefix => mesh::PathMatch::Prefix,
            PathMatch::Exact => mesh::PathMatch::Exact,
            PathMatch::Regex => mesh::PathMatch::Regex,
        },
        case_exact: *case_exact,
        host: host.clone(),
        methods: methods.clone(),
        conditions: conditions.iter().map(condition).collect(),
        service,
        split,
        sticky: sticky_cookie,
        answer,
        files,
        page,
        rewrite: rewrite.clone(),
        request_headers: header_rules(request_headers),
        response_headers: with_notices(header_rules(response_headers), deprecation.as_ref(), sunset.as_ref()),
        fault: fault.as_ref().map(fault_of),
        mirror: mirror
            .as_ref()
            .map(|(service, percent)| mesh::RouteMirror { service: service.to_string(), percent: *percent }),
        guard: crate::snapshot::guard::of_route(listener, route),
        cache: cache.as_ref().map(crate::snapshot::cache::of_route),
        compress: compress.as_ref().map(|Compress { codings, types, len_min }| mesh::Compress {
            codings: codings.clone(),
            types: types.clone(),
            len_min: *len_min,
        }),
    }
}

fn header_rules(HeaderRules { remove, set, add }: &HeaderRules) -> mesh::HeaderRules {
    mesh::HeaderRules { remove: remove.clone(), set: set.clone(), add: add.clone() }
}

/// With what clients are told of the route's end (RFC 9745, RFC 8594).
fn with_notices(
    mut rules: mesh::HeaderRules,
    deprecation: Option<&Notice>,
    sunset: Option<&Notice>,
) -> mesh::HeaderRules {
    let notices = [
        ("deprecation", deprecation.map(|notice| (notice, format!("@{}", notice.at)))),
        ("sunset", sunset.map(|notice| (notice, notice.date.clone()))),
    ];
    for (name, notice) in notices {
        let Some((notice, value)) = notice else { continue };
        rules.set.push((name.to_owned(), value));
        let link = notice.link.as_ref().map(|to| ("link".to_owned(), format!("<{to}>; rel=\"{name}\"")));
        rules.add.extend(link);
    }
    rules
}

fn fault_of(RouteFault { delay, abort }: &RouteFault) -> mesh::RouteFault {
    let (delay, delay_percent) = delay.unwrap_or_default();
    let (abort_status, abort_percent) = abort.unwrap_or_default();
    mesh::RouteFault { delay_ms: crate::snapshot::millis(delay), delay_percent, abort_status, abort_percent }
}

fn condition(condition: &RouteCondition) -> mesh::RouteCondition {
    mesh::RouteCondition {
        part: match condition.part {
            RequestPart::Header => mesh::RequestPart::Header,
            RequestPart::Cookie => mesh::RequestPart::Cookie,
            RequestPart::Query => mesh::RequestPart::Query,
        },
        name: condition.name.clone(),
        test: match &condition.test {
            ValueTest::Is(text) => mesh::ValueTest::Is(text.clone()),
            ValueTest::Regex(expression) => mesh::ValueTest::Regex(expression.clone()),
            ValueTest::Present => mesh::ValueTest::Present,
            ValueTest::Absent => mesh::ValueTest::Absent,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_services_get_is_not_shown() {
        let pairs = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
        let route = mesh::Route {
            request_headers: mesh::HeaderRules {
                set: pairs("Basic x"),
                add: pairs("y"),
                ..mesh::HeaderRules::default()
            },
            response_headers: mesh::HeaderRules { set: pairs("public"), ..mesh::HeaderRules::default() },
            ..mesh::Route::default()
        };
        let shown = shown(route);
        assert_eq!((shown.request_headers.set, shown.request_headers.add), (pairs(HIDDEN), pairs(HIDDEN)));
        assert_eq!(shown.response_headers.set, pairs("public"), "which every client sees");
    }
}

//! Listeners without routes, routes without listeners, and listeners that are in each other's way.

use std::net::IpAddr;

use watt_core::plan::{Guard, Listen, ListenAt};

use super::routes::equals;
use crate::{
    decode::{ListenerDraft, RouteDraft, ServiceDraft},
    report::{Problem, Problems},
    source::Span,
};

/// Checks all of it.
pub(crate) fn listeners(
    services: &[ServiceDraft],
    routes: &[RouteDraft],
    listeners: &[ListenerDraft],
    problems: &mut Problems,
) {
    equals(routes, problems);
    listeners.iter().filter_map(|one| one.routes.as_ref()).for_each(|own| equals(own, problems));
    places(listeners, problems);
    redirects(listeners, problems);
    certificates(services, routes, listeners, problems);
    // A wrong route is no route here, and was noted.
    if problems.is_empty() {
        without_routes(services, routes, listeners, problems);
    }
    if problems.is_empty()
        && let Some(route) = routes.first()
        && listeners.iter().all(|listener| listener.routes.is_some())
    {
        let message = "routes of the gateway that no listener has: each has its own";
        let hint = "write `server` for the listener that they are of, or remove them";
        problems.push(Problem::new(route.at, message).hint(hint));
    }
}

/// One that could answer nothing.
fn without_routes(
    services: &[ServiceDraft],
    routes: &[RouteDraft],
    listeners: &[ListenerDraft],
    problems: &mut Problems,
) {
    let listening = services.iter().find(|draft| draft.service.listen != Listen::None);
    let service = listening.map_or("web", |draft| draft.service.id.as_str());
    for listener in listeners {
        let Some(at) = listener.at else { continue };
        let has_some = match &listener.routes {
            Some(own) => !own.is_empty() || listener.to_https().is_some(),
            None => !routes.is_empty(),
        };
        if has_some || problems.is_full() {
            continue;
        }
        let (what, hint) = match listener.is_server() {
            true => (
                "server",
                format!(
                    "add `gateway: {{ routes: [{{ path: /, service: {service} }}] }}`, or remove `server`"
                ),
            ),
            false => ("listener", format!("add `routes: [{{ path: /, service: {service} }}]`")),
        };
        let message = format!("a {what} without a route: no request could be answered");
        problems.push(Problem::new(at, message).hint(hint));
    }
}

/// Two at one place.
fn places(listeners: &[ListenerDraft], problems: &mut Problems) {
    for (index, listener) in listeners.iter().enumerate() {
        let at = listener.listen_at();
        let Some(first) = listeners[..index].iter().find(|first| collide(first.listen_at(), at)) else {
            continue;
        };
        let span = |draft: &ListenerDraft| draft.place_at.or(draft.at);
        let message = format!("{at} is taken by {}", first.title());
        let problem = Problem::new(span(listener).unwrap_or_default(), message);
        let problem = match span(first) {
            Some(place) => problem.related(place, "it listens there"),
            None => problem,
        };
        problems.push(problem.hint("write another one, or put the routes of both into one"));
    }
}

fn collide(first: &ListenAt, second: &ListenAt) -> bool {
    match (first, second) {
        (ListenAt::Tcp { hostname, port }, ListenAt::Tcp { hostname: other, port: other_port }) => {
            *port != 0 && port == other_port && meet(*hostname, *other)
        }
        (ListenAt::Unix { path, .. }, ListenAt::Unix { path: other, .. }) => path == other,
        (ListenAt::Tcp { .. }, ListenAt::Unix { .. }) | (ListenAt::Unix { .. }, ListenAt::Tcp { .. }) => {
            false
        }
    }
}

/// Whether two addresses cannot both be bound with one port. `::` is all addresses of both kinds.
fn meet(first: IpAddr, second: IpAddr) -> bool {
    let takes = |all: IpAddr, other: IpAddr| all.is_unspecified() && (all.is_ipv6() || other.is_ipv4());
    first == second || takes(first, second) || takes(second, first)
}

/// Rules about certificates that no client is asked for.
fn certificates(
    services: &[ServiceDraft],
    routes: &[RouteDraft],
    listeners: &[ListenerDraft],
    problems: &mut Problems,
) {
    if listeners.iter().any(ListenerDraft::asks_for_certificates) {
        return;
    }
    let asks = |guard: &Guard| guard.rules.iter().any(|rule| rule.certificate.is_some());
    let own = listeners.iter().flat_map(|listener| listener.routes.iter().flatten());
    let of_routes = routes.iter().chain(own).find(|draft| asks(&draft.route.guard)).map(|draft| draft.at);
    let of_services = services.iter().find(|draft| asks(&draft.service.guard)).map(|draft| draft.at);
    // What the gateway says each route has.
    for at in [of_routes, of_services].into_iter().flatten() {
        let problem = Problem::new(at, "a rule about certificates, and no client is asked for one");
        problems.push(problem.hint("write `client_ca` in `tls` of `server` or of another listener"));
    }
}

/// Clients that would be sent where nobody listens.
fn redirects(listeners: &[ListenerDraft], problems: &mut Problems) {
    if listeners.iter().any(ListenerDraft::is_secure) {
        return;
    }
    let lost = |draft: &ListenerDraft| -> Option<Span> {
        draft.to_https().filter(|to| to.port.is_none()).and(draft.redirect_at)
    };
    if let Some(span) = listeners.iter().find_map(lost) {
        let problem = Problem::new(span, "clients are sent to TLS, and no listener speaks it");
        let hint = "give one of them `tls`, or write `redirect_port` if something before the gateway speaks it and comes in by another listener";
        problems.push(problem.hint(hint));
    }
}

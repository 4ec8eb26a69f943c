//! Where clients come in.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use serde_json::json;
use watt_core::{
    AppName,
    plan::{ClientBounds, HEAD_SIZE_MAX, ListenAt, Listener, SocketOwner, ToHttps},
};

use super::{
    Decoder,
    fields::{Field, Fields, Written},
    guard,
    route::{self, RouteDraft},
    tls,
};
use crate::{
    keys::{LISTENER, SERVER, TO_HTTPS},
    report::Problem,
    scalar::{Account, Bytes, Umask, Whole, quote},
    show::Shown,
    source::Span,
};

/// How many networks of proxies there may be. Each new connection is compared with all of them.
const PROXIES_MAX: usize = 64;

/// How many further listeners there may be: each is as many sockets as the proxy has threads.
const LISTENERS_MAX: usize = 64;

/// The longest path of a Unix socket (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// The shortest longest head: no browser's would get through with less.
const HEAD_LIMIT_MIN: u64 = 1 << 10;

/// A listener with its places.
#[derive(Debug)]
pub(crate) struct ListenerDraft {
    pub(crate) name: String,
    /// But for its routes.
    listener: Listener,
    /// Its own ones.
    pub(crate) routes: Option<Vec<RouteDraft>>,
    /// Where it was written; `None` when it is there because of the routes.
    pub(crate) at: Option<Span>,
    /// Where its port or path was written.
    pub(crate) place_at: Option<Span>,
    /// Where it was written that clients are sent to TLS.
    pub(crate) redirect_at: Option<Span>,
}

impl ListenerDraft {
    /// One over TCP that has these routes and nothing else. `at` is where it was written, and where its port was.
    pub(super) fn with_routes(
        name: &str,
        place: ListenAt,
        routes: Vec<RouteDraft>,
        (at, place_at): (Span, Span),
    ) -> ListenerDraft {
        let listener = Listener { at: place, ..Listener::tcp(IpAddr::from([127, 0, 0, 1]), 0) };
        ListenerDraft {
            name: name.to_owned(),
            listener,
            routes: Some(routes),
            at: Some(at),
            place_at: Some(place_at),
            redirect_at: None,
        }
    }

    pub(crate) fn into_listener(self) -> (String, Listener) {
        let routes = self.routes.map(|routes| routes.into_iter().map(|draft| draft.route).collect());
        (self.name, Listener { routes, ..self.listener })
    }

    pub(crate) fn listen_at(&self) -> &ListenAt {
        &self.listener.at
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.listener.tls.is_some()
    }

    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.listener.tls.as_ref().is_some_and(|tls| tls.clients.is_some())
    }

    pub(crate) fn to_https(&self) -> Option<ToHttps> {
        self.listener.to_https
    }

    pub(crate) fn is_server(&self) -> bool {
        self.name == Listener::SERVER
    }

    /// As users say it.
    pub(crate) fn title(&self) -> String {
        match self.is_server() {
            true => "the listener of `server`".to_owned(),
            false => format!("the listener {}", quote(&self.name)),
        }
    }
}

/// Decodes `server`: as written, or the default one when nothing else is said about where the gateway is.
pub(super) fn server(
    fields: &mut Fields<'_, '_, '_>,
    field: Option<Field<'_>>,
    is_implied: bool,
) -> Option<ListenerDraft> {
    if field.is_none() && !is_implied {
        return None;
    }
    let mut f = Fields::open(fields.d, &SERVER, field, None);
    let hostname: Written<IpAddr> = f.value("hostname");
    let port: Written<Whole<0, 65535>> = f.value("port");
    let at = ListenAt::Tcp { hostname: hostname.value, port: port_of(port.value) };
    let (listener, redirect_at) = of_both(&mut f, at);
    let shown = f.close();
    fields.show("server", shown);
    Some(ListenerDraft {
        name: Listener::SERVER.to_owned(),
        routes: listener.to_https.map(|_| Vec::new()),
        listener,
        at: field.map(|field| field.key_span),
        place_at: port.span,
        redirect_at,
    })
}

/// Decodes `gateway.listeners`.
pub(super) fn further(f: &mut Fields<'_, '_, '_>, base: &guard::Base) -> Vec<ListenerDraft> {
    let mut drafts = Vec::new();
    let mut shown = Vec::new();
    let entries = f.entries("listeners", "name");
    if let Some(beyond) = entries.get(LISTENERS_MAX) {
        let message = format!("{} listeners; at most {LISTENERS_MAX} are supported", entries.len());
        f.d.problem(Problem::new(beyond.key.span, message));
        return drafts;
    }
    for entry in entries {
        if f.d.problems.is_full() {
            break;
        }
        let name = &entry.key.text;
        if let Err(error) = AppName::new(name) {
            let message = format!("{} cannot be a listener's name: {error}", quote(name));
            f.d.problem(Problem::new(entry.key.span, message));
        } else if [Listener::SERVER, Listener::METRICS].contains(&name.as_str()) {
            let message = format!("{} is the listener at the top of the file", quote(name));
            f.d.problem(Problem::new(entry.key.span, message).hint("give this one another name"));
        }
        f.d.name = Some(name.clone());
        let (draft, shown_listener) = listener(f.d, name, Field::from(entry), base);
        f.d.name = None;
        shown.push((name.clone(), shown_listener));
        drafts.extend(draft);
    }
    f.show("listeners", Shown::Map(shown));
    drafts
}

fn listener(
    d: &mut Decoder<'_>,
    name: &str,
    field: Field<'_>,
    base: &guard::Base,
) -> (Option<ListenerDraft>, Shown) {
    let mut f = Fields::open(d, &LISTENER, Some(field), None);
    let place = place(&mut f);
    let at = place.as_ref().map_or_else(
        // Whatever will do where its own is wrong.
        || ListenAt::Tcp { hostname: IpAddr::from([127, 0, 0, 1]), port: 0 },
        |(at, _)| at.clone(),
    );
    let is_unix = f.is_written("unix");
    let (listener, redirect_at) = of_both(&mut f, at);
    for key in ["tls", "proxy_protocol"] {
        if let (true, Some(field)) = (is_unix, f.written(key)) {
            let problem = Problem::new(field.key_span, format!("{} at a Unix socket", quote(key)));
            f.d.problem(problem.hint("remove it, or write `port` in place of `unix`"));
        }
    }
    let is_written = f.is_written("routes");
    let (mut routes, mut shown) = (Vec::new(), Vec::new());
    for item in f.list("routes") {
        if f.d.problems.is_full() {
            break;
        }
        let (route, shown_route) = route::decode(f.d, item, base);
        routes.extend(route);
        shown.push(shown_route);
    }
    if is_written {
        f.show("routes", Shown::List(shown));
    }
    let routes = (is_written || listener.to_https.is_some()).then_some(routes);
    let shown = f.close();
    let draft = place.map(|(_, place_at)| ListenerDraft {
        name: name.to_owned(),
        listener,
        routes,
        at: Some(field.key_span),
        place_at: Some(place_at),
        redirect_at,
    });
    (draft, shown)
}

/// Where a further one is.
fn place(f: &mut Fields<'_, '_, '_>) -> Option<(ListenAt, Span)> {
    let path: Option<Written<PathBuf>> = f.path("unix");
    let of_tcp = ["hostname", "port"].map(|key| f.written(key).map(|field| field.key_span));
    let of_unix = ["mode", "user", "group"].map(|key| f.written(key).map(|field| field.key_span));
    let hostname: Written<IpAddr> = f.value("hostname");
    let port: Option<Written<Whole<0, 65535>>> = f.scalar("port");
    let Written { value: Umask(mode), .. } = f.value("mode");
    let account = |account: Written<Account>| account.value.0;
    let owner = SocketOwner { user: f.scalar("user").map(account), group: f.scalar("group").map(account) };
    match (f.is_written("unix"), f.is_written("port")) {
        (true, _) => {
            if let Some(span) = of_tcp.into_iter().flatten().next() {
                let problem = Problem::new(span, "a listener is at a Unix socket or at a port");
                f.d.problem(problem.hint("write two listeners, or keep one of them"));
            }
            let Written { value: path, span } = path?;
            let span = span.unwrap_or_default();
            if path.as_os_str().len() > SOCKET_PATH_MAX {
                let message = format!("the path of a socket has at most {SOCKET_PATH_MAX} bytes");
                f.d.problem(Problem::new(span, message).hint("for example `/run/shop-gateway.sock`"));
            }
            Some((ListenAt::Unix { path, mode, owner }, span))
        }
        (false, true) => {
            if let Some(span) = of_unix.into_iter().flatten().next() {
                let problem = Problem::new(span, "a port has neither mode nor owner");
                f.d.problem(problem.hint("write `unix` in place of `port`, or remove it"));
            }
            let Written { value, span } = port?;
            let at = ListenAt::Tcp { hostname: hostname.value, port: port_of(value) };
            Some((at, span.unwrap_or_default()))
        }
        (false, false) => {
            f.missing("port");
            None
        }
    }
}

/// What all listeners have, and where it was written that clients are sent to TLS.
fn of_both(f: &mut Fields<'_, '_, '_>, at: ListenAt) -> (Listener, Option<Span>) {
    let tls = f.field("tls").map(|field| tls::decode(f.d, field)).map(|(tls, shown)| {
        f.show("tls", shown);
        tls
    });
    let proxies = proxies(f);
    let redirect = f.word("redirect", &TO_HTTPS);
    let port: Option<Written<Whole<1, 65535>>> = f.scalar("redirect_port");
    let redirect_at = redirect.as_ref().and_then(|redirect| redirect.span);
    if let (Some(span), true) = (redirect_at, tls.is_some()) {
        let problem = Problem::new(span, "clients that speak TLS already would be sent to it");
        f.d.problem(problem.hint("write it at a listener without `tls`"));
    }
    if let (false, Some(Written { span: Some(span), .. })) = (f.is_written("redirect"), &port) {
        let problem = Problem::new(*span, "a port to be sent to, and no `redirect`");
        f.d.problem(problem.hint("write `redirect: https` as well"));
    }
    let port = port.map(|Written { value: Whole(port), .. }| u16::try_from(port).unwrap_or(u16::MAX));
    let to_https = redirect.map(|_| ToHttps { port });
    (Listener { at, tls, proxies, bounds: bounds(f), to_https, routes: None }, redirect_at)
}

fn proxies(f: &mut Fields<'_, '_, '_>) -> Vec<(IpAddr, u8)> {
    let show = |network: &(IpAddr, u8)| json!(guard::shown_network(*network));
    let proxies = f.each("proxy_protocol", "an address or a network", guard::network, show);
    let proxies = proxies.unwrap_or_default();
    if let Some((_, span)) = proxies.get(PROXIES_MAX) {
        let message = format!("{} networks; at most {PROXIES_MAX} are supported", proxies.len());
        f.d.problem(Problem::new(*span, message));
    }
    proxies.into_iter().map(|(network, _)| network).collect()
}

fn bounds(f: &mut Fields<'_, '_, '_>) -> ClientBounds {
    let head_timeout: Written<Duration> = f.value("head_timeout");
    let idle_timeout: Written<Duration> = f.value("idle_timeout");
    for (key, timeout) in [("head_timeout", head_timeout), ("idle_timeout", idle_timeout)] {
        if let (true, Some(span)) = (timeout.value.is_zero(), timeout.span) {
            let problem =
                Problem::new(span, format!("with {} of no time, nobody gets an answer", quote(key)));
            f.d.problem(problem.hint("write a longer time, or remove it"));
        }
    }
    let head: Written<Bytes> = f.value("head_limit");
    if let (Some(span), false) = (head.span, (HEAD_LIMIT_MIN..=HEAD_SIZE_MAX).contains(&head.value.0)) {
        let problem = Problem::new(span, "the longest head is between 1K and 64K");
        f.d.problem(problem.hint("for example `head_limit: 16K`"));
    }
    let body: Option<Written<Bytes>> = f.scalar("body_limit");
    let rate: Option<Written<Whole<0, 1_000_000_000>>> = f.scalar("body_rate");
    ClientBounds {
        head_timeout: head_timeout.value,
        idle_timeout: idle_timeout.value,
        head_max: head.value.0,
        body_max: body.map(|body| body.value.0),
        body_rate_min: rate.map(|rate| rate.value.0),
    }
}

pub(super) fn port_of(port: Whole<0, 65535>) -> u16 {
    u16::try_from(port.0).expect("the kind's largest value is the type's")
}

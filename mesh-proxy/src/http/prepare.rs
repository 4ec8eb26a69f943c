//! From the bytes of a request to what is sent to a worker: guard, route, policy, and the head as it goes on.
//!
//! No step waits, so the head is read where it lies, and everything that later steps need is taken out of it here.

use std::{io::Write, rc::Rc, time::Duration};

use watt_api::mesh::Believed;
use watt_cache::Place;
use watt_policies::cors::Preflight;

use super::{
    Client, Side,
    body::Body,
    chunked::Chunked,
    compress::Wanted,
    deadline::Deadline,
    gating,
    head::{Framing, Lines, list, storage},
    mirror::Mirror,
    request::{self, Method, Refusal, Request, is_protocol},
};
use crate::{
    affinity::{Wish, set_cookie},
    cache::{Caching, OfRoute},
    forwarded::{Forwarded, Theirs},
    gate::URGENCY,
    guards::{self, Asking, Changed, Granted, Guard, Held, Known, Passed, Pending, SoFar},
    respond::{Failure, Format, Manner, Reason, Reply},
    route::{Actions, Asked, Change, HeaderChange, Outward, Parsed, Route, Router, Unrouted},
    table::{Service, Table, Ways},
    thread::Thread,
    trace::{Trace, is_tracestate},
};

/// A request on its way.
pub(crate) struct Prepared {
    pub(crate) service: Rc<Service>,
    /// What its route is called, if it came by one.
    pub(crate) route: Option<Rc<str>>,
    /// The length of its head in the client's input.
    pub(crate) head_len: usize,
    pub(crate) body: Body,
    pub(crate) method: Method,
    /// It may be sent again although a worker may have acted upon it.
    pub(crate) may_repeat: bool,
    /// When it is over, if it ever is.
    pub(crate) deadline: Option<Deadline>,
    /// The worker that it goes to before others.
    pub(crate) wish: Wish,
    /// How urgent it is at a full service: 0 is the most.
    pub(crate) urgency: u8,
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    /// The client wants to switch protocols, and the worker is asked to.
    pub(crate) upgrade: bool,
    /// The protocol that it wants is WebSocket.
    pub(crate) websocket: bool,
    /// The client may wait for a 100 before it sends the body.
    pub(crate) expect: bool,
    pub(crate) format: Format,
    /// How its response is changed, if it is.
    pub(crate) returning: Option<Box<Returning>>,
    /// How long it waits on purpose.
    pub(crate) delay: Option<Duration>,
    /// Who gets a copy.
    pub(crate) mirror: Option<Mirror>,
    /// The largest body that it may have.
    pub(crate) body_max: Option<u64>,
    /// How its response may be compressed.
    pub(crate) compress: Option<Wanted>,
    /// Where it may be answered by what is stored.
    pub(crate) cache: Option<Box<Caching>>,
}

/// How a response is changed.
#[derive(Default)]
pub(crate) struct Returning {
    /// Its paths.
    pub(crate) outward: Option<Outward>,
    /// A line that is added.
    pub(crate) cookie: Option<String>,
    /// The same, for the worker that has answered.
    pub(crate) worker_cookie: Option<String>,
    /// Others, of what the request had to pass.
    pub(crate) lines: Vec<u8>,
    /// What the service says about other origins is left out.
    pub(crate) replaces_cors: bool,
    /// Its headers.
    pub(crate) headers: Option<Rc<HeaderChange>>,
}

/// A request that goes nowhere.
pub(crate) struct Declined {
    pub(crate) reply: Reply,
    pub(crate) manner: Manner,
    /// How long it waits on purpose.
    pub(crate) delay: Option<Duration>,
    /// The length of its head, for what follows it. Not used when the connection ends.
    pub(crate) head_len: usize,
}

/// A request that does not go anywhere, or not now.
pub(crate) enum Unready {
    Declined(Box<Declined>),
    /// Something has to be found out first, and then it is prepared anew.
    Asks(Box<Pending>),
}

impl From<Refusal> for Unready {
    fn from(refusal: Refusal) -> Self {
        let manner = Manner { close: true, ..Manner::default() };
        let reply = Failure::from(refusal).into();
        Unready::Declined(Box::new(Declined { reply, manner, delay: None, head_len: 0 }))
    }
}

/// The same before it is known how it is answered.
enum Aside {
    /// By an answer, after a delay that is made on purpose.
    Answered(Reply, Option<Duration>),
    Asks(Box<Pending>),
}

impl From<Failure> for Aside {
    fn from(failure: Failure) -> Self {
        Aside::Answered(failure.into(), None)
    }
}

impl From<Held> for Aside {
    fn from(held: Held) -> Self {
        match held {
            Held::Denied(failure) => failure.into(),
            Held::Answered(own) => Aside::Answered(Reply::Own(own), None),
            Held::Asks(pending) => Aside::Asks(pending),
        }
    }
}

impl Prepared {
    /// How the proxy itself would answer this request.
    pub(crate) fn manner(&self, close: bool) -> Manner {
        Manner {
            format: self.format,
            without_body: self.method == Method::Head,
            close,
            keep_alive: self.http10 && !close,
        }
    }
}

/// Reads the request at the start of `input`, and writes the head for the worker to `out`. `None` when the head is
/// not there as a whole. `so_far` is what was found out about this one already.
pub(crate) fn prepare(
    thread: &Rc<Thread>,
    client: &Client,
    forwarded: &mut Forwarded,
    input: &[u8],
    so_far: Option<&SoFar>,
    out: &mut Vec<u8>,
) -> Result<Option<Prepared>, Unready> {
    let mut room = storage();
    let head_max = client.terms.bounds().head_max;
    let Some(request) = request::parse(input, &mut room)? else {
        return if input.len() > head_max { Err(request::too_large(input).into()) } else { Ok(None) };
    };
    if request.fields.bytes.len() > head_max {
        return Err(request::too_large(input).into());
    }
    let table = thread.table();
    let mut target = direct(thread, &table, client, &request, so_far).map_err(|mut unready| {
        if let Unready::Asks(pending) = &mut unready {
            pending.tell_of_client(forwarded);
        }
        unready
    })?;
    let mut passed = target.passed.take();
    let known = passed.as_mut().and_then(|passed| passed.known.take());
    let granted = passed.as_mut().and_then(|passed| passed.granted.take());
    let changed = passed.as_mut().and_then(|passed| passed.changed.take());
    let of_guards = passed.as_ref().and_then(|passed| passed.body_max);
    let body_max = of_guards.into_iter().chain(client.terms.bounds().body_max).min();
    let (cookie, mirror) = (target.cookie.take(), target.mirror.take());
    let head_len = request.fields.bytes.len();
    let change = target.route.as_ref().and_then(|route| route.change(path(&request)));
    let connection = &request.found.connection;
    let body = match request.found.framing {
        Framing::Unspecified | Framing::Length(0) => Body::Done,
        Framing::Length(length) => Body::Length(length),
        Framing::Chunked if target.changes_headers() || granted.is_some() || changed.is_some() => {
            Body::Chunked(Chunked::new().without_trailers())
        }
        Framing::Chunked => Body::Chunked(Chunked::new()),
    };
    let deadline = deadline(&target.service, &request);
    let mut prepared = Prepared {
        head_len,
        body,
        method: request.method,
        may_repeat: target.service.retries.allows(request.method, request.method_name.as_bytes()),
        deadline,
        wish: target.service.balance.wish(client, &request),
        urgency: urgency(&target.service, client, &request),
        http10: request.http10,
        keep_alive: !connection.close && (!request.http10 || connection.keep_alive),
        upgrade: body == Body::Done && wants_upgrade(&request),
        websocket: wants_websocket(&request),
        expect: body != Body::Done && !request.http10 && !request.found.expect.is_empty(),
        format: format(&request),
        returning: target.returning(change.as_ref(), request.host, cookie, passed),
        delay: target.delay,
        mirror,
        body_max,
        compress: target.actions().and_then(|actions| Wanted::of(actions.compress.as_ref()?, &request)),
        route: target.route.as_ref().map(|route| route.label.clone()),
        cache: target.caching(&table, client, &request, granted.as_deref(), changed.as_deref()),
        service: target.service,
    };
    out.clear();
    Head {
        table: &table,
        client,
        request: &request,
        route: target.route.as_deref(),
        change: change.as_ref(),
        prepared: &prepared,
        known: known.as_ref(),
        granted: granted.as_deref(),
        filtered: changed.as_deref(),
    }
    .write(forwarded, out);
    if let Some(deadline) = &mut prepared.deadline {
        deadline.write(out);
    }
    Ok(Some(prepared))
}

/// How urgent a request says it is, where its word counts.
fn urgency(service: &Service, client: &Client, request: &Request<'_, '_>) -> u8 {
    let counts = match (service.believes, &client.side) {
        (Believed::Nobody, _) | (Believed::Services, Side::Gateway) => false,
        (Believed::Everybody, _) | (Believed::Services, Side::Mesh { .. }) => true,
    };
    let said = || {
        request.found.priority.iter().filter_map(|line| gating::urgency(request.fields.value(line))).last()
    };
    counts.then(said).flatten().unwrap_or(URGENCY)
}

/// When a request is over. Most services and clients say nothing about that.
fn deadline(service: &Service, request: &Request<'_, '_>) -> Option<Deadline> {
    let lines = request.found.timeouts();
    if lines.is_empty() && service.total_timeout.is_none() {
        return None;
    }
    Deadline::new(service.total_timeout, request.found.grpc, &request.fields, lines)
}

/// Where a request goes.
struct Destination {
    service: Rc<Service>,
    route: Option<Rc<Route>>,
    /// A Set-Cookie line for the client.
    cookie: Option<String>,
    delay: Option<Duration>,
    mirror: Option<Mirror>,
    passed: Option<Passed>,
}

impl Destination {
    /// To a service by its name.
    fn named(service: Rc<Service>, passed: Option<Passed>) -> Destination {
        Destination { service, route: None, cookie: None, delay: None, mirror: None, passed }
    }

    fn actions(&self) -> Option<&Actions> {
        self.route.as_ref()?.actions()
    }

    /// Whether its route changes headers of requests.
    fn changes_headers(&self) -> bool {
        self.actions().is_some_and(|actions| actions.request.is_some())
    }

    /// What the cache may be of use to, if there is one. A request that may change something is also where nothing is stored along its way: it may
    /// be along another one.
    fn caching(
        &self,
        table: &Table,
        client: &Client,
        request: &Request<'_, '_>,
        granted: Option<&Granted>,
        changed: Option<&Changed>,
    ) -> Option<Box<Caching>> {
        // What is stored is found by what clients ask for, and this is something else.
        if changed.is_some_and(|changed| changed.target.is_some()) {
            return None;
        }
        let of_route = self.actions().and_then(|actions| actions.cache.as_ref());
        let rules = match of_route {
            None => self.service.cache.as_ref(),
            Some(OfRoute::Off) => None,
            Some(OfRoute::On(rules)) => Some(rules),
        };
        let side = client.side.cached();
        let stores = rules.is_some() && side.is_some();
        if !stores && (table.invalidating.is_none() || !watt_cache::is_unsafe(request.method_name)) {
            return None;
        }
        let rules = rules.or(table.invalidating.as_ref())?;
        let target = request.target.path_and_query.as_bytes();
        if request.host.is_empty() || !target.starts_with(b"/") {
            return None;
        }
        Some(Box::new(Caching {
            rules: rules.clone(),
            uri: watt_cache::uri(client.tls.is_some(), request.host, target),
            place: Place {
                service: self.service.shared_name.clone(),
                side: side.unwrap_or(watt_cache::Side::Gateway),
                route: self.route.as_ref().map_or(0, |route| route.number()),
            },
            is_believed: rules.believes(&client.side),
            is_for_one: granted.is_some_and(Granted::is_seen) || changed.is_some_and(Changed::is_seen),
            stores,
            is_refresh: false,
        }))
    }

    fn returning(
        &self,
        change: Option<&Change<'_>>,
        host: &[u8],
        cookie: Option<String>,
        passed: Option<Passed>,
    ) -> Option<Box<Returning>> {
        let headers = self.actions().and_then(|actions| actions.response.clone());
        let Passed { lines, replaces_cors, .. } = passed.unwrap_or_default();
        let is_added = !lines.is_empty() || replaces_cors;
        let foreign = self.service.host.as_deref();
        let is_changed = change.is_some() || foreign.is_some() || cookie.is_some() || headers.is_some();
        if !is_changed && !is_added {
            return None;
        }
        let outward = match foreign {
            Some(host) => Some(Outward::foreign(change, host)),
            None => change.map(|change| change.outward(host)),
        };
        Some(Box::new(Returning { outward, cookie, worker_cookie: None, lines, replaces_cors, headers }))
    }
}

/// Route or name, then policy.
fn direct(
    thread: &Rc<Thread>,
    table: &Table,
    client: &Client,
    request: &Request<'_, '_>,
    so_far: Option<&SoFar>,
) -> Result<Destination, Unready> {
    let path = path(request);
    let asking = Asking { table, thread, client, request, service: None, path, inward: None, so_far };
    let directed = match &client.side {
        Side::Gateway => route(&asking),
        Side::Mesh { caller } => name(&asking, caller.as_deref()),
    };
    directed.map_err(|aside| {
        let (reply, delay) = match aside {
            Aside::Answered(reply, delay) => (reply, delay),
            Aside::Asks(pending) => return Unready::Asks(pending),
        };
        let has_body = !matches!(request.found.framing, Framing::Unspecified | Framing::Length(0));
        let connection = &request.found.connection;
        let close = has_body || connection.close || request.http10 && !connection.keep_alive;
        // An answer is the last one of a connection when the proxy is going to end, whoever gives it.
        let close = close || thread.is_closing() || client.terms.are_over();
        let without_body = request.method == Method::Head;
        let manner =
            Manner { format: format(request), without_body, close, keep_alive: request.http10 && !close };
        Unready::Declined(Box::new(Declined { reply, manner, delay, head_len: request.fields.bytes.len() }))
    })
}

/// A call in the mesh.
fn name(asking: &Asking<'_>, caller: Option<&str>) -> Result<Destination, Aside> {
    let service = asking.table.service_of_authority(asking.request.host)?;
    asking.thread.admit(service, caller)?;
    let passed =
        guards::pass([None, service.guard.as_deref()], &Asking { service: Some(service), ..*asking })?;
    Ok(Destination::named(service.clone(), passed))
}

/// A request at the gateway.
fn route(asking: &Asking<'_>) -> Result<Destination, Aside> {
    let Asking { table, client, request, .. } = *asking;
    let Some(Ways { router, to_https }) = table.ways(&client.terms) else {
        return Err(misdirected().into());
    };
    if let Some(max) = client.terms.bounds().body_max
        && request.body_length().is_some_and(|length| length > max)
    {
        return Err(asking.too_large(max).into());
    }
    if request.found.origin.is_some()
        && request.method_name == "OPTIONS"
        && let Some(reply) = preflight(router, asking)
    {
        return Err(Aside::Answered(reply, None));
    }
    let asked = asked(request);
    let route = router.find(&asked).map_err(|unrouted| match (unrouted, to_https) {
        (Unrouted::NoRoute, Some(to)) => Aside::Answered(Reply::Own(to.answer(&asked, client)), None),
        (unrouted, _) => not_routed(unrouted, &asked).into(),
    })?;
    let delay = route.actions().and_then(Actions::delay);
    if let Some(reply) = route.reply(&asked) {
        let passed = guards::pass([route.guard(), None], &Asking { service: route.service(), ..*asking })?;
        return Err(Aside::Answered(reply.with(&passed.unwrap_or_default().lines), delay));
    }
    let chosen = route.choose(&asked);
    let service = chosen.target.ok_or_else(|| {
        let message = format!("The route leads to `{}`, which is no service.", chosen.service);
        Failure::new(Reason::UnknownService, Some(chosen.service.into()), message)
    })?;
    let is_told =
        service.guard.as_deref().is_some_and(Guard::has_rules) || route.guard().is_some_and(Guard::has_filters);
    let inward = if is_told { inward(route, request) } else { None };
    let of_service = Asking { service: Some(service), inward: inward.as_deref(), ..*asking };
    let passed = guards::pass([route.guard(), service.guard.as_deref()], &of_service)?;
    Ok(Destination {
        service: service.clone(),
        cookie: chosen.cookie.map(|name| set_cookie(name, chosen.service, client)),
        delay,
        mirror: mirror(route, asking),
        route: Some(route.clone()),
        passed,
    })
}

/// The path that a service gets, where that is another one.
fn inward(route: &Route, request: &Request<'_, '_>) -> Option<Vec<u8>> {
    let change = route.change(path(request))?;
    let mut inward = Vec::new();
    change.write_inward(request.target.path_and_query.as_bytes(), &mut inward);
    inward.truncate(memchr::memchr(b'?', &inward).unwrap_or(inward.len()));
    Some(inward)
}

/// Who gets a copy: the service that the route names, if the request may come to that one.
fn mirror(route: &Route, asking: &Asking<'_>) -> Option<Mirror> {
    let to = route.mirror()?;
    let guard = to.guard.as_deref();
    let inward = guard.filter(|guard| guard.has_rules()).and_then(|_| inward(route, asking.request));
    let of_copy = Asking { service: Some(&to), inward: inward.as_deref(), so_far: None, ..*asking };
    let body_max = guards::pass([None, guard], &of_copy).ok()?.and_then(|passed| passed.body_max);
    Some(Mirror { to, body_max })
}

/// The answer to a question of a browser's, before it sends another request for a page. The route of that one has it, so that one
/// which takes POST alone is asked. `None` when it is the service's affair.
fn preflight(router: &Router, asking: &Asking<'_>) -> Option<Reply> {
    let request = asking.request;
    let value = |name: &[u8]| {
        let mut lines = request.fields.headers.iter();
        lines.find(|header| header.name.as_bytes().eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    let method = value(b"access-control-request-method")?;
    let head = [method, b" "].concat();
    let asked = asked(request);
    let route = router.find(&Asked { head: &head, ..asked }).ok()?;
    let preflight = Preflight {
        origin: request.found.origin.map(|line| request.fields.value(line))?,
        method,
        headers: value(b"access-control-request-headers"),
    };
    route.guard()?.preflight(&preflight, &Asking { service: route.service(), ..*asking })
}

/// What decides about a request's route.
pub(crate) fn asked<'r>(request: &Request<'r, 'r>) -> Asked<'r> {
    let mut dropped = request.found.hop_by_hop;
    dropped |= request.found.lookalikes;
    Asked {
        authority: request.host,
        path: path(request),
        target: request.target.path_and_query.as_bytes(),
        head: request.fields.bytes,
        headers: request.fields.headers,
        dropped,
        parsed: Parsed::default(),
    }
}

/// `OPTIONS *` is about the server as a whole: the route of `/` answers.
fn path<'r>(request: &Request<'_, 'r>) -> &'r [u8] {
    match request.target.path() {
        "*" => b"/",
        path => path.as_bytes(),
    }
}

/// The connection came in by a listener that is gone, with routes that it had for itself. No others are right for it.
fn misdirected() -> Failure {
    let message = "The listener that this connection came in by is no more.".to_owned();
    Failure::new(Reason::Misdirected, None, message)
}

fn not_routed(unrouted: Unrouted, asked: &Asked<'_>) -> Failure {
    let text = String::from_utf8_lossy;
    let (host, path) = (text(asked.authority), text(asked.path));
    match unrouted {
        Unrouted::Ambiguous(_) => Refusal::AmbiguousPath.into(),
        Unrouted::TooLong => Refusal::TargetTooLong.into(),
        Unrouted::NoRoute => Failure::new(Reason::NoRoute, None, format!("No route matches `{host}{path}`.")),
        Unrouted::Method { allow } => {
            let message =
                format!("`{host}{path}` has routes for {allow}, and none for {}.", text(asked.method()));
            Failure { allow: Some(allow), ..Failure::new(Reason::MethodNotAllowed, None, message) }
        }
    }
}

fn format(request: &Request<'_, '_>) -> Format {
    if request.found.grpc {
        return Format::Grpc;
    }
    request.found.accept.map(|line| Format::by_accept(request.fields.value(line))).unwrap_or_default()
}

/// Whether the wish to switch protocols is passed on. HTTP/2 is not: the tunnel would carry requests past the routes.
fn wants_upgrade(request: &Request<'_, '_>) -> bool {
    let found = &request.found;
    let mut values = found.upgrade.iter().map(|line| request.fields.value(line));
    match (values.next(), values.next()) {
        (Some(value), None) => {
            let to_http = list(value).any(is_http);
            found.connection.upgrade && !request.http10 && is_protocol(value) && !to_http
        }
        _ => false,
    }
}

/// Whether a protocol is HTTP.
pub(crate) fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"h2c") || name.len() >= 4 && name[..4].eq_ignore_ascii_case(b"http")
}

/// Whether the protocol that is wished for is WebSocket and no other.
fn wants_websocket(request: &Request<'_, '_>) -> bool {
    let mut values = request.found.upgrade.iter().map(|line| request.fields.value(line));
    values.next().is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
}

/// A request's head as it goes on.
struct Head<'a> {
    table: &'a Table,
    client: &'a Client,
    request: &'a Request<'a, 'a>,
    route: Option<&'a Route>,
    change: Option<&'a Change<'a>>,
    prepared: &'a Prepared,
    known: Option<&'a Known>,
    granted: Option<&'a Granted>,
    filtered: Option<&'a Changed>,
}

impl Head<'_> {
    fn write(&self, forwarded: &mut Forwarded, out: &mut Vec<u8>) {
        let found = &self.request.found;
        let theirs = Theirs {
            fields: &self.request.fields,
            forwarded: found.forwarded,
            forwarded_for: found.forwarded_for,
            other: found.forwarded_other,
        };
        let mut drop = found.hop_by_hop;
        drop |= forwarded.replaced(&theirs);
        if matches!(self.client.side, Side::Gateway) {
            drop |= found.lookalikes;
        }
        if !self.prepared.expect {
            drop |= found.expect;
        }
        if self.prepared.upgrade {
            found.upgrade.iter().for_each(|line| drop.remove(line));
        }
        if self.prepared.deadline.is_some() {
            drop |= found.all_timeouts();
        }
        let actions = self.route.and_then(Route::actions);
        let headers = actions.and_then(|actions| actions.request.as_ref());
        if let Some(headers) = headers {
            headers.take(&self.request.fields, &mut drop);
        }
        if let Some(known) = self.known {
            known.take_credentials(&self.request.fields, &mut drop);
        }
        if let Some(granted) = self.granted {
            granted.take(&self.request.fields, &mut drop);
        }
        if let Some(filtered) = self.filtered {
            filtered.take(&self.request.fields, &mut drop);
        }
        let trace = self.trace(&mut drop);
        self.write_lines(drop, out);
        if let Some(known) = self.known {
            known.identity.write(out);
        }
        if let Some(granted) = self.granted {
            granted.write(out);
        }
        if let Some(filtered) = self.filtered {
            filtered.write(out);
        }
        if let Some(headers) = headers {
            headers.write(out);
        }
        if self.prepared.upgrade {
            out.extend_from_slice(b"Connection: upgrade\r\n");
        } else if found.te_trailers {
            out.extend_from_slice(b"Connection: TE\r\n");
        }
        out.extend_from_slice(&self.table.via);
        forwarded.write(self.request.host, self.change.and_then(Change::hidden_prefix), &theirs, out);
        trace.write(out);
        out.extend_from_slice(b"\r\n");
    }

    /// The request line and the fields that go on as they are; in one piece when the first line needs no change.
    fn write_lines(&self, mut drop: Lines, out: &mut Vec<u8>) {
        let Request { fields, target, http10, host, found, .. } = self.request;
        let theirs = self.prepared.service.host.as_deref();
        let own_host = target.absolute || found.host.is_none() || theirs.is_some();
        let written = self.filtered.and_then(|filtered| filtered.target.as_deref());
        if self.change.is_none() && written.is_none() && !own_host && !http10 {
            fields.copy_lines(0, drop, out);
            return;
        }
        let method_end = memchr::memchr(b' ', fields.bytes).unwrap_or(0);
        out.extend_from_slice(&fields.bytes[..method_end + 1]);
        match (written, self.change) {
            (Some(written), _) => out.extend_from_slice(written.as_bytes()),
            (None, Some(change)) => change.write_inward(target.path_and_query.as_bytes(), out),
            (None, None) => out.extend_from_slice(target.path_and_query.as_bytes()),
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if own_host {
            out.extend_from_slice(b"Host: ");
            self.write_host(theirs.unwrap_or(host), out);
            out.extend_from_slice(b"\r\n");
            found.host.into_iter().for_each(|line| drop.add(line));
        }
        fields.copy_lines(fields.start_of(0), drop, out);
    }

    /// HTTP/1.0 clients may leave the host out; then it is the address they came to.
    fn write_host(&self, host: &[u8], out: &mut Vec<u8>) {
        match self.client.local {
            _ if !host.is_empty() => out.extend_from_slice(host),
            // Writing to memory does not fail.
            Some(local) => drop(write!(out, "{local}")),
            None => out.extend_from_slice(b"localhost"),
        }
    }

    /// The trace this request belongs to. Lines that are not valid are dropped.
    fn trace(&self, drop: &mut Lines) -> Trace {
        let found = &self.request.found;
        let fields = &self.request.fields;
        *drop |= found.traceparent;
        let mut parents = found.traceparent.iter().map(|line| fields.value(line));
        let trace = match (parents.next(), parents.next()) {
            (Some(parent), None) => Trace::parse(parent),
            _ => None,
        };
        let states = || found.tracestate.iter().map(|line| fields.value(line));
        if !found.tracestate.is_empty() && (trace.is_none() || !is_tracestate(states())) {
            *drop |= found.tracestate;
        }
        trace.unwrap_or_else(Trace::start)
    }
}

//! What a rule does besides leading to one service: shares of several, other headers, an answer of its own, faults for tests.

use std::{rc::Rc, time::Duration};

use watt_api::mesh::{self, RouteAnswer};

use super::{
    Asked,
    explain::Becomes,
    pattern::Pattern,
    rewrite::{Change, Template},
};
use crate::{
    cache::OfRoute,
    guards::Guard,
    http::{CompressRules, Fields, Lines},
    respond::{Failure, OwnAnswer, Reason, Reply},
    table::Service,
};

/// Everything of it. Most rules have none.
pub(crate) struct Actions {
    pub(crate) request: Option<HeaderChange>,
    pub(crate) response: Option<Rc<HeaderChange>>,
    answer: Option<Answer>,
    fault: Option<mesh::RouteFault>,
    /// What requests have to pass.
    pub(crate) guard: Option<Guard>,
    /// How responses of services are compressed.
    pub(crate) compress: Option<Rc<CompressRules>>,
    /// It leads to files.
    pub(super) has_files: bool,
    /// It leads to a page of the proxy's own.
    pub(super) has_page: bool,
    /// Which responses are stored, where it says that itself.
    pub(crate) cache: Option<OfRoute>,
}

enum Answer {
    Redirect { status: u16, to: Template },
    Fixed { status: u16, body: Rc<[u8]>, content_type: Box<str> },
}

impl Actions {
    /// `None` when there is nothing to be done.
    pub(super) fn new(rule: &mesh::Route) -> Option<Box<Actions>> {
        let answer = rule.answer.as_ref().map(|answer| match answer {
            RouteAnswer::Redirect { status, to } => Answer::Redirect {
                status: *status,
                to: Template::new(if rule.matching == mesh::PathMatch::Prefix {
                    to.trim_end_matches('/')
                } else {
                    to
                }),
            },
            RouteAnswer::Fixed { status, body, content_type } => Answer::Fixed {
                status: *status,
                body: body.as_bytes().into(),
                content_type: content_type.as_str().into(),
            },
        });
        let actions = Actions {
            request: HeaderChange::new(&rule.request_headers),
            response: HeaderChange::new(&rule.response_headers).map(Rc::new),
            answer,
            fault: rule.fault.clone(),
            guard: Guard::new(&rule.guard),
            compress: rule.compress.as_ref().map(|rules| Rc::new(CompressRules::new(rules))),
            has_files: rule.files.is_some(),
            has_page: rule.page.is_some(),
            cache: rule.cache.as_ref().map(OfRoute::new),
        };
        let Actions { request, response, answer, fault, guard, compress, has_files, has_page, cache } =
            &actions;
        let changes = request.is_some() || response.is_some() || compress.is_some();
        let is_something = changes
            || answer.is_some()
            || fault.is_some()
            || guard.is_some()
            || *has_files
            || *has_page
            || cache.is_some();
        is_something.then(|| Box::new(actions))
    }

    /// What is answered without any service, if so.
    pub(super) fn reply(&self, pattern: &Pattern, asked: &Asked<'_>) -> Option<Reply> {
        if let Some(fault) = self.fault.as_ref().filter(|fault| draw(fault.abort_percent)) {
            let message = "This failure is made on purpose: the route has a fault for tests.".to_owned();
            return Some(Failure::new(Reason::Injected(fault.abort_status), None, message).into());
        }
        self.answer(pattern, asked).map(Reply::Own)
    }

    /// The same without chance.
    pub(super) fn answer(&self, pattern: &Pattern, asked: &Asked<'_>) -> Option<OwnAnswer> {
        let mut own = match self.answer.as_ref()? {
            Answer::Redirect { status, to } => {
                let location = location(to, pattern, asked);
                OwnAnswer {
                    status: *status,
                    lines: [b"Location: ", &location[..], b"\r\n"].concat(),
                    body: Rc::new([]),
                }
            }
            Answer::Fixed { status, body, content_type } => {
                let lines = match body.is_empty() {
                    true => Vec::new(),
                    false => format!("Content-Type: {content_type}\r\n").into_bytes(),
                };
                OwnAnswer { status: *status, lines, body: body.clone() }
            }
        };
        if let Some(change) = &self.response {
            change.apply(&mut own.lines);
        }
        Some(own)
    }

    /// What is answered, for explanations.
    pub(super) fn own(&self, pattern: &Pattern, asked: &Asked<'_>) -> Option<Becomes> {
        Some(match self.answer.as_ref()? {
            Answer::Redirect { status, to } => {
                let location = String::from_utf8_lossy(&location(to, pattern, asked)).into_owned();
                Becomes::Redirect { status: *status, location }
            }
            Answer::Fixed { status, .. } => Becomes::Answer(*status),
        })
    }

    /// What clients are sent to.
    pub(super) fn redirect(&self) -> Option<&Template> {
        match self.answer.as_ref()? {
            Answer::Redirect { to, .. } => Some(to),
            Answer::Fixed { .. } => None,
        }
    }

    /// How long this request waits first.
    pub(crate) fn delay(&self) -> Option<Duration> {
        let fault = self.fault.as_ref().filter(|fault| draw(fault.delay_percent))?;
        Some(Duration::from_millis(fault.delay_ms))
    }
}

/// Where a redirect leads: in place of the route's path, with what follows it and with the query.
fn location(to: &Template, pattern: &Pattern, asked: &Asked<'_>) -> Vec<u8> {
    let mut location = Vec::new();
    // `OPTIONS *` has the route of `/`.
    let target = if asked.target.starts_with(b"/") { asked.target } else { b"/" };
    match Change::new(to, pattern, asked.path) {
        Some(change) => change.write_inward(target, &mut location),
        None => location.extend_from_slice(target),
    }
    // Two slashes, or what browsers take for them, would lead to a host that the client has named.
    let slashes = location.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
    if slashes > 1 {
        location.splice(..slashes, [b'/']);
    }
    location
}

/// True for so many of a hundred.
pub(super) fn draw(percent: u32) -> bool {
    percent > 0 && fastrand::u32(..100) < percent
}

/// Headers that go, and lines that come.
#[derive(Debug)]
pub(crate) struct HeaderChange {
    names: Vec<Box<[u8]>>,
    lines: Box<[u8]>,
}

impl HeaderChange {
    fn new(rules: &mesh::HeaderRules) -> Option<HeaderChange> {
        let set = rules.set.iter().map(|(name, _)| name);
        let names = rules.remove.iter().chain(set).map(|name| name.as_bytes().into()).collect();
        let lines: String =
            rules.set.iter().chain(&rules.add).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        (!rules.is_nothing()).then(|| HeaderChange { names, lines: lines.into_bytes().into() })
    }

    /// Adds the lines that go to `drop`.
    pub(crate) fn take(&self, fields: &Fields<'_, '_>, drop: &mut Lines) {
        for (line, header) in fields.headers.iter().enumerate() {
            if self.takes(header.name.as_bytes()) {
                drop.add(line);
            }
        }
    }

    /// Whether a field of this name goes: also one with `_` for `-`, which programs that see headers as CGI has them take for the same
    /// (RFC 3875 §4.1.18). Nobody is to set `x-tenant` by `x_tenant`.
    fn takes(&self, header: &[u8]) -> bool {
        let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let is =
            |name: &[u8]| name.len() == header.len() && name.iter().map(folded).eq(header.iter().map(folded));
        self.names.iter().any(|name| is(name))
    }

    /// The same for the lines of an answer of the proxy's own, each of which has its end.
    pub(crate) fn apply(&self, lines: &mut Vec<u8>) {
        let name = |line: &[u8]| memchr::memchr(b':', line).unwrap_or(line.len());
        let kept =
            lines.split_inclusive(|byte| *byte == b'\n').filter(|line| !self.takes(&line[..name(line)]));
        *lines = kept.chain([&*self.lines]).collect::<Vec<_>>().concat();
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lines);
    }
}

/// Services that share the requests of a route.
pub(super) struct Split {
    shares: Vec<Share>,
    total: u32,
    sticky: Option<Box<str>>,
}

pub(super) struct Share {
    weight: u32,
    pub(super) service: Box<str>,
    pub(super) target: Option<Rc<Service>>,
}

impl Split {
    pub(super) fn new(rule: &mesh::Route, service: impl Fn(&str) -> Option<Rc<Service>>) -> Option<Split> {
        let share = |share: &mesh::RouteShare| Share {
            weight: share.weight,
            service: share.service.as_str().into(),
            target: service(&share.service),
        };
        let shares: Vec<Share> = rule.split.iter().map(share).collect();
        let total = shares.iter().map(|share| share.weight).fold(0, u32::saturating_add);
        (total > 0).then(|| Split { shares, total, sticky: rule.sticky.as_deref().map(Box::from) })
    }

    /// The one for a request, and the name of the cookie that the client gets.
    pub(super) fn choose(&self, asked: &Asked<'_>) -> (&Share, Option<&str>) {
        if let Some(share) = self.sticky.as_ref().and_then(|cookie| self.known(cookie, asked)) {
            return (share, None);
        }
        let mut left = fastrand::u32(..self.total);
        let drawn = self.shares.iter().find(|share| {
            let is_it = left < share.weight;
            left = left.saturating_sub(share.weight);
            is_it
        });
        let share = drawn.unwrap_or(&self.shares[0]);
        (share, self.sticky.as_deref())
    }

    /// The one that the client has met, unless nobody is to meet it any more.
    fn known(&self, cookie: &str, asked: &Asked<'_>) -> Option<&Share> {
        let share = |value: &[u8]| {
            self.shares.iter().find(|share| share.weight > 0 && share.service.as_bytes() == value)
        };
        // There may be others of this name.
        asked.cookies(cookie.as_bytes()).find_map(share)
    }
}

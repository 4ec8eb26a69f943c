//! The gateway's routes: which service a host and a path lead to, and how paths change on the way in and out.
//!
//! All routes that take a request are in one order, and the first one has it:
//! 1. the host: an exact one before a wildcard, the longer one first, before none;
//! 2. the path, segment by segment from the left: text before a parameter before the end of an exact path before a regular expression
//!    before the end of a prefix ([`pattern`]);
//! 3. the number of conditions: methods, headers, cookies, parameters of the query ([`condition`]);
//! 4. the place in the file.
//!
//! [`tree`] finds it without looking at the others, [`explain`] says why it was not one of those.
//!
//! Paths are passed on as they came, never decoded or normalised. But the service may do either, and so a path is
//! read in every way that is common ([`reading`]). If one reading leads along another route than the bytes themselves, the request is
//! refused: nobody gets at `/admin` through `/api/..%2fadmin`. So it is if a path is rewritten and a reading leaves what
//! is below it: what the rewrite leads to is all that clients can reach. And so it is if other letters lead along a route that asks for more
//! ([`folded`]).

mod action;
mod condition;
pub mod explain;
mod file;
mod folded;
mod page;
mod pattern;
mod reading;
mod rewrite;
mod rules;
#[cfg(test)]
mod tests;
mod tree;

use std::{collections::HashMap, os::fd::OwnedFd, rc::Rc, sync::Arc};

use httparse::Header;
use watt_api::mesh;

pub(crate) use self::{
    action::{Actions, HeaderChange},
    condition::Parsed,
    rewrite::{Change, Outward},
};
use self::{
    action::{Share, Split},
    reading::{Reading, has_other_readings, readings},
    rules::{Rule, Rules},
};
use crate::{files::Folder, guards::Guard, http::Lines, pages::Document, respond::Reply, table::Service};

/// A rule and what it leads to.
pub(crate) struct Route {
    rules: Rc<Rules>,
    rule: u32,
    /// Host and path as the file has them.
    pub(crate) label: Rc<str>,
    service: Box<str>,
    /// The service of that name.
    target: Option<Rc<Service>>,
    /// In place of that one.
    split: Option<Box<Split>>,
    /// The folder whose files it leads to, if the daemon has passed it.
    files: Option<Arc<Folder>>,
    /// What its page shows, once the daemon has given it.
    document: Option<Arc<Document>>,
    /// Who gets copies, and of how many of a hundred requests.
    mirror: Option<(Rc<Service>, u32)>,
}

/// The service that a route chose for a request.
pub(crate) struct Chosen<'r> {
    pub(crate) service: &'r str,
    pub(crate) target: Option<&'r Rc<Service>>,
    /// The name of a cookie that is to keep the client there.
    pub(crate) cookie: Option<&'r str>,
}

/// All routes.
#[derive(Default)]
pub(crate) struct Router {
    rules: Rc<Rules>,
    /// By the number of the rule.
    routes: Vec<Rc<Route>>,
}

/// What of a request decides about its route.
pub(crate) struct Asked<'a> {
    /// `name[:port]`.
    pub(crate) authority: &'a [u8],
    /// Without the query.
    pub(crate) path: &'a [u8],
    /// With the query.
    pub(crate) target: &'a [u8],
    /// Its head, which begins with the method.
    pub(crate) head: &'a [u8],
    pub(crate) headers: &'a [Header<'a>],
    /// Those of them that do not go on, for example since `Connection` names them.
    pub(crate) dropped: Lines,
    pub(crate) parsed: Parsed<'a>,
}

impl<'a> Asked<'a> {
    pub(crate) fn method(&self) -> &'a [u8] {
        &self.head[..memchr::memchr(b' ', self.head).unwrap_or(self.head.len())]
    }

    fn query(&self) -> &'a [u8] {
        memchr::memchr(b'?', self.target).map_or(&[], |at| &self.target[at + 1..])
    }

    /// The values of a header as the service gets them. Its name is in lower case or not.
    pub(crate) fn values<'s>(&'s self, name: &'s [u8]) -> impl Iterator<Item = &'a [u8]> + use<'s, 'a> {
        let named = self.headers.iter().enumerate().filter(|(line, header)| {
            header.name.as_bytes().eq_ignore_ascii_case(name) && !self.dropped.has(*line)
        });
        named.map(|(_, header)| header.value)
    }
}

impl<'a> Asked<'a> {
    /// The values of cookies of this name. Browsers send that first whose path is longest (RFC 6265 §5.4).
    pub(crate) fn cookies<'s>(&'s self, name: &'s [u8]) -> impl Iterator<Item = &'a [u8]> + use<'s, 'a> {
        let pairs = self.parsed.cookies(self).iter();
        pairs.filter(move |(other, _)| *other == name).map(|(_, value)| *value)
    }
}

/// Why a request has no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unrouted {
    /// Readers would disagree on it.
    Ambiguous(Box<Ambiguity>),
    /// There is one for these methods.
    Method { allow: Box<str> },
    /// It may be that of an expression, which is not asked about so long a path.
    TooLong,
    /// There is none.
    NoRoute,
}

/// A reading of a path that leads elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ambiguity {
    /// The path as it was read.
    path: Vec<u8>,
    /// Where that leads: along this rule.
    to: Option<u32>,
}

impl Router {
    /// The routes of a snapshot, after these.
    pub(crate) fn renewed(
        &self,
        routes: &[mesh::Route],
        services: &HashMap<Box<str>, Rc<Service>>,
        folder: impl Fn(&str) -> Option<Arc<OwnedFd>>,
        document: impl Fn(&str) -> Option<Arc<Document>>,
    ) -> Router {
        let rules = Rules::renewed(&self.rules, routes);
        let route = |(id, rule): (u32, &Rule)| {
            let source = &routes[rule.number];
            let service = |name: &str| services.get(name).cloned();
            let files = |rules: &mesh::RouteFiles| {
                let parent = folder(&rules.folder)?;
                Some(Arc::new(Folder { parent, rules: rules.clone() }))
            };
            Rc::new(Route {
                files: source.files.as_ref().and_then(files),
                document: source.page.as_ref().and_then(|page| document(&page.document)),
                rules: rules.clone(),
                rule: id,
                label: source.label().into(),
                service: source.service.as_str().into(),
                target: service(&source.service),
                split: Split::new(source, service).map(Box::new),
                mirror: source
                    .mirror
                    .as_ref()
                    .and_then(|mirror| Some((service(&mirror.service)?, mirror.percent))),
            })
        };
        let routes = (0..).zip(&rules.all).map(route).collect();
        Router { rules, routes }
    }

    /// The route of a request.
    pub(crate) fn find(&self, asked: &Asked<'_>) -> Result<&Rc<Route>, Unrouted> {
        self.rules.decide(asked).map(|rule| &self.routes[rule as usize])
    }
}

impl Rules {
    /// The rule that takes a request, when there is no doubt about it.
    fn decide(&self, asked: &Asked<'_>) -> Result<u32, Unrouted> {
        let host = host_of(asked.authority);
        let found = self.find(host, asked.path, asked);
        if found.is_some_and(|rule| self.all[rule as usize].pattern.is_unknown(asked.path)) {
            return Err(Unrouted::TooLong);
        }
        self.look_at_letters(host, asked.path, asked, found)?;
        if has_other_readings(asked.path) {
            self.guard(host, asked, found)?;
        }
        match found {
            Some(rule) => Ok(rule),
            None => Err(match self.methods(host, asked.path, asked) {
                Some(allow) => Unrouted::Method { allow },
                None => Unrouted::NoRoute,
            }),
        }
    }

    /// Whether a path, in whatever letters, leads along no rule that asks for more.
    fn look_at_letters(
        &self,
        host: &[u8],
        path: &[u8],
        asked: &Asked<'_>,
        found: Option<u32>,
    ) -> Result<(), Unrouted> {
        let (Some(folded), Some(found)) = (&self.folded, found) else { return Ok(()) };
        match folded.stricter(self, host, path, asked, found) {
            None => Ok(()),
            to => Err(Unrouted::Ambiguous(Box::new(Ambiguity { path: path.to_ascii_lowercase(), to }))),
        }
    }

    /// Whether every reading of a path leads along the same rule, and within what that is about.
    fn guard(&self, host: &[u8], asked: &Asked<'_>, found: Option<u32>) -> Result<(), Unrouted> {
        let ambiguous = |path, to| Err(Unrouted::Ambiguous(Box::new(Ambiguity { path, to })));
        let rule = found.map(|rule| &self.all[rule as usize]);
        for Reading { path, depth_min } in readings(asked.path) {
            let to = self.find(host, &path, asked);
            if to != found || rule.is_some_and(|rule| rule.is_left_at(depth_min, asked.path)) {
                return ambiguous(path, to);
            }
            self.look_at_letters(host, &path, asked, found)?;
        }
        if rule.is_some_and(|rule| rule.hides_slashes(asked.path)) {
            return ambiguous(reading::decode(asked.path), found);
        }
        Ok(())
    }
}

impl Route {
    fn rule(&self) -> &Rule {
        &self.rules.all[self.rule as usize]
    }

    /// What it does besides leading to a service. Most do nothing.
    pub(crate) fn actions(&self) -> Option<&Actions> {
        self.rule().actions.as_deref()
    }

    /// What it makes of requests before a service sees them, as a number.
    pub(crate) fn number(&self) -> u64 {
        self.rule().change_number
    }

    /// What requests have to pass.
    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.actions()?.guard.as_ref()
    }

    /// The only service that it leads to.
    pub(crate) fn service(&self) -> Option<&Service> {
        self.target.as_deref()
    }

    /// What is answered to a request without any service, if so.
    pub(crate) fn reply(&self, asked: &Asked<'_>) -> Option<Reply> {
        let actions = self.actions()?;
        let pattern = &self.rule().pattern;
        let files = || actions.has_files.then(|| file::reply(self.files.as_ref(), actions, pattern, asked));
        let page = || actions.has_page.then(|| page::reply(self.document.as_ref(), actions, pattern, asked));
        actions.reply(pattern, asked).or_else(files).or_else(page)
    }

    /// Who gets a copy of this request.
    pub(crate) fn mirror(&self) -> Option<Rc<Service>> {
        let (service, percent) = self.mirror.as_ref()?;
        action::draw(*percent).then(|| service.clone())
    }

    /// Where a request goes.
    pub(crate) fn choose(&self, asked: &Asked<'_>) -> Chosen<'_> {
        match &self.split {
            None => Chosen { service: &self.service, target: self.target.as_ref(), cookie: None },
            Some(split) => {
                let (Share { service, target, .. }, cookie) = split.choose(asked);
                Chosen { service, target: target.as_ref(), cookie }
            }
        }
    }

    /// What it makes of a path that it takes; `None` when the path stays.
    pub(crate) fn change<'r>(&'r self, path: &'r [u8]) -> Option<Change<'r>> {
        self.rule().change(path)
    }
}

/// A path in every way that somebody may read it, as it came first.
pub(crate) fn spellings(path: &[u8]) -> Vec<Vec<u8>> {
    let mut spellings = vec![path.to_vec()];
    if has_other_readings(path) {
        spellings.extend(readings(path).into_iter().map(|reading| reading.path));
    }
    spellings
}

/// The name of an authority, without port and without the dot of the root.
pub(crate) fn host_of(authority: &[u8]) -> &[u8] {
    let end = match memchr::memrchr(b':', authority) {
        Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) => colon,
        _ => authority.len(),
    };
    let name = &authority[..end];
    name.strip_suffix(b".").unwrap_or(name)
}

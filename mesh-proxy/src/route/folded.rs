//! What a path leads to for a service that does not tell letters apart.
//!
//! Paths are compared letter by letter, and some services do not: to them `/ADMIN` is `/admin`. What the route of `/admin` asks for would then
//! be passed by. So all patterns are here once more, in lower case, where some route asks for more than another one; and a request that they
//! take along a route which asks for more than its own is refused. Which letters are meant is written in the route (`case`).

use std::borrow::Cow;

use watt_api::mesh::{self, Guard, RouteAnswer};

use super::{
    Asked,
    pattern::Pattern,
    rules::{Hosts, Rules},
    tree,
};
use crate::table::lower_case;

/// The rules by their paths in lower case.
pub(crate) struct Folded {
    patterns: Vec<Pattern>,
    /// How many conditions each has.
    conditions: Vec<usize>,
    hosts: Hosts,
    /// Whether some path was written with capital letters, or might be: then one in lower case leads elsewhere as well.
    has_capitals: bool,
}

impl tree::Rules for (&[Pattern], &[usize]) {
    fn pattern(&self, rule: u32) -> &Pattern {
        &self.0[rule as usize]
    }

    fn conditions(&self, rule: u32) -> usize {
        self.1[rule as usize]
    }
}

impl Folded {
    /// `None` when no rule asks for more than another one.
    pub(super) fn new(rules: &Rules) -> Option<Box<Folded>> {
        let sources = || rules.all.iter().map(|rule| &rules.source[rule.number]);
        let mut asked = sources().map(Asks::of);
        let first = asked.next()?;
        if asked.all(|other| other == first) || sources().all(|route| route.case_exact) {
            return None;
        }
        // An expression may take too much this way, and keeps to its own letters then; it compiled that way before.
        let pattern = |route| Pattern::folded(route).or_else(|_| Pattern::new(route));
        let patterns: Vec<Pattern> = sources().map(pattern).collect::<Result<_, _>>().ok()?;
        let conditions: Vec<usize> = rules.all.iter().map(|rule| rule.conditions.count()).collect();
        let mut hosts = Hosts::default();
        for (id, source) in (0..).zip(sources()) {
            hosts.add(id, source.host.as_deref(), &(&patterns[..], &conditions[..]));
        }
        let may_have_capitals = |route: &mesh::Route| match route.matching {
            mesh::PathMatch::Prefix | mesh::PathMatch::Exact => {
                route.path.bytes().any(|byte| byte.is_ascii_uppercase())
            }
            mesh::PathMatch::Regex => true,
        };
        let has_capitals = sources().any(may_have_capitals);
        Some(Box::new(Folded { patterns, conditions, hosts, has_capitals }))
    }

    /// The rule that a path leads along where letters are not told apart, if that one asks for more than `found`, along which it leads here.
    pub(super) fn stricter(
        &self,
        rules: &Rules,
        host: &[u8],
        path: &[u8],
        asked: &Asked<'_>,
        found: u32,
    ) -> Option<u32> {
        let lower = lower_case(path);
        if matches!(lower, Cow::Borrowed(_)) && !self.has_capitals {
            return None;
        }
        let mut holds = |rule: u32| rules.all[rule as usize].conditions.hold(asked);
        let tables = (&self.patterns[..], &self.conditions[..]);
        let first = self.hosts.offer(host, &lower, &tables, &mut holds)?;
        let (one, other) = (&rules.all[first as usize], &rules.all[found as usize]);
        // Of two that say as much, the one that was found has these letters: somebody wrote both.
        let says_more = first != found && one.pattern.compare(&other.pattern).is_lt();
        let asks_more = || asks_more(&rules.source[one.number], &rules.source[other.number]);
        (says_more && asks_more()).then_some(first)
    }
}

/// What keeps requests out.
#[derive(PartialEq)]
struct Asks<'r> {
    guard: Guard,
    refuses: Option<&'r RouteAnswer>,
}

impl Asks<'_> {
    fn of(route: &mesh::Route) -> Asks<'_> {
        // Which pages may come is their visitors' protection, and no service's.
        Asks { guard: Guard { cors: None, ..route.guard.clone() }, refuses: refusal(route) }
    }
}

/// The answer of a route that lets nobody in.
fn refusal(route: &mesh::Route) -> Option<&RouteAnswer> {
    route.answer.as_ref().filter(|answer| matches!(answer, RouteAnswer::Fixed { status: 400.., .. }))
}

/// Whether a route asks for something that the other one does not.
fn asks_more(one: &mesh::Route, other: &mesh::Route) -> bool {
    let Guard { addresses, cors: _, body_max, limits, auth, roles, rules, authority, filters } = &one.guard;
    let theirs = &other.guard;
    let refuses = refusal(one).is_some() && refusal(one) != refusal(other);
    let asks = !addresses.is_empty() && *addresses != theirs.addresses
        || auth.is_some() && *auth != theirs.auth
        || !roles.is_empty() && *roles != theirs.roles
        || !rules.is_empty() && *rules != theirs.rules
        || authority.is_some() && *authority != theirs.authority
        || !filters.is_empty() && *filters != theirs.filters
        || limits.iter().any(|limit| !theirs.limits.contains(limit))
        || body_max.is_some_and(|max| theirs.body_max.is_none_or(|other| other > max));
    !one.case_exact && (refuses || asks)
}

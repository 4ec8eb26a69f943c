//! Says which route a request would take, and why not another one: with the proxy's own guard, rules and order.

use std::cmp::Ordering;

use watt_api::mesh::{self, PathMatch, RequestPart};

use super::{
    Ambiguity, Asked, Unrouted,
    condition::{Condition, Test},
    host_of,
    pattern::End,
    rules::{Rule, Rules},
};
use crate::{
    http::{self, Refusal},
    pages::Below,
    table::lower_case,
};

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Where it goes.
    pub verdict: Verdict,
    /// The other routes by their place in the list, the closest ones first, each with the reasons why it is not the one.
    pub others: Vec<(usize, Vec<String>)>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Along this route.
    Route {
        /// Its place in the list.
        number: usize,
        /// What its parameters stand for.
        parameters: Vec<(String, String)>,
        /// What becomes of it.
        becomes: Becomes,
    },
    /// Nowhere: it is refused as it is.
    Refused {
        /// The status it is answered with.
        status: u16,
        /// The word for it in the answer.
        code: &'static str,
        /// Why, in words.
        message: String,
    },
    /// Nowhere: 405, since there are routes for other methods alone.
    Method {
        /// Those methods.
        allow: String,
    },
    /// Nowhere: 404.
    NoRoute,
}

/// What becomes of a request that a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Becomes {
    /// A service gets it, with this target: path and query.
    Target(String),
    /// The client is sent there.
    Redirect {
        /// With this status.
        status: u16,
        /// The Location.
        location: String,
    },
    /// It is answered with this status.
    Answer(u16),
    /// A file is looked for, of this path.
    File(String),
}

/// Explains what these routes do with a request. `head` is its head, from its first line to the empty one.
pub fn explain(routes: &[mesh::Route], head: &[u8]) -> Explanation {
    let rules = Rules::new(routes);
    let explained = http::with_request(head, |request| {
        let asked = http::asked(request);
        let decided = rules.decide(&asked);
        let found = decided.as_ref().ok().copied();
        let verdict = match decided {
            Ok(rule) => chosen(&rules, rule, &asked),
            Err(Unrouted::Ambiguous(ambiguity)) => ambiguous(&rules, &ambiguity),
            Err(Unrouted::TooLong) => {
                refused(Refusal::TargetTooLong, "no expression is asked about so long a path".to_owned())
            }
            Err(Unrouted::Method { allow }) => Verdict::Method { allow: allow.into() },
            Err(Unrouted::NoRoute) => Verdict::NoRoute,
        };
        Explanation { verdict, others: others(&rules, found, &asked) }
    });
    explained.unwrap_or_else(|refusal| Explanation {
        verdict: refused(refusal, refusal.message().to_owned()),
        others: Vec::new(),
    })
}

fn refused(refusal: Refusal, message: String) -> Verdict {
    Verdict::Refused { status: refusal.status(), code: refusal.code(), message }
}

fn chosen(rules: &Rules, rule: u32, asked: &Asked<'_>) -> Verdict {
    let rule = &rules.all[rule as usize];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let names = rule.pattern.parameters().into_iter();
    let parameters =
        names.map(|name| (name.to_owned(), text(rule.pattern.value(name, asked.path).unwrap_or_default())));
    let own = rule.actions.as_ref().and_then(|actions| actions.own(&rule.pattern, asked));
    let file = rules.source[rule.number].files.as_ref().map(|files| {
        let rest = &asked.path[rule.pattern.len_in(asked.path)..];
        Becomes::File(format!("{}{}", files.root.trim_end_matches('/'), text(rest)))
    });
    let page = rules.source[rule.number].page.as_ref().map(|_| {
        Becomes::Answer(match Below::of(&asked.path[rule.pattern.len_in(asked.path)..]) {
            Some(Below::Bare) => 301,
            Some(_) => 200,
            None => 404,
        })
    });
    let becomes = match own.or(file).or(page) {
        Some(becomes) => becomes,
        None => {
            let mut target = Vec::new();
            match rule.change(asked.path) {
                Some(change) => change.write_inward(asked.target, &mut target),
                None => target.extend_from_slice(asked.target),
            }
            Becomes::Target(text(&target))
        }
    };
    Verdict::Route { number: rule.number, parameters: parameters.collect(), becomes }
}

fn ambiguous(rules: &Rules, ambiguity: &Ambiguity) -> Verdict {
    let read = String::from_utf8_lossy(&ambiguity.path);
    let leads = match ambiguity.to {
        Some(rule) => {
            let number = rules.all[rule as usize].number;
            let path = &rules.source[number].path;
            format!("which is along the route of `{path}`, or out of what its path is rewritten to")
        }
        None => "which no route takes".to_owned(),
    };
    let message = format!("Somebody may read the path as `{read}`, {leads}.");
    refused(Refusal::AmbiguousPath, message)
}

fn others(rules: &Rules, found: Option<u32>, asked: &Asked<'_>) -> Vec<(usize, Vec<String>)> {
    let chosen = found.map(|rule| &rules.all[rule as usize]);
    let rest = rules.all.iter().filter(|rule| chosen.is_none_or(|chosen| chosen.number != rule.number));
    let mut misses: Vec<(&Rule, Vec<String>)> =
        rest.map(|rule| (rule, misses(rule, &rules.source[rule.number], asked))).collect();
    // A wrong path is further away than anything else.
    let distance = |rule: &Rule, misses: &[String]| {
        let host_fits = takes_host(&rules.source[rule.number], asked);
        misses.len() + 10 * usize::from(!rule.pattern.takes(asked.path)) + 5 * usize::from(!host_fits)
    };
    misses.sort_by(|(one, why), (other, other_why)| {
        distance(one, why).cmp(&distance(other, other_why)).then_with(|| compare(rules, one, other))
    });
    let behind = |rule: &Rule| match chosen {
        Some(chosen) => behind(rules, chosen, rule),
        None => "takes the path as it is written".to_owned(),
    };
    let with_reason = misses.into_iter().map(|(rule, why)| {
        let why = if why.is_empty() { vec![behind(rule)] } else { why };
        (rule.number, why)
    });
    with_reason.collect()
}

/// Why a rule does not take a request.
fn misses(rule: &Rule, source: &mesh::Route, asked: &Asked<'_>) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut misses = Vec::new();
    if !takes_host(source, asked) {
        let host = source.host.as_deref().unwrap_or_default();
        misses.push(format!("the host is not `{host}`"));
    }
    if !rule.pattern.takes(asked.path) {
        let path = &source.path;
        misses.push(match source.matching {
            PathMatch::Prefix => format!("the path is not `{path}`, nor below it"),
            PathMatch::Exact => format!("the path is not exactly `{path}`"),
            PathMatch::Regex => format!("the path is not of the form `{path}`"),
        });
    }
    if !rule.conditions.method_fits(asked.method()) {
        let methods = source.methods.join(", ");
        misses.push(format!("the method is {}, not {methods}", text(asked.method())));
    }
    let unmet = rule.conditions.tests.iter().filter(|condition| !condition.holds(asked));
    misses.extend(unmet.map(|condition| unmet_condition(condition, asked)));
    misses
}

fn unmet_condition(condition: &Condition, asked: &Asked<'_>) -> String {
    let part = match condition.part {
        RequestPart::Header => "header",
        RequestPart::Cookie => "cookie",
        RequestPart::Query => "query parameter",
    };
    let mut values = Vec::new();
    condition.any(asked, |value| {
        values.push(format!("`{}`", String::from_utf8_lossy(value)));
        false
    });
    let is = match values.is_empty() {
        true => "is not there".to_owned(),
        false => format!("is {}", values.join(", ")),
    };
    let wanted = match &condition.test {
        Test::Is(text) => format!(", not `{}`", String::from_utf8_lossy(text)),
        Test::Regex(_) => ", which is not of the form that is asked for".to_owned(),
        Test::Present | Test::Absent => String::new(),
    };
    let wanted = if values.is_empty() { String::new() } else { wanted };
    format!("the {part} `{}` {is}{wanted}", condition.name)
}

pub(super) fn takes_host(source: &mesh::Route, asked: &Asked<'_>) -> bool {
    let Some(wanted) = &source.host else { return true };
    let (wanted, host) = (wanted.to_ascii_lowercase(), lower_case(host_of(asked.authority)));
    match wanted.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_bytes()),
        None => *host == *wanted.as_bytes(),
    }
}

/// How near a host comes to naming one: an exact one, the longer wildcard, none.
fn host_rank(source: &mesh::Route) -> (bool, usize) {
    match source.host.as_deref() {
        None => (false, 0),
        Some(host) => (!host.starts_with('*'), host.len()),
    }
}

/// Which of two that take a request is asked first.
pub(super) fn compare(rules: &Rules, one: &Rule, other: &Rule) -> Ordering {
    let host = |rule: &Rule| host_rank(&rules.source[rule.number]);
    host(other)
        .cmp(&host(one))
        .then_with(|| one.pattern.compare(&other.pattern))
        .then_with(|| other.conditions.count().cmp(&one.conditions.count()))
        .then_with(|| one.number.cmp(&other.number))
}

/// What puts a rule that takes the request, too, behind the chosen one.
fn behind(rules: &Rules, chosen: &Rule, rule: &Rule) -> String {
    let host = |rule: &Rule| host_rank(&rules.source[rule.number]);
    let reason = if host(chosen) != host(rule) {
        "but is for more hosts"
    } else if chosen.pattern.compare(&rule.pattern).is_ne() {
        match (&chosen.pattern.end, &rule.pattern.end) {
            (End::Regex(_), End::Below) => "but its path says less than the expression",
            _ => "but its path says less",
        }
    } else if chosen.conditions.count() != rule.conditions.count() {
        "but has fewer conditions"
    } else if rule.number < chosen.number {
        "but does not list HEAD"
    } else {
        "but is written later"
    };
    format!("takes it as well, {reason}")
}

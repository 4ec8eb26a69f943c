//! Every rule of the gateway, compiled: which one takes a request. Made once for all tables that have the same rules, since expressions
//! take time to compile and tables change with every worker.

use std::{collections::HashMap, rc::Rc};

use watt_api::mesh;

use super::{
    Asked,
    action::Actions,
    condition::Conditions,
    folded::Folded,
    pattern::{End, Pattern},
    reading::decode,
    rewrite::{Change, Template},
    tree::{self, Node},
};
use crate::table::lower_case;

/// One rule.
pub(crate) struct Rule {
    /// Its place in the file.
    pub(super) number: usize,
    pub(super) pattern: Pattern,
    pub(super) conditions: Conditions,
    pub(super) rewrite: Option<Template>,
    pub(super) actions: Option<Box<Actions>>,
}

impl Rule {
    fn new(number: usize, rule: &mesh::Route) -> Result<Rule, regex::Error> {
        let pattern = Pattern::new(rule)?;
        let of_prefix = matches!(pattern.end, End::Below);
        let template =
            |text: &String| Template::new(if of_prefix { text.trim_end_matches('/') } else { text });
        let rewrite = rule.rewrite.as_ref().map(template);
        let actions = Actions::new(rule);
        Ok(Rule { number, pattern, conditions: Conditions::new(rule)?, rewrite, actions })
    }

    /// What it makes of a path that it takes; `None` when the path stays.
    pub(crate) fn change<'r>(&'r self, path: &'r [u8]) -> Option<Change<'r>> {
        Change::new(self.rewrite.as_ref()?, &self.pattern, path)
    }

    /// What stands in place of the path, for the service or in what clients are sent to.
    fn template(&self) -> Option<&Template> {
        self.rewrite.as_ref().or_else(|| self.actions.as_ref()?.redirect())
    }

    /// Whether a path whose dot segments lead up to this depth leaves what this rule rewrites: what the rewrite leads to is all that
    /// clients can reach.
    pub(super) fn is_left_at(&self, depth_min: Option<i64>, path: &[u8]) -> bool {
        let Some(min) = depth_min else { return false };
        let depth = match self.pattern.end {
            End::Here | End::Below => self.pattern.segments.len() as i64,
            // Who knows what of it stands for what.
            End::Regex(_) => i64::MAX,
        };
        min < depth && self.template().is_some_and(|to| Change::new(to, &self.pattern, path).is_some())
    }

    /// Whether what stands for a parameter in a rewrite would be other segments to somebody who decodes it.
    pub(super) fn hides_slashes(&self, path: &[u8]) -> bool {
        if self.template().is_none_or(|template| template.as_text().is_some()) {
            return false;
        }
        let slashes = |text: &[u8]| text.iter().filter(|byte| matches!(byte, b'/' | b'\\')).count();
        let names = self.pattern.parameters().into_iter();
        let mut values = names.filter_map(|name| self.pattern.value(name, path));
        values.any(|value| value.contains(&b'\\') || slashes(&decode(value)) > slashes(value))
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Rules {
    /// What they were made of.
    pub(super) source: Vec<mesh::Route>,
    pub(super) all: Vec<Rule>,
    hosts: Hosts,
    /// For services that do not tell letters apart; none where nothing depends on that.
    pub(super) folded: Option<Box<Folded>>,
}

impl tree::Rules for Vec<Rule> {
    fn pattern(&self, rule: u32) -> &Pattern {
        &self[rule as usize].pattern
    }

    fn conditions(&self, rule: u32) -> usize {
        self[rule as usize].conditions.count()
    }
}

/// Where rules are found by the host that a request is for.
#[derive(Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<[u8]>, Node>,
    /// By the part after `*`, which starts with a dot.
    wildcards: HashMap<Box<[u8]>, Node>,
    /// The length of the longest of those.
    wildcard_len_max: usize,
    any: Node,
}

impl Hosts {
    pub(super) fn add(&mut self, id: u32, host: Option<&str>, rules: &impl tree::Rules) {
        let host = host.map(str::to_ascii_lowercase);
        let node = match host.as_deref().map(|host| (host.strip_prefix('*'), host)) {
            None => &mut self.any,
            Some((Some(suffix), _)) => {
                self.wildcard_len_max = self.wildcard_len_max.max(suffix.len());
                self.wildcards.entry(suffix.as_bytes().into()).or_default()
            }
            Some((None, host)) => self.exact.entry(host.as_bytes().into()).or_default(),
        };
        node.add(id, rules);
    }

    /// Offers the rules that take this host and path until one is taken: those of the host itself before those of a wildcard, the
    /// longer one first, before those of every host.
    pub(super) fn offer(
        &self,
        host: &[u8],
        path: &[u8],
        rules: &impl tree::Rules,
        take: &mut impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let is_by_host = !self.exact.is_empty() || !self.wildcards.is_empty();
        if is_by_host && let Some(found) = self.offer_by_name(host, path, rules, take) {
            return Some(found);
        }
        self.any.find(path, path, rules, take)
    }

    fn offer_by_name(
        &self,
        host: &[u8],
        path: &[u8],
        rules: &impl tree::Rules,
        take: &mut impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let host = lower_case(host);
        if let Some(found) = self.exact.get(&*host).and_then(|node| node.find(path, path, rules, take)) {
            return Some(found);
        }
        // Whatever is longer than the longest wildcard need not be looked at: a name may have thousands of labels.
        let first = host.len().saturating_sub(self.wildcard_len_max).max(1);
        for dot in memchr::memchr_iter(b'.', host.get(first..).unwrap_or_default()) {
            let node = self.wildcards.get(&host[first + dot..]);
            if let Some(found) = node.and_then(|node| node.find(path, path, rules, take)) {
                return Some(found);
            }
        }
        None
    }
}

impl Rules {
    pub(super) fn new(source: &[mesh::Route]) -> Rules {
        let mut rules = Rules { source: source.to_vec(), ..Rules::default() };
        for (number, route) in source.iter().enumerate() {
            match Rule::new(number, route) {
                Ok(rule) => rules.all.push(rule),
                // The configuration's check refuses it. Whoever sent it all the same meant something, and it must not be too much.
                Err(error) => {
                    tracing::error!(path = route.path, %error, "a route is not understood, and left out")
                }
            }
        }
        for (id, rule) in (0..).zip(&rules.all) {
            rules.hosts.add(id, source[rule.number].host.as_deref(), &rules.all);
        }
        rules.folded = Folded::new(&rules);
        rules
    }

    /// The same ones if nothing changed, else new ones.
    pub(super) fn renewed(this: &Rc<Rules>, source: &[mesh::Route]) -> Rc<Rules> {
        if this.source == source { this.clone() } else { Rc::new(Rules::new(source)) }
    }

    /// The first rule that takes a request to this host and path.
    pub(super) fn find(&self, host: &[u8], path: &[u8], asked: &Asked<'_>) -> Option<u32> {
        if asked.head.starts_with(b"HEAD ") {
            return self.find_for_head(host, path, asked);
        }
        self.offer(host, path, &mut |rule| self.all[rule as usize].conditions.hold(asked))
    }

    /// The same for HEAD, which GET includes. If that is why a rule takes it, one that lists HEAD itself goes before, where no
    /// more than their places in the file would part them.
    fn find_for_head(&self, host: &[u8], path: &[u8], asked: &Asked<'_>) -> Option<u32> {
        let mut by_get = None;
        let found = self.offer(host, path, &mut |id| {
            let conditions = &self.all[id as usize].conditions;
            match by_get {
                Some(first) if !self.are_level(first, id) => true,
                Some(_) => conditions.lists("HEAD") && conditions.hold(asked),
                None => {
                    let holds = conditions.hold(asked);
                    let listed = conditions.methods.is_empty() || conditions.lists("HEAD");
                    by_get = (holds && !listed).then_some(id);
                    holds && listed
                }
            }
        });
        let is_first = |id: &u32| by_get.is_none_or(|first| self.are_level(first, *id));
        found.filter(is_first).or(by_get)
    }

    /// Whether nothing but the place in the file parts two rules that take the same path.
    fn are_level(&self, one: u32, other: u32) -> bool {
        let (one, other) = (&self.all[one as usize], &self.all[other as usize]);
        let host = |rule: &Rule| self.source[rule.number].host.as_deref().map(str::to_ascii_lowercase);
        one.pattern.compare(&other.pattern).is_eq()
            && one.conditions.count() == other.conditions.count()
            && host(one) == host(other)
    }

    /// The methods that would be taken there, in a line; `None` when there are no such.
    pub(super) fn methods(&self, host: &[u8], path: &[u8], asked: &Asked<'_>) -> Option<Box<str>> {
        let mut methods: Vec<&str> = Vec::new();
        self.offer(host, path, &mut |rule| {
            let conditions = &self.all[rule as usize].conditions;
            if conditions.tests_hold(asked) {
                for method in &conditions.methods {
                    let with_head = (&**method == "GET").then_some("HEAD");
                    for method in [Some(&**method), with_head].into_iter().flatten() {
                        if !methods.contains(&method) {
                            methods.push(method);
                        }
                    }
                }
            }
            false
        });
        (!methods.is_empty()).then(|| methods.join(", ").into())
    }

    fn offer(&self, host: &[u8], path: &[u8], take: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        self.hosts.offer(host, path, &self.all, take)
    }
}

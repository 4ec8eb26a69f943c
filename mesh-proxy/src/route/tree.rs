//! All patterns of a host as one tree of segments: a path is looked up in steps of its own segments, however many rules there are.

use std::{cmp::Reverse, collections::BTreeMap};

use super::pattern::{EXPRESSION_PATH_MAX, End, Pattern, Segment, split};

/// A place that some patterns lead to.
#[derive(Default)]
pub(super) struct Node {
    texts: BTreeMap<Box<[u8]>, Node>,
    parameter: Option<Box<Node>>,
    /// Rules by their number: whose path ends here, whose expression begins with what leads here, whose prefix this is.
    here: Vec<u32>,
    expressions: Vec<u32>,
    below: Vec<u32>,
}

/// What the tree has to know of rules, which it has by their number alone.
pub(super) trait Rules {
    fn pattern(&self, rule: u32) -> &Pattern;
    /// How much a rule asks for besides its path.
    fn conditions(&self, rule: u32) -> usize;
}

impl Node {
    pub(super) fn add(&mut self, rule: u32, rules: &impl Rules) {
        let pattern = rules.pattern(rule);
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Text(text) => node.texts.entry(text.clone()).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
            };
        }
        let list = match pattern.end {
            End::Here => &mut node.here,
            End::Regex(_) => &mut node.expressions,
            End::Below => &mut node.below,
        };
        list.push(rule);
        // Those that ask for more are asked first, and of those that ask for as much the first one of the file.
        list.sort_by_key(|rule| (Reverse(rules.conditions(*rule)), *rule));
    }

    /// Offers the rules whose patterns take `path`, the one that says most about it first, until one is taken. `rest` is what of the
    /// path is behind this place.
    ///
    /// A path leads to each place in at most one way, so that this visits none of them twice.
    pub(super) fn find(
        &self,
        path: &[u8],
        rest: &[u8],
        rules: &impl Rules,
        take: &mut impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        if !rest.is_empty() {
            if let Some(found) = self.find_in_segment(path, rest, rules, take) {
                return Some(found);
            }
        } else if let Some(found) = self.here.iter().find(|rule| take(**rule)) {
            return Some(*found);
        }
        // Whether one takes a path that is too long to ask, nobody knows. So it is offered, and whoever takes it has to refuse: along a
        // later rule the request might go where this one does not let it.
        let is_too_long = path.len() > EXPRESSION_PATH_MAX;
        for rule in &self.expressions {
            let End::Regex(regex) = &rules.pattern(*rule).end else { continue };
            if (is_too_long || regex.is_match(path)) && take(*rule) {
                return Some(*rule);
            }
        }
        self.below.iter().copied().find(|rule| take(*rule))
    }

    fn find_in_segment(
        &self,
        path: &[u8],
        rest: &[u8],
        rules: &impl Rules,
        take: &mut impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        if self.texts.is_empty() && self.parameter.is_none() {
            return None;
        }
        let (segment, after) = split(rest)?;
        let text = self.texts.get(segment).and_then(|node| node.find(path, after, rules, take));
        text.or_else(|| {
            let parameter = self.parameter.as_ref().filter(|_| !segment.is_empty())?;
            parameter.find(path, after, rules, take)
        })
    }
}

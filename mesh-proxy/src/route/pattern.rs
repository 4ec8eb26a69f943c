//! The path of a rule: which paths it takes, how much of one it is about, and what its parameters stand for there.

use std::cmp::Ordering;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::HirKind;
use watt_api::mesh::{self, PathMatch};

/// What a compiled expression may take, and what its searches may keep, in bytes. The configuration's check has the same bound, so
/// that an expression which is refused here was not in a file. One with named groups may take up to 1 MiB more, the bound that `regex` has
/// for its one-pass automaton.
const COMPILED_BYTES_MAX: usize = 256 << 10;
const SEARCH_BYTES_MAX: usize = 256 << 10;

/// The longest path that an expression is asked about: the time that takes is in proportion to it.
pub(super) const EXPRESSION_PATH_MAX: usize = 8 << 10;

/// The most segments of a pattern, as in the configuration: the tree is gone down by one for each, and dropped likewise.
const SEGMENTS_MAX: usize = 64;

/// A path as it was written.
pub(super) struct Pattern {
    pub(super) segments: Vec<Segment>,
    pub(super) end: End,
}

/// What is between two slashes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Text(Box<[u8]>),
    /// Anything that is not empty.
    Parameter(Box<str>),
}

/// What may follow the segments.
pub(super) enum End {
    /// Nothing.
    Here,
    /// What this describes, together with the segments: those are what it begins with in any case.
    Regex(Regex),
    /// Nothing, or a slash and anything.
    Below,
}

impl Pattern {
    pub(super) fn new(rule: &mesh::Route) -> Result<Pattern, regex::Error> {
        Ok(match rule.matching {
            PathMatch::Prefix => {
                Pattern { segments: segments(rule.path.trim_end_matches('/')), end: End::Below }
            }
            PathMatch::Exact => Pattern { segments: segments(&rule.path), end: End::Here },
            PathMatch::Regex => {
                Pattern { segments: beginning(&rule.path), end: End::Regex(compile(&rule.path)?) }
            }
        })
    }

    /// The same in lower case, and with expressions that do not tell letters apart.
    pub(super) fn folded(rule: &mesh::Route) -> Result<Pattern, regex::Error> {
        let Pattern { segments, end } = Pattern::new(rule)?;
        let lower = |segment| match segment {
            Segment::Text(text) => Segment::Text(text.to_ascii_lowercase().into()),
            Segment::Parameter(name) => Segment::Parameter(name),
        };
        let end = match end {
            End::Regex(_) => End::Regex(build(&format!("(?i)^(?:{})$", rule.path))?),
            End::Here | End::Below => end,
        };
        Ok(Pattern { segments: segments.into_iter().map(lower).collect(), end })
    }

    /// Whether it takes a path. The tree of all patterns answers that for all at once; this is for explanations and for tests of the tree.
    pub(super) fn takes(&self, path: &[u8]) -> bool {
        if let End::Regex(regex) = &self.end {
            return regex.is_match(path);
        }
        let mut rest = path;
        for segment in &self.segments {
            let Some((first, after)) = split(rest) else { return false };
            let fits = match segment {
                Segment::Text(text) => **text == *first,
                Segment::Parameter(_) => !first.is_empty(),
            };
            if !fits {
                return false;
            }
            rest = after;
        }
        rest.is_empty() || matches!(self.end, End::Below)
    }

    /// Whether nobody asked its expression, and it was offered all the same.
    pub(super) fn is_unknown(&self, path: &[u8]) -> bool {
        path.len() > EXPRESSION_PATH_MAX && matches!(self.end, End::Regex(_))
    }

    /// Which of two that take the same path says more about it, and so comes first: segment by segment from the left, text before a
    /// parameter before the end of an exact path before an expression before the end of a prefix.
    pub(super) fn compare(&self, other: &Pattern) -> Ordering {
        self.ranks().cmp(other.ranks()).reverse()
    }

    fn ranks(&self) -> impl Iterator<Item = u8> {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Text(_) => 4,
            Segment::Parameter(_) => 3,
        });
        let end = match self.end {
            End::Here => 2,
            End::Regex(_) => 1,
            End::Below => 0,
        };
        segments.chain([end])
    }

    /// How much of a path that it takes it is about: what a rewrite replaces.
    pub(super) fn len_in(&self, path: &[u8]) -> usize {
        match self.end {
            End::Here | End::Regex(_) => path.len(),
            End::Below => {
                let mut rest = path;
                for _ in &self.segments {
                    rest = split(rest).map_or(&[][..], |(_, after)| after);
                }
                path.len() - rest.len()
            }
        }
    }

    /// What a parameter stands for in a path that it takes.
    pub(super) fn value<'p>(&self, name: &str, path: &'p [u8]) -> Option<&'p [u8]> {
        if let End::Regex(regex) = &self.end {
            return Some(regex.captures(path)?.name(name)?.as_bytes());
        }
        let at = self.segments.iter().position(|segment| match segment {
            Segment::Parameter(other) => **other == *name,
            Segment::Text(_) => false,
        })?;
        path.split(|byte| *byte == b'/').nth(at + 1)
    }

    /// The names of its parameters.
    pub(super) fn parameters(&self) -> Vec<&str> {
        match &self.end {
            End::Regex(regex) => regex.capture_names().flatten().collect(),
            End::Here | End::Below => {
                let names = self.segments.iter().filter_map(|segment| match segment {
                    Segment::Parameter(name) => Some(&**name),
                    Segment::Text(_) => None,
                });
                names.collect()
            }
        }
    }
}

/// The first segment of what is left of a path, and what is left then. `None` at the end.
pub(super) fn split(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let [b'/', after @ ..] = rest else { return None };
    Some(after.split_at(memchr::memchr(b'/', after).unwrap_or(after.len())))
}

fn segments(path: &str) -> Vec<Segment> {
    path.split('/').skip(1).map(segment).collect()
}

fn segment(text: &str) -> Segment {
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some(name) => Segment::Parameter(name.into()),
        None => Segment::Text(text.as_bytes().into()),
    }
}

/// An expression of a whole text. Paths are bytes: what somebody else decodes them to may be no UTF-8.
pub(super) fn compile(expression: &str) -> Result<Regex, regex::Error> {
    // By itself first: `a)|(b` would close what is around it, and no longer be about the whole text.
    build(expression)?;
    build(&format!("^(?:{expression})$"))
}

fn build(expression: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(SEARCH_BYTES_MAX)
        .build()
}

/// The whole segments that everything which an expression describes begins with.
fn beginning(expression: &str) -> Vec<Segment> {
    let parsed = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(expression);
    let Ok(hir) = parsed else { return Vec::new() };
    let parts = match hir.kind() {
        HirKind::Concat(parts) => &parts[..],
        _ => std::slice::from_ref(&hir),
    };
    // An anchor at the beginning changes nothing.
    let first = parts.iter().find(|part| !matches!(part.kind(), HirKind::Look(_)));
    let Some(HirKind::Literal(literal)) = first.map(|part| part.kind()) else { return Vec::new() };
    let Some(end) = memchr::memrchr(b'/', &literal.0) else { return Vec::new() };
    let whole = &literal.0[..end];
    let texts = whole.split(|byte| *byte == b'/').skip(1).take(SEGMENTS_MAX);
    texts.map(|text| Segment::Text(text.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(path: &str, matching: PathMatch) -> Pattern {
        Pattern::new(&mesh::Route { path: path.into(), matching, ..mesh::Route::default() }).unwrap()
    }

    #[test]
    fn an_expression_has_the_segments_that_it_begins_with() {
        for (expression, segments) in [
            ("/api/v[0-9]+/x", &["api"][..]),
            ("/api/(a|b)/x", &["api"]),
            ("/api/users/[0-9]+", &["api", "users"]),
            ("^/api/users", &["api"]),
            ("/a/b?", &["a"]),
            ("/a/?", &[]),
            ("/a|/b/c", &[]),
            ("(?i)/api/x", &[]),
            (r"/a\.b/.*", &["a.b"]),
            ("[^/]+", &[]),
            (".*/x", &[]),
        ] {
            let found = pattern(expression, PathMatch::Regex).segments;
            let expected: Vec<_> =
                segments.iter().map(|text| Segment::Text(text.as_bytes().into())).collect();
            assert_eq!(found, expected, "{expression}");
        }
    }

    #[test]
    fn an_expression_goes_no_deeper_into_the_tree_than_a_path() {
        let text = "/a".repeat(200);
        let deep = pattern(&text, PathMatch::Regex);
        assert_eq!(deep.segments.len(), SEGMENTS_MAX);
        assert!(deep.takes(text.as_bytes()) && !deep.takes(&text.as_bytes()[2..]));
    }

    #[test]
    fn an_expression_is_about_the_whole_path() {
        let one = pattern("/a|/b", PathMatch::Regex);
        for (path, expected) in [("/a", true), ("/b", true), ("/ab", false), ("/a/b", false), ("x/a", false)]
        {
            assert_eq!(one.takes(path.as_bytes()), expected, "{path}");
        }
        let any = pattern("/x/.*", PathMatch::Regex);
        assert!(any.takes(b"/x/a\nb\xff"), "whatever a service decodes it to");
    }

    #[test]
    fn an_expression_that_would_take_too_much_is_refused() {
        assert!(compile("(a{500}){500}").is_err());
        assert!(compile("/a)|(?:/b").is_err(), "it would be about a part of the path");
    }

    #[test]
    fn parameters_stand_for_segments_and_for_groups() {
        let both = pattern("/users/{id}/posts/{post}", PathMatch::Prefix);
        let path = b"/users/7/posts/a%2fb/comments";
        assert!(both.takes(path) && !both.takes(b"/users//posts/x") && !both.takes(b"/users/7/posts"));
        assert_eq!(both.value("id", path), Some(&b"7"[..]));
        assert_eq!(both.value("post", path), Some(&b"a%2fb"[..]));
        assert_eq!((both.len_in(path), both.value("x", path)), ("/users/7/posts/a%2fb".len(), None));
        let group = pattern("/v(?<version>[0-9]+)/(?<rest>.*)", PathMatch::Regex);
        assert_eq!(group.value("rest", b"/v12/a/b"), Some(&b"a/b"[..]));
        assert_eq!(group.parameters(), ["version", "rest"]);
        assert_eq!(both.parameters(), ["id", "post"]);
    }
}

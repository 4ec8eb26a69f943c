//! Paths as services see them, and back: what a rule makes of a path on its way in, and of locations and cookies on their way out.

use std::borrow::Cow;

use super::pattern::{End, Pattern};

/// A text in which `{name}` stands for what a parameter does.
pub(super) struct Template(Vec<Part>);

enum Part {
    Text(Box<[u8]>),
    Parameter(Box<str>),
}

impl Template {
    pub(super) fn new(text: &str) -> Template {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            if !before.is_empty() {
                parts.push(Part::Text(before.as_bytes().into()));
            }
            parts.push(Part::Parameter(name.into()));
            rest = after;
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Text(rest.as_bytes().into()));
        }
        Template(parts)
    }

    /// The text, when nothing in it stands for something else.
    pub(super) fn as_text(&self) -> Option<&[u8]> {
        match &self.0[..] {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text for a path that the pattern takes.
    pub(super) fn fill(&self, pattern: &Pattern, path: &[u8]) -> Cow<'_, [u8]> {
        if let Some(text) = self.as_text() {
            return text.into();
        }
        let mut filled = Vec::new();
        for part in &self.0 {
            filled.extend_from_slice(match part {
                Part::Text(text) => text,
                Part::Parameter(name) => pattern.value(name, path).unwrap_or_default(),
            });
        }
        // What stands for a parameter may begin with a slash, and two of them would start an authority.
        let slashes = filled.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
        if slashes > 1 {
            filled.splice(..slashes, [b'/']);
        }
        filled.into()
    }
}

/// What a rule makes of one request's path.
pub(crate) struct Change<'c> {
    /// The part of it that is replaced, as clients see it.
    pub(super) outer: &'c [u8],
    /// What it becomes. Neither has a slash at its end, unless it is all of the path.
    pub(super) inner: Cow<'c, [u8]>,
    /// Nothing follows.
    pub(super) is_whole: bool,
}

impl<'c> Change<'c> {
    /// `None` when the path stays.
    pub(super) fn new(template: &'c Template, pattern: &Pattern, path: &'c [u8]) -> Option<Change<'c>> {
        let outer = &path[..pattern.len_in(path)];
        let inner = template.fill(pattern, path);
        let is_whole = !matches!(pattern.end, End::Below);
        (*inner != *outer).then_some(Change { outer, inner, is_whole })
    }

    /// The prefix that the service does not see; `None` where there is none before what it sees.
    pub(crate) fn hidden_prefix(&self) -> Option<&[u8]> {
        (!self.is_whole).then_some(self.outer)
    }

    /// Appends the target as the service gets it. `target` is the path with its query, or `*`.
    pub(crate) fn write_inward(&self, target: &[u8], out: &mut Vec<u8>) {
        let (Some(rest), true) = (target.get(self.outer.len()..), target.starts_with(b"/")) else {
            out.extend_from_slice(target);
            return;
        };
        out.extend_from_slice(&self.inner);
        // What is left must be a path of its own and not start an authority, as `//x` would.
        let rest = match rest {
            [b'/', ..] => &rest[rest.iter().take_while(|byte| **byte == b'/').count()..],
            _ if self.inner.is_empty() || !rest.is_empty() && rest[0] != b'?' => rest,
            _ => {
                out.extend_from_slice(rest);
                return;
            }
        };
        out.push(b'/');
        out.extend_from_slice(rest);
    }

    /// What the response's paths are changed back with. The service knows itself by this host.
    pub(crate) fn outward(&self, host: &[u8]) -> Outward {
        let bytes = [self.outer, &self.inner, host].concat().into();
        Outward {
            bytes,
            outer: self.outer.len(),
            inner: self.outer.len() + self.inner.len(),
            is_whole: self.is_whole,
            is_foreign: false,
        }
    }
}

/// The same for the way back, kept until the response comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outward {
    /// The outer part, the inner one and the request's host, one behind the other.
    bytes: Box<[u8]>,
    /// Where each ends.
    outer: usize,
    inner: usize,
    is_whole: bool,
    /// The host is not the one that clients know.
    is_foreign: bool,
}

impl Outward {
    /// Where a server has a host of its own in requests, which is none of the clients'.
    pub(crate) fn foreign(change: Option<&Change<'_>>, host: &[u8]) -> Outward {
        let nothing = Change { outer: b"", inner: Cow::Borrowed(b""), is_whole: false };
        Outward { is_foreign: true, ..change.unwrap_or(&nothing).outward(host) }
    }

    fn outer(&self) -> &[u8] {
        &self.bytes[..self.outer]
    }

    fn inner(&self) -> &[u8] {
        &self.bytes[self.outer..self.inner]
    }

    fn host(&self) -> &[u8] {
        &self.bytes[self.inner..]
    }

    /// Whether paths are others at all.
    fn changes(&self) -> bool {
        self.outer() != self.inner()
    }

    /// A path of the service as clients see it; `None` when it is already one of theirs or none that they can reach.
    fn path(&self, path: &[u8]) -> Option<Vec<u8>> {
        let end = memchr::memchr2(b'?', b'#', path).unwrap_or(path.len());
        let plain = &path[..end];
        let (outer, inner) = (self.outer(), self.inner());
        if !path.starts_with(b"/") || path.starts_with(b"//") {
            return None;
        }
        if self.is_whole {
            return (plain == inner).then(|| [outer, &path[end..]].concat());
        }
        // A service that minds X-Forwarded-Prefix sends the client's paths itself.
        let theirs_already = !outer.is_empty() && is_below(plain, outer);
        if theirs_already || !is_below(plain, inner) {
            return None;
        }
        let rest = &path[inner.len()..];
        let outward = if outer.is_empty() && !rest.starts_with(b"/") {
            [b"/", rest].concat()
        } else {
            [outer, rest].concat()
        };
        // To browsers `//x` and `/\x` are another host, and what stands in between they leave out.
        let leads_away = matches!(outward[..], [_, b'/' | b'\\' | 0..=b' ', ..]);
        (!leads_away).then_some(outward)
    }

    /// A `Location` as clients see it: a path, or a URL of the same host; `None` leaves it.
    pub(crate) fn location(&self, value: &[u8]) -> Option<Vec<u8>> {
        if value.starts_with(b"/") {
            return self.path(value).filter(|_| self.changes());
        }
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
            value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })?;
        let rest = &value[scheme.len()..];
        let path = memchr::memchr(b'/', rest).unwrap_or(rest.len());
        if !rest[..path].eq_ignore_ascii_case(self.host()) {
            return None;
        }
        let outward = self.path(if path == rest.len() { b"/" } else { &rest[path..] })?;
        if self.is_foreign {
            return Some(outward);
        }
        Some([&value[..scheme.len() + path], &outward[..]].concat())
    }

    /// A `Set-Cookie` whose Path is as clients see it; `None` leaves it.
    pub(crate) fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        if !self.changes() {
            return None;
        }
        let mut out = Vec::with_capacity(value.len() + self.outer);
        let mut changed = false;
        for (number, part) in value.split(|byte| *byte == b';').enumerate() {
            if number > 0 {
                out.push(b';');
            }
            let trimmed = part.trim_ascii();
            let path = trimmed.get(..5).filter(|name| number > 0 && name.eq_ignore_ascii_case(b"path="));
            match path.and_then(|_| self.path(trimmed[5..].trim_ascii())) {
                Some(mut path) => {
                    // `/api/` would not be sent to `/api` itself.
                    if path.len() > 1 && path.ends_with(b"/") && trimmed[5..].trim_ascii() == b"/" {
                        path.pop();
                    }
                    out.extend_from_slice(b" Path=");
                    out.extend_from_slice(&path);
                    changed = true;
                }
                None => out.extend_from_slice(part),
            }
        }
        changed.then_some(out)
    }
}

/// Whether `path` is `prefix` or goes on with a slash after it.
fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    path.starts_with(prefix) && matches!(path.get(prefix.len()), None | Some(b'/'))
}

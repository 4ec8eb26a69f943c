//! The gateway's routes: which service a host and a path lead to, and how paths change on the way in and out.
//!
//! The host decides first: an exact one before the longest wildcard before none. Within that, the longest prefix of whole
//! segments wins. When a host's routes do not match the path, the next wider ones are asked.
//!
//! Paths are passed on as they came, never decoded or normalised. But the service may do either, and so a path is
//! read in every way that is common (escapes decoded, dot segments resolved, slashes merged, backslashes taken for
//! slashes, `;parameters` cut off). If one reading leads along another route than the bytes themselves, the request is
//! refused: nobody gets at `/admin` through `/api/..%2fadmin`. So it is if a prefix is rewritten and a reading leaves what
//! is below it: what the rewrite leads to is all that clients can reach.

use std::{collections::HashMap, rc::Rc};

use watt_api::mesh;

use crate::table::Service;

/// One rule.
pub(crate) struct Route {
    /// The prefix without a slash at the end; empty matches every path.
    prefix: Box<[u8]>,
    /// What the prefix becomes, without a slash at the end.
    rewrite: Option<Box<[u8]>>,
    pub(crate) service: Box<str>,
    /// The service of that name.
    pub(crate) target: Option<Rc<Service>>,
}

/// All rules, longest prefix first.
#[derive(Default)]
pub(crate) struct Router {
    exact: HashMap<Box<[u8]>, Routes>,
    /// By the part after `*`, which starts with a dot; the longest first.
    wildcards: Vec<(Box<[u8]>, Routes)>,
    any: Routes,
}

type Routes = Vec<Rc<Route>>;

/// Readers would disagree on the route of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous;

impl Router {
    pub(crate) fn new(routes: &[mesh::Route], services: &HashMap<Box<str>, Rc<Service>>) -> Router {
        let mut router = Router::default();
        for rule in routes {
            let route = Rc::new(Route::new(rule, services.get(&*rule.service).cloned()));
            match &rule.host {
                None => router.any.push(route),
                Some(host) => match host.strip_prefix('*') {
                    None => router
                        .exact
                        .entry(host.to_ascii_lowercase().into_bytes().into())
                        .or_default()
                        .push(route),
                    Some(suffix) => router.add_wildcard(suffix.to_ascii_lowercase().as_bytes(), route),
                },
            }
        }
        let groups = router.exact.values_mut().chain(router.wildcards.iter_mut().map(|(_, routes)| routes));
        for group in groups.chain([&mut router.any]) {
            group.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        }
        router.wildcards.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        router
    }

    fn add_wildcard(&mut self, suffix: &[u8], route: Rc<Route>) {
        match self.wildcards.iter_mut().find(|(other, _)| **other == *suffix) {
            Some((_, routes)) => routes.push(route),
            None => self.wildcards.push((suffix.into(), vec![route])),
        }
    }

    /// The route for an authority (`name[:port]`) and a path without its query.
    pub(crate) fn find(&self, authority: &[u8], path: &[u8]) -> Result<Option<&Rc<Route>>, Ambiguous> {
        let host = host_of(authority);
        let found = self.find_literally(host, path);
        if has_other_readings(path) {
            for (merge_slashes, cut_parameters) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let Reading { path, depth_min } = reading(path, merge_slashes, cut_parameters);
                let leaves = found.is_some_and(|route| route.is_left_at(depth_min));
                if leaves || !same(found, self.find_literally(host, &path)) {
                    return Err(Ambiguous);
                }
            }
        }
        Ok(found)
    }

    fn find_literally(&self, host: &[u8], path: &[u8]) -> Option<&Rc<Route>> {
        let named = || self.find_by_name(host, path);
        let by_host = if self.exact.is_empty() && self.wildcards.is_empty() { None } else { named() };
        by_host.or_else(|| longest(&self.any, path))
    }

    fn find_by_name(&self, host: &[u8], path: &[u8]) -> Option<&Rc<Route>> {
        let host = host.to_ascii_lowercase();
        let exact = self.exact.get(&host[..]).and_then(|routes| longest(routes, path));
        exact.or_else(|| {
            let below = self
                .wildcards
                .iter()
                .filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix));
            below.filter_map(|(_, routes)| longest(routes, path)).next()
        })
    }
}

fn longest<'r>(routes: &'r [Rc<Route>], path: &[u8]) -> Option<&'r Rc<Route>> {
    routes.iter().find(|route| is_below(path, &route.prefix))
}

fn same(one: Option<&Rc<Route>>, other: Option<&Rc<Route>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Rc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// Whether `path` is `prefix` or goes on with a slash after it.
fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    path.starts_with(prefix) && matches!(path.get(prefix.len()), None | Some(b'/'))
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

/// Whether anything in a path is read differently by some. Plain paths are not.
fn has_other_readings(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().any(|byte| {
        let odd = matches!(byte, b'%' | b'\\' | b';') || before == b'/' && matches!(byte, b'/' | b'.');
        before = *byte;
        odd
    })
}

/// A path as somebody may see it.
struct Reading {
    path: Vec<u8>,
    /// After a `..`, the number of segments left; the lowest one. `..` at the root leads below it.
    depth_min: Option<i64>,
}

/// The path as somebody sees it who decodes escapes, takes `\` for `/` and resolves dot segments.
fn reading(path: &[u8], merge_slashes: bool, cut_parameters: bool) -> Reading {
    let decoded = decode(path);
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut depth_min = None;
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')).skip(1) {
        let name = match memchr::memchr(b';', segment) {
            Some(end) if cut_parameters => &segment[..end],
            _ => segment,
        };
        match name {
            b"" if merge_slashes => {}
            b"." => {}
            b".." => {
                let depth = segments.len() as i64 - 1;
                depth_min = Some(depth_min.map_or(depth, |min: i64| min.min(depth)));
                segments.pop();
            }
            _ => segments.push(name),
        }
    }
    let mut path = Vec::with_capacity(decoded.len());
    for segment in segments {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Reading { path, depth_min }
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &rest[3..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

fn digit(letter: u8) -> Option<u8> {
    (letter as char).to_digit(16).map(|digit| digit as u8)
}

impl Route {
    fn new(rule: &mesh::Route, target: Option<Rc<Service>>) -> Route {
        let trimmed = |path: &str| path.trim_end_matches('/').as_bytes().into();
        Route {
            prefix: trimmed(&rule.path),
            rewrite: rule.rewrite.as_deref().map(trimmed),
            service: rule.service.as_str().into(),
            target,
        }
    }

    /// The prefix that the service does not see; `None` when paths are passed on as they are.
    pub(crate) fn hidden_prefix(&self) -> Option<&[u8]> {
        self.rewrite.as_deref().is_some_and(|rewrite| *rewrite != *self.prefix).then_some(&self.prefix)
    }

    /// Whether a path whose dot segments lead up to this depth leaves what the prefix is rewritten for.
    fn is_left_at(&self, depth_min: Option<i64>) -> bool {
        let depth = self.prefix.iter().filter(|byte| **byte == b'/').count() as i64;
        self.hidden_prefix().is_some() && depth_min.is_some_and(|min| min < depth)
    }

    /// Appends the target as the service gets it. `target` is a path below the prefix, with its query, or `*`.
    pub(crate) fn write_inward(&self, target: &[u8], out: &mut Vec<u8>) {
        let (Some(rewrite), Some(rest), true) =
            (&self.rewrite, target.get(self.prefix.len()..), target.starts_with(b"/"))
        else {
            out.extend_from_slice(target);
            return;
        };
        out.extend_from_slice(rewrite);
        // What is left must be a path of its own and not start an authority, as `//x` would.
        let rest = match rest {
            [b'/', ..] => &rest[rest.iter().take_while(|byte| **byte == b'/').count()..],
            _ if rewrite.is_empty() || !rest.is_empty() && rest[0] != b'?' => rest,
            _ => {
                out.extend_from_slice(rest);
                return;
            }
        };
        out.push(b'/');
        out.extend_from_slice(rest);
    }

    /// A path of the service as clients see it; `None` when it is already one of theirs or none that they can reach.
    pub(crate) fn outward(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rewrite = self.rewrite.as_deref()?;
        let end = memchr::memchr2(b'?', b'#', path).unwrap_or(path.len());
        let plain = &path[..end];
        if self.hidden_prefix().is_none() || !path.starts_with(b"/") || path.starts_with(b"//") {
            return None;
        }
        // A service that minds X-Forwarded-Prefix sends the client's paths itself.
        let theirs_already = !self.prefix.is_empty() && is_below(plain, &self.prefix);
        if theirs_already || !is_below(plain, rewrite) {
            return None;
        }
        let rest = &path[rewrite.len()..];
        Some(if self.prefix.is_empty() && !rest.starts_with(b"/") {
            [b"/", rest].concat()
        } else {
            [&*self.prefix, rest].concat()
        })
    }

    /// A `Location` as clients see it: a path, or a URL of the same host; `None` leaves it.
    pub(crate) fn location(&self, value: &[u8], host: &[u8]) -> Option<Vec<u8>> {
        if value.starts_with(b"/") {
            return self.outward(value);
        }
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
            value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })?;
        let rest = &value[scheme.len()..];
        let path = memchr::memchr(b'/', rest).unwrap_or(rest.len());
        if !rest[..path].eq_ignore_ascii_case(host) {
            return None;
        }
        let outward = self.outward(if path == rest.len() { b"/" } else { &rest[path..] })?;
        Some([&value[..scheme.len() + path], &outward[..]].concat())
    }

    /// A `Set-Cookie` whose Path is as clients see it; `None` leaves it.
    pub(crate) fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(value.len() + self.prefix.len());
        let mut changed = false;
        for (number, part) in value.split(|byte| *byte == b';').enumerate() {
            if number > 0 {
                out.push(b';');
            }
            let trimmed = part.trim_ascii();
            let path = trimmed.get(..5).filter(|name| number > 0 && name.eq_ignore_ascii_case(b"path="));
            match path.and_then(|_| self.outward(trimmed[5..].trim_ascii())) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(&str, &str, Option<&str>)]) -> Router {
        let rule = |(host, path, rewrite): &(&str, &str, Option<&str>)| mesh::Route {
            path: (*path).to_owned(),
            host: (!host.is_empty()).then(|| (*host).to_owned()),
            service: format!("{host}{path}"),
            rewrite: rewrite.map(str::to_owned),
        };
        Router::new(&routes.iter().map(rule).collect::<Vec<_>>(), &HashMap::new())
    }

    fn found<'r>(router: &'r Router, host: &str, path: &str) -> Result<Option<&'r str>, Ambiguous> {
        Ok(router.find(host.as_bytes(), path.as_bytes())?.map(|route| &*route.service))
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let router = router(&[("", "/", None), ("", "/api", None), ("", "/api/v2/", None)]);
        for (path, service) in [
            ("/", "/"),
            ("/x", "/"),
            ("/apix", "/"),
            ("/api", "/api"),
            ("/api/", "/api"),
            ("/api/v20", "/api"),
            ("/api/v2", "/api/v2/"),
            ("/api/v2/users", "/api/v2/"),
        ] {
            assert_eq!(found(&router, "any", path), Ok(Some(service)), "{path}");
        }
    }

    #[test]
    fn an_exact_host_goes_before_a_wildcard_before_none() {
        let router = router(&[
            ("", "/", None),
            ("*.example.org", "/", None),
            ("*.eu.example.org", "/", None),
            ("www.example.org", "/shop", None),
        ]);
        for (host, path, service) in [
            ("www.example.org", "/shop/1", "www.example.org/shop"),
            ("WWW.Example.ORG:8080", "/shop", "www.example.org/shop"),
            ("www.example.org.", "/shop", "www.example.org/shop"),
            ("www.example.org", "/other", "*.example.org/"),
            ("a.eu.example.org", "/", "*.eu.example.org/"),
            ("example.org", "/", "/"),
            ("notexample.org", "/", "/"),
            ("[::1]:80", "/", "/"),
        ] {
            assert_eq!(found(&router, host, path), Ok(Some(service)), "{host}{path}");
        }
    }

    #[test]
    fn no_spelling_dodges_a_route() {
        let router = router(&[("", "/", None), ("", "/api", Some("")), ("", "/admin", None)]);
        for path in [
            "/api/../admin",
            "/api/..%2fadmin",
            "/api/%2e%2e/admin",
            "/api/.%2E/admin",
            "/api/..;a=b/admin",
            "/api\\..\\admin",
            "/api/%5c../../admin",
            "//admin",
            "/./admin",
            "/%61dmin",
            "/x/..//admin",
            "/api%2fx",
            "/admin/../x",
            "/admin;x",
            "/admin;x/y",
            "/api;a=b",
        ] {
            assert_eq!(found(&router, "h", path), Err(Ambiguous), "{path}");
        }
        for (path, service) in [
            ("/api/a%20b", "/api"),
            ("/api/a%2fb", "/api"),
            ("/api//x", "/api"),
            ("/api/x/../y", "/api"),
            ("/api/.hidden", "/api"),
            ("/100%", "/"),
            ("/x;y/z", "/"),
        ] {
            assert_eq!(found(&router, "h", path), Ok(Some(service)), "{path}");
        }
    }

    #[test]
    fn no_spelling_leaves_a_rewritten_prefix() {
        for (prefix, rewrite) in [("/static", "/app/static"), ("/", "/app/static"), ("/a/b", "")] {
            let router = router(&[("", prefix, Some(rewrite))]);
            let prefix = prefix.trim_end_matches('/');
            for rest in [
                "/../x",
                "/%2e%2e/x",
                "/..;/x",
                "/.%2e;a=b/x",
                "/..%2f..%2fx",
                "/..\\x",
                "/x/../../y",
                "//../../x",
                "/.././static/x",
                "/..",
            ] {
                assert_eq!(found(&router, "h", &format!("{prefix}{rest}")), Err(Ambiguous), "{prefix}{rest}");
            }
            for rest in ["/x/../y", "/x/..;/y", "/x/%2e%2e", "/...", "/x;y"] {
                assert!(found(&router, "h", &format!("{prefix}{rest}")).is_ok(), "{prefix}{rest}");
            }
        }
    }

    #[track_caller]
    fn inward(prefix: &str, rewrite: Option<&str>, target: &str) -> String {
        let router = router(&[("", prefix, rewrite)]);
        let path = target.split('?').next().unwrap();
        let mut out = Vec::new();
        router.find(b"h", path.as_bytes()).unwrap().unwrap().write_inward(target.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prefixes_are_left_stripped_or_replaced() {
        assert_eq!(inward("/api", None, "/api/x?q=/api"), "/api/x?q=/api");
        assert_eq!(inward("/api", Some(""), "/api/x?q=1"), "/x?q=1");
        assert_eq!(inward("/api", Some(""), "/api"), "/");
        assert_eq!(inward("/api", Some(""), "/api?q"), "/?q");
        assert_eq!(inward("/api", Some(""), "/api//evil.example/x"), "/evil.example/x");
        assert_eq!(inward("/api", Some("/v1"), "/api/x"), "/v1/x");
        assert_eq!(inward("/api", Some("/v1/"), "/api"), "/v1");
        assert_eq!(inward("/api", Some("/v1"), "/api?q"), "/v1?q");
        assert_eq!(inward("/", Some("/v1"), "/x"), "/v1/x");
    }

    #[test]
    fn locations_and_cookies_come_back_as_clients_see_them() {
        let router = router(&[("", "/api", Some("")), ("", "/new", Some("/old"))]);
        let api = router.find(b"h", b"/api").unwrap().unwrap();
        let new = router.find(b"h", b"/new").unwrap().unwrap();
        let location = |route: &Route, value: &str| {
            route.location(value.as_bytes(), b"h:80").map(|value| String::from_utf8(value).unwrap())
        };
        assert_eq!(location(api, "/login?next=/x").as_deref(), Some("/api/login?next=/x"));
        assert_eq!(location(api, "/").as_deref(), Some("/api/"));
        assert_eq!(location(api, "/api/login"), None, "the service knows the prefix");
        assert_eq!(location(api, "login"), None);
        assert_eq!(location(api, "//other/x"), None);
        assert_eq!(location(api, "http://H:80/login").as_deref(), Some("http://H:80/api/login"));
        assert_eq!(location(api, "http://other/login"), None);
        assert_eq!(location(new, "/old/x").as_deref(), Some("/new/x"));
        assert_eq!(location(new, "/older"), None);

        let cookie = |route: &Route, value: &str| {
            route.cookie(value.as_bytes()).map(|value| String::from_utf8(value).unwrap())
        };
        assert_eq!(cookie(api, "a=b; Path=/; HttpOnly").as_deref(), Some("a=b; Path=/api; HttpOnly"));
        assert_eq!(cookie(api, "a=b;path=/x").as_deref(), Some("a=b; Path=/api/x"));
        assert_eq!(cookie(api, "Path=/; Secure"), None, "a cookie may be called Path");
        assert_eq!(cookie(api, "a=b"), None);
        assert_eq!(cookie(new, "a=b; Path=/old").as_deref(), Some("a=b; Path=/new"));
        assert_eq!(cookie(new, "a=b; Path=/"), None);
    }
}

//! How clients get to what a description has: the routes of the gateway.

/// How many comparisons of paths are made for one service. A thousand routes and a thousand paths are a million of them.
pub const WORK_MAX: usize = 5_000_000;

/// A route, as far as it is one for everybody: routes that ask for more than a host, a path and a method are left out, and so are those
/// whose path is an expression.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Way {
    /// Where it leads; `None` is elsewhere than to a service with a description.
    pub service: Option<String>,
    /// Its path: segments, of which `{name}` is any one.
    pub path: String,
    /// Whether the path is not one with everything below it, but this alone.
    pub is_exact: bool,
    /// The host it is for.
    pub host: Option<String>,
    /// Its methods; none is every one. GET is HEAD as well.
    pub methods: Vec<String>,
    /// What the service sees in place of the path.
    pub rewrite: Option<String>,
    /// Whether clients are told that it is not to be used any longer.
    pub is_deprecated: bool,
    /// When it is there no longer, as clients are told.
    pub sunset: Option<String>,
}

/// A path of a description as clients write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segments: Vec<String>,
    /// Parameters of the route's path that the service does not see.
    pub(crate) more: Vec<String>,
}

impl Place {
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }
}

/// The segments of a path; of `/` there are none.
pub(crate) fn segments(path: &str) -> Vec<&str> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Vec::new(),
        path => path.split('/').collect(),
    }
}

fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}').filter(|name| !name.contains(['{', '}']))
}

fn is_text(segment: &str) -> bool {
    !segment.contains(['{', '}'])
}

impl Way {
    /// Where a path of its service's is for clients, if this way leads there.
    pub(crate) fn place(&self, inner: &[&str]) -> Option<Place> {
        let seen = segments(self.rewrite.as_deref().unwrap_or(&self.path));
        if inner.len() < seen.len() || self.is_exact && inner.len() > seen.len() {
            return None;
        }
        let (covered, rest) = inner.split_at(seen.len());
        let mut bound: Vec<(&str, &str)> = Vec::new();
        for (pattern, segment) in seen.iter().zip(covered) {
            match parameter(pattern) {
                Some(name) => bound.push((name, segment)),
                None if pattern == segment && is_text(segment) => {}
                None => return None,
            }
        }
        let mut more = Vec::new();
        let own = segments(&self.path).into_iter().map(|segment| {
            let Some(name) = parameter(segment) else { return segment.to_owned() };
            if let Some((_, segment)) = bound.iter().find(|(other, _)| *other == name) {
                return (*segment).to_owned();
            }
            let is_taken = inner.iter().any(|segment| parameter(segment) == Some(name));
            let name = if is_taken { format!("route_{name}") } else { name.to_owned() };
            more.push(name.clone());
            format!("{{{name}}}")
        });
        let segments = own.chain(rest.iter().map(|segment| (*segment).to_owned())).collect();
        Some(Place { segments, more })
    }

    /// Whether it takes a method.
    pub(crate) fn takes(&self, method: &str) -> bool {
        let has = |method: &str| self.methods.iter().any(|own| own == method);
        self.methods.is_empty() || has(method) || method == "HEAD" && has("GET")
    }

    fn covers(&self, place: &Place) -> bool {
        let own = segments(&self.path);
        let fits = match self.is_exact {
            true => own.len() == place.segments.len(),
            false => own.len() <= place.segments.len(),
        };
        fits && own
            .iter()
            .zip(&place.segments)
            .all(|(own, segment)| parameter(own).is_some() || own == segment)
    }

    /// The less, the more specific; the order is that of the gateway.
    fn rank(&self) -> (Vec<u8>, bool) {
        let own = segments(&self.path);
        let end = if self.is_exact { 2 } else { 3 };
        let ranks = own.iter().map(|segment| u8::from(parameter(segment).is_some())).chain([end]).collect();
        (ranks, self.methods.is_empty())
    }
}

/// Whether what clients ask for at a place, by a method, goes this way, and not another one that is more specific. `work` is how many
/// comparisons may still be made; `None` when it does not do.
pub(crate) fn leads(
    ways: &[Way],
    number: usize,
    place: &Place,
    method: &str,
    work: &mut usize,
) -> Option<bool> {
    *work = work.checked_sub(ways.len())?;
    let own = &ways[number];
    let is_other = |(other, way): &(usize, &Way)| *other != number && way.host == own.host;
    let others = ways.iter().enumerate().filter(is_other);
    let is_before = |(other, way): (usize, &Way)| (way.rank(), other) < (own.rank(), number);
    let mut taking = others.filter(|(_, way)| way.covers(place) && way.takes(method));
    Some(!taking.any(is_before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(path: &str, rewrite: Option<&str>, is_exact: bool) -> Way {
        Way { path: path.to_owned(), rewrite: rewrite.map(str::to_owned), is_exact, ..Way::default() }
    }

    fn check(way: &Way, inner: &str, expected: Option<&str>) {
        let place = way.place(&segments(inner));
        assert_eq!(place.map(|place| place.path()).as_deref(), expected, "{inner} by {way:?}");
    }

    #[test]
    fn a_path_is_where_its_route_leads() {
        let as_it_is = way("/api", None, false);
        check(&as_it_is, "/api/users/{id}", Some("/api/users/{id}"));
        check(&as_it_is, "/api", Some("/api"));
        check(&as_it_is, "/apix", None);
        check(&as_it_is, "/users", None);
        let stripped = way("/api", Some(""), false);
        check(&stripped, "/users/{id}", Some("/api/users/{id}"));
        check(&stripped, "/", Some("/api"));
        check(&stripped, "/users/", Some("/api/users/"));
        let moved = way("/v2", Some("/internal/v2"), false);
        check(&moved, "/internal/v2/x", Some("/v2/x"));
        check(&moved, "/internal", None);
        let root = way("/", None, false);
        check(&root, "/", Some("/"));
        check(&root, "/a.{format}", Some("/a.{format}"));
    }

    #[test]
    fn parameters_are_those_of_the_description() {
        let alias = way("/people/{who}", Some("/users/{who}"), true);
        check(&alias, "/users/{id}", Some("/people/{id}"));
        check(&alias, "/users/{id}/x", None);
        check(&alias, "/users/me", Some("/people/me"));
        // Only some of what the description says is reached: which, it has no words for.
        check(&way("/me", Some("/users/1"), true), "/users/{id}", None);
        check(&way("/users/me", None, false), "/users/{id}", None);
        let tenant = way("/t/{tenant}", Some(""), false);
        let place = tenant.place(&segments("/users/{id}")).unwrap();
        assert_eq!(
            (place.path().as_str(), &*place.more),
            ("/t/{tenant}/users/{id}", &["tenant".to_owned()][..])
        );
        check(&tenant, "/x/{tenant}", Some("/t/{route_tenant}/x/{tenant}"));
    }

    #[test]
    fn the_more_specific_route_has_it() {
        let ways = [
            way("/", None, false),
            way("/api", None, false),
            way("/api/{x}/y", None, true),
            Way { methods: vec!["GET".into()], ..way("/api", None, false) },
            Way { host: Some("a.example".into()), ..way("/api/users", None, false) },
        ];
        let check = |number: usize, path: &str, method: &str, expected: bool| {
            let place = ways[number].place(&segments(path)).unwrap();
            let mut work = WORK_MAX;
            assert_eq!(
                leads(&ways, number, &place, method, &mut work),
                Some(expected),
                "{number}: {method} {path}"
            );
        };
        check(0, "/x", "GET", true);
        check(0, "/api/x", "POST", false);
        check(1, "/api/x", "POST", true);
        check(1, "/api/x", "GET", false);
        check(3, "/api/x", "HEAD", true);
        check(1, "/api/{id}/y", "POST", false);
        check(2, "/api/{id}/y", "POST", true);
        check(1, "/api/users", "POST", true);
        check(4, "/api/users", "POST", true);
        let place = ways[0].place(&segments("/x")).unwrap();
        assert_eq!(leads(&ways, 0, &place, "GET", &mut 3), None);
    }
}

//! What a request asks of a cache.

use crate::{
    conditions::Conditions,
    control::{SECONDS_MAX, directives},
    fields::Fields,
};

/// What a request says in `Cache-Control`, where its word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Directives {
    /// The service is to be asked.
    pub no_cache: bool,
    /// No older than this, in seconds.
    pub max_age: Option<u64>,
    /// Fresh for at least so long.
    pub min_fresh: Option<u64>,
    /// Stale for at most so long.
    pub max_stale: Option<u64>,
    /// The service is not to be asked.
    pub only_if_cached: bool,
}

/// A request, as far as a cache is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// It is HEAD.
    pub is_head: bool,
    /// What it says in `Cache-Control`.
    pub directives: Directives,
    /// Its response is not to be stored.
    pub no_store: bool,
    /// The service knows who asks.
    pub is_authorized: bool,
    /// It has cookies, by which the service may know.
    pub has_cookie: bool,
    /// What it says of what the client has.
    pub conditions: Conditions,
    /// It is about what the service has, and not for a cache to answer: `If-Match` and the like (RFC 9111 §4.3.2).
    pub is_for_service: bool,
}

/// Fields by which a service is told who asks.
const IDENTITIES: [&str; 4] = ["authorization", "x-forwarded-user", "client-cert", "x-client-cert-subject"];

impl Asked {
    /// Reads a request as the service gets it. `is_believed`: what it asks of the cache counts.
    pub fn read(method: &str, fields: Fields<'_>, is_believed: bool) -> Asked {
        let mut asked = Asked {
            is_head: method == "HEAD",
            is_authorized: IDENTITIES.into_iter().any(|name| fields.has(name)),
            has_cookie: fields.has("cookie"),
            conditions: Conditions::of(fields),
            is_for_service: fields.has("if-match") || fields.has("if-unmodified-since"),
            ..Asked::default()
        };
        for directive in fields.values("cache-control").flat_map(directives) {
            let said = &mut asked.directives;
            match directive {
                // Whoever says that does not want it kept, whether his word counts otherwise or not.
                _ if directive.is("no-store") => {
                    asked.no_store = true;
                    said.no_cache |= is_believed;
                }
                _ if !is_believed => {}
                _ if directive.is("no-cache") => said.no_cache = true,
                _ if directive.is("max-age") => said.max_age = Some(directive.seconds()),
                _ if directive.is("min-fresh") => said.min_fresh = Some(directive.seconds()),
                _ if directive.is("max-stale") => {
                    said.max_stale = Some(directive.argument.map_or(SECONDS_MAX, |_| directive.seconds()));
                }
                _ if directive.is("only-if-cached") => said.only_if_cached = true,
                _ => {}
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fields::tests::with, *};

    fn asked(text: &str, is_believed: bool) -> Asked {
        with(text, |fields| Asked::read("GET", fields, is_believed))
    }

    #[test]
    fn what_a_request_says_counts_where_it_is_believed() {
        let text =
            "Cache-Control: no-cache, max-age=5\ncache-control: max-stale, min-fresh=7, only-if-cached";
        let expected = Directives {
            no_cache: true,
            max_age: Some(5),
            min_fresh: Some(7),
            max_stale: Some(SECONDS_MAX),
            only_if_cached: true,
        };
        assert_eq!(asked(text, true).directives, expected);
        assert_eq!(asked(text, false).directives, Directives::default());
        assert_eq!(asked("Cache-Control: max-stale=9", true).directives.max_stale, Some(9));
        assert!(asked("Cache-Control: no-store", false).no_store);
        assert!(!asked("Cache-Control: no-store", false).directives.no_cache);
    }

    #[test]
    fn whoever_is_known_is_told_from_others() {
        for text in ["Authorization: Basic x", "X-Forwarded-User: ann", "Client-Cert: :x:"] {
            assert!(asked(text, false).is_authorized, "{text}");
        }
        assert!(!asked("Cookie: a", false).is_authorized && asked("Cookie: a", false).has_cookie);
        assert!(asked("If-Match: \"a\"", false).is_for_service);
    }
}

//! The rules of the gateway.

use std::time::Duration;

use super::{ApiPage, Files, Guard, Notice, RouteCache, Upstream};
use crate::ServiceId;

/// One of them. Of all that take a request, the first one in this order has it: by host, an exact one before the longest wildcard before
/// none; by path, segment by segment from the left, text before a parameter before the end of an exact path before a regular
/// expression before the end of a prefix; by the number of conditions; by the place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The path, as `matching` says.
    pub path: String,
    /// How the path is meant.
    pub matching: PathMatch,
    /// Whether other letters are another path, which may lead past what this route asks for.
    pub case_exact: bool,
    /// The host it is for, lower case, `*.example.org` for every name below; `None` for all.
    pub host: Option<String>,
    /// The methods it takes; none is every one. GET takes HEAD as well.
    pub methods: Vec<String>,
    /// What else a request must have, all of it.
    pub conditions: Vec<RouteCondition>,
    /// What becomes of requests.
    pub target: RouteTarget,
    /// What the prefix, or a path that is no prefix, becomes: `None` leaves the path as it is, `Some("")` strips it. `{name}` in it stands for
    /// what the path's parameter of that name does.
    pub rewrite: Option<String>,
    /// What becomes of the headers of requests.
    pub request_headers: HeaderRules,
    /// What becomes of the headers of responses.
    pub response_headers: HeaderRules,
    /// Faults that are made on purpose.
    pub fault: Option<RouteFault>,
    /// Who gets copies of requests, and of how many of a hundred.
    pub mirror: Option<(ServiceId, u32)>,
    /// What requests have to pass.
    pub guard: Guard,
    /// Which responses are stored, where it is not for its service to say.
    pub cache: Option<RouteCache>,
    /// Since when, or from when on, it is not to be used any longer.
    pub deprecation: Option<Notice>,
    /// When it will be there no longer.
    pub sunset: Option<Notice>,
    /// How responses of services are compressed.
    pub compress: Option<Compress>,
}

/// How responses are compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// In which codings, the best one first, as `Content-Encoding` has them.
    pub codings: Vec<String>,
    /// Of which types, in lower case; `*` at the end or at the beginning stands for anything.
    pub types: Vec<String>,
    /// From how many bytes on, where that is known.
    pub len_min: u64,
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// To this service.
    Service(ServiceId),
    /// To these, each with its weight; some weight is not 0.
    Split {
        /// Who and how much.
        shares: Vec<(ServiceId, u32)>,
        /// The cookie that keeps a client with the service that it met first.
        sticky: Option<String>,
    },
    /// To a server that is no service of the application.
    Upstream(Upstream),
    /// To files.
    Files(Files),
    /// To a page about the APIs that routes lead to.
    ApiPage(ApiPage),
    /// Nowhere: the client is sent elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// A path or a URL in place of the route's path, with its parameters.
        to: String,
    },
    /// Nowhere: this is the answer.
    Respond {
        /// From 200 to 599.
        status: u16,
        /// The body.
        body: String,
        /// What the body is.
        content_type: String,
    },
}

impl RouteTarget {
    /// The services that get requests.
    pub fn services(&self) -> Vec<&ServiceId> {
        match self {
            RouteTarget::Service(service) => vec![service],
            RouteTarget::Split { shares, sticky: _ } => shares.iter().map(|(service, _)| service).collect(),
            RouteTarget::Upstream(_)
            | RouteTarget::Files(_)
            | RouteTarget::ApiPage(_)
            | RouteTarget::Redirect { .. }
            | RouteTarget::Respond { .. } => Vec::new(),
        }
    }

    /// Whether the proxy answers by itself.
    pub fn is_answer(&self) -> bool {
        match self {
            RouteTarget::Files(_)
            | RouteTarget::ApiPage(_)
            | RouteTarget::Redirect { .. }
            | RouteTarget::Respond { .. } => true,
            RouteTarget::Service(_) | RouteTarget::Split { .. } | RouteTarget::Upstream(_) => false,
        }
    }
}

/// What becomes of headers: first some are removed, those that are set among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderRules {
    /// These names, in lower case.
    pub remove: Vec<String>,
    /// These with these values, once.
    pub set: Vec<(String, String)>,
    /// These beside those that are there.
    pub add: Vec<(String, String)>,
}

/// Faults for tests. Parts are of a hundred requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFault {
    /// How long some of them wait first, and how many.
    pub delay: Option<(Duration, u32)>,
    /// With which status some of them are answered, and how many.
    pub abort: Option<(u16, u32)>,
}

/// How the path of a route is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PathMatch {
    /// A prefix of whole segments: `/api` matches `/api` and `/api/x`, not `/apix`. A segment `{name}` is any one that is not empty.
    #[default]
    Prefix,
    /// This path alone, with segments `{name}` likewise.
    Exact,
    /// A regular expression of the whole path.
    Regex,
}

/// Something that a request must have for a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteCondition {
    /// Where it is looked for.
    pub part: RequestPart,
    /// The name there; of a header in lower case.
    pub name: String,
    /// What it must be.
    pub test: ValueTest,
}

/// A part of a request that has names and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestPart {
    /// Its headers.
    Header,
    /// Its cookies.
    Cookie,
    /// The parameters after `?`.
    Query,
}

/// What a value must be. Where there are several of one name, any of them will do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueTest {
    /// This text.
    Is(String),
    /// What this regular expression describes, from its first character to its last.
    Regex(String),
    /// Anything, if it is there.
    Present,
    /// Nothing: it must not be there.
    Absent,
}

impl Route {
    /// A rule for a path and everything below it.
    pub fn prefix(path: &str, service: ServiceId) -> Route {
        Route::to(path, RouteTarget::Service(service))
    }

    /// The same, wherever it leads.
    pub fn to(path: &str, target: RouteTarget) -> Route {
        Route {
            path: path.to_owned(),
            matching: PathMatch::Prefix,
            case_exact: false,
            host: None,
            methods: Vec::new(),
            conditions: Vec::new(),
            target,
            rewrite: None,
            request_headers: HeaderRules::default(),
            response_headers: HeaderRules::default(),
            fault: None,
            mirror: None,
            guard: Guard::default(),
            cache: None,
            deprecation: None,
            sunset: None,
            compress: None,
        }
    }
}

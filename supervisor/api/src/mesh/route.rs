//! The gateway's rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Guard, RouteCache};

/// One rule of the gateway; the meaning is that of `watt_core::plan::Route`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// The path: as `matching` says.
    pub path: String,
    /// How the path is meant.
    #[serde(default, skip_serializing_if = "PathMatch::is_prefix")]
    pub matching: PathMatch,
    /// Whether other letters are another path, which may lead past what this route asks for. Else requests that would do so are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub case_exact: bool,
    /// The host, lower case; `*.` in front matches every name below.
    pub host: Option<String>,
    /// The methods it takes; none is every one. `GET` takes HEAD as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// What else a request must have, all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<RouteCondition>,
    /// The service. Empty where `split` or `answer` says what becomes of requests.
    pub service: String,
    /// Services that share the requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<RouteShare>,
    /// The cookie that keeps a client with the service of `split` that it met first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    /// What the proxy answers by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<RouteAnswer>,
    /// Files that it leads to, where `service` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<RouteFiles>,
    /// A page that it leads to, where `service` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<RoutePage>,
    /// What the path, or the prefix, becomes; `None` leaves it.
    pub rewrite: Option<String>,
    /// What becomes of the headers of requests.
    #[serde(default, skip_serializing_if = "HeaderRules::is_nothing")]
    pub request_headers: HeaderRules,
    /// What becomes of the headers of responses.
    #[serde(default, skip_serializing_if = "HeaderRules::is_nothing")]
    pub response_headers: HeaderRules,
    /// Faults that are made on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<RouteFault>,
    /// Who gets copies of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<RouteMirror>,
    /// What requests have to pass.
    #[serde(default, skip_serializing_if = "Guard::is_nothing")]
    pub guard: Guard,
    /// Which responses are stored; `None`: those of its service that this one says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<RouteCache>,
    /// How responses of services are compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compress>,
}

/// How responses are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Compress {
    /// In which codings, the best one first, as `Content-Encoding` has them.
    pub codings: Vec<String>,
    /// Of which types; `*` at the end or at the beginning stands for anything.
    pub types: Vec<String>,
    /// From how many bytes on, where that is known.
    pub len_min: u64,
}

/// One of the services that share the requests of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteShare {
    /// The service.
    pub service: String,
    /// How much it gets: this part of the sum of all.
    pub weight: u32,
}

/// An answer that takes no service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteAnswer {
    /// Elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// A path, or a URL, in place of the route's path. The query stays.
        to: String,
    },
    /// This.
    Fixed {
        /// The status.
        status: u16,
        /// The body.
        body: String,
        /// The Content-Type of a body.
        content_type: String,
    },
}

/// A service that gets copies, and whose answers nobody gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteMirror {
    /// The service.
    pub service: String,
    /// Of how many of a hundred requests.
    pub percent: u32,
}

/// Files of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RouteFiles {
    /// The folder, for people.
    pub root: String,
    /// The folder that has it, as [`AddFolder`](super::ToProxy::AddFolder) calls it.
    pub folder: String,
    /// Its name there; empty for the folder itself.
    pub name: String,
    /// The name of a folder's own page.
    pub index: String,
    /// The page that stands for those that there are no files for.
    pub spa: Option<String>,
    /// What `Cache-Control` says.
    pub cache_control: String,
    /// Whether `x.br`, `x.zst` and `x.gz` are sent for `x` to clients that take them.
    pub precompressed: bool,
    /// Whether names that begin with a dot are served.
    pub hidden: bool,
}

/// A page of the proxy's own that shows a document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RoutePage {
    /// The document, as [`AddDocument`](super::ToProxy::AddDocument) calls it.
    pub document: String,
    /// Its title, for people.
    pub title: String,
}

/// What becomes of headers. First some are removed, those that are set among them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HeaderRules {
    /// These names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// These with these values, once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, String)>,
    /// These beside those that are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(String, String)>,
}

impl HeaderRules {
    /// Whether all headers stay as they are.
    pub fn is_nothing(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Faults for tests: what happens to some of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RouteFault {
    /// How long some of them wait first, in milliseconds.
    pub delay_ms: u64,
    /// How many of a hundred.
    pub delay_percent: u32,
    /// With which status some of them are answered, and go nowhere.
    pub abort_status: u16,
    /// How many of a hundred.
    pub abort_percent: u32,
}

impl Route {
    /// What it is called where requests are counted by it: host and path as the file has them.
    pub fn label(&self) -> String {
        format!("{}{}", self.host.as_deref().unwrap_or_default(), self.path)
    }

    /// Whether it takes what those took that there were first: a host, and a path with everything below it, without parameters. What it
    /// does with that is another thing: a route without a `service` leads nowhere there, and others to their service.
    pub fn is_of_first_form(&self) -> bool {
        let Route { path, matching, host: _, methods, conditions, .. } = self;
        matching.is_prefix() && methods.is_empty() && conditions.is_empty() && !path.contains('{')
    }
}

/// How the path of a route is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// This path and everything below it. A segment `{name}` is any one that is not empty.
    #[default]
    Prefix,
    /// This path alone. A segment `{name}` is any one that is not empty.
    Exact,
    /// A regular expression of the whole path.
    Regex,
}

impl PathMatch {
    fn is_prefix(&self) -> bool {
        *self == PathMatch::Prefix
    }
}

/// Something that a request must have for a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteCondition {
    /// Where it is looked for.
    pub part: RequestPart,
    /// The name there; of a header in any case.
    pub name: String,
    /// What it must be.
    pub test: ValueTest,
}

/// A part of a request that has names and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestPart {
    /// Its headers.
    Header,
    /// Its cookies.
    Cookie,
    /// The parameters after `?`.
    Query,
}

/// What a value must be. Where there are several of one name, any of them will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
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

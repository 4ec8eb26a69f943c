//! The gateway's rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One rule of the gateway; the meaning is that of `watt_core::plan::Route`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// The path: as `matching` says.
    pub path: String,
    /// How the path is meant.
    #[serde(default, skip_serializing_if = "PathMatch::is_prefix")]
    pub matching: PathMatch,
    /// The host, lower case; `*.` in front matches every name below.
    pub host: Option<String>,
    /// The methods it takes; none is every one. `GET` takes HEAD as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// What else a request must have, all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<RouteCondition>,
    /// The service.
    pub service: String,
    /// What the path, or the prefix, becomes; `None` leaves it.
    pub rewrite: Option<String>,
}

impl Route {
    /// Whether it is one of those that there were first: a host, and a path with everything below it, without parameters.
    pub fn is_of_first_form(&self) -> bool {
        let Route { path, matching, host: _, methods, conditions, service: _, rewrite: _ } = self;
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

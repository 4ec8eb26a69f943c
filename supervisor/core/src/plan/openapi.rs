//! Descriptions of services' APIs, and the page that has them all.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{Plan, RouteTarget};

/// Where the description of a service's API is, and what is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Where it is.
    pub from: DescribedBy,
    /// What paths of the service begin with, that those of the description do not.
    pub base: String,
    /// How often it is looked at, besides whenever a worker gets ready; `None` is never.
    pub refresh: Option<Duration>,
    /// What is left out: a method or all, and a path, at whose end `/*` is everything below.
    pub ignore: Vec<(Option<String>, String)>,
    /// What components and operations are called in the description of all, by what they are called in this one.
    pub rename: BTreeMap<String, String>,
}

/// Where a description is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescribedBy {
    /// The service has it at this path.
    Path(String),
    /// A file has it.
    File(PathBuf),
}

/// A page with the description of all APIs that routes lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPage {
    /// What it is called; `None`: like the application.
    pub title: Option<String>,
    /// The version of what it describes.
    pub version: String,
    /// What that is, in words.
    pub description: Option<String>,
}

/// What clients are told of the end of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// When it is, in seconds since 1970-01-01.
    pub at: i64,
    /// The same as HTTP writes dates.
    pub date: String,
    /// Where there is more about it.
    pub link: Option<String>,
}

impl Plan {
    /// Whether some route has a page with the description of all.
    pub fn has_api_pages(&self) -> bool {
        self.all_routes().any(|route| matches!(route.target, RouteTarget::ApiPage(_)))
    }
}

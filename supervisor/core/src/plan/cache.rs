//! Which responses the proxy stores.

use std::time::Duration;

use super::Believed;

/// How much of them, of all services together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStore {
    /// In bytes, with all that belongs to it.
    pub bytes_max: u64,
    /// Responses.
    pub entries_max: u64,
}

/// Those of a service, or along a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Whether HEAD is answered by what is stored, as GET is.
    pub head: bool,
    /// The largest body that is stored, in bytes.
    pub entry_max: u64,
    /// How long a response is fresh that does not say it; `None`: such a one is not stored, unless `heuristic_percent` says so.
    pub ttl: Option<Duration>,
    /// The same as a part of its age when it came, in percent.
    pub heuristic_percent: u32,
    /// For how long a stale response that does not say it is used while another one is got.
    pub stale_while_revalidate: Duration,
    /// For how long when none can be got.
    pub stale_if_error: Duration,
    /// Fields of requests that every response is chosen by, in lower case.
    pub vary: Vec<String>,
    /// The field of responses that has their tags, in lower case.
    pub tags: String,
    /// What becomes of responses that set cookies.
    pub cookies: CacheCookies,
    /// Whose requests may say that they do not want what is stored.
    pub believes: Believed,
}

/// What becomes of responses that set cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheCookies {
    /// They are not stored, unless they say that they are for everybody; then without their cookies.
    Refuse,
    /// They are stored without their cookies.
    Strip,
    /// They are stored with their cookies.
    Keep,
}

/// What a route says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteCache {
    /// Nothing is stored.
    Off,
    /// This, whatever its service says.
    On(Cache),
}

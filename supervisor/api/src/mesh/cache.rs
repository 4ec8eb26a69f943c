//! The cache of responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Believed;

/// Which responses are stored, of a service or along a route; the meaning is that of `watt_core::plan::Cache`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cache {
    /// Whether HEAD is answered by what is stored, as GET is.
    pub head: bool,
    /// The largest response that is stored, in bytes.
    pub entry_max: u64,
    /// How long a response is fresh that does not say it, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// The same as a part of its age when it came, in percent.
    pub heuristic_percent: u32,
    /// For how long a stale response that does not say it is used while another one is got, in seconds.
    pub while_revalidate_s: u64,
    /// For how long when none can be got.
    pub if_error_s: u64,
    /// Fields of requests that every response is chosen by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vary: Vec<String>,
    /// The field of responses that has their tags, in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// What becomes of responses that set cookies.
    pub cookies: CacheCookies,
    /// Whose requests may say that they do not want what is stored.
    pub believes: Believed,
}

/// What becomes of responses that set cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheCookies {
    /// They are not stored, unless they say that they are for everybody.
    #[default]
    Refuse,
    /// They are stored without them.
    Strip,
    /// They are stored with them.
    Keep,
}

/// What a route says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteCache {
    /// Nothing is stored.
    Off,
    /// This, whatever its service says.
    On(Cache),
}

/// How much is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheLimits {
    /// In bytes, with all that belongs to it.
    pub bytes_max: u64,
    /// Responses.
    pub entries_max: u64,
}

/// What the cache was for a service's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CacheCounts {
    /// Requests that were answered by what was stored and fresh.
    pub hits: u64,
    /// Those answered by what was stale.
    pub stale: u64,
    /// Those answered by what was stored, after the service said that it is still right.
    pub validated: u64,
    /// Those that the service answered.
    pub misses: u64,
    /// Responses that were stored.
    pub stored: u64,
    /// Of the hits, those that waited for another request to get it.
    pub collapsed: u64,
}

impl CacheCounts {
    /// Adds what another thread counted.
    pub fn add(&mut self, others: &CacheCounts) {
        let CacheCounts { hits, stale, validated, misses, stored, collapsed } = *others;
        let add = |sum: &mut u64, count| *sum = sum.saturating_add(count);
        add(&mut self.hits, hits);
        add(&mut self.stale, stale);
        add(&mut self.validated, validated);
        add(&mut self.misses, misses);
        add(&mut self.stored, stored);
        add(&mut self.collapsed, collapsed);
    }
}

/// What is removed. All that is said has to hold; nothing said is everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CachePurge {
    /// Of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// With this URI, query included: `https://example.org/a?b`, or with any host `/a?b`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// With a URI that begins like this, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// With this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// How much a proxy has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CacheStatus {
    /// In bytes, with what is being stored and sent.
    pub bytes: u64,
    /// The most of that.
    pub bytes_max: u64,
    /// Responses.
    pub entries: u64,
    /// How many were stored since the proxy started.
    pub stored: u64,
    /// How many had to make room for others.
    pub evicted: u64,
    /// How many were purged, or made invalid by requests that changed something.
    pub purged: u64,
}

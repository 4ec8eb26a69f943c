//! The cache of responses.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mesh::{CacheCounts, CacheStatus};

/// What the proxy has stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cache {
    /// Of all services together.
    pub store: CacheStatus,
    /// What it was for the requests of services, of those that have one.
    pub services: BTreeMap<String, CacheCounts>,
}

/// What became of a purge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CachePurged {
    /// How many responses were removed.
    pub removed: u64,
}

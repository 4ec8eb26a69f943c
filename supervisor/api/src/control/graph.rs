//! Who waits for whom, and how long a start took.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WorkerState;

/// Which services wait for which, and which are started anew together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Graph {
    /// The application.
    pub app: String,
    /// The configuration file.
    pub file: PathBuf,
    /// The services in the order of starts.
    pub services: Vec<GraphService>,
    /// Groups by name.
    pub groups: Vec<GraphGroup>,
}

/// One service of a [`Graph`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GraphService {
    /// Its name.
    pub id: String,
    /// How many steps of dependencies are below it: those of one level may start at the same time.
    pub level: u32,
    /// What it is doing; `None` where only the configuration was looked at.
    pub state: Option<WorkerState>,
    /// What it depends on.
    pub depends_on: Vec<GraphEdge>,
}

/// One dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GraphEdge {
    /// The other service.
    pub on: String,
    /// What that has to reach: a word of the configuration.
    pub condition: String,
    /// Whether it has to.
    pub required: bool,
    /// Whether the workers are replaced after those of the other service were.
    pub restart: bool,
}

/// Services that are started anew together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GraphGroup {
    /// Its name.
    pub id: String,
    /// Who is: a word of the configuration.
    pub strategy: String,
    /// Its services in their order.
    pub services: Vec<String>,
}

/// How long a start took, and what it waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Analysis {
    /// The service that was asked for; `None` is the start of the application.
    pub service: Option<String>,
    /// From its beginning until the last service was ready or had completed. `None` while one that was to start has not.
    pub total_ms: Option<u64>,
    /// Services that never got ready or completed since the application was started.
    pub missing: Vec<String>,
    /// The service that was ready last, the one that it waited for, and so on.
    pub chain: Vec<AnalyzedStart>,
    /// Every service, the slowest first.
    pub services: Vec<AnalyzedStart>,
}

/// The start of a service: of the worker that was ready last. Times are milliseconds; `at_ms` counts from the beginning of what
/// is analyzed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnalyzedStart {
    /// The service.
    pub service: String,
    /// When it was ready, or had completed.
    pub at_ms: u64,
    /// From when it was wanted until everything that it needs was there, earlier tries that failed included.
    pub waited_ms: u64,
    /// What it waited for last, if for anything.
    pub waited_for: Option<String>,
    /// From then until its program was executed.
    pub exec_ms: Option<u64>,
    /// From then until it was ready, or had completed.
    pub took_ms: u64,
}

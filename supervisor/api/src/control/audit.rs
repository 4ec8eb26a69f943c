//! `GET /v1/audit`: how exposed each service leaves everything else, and what would lower that.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Audit {
    /// The application.
    pub app: String,
    /// Its configuration file.
    pub file: PathBuf,
    /// What was looked at.
    pub basis: AuditBasis,
    /// Whether root started it; taken for granted where it does not run.
    pub started_by_root: bool,
    /// Its services, in the order of their names.
    pub services: Vec<AuditedService>,
}

/// What an audit looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditBasis {
    /// A running application: what its host does not enforce counts as not there.
    Running,
    /// A configuration alone, as on a host that can do everything.
    Configured,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditedService {
    /// Its name.
    pub id: String,
    /// The profile its sandbox starts from: `off`, `standard` or `strict`.
    pub sandbox: String,
    /// The share of all weight that stands open: 0 (nothing) to 10 (everything), with two digits.
    pub exposure: f64,
    /// The same in a word: `OK`, `MEDIUM`, `EXPOSED` or `UNSAFE`.
    pub level: String,
    /// The switch that would lower it most, and does not break the program as far as that is known.
    pub next: Option<AuditStep>,
    /// The exposure with `sandbox: strict`, where that is lower.
    pub strict: Option<f64>,
    /// What is configured but not enforced on this host, with the reason.
    pub unenforced: Vec<String>,
    /// Everything that was checked. This and what follows is empty unless it was asked for.
    #[serde(default)]
    pub checks: Vec<AuditCheck>,
    /// Every switch that would lower the exposure, the best first, and those that would break the program at the end.
    #[serde(default)]
    pub steps: Vec<AuditStep>,
    /// What it can do if it is broken or hostile.
    #[serde(default)]
    pub can: Vec<AuditFact>,
    /// What is in its way.
    #[serde(default)]
    pub cannot: Vec<AuditFact>,
    /// How much it can take.
    #[serde(default)]
    pub at_most: Vec<AuditFact>,
}

/// One door.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditCheck {
    /// Its name: `protect_home`.
    pub id: String,
    /// What it is about: `files and devices`.
    pub area: String,
    /// Whether it is shut.
    pub state: AuditState,
    /// How much it counts.
    pub weight: u32,
    /// What it adds to the exposure.
    pub exposure: f64,
    /// The key of the configuration that shuts it: of the service, or after a `/` of the file.
    pub key: String,
    /// What an attacker who controls the service can do while it is open.
    pub risk: String,
    /// How it stands.
    pub note: String,
    /// Whether more is configured than this host does.
    pub unenforced: bool,
}

/// Whether a door is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditState {
    /// It is.
    Present,
    /// In part.
    Partial,
    /// It stands open.
    Absent,
}

/// A switch that would lower the exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditStep {
    /// The line to write: `services.api.sandbox.protect_home: hidden`.
    pub line: String,
    /// The key in it, one part after the other.
    pub key: Vec<String>,
    /// Its value.
    pub value: serde_json::Value,
    /// The exposure with it.
    pub exposure: f64,
    /// The same in a word.
    pub level: String,
    /// What to know before.
    pub caution: Option<String>,
    /// Why this program does not run with it, where that is known.
    pub breaks: Option<String>,
}

/// Something that is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditFact {
    /// What it is about: `read`.
    pub about: String,
    /// How it is.
    pub text: String,
}

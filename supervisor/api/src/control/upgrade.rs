//! An upgrade of watt itself.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which program is to take over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upgrade {
    /// The program, by its absolute path: root's and the supervisor's user's to say alone. When it is left out, it is what is at the
    /// path of the program that runs.
    pub program: Option<PathBuf>,
    /// How long it may take until it has shown that all is well, in milliseconds; a minute when it is left out. After that the program
    /// before goes on.
    pub timeout_ms: Option<u64>,
    /// Look whether it could take over, and change nothing.
    pub check: bool,
}

/// The last upgrade, or the one that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeState {
    /// Counts upgrades of this application since its start.
    pub number: u64,
    /// How far it is.
    pub state: UpgradeProgress,
    /// The program before.
    pub from: UpgradeProgram,
    /// The one that takes over.
    pub to: UpgradeProgram,
    /// What was done, in order.
    pub steps: Vec<UpgradeStep>,
    /// Why the program before goes on, if it does.
    pub reason: Option<String>,
}

/// How far an upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeProgress {
    /// The program was looked at and could take over. Nothing was changed.
    Checked,
    /// It is under way.
    Running,
    /// The new program has shown that all is well, and stays.
    Done,
    /// The program before goes on.
    RolledBack,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeProgram {
    /// Where it was found.
    pub path: String,
    /// Its version.
    pub version: String,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeStep {
    /// `checked`, `spawner`, `daemon`, `proxy`, `settled`, `rolled_back`.
    pub step: String,
    /// When.
    pub at: String,
}

/// A process of the mesh proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProxyProcess {
    /// Its number.
    pub pid: u32,
    /// Its version, once it has said it.
    pub version: Option<String>,
    /// Its program.
    pub program: String,
    /// `serves`; `tried` while an upgrade is under way; `leaves` when it only has connections of before one.
    pub state: String,
}

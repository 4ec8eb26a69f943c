//! How many workers a service has.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Other numbers of workers for services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// By service; `null` is what the configuration says.
    #[serde(default)]
    pub services: BTreeMap<String, Option<u16>>,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scaled {
    /// Whether every service has as many workers as were asked for, and they are ready.
    pub ok: bool,
    /// By service.
    pub services: BTreeMap<String, ScaledService>,
}

/// What became of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaledService {
    /// How many workers it had.
    pub from: u16,
    /// How many it is to have.
    pub to: u16,
    /// `ready`, or why not.
    pub result: String,
}

/// Why a service has as many workers as it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scaling {
    /// Who decided it last.
    pub by: ScaledBy,
    /// How many it had before.
    pub from: u16,
    /// When that was.
    pub at: String,
    /// Why, in words.
    pub reason: String,
    /// From where to where it goes by itself, unless an operator said how many.
    #[serde(default)]
    pub range: Option<ScalingRange>,
    /// What it lacks for more workers that it would take by what there is to do, in words.
    #[serde(default)]
    pub lacks: Option<String>,
}

/// Between which numbers a service's workers are, by what they have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScalingRange {
    /// The fewest.
    pub min: u16,
    /// The most.
    pub max: u16,
}

/// Who decides how many workers a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaledBy {
    /// The configuration.
    Configuration,
    /// An operator said so.
    Operator,
    /// What there is to do.
    Load,
}

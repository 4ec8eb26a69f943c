//! The configuration: text in, a validated [`Plan`] or a report of every error out.
//!
//! Three steps, each a folder or file of its own:
//!
//! 1. [`Sources`] are the file, the `.env` beside it and the environment, as text. Reading them is the only I/O here
//!    besides [`check_host`]; the daemon keeps them so that a successor sees what the first one saw.
//! 2. `tree` reads YAML, JSON and TOML into one tree whose every key and value knows its place in the file.
//! 3. `decode` walks that tree along the tables of `keys`, expands placeholders, and notes every error instead of
//!    stopping at the first. `check` then looks at services together: cycles, unknown names, collisions.
//!
//! A project of Platformatic's is read by `platformatic` into the same tree, so that everything after is the same.
//!
//! The tables of `keys` are the one list of what may be written. Decoder, suggestions, [`schema()`] and [`reference()`]
//! (docs/configuration.md) all read it.

mod applied;
mod certificates;
mod change;
mod check;
mod decode;
mod dotenv;
mod find;
mod host;
mod keys;
mod placeholder;
mod platformatic;
mod reference;
mod report;
mod scalar;
mod schema;
mod show;
mod source;
mod tree;
mod words;

use watt_core::{
    ServiceId,
    plan::{EgressRule, Plan},
};

use scalar::Scalar as _;

pub use applied::{Applied, Document};
pub use change::{LimitChanges, written_limits};
pub use find::{FILE_NAMES, FindError, find};
pub use host::check_host;
pub use platformatic::{LOADER_FILE, Migrated, NODE_LOADER, Project, platformatic_reference};
pub use reference::{reference, sandboxes};
pub use report::{Problem, Report};
pub use schema::schema;
pub use source::Sources;

/// How many workers a service may have.
pub const WORKERS_MAX: u16 = keys::WORKERS_MAX;

/// A configuration without errors: the plan, and where each of its values came from.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the application is meant to be.
    pub plan: Plan,
    shown: show::Shown,
    files: report::Files,
    /// `PATH` of the environment the configuration was read with: what a bare program name is looked up in.
    search_path: Option<String>,
}

/// Reads a configuration. Pure: nothing but `sources` is looked at.
///
/// # Errors
/// The report has every error of the file and its `.env`, in the order of their places.
pub fn parse(sources: &Sources) -> Result<Config, Report> {
    read(sources, true)
}

/// Reads a configuration for its plan alone, in much less memory.
///
/// # Errors
/// As [`parse`].
pub fn plan(sources: &Sources) -> Result<Plan, Report> {
    read(sources, false).map(|config| config.plan)
}

fn read(sources: &Sources, shows: bool) -> Result<Config, Report> {
    let files = report::Files::of(sources);
    let mut problems = report::Problems::default();
    let decoded = decode::sources(sources, &files, &mut problems, shows);
    match decoded {
        Some((plan, shown)) if problems.is_empty() => {
            Ok(Config { plan, shown, files, search_path: sources.env.get("PATH").cloned() })
        }
        _ => Err(Report::new(files, problems)),
    }
}

/// What of a project of Platformatic's is not taken over, a line each with its place. None of watt's own configurations has any.
pub fn warnings(sources: &Sources) -> Vec<String> {
    platformatic::warnings(sources)
}

/// The watt.yaml that means what a project of Platformatic's does. `None` where the file is none of Platformatic's.
///
/// # Errors
/// The report has what is wrong with the project.
pub fn migrate(sources: &Sources) -> Option<Result<Migrated, Report>> {
    sources.platformatic.is_some().then(|| platformatic::migrate(sources))
}

/// A destination as `egress.allow` has it; `None` when it is none.
pub fn destination(text: &str) -> Option<EgressRule> {
    EgressRule::parse(text).ok()
}

impl Config {
    /// The effective configuration: every key with its value and `from`, where the value was written (`default`,
    /// `watt.yaml:12:5`, a variable's name).
    pub fn show(&self) -> serde_json::Value {
        self.shown.to_json()
    }

    /// The same as YAML with the origins as comments, for people.
    pub fn show_text(&self) -> String {
        self.shown.to_text()
    }

    /// What is shown from here on is without what may be a secret: values of environments, and those that are made of variables are
    /// `<redacted>`.
    pub fn redact(&mut self) {
        let shown = std::mem::replace(&mut self.shown, show::Shown::List(Vec::new()));
        self.shown = shown.redacted();
    }

    /// The effective configuration of one service; `null` when there is none of that name.
    pub fn service_json(&self, id: &ServiceId) -> serde_json::Value {
        self.shown.get(&["services", id.as_str()]).map_or(serde_json::Value::Null, show::Shown::to_json)
    }
}

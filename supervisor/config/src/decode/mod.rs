//! The tree into a plan, with every error noted.
//!
//! Nothing here stops at an error: what is wrong is noted and something harmless used in its place, because the plan is
//! given out only when nothing was noted.

mod access;
mod actions;
mod app;
mod auth;
mod balance;
mod cache;
mod command;
mod compress;
mod egress;
mod environment;
mod fields;
mod files;
mod gateway;
mod groups;
mod guard;
mod hooks;
mod jobs;
mod limits;
mod listener;
mod metrics;
mod openapi;
mod path_rules;
mod pressure;
mod probes;
mod roll;
mod route;
mod sandbox;
mod scheduling;
mod secrets;
mod service;
mod system_calls;
mod tls;
mod traffic;
mod upstream;
mod workers;

use std::path::{Path, PathBuf};

use watt_core::plan::Plan;

pub(crate) use self::{
    fields::{Field, absolute},
    gateway::PolicyDraft,
    groups::GroupDraft,
    jobs::JobDraft,
    listener::ListenerDraft,
    route::RouteDraft,
    sandbox::values as sandbox_values,
    service::ServiceDraft,
};
use crate::{
    Sources, applied, dotenv,
    placeholder::{self, ExpandError, Origin, Reason, Variables},
    platformatic::{self, For},
    report::{Files, Place, Problem, Problems, did_you_mean},
    scalar::quote,
    show::{Shown, VARIABLE},
    source::{FILE_BYTES_MAX, Span, too_large},
    tree::{self, Node, Value},
};

/// How much all placeholders together may write. It bounds what a small file and a large variable can make.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// Decodes everything. `None` when nothing can be said about the file's content. What is shown is empty unless it is asked
/// for: it takes many times the memory of the plan.
pub(crate) fn sources(
    sources: &Sources,
    files: &Files,
    problems: &mut Problems,
    shows: bool,
) -> Option<(Plan, Shown)> {
    let dotenv = match &sources.dotenv {
        Some((_, text)) if text.len() > FILE_BYTES_MAX => {
            problems.push(Problem::new(
                Place::dotenv(Span::default()),
                format!("cannot read this file: {}", too_large()),
            ));
            return None;
        }
        Some((_, text)) => dotenv::parse(text, problems),
        None => Default::default(),
    };
    let root = sources.file.parent().unwrap_or(Path::new("/")).to_path_buf();
    let tree = match &sources.platformatic {
        Some(project) => platformatic::translate(sources, project, &dotenv, problems, For::Running)?.tree,
        None => tree::read(&sources.file, &sources.text, problems)?,
    };
    let applied = applied::Trees::read(sources, problems)?;
    let text = sources.all_text();
    let variables = Variables { env: &sources.env, dotenv, root: root.to_string_lossy().into_owned() };
    let mut decoder =
        Decoder { problems, files, shows, text: &text, variables, root, expanded_bytes: 0, name: None };
    app::decode(&mut decoder, sources, &tree, &applied)
}

/// What every part of the decoding needs.
pub(crate) struct Decoder<'a> {
    pub(crate) problems: &'a mut Problems,
    pub(crate) files: &'a Files,
    /// Whether what is shown is wanted.
    shows: bool,
    text: &'a str,
    pub(crate) variables: Variables<'a>,
    root: PathBuf,
    expanded_bytes: usize,
    /// The service or job that is decoded.
    name: Option<String>,
}

/// A text of the file with its placeholders filled in.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) span: Span,
    /// Where it came from, in words.
    pub(crate) from: String,
    /// The variables in it, in words: empty when there are none.
    pub(crate) variables: String,
}

impl Decoder<'_> {
    /// Notes a problem.
    pub(crate) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The text of a scalar. `what` is the key it is for, `noun` what it should be, `at` where to point when the value
    /// is nothing; placeholders in `kept` stay.
    pub(crate) fn scalar(
        &mut self,
        node: &Node,
        at: Span,
        what: &str,
        noun: &str,
        kept: &[&str],
    ) -> Option<Text> {
        match &node.value {
            Value::Scalar { text, .. } => self.expand(text, node.span, kept),
            Value::Null => {
                self.problem(
                    Problem::new(at, format!("{} has no value", quote(what))).hint(format!("it is {noun}")),
                );
                None
            }
            Value::List(_) | Value::Map(_) => {
                let source = &self.text[node.span.start..node.span.end];
                let problem = Problem::new(
                    node.span,
                    format!("{} is {noun}, and this is {}", quote(what), node.kind()),
                );
                // `port: {PORT}` is a table in YAML.
                let hint = (placeholder::starts_placeholder(source) && source.len() < 200).then(|| {
                    format!("a value that starts with a brace needs quotes: \"{}\"", source.trim_end())
                });
                self.problem(problem.maybe_hint(hint));
                None
            }
        }
    }

    /// Fills in the placeholders of a text at a place.
    pub(crate) fn expand(&mut self, text: &str, span: Span, kept: &[&str]) -> Option<Text> {
        let expanded = match placeholder::expand(text, &self.variables, kept) {
            Ok(expanded) => expanded,
            Err(error) => {
                let problem = self.expand_problem(text, span, &error);
                self.problem(problem);
                return None;
            }
        };
        self.expanded_bytes += expanded.text.len();
        if self.expanded_bytes > EXPANDED_BYTES_MAX {
            let message =
                format!("too large: the values up to here have more than {} MiB", EXPANDED_BYTES_MAX >> 20);
            self.problem(Problem::new(span, message));
            return None;
        }
        if expanded.text.contains('\0') {
            let message = "a NUL character, which no program, path or variable can have";
            self.problem(Problem::new(span, message).hint("remove it"));
            return None;
        }
        let place = self.files.short(span);
        let variables = self.origins(&expanded.used);
        let from = if variables.is_empty() { place } else { format!("{place}, {variables}") };
        Some(Text { text: expanded.text, span, from, variables })
    }

    /// `variable PORT of the environment`, for each one used: what [`crate::show::Shown::redacted`] goes by.
    fn origins(&self, used: &[(String, Origin)]) -> String {
        let words = used.iter().map(|(name, origin)| match origin {
            Origin::Environment => format!("{VARIABLE}{name} of the environment"),
            Origin::DotEnv(span) => format!("{VARIABLE}{name} of {}", self.files.short(Place::dotenv(*span))),
            Origin::Root => name.clone(),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    fn expand_problem(&self, text: &str, span: Span, error: &ExpandError) -> Problem {
        let written = &text[error.range.clone()];
        let at = self.part(span, written);
        match &error.reason {
            Reason::Unset(name) => {
                let near = did_you_mean(name, self.variables.names());
                let advice =
                    format!("set it in the environment or in .env, or give a default: `{{{name}:-…}}`");
                let hint = near.map_or(advice.clone(), |near| format!("{near} Or {advice}"));
                Problem::new(at, format!("the variable {name} is not set")).hint(hint)
            }
            Reason::Required { name, message } => {
                let message = if message.is_empty() { "it has to be" } else { message };
                Problem::new(at, format!("the variable {name} is not set: {message}"))
            }
            Reason::Malformed => Problem::new(at, format!("{} is not a placeholder", quote(written))).hint(
                "write `{NAME}`, `{NAME:-default}` or `{NAME:?message}`, or `{{` for a brace that is text",
            ),
            Reason::TooLong => Problem::new(at, "longer than 128 KiB with its placeholders filled in")
                .hint("Linux takes no longer argument or variable"),
            Reason::TooDeep => Problem::new(at, "too many placeholders inside each other"),
        }
    }

    /// Where `written` is inside a scalar; the scalar as a whole when escapes hide it.
    fn part(&self, span: Span, written: &str) -> Span {
        let source = &self.text[span.start..span.end];
        match source.find(written) {
            Some(index) if !written.is_empty() => {
                Span { start: span.start + index, end: span.start + index + written.len() }
            }
            _ => span,
        }
    }
}

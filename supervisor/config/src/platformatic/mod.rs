//! Projects of Platformatic Watt, as they are: their files are read and become the tree that a watt.yaml would be, so that everything after
//! is the same for both.
//!
//! Pure but for [`read`], which looks at the project's files once and notes what it saw ([`Project`]). Nothing is passed over in silence:
//! what has no equal here is a warning that says where it is written and what happens instead (`keys`).

mod applications;
mod braces;
mod build;
mod gateway;
mod keys;
mod kinds;
mod names;
mod project;
mod root;
mod service;
mod translate;
mod workers;
mod write;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

pub use project::Project;

pub(crate) use names::{FileKind, first_in, kind};

use crate::{
    Report, Sources,
    dotenv::{self, Variable},
    report::{Files, Place, Problem, Problems},
    source::{DotEnv, Span},
    tree::{Node, Value},
};
use project::View;
use translate::Translator;

/// The program that starts a service of Node.js as Platformatic does.
pub const NODE_LOADER: &str = include_str!("node.cjs");

/// What a project is translated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// To run it: services have the whole environment of watt's, as they are used to.
    Running,
    /// To be written down, for `wattctl migrate`.
    Writing,
}

/// The tree, and what there is to warn of.
pub(crate) struct Translated {
    pub(crate) tree: Rc<Node>,
    pub(crate) warnings: Problems,
}

/// Whether the file of these sources is one of Platformatic's.
pub(crate) fn is_one(file: &Path, text: &str) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("platformatic.") || kind(file, text).is_some()
}

/// Looks at everything that the project's meaning depends on.
///
/// # Errors
/// The file that `envfile` names cannot be read.
pub(crate) fn read(sources: &mut Sources) -> Result<(), Report> {
    sources.dotenv = environment_file(sources)?;
    let view = View::of_disk();
    let dotenv = variables(sources);
    // What is wrong is found again, and then reported.
    let mut problems = Problems::default();
    let _ = Translator::new(sources, &view, &dotenv, &mut problems, For::Running).project();
    sources.platformatic = Some(view.into_project());
    Ok(())
}

/// The tree of a project that was read.
pub(crate) fn translate(
    sources: &Sources,
    project: &Project,
    dotenv: &BTreeMap<String, Variable>,
    problems: &mut Problems,
    purpose: For,
) -> Option<Translated> {
    let view = View::of(project);
    Translator::new(sources, &view, dotenv, problems, purpose).project()
}

fn variables(sources: &Sources) -> BTreeMap<String, Variable> {
    let text = sources.dotenv.as_ref().map(|(_, text)| text.as_str());
    dotenv::parse(text.unwrap_or_default(), &mut Problems::default())
}

/// The file of variables: what `envfile` names, else the nearest `.env` in the project's folder or one above it.
fn environment_file(sources: &Sources) -> Result<Option<(PathBuf, String)>, Report> {
    let folder = sources.file.parent().unwrap_or(Path::new("/"));
    if let Some((named, span)) = named_environment_file(sources) {
        let path = crate::decode::absolute(folder, &named);
        return match View::of_disk().file(&path) {
            project::Found::Text(text) => Ok(Some((path, text))),
            project::Found::Missing => {
                Err(refused(sources, span, format!("{} does not exist", path.display())))
            }
            project::Found::Unreadable(why) => {
                Err(refused(sources, span, format!("cannot read {}: {why}", path.display())))
            }
        };
    }
    for folder in folder.ancestors() {
        let path = DotEnv::path_beside(&folder.join("watt.json"));
        match View::of_disk().file(&path) {
            project::Found::Text(text) => return Ok(Some((path, text))),
            project::Found::Missing => {}
            project::Found::Unreadable(why) => {
                let message = format!("cannot read {}: {why}", path.display());
                return Err(Report::one(
                    Files::of(sources),
                    Problem::new(Place::whole(crate::report::FileId::Config), message),
                ));
            }
        }
    }
    Ok(None)
}

fn refused(sources: &Sources, span: Span, message: String) -> Report {
    let problem =
        Problem::new(span, message).hint("`envfile` is the path of a file with variables, from this folder");
    Report::one(Files::of(sources), problem)
}

fn named_environment_file(sources: &Sources) -> Option<(String, Span)> {
    let tree = crate::tree::read(&sources.file, &sources.text, &mut Problems::default())?;
    let Value::Map(entries) = &tree.value else { return None };
    let node = &entries.iter().find(|entry| entry.key.text == "envfile")?.node;
    match &node.value {
        Value::Scalar { text, .. } => Some((text.clone(), node.span)),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// What a project becomes, in words for its report.
pub(crate) fn warnings(sources: &Sources) -> Vec<String> {
    let Some(project) = &sources.platformatic else { return Vec::new() };
    let files = Files::of(sources);
    let dotenv = variables(sources);
    let translated = translate(sources, project, &dotenv, &mut Problems::default(), For::Running);
    let warnings = translated.map(|translated| translated.warnings).unwrap_or_default();
    warnings.in_lines(&files)
}

/// The watt.yaml that says what a project's files do, and what it does not say.
///
/// # Errors
/// What is wrong with the project.
pub(crate) fn migrate(sources: &Sources) -> Result<Migrated, Report> {
    let mut problems = Problems::default();
    let dotenv = variables(sources);
    let translated = sources
        .platformatic
        .as_ref()
        .and_then(|project| translate(sources, project, &dotenv, &mut problems, For::Writing));
    let files = Files::of(sources);
    match translated {
        Some(translated) if problems.is_empty() => {
            let warnings = translated.warnings.in_lines(&files);
            let file = sources.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = write::yaml(&translated.tree, &file, &warnings);
            let needs_loader = text.contains(LOADER_FILE);
            Ok(Migrated { text, warnings, needs_loader })
        }
        _ => Err(Report::new(files, problems)),
    }
}

/// The name of [`NODE_LOADER`] where it is a file beside a watt.yaml.
pub const LOADER_FILE: &str = "watt-node.cjs";

/// What `wattctl migrate` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The watt.yaml.
    pub text: String,
    /// What of the project is not in it, a line each.
    pub warnings: Vec<String>,
    /// Whether [`NODE_LOADER`] has to be beside it, as [`LOADER_FILE`].
    pub needs_loader: bool,
}

/// The tables of keys of docs/platformatic.md.
pub fn platformatic_reference() -> String {
    keys::reference()
}

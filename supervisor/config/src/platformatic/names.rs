//! Which files are Platformatic's, and which kind each is.

use std::path::{Path, PathBuf};

use crate::{
    report::Problems,
    tree::{self, Node, Value},
};

/// The endings of files, in the order they are looked for.
const EXTENSIONS: [&str; 6] = ["json", "json5", "yaml", "yml", "toml", "tml"];

/// What may stand between a name and its ending.
const SUFFIXES: [&str; 6] = ["runtime", "service", "application", "db", "gateway", "composer"];

/// What a file is for, by its `$schema` or `module`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A whole project.
    Root,
    /// One application, of this package.
    Application(String),
}

/// The names of Platformatic's files, in the order they are looked for.
pub(crate) fn file_names() -> impl Iterator<Item = String> {
    let plain = EXTENSIONS.iter().flat_map(|end| [format!("watt.{end}"), format!("platformatic.{end}")]);
    let suffixed = SUFFIXES.iter().flat_map(|suffix| {
        EXTENSIONS
            .iter()
            .flat_map(move |end| [format!("watt.{suffix}.{end}"), format!("platformatic.{suffix}.{end}")])
    });
    plain.chain(suffixed)
}

/// What a file is, when it is one of Platformatic's.
pub(crate) fn kind(file: &Path, text: &str) -> Option<FileKind> {
    // Most of watt's own files are told by this alone.
    if !text.contains("platformatic") && !text.contains("wattpm") {
        return None;
    }
    let tree = tree::read(file, text, &mut Problems::default())?;
    kind_of(&tree)
}

/// What a file is, by what it says.
pub(crate) fn kind_of(tree: &Node) -> Option<FileKind> {
    let Value::Map(entries) = &tree.value else { return None };
    let said = |key: &str| {
        let entry = entries.iter().find(|entry| entry.key.text == key)?;
        match &entry.node.value {
            Value::Scalar { text, .. } => Some(text.as_str()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    };
    let package = said("module").map(without_version).or_else(|| said("$schema").and_then(of_schema))?;
    Some(match package.as_str() {
        "@platformatic/runtime" | "@platformatic/watt" | "@platformatic/wattpm" => FileKind::Root,
        _ => FileKind::Application(package),
    })
}

/// `@platformatic/node` of the URL of its schema.
fn of_schema(url: &str) -> Option<String> {
    let url = url.strip_prefix("https://")?;
    let name = if let Some(rest) = url.strip_prefix("platformatic.dev/schemas/") {
        // Version 1: `v1.5.0/runtime`.
        rest.split_once('/')?.1
    } else {
        let rest = url.strip_prefix("schemas.platformatic.dev/")?;
        let (name, version) = rest.strip_prefix("@platformatic/").unwrap_or(rest).split_once('/')?;
        version.contains(".json").then_some(name)?
    };
    (!name.is_empty()).then(|| format!("@platformatic/{name}"))
}

/// `@platformatic/node@2.1.0` without its version.
fn without_version(module: &str) -> String {
    match module.rsplit_once('@') {
        Some((name, version)) if !name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()) => {
            name.to_owned()
        }
        _ => module.to_owned(),
    }
}

/// The first of Platformatic's files in a folder, by what `is_there` says.
pub(crate) fn first_in(folder: &Path, is_there: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    file_names().map(|name| folder.join(name)).find(|path| is_there(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_files() {
        let application = |name: &str| Some(FileKind::Application(name.into()));
        let check = |text: &str, expected: Option<FileKind>| {
            assert_eq!(kind("/srv/watt.json".as_ref(), text), expected, "{text}");
        };
        let schema = |url: &str| format!(r#"{{"$schema": "{url}"}}"#);
        check(&schema("https://schemas.platformatic.dev/wattpm/3.0.0.json"), Some(FileKind::Root));
        check(
            &schema("https://schemas.platformatic.dev/@platformatic/runtime/2.8.0.json"),
            Some(FileKind::Root),
        );
        check(&schema("https://schemas.platformatic.dev/watt/3.0.0.json"), Some(FileKind::Root));
        check(&schema("https://platformatic.dev/schemas/v1.5.0/runtime"), Some(FileKind::Root));
        check(
            &schema("https://platformatic.dev/schemas/v1.5.0/service"),
            application("@platformatic/service"),
        );
        check(
            &schema("https://schemas.platformatic.dev/@platformatic/node/3.1.0-alpha.1.json"),
            application("@platformatic/node"),
        );
        check(r#"{"module": "@platformatic/next@2.10.0"}"#, application("@platformatic/next"));
        check(r#"{"$schema": "https://watt.example/schema.json", "services": {}}"#, None);
        check(r#"{"services": {"platformatic": {"command": "x"}}}"#, None);
        check("services: [", None);
    }

    #[test]
    fn the_order_of_names() {
        let names: Vec<String> = file_names().collect();
        assert_eq!(names[..4], ["watt.json", "platformatic.json", "watt.json5", "platformatic.json5"]);
        assert_eq!(names.len(), 84);
        assert_eq!(names[83], "platformatic.composer.tml");
    }
}

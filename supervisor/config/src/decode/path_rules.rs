//! Rules for paths of a sandbox: what each of the keys with lists of paths says.

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value as Json, json};
use watt_core::sandbox::{PathAccess, PathRule, Sandbox, Temporary};

use super::{
    fields::{Fields, absolute},
    sandbox::Base,
};
use crate::{
    report::Problem,
    scalar::{Bad, Bytes, Scalar, quote},
    show::Shown,
    source::Span,
};

/// Whether a rule is one of a key.
type IsOfKey = fn(&PathAccess) -> bool;

/// The keys of paths, and which rules each has.
const PATHS: [(&str, IsOfKey); 8] = [
    ("read_only_paths", |access| matches!(access, PathAccess::ReadOnly)),
    ("read_write_paths", |access| matches!(access, PathAccess::ReadWrite)),
    ("inaccessible_paths", |access| matches!(access, PathAccess::Inaccessible)),
    ("bind_paths", |access| matches!(access, PathAccess::Bind { read_only: false, .. })),
    ("bind_read_only_paths", |access| matches!(access, PathAccess::Bind { read_only: true, .. })),
    ("temporary_paths", |access| matches!(access, PathAccess::Temporary(_))),
    ("no_exec_paths", |access| matches!(access, PathAccess::NoExec)),
    ("exec_paths", |access| matches!(access, PathAccess::Exec)),
];

/// The rules of the keys that were written replace the base's of the same keys. Folders come before what is in them, so
/// that the nearest rule holds.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>, own: &mut Arc<Sandbox>, base: &Base) {
    let root = f.d.root.clone();
    let mut written: Vec<(PathRule, Span)> = Vec::new();
    let mut kept: Vec<PathRule> = Vec::new();
    for (key, is_of_key) in PATHS {
        let parse = |text: &str| rule(key, &root, text);
        match f.each(key, "a path", parse, show_rule) {
            Some(rules) => written.extend(rules),
            None => {
                let of_base = base.sandbox().paths.iter().filter(|rule| is_of_key(&rule.access));
                kept.extend(of_base.cloned());
            }
        }
    }
    for (index, (rule, span)) in written.iter().enumerate() {
        let earlier = written[..index].iter().find(|(other, _)| excludes(other, rule));
        if let Some((_, first)) = earlier {
            let problem =
                Problem::new(*span, format!("two rules for {}", quote(&rule.path.to_string_lossy())));
            f.d.problem(problem.related(*first, "the first one is here").hint("keep one of them"));
        }
    }
    kept.retain(|rule| !written.iter().any(|(other, _)| excludes(other, rule)));
    for (key, is_of_key) in PATHS {
        let of_key: Vec<Shown> = kept
            .iter()
            .filter(|rule| is_of_key(&rule.access))
            .map(|rule| Shown::Leaf { value: show_rule(rule), from: base.from.clone(), span: None })
            .collect();
        if !of_key.is_empty() {
            f.show(key, Shown::List(of_key));
        }
    }
    let mut rules: Vec<PathRule> = kept;
    rules.extend(written.into_iter().map(|(rule, _)| rule));
    rules.sort_by(|one, other| one.path.cmp(&other.path));
    if rules != own.paths {
        Arc::make_mut(own).paths = rules;
    }
}

/// Whether only one of two rules can hold.
fn excludes(one: &PathRule, other: &PathRule) -> bool {
    one.path == other.path && one.access.is_of_executing() == other.access.is_of_executing()
}

/// A path as one of these keys has it.
fn rule(key: &str, root: &Path, text: &str) -> Result<PathRule, Bad> {
    let (optional, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (source, target) = match (key.starts_with("bind"), text.split_once(':')) {
        (true, Some((source, target))) => (source, target),
        (true, None) | (false, _) => (text, text),
    };
    let (target, options) = match target.split_once(':') {
        Some((target, options)) if key == "temporary_paths" => (target, options),
        Some(_) | None => (target, ""),
    };
    let source = plain_path(root, if key.starts_with("bind") { source } else { target })?;
    let path = plain_path(root, target)?;
    let access = match key {
        "read_only_paths" => PathAccess::ReadOnly,
        "read_write_paths" => PathAccess::ReadWrite,
        "inaccessible_paths" => PathAccess::Inaccessible,
        "no_exec_paths" => PathAccess::NoExec,
        "exec_paths" => PathAccess::Exec,
        "temporary_paths" => PathAccess::Temporary(temporary(options)?),
        key => PathAccess::Bind { source, read_only: key == "bind_read_only_paths" },
    };
    let replaces = match access {
        PathAccess::ReadOnly | PathAccess::ReadWrite | PathAccess::NoExec | PathAccess::Exec => false,
        PathAccess::Inaccessible | PathAccess::Bind { .. } | PathAccess::Temporary(_) => true,
    };
    if replaces && path == Path::new("/") {
        return Err(Bad {
            message: "nothing would be left of the file system".into(),
            hint: Some("name folders below `/`".into()),
        });
    }
    Ok(PathRule { access, path, optional })
}

/// Words of tmpfs(5) between commas.
fn temporary(options: &str) -> Result<Temporary, Bad> {
    let mut folder = Temporary::DEFAULT;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            None if option == "ro" => folder.read_only = true,
            Some(("mode", digits)) => folder.mode = mode(digits)?,
            Some(("size", size)) => folder.size = Some(Bytes::parse(size)?.0),
            Some(_) | None => {
                return Err(Bad {
                    message: format!("{} is not understood here", quote(option)),
                    hint: Some("write `ro`, `mode=0755` or `size=64M`, with commas between them".into()),
                });
            }
        }
    }
    Ok(folder)
}

fn mode(digits: &str) -> Result<u32, Bad> {
    let is_octal = digits.bytes().all(|digit| digit.is_ascii_digit());
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o1777);
    mode.ok_or_else(|| Bad {
        message: format!("{} is not the mode of a folder", quote(digits)),
        hint: Some("write octal digits such as `0755`".into()),
    })
}

/// A path without `..`, which would lead elsewhere where a link is on the way.
fn plain_path(root: &Path, text: &str) -> Result<PathBuf, Bad> {
    let path = absolute(root, text);
    if text.is_empty() {
        return Err(Bad {
            message: "an empty path".into(),
            hint: Some("write both, or one for both".into()),
        });
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Bad {
            message: format!("{} is not a path without `..`", quote(text)),
            hint: Some("write the path from `/`, or from the folder of the file".into()),
        });
    }
    Ok(path)
}

fn show_rule(rule: &PathRule) -> Json {
    let dash = if rule.optional { "-" } else { "" };
    match &rule.access {
        PathAccess::Bind { source, .. } => {
            json!(format!("{dash}{}:{}", source.display(), rule.path.display()))
        }
        PathAccess::Temporary(folder) => {
            json!(format!("{dash}{}{}", rule.path.display(), shown_options(*folder)))
        }
        PathAccess::ReadOnly
        | PathAccess::ReadWrite
        | PathAccess::Inaccessible
        | PathAccess::NoExec
        | PathAccess::Exec => json!(format!("{dash}{}", rule.path.display())),
    }
}

fn shown_options(folder: Temporary) -> String {
    let Temporary { mode, size, read_only } = folder;
    let mut options: Vec<String> = Vec::new();
    options.extend(read_only.then(|| "ro".to_owned()));
    options.extend((mode != Temporary::DEFAULT.mode).then(|| format!("mode={mode:04o}")));
    let size = size.map(|size| Bytes(size).show());
    options
        .extend(size.map(|size| format!("size={}", size.as_str().map_or(size.to_string(), str::to_owned))));
    if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) }
}

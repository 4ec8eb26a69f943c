//! What a configuration expects of the host's files: folders and programs that have to be there.
//!
//! Apart from [`crate::parse`], which is pure: a configuration can be checked on another machine than the one it is for.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use watt_core::plan::{Job, Service, Work};

use crate::{
    Config,
    decode::absolute,
    report::{Place, Problem, Problems, Report, did_you_mean},
    scalar::quote,
    source::{Span, plain},
};

/// What execvp(3) looks through when there is no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Looks whether every service's folder and program, and every job's program and time zone exist. An empty report means that they do.
pub fn check_host(config: &Config) -> Report {
    let mut problems = Problems::default();
    for service in config.plan.services.values() {
        if let Some(problem) = folder_problem(config, service) {
            // A program cannot be looked for from a folder that is not there.
            problems.push(problem);
        } else if let Some(problem) =
            program_problem(config, service, &service.command, span(config, service, "command"))
        {
            problems.push(problem);
        }
    }
    for files in config.plan.files() {
        // The root itself may be made later, by a build for example.
        let folder = files.root.parent().unwrap_or(&files.root);
        if let Some((message, hint)) = folder_at_fault(folder) {
            problems.push(Problem::new(Span::default(), message).maybe_hint(hint));
        }
    }
    for job in config.plan.jobs.values() {
        if let Some(problem) = zone_problem(config, job) {
            problems.push(problem);
        }
        if let (Work::Command(argv), Some(service)) = (&job.work, config.plan.services.get(&job.service))
            && service.path.is_dir()
            && let Some(problem) = program_problem(config, service, argv, of_job(config, job, "command"))
        {
            problems.push(problem);
        }
    }
    Report::new(config.files.clone(), problems)
}

/// Where a job's key was written.
fn of_job(config: &Config, job: &Job, key: &str) -> Place {
    let written = config.shown.get(&["jobs", job.id.as_str(), key]).and_then(crate::show::Shown::span);
    written.unwrap_or_default().into()
}

/// A time zone that neither the host's database nor, where the host has none, our own knows.
fn zone_problem(config: &Config, job: &Job) -> Option<Problem> {
    let name = &job.timezone;
    if jiff::tz::TimeZone::get(name).is_ok() {
        return None;
    }
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let problem =
        Problem::new(of_job(config, job, "timezone"), format!("there is no time zone {}", quote(name)));
    let near = did_you_mean(name, known.iter().map(String::as_str));
    Some(problem.hint(near.unwrap_or_else(|| "write one such as `Europe/Berlin`, or `UTC`".into())))
}

fn span(config: &Config, service: &Service, key: &str) -> Place {
    let id = service.id.as_str();
    let key_span = config.shown.get(&["services", id, key]).and_then(crate::show::Shown::span);
    let any_span = || config.shown.get(&["services", id]).and_then(crate::show::Shown::span);
    key_span.or_else(any_span).unwrap_or_default().into()
}

fn folder_problem(config: &Config, service: &Service) -> Option<Problem> {
    let (message, hint) = folder_at_fault(&service.path)?;
    let problem = Problem::new(span(config, service, "path"), message);
    Some(problem.hint(hint.unwrap_or_else(|| "`path` starts at the folder of the configuration file".into())))
}

/// What is wrong with a folder that has to be there, and what may have been meant.
fn folder_at_fault(path: &Path) -> Option<(String, Option<String>)> {
    let message = match std::fs::metadata(path) {
        Ok(kind) if kind.is_dir() => return None,
        Ok(_) => format!("{} is not a folder", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("the folder {} does not exist", path.display())
        }
        Err(error) => format!("cannot look at the folder {}: {}", path.display(), plain(&error)),
    };
    Some((message, nearest_entry(path)))
}

/// A program that could not be executed in a service's folder and environment.
fn program_problem(config: &Config, service: &Service, command: &[String], at: Place) -> Option<Problem> {
    let program = command.first()?;
    // A per-worker placeholder in the program's name is known only at its start.
    if program.contains("{socket}") || program.contains("{port}") {
        return None;
    }
    if program.contains('/') {
        let path = absolute(&service.path, program);
        let message = match executable(&path) {
            Ok(()) => return None,
            Err(error) => format!("cannot run {}: {}", path.display(), plain(&error)),
        };
        let hint = match std::fs::metadata(&path) {
            Ok(kind) if kind.is_file() => Some(format!("chmod +x {}", path.display())),
            Ok(_) => None,
            Err(_) => nearest_entry(&path),
        };
        return Some(Problem::new(at, message).maybe_hint(hint));
    }
    let path = service.env.get("PATH").or(config.search_path.as_ref()).map_or(DEFAULT_PATH, String::as_str);
    // An empty part is the working directory, as in execvp(3).
    let found = path
        .split(':')
        .map(|folder| service.path.join(folder).join(program))
        .any(|path| executable(&path).is_ok());
    if found {
        return None;
    }
    let problem = Problem::new(at, format!("the program {} is in no folder of PATH: {path}", quote(program)));
    let beside = executable(&service.path.join(program)).is_ok();
    Some(problem.hint(if beside {
        format!("did you mean {}?", quote(&format!("./{program}")))
    } else {
        format!("install it, or write its path: `./{program}` or `/…/{program}`")
    }))
}

/// Whether a path is a file that somebody may execute. Whether the service's user may is the kernel's to say.
fn executable(path: &Path) -> io::Result<()> {
    let kind = std::fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    if kind.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::other("it is not executable"));
    }
    Ok(())
}

/// The entry with the most similar name in the nearest folder that exists.
fn nearest_entry(path: &Path) -> Option<String> {
    /// Folders can be huge, and this is for a hint.
    const ENTRIES_MAX: usize = 1000;
    let missing: PathBuf = path.ancestors().take_while(|path| !path.exists()).last()?.to_path_buf();
    let name = missing.file_name()?.to_str()?;
    let folder = missing.parent()?;
    let entries = std::fs::read_dir(folder).ok()?.take(ENTRIES_MAX).flatten();
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    did_you_mean(name, names.iter().map(String::as_str))
}

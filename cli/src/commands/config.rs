//! `wattctl config`: check, show and describe the configuration. Needs no running application.

use std::path::{Path, PathBuf};

use watt_config::{Config, Report, Sources};

use crate::{
    args,
    exit::{Exit, Failure, Outcome},
    text::{numbers::counted, out},
};

/// Runs the command.
pub fn run(arguments: args::Config) -> Outcome {
    match arguments.command {
        args::ConfigCommand::Schema => {
            out::json(&watt_config::schema());
            Ok(Exit::Ok)
        }
        args::ConfigCommand::Check(file) => {
            let config = load(file.file.as_deref().or(file.dir.as_deref()), file.print.json)?;
            let services = config.plan.services.len();
            if file.print.json {
                out::json(&serde_json::json!({ "ok": true, "file": config.plan.file, "services": services }));
            } else {
                let services = counted(services, "service");
                out::print(&format!("{}: ok, {services}\n", config.plan.file.display()));
            }
            Ok(Exit::Ok)
        }
        args::ConfigCommand::Show(args::ConfigShow { file, redact }) => {
            let mut config = load(file.file.as_deref().or(file.dir.as_deref()), file.print.json)?;
            if redact {
                config.redact();
            }
            if file.print.json {
                out::json(&config.show());
            } else {
                out::print(&config.show_text());
            }
            Ok(Exit::Ok)
        }
    }
}

/// Prints all errors of a configuration, on standard error as every error.
fn refused(report: Report, json: bool) -> Failure {
    if json {
        let mut error = report.to_json();
        error["code"] = Exit::Config.code().into();
        error["message"] = "the configuration is wrong".into();
        eprintln!("{}", serde_json::json!({ "error": error }));
    } else {
        let folder = std::env::current_dir().unwrap_or_default();
        eprint!("{}", report.seen_from(&folder));
    }
    Failure::silent(Exit::Config)
}

/// Finds, reads and checks the configuration that `from` (or the current folder) leads to. Errors are printed, all of them.
pub fn load(from: Option<&Path>, json: bool) -> Result<Config, Failure> {
    let config = load_alone(from, json)?;
    let host = watt_config::check_host(&config);
    if !host.is_empty() {
        return Err(refused(host, json));
    }
    config.certificates().map_err(|report| refused(report, json))?;
    Ok(config)
}

/// The same without a look at the host, on which it may never run.
pub fn load_alone(from: Option<&Path>, json: bool) -> Result<Config, Failure> {
    let start = match from {
        Some(path) => path.to_owned(),
        None => current_dir()?,
    };
    let file = watt_config::find(&start).map_err(|error| {
        Failure::new(Exit::Config, watt_supervisor::words::chain(&error)).hint(error.hint())
    })?;
    let refused = |report: watt_config::Report| refused(report, json);
    let sources = Sources::read(&file, environment()).map_err(refused)?;
    watt_config::parse(&sources).map_err(refused)
}

/// The environment as text; variables that are not UTF-8 cannot be named in a configuration and are left out.
pub fn environment() -> std::collections::BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn current_dir() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|error| Failure::new(Exit::Host, format!("cannot tell which folder this is: {error}")))
}

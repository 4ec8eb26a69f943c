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
            let (config, warnings) = load_with_warnings(file.named(), file.print.json)?;
            let services = config.plan.services.len();
            if file.print.json {
                out::json(&serde_json::json!({
                    "ok": true, "file": config.plan.file, "services": services, "warnings": warnings,
                }));
            } else {
                warn(&warnings);
                let services = counted(services, "service");
                out::print(&format!("{}: ok, {services}\n", config.plan.file.display()));
            }
            Ok(Exit::Ok)
        }
        args::ConfigCommand::Show(args::ConfigShow { file, redact }) => {
            let (mut config, warnings) = load_with_warnings(file.named(), file.print.json)?;
            warn(&warnings);
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
pub fn refused(report: Report, json: bool) -> Failure {
    if json {
        let mut error = report.to_json();
        error["code"] = Exit::Config.code().into();
        error["message"] = "the configuration is wrong".into();
        out::fail(&format!("{}\n", serde_json::json!({ "error": error })));
    } else {
        let folder = std::env::current_dir().unwrap_or_default();
        out::fail(&report.seen_from(&folder).to_string());
    }
    Failure::silent(Exit::Config)
}

/// Says what of a project of Platformatic's is not taken over.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        out::say(&format!("warning: {warning}"));
    }
}

/// Finds, reads and checks the configuration that `from` (or the current folder) leads to. Errors are printed, all of them.
pub fn load(from: Option<&Path>, json: bool) -> Result<Config, Failure> {
    load_with_warnings(from, json).map(|(config, _)| config)
}

/// The same, with what of a project of Platformatic's is not taken over.
fn load_with_warnings(from: Option<&Path>, json: bool) -> Result<(Config, Vec<String>), Failure> {
    let sources = sources(from, json)?;
    let config = watt_config::parse(&sources).map_err(|report| refused(report, json))?;
    let host = watt_config::check_host(&config);
    if !host.is_empty() {
        return Err(refused(host, json));
    }
    config.certificates().map_err(|report| refused(report, json))?;
    Ok((config, watt_config::warnings(&sources)))
}

/// The same without a look at the host, on which it may never run.
pub fn load_alone(from: Option<&Path>, json: bool) -> Result<Config, Failure> {
    watt_config::parse(&sources(from, json)?).map_err(|report| refused(report, json))
}

/// Finds and reads the files of the configuration that `from` (or the current folder) leads to.
pub fn sources(from: Option<&Path>, json: bool) -> Result<Sources, Failure> {
    let start = match from {
        Some(path) => path.to_owned(),
        None => current_dir()?,
    };
    let file = watt_config::find(&start).map_err(|error| {
        Failure::new(Exit::Config, watt_supervisor::words::chain(&error)).hint(error.hint())
    })?;
    Sources::read(&file, environment()).map_err(|report| refused(report, json))
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

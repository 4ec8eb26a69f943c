//! `wattctl config`: check, show and describe the configuration. Needs no running application.

use std::path::{Path, PathBuf};

use watt_config::{Config, Sources};

use crate::{
    args,
    exit::{Exit, Failure, Outcome},
    text::out,
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
                let plural = if services == 1 { "" } else { "s" };
                out::print(&format!("{}: ok, {services} service{plural}\n", config.plan.file.display()));
            }
            Ok(Exit::Ok)
        }
        args::ConfigCommand::Show(file) => {
            let config = load(file.file.as_deref().or(file.dir.as_deref()), file.print.json)?;
            if file.print.json {
                out::json(&config.show());
            } else {
                out::print(&config.show_text());
            }
            Ok(Exit::Ok)
        }
    }
}

/// Finds, reads and checks the configuration that `from` (or the current folder) leads to. Errors are printed, all of them.
pub fn load(from: Option<&Path>, json: bool) -> Result<Config, Failure> {
    let start = match from {
        Some(path) => path.to_owned(),
        None => current_dir()?,
    };
    let file = watt_config::find(&start)
        .map_err(|error| Failure::new(Exit::Config, watt_supervisor::words::chain(&error)))?;
    let refused = |report: watt_config::Report| {
        if json {
            let mut answer = serde_json::json!({ "ok": false });
            if let (Some(answer), serde_json::Value::Object(errors)) =
                (answer.as_object_mut(), report.to_json())
            {
                answer.extend(errors);
            }
            out::json(&answer);
        } else {
            let folder = std::env::current_dir().unwrap_or_default();
            eprint!("{}", report.seen_from(&folder));
        }
        Failure::silent(Exit::Config)
    };
    let sources = Sources::read(&file, environment()).map_err(refused)?;
    let config = watt_config::parse(&sources).map_err(refused)?;
    let host = watt_config::check_host(&config);
    if host.is_empty() { Ok(config) } else { Err(refused(host)) }
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

//! What a shell offers on Tab: commands and options as the parser has them, services and applications as they run.
//!
//! The script that `wattctl completion` prints calls `wattctl` with [`VARIABLE`] set and the line so far behind `--`.

use std::{
    ffi::{OsStr, OsString},
    time::Duration,
};

use clap::CommandFactory;
use clap_complete::{CompleteEnv, engine::CompletionCandidate, env::Shells};
use watt_api::client::Client;

use crate::{
    args::{Cli, Which},
    context::Running,
};

/// Asks for candidates instead of a command.
const VARIABLE: &str = "WATTCTL_COMPLETE";

/// Longer than this nobody waits for a Tab; a daemon that is stopped would take for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers a shell that asks, and ends the process then.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// The script that makes a shell ask.
pub fn script(shell: &str) -> std::io::Result<Vec<u8>> {
    let mut script = Vec::new();
    match Shells::builtins().completer(shell) {
        Some(completer) => {
            completer.write_registration(VARIABLE, "wattctl", "wattctl", "wattctl", &mut script)?;
        }
        None => return Err(std::io::Error::other(format!("no completions are known for {shell}"))),
    }
    Ok(script)
}

/// Services of the application that the line is about.
pub fn services(start: &OsStr) -> Vec<CompletionCandidate> {
    let which = which(std::env::args_os().skip_while(|argument| argument != "--"));
    candidates(running_services(&which).unwrap_or_default(), start)
}

/// Jobs of the application that the line is about.
pub fn jobs(start: &OsStr) -> Vec<CompletionCandidate> {
    let which = which(std::env::args_os().skip_while(|argument| argument != "--"));
    let jobs = asked(&which, async |client| client.jobs().await.ok());
    let names = jobs.into_iter().flat_map(|jobs| jobs.jobs).map(|job| job.name);
    candidates(names, start)
}

/// Tasks of the application that the line is about.
pub fn tasks(start: &OsStr) -> Vec<CompletionCandidate> {
    let which = which(std::env::args_os().skip_while(|argument| argument != "--"));
    let tasks = asked(&which, async |client| client.tasks().await.ok());
    let names = tasks.into_iter().flat_map(|tasks| tasks.tasks).map(|task| task.id);
    candidates(names, start)
}

/// Applications that run.
pub fn apps(start: &OsStr) -> Vec<CompletionCandidate> {
    candidates(Running::all().into_iter().map(|running| running.app().to_owned()), start)
}

fn candidates(names: impl IntoIterator<Item = String>, start: &OsStr) -> Vec<CompletionCandidate> {
    let start = start.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*start)).map(CompletionCandidate::new).collect()
}

/// The application that a line which need not be complete names.
fn which(line: impl Iterator<Item = OsString>) -> Which {
    let mut which = Which::default();
    let mut line = line.peekable();
    while let Some(argument) = line.next() {
        match argument.to_str() {
            Some("--app" | "-a") => which.app = line.peek().and_then(|app| app.to_str()).map(str::to_owned),
            Some("--file") => which.file = line.peek().map(Into::into),
            Some(argument) => {
                if let Some(app) = argument.strip_prefix("--app=") {
                    which.app = Some(app.to_owned());
                } else if let Some(file) = argument.strip_prefix("--file=") {
                    which.file = Some(file.into());
                }
            }
            None => {}
        }
    }
    which
}

fn running_services(which: &Which) -> Option<Vec<String>> {
    let status = asked(which, async |client| client.status().await.ok())?;
    Some(status.services.into_iter().map(|service| service.id).collect())
}

/// What a running application answers, if it does so in time.
fn asked<T>(which: &Which, question: impl AsyncFnOnce(Client) -> Option<T>) -> Option<T> {
    let running = Running::find(which).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let ask = async { question(running.client().await.ok()?).await };
        tokio::time::timeout(PATIENCE, ask).await.ok().flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Which {
        which(line.split(' ').map(OsString::from))
    }

    #[test]
    fn a_line_names_its_application_before_it_is_complete() {
        assert_eq!(of("wattctl logs --app shop w").app.as_deref(), Some("shop"));
        assert_eq!(of("wattctl -a shop stop").app.as_deref(), Some("shop"));
        assert_eq!(of("wattctl stop --app=shop").app.as_deref(), Some("shop"));
        assert_eq!(of("wattctl stop --file=x").file.as_deref(), Some("x".as_ref()));
        assert_eq!(of("wattctl --file shop/watt.yaml stop").file.as_deref(), Some("shop/watt.yaml".as_ref()));
        assert_eq!(of("wattctl logs --app").app, None);
    }

    #[test]
    fn every_shell_that_is_offered_has_a_script() {
        for shell in <clap_complete::Shell as clap::ValueEnum>::value_variants() {
            let script = String::from_utf8(script(&shell.to_string()).unwrap()).unwrap();
            assert!(script.contains(VARIABLE) && script.contains("wattctl"), "{shell}: {script}");
        }
    }
}

//! `wattctl`: the one program. It reads arguments and either becomes one of watt's own processes (spawner, daemon, mesh
//! proxy) or performs one command of the operator's. Policy and rendering are elsewhere.

#![expect(
    unreachable_pub,
    reason = "nothing of a program is reachable; `pub` says what a module offers to the others"
)]

use std::process::ExitCode;

use clap::Parser;

mod args;
mod commands;
mod complete;
mod context;
mod exit;
#[cfg(test)]
mod reference;
mod roles;
mod streams;
mod text;

use args::{Cli, Command};
use exit::{Exit, Outcome};

fn main() -> ExitCode {
    complete::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") => {
            return finish(true, Err(exit::Failure::usage(&error)));
        }
        Err(error) => error.exit(),
    };
    match cli.command {
        Command::Spawner(arguments) => roles::spawner(arguments),
        Command::Daemon(arguments) => roles::daemon(arguments),
        Command::MeshProxy(arguments) => roles::mesh_proxy(arguments),
        // They end as their command does.
        Command::Exec(arguments) => finish_as(false, blocking(commands::exec::exec(arguments))),
        Command::Run(arguments) => finish_as(arguments.print.json, blocking(commands::exec::run(arguments))),
        command => finish(wants_json(&command), perform(command)),
    }
}

fn perform(command: Command) -> Outcome {
    blocking(async {
        match command {
            Command::Up(arguments) => commands::up::run(arguments).await,
            Command::Down(arguments) => commands::down::run(arguments).await,
            Command::Status(arguments) => commands::status::run(arguments).await,
            Command::Start(arguments) => {
                commands::operate::run(commands::operate::Operation::Start, arguments).await
            }
            Command::Stop(arguments) => {
                commands::operate::run(commands::operate::Operation::Stop, arguments).await
            }
            Command::Restart(arguments) => {
                commands::operate::run(commands::operate::Operation::Restart, arguments).await
            }
            Command::Scale(arguments) => commands::scale::run(arguments).await,
            Command::Reload(arguments) => commands::reload::run(arguments).await,
            Command::Apply(arguments) => commands::apply::apply(arguments).await,
            Command::Remove(arguments) => commands::apply::remove(arguments).await,
            Command::Upgrade(arguments) => commands::upgrade::run(arguments).await,
            Command::Logs(arguments) => commands::logs::run(arguments).await,
            Command::Inspect(arguments) => commands::inspect::run(arguments).await,
            Command::Limits(arguments) => commands::limits::run(arguments).await,
            Command::Metrics(arguments) => commands::metrics::run(arguments).await,
            Command::Graph(arguments) => commands::graph::run(arguments).await,
            Command::Routes(arguments) => commands::routes::run(arguments).await,
            Command::Cache(arguments) => commands::cache::run(arguments).await,
            Command::Analyze(arguments) => commands::analyze::run(arguments).await,
            Command::Audit(arguments) => commands::audit::run(arguments).await,
            Command::Jobs(arguments) => commands::jobs::run(arguments).await,
            Command::Tasks(arguments) => commands::tasks::run(arguments).await,
            Command::Events(arguments) => commands::events::run(arguments).await,
            Command::Inject(arguments) => commands::inject::run(arguments).await,
            Command::Doctor(print) => commands::doctor::run(print).await,
            Command::Cert(arguments) => commands::cert::run(arguments),
            Command::Config(arguments) => commands::config::run(arguments),
            Command::Migrate(arguments) => commands::migrate::run(arguments),
            Command::Completion { shell } => commands::completion::run(shell),
            Command::Man { folder } => commands::man::run(&folder),
            Command::Exec(_)
            | Command::Run(_)
            | Command::Spawner(_)
            | Command::Daemon(_)
            | Command::MeshProxy(_) => Ok(Exit::Usage),
        }
    })
}

/// Runs a command to its end. What a thread of it still waits for does not hold that up.
fn blocking<T>(command: impl Future<Output = Result<T, exit::Failure>>) -> Result<T, exit::Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| exit::Failure::new(Exit::Host, format!("cannot start a runtime: {error}")))?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_background();
    outcome
}

fn finish(json: bool, outcome: Outcome) -> ExitCode {
    finish_as(json, outcome.map(ExitCode::from))
}

fn finish_as(json: bool, outcome: Result<ExitCode, exit::Failure>) -> ExitCode {
    match outcome {
        Ok(exit) => exit,
        Err(failure) => {
            failure.print(json);
            failure.exit.into()
        }
    }
}

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Up(arguments) => arguments.print.json,
        Command::Down(arguments) => arguments.print.json,
        Command::Status(arguments) => arguments.print.json,
        Command::Start(arguments) | Command::Stop(arguments) | Command::Restart(arguments) => {
            arguments.print.json
        }
        Command::Scale(arguments) => arguments.print.json,
        Command::Reload(arguments) => arguments.print.json,
        Command::Apply(arguments) => arguments.print.json,
        Command::Remove(arguments) => arguments.print.json,
        Command::Upgrade(arguments) => arguments.print.json,
        Command::Logs(arguments) => arguments.services.print.json,
        Command::Inspect(arguments) => arguments.print.json,
        Command::Limits(arguments) => match &arguments.command {
            Some(args::LimitsCommand::Set(set)) => set.print.json || arguments.print.json,
            None => arguments.print.json,
        },
        Command::Graph(arguments) => arguments.print.json,
        Command::Routes(arguments) => arguments.print.json,
        Command::Cache(args::Cache { command }) => match command {
            args::CacheCommand::Status(status) => status.print.json,
            args::CacheCommand::Purge(purge) => purge.print.json,
        },
        Command::Analyze(arguments) => arguments.print.json,
        Command::Audit(arguments) => arguments.print.json,
        Command::Jobs(arguments) => arguments.print().json,
        Command::Tasks(arguments) => arguments.print().json,
        Command::Events(arguments) => arguments.print.json,
        Command::Inject(arguments) => arguments.print.json,
        Command::Doctor(print) => print.json,
        Command::Cert(arguments) => arguments.print.json,
        Command::Config(args::Config { command }) => match command {
            args::ConfigCommand::Check(file) | args::ConfigCommand::Show(args::ConfigShow { file, .. }) => {
                file.print.json
            }
            args::ConfigCommand::Schema => true,
        },
        Command::Migrate(arguments) => arguments.file.print.json,
        Command::Run(arguments) => arguments.print.json,
        Command::Exec(_)
        | Command::Metrics(_)
        | Command::Completion { .. }
        | Command::Man { .. }
        | Command::Spawner(_)
        | Command::Daemon(_)
        | Command::MeshProxy(_) => false,
    }
}

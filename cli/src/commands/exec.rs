//! `wattctl exec` and `wattctl run`: a command in a sandbox, with our streams or a terminal of its own.

use std::{io::IsTerminal as _, os::fd::OwnedFd, process::ExitCode};

use tokio::signal::unix::{Signal, SignalKind, signal};
use watt_api::{
    client::{Client, tasks::Attached},
    control::{Exec, OfTask, Run, TaskEnd, Terminal, ToTask},
};

use crate::{
    args,
    context::Running,
    exit::{Exit, Failure},
    streams::{self, Copies},
    text::out,
};

/// What runs in a worker's sandbox when nothing else is asked for.
const SHELL: &str = "/bin/sh";

/// The status of a command whose end nobody saw, as other tools have it.
const UNKNOWN: u8 = 125;

/// Signals that are passed on to a command without a terminal; one with a terminal gets them by its keys.
const PASSED: [(SignalKind, i32); 4] = [
    (SignalKind::interrupt(), 2),
    (SignalKind::quit(), 3),
    (SignalKind::terminate(), 15),
    (SignalKind::user_defined1(), 10),
];

/// Runs `exec`.
pub async fn exec(arguments: args::Exec) -> Result<ExitCode, Failure> {
    let (service, worker) = target(&arguments.target)?;
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let command = match arguments.command.is_empty() {
        true => vec![SHELL.to_owned()],
        false => arguments.command,
    };
    let exec = Exec { service, worker, command, terminal: terminal(arguments.no_tty) };
    let attached = client.exec(&exec).await.map_err(|error| running.failure(error))?;
    follow(&running, &client, attached, exec.terminal.is_some()).await
}

/// Runs `run`.
pub async fn run(arguments: args::Run) -> Result<ExitCode, Failure> {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let timeout_ms = arguments.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let mut run = Run { service: arguments.service, command: arguments.command, timeout_ms, terminal: None };
    if arguments.detach {
        let started = client.run(&run).await.map_err(|error| running.failure(error))?;
        match arguments.print.json {
            true => out::json(&started),
            false => out::print(&format!("{}\n", started.task)),
        }
        return Ok(Exit::Ok.into());
    }
    run.terminal = terminal(arguments.no_tty);
    let attached = client.run_attached(&run).await.map_err(|error| running.failure(error))?;
    follow(&running, &client, attached, run.terminal.is_some()).await
}

/// A service, and which of its workers: `api`, `api/1`.
fn target(text: &str) -> Result<(String, Option<u16>), Failure> {
    let Some((service, worker)) = text.split_once('/') else { return Ok((text.to_owned(), None)) };
    match worker.parse() {
        Ok(worker) => Ok((service.to_owned(), Some(worker))),
        Err(_) => {
            let failure = Failure::new(Exit::Usage, format!("{worker:?} is no number of a worker"));
            Err(failure.hint(format!("write it as `wattctl status --workers` shows it, such as {service}/0")))
        }
    }
}

/// What the command's terminal is to be like: as ours, when there is somebody at it. Output that goes into a file must be as the command writes it,
/// and a terminal would end its lines in another way.
fn terminal(is_unwanted: bool) -> Option<Terminal> {
    if is_unwanted || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return None;
    }
    let (rows, columns) = streams::size().unwrap_or((24, 80));
    let kind = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    Some(Terminal { rows, columns, kind })
}

/// Is there until the command has ended. Its exit status is ours.
async fn follow(
    running: &Running,
    client: &Client,
    mut attached: Attached,
    has_terminal: bool,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::catch(has_terminal)?;
    let mut copies: Option<(String, Copies)> = None;
    loop {
        let message = tokio::select! {
            message = attached.next() => message.map_err(|error| running.failure(error))?,
            passed = signals.next() => {
                match passed {
                    Passed::Signal(signal) => {
                        let said = attached.say(ToTask::Signal(signal)).await;
                        said.map_err(|error| running.failure(error))?;
                    }
                    Passed::Resized => {
                        if let Some((_, copies)) = &copies {
                            copies.resize();
                        }
                    }
                }
                continue;
            }
        };
        match message {
            Some((OfTask::Started(started), descriptors)) => {
                copies = Some((started.task, begin(descriptors, has_terminal)?));
            }
            Some((OfTask::Ended(end), _)) => {
                if let Some((_, copies)) = copies.take() {
                    tokio::select! {
                        () = copies.finish() => {}
                        // Whoever reads us takes his time, and is not waited for any more.
                        () = signals.next_signal() => {}
                    }
                }
                return ended(end);
            }
            // Its streams do not need a daemon, and the next one knows how it ends.
            None => match &copies {
                Some((task, _)) => {
                    attached = client.attach(task).await.map_err(|error| lost(running, error))?;
                }
                None => {
                    return Err(Failure::new(
                        Exit::Host,
                        "the supervisor was replaced before the command began",
                    ));
                }
            },
        }
    }
}

fn begin(descriptors: Vec<OwnedFd>, has_terminal: bool) -> Result<Copies, Failure> {
    let begun = if has_terminal { Copies::of_terminal(descriptors) } else { Copies::of_pipes(descriptors) };
    begun.map_err(|error| Failure::new(Exit::Host, format!("the command's streams cannot be used: {error}")))
}

fn lost(running: &Running, error: watt_api::client::Error) -> Failure {
    let failure = running.failure(error);
    Failure { message: format!("how the command ended is not known: {}", failure.message), ..failure }
}

fn ended(TaskEnd { text, status, executed }: TaskEnd) -> Result<ExitCode, Failure> {
    if !executed {
        out::say(&format!("error: {text}"));
    }
    Ok(ExitCode::from(if executed || status != 0 { status } else { UNKNOWN }))
}

/// What comes from outside meanwhile.
enum Passed {
    Signal(i32),
    Resized,
}

struct Signals {
    passed: Vec<(Signal, i32)>,
    resized: Option<Signal>,
}

impl Signals {
    fn catch(has_terminal: bool) -> Result<Signals, Failure> {
        let failed = |error| Failure::new(Exit::Host, format!("cannot catch signals: {error}"));
        let passed = PASSED.iter().map(|(kind, number)| Ok((signal(*kind)?, *number)));
        let passed = passed.collect::<std::io::Result<_>>().map_err(failed)?;
        let resized = has_terminal.then(|| signal(SignalKind::window_change()));
        Ok(Signals { passed, resized: resized.transpose().map_err(failed)? })
    }

    /// The next one that is for the command.
    async fn next_signal(&mut self) {
        while matches!(self.next().await, Passed::Resized) {}
    }

    async fn next(&mut self) -> Passed {
        std::future::poll_fn(|context| {
            for (signal, number) in &mut self.passed {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(Passed::Signal(*number));
                }
            }
            match &mut self.resized {
                Some(resized) => resized.poll_recv(context).map(|_| Passed::Resized),
                None => std::task::Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_named_by_its_number() {
        let check = |text: &str, expected: Option<(&str, Option<u16>)>| {
            let found = target(text).ok();
            let expected = expected.map(|(service, worker)| (service.to_owned(), worker));
            assert_eq!(found, expected, "{text}");
        };
        check("api", Some(("api", None)));
        check("api/1", Some(("api", Some(1))));
        check("api/0b", None);
        check("api/", None);
        check("api/70000", None);
    }
}

//! A job's command: a task of its service (`tasks`), which is stopped, limited and written down as every task is, and outlives the daemon.

use std::time::Duration;

use watt_api::control::JobResult;
use watt_core::{JobId, plan};

use super::{Doing, shown, store::OUTPUT_SIZE_MAX};
use crate::{
    app::App,
    logs::{self, Entry},
    reload,
    tasks::{End, NotStarted, Order, Owner, Stopped},
    words,
};

/// How many lines of its output are looked at.
const LINES_MAX: usize = 2000;

/// Its task is told by this.
pub(super) fn owner(job: &JobId, number: u64) -> Owner {
    Owner::Job { job: job.to_string(), number }
}

impl App {
    /// Starts a firing's command.
    pub(super) fn run_command(&mut self, job: &plan::Job, number: u64, argv: &[String]) {
        let Some(flight) = self.jobs.flight(&job.id, number) else { return };
        let env = [("WATT_JOB", job.id.to_string()), ("WATT_INSTANT", shown(flight.firing.at))];
        let order = Order {
            service: job.service.clone(),
            command: Some(argv.to_vec()),
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            time_max: job.timeout,
            owner: owner(&job.id, number),
        };
        let reason = match self.start_task(order) {
            Ok(task) => {
                if let Some(flight) = self.jobs.flight(&job.id, number) {
                    flight.doing = Doing::Command(task);
                }
                return;
            }
            Err(NotStarted::Refused(refused)) => reload::refusal(&refused),
            Err(NotStarted::Failed(failure)) => failure.to_string(),
        };
        self.job_over(&job.id, number, JobResult::Failed, format!("it could not be started: {reason}"), None);
    }

    /// The task of a firing is over. It may be told twice.
    pub(crate) fn command_over(&mut self, job: &str, number: u64, end: &End) {
        let Ok(id) = JobId::new(job) else { return };
        let Some(flight) = self.jobs.flight(&id, number) else { return };
        // One that a daemon had not come to start, in whose place another one runs.
        if !matches!(flight.doing, Doing::Command(task) if task == end.task) {
            return;
        }
        let stopped = flight.stopped.take();
        let timeout =
            self.jobs.entries.get(&id).and_then(|entry| entry.job.timeout).unwrap_or(Duration::ZERO);
        let (result, text) = match end.stopped {
            Some(Stopped::TimedOut) => {
                (JobResult::TimedOut, format!("stopped after {}", words::duration(timeout)))
            }
            Some(Stopped::Asked | Stopped::Left) => {
                let why = stopped.unwrap_or_else(|| "somebody asked for it".to_owned());
                (JobResult::Stopped, format!("stopped: {why}"))
            }
            None if end.is_success() => (JobResult::Ok, end.cause.to_string()),
            None => (JobResult::Failed, end.cause.to_string()),
        };
        self.job_over(&id, number, result, text, None);
        // What is in its pipes has been taken before this is answered. What an earlier daemon took is in the log alone.
        let source = logs::Source::Task {
            service: end.service.clone(),
            name: end.task.to_string(),
            run: end.task.run(),
        };
        let (lines, store) = (self.logs.last_lines(source, LINES_MAX), self.jobs.store.clone());
        tokio::spawn(async move { store.keep_output(id, end_of(&lines.await)) });
    }
}

/// The last lines that there is room for.
fn end_of(lines: &[Entry]) -> Vec<u8> {
    let mut size = 0;
    let fits = |text: &String| {
        size += text.len() + 1;
        size <= OUTPUT_SIZE_MAX
    };
    let newest_first = lines.iter().rev().filter_map(Entry::text).map(|text| text.to_string());
    let mut kept: Vec<String> = newest_first.take_while(fits).collect();
    kept.reverse();
    let mut output = kept.join("\n").into_bytes();
    if !output.is_empty() {
        output.push(b'\n');
    }
    output
}

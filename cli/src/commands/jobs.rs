//! `wattctl jobs`: what is done at certain times, what came of it, and a hand on it.

use std::time::Duration;

use watt_api::{
    client::Client,
    control::{Job, JobCause, JobDetail, JobInstants, JobRequest, JobResult, JobRun, JobState, Jobs},
};

use crate::{
    args::{self, JobsCommand},
    context::Running,
    exit::{Exit, Failure, Outcome},
    text::{
        numbers, out, safe,
        style::{Style, Tone},
        table::{self, Cell, Column},
    },
};

const JOBS: [Column; 6] = [
    Column { title: "JOB", rank: 0, right: false },
    Column { title: "SERVICE", rank: 3, right: false },
    Column { title: "STATE", rank: 0, right: false },
    Column { title: "NEXT", rank: 1, right: false },
    Column { title: "SCHEDULE", rank: 2, right: false },
    Column { title: "LAST", rank: 0, right: false },
];

const RUNS: [Column; 6] = [
    Column { title: "RUN", rank: 0, right: true },
    Column { title: "FOR", rank: 1, right: false },
    Column { title: "WHY", rank: 3, right: false },
    Column { title: "STARTED", rank: 2, right: false },
    Column { title: "TOOK", rank: 0, right: true },
    Column { title: "RESULT", rank: 0, right: false },
];

const INSTANTS: [Column; 2] =
    [Column { title: "LOCAL", rank: 0, right: false }, Column { title: "HERE", rank: 1, right: false }];

/// Runs the command.
pub async fn run(arguments: args::Jobs) -> Outcome {
    let json = arguments.print().json;
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let failed = |error| running.failure(error);
    match arguments.command {
        None => show(json, &client.jobs().await.map_err(failed)?, list),
        Some(JobsCommand::Show(job)) => show(json, &client.job(&job.name).await.map_err(failed)?, detail),
        Some(JobsCommand::Next(next)) => {
            show(json, &client.job_next(&next.job.name, next.count).await.map_err(failed)?, instants);
        }
        Some(JobsCommand::Pause(job)) => show(json, &client.job_pause(&job.name).await.map_err(failed)?, one),
        Some(JobsCommand::Resume(job)) => {
            show(json, &client.job_resume(&job.name).await.map_err(failed)?, one)
        }
        Some(JobsCommand::Run(run)) => return fire(&running, &client, run, json).await,
    }
    Ok(Exit::Ok)
}

async fn fire(running: &Running, client: &Client, run: args::JobRun, json: bool) -> Result<Exit, Failure> {
    let request = JobRequest { wait: run.wait };
    let fired = client.job_run(&run.job.name, &request).await.map_err(|error| running.failure(error))?;
    show(json, &fired, |fired, style| match fired.result {
        None => format!("{}, run {}: begun\n", run.job.name, fired.number),
        Some(_) => {
            format!("{}, run {}: {}\n", run.job.name, fired.number, style.paint(tone(fired), &text(fired)))
        }
    });
    Ok(match fired.result {
        None | Some(JobResult::Ok) => Exit::Ok,
        Some(JobResult::Failed | JobResult::TimedOut | JobResult::Stopped | JobResult::Interrupted) => {
            Exit::Failed
        }
    })
}

fn show<T: serde::Serialize>(json: bool, reply: &T, render: impl FnOnce(&T, Style) -> String) {
    match json {
        true => out::json(reply),
        false => out::print(&render(reply, Style::stdout())),
    }
}

fn list(jobs: &Jobs, style: Style) -> String {
    let rows: Vec<Vec<Cell>> = jobs.jobs.iter().map(row).collect();
    match rows.is_empty() {
        true => "no jobs\n".to_owned(),
        false => table::render(&JOBS, &rows, style),
    }
}

fn one(job: &Job, style: Style) -> String {
    table::render(&JOBS, &[row(job)], style)
}

fn row(job: &Job) -> Vec<Cell> {
    let state = match job.state {
        JobState::Waiting if job.pending > 0 => {
            Cell::tone(Tone::Busy, format!("{} to make up for", job.pending))
        }
        JobState::Waiting => Cell::tone(Tone::Good, "waiting"),
        JobState::Running => Cell::tone(Tone::Busy, "running"),
        JobState::Paused => Cell::tone(Tone::Dim, "paused"),
        JobState::NoTimezone => Cell::tone(Tone::Bad, format!("no time zone {}", job.timezone)),
    };
    let last = job.last.as_ref().map_or_else(
        || "".into(),
        |run| {
            let ago = numbers::since(run.ended_at.as_deref().unwrap_or_default());
            let ago = ago.map(|ago| format!(", {} ago", numbers::span(ago))).unwrap_or_default();
            Cell::tone(tone(run), format!("{}{ago}", text(run)))
        },
    );
    vec![
        job.name.as_str().into(),
        job.service.as_str().into(),
        state,
        job.next.as_deref().map(numbers::local).unwrap_or_default().into(),
        format!("{} {}", job.schedule, job.timezone).into(),
        last,
    ]
}

fn detail(detail: &JobDetail, style: Style) -> String {
    let JobDetail { job, overlap, catch_up, history, output } = detail;
    let mut text = one(job, style);
    text.push_str(&format!("\n{} of {}; overlap {overlap}, catch up {catch_up}\n", job.work, job.service));
    let rows: Vec<Vec<Cell>> = job.running.iter().rev().chain(history).map(run_row).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table::render(&RUNS, &rows, style));
    }
    if let Some(output) = output.as_deref().filter(|output| !output.is_empty()) {
        text.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "said last:")));
        for line in output.lines() {
            text.push_str(&format!("{}\n", safe::line(line, false)));
        }
    }
    text
}

fn run_row(run: &JobRun) -> Vec<Cell> {
    let cause = match run.cause {
        JobCause::Schedule => "schedule",
        JobCause::CatchUp => "made up for",
        JobCause::Request => "asked for",
    };
    let result = match run.attempts {
        0 | 1 => text(run),
        attempts => format!("{} (attempt {attempts})", text(run)),
    };
    vec![
        run.number.to_string().into(),
        numbers::local(&run.at).into(),
        cause.into(),
        numbers::local(&run.started_at).into(),
        took(run).map(numbers::span).unwrap_or_default().into(),
        Cell::tone(tone(run), result),
    ]
}

fn took(run: &JobRun) -> Option<Duration> {
    let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let (started, ended) = (at(&run.started_at)?, at(run.ended_at.as_deref()?)?);
    ended.duration_since(started).try_into().ok()
}

fn instants(found: &JobInstants, style: Style) -> String {
    let row = |at: &watt_api::control::JobInstant| -> Vec<Cell> {
        vec![at.local.as_str().into(), numbers::local(&at.at).into()]
    };
    let rows: Vec<Vec<Cell>> = found.instants.iter().map(row).collect();
    table::render(&INSTANTS, &rows, style)
}

fn text(run: &JobRun) -> String {
    match run.result {
        None => "under way".to_owned(),
        Some(_) => run.text.clone(),
    }
}

fn tone(run: &JobRun) -> Tone {
    match run.result {
        None => Tone::Busy,
        Some(JobResult::Ok) => Tone::Good,
        Some(JobResult::Stopped) => Tone::Dim,
        Some(JobResult::Failed | JobResult::TimedOut | JobResult::Interrupted) => Tone::Bad,
    }
}

//! How services come up and go: on a terminal, a line for each that has arrived and a live part for those on their way;
//! elsewhere, a line for each change.

use std::{collections::HashMap, time::Instant};

use unicode_width::UnicodeWidthStr;
use watt_api::control::{Outcome, Service, Status, WorkerState};

use super::{
    live::Live,
    numbers::{self, counted},
    style::{Style, Tone},
    table::{self, Cell},
};
use crate::commands::status::{last_output, note, tone, word};

/// What has been shown so far.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    live: Live,
    started: Instant,
    shown: HashMap<String, (WorkerState, u64)>,
}

impl Progress {
    /// Starts the clock.
    pub fn new() -> Progress {
        let style = Style::stderr();
        Progress { style, live: Live::new(style), started: Instant::now(), shown: HashMap::new() }
    }

    /// Shows who has arrived since the last time, and who is on the way.
    pub fn coming(&mut self, status: &Status) {
        let width = status.services.iter().map(|service| service.id.width()).max().unwrap_or_default();
        let lasting: String = status.services.iter().map(|service| self.arrival(service, width)).collect();
        let on_the_way = |service: &&Service| !is_up(service.state);
        let rows: Vec<Vec<Cell>> = status.services.iter().filter(on_the_way).map(row).collect();
        let heading = format!(
            "{}  {} of {} ready  {}",
            self.style.paint(Tone::Strong, &status.app),
            status.services.len() - rows.len(),
            status.services.len(),
            numbers::span(self.started.elapsed())
        );
        self.live.show(&lasting, &heading, &rows);
    }

    /// Shows who has not gone yet.
    pub fn going(&mut self, status: &Status) {
        let has_run = |service: &&Service| service.workers.iter().any(|worker| worker.run.is_some());
        let rows: Vec<Vec<Cell>> = status.services.iter().filter(has_run).map(row).collect();
        let heading = format!(
            "{}  {} of {} stopped  {}",
            self.style.paint(Tone::Strong, &status.app),
            status.services.len() - rows.len(),
            status.services.len(),
            numbers::span(self.started.elapsed())
        );
        self.live.show("", &heading, &rows);
    }

    /// Takes the live part away.
    pub fn clear(&mut self) {
        self.live.finish("");
    }

    /// Shows what a start came to: `outcome` is the supervisor's verdict.
    pub fn finish(&mut self, status: &Status, outcome: &Outcome) {
        let took = numbers::span(self.started.elapsed());
        let missing = missing(status, outcome);
        let name = self.style.paint(Tone::Strong, &status.app);
        let at = status.gateway.as_ref().map(|gateway| format!(" at {gateway}")).unwrap_or_default();
        let text = match missing.first() {
            None => format!("{name} is up{at}: {} in {took}\n", counted(status.services.len(), "service")),
            Some(first) => {
                let ids: Vec<&str> = missing.iter().map(|service| service.id.as_str()).collect();
                let note = format!(
                    "{} of {} did not come up: {}",
                    missing.len(),
                    counted(status.services.len(), "service"),
                    ids.join(", ")
                );
                let worst =
                    missing.iter().find(|service| service.state == WorkerState::Failed).unwrap_or(first);
                format!(
                    "{}\nthe rest of {name} is up{at}; `wattctl logs {}` shows more\n",
                    self.style.paint(Tone::Bad, &note),
                    worst.id
                )
            }
        };
        self.live.finish(&text);
    }

    /// The lasting lines for a service: it is ready, or it has failed. Further failures of one that is tried again are a line
    /// each where there is no live part to show them, and its output is repeated only when it is given up.
    fn arrival(&mut self, service: &Service, width: usize) -> String {
        let restarts = service.workers.iter().map(|worker| worker.restarts).sum();
        let now = (service.state, restarts);
        let before = self.shown.insert(service.id.clone(), now);
        if before == Some(now) {
            return String::new();
        }
        let line = |note: &str| {
            let pad = " ".repeat(width.saturating_sub(service.id.width()));
            let state = self.style.paint(tone(service.state), &format!("{:<9}", word(service.state)));
            format!("  {}{pad}  {state}  {note}", service.id).trim_end().to_owned() + "\n"
        };
        match service.state {
            WorkerState::Ready | WorkerState::Completed | WorkerState::Asleep | WorkerState::Down => {
                line(&self.style.paint(Tone::Dim, &numbers::span(self.started.elapsed())))
            }
            WorkerState::Backoff | WorkerState::Failed => {
                let Some(worker) = service.workers.iter().find(|worker| worker.state == service.state) else {
                    return String::new();
                };
                let first = restarts == 0;
                if !first && service.state == WorkerState::Backoff && self.style.width.is_some() {
                    return String::new();
                }
                let name = format!("{}/{}", service.id, worker.index);
                let output = if first || service.state == WorkerState::Failed {
                    last_output(&name, &worker.last_output, self.style)
                } else {
                    String::new()
                };
                line(&note(service, Some(worker)).text) + &output
            }
            WorkerState::Waiting if self.style.width.is_none() => line(&note(service, None).text),
            WorkerState::Waiting
            | WorkerState::Starting
            | WorkerState::Unready
            | WorkerState::Draining
            | WorkerState::Stopping => String::new(),
        }
    }
}

/// Who has not come up by the supervisor's verdict, or has failed since.
pub fn missing<'status>(status: &'status Status, outcome: &Outcome) -> Vec<&'status Service> {
    let is_missing = |service: &&Service| {
        let words = outcome.services.get(&service.id).map(String::as_str);
        !matches!(words, Some("ready" | "completed" | "asleep"))
            || matches!(service.state, WorkerState::Backoff | WorkerState::Failed)
    };
    status.services.iter().filter(is_missing).collect()
}

/// Whether a start of the service has come to its good end. One that the operator stopped meanwhile is not waited for.
fn is_up(state: WorkerState) -> bool {
    match state {
        WorkerState::Ready | WorkerState::Completed | WorkerState::Asleep | WorkerState::Down => true,
        WorkerState::Waiting
        | WorkerState::Starting
        | WorkerState::Unready
        | WorkerState::Draining
        | WorkerState::Stopping
        | WorkerState::Backoff
        | WorkerState::Failed => false,
    }
}

fn row(service: &Service) -> Vec<Cell> {
    let worker = service.workers.iter().find(|worker| worker.state == service.state);
    vec![
        format!("  {}", service.id).into(),
        Cell::tone(tone(service.state), word(service.state)),
        table::Cell::tone(Tone::Dim, note(service, worker).text),
    ]
}

//! How services come up: on a terminal, a line for each that has arrived and a live part for those on their way;
//! elsewhere, a line for each change.

use std::{collections::HashMap, io::Write, time::Instant};

use watt_api::control::{Service, Status, WorkerState};

use super::{
    numbers,
    style::{Style, Tone},
};
use crate::commands::status::{last_output, state_cell, tone, word};

/// The live part has at most this many lines, so that it fits on any terminal and a thousand services stay readable.
const LIVE_LINES_MAX: usize = 12;

/// What has been shown so far.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    on: bool,
    started: Instant,
    live_lines: usize,
    shown: HashMap<String, (WorkerState, u64)>,
}

impl Progress {
    /// Starts the clock. Nothing is shown when `on` is not set.
    pub fn new(on: bool) -> Progress {
        Progress { style: Style::stderr(), on, started: Instant::now(), live_lines: 0, shown: HashMap::new() }
    }

    /// Shows what has changed.
    pub fn show(&mut self, status: &Status) {
        if !self.on {
            return;
        }
        let mut text = self.erase();
        for service in &status.services {
            text.push_str(&self.arrival(service));
        }
        if self.style.width.is_some() {
            text.push_str(&self.live(status));
        }
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Shows what it came to.
    pub fn finish(&mut self, status: &Status) {
        if !self.on {
            return;
        }
        let all = status.services.len();
        let failed: Vec<&str> = status
            .services
            .iter()
            .filter(|service| service.state == WorkerState::Failed)
            .map(|service| service.id.as_str())
            .collect();
        let took = numbers::span(self.started.elapsed());
        let mut text = self.erase();
        if failed.is_empty() {
            let at = status.gateway.as_ref().map(|gateway| format!(" at {gateway}")).unwrap_or_default();
            let name = self.style.paint(Tone::Strong, &status.app);
            text.push_str(&format!("{name} is up{at}: {all} services in {took}\n"));
        } else {
            let note = format!("{} of {all} services failed: {}", failed.len(), failed.join(", "));
            text.push_str(&format!("{}\n", self.style.paint(Tone::Bad, &note)));
            text.push_str(&format!("the others run on; `wattctl logs {}` shows more\n", failed[0]));
        }
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Moves up over the live part and clears it (ECMA-48 CUU and ED).
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.live_lines) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    /// The lasting lines for a service: it is ready, or it has failed again.
    fn arrival(&mut self, service: &Service) -> String {
        let restarts = service.workers.iter().map(|worker| worker.restarts).sum();
        let now = (service.state, restarts);
        let before = self.shown.insert(service.id.clone(), now);
        if before == Some(now) {
            return String::new();
        }
        let mark = self.style.paint(tone(service.state), word(service.state));
        match service.state {
            WorkerState::Ready | WorkerState::Completed | WorkerState::Down => {
                let took = numbers::span(self.started.elapsed());
                format!("  {}  {mark}  {}\n", service.id, self.style.paint(Tone::Dim, &took))
            }
            WorkerState::Backoff | WorkerState::Failed => {
                let Some(worker) = service.workers.iter().find(|worker| worker.state == service.state) else {
                    return String::new();
                };
                let name = format!("{}/{}", service.id, worker.index);
                let why = worker.last_exit.as_ref().map(|exit| exit.text.as_str()).unwrap_or_default();
                let output = last_output(&name, &worker.last_output, self.style);
                format!("  {name}  {mark}  {why}\n{output}")
            }
            WorkerState::Waiting | WorkerState::Starting | WorkerState::Draining | WorkerState::Stopping => {
                String::new()
            }
        }
    }

    /// Those on their way.
    fn live(&mut self, status: &Status) -> String {
        let arrived =
            |service: &&Service| matches!(service.state, WorkerState::Ready | WorkerState::Completed);
        let ready = status.services.iter().filter(arrived).count();
        let coming: Vec<&Service> = status.services.iter().filter(|service| !arrived(service)).collect();
        let mut text = format!(
            "{}  {ready}/{} ready  {}\n",
            self.style.paint(Tone::Strong, &status.app),
            status.services.len(),
            numbers::span(self.started.elapsed())
        );
        for service in coming.iter().take(LIVE_LINES_MAX) {
            let worker = service.workers.iter().find(|worker| worker.state == service.state);
            let state = state_cell(service.state, worker);
            let painted = self.style.paint(state.tone.unwrap_or(Tone::Busy), &state.text);
            text.push_str(&format!("  {}  {painted}\n", service.id));
        }
        if coming.len() > LIVE_LINES_MAX {
            text.push_str(&format!("  and {} more\n", coming.len() - LIVE_LINES_MAX));
        }
        self.live_lines = text.lines().count();
        text
    }
}

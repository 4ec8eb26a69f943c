//! `wattctl status`: the whole application at a glance, at any width.

#[cfg(test)]
mod tests;

use std::time::Duration;

use watt_api::control::{
    Applied, Exit, Requests, ScaledBy, Scaling, Service, Status, Worker, WorkerPart, WorkerState,
};

use crate::{
    args,
    context::Running,
    exit::{self, Outcome},
    text::{
        numbers, out, safe,
        style::{Style, Tone},
        table::{self, Cell, Column},
    },
};

/// Runs the command. The exit code says whether everything that is wanted is there.
pub async fn run(arguments: args::Status) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let status = running.client().await?.status().await.map_err(|error| running.failure(error))?;
    if arguments.print.json {
        out::json(&status);
    } else {
        out::print(&render(&status, arguments.workers, Style::stdout()));
    }
    let failed = status.services.iter().any(|service| service.state == WorkerState::Failed);
    Ok(if failed { exit::Exit::Failed } else { exit::Exit::Ok })
}

const COLUMNS: [Column; 13] = [
    Column { title: "SERVICE", rank: 0, right: false },
    Column { title: "STATE", rank: 0, right: false },
    Column { title: "FOR", rank: 2, right: true },
    Column { title: "READY", rank: 0, right: true },
    Column { title: "PID", rank: 6, right: true },
    Column { title: "RESTARTS", rank: 1, right: true },
    Column { title: "CPU", rank: 3, right: true },
    Column { title: "MEM", rank: 1, right: true },
    Column { title: "TASKS", rank: 8, right: true },
    Column { title: "REQUESTS", rank: 5, right: true },
    Column { title: "NOW", rank: 7, right: true },
    Column { title: "ENDPOINT", rank: 9, right: false },
    Column { title: "NOTE", rank: 0, right: false },
];

/// The status as text. A service with several workers gets a row a worker when `workers` is set, or when they differ in
/// state.
pub fn render(status: &Status, workers: bool, style: Style) -> String {
    let mut text = heading(status, style);
    let mut rows = Vec::new();
    for service in &status.services {
        rows.push(service_row(service));
        let differ = service.workers.iter().any(|worker| worker.state != service.workers[0].state);
        if service.workers.len() > 1 && (workers || differ) {
            rows.extend(service.workers.iter().map(|worker| worker_row(service, worker)));
        }
    }
    text.push_str(&table::render(&columns(workers), &rows, style));
    text.push_str(&troubles(status, style));
    text
}

/// Who asks for each worker wants to do something with it, and that takes its pid.
fn columns(workers: bool) -> [Column; 13] {
    COLUMNS.map(|column| match column.title {
        "PID" if workers => Column { rank: 1, ..column },
        _ => column,
    })
}

fn heading(status: &Status, style: Style) -> String {
    let up = numbers::since(&status.started_at).map(numbers::span).unwrap_or_default();
    let own = &status.supervisor;
    let services = &status.services;
    let is_up = |service: &&Service| {
        matches!(service.state, WorkerState::Ready | WorkerState::Completed | WorkerState::Asleep)
    };
    let are_up = services.iter().filter(is_up).count();
    // That a service is stopped, or still starts, is somebody's wish.
    let is_bad = services.iter().any(|service| matches!(tone(service.state), Tone::Bad));
    let tone = match (is_bad, are_up == services.len()) {
        (true, _) => Tone::Bad,
        (false, true) => Tone::Good,
        (false, false) => Tone::Busy,
    };
    let count = style.paint(tone, &format!("{are_up} of {}", services.len()));
    let mut parts = vec![style.paint(Tone::Strong, &status.app), format!("{count} up for {up}")];
    parts.extend(status.gateway.clone());
    parts.push(style.paint(Tone::Dim, &format!("watt {} {}", status.version, numbers::bytes(own.memory))));
    for (name, replaced) in [("daemon", own.daemon_restarts), ("proxy", own.proxy_restarts)] {
        if replaced > 0 {
            parts.push(style.paint(Tone::Busy, &format!("{name} replaced {replaced}×")));
        }
    }
    let leaves = own.proxies.iter().filter(|proxy| proxy.state == "leaves").count();
    if leaves > 0 {
        parts.push(style.paint(Tone::Busy, &format!("{leaves}× proxy of before an upgrade")));
    }
    if own.proxy_pid.is_none() {
        parts.push(style.paint(Tone::Bad, "proxy is being replaced"));
    }
    let others = status.listeners.iter().filter(|one| Some(&one.url) != status.gateway.as_ref());
    let others = others.map(|one| format!("{}  {}\n", style.paint(Tone::Strong, &one.name), one.url));
    parts.join("  ") + "\n" + &others.collect::<String>() + "\n"
}

fn service_row(service: &Service) -> Vec<Cell> {
    let workers = &service.workers;
    let sum = |figure: fn(&Worker) -> Option<u64>| {
        let known: Vec<u64> = workers.iter().filter_map(figure).collect();
        (!known.is_empty()).then(|| known.iter().sum::<u64>())
    };
    let worst = workers.iter().find(|worker| worker.state == service.state);
    let only = match workers.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    let exited_at = |worker: &&Worker| worker.last_exit.as_ref().map(|exit| exit.at.clone());
    // Whoever is in the state explains it; when all is well, a limit that was met or the last exit is of interest.
    let of_interest = |worker: &&Worker| (hindered(Some(worker)).is_some(), exited_at(worker));
    let noted = if is_well(service.state) { workers.iter().max_by_key(of_interest) } else { worst };
    let cpu = sum(|worker| worker.cpu_millis.map(u64::from));
    vec![
        service.id.as_str().into(),
        state_cell(service.state),
        worst.map(since).unwrap_or_default().into(),
        ready(service),
        only.and_then(|worker| worker.pid).map(|pid| pid.to_string()).unwrap_or_default().into(),
        restarts(workers.iter().map(|worker| worker.restarts).sum()),
        cpu.map(|millis| numbers::cpu(u32::try_from(millis).unwrap_or(u32::MAX))).unwrap_or_default().into(),
        sum(|worker| worker.memory).map(numbers::bytes).unwrap_or_default().into(),
        sum(|worker| worker.pids.map(u64::from)).map(|tasks| tasks.to_string()).unwrap_or_default().into(),
        requests(&service.requests),
        in_flight(&service.requests),
        only.and_then(|worker| worker.endpoint.clone()).unwrap_or_default().into(),
        service_note(service, noted),
    ]
}

fn worker_row(service: &Service, worker: &Worker) -> Vec<Cell> {
    vec![
        Cell::tone(Tone::Dim, format!("  {}/{}", service.id, worker.index)),
        state_cell(worker.state),
        since(worker).into(),
        "".into(),
        worker.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
        restarts(worker.restarts),
        worker.cpu_millis.map(numbers::cpu).unwrap_or_default().into(),
        worker.memory.map(numbers::bytes).unwrap_or_default().into(),
        worker.pids.map(|tasks| tasks.to_string()).unwrap_or_default().into(),
        "".into(),
        "".into(),
        worker.endpoint.clone().unwrap_or_default().into(),
        note(service, Some(worker)),
    ]
}

/// The note of its workers; when there is nothing to note, why it has another number of them than configured.
fn service_note(service: &Service, noted: Option<&Worker>) -> Cell {
    let told = note(service, noted);
    if service.requests.breaker_is_open && told.text.is_empty() {
        return Cell::tone(Tone::Bad, "it fails, and is not asked: its breaker is open");
    }
    if service.requests.ejected > 0 && told.text.is_empty() {
        let workers = if service.requests.ejected == 1 { "worker gets" } else { "workers get" };
        let text =
            format!("{} {workers} no requests for a while: they failed there", service.requests.ejected);
        return Cell::tone(Tone::Bad, text);
    }
    let Some(scaling) = service.scaling.as_ref().filter(|_| told.text.is_empty()) else { return told };
    match &scaling.lacks {
        Some(lacks) => Cell::tone(Tone::Bad, safe::line(lacks, false)),
        None if scaling.by == ScaledBy::Configuration => told,
        None => Cell::tone(Tone::Dim, scaled(scaling)),
    }
}

/// Why a service has as many workers as it has.
pub fn scaled(scaling: &Scaling) -> String {
    let ago =
        numbers::since(&scaling.at).map(|ago| format!(" {} ago", numbers::span(ago))).unwrap_or_default();
    format!("scaled from {}{ago}: {}", scaling.from, safe::line(&scaling.reason, false))
}

/// How many of the wanted workers are ready; nothing where none is to be.
fn ready(service: &Service) -> Cell {
    let text = format!("{}/{}", service.ready, service.wanted);
    match service.state {
        WorkerState::Completed | WorkerState::Asleep | WorkerState::Down => "".into(),
        _ if service.ready < service.wanted => Cell::tone(Tone::Busy, text),
        _ => text.into(),
    }
}

/// The state in a word.
pub fn state_cell(state: WorkerState) -> Cell {
    Cell::tone(tone(state), word(state))
}

/// What there is to know about the state: what a service waits for, why a worker failed and when it is tried again, when
/// one that does not stop is killed, how the run before this one ended.
pub fn note(service: &Service, worker: Option<&Worker>) -> Cell {
    let mut told = state_note(service, worker);
    if let (true, Some(worker)) = (told.text.is_empty(), worker) {
        told = own_words(worker);
    }
    match hindered(worker) {
        Some(hindered) if told.text.is_empty() => Cell::tone(Tone::Bad, hindered),
        Some(hindered) => Cell::tone(Tone::Bad, format!("{hindered}; {}", told.text)),
        None => told,
    }
}

/// What a worker says of itself.
fn own_words(worker: &Worker) -> Cell {
    let says = worker.says.as_ref().map(|says| safe::line(says, false));
    match (worker.reloading, says) {
        (true, Some(says)) => Cell::tone(Tone::Busy, format!("reloading: {says}")),
        (true, None) => Cell::tone(Tone::Busy, "reloading"),
        (false, Some(says)) => Cell::tone(Tone::Dim, says),
        (false, None) if worker.stored.is_empty() => "".into(),
        (false, None) => Cell::tone(Tone::Dim, format!("keeps {}", stored(worker))),
    }
}

/// What is kept for a worker's successor: `2 descriptors (http, state)`.
pub fn stored(worker: &Worker) -> String {
    let (count, names) = (worker.stored.len(), safe::line(&worker.stored.join(", "), false));
    format!("{count} descriptor{} ({names})", if count == 1 { "" } else { "s" })
}

fn state_note(service: &Service, worker: Option<&Worker>) -> Cell {
    if worker.is_some_and(|worker| worker.part == WorkerPart::Outdated) {
        return Cell::tone(Tone::Bad, "runs on, as its replacement did not get ready");
    }
    let state = worker.map_or(service.state, |worker| worker.state);
    let left =
        worker.and_then(|worker| worker.deadline_ms).map(|ms| numbers::span(Duration::from_millis(ms)));
    let exit = worker.and_then(|worker| worker.last_exit.as_ref());
    let next = |exit: Option<&Exit>, next: String| {
        let parts = [exit.map(|exit| safe::line(&exit.text, false)).unwrap_or_default(), next];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    };
    match (state, left) {
        (WorkerState::Waiting, _) if !service.waiting_for.is_empty() => {
            Cell::tone(Tone::Busy, format!("waits for {}", service.waiting_for.join(", ")))
        }
        (WorkerState::Starting, Some(left)) => Cell::tone(Tone::Dim, format!("not ready yet, {left} left")),
        (WorkerState::Unready, _) => {
            Cell::tone(Tone::Bad, "its check fails; gets requests only while no worker is ready")
        }
        (WorkerState::Draining, Some(left)) => {
            Cell::tone(Tone::Dim, format!("answers its last requests, {left} left"))
        }
        (WorkerState::Stopping, Some(left)) => Cell::tone(Tone::Dim, format!("killed in {left}")),
        (WorkerState::Backoff, Some(left)) => Cell::tone(Tone::Bad, next(exit, format!("retry in {left}"))),
        (WorkerState::Failed, Some(left)) => Cell::tone(Tone::Bad, next(exit, format!("retry in {left}"))),
        (WorkerState::Failed, None) => {
            Cell::tone(Tone::Bad, next(exit, "`wattctl start` tries again".into()))
        }
        (WorkerState::Ready | WorkerState::Completed | WorkerState::Asleep | WorkerState::Down, _)
        | (WorkerState::Waiting | WorkerState::Starting | WorkerState::Draining, _)
        | (WorkerState::Stopping | WorkerState::Backoff, None) => exit.map_or("".into(), exit_cell),
    }
}

/// What keeps a worker from its work, if anything does: the limit of processes, and what it stalls for.
pub fn hindered(worker: Option<&Worker>) -> Option<String> {
    let worker = worker?;
    let limit = worker.pids_limit.filter(|limit| limit.refused > 0);
    let refused =
        limit.map(|limit| format!("pids limit {} met {}×", limit.max, numbers::count(limit.refused)));
    let stalls = worker.pressure.iter().map(|pressure| {
        let lasted = numbers::span(Duration::from_millis(pressure.for_ms));
        format!("{} pressure {} % for {lasted}", safe::line(&pressure.resource, false), pressure.percent)
    });
    let all: Vec<String> = stalls.chain(refused).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn is_well(state: WorkerState) -> bool {
    match tone(state) {
        Tone::Good | Tone::Dim => true,
        Tone::Busy | Tone::Bad | Tone::Strong => false,
    }
}

/// The state as a word.
pub fn word(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Ready => "ready",
        WorkerState::Completed => "completed",
        WorkerState::Asleep => "asleep",
        WorkerState::Down => "down",
        WorkerState::Waiting => "waiting",
        WorkerState::Starting => "starting",
        WorkerState::Unready => "unready",
        WorkerState::Draining => "draining",
        WorkerState::Stopping => "stopping",
        WorkerState::Backoff => "backoff",
        WorkerState::Failed => "failed",
    }
}

/// What the state means to the reader.
pub fn tone(state: WorkerState) -> Tone {
    match state {
        WorkerState::Ready | WorkerState::Completed => Tone::Good,
        WorkerState::Asleep | WorkerState::Down => Tone::Dim,
        WorkerState::Waiting | WorkerState::Starting | WorkerState::Draining | WorkerState::Stopping => {
            Tone::Busy
        }
        WorkerState::Unready | WorkerState::Backoff | WorkerState::Failed => Tone::Bad,
    }
}

fn since(worker: &Worker) -> String {
    numbers::since(&worker.since).map(numbers::span).unwrap_or_default()
}

fn restarts(restarts: u64) -> Cell {
    match restarts {
        0 => "0".into(),
        _ => Cell::tone(Tone::Busy, numbers::count(restarts)),
    }
}

fn requests(requests: &Requests) -> Cell {
    match (requests.total, requests.failures) {
        (0, _) => "".into(),
        (total, 0) => numbers::count(total).into(),
        (total, failures) => {
            Cell::tone(Tone::Bad, format!("{} ({} failed)", numbers::count(total), numbers::count(failures)))
        }
    }
}

fn in_flight(requests: &Requests) -> Cell {
    match (requests.in_flight, requests.held) {
        (0, 0) => "".into(),
        (now, 0) => numbers::count(now).into(),
        (now, held) => {
            Cell::tone(Tone::Busy, format!("{} +{} held", numbers::count(now), numbers::count(held)))
        }
    }
}

fn exit_cell(exit: &Exit) -> Cell {
    let tone = match exit.cause.as_str() {
        "stopped" => Tone::Dim,
        "exit" if exit.code == Some(0) => Tone::Dim,
        _ => Tone::Bad,
    };
    Cell::tone(tone, exit_text(exit))
}

fn exit_text(exit: &Exit) -> String {
    let ago = numbers::since(&exit.at).map(|ago| format!(", {} ago", numbers::span(ago))).unwrap_or_default();
    format!("{}{ago}", safe::line(&exit.text, false))
}

/// What needs the operator: the last output of what failed, what is not enforced, what the host lacks.
fn troubles(status: &Status, style: Style) -> String {
    let mut text = String::new();
    for service in &status.services {
        let failing = |worker: &&Worker| matches!(worker.state, WorkerState::Failed | WorkerState::Backoff);
        if let Some(worker) = service.workers.iter().find(failing) {
            text.push_str(&last_output(
                &format!("{}/{}", service.id, worker.index),
                &worker.last_output,
                style,
            ));
        }
        for limit in &service.unenforced {
            text.push_str(&format!("{} {}: {limit}\n", style.paint(Tone::Busy, "not enforced:"), service.id));
        }
    }
    text.push_str(&not_of_file(status, style));
    for warning in &status.warnings {
        text.push_str(&format!("{} {warning}\n", style.paint(Tone::Busy, "warning:")));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// Services that are not as the file has them.
fn not_of_file(status: &Status, style: Style) -> String {
    let applied = status.services.iter().filter_map(|service| Some((&service.id, service.applied.as_ref()?)));
    let applied = applied.map(|(id, applied)| (id, "applied by itself", applied));
    let out = status.taken_out.iter().map(|(id, applied)| (id, "taken out of the application", applied));
    let line = |(id, what, applied): (&String, &str, &Applied)| {
        let ago = numbers::since(&applied.at).map(|ago| format!(" {} ago", numbers::span(ago)));
        let line = format!("{id} was {what}{} by {}", ago.unwrap_or_default(), applied.by);
        format!("{} {}\n", style.paint(Tone::Busy, "not from the file:"), safe::line(&line, false))
    };
    applied.chain(out).map(line).collect()
}

/// The last lines of a worker, each with a bar in front.
pub fn last_output(worker: &str, lines: &[String], style: Style) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n", style.paint(Tone::Strong, &format!("last output of {worker}:")));
    for line in lines {
        let line = safe::line(line, style.colours);
        let line =
            style.width.map_or(line.clone(), |width| table::cut(&line, width.saturating_sub(4).max(8)));
        text.push_str(&format!("  {} {line}\n", style.paint(Tone::Bad, "│")));
    }
    text
}

//! `wattctl inspect`: everything about one service.

use serde_json::Value;
use watt_api::{
    control::{Inspect, Outgoing, Requests, Worker, WorkerState},
    mesh::{CacheCounts, Denied},
};

use crate::{
    args,
    context::Running,
    exit::{Exit, Outcome},
    text::{
        numbers, out,
        style::{Style, Tone},
        table::{self, Cell, Column},
    },
};

/// What is shown of the destinations outside.
const OUTGOING: [Column; 9] = [
    Column { title: "", rank: 0, right: false },
    Column { title: "conns", rank: 0, right: true },
    Column { title: "open", rank: 2, right: true },
    Column { title: "failed", rank: 1, right: true },
    Column { title: "refused", rank: 0, right: true },
    Column { title: "sent", rank: 3, right: true },
    Column { title: "received", rank: 3, right: true },
    Column { title: "connect", rank: 4, right: true },
    Column { title: "last", rank: 5, right: false },
];

/// The columns of a setting's value; `--json` has all of it, as has the configuration.
const VALUE_WIDTH_MAX: usize = 60;

/// Runs the command.
pub async fn run(arguments: args::Inspect) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let inspect = client.inspect(&arguments.service).await.map_err(|error| running.failure(error))?;
    if arguments.print.json {
        out::json(&inspect);
    } else {
        out::print(&render(&inspect, Style::stdout()));
    }
    Ok(Exit::Ok)
}

/// What became of requests that did not go as they should; nothing where all did.
fn trouble(requests: &Requests) -> String {
    let mut parts = Vec::new();
    let mut count = |count: u64, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    count(requests.retries, "sent again");
    count(requests.retries_denied, "not sent again, for too many were");
    count(requests.timed_out, "took too long");
    let Denied { address, cors, body, rate, credentials, role, rule, authority } = requests.denied;
    count(address, "denied for their address");
    count(cors, "denied to pages of other origins");
    count(body, "denied for the size of their body");
    count(rate, "denied for their rate");
    count(credentials, "denied without credentials that are taken");
    count(role, "denied for their roles");
    count(rule, "denied by a rule");
    count(authority, "not allowed by the authority");
    let refused = &requests.refused;
    count(refused.breaker_open, "refused by the breaker");
    count(refused.bulkhead_full, "refused for want of room");
    count(refused.queue_timeout, "waited too long");
    count(refused.shed, "shed for more urgent ones");
    count(
        requests.breaker_opened,
        if requests.breaker_opened == 1 { "time the breaker opened" } else { "times the breaker opened" },
    );
    if requests.breaker_is_open {
        parts.push("the breaker is open".to_owned());
    }
    let times = |count: u64| if count == 1 { "once".to_owned() } else { format!("{count} times") };
    if requests.ejections > 0 {
        parts.push(format!("a worker was ejected {}", times(requests.ejections)));
    }
    if requests.ejected > 0 {
        parts.push(format!("{} out now", requests.ejected));
    }
    if parts.is_empty() { String::new() } else { format!("             {}\n", parts.join(", ")) }
}

/// What the cache was for them; nothing where there is none.
fn cached(cache: &CacheCounts) -> String {
    if *cache == CacheCounts::default() {
        return String::new();
    }
    let CacheCounts { hits, stale, validated, misses, stored, collapsed } = cache;
    format!(
        "  cache      {hits} hits ({collapsed} waited), {stale} stale, {validated} validated, {misses} asked for; {stored} stored\n"
    )
}

fn render(inspect: &Inspect, style: Style) -> String {
    let service = &inspect.service;
    let mut text = format!(
        "{}  {}  {}/{} ready\n",
        style.paint(Tone::Strong, &service.id),
        style.paint(super::status::tone(service.state), super::status::word(service.state)),
        service.ready,
        service.wanted
    );
    let requests = &service.requests;
    text.push_str(&format!(
        "  requests   {} ({} failed), {} now, {} waiting\n",
        requests.total, requests.failures, requests.in_flight, requests.held
    ));
    text.push_str(&trouble(requests));
    text.push_str(&cached(&requests.cache));
    if let Some(scaling) = &service.scaling {
        let range =
            scaling.range.map(|range| format!("{} to {}; ", range.min, range.max)).unwrap_or_default();
        text.push_str(&format!("  workers    {range}{}\n", super::status::scaled(scaling)));
        if let Some(lacks) = &scaling.lacks {
            text.push_str(&format!(
                "  {} {}\n",
                style.paint(Tone::Busy, "no room:"),
                crate::text::safe::line(lacks, false)
            ));
        }
    }
    text.push_str(&format!("  sandbox    {}\n", service.sandbox));
    text.push_str(&format!("  logs       {}/{}.jsonl\n", inspect.log_dir.display(), service.id));
    for cgroup in &inspect.cgroups {
        text.push_str(&format!("  cgroup     {}\n", cgroup.display()));
    }
    for limit in &service.unenforced {
        text.push_str(&format!("  {} {limit}\n", style.paint(Tone::Busy, "not enforced:")));
    }
    for worker in &service.workers {
        text.push_str(&worker_text(&service.id, worker, style));
    }
    if !inspect.outside.is_empty() {
        text.push_str("outside\n");
        let rows: Vec<_> = inspect.outside.iter().map(outgoing).collect();
        text.push_str(&table::render(&OUTGOING, &rows, style));
    }
    text.push_str("configuration\n");
    let mut rows = Vec::new();
    settings(&inspect.config, "", &mut rows);
    text.push_str(&table::rows(&rows, style));
    text
}

/// Each setting with its value and where that came from, under its whole name: `stop.grace`.
fn settings(config: &Value, name: &str, rows: &mut Vec<Vec<Cell>>) {
    match config {
        Value::Object(leaf) if leaf.contains_key("value") && leaf.contains_key("from") => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let from = Cell::tone(Tone::Dim, text(&leaf["from"]));
            // One long command must not push all the places out of sight.
            let value = table::cut(&text(&leaf["value"]), VALUE_WIDTH_MAX);
            rows.push(vec![format!("  {name}").into(), value.into(), from]);
        }
        Value::Object(table) => {
            for (key, inner) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                settings(inner, &name, rows);
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                settings(item, &format!("{name}[{nth}]"), rows);
            }
        }
        other => rows.push(vec![format!("  {name}").into(), other.to_string().into()]),
    }
}

/// One destination. The time to connect is the average. Where no connection was made, there is nothing to say
/// of bytes.
fn outgoing(outgoing: &Outgoing) -> Vec<Cell> {
    let bytes = |bytes: u64| match outgoing.connections {
        0 => String::new(),
        _ => numbers::bytes(bytes),
    };
    let connect = outgoing.connect_us_mean.map(|us| format!("{:.1}ms", us as f64 / 1e3));
    vec![
        format!("  {}", outgoing.to.as_deref().unwrap_or("others")).into(),
        numbers::count(outgoing.connections).into(),
        numbers::count(outgoing.open).into(),
        numbers::count(outgoing.failed).into(),
        numbers::count(outgoing.refused).into(),
        bytes(outgoing.sent).into(),
        bytes(outgoing.received).into(),
        connect.unwrap_or_default().into(),
        numbers::local(&outgoing.last_at).into(),
    ]
}

/// What ends the state.
fn follows(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "gives up",
        WorkerState::Draining => "signal",
        WorkerState::Stopping => "kill",
        WorkerState::Backoff | WorkerState::Failed => "retry",
        WorkerState::Ready
        | WorkerState::Unready
        | WorkerState::Completed
        | WorkerState::Asleep
        | WorkerState::Down
        | WorkerState::Waiting => "until",
    }
}

fn worker_text(service: &str, worker: &Worker, style: Style) -> String {
    let state = style.paint(super::status::tone(worker.state), super::status::word(worker.state));
    let mut text = format!("{service}/{}  {state}\n", worker.index);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<11}{value}\n"));
        }
    };
    fact("run", worker.run.map(|run| run.to_string()));
    fact("pid", worker.pid.map(|pid| pid.to_string()));
    fact("started", worker.started_at.as_deref().map(numbers::local));
    fact("since", Some(numbers::local(&worker.since)));
    let left = worker.deadline_ms.map(std::time::Duration::from_millis);
    fact(follows(worker.state), left.map(|left| format!("in {}", numbers::span(left))));
    fact("endpoint", worker.endpoint.clone());
    fact("restarts", Some(worker.restarts.to_string()));
    fact(
        "last exit",
        worker.last_exit.as_ref().map(|exit| format!("{}, {}", exit.text, numbers::local(&exit.at))),
    );
    fact("memory", worker.memory.map(numbers::bytes));
    fact("cpu", worker.cpu_us.map(|us| numbers::span(std::time::Duration::from_micros(us))));
    fact("tasks", worker.pids.map(|pids| pids.to_string()));
    fact("says", worker.says.as_ref().map(|says| crate::text::safe::line(says, false)));
    fact("reloading", worker.reloading.then(|| "as it says".to_owned()));
    fact("keeps", (!worker.stored.is_empty()).then(|| super::status::stored(worker)));
    fact("note", super::status::hindered(Some(worker)));
    text.push_str(&super::status::last_output(
        &format!("{service}/{}", worker.index),
        &worker.last_output,
        style,
    ));
    text
}

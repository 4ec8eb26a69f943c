//! `wattctl inspect`: everything about one service.

use watt_api::control::{Inspect, Worker};

use crate::{
    args,
    context::Running,
    exit::{Exit, Outcome},
    text::{
        numbers, out,
        style::{Style, Tone},
    },
};

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
        "  requests  {} ({} failed), {} now, {} waiting\n",
        requests.total, requests.failures, requests.in_flight, requests.held
    ));
    text.push_str(&format!("  logs      {}/{}.jsonl\n", inspect.log_dir.display(), service.id));
    for cgroup in &inspect.cgroups {
        text.push_str(&format!("  cgroup    {}\n", cgroup.display()));
    }
    for limit in &service.unenforced {
        text.push_str(&format!("  {} {limit}\n", style.paint(Tone::Busy, "not enforced:")));
    }
    for worker in &service.workers {
        text.push_str(&worker_text(&service.id, worker, style));
    }
    text.push_str("configuration\n");
    let config = serde_json::to_string_pretty(&inspect.config).unwrap_or_default();
    for line in config.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

fn worker_text(service: &str, worker: &Worker, style: Style) -> String {
    let mut text = format!(
        "{service}/{}  {}\n",
        worker.index,
        style.paint(
            super::status::tone(worker.state),
            &super::status::state_cell(worker.state, Some(worker)).text
        )
    );
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<10}{value}\n"));
        }
    };
    fact("run", worker.run.map(|run| run.to_string()));
    fact("pid", worker.pid.map(|pid| pid.to_string()));
    fact("started", worker.started_at.clone());
    fact("since", Some(worker.since.clone()));
    fact("endpoint", worker.endpoint.clone());
    fact("restarts", Some(worker.restarts.to_string()));
    fact("last exit", worker.last_exit.as_ref().map(|exit| format!("{} at {}", exit.text, exit.at)));
    fact("memory", worker.memory.map(numbers::bytes));
    fact("cpu", worker.cpu_us.map(|us| format!("{:.1} s", us as f64 / 1e6)));
    fact("tasks", worker.pids.map(|pids| pids.to_string()));
    text.push_str(&super::status::last_output(
        &format!("{service}/{}", worker.index),
        &worker.last_output,
        style,
    ));
    text
}

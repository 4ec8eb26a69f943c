//! How the workers of services are replaced: on a terminal a live part, and elsewhere nothing, since the events say it.

use std::time::{Duration, Instant};

use watt_api::{
    client::Client,
    control::{Service, Status, Worker, WorkerPart, WorkerState},
};

use super::{
    live::Live,
    numbers,
    style::{Style, Tone},
    table::Cell,
};
use crate::commands::status::{tone, word};

/// Between two looks: as often as somebody can see, and seldom where a look takes long.
const EVERY: Duration = Duration::from_millis(200);
const REST: u32 = 4;

/// Shows how far it is until the future is ready.
pub async fn while_waiting<T>(client: &Client, future: impl Future<Output = T>) -> T {
    let style = Style::stderr();
    if style.width.is_none() {
        return future.await;
    }
    let mut live = Live::new(style);
    let started = Instant::now();
    let done = tokio::select! {
        done = future => done,
        never = show(client, &mut live, style, started) => match never {},
    };
    live.finish("");
    done
}

async fn show(client: &Client, live: &mut Live, style: Style, started: Instant) -> std::convert::Infallible {
    loop {
        let asked = Instant::now();
        if let Ok(status) = client.status().await {
            let rows = rows(&status);
            let took = numbers::span(started.elapsed());
            let heading = format!("{}  replacing workers  {took}", style.paint(Tone::Strong, &status.app));
            live.show("", if rows.is_empty() { "" } else { &heading }, &rows);
        }
        tokio::time::sleep(EVERY.max(asked.elapsed() * REST)).await;
    }
}

/// A line for each service that is on its way.
fn rows(status: &Status) -> Vec<Vec<Cell>> {
    status.services.iter().filter_map(row).collect()
}

fn row(service: &Service) -> Option<Vec<Cell>> {
    let count = |wanted: fn(&Worker) -> bool| service.workers.iter().filter(|worker| wanted(worker)).count();
    let due = count(|worker| matches!(worker.part, WorkerPart::Due | WorkerPart::Returns));
    let beside = count(|worker| matches!(worker.part, WorkerPart::Replaces | WorkerPart::Leaves));
    if due + beside == 0 {
        return None;
    }
    let of = count(|worker| !matches!(worker.part, WorkerPart::Replaces | WorkerPart::Leaves));
    // What is waited for: the new ones, or else that the old ones end.
    let is_new = |worker: &&Worker| matches!(worker.part, WorkerPart::Replaces | WorkerPart::Returns);
    let leaves = |worker: &&Worker| worker.part == WorkerPart::Leaves;
    let workers = || service.workers.iter();
    let awaited = workers().find(is_new).or_else(|| workers().find(leaves));
    let (state, index) = awaited.map_or((WorkerState::Waiting, 0), |worker| (worker.state, worker.index));
    let what = if awaited.is_some_and(|worker| worker.part == WorkerPart::Leaves) { "old" } else { "new" };
    Some(vec![
        format!("  {}", service.id).into(),
        format!("{} of {of} replaced", of.saturating_sub(due)).into(),
        Cell::tone(tone(state), format!("{what} {}/{index} {}", service.id, word(state))),
    ])
}

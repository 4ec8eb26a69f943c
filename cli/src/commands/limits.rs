//! `wattctl limits`: what is bounded, how far it is used and what the bounds did; and changes of them in place.

use std::{collections::BTreeMap, time::Duration};

use watt_api::control::{LimitHits, Limited, Limits, LimitsChange, LimitsChanged};

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

const COLUMNS: [Column; 7] = [
    Column { title: "OF", rank: 0, right: false },
    Column { title: "MEMORY", rank: 0, right: true },
    Column { title: "PEAK", rank: 2, right: true },
    Column { title: "CPU TIME", rank: 3, right: true },
    Column { title: "TASKS", rank: 1, right: true },
    Column { title: "MET", rank: 0, right: false },
    Column { title: "LIMITS", rank: 0, right: false },
];

/// Runs the command.
pub async fn run(arguments: args::Limits) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    match arguments.command {
        None => {
            let limits = client.limits().await.map_err(|error| running.failure(error))?;
            if arguments.print.json {
                out::json(&limits);
            } else {
                out::print(&render(&limits, Style::stdout()));
            }
        }
        Some(args::LimitsCommand::Set(set)) => {
            let changed = client.change_limits(&set.service, &change(set.changes, set.total)).await;
            let changed = changed.map_err(|error| running.failure(error))?;
            if arguments.print.json || set.print.json {
                out::json(&changed);
            } else {
                out::print(&render_changed(&set.service, &changed, Style::stdout()));
            }
        }
    }
    Ok(Exit::Ok)
}

fn change(changes: Vec<(String, String)>, total: bool) -> LimitsChange {
    let changes: BTreeMap<String, String> = changes.into_iter().collect();
    match total {
        true => LimitsChange { limits: BTreeMap::new(), limits_total: changes },
        false => LimitsChange { limits: changes, limits_total: BTreeMap::new() },
    }
}

fn render(limits: &Limits, style: Style) -> String {
    let rows: Vec<Vec<Cell>> = limits.groups.iter().map(row).collect();
    table::render(&COLUMNS, &rows, style)
}

fn row(group: &Limited) -> Vec<Cell> {
    let name = match (&group.service, group.worker) {
        (None, _) => "all services".to_owned(),
        (Some(service), None) => service.clone(),
        (Some(service), Some(worker)) => format!("{service}/{worker}"),
    };
    let bytes = |bytes: Option<u64>| bytes.map(numbers::bytes).unwrap_or_default();
    let cpu = group.cpu_us.map(|us| numbers::span(Duration::from_micros(us)));
    vec![
        name.into(),
        bytes(group.memory).into(),
        bytes(group.memory_peak).into(),
        cpu.unwrap_or_default().into(),
        group.pids.map(numbers::count).unwrap_or_default().into(),
        Cell::tone(Tone::Busy, met(group.hits)),
        written(&group.limits).into(),
    ]
}

fn written(limits: &BTreeMap<String, String>) -> String {
    let words: Vec<String> = limits.iter().map(|(key, value)| format!("{key}={value}")).collect();
    words.join(" ")
}

/// What the limits did, those that did nothing left out.
fn met(hits: LimitHits) -> String {
    let LimitHits { oom_kills, memory_high, pids, cpu, cpu_us } = hits;
    let counts = [("oom", oom_kills), ("memory_high", memory_high), ("pids", pids)];
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    let mut words: Vec<String> =
        counts.map(|(name, count)| format!("{name} {}", numbers::count(count))).collect();
    if cpu > 0 {
        let waited = numbers::span(Duration::from_micros(cpu_us));
        words.push(format!("cpu {} ({waited})", numbers::count(cpu)));
    }
    words.join(", ")
}

fn render_changed(service: &str, changed: &LimitsChanged, style: Style) -> String {
    let mut text = String::new();
    for (of, limits) in [("each worker", &changed.limits), ("all workers", &changed.limits_total)] {
        let limits = if limits.is_empty() { "no limits".to_owned() } else { written(limits) };
        text.push_str(&format!("{service}, {of}: {limits}\n"));
    }
    for line in &changed.unenforced {
        text.push_str(&format!("{} {line}\n", style.paint(Tone::Busy, "not enforced:")));
    }
    text.push_str(
        &style.paint(Tone::Dim, "until the next `wattctl up`, which takes those of the configuration"),
    );
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_nothing_is_left_out() {
        assert_eq!(met(LimitHits::default()), "");
        let hits = LimitHits { oom_kills: 2, cpu: 7, cpu_us: 1_500_000, ..LimitHits::default() };
        assert_eq!(met(hits), "oom 2, cpu 7 (1.5s)");
    }
}

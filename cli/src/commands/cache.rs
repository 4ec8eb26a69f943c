//! `wattctl cache`: what the proxy has stored of responses, and how it is removed.

use watt_api::{
    control::{Cache, CachePurged},
    mesh::{CacheCounts, CachePurge, CacheStatus},
};

use crate::{
    args,
    context::Running,
    exit::{Exit, Outcome},
    text::{
        numbers, out,
        style::Style,
        table::{self, Cell, Column},
    },
};

const COLUMNS: [Column; 7] = [
    Column { title: "SERVICE", rank: 0, right: false },
    Column { title: "HITS", rank: 0, right: true },
    Column { title: "WAITED", rank: 3, right: true },
    Column { title: "STALE", rank: 2, right: true },
    Column { title: "VALIDATED", rank: 1, right: true },
    Column { title: "ASKED FOR", rank: 0, right: true },
    Column { title: "STORED", rank: 0, right: true },
];

/// Runs the command.
pub async fn run(arguments: args::Cache) -> Outcome {
    match arguments.command {
        args::CacheCommand::Status(args::Plain { which, print }) => {
            let running = Running::find(&which)?;
            let cache = running.client().await?.cache().await.map_err(|error| running.failure(error))?;
            if print.json {
                out::json(&cache);
            } else {
                out::print(&render(&cache, Style::stdout()));
            }
        }
        args::CacheCommand::Purge(purge) => {
            let running = Running::find(&purge.which)?;
            let wanted =
                CachePurge { service: purge.service, uri: purge.uri, prefix: purge.prefix, tag: purge.tag };
            let client = running.client().await?;
            let purged = client.purge_cache(&wanted).await.map_err(|error| running.failure(error))?;
            if purge.print.json {
                out::json(&purged);
            } else {
                let CachePurged { removed } = purged;
                out::print(&format!(
                    "{} removed\n",
                    numbers::counted(usize::try_from(removed).unwrap_or(usize::MAX), "response")
                ));
            }
        }
    }
    Ok(Exit::Ok)
}

fn render(cache: &Cache, style: Style) -> String {
    let CacheStatus { bytes, bytes_max, entries, stored, evicted, purged } = cache.store;
    let mut text = format!(
        "{} of {}, {}; {} stored, {} had to make room, {} purged\n",
        numbers::bytes(bytes),
        numbers::bytes(bytes_max),
        numbers::counted(usize::try_from(entries).unwrap_or(usize::MAX), "response"),
        numbers::count(stored),
        numbers::count(evicted),
        numbers::count(purged)
    );
    let rows: Vec<Vec<Cell>> = cache.services.iter().map(|(name, counts)| row(name, counts)).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table::render(&COLUMNS, &rows, style));
    }
    text
}

fn row(name: &str, counts: &CacheCounts) -> Vec<Cell> {
    let CacheCounts { hits, stale, validated, misses, stored, collapsed } = *counts;
    let numbers =
        [hits, collapsed, stale, validated, misses, stored].map(|count| numbers::count(count).into());
    std::iter::once(name.into()).chain(numbers).collect()
}

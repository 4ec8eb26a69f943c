//! `wattctl analyze`: what the start of the application, or the last one of a service, waited for, and what was slow.

use std::time::Duration;

use watt_api::control::{Analysis, AnalyzedStart};

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

const COLUMNS: [Column; 5] = [
    Column { title: "SERVICE", rank: 0, right: false },
    Column { title: "TOOK", rank: 0, right: true },
    Column { title: "EXEC", rank: 2, right: true },
    Column { title: "WAITED", rank: 1, right: true },
    Column { title: "FOR", rank: 1, right: false },
];

/// How many of the slowest are shown; `--json` has all.
const SHOWN: usize = 20;

/// Runs the command.
pub async fn run(arguments: args::Analyze) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let analysis = client.analyze(arguments.service.as_deref()).await;
    let analysis = analysis.map_err(|error| running.failure(error))?;
    if arguments.print.json {
        out::json(&analysis);
    } else {
        out::print(&render(&analysis, Style::stdout()));
    }
    Ok(Exit::Ok)
}

fn render(analysis: &Analysis, style: Style) -> String {
    let of = analysis.service.as_deref().unwrap_or("the application");
    let mut text = match (analysis.total_ms, &analysis.missing[..]) {
        (Some(total), _) => format!("{of} was ready after {}\n", time(total)),
        (None, []) => format!("nothing is known of the start of {of}\n"),
        (None, missing) => format!("not ready yet: {}\n", missing.join(", ")),
    };
    for (depth, start) in analysis.chain.iter().enumerate() {
        text.push_str(&step(depth, start, style));
    }
    if analysis.service.is_none() && !analysis.services.is_empty() {
        let rows: Vec<Vec<Cell>> = analysis.services.iter().take(SHOWN).map(row).collect();
        text.push('\n');
        text.push_str(&table::render(&COLUMNS, &rows, style));
    }
    text
}

/// One line of the critical chain: `└─ api @1.2s +300ms`.
fn step(depth: usize, start: &AnalyzedStart, style: Style) -> String {
    let branch = if depth == 0 { String::new() } else { format!("{}└─ ", "  ".repeat(depth - 1)) };
    let times = format!("@{} +{}", time(start.at_ms), time(start.took_ms));
    format!("{branch}{} {}\n", start.service, style.paint(Tone::Strong, &times))
}

fn row(start: &AnalyzedStart) -> Vec<Cell> {
    vec![
        start.service.clone().into(),
        time(start.took_ms).into(),
        start.exec_ms.map(time).unwrap_or_default().into(),
        time(start.waited_ms).into(),
        start.waited_for.clone().unwrap_or_default().into(),
    ]
}

fn time(ms: u64) -> String {
    numbers::span(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colours: false, width: None };

    fn start(service: &str, at_ms: u64, took_ms: u64, waited_for: Option<&str>) -> AnalyzedStart {
        let waited_for = waited_for.map(str::to_owned);
        let waited_ms = at_ms - took_ms;
        AnalyzedStart { service: service.into(), at_ms, waited_ms, waited_for, exec_ms: Some(2), took_ms }
    }

    #[test]
    fn a_chain_is_a_tree_with_times_and_the_slowest_come_first() {
        let chain = vec![
            start("web", 1500, 100, Some("api")),
            start("api", 1400, 400, Some("db")),
            start("db", 1000, 1000, None),
        ];
        let services = vec![chain[2].clone(), chain[1].clone(), chain[0].clone()];
        let analysis = Analysis { total_ms: Some(1500), chain, services, ..Analysis::default() };
        insta::assert_snapshot!(render(&analysis, PLAIN), @r"
        the application was ready after 1.5s
        web @1.5s +100ms
        └─ api @1.4s +400ms
          └─ db @1s +1s

        SERVICE   TOOK  EXEC  WAITED  FOR
        db          1s   2ms     0ms
        api      400ms   2ms      1s  db
        web      100ms   2ms    1.4s  api
        ");
    }

    #[test]
    fn what_is_not_ready_is_named() {
        let analysis = Analysis { missing: vec!["api".into(), "web".into()], ..Analysis::default() };
        assert_eq!(render(&analysis, PLAIN), "not ready yet: api, web\n");
        let one = Analysis { service: Some("db".into()), total_ms: Some(7), ..Analysis::default() };
        assert_eq!(render(&one, PLAIN), "db was ready after 7ms\n");
    }
}

//! `wattctl scale`: other numbers of workers, until the configuration says something else.

use std::collections::BTreeMap;

use watt_api::control::{Scale, Scaled};

use crate::{
    args,
    context::Running,
    exit::{Exit, Outcome},
    text::{
        out, safe,
        style::{Style, Tone},
        table::{self, Cell, Column},
    },
};

const COLUMNS: [Column; 3] = [
    Column { title: "SERVICE", rank: 0, right: false },
    Column { title: "WORKERS", rank: 0, right: false },
    Column { title: "RESULT", rank: 0, right: false },
];

/// Runs the command.
pub async fn run(arguments: args::Scale) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let services: BTreeMap<String, Option<u16>> = arguments.services.into_iter().collect();
    let scaled = client.scale(&Scale { services }).await.map_err(|error| running.failure(error))?;
    if arguments.print.json {
        out::json(&scaled);
    } else {
        out::print(&render(&scaled, Style::stdout()));
    }
    Ok(if scaled.ok { Exit::Ok } else { Exit::Failed })
}

fn render(scaled: &Scaled, style: Style) -> String {
    let rows = scaled.services.iter().map(|(name, service)| {
        let tone = if matches!(service.result.as_str(), "ready" | "completed" | "asleep" | "down") {
            Tone::Good
        } else {
            Tone::Bad
        };
        let result = safe::line(&service.result, false);
        vec![
            name.as_str().into(),
            format!("{} -> {}", service.from, service.to).into(),
            Cell::tone(tone, result),
        ]
    });
    table::render(&COLUMNS, &rows.collect::<Vec<_>>(), style)
}

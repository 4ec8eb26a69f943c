//! `wattctl logs`: what the services wrote.

use std::io::IsTerminal;

use watt_api::client::{Client, LogsQuery};

use crate::{
    args,
    context::Running,
    exit::{Exit, Failure, Outcome},
    text::{lines::Printer, out, style::Style},
};

/// Runs the command. Pretty on a terminal, JSON lines for programs.
pub async fn run(arguments: args::Logs) -> Outcome {
    let since = arguments.since.as_deref().map(point_in_time).transpose()?;
    let running = Running::find(&arguments.services.which)?;
    let client = running.client().await?;
    let query = LogsQuery {
        services: arguments.services.services,
        since,
        after: None,
        tail: arguments.tail,
        follow: arguments.follow,
    };
    let json = arguments.services.print.json || !std::io::stdout().is_terminal();
    stream(&running, &client, query, json).await?;
    Ok(Exit::Ok)
}

/// Prints the lines of a query until they end. Following goes on over the replacement of a daemon.
pub async fn stream(
    running: &Running,
    client: &Client,
    mut query: LogsQuery,
    json: bool,
) -> Result<(), Failure> {
    let (style, mut printer) = (Style::stdout(), Printer::default());
    loop {
        let mut lines = client.logs(&query).await.map_err(|error| running.failure(error))?;
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| running.failure(error))?;
            query.after = Some(line.seq);
            query.tail = None;
            if json {
                out::json_line(&line);
            } else {
                out::print(&printer.line(&line, style));
            }
        }
        if !query.follow || running.is_gone() {
            return Ok(());
        }
    }
}

/// `10m` ago, or a time as RFC 3339 writes it; the answer is RFC 3339.
fn point_in_time(text: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::new(Exit::Usage, format!("{text:?} is neither a time span nor a time"))
            .hint("write 90s, 10m, 2h or 2026-11-26T08:00:00Z")
    };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.to_string());
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let time = jiff::Timestamp::now().checked_sub(span).map_err(|_| wrong())?;
    Ok(time.to_string())
}

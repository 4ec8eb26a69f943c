//! `wattctl logs`: what the services wrote.

use std::io::IsTerminal;

use watt_api::{
    client::{Client, LogsQuery},
    control::LogLine,
};

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
    if query.follow && query.tail == Some(0) {
        // Said as a time, it is the same to a successor of the daemon.
        (query.since, query.tail) = (Some(jiff::Timestamp::now().to_string()), None);
    }
    let (style, mut printer) = (Style::stdout(), Printer::default());
    let open = async |last: Option<u64>| match last {
        Some(_) => client.logs(&LogsQuery { after: last, tail: None, ..query.clone() }).await,
        None => client.logs(&query).await,
    };
    running
        .read_on(open, |line: LogLine| {
            if json {
                out::json_line(&line);
            } else {
                out::print(&printer.line(&line, style));
            }
            line.seq
        })
        .await
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

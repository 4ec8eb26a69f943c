//! `wattctl start`, `stop` and `restart`: one request, answered when it is done.

use watt_api::control::Outcome as Reply;

use crate::{
    args,
    context::Running,
    exit::{Exit, Outcome},
    text::{
        out, rolling,
        style::{Style, Tone},
        table::{self, Cell, Column},
    },
};

/// What to do with services.
#[derive(Debug, Clone, Copy)]
pub enum Operation {
    /// Have them up.
    Start,
    /// Have them down.
    Stop,
    /// Have them run anew.
    Restart,
}

/// Runs the command.
pub async fn run(operation: Operation, arguments: args::Services) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let services = arguments.services;
    let reply = match operation {
        Operation::Start => client.start(&services).await,
        Operation::Stop => client.stop(&services).await,
        Operation::Restart if arguments.print.json => client.restart(&services).await,
        Operation::Restart => rolling::while_waiting(&client, client.restart(&services)).await,
    }
    .map_err(|error| running.failure(error))?;
    if arguments.print.json {
        out::json(&reply);
    } else {
        out::print(&render(&reply, Style::stdout()));
    }
    Ok(if reply.ok { Exit::Ok } else { Exit::Failed })
}

/// What an operation came to, a line a service.
pub fn render(reply: &Reply, style: Style) -> String {
    let columns = [
        Column { title: "SERVICE", rank: 0, right: false },
        Column { title: "RESULT", rank: 0, right: false },
    ];
    let rows: Vec<Vec<Cell>> = reply
        .services
        .iter()
        .map(|(service, text)| {
            let tone = match text.as_str() {
                "ready" | "completed" => Tone::Good,
                "down" | "asleep" => Tone::Dim,
                _ => Tone::Bad,
            };
            vec![service.as_str().into(), Cell::tone(tone, text.as_str())]
        })
        .collect();
    table::render(&columns, &rows, style)
}

//! `wattctl down`: the end of the application.

use watt_api::control::Shutdown;

use crate::{
    args,
    context::Running,
    exit::{Exit, Outcome},
    text::{out, style::Style},
};

/// Runs the command: asks, waits until the last of watt's own processes has gone, and says what it came to.
pub async fn run(arguments: args::Down) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let reply =
        client.shutdown(Shutdown { now: arguments.now }).await.map_err(|error| running.failure(error))?;
    running.gone().await?;
    if arguments.print.json {
        out::json(&reply);
    } else {
        out::print(&super::operate::render(&reply, Style::stdout()));
        out::print(&format!("{} is down\n", running.app()));
    }
    Ok(if reply.ok { Exit::Ok } else { Exit::Failed })
}

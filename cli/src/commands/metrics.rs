//! `wattctl metrics`: what a scrape of the control API gets.

use crate::{
    args,
    context::Running,
    exit::{Exit, Outcome},
    text::out,
};

/// Runs the command.
pub async fn run(arguments: args::Metrics) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let text = client.metrics(arguments.openmetrics).await.map_err(|error| running.failure(error))?;
    out::print(&text);
    Ok(Exit::Ok)
}

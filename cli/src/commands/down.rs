//! `wattctl down`: the end of the application.

use std::collections::BTreeMap;

use watt_api::control::{Outcome, Shutdown};

use crate::{
    args,
    context::Running,
    exit::{self, Exit},
    text::{out, style::Style},
};

/// Runs the command: asks, waits until the last of watt's own processes has gone, and says what it came to.
pub async fn run(arguments: args::Down) -> exit::Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let reply = match client.shutdown(Shutdown { now: arguments.now }).await {
        // A supervisor that has ended before it could answer has done what was asked.
        Err(_) if running.is_gone() => Outcome { ok: true, services: BTreeMap::new() },
        reply => reply.map_err(|error| running.failure(error))?,
    };
    running.gone().await?;
    if arguments.print.json {
        out::json(&reply);
    } else {
        out::print(&super::operate::render(&reply, Style::stdout()));
        out::print(&format!("{} is down\n", running.app()));
    }
    Ok(if reply.ok { Exit::Ok } else { Exit::Failed })
}

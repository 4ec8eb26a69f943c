//! `wattctl down`: the end of the application.

use std::collections::BTreeMap;

use watt_api::{
    client::Client,
    control::{Outcome, Shutdown},
};

use crate::{
    args,
    context::Running,
    exit::{self, Exit, Failure},
    text::{
        out,
        progress::Progress,
        style::{Style, Tone},
    },
};

/// Runs the command: asks, waits until the last of watt's own processes has gone, and says what it came to.
pub async fn run(arguments: args::Down) -> exit::Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let json = arguments.print.json;
    let reply = shutdown(&running, &client, arguments.now, json).await?;
    running.gone().await?;
    if json {
        out::json(&reply);
    } else {
        if !reply.ok {
            out::print(&super::operate::render(&reply, Style::stdout()));
        }
        out::print(&format!("{} is down\n", Style::stdout().paint(Tone::Strong, running.app())));
    }
    Ok(if reply.ok { Exit::Ok } else { Exit::Failed })
}

/// Ends the application; meanwhile a terminal shows what is still there, and until when it may be.
pub async fn shutdown(running: &Running, client: &Client, now: bool, json: bool) -> Result<Outcome, Failure> {
    let reply = if json || Style::stderr().width.is_none() {
        client.shutdown(Shutdown { now }).await
    } else {
        let mut going = Progress::new();
        let reply = tokio::select! {
            reply = client.shutdown(Shutdown { now }) => reply,
            never = show(client, &mut going) => match never {},
        };
        going.clear();
        reply
    };
    match reply {
        // A supervisor that has ended before it could answer has done what was asked.
        Err(_) if running.is_gone() => Ok(Outcome { ok: true, services: BTreeMap::new() }),
        reply => reply.map_err(|error| running.failure(error)),
    }
}

async fn show(client: &Client, going: &mut Progress) -> std::convert::Infallible {
    let mut poll = tokio::time::interval(super::up::POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first look comes a moment late: most applications have gone by then, and nothing flashes up.
    poll.tick().await;
    loop {
        poll.tick().await;
        if let Ok(status) = client.status().await {
            going.going(&status);
        }
    }
}

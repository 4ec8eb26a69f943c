//! `wattctl upgrade`: another version of watt takes over from the running one, which shows its steps here.
//!
//! The daemon that is asked is replaced on the way. So this asks again until an answer says that it is over: the control socket is held by
//! the spawner, which is the same process throughout.

use std::{path::absolute, time::Duration};

use watt_api::{
    client::{Client, Error},
    control::{Upgrade, UpgradeProgress, UpgradeState},
};

use crate::{
    args,
    context::Running,
    exit::{Exit, Failure, Outcome},
    text::{
        out,
        style::{Style, Tone},
    },
};

/// How much longer than the trial the whole may take, until the program before has answered again.
const BEYOND_TRIAL: Duration = Duration::from_secs(60);

/// Between two questions.
const POLL: Duration = Duration::from_millis(30);

/// Runs the command.
pub async fn run(arguments: args::Upgrade) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let program = arguments.to.as_deref().map(absolute).transpose();
    let program = program.map_err(|error| Failure::new(Exit::Usage, format!("--to: {error}")))?;
    let timeout = Duration::from_secs(arguments.timeout);
    let request = Upgrade { program, timeout_ms: Some(arguments.timeout * 1000), check: arguments.check };
    let json = arguments.print.json;
    let state = match client.upgrade(&request).await {
        Ok(state) => state,
        // It left before its answer did.
        Err(Error::Interrupted { .. }) => {
            client.upgrade_state().await.map_err(|error| running.failure(error))?
        }
        Err(error) => return Err(running.failure(error)),
    };
    if state.state == UpgradeProgress::Checked {
        if json {
            out::json(&state);
        } else {
            out::print(&format!("{} (version {}) can take over\n", state.to.path, state.to.version));
        }
        return Ok(Exit::Ok);
    }
    let mut shown = 0;
    if !json {
        out::say(&format!("{} (version {})", state.to.path, state.to.version));
        show(&state, &mut shown);
    }
    let followed =
        tokio::time::timeout(timeout + BEYOND_TRIAL, follow(&running, &client, &state, json, &mut shown));
    let state = followed.await.map_err(|_| {
        Failure::new(Exit::Host, "it is not known how the upgrade ended: the supervisor does not answer")
            .hint("`wattctl status` shows which program runs")
    })??;
    finish(&state, json)
}

/// Asks until it is over.
async fn follow(
    running: &Running,
    client: &Client,
    begun: &UpgradeState,
    json: bool,
    shown: &mut usize,
) -> Result<UpgradeState, Failure> {
    loop {
        match client.upgrade_state().await {
            Ok(state) if state.number == begun.number => {
                if !json {
                    show(&state, shown);
                }
                if state.state != UpgradeProgress::Running {
                    return Ok(state);
                }
            }
            Ok(_) | Err(Error::TimedOut { .. } | Error::Interrupted { .. }) if !running.is_gone() => {}
            Ok(_) => return Err(Failure::new(Exit::Failed, "another upgrade was begun since")),
            Err(error) => return Err(running.failure(error)),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The steps that were not shown yet.
fn show(state: &UpgradeState, shown: &mut usize) {
    for step in state.steps.iter().skip(*shown) {
        *shown += 1;
        out::say(&format!("  {}", words(&step.step)));
    }
}

fn words(step: &str) -> &str {
    match step {
        "checked" => "it can take over: it reads the state and the configuration in force",
        "spawner" => "the spawner is the new program",
        "daemon" => "the daemon is the new program, and answers",
        "proxy" => "the new proxy is ready",
        "settled" => "all is well: the new proxy serves, and the old one ends with its connections",
        "rolled_back" => "the program before goes on",
        other => other,
    }
}

fn finish(state: &UpgradeState, json: bool) -> Outcome {
    let is_done = state.state == UpgradeProgress::Done;
    if json {
        out::json(state);
        return if is_done { Ok(Exit::Ok) } else { Err(Failure::silent(Exit::Failed)) };
    }
    if let Some(reason) = state.reason.as_ref().filter(|_| !is_done) {
        let message = format!("the upgrade was rolled back: {reason}");
        let hint = format!(
            "version {} goes on, and nothing else has changed; watt.log has more",
            state.from.version
        );
        return Err(Failure::new(Exit::Failed, message).hint(hint));
    }
    let done = format!("version {} runs\n", state.to.version);
    out::print(&Style::stdout().paint(Tone::Good, &done));
    Ok(Exit::Ok)
}

//! `wattctl down`: the end of the application.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use watt_api::{
    client::{Client, Error},
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

/// How long nobody may answer before the spawner is asked. A daemon that comes after all is told the same once more, which changes nothing.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long that may take: the spawner waits a minute for a daemon, and kills then.
const ALONE_MAX: Duration = Duration::from_secs(90);

/// Between two signals that are not to be one.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(500);

/// How often one looks whether anybody answers, where nothing is shown.
const LOOK: Duration = Duration::from_secs(1);

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

/// Ends the application; meanwhile a terminal shows what is still there, and until when it may be. Where nobody answers, because no
/// daemon can start, the spawner is asked to end it by itself.
pub async fn shutdown(running: &Running, client: &Client, now: bool, json: bool) -> Result<Outcome, Failure> {
    let mut going = (!json && Style::stderr().width.is_some()).then(Progress::new);
    let asked = client.shutdown(Shutdown { now });
    tokio::pin!(asked);
    let reply = tokio::select! {
        reply = &mut asked => Some(reply),
        () = until_silent(client, going.as_mut()) => None,
    };
    if let Some(going) = &mut going {
        going.clear();
    }
    match reply {
        // A supervisor that has ended before it could answer has done what was asked.
        Some(Err(_)) if running.is_gone() => Ok(ended()),
        Some(reply) => reply.map_err(|error| running.failure(error)),
        None => {
            if !json {
                out::say(
                    "warning: watt's daemon does not answer; its spawner ends everything, at once if no daemon does it in a minute",
                );
            }
            without_daemon(running, asked, now).await
        }
    }
}

/// Has the spawner pass on a wish that no daemon has heard. If none lives that could do it, the spawner kills everything.
async fn without_daemon(
    running: &Running,
    asked: impl Future<Output = Result<Outcome, Error>>,
    now: bool,
) -> Result<Outcome, Failure> {
    running.terminate()?;
    if now {
        // The second one means that, and two at a time would be one (signal(7)).
        tokio::time::sleep(BETWEEN_SIGNALS).await;
        running.terminate()?;
    }
    match tokio::time::timeout(ALONE_MAX, asked).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => running.gone().await.map(|()| ended()),
        Err(_) => Err(Failure::new(Exit::Host, format!("{} does not end", running.app()))
            .hint("`wattctl down --now` kills it; watt.log has why its daemon does not answer")),
    }
}

fn ended() -> Outcome {
    Outcome { ok: true, services: BTreeMap::new() }
}

/// Asks for what is still there, and shows that, until nobody has answered for a while.
async fn until_silent(client: &Client, mut going: Option<&mut Progress>) {
    let mut poll = tokio::time::interval(if going.is_some() { super::up::POLL } else { LOOK });
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first look comes a moment late: most applications have gone by then, and nothing flashes up.
    poll.tick().await;
    let mut heard = Instant::now();
    while heard.elapsed() < SILENCE_MAX {
        poll.tick().await;
        if let Ok(Ok(status)) = tokio::time::timeout(SILENCE_MAX, client.status()).await {
            heard = Instant::now();
            if let Some(going) = &mut going {
                going.going(&status);
            }
        }
    }
}

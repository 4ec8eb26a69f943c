//! `wattctl apply` and `wattctl remove`: one service of the running application, in place of what its file says of it.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use watt_api::control::{Apply, Reloaded};

use super::reload;
use crate::{
    args,
    context::Running,
    exit::{Exit, Failure, Outcome},
    text::rolling,
};

/// The longest document: what the supervisor takes.
const SIZE_MAX: usize = 256 << 10;

/// Runs `apply`.
pub async fn apply(arguments: args::Apply) -> Outcome {
    let args::Apply { service, from, plan, wait, which, print } = arguments;
    let (document, file) = document(&from)?;
    let running = Running::find(&which)?;
    let client = running.client().await?;
    let how = Apply { plan, wait, folder: std::env::current_dir().ok(), file };
    let asking = client.apply(&service, &document, &how);
    let answer = match wait && !print.json {
        true => rolling::while_waiting(&client, asking).await,
        false => asking.await,
    };
    tell(&running, answer, "wattctl apply", print.json)
}

/// Runs `remove`.
pub async fn remove(arguments: args::Remove) -> Outcome {
    let args::Remove { service, plan, wait, which, print } = arguments;
    let running = Running::find(&which)?;
    let client = running.client().await?;
    let how = Apply { plan, wait, folder: std::env::current_dir().ok(), file: None };
    let asking = client.remove(&service, &how);
    let answer = match wait && !print.json {
        true => rolling::while_waiting(&client, asking).await,
        false => asking.await,
    };
    tell(&running, answer, "wattctl remove", print.json)
}

fn tell(
    running: &Running,
    answer: Result<Reloaded, watt_api::client::Error>,
    command: &str,
    json: bool,
) -> Outcome {
    match answer {
        Ok(reloaded) => Ok(reload::print(&reloaded, command, json)),
        Err(error) => Err(reload::refused(running, error, json)),
    }
}

/// What the file says, and which it is.
fn document(from: &Path) -> Result<(String, Option<PathBuf>), Failure> {
    let is_input = from == Path::new("-");
    if is_input && std::io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "nothing says what the service is to be")
            .hint("name a file with -f, or send it to standard input"));
    }
    let mut bytes = Vec::new();
    let limit = SIZE_MAX as u64 + 1;
    let read = match is_input {
        true => std::io::stdin().take(limit).read_to_end(&mut bytes),
        false => std::fs::File::open(from).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    let name = if is_input { "standard input".into() } else { from.display().to_string() };
    read.map_err(|error| Failure::new(Exit::Config, format!("cannot read {name}: {error}")))?;
    if bytes.len() > SIZE_MAX {
        let message = format!("{name} has more than {} KiB", SIZE_MAX >> 10);
        return Err(Failure::new(Exit::Config, message));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::new(Exit::Config, format!("{name} is not UTF-8")))?;
    // What is absolute says more in messages that others read.
    let file = (!is_input).then(|| std::path::absolute(from).unwrap_or_else(|_| from.to_path_buf()));
    Ok((text, file))
}

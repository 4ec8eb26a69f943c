//! `wattctl up --unit`: the application as a unit of systemd. Checks the configuration and becomes the spawner in place, so that the
//! spawner is the unit's main process, and ends when the application does.
//!
//! There is no client here: the spawner and its daemon tell the manager how it goes (sd_notify(3)), and a reason not to start is
//! printed here, or in watt's own log once the spawner runs.

use std::os::unix::process::CommandExt;

use super::{config, up};
use crate::{
    args,
    exit::{Exit, Failure, Outcome},
};

/// Runs the command. Returns only when there is nothing to become.
pub fn run(arguments: &args::Up) -> Outcome {
    let config = config::load(arguments.file.as_deref().or(arguments.dir.as_deref()), arguments.print.json)?;
    let app = up::name(arguments, &config)?;
    let places = up::prepare(&app, &config)?;
    let mut spawner = up::spawner(&app, &config, &places, true)?;
    let error = spawner.exec();
    Err(Failure::new(Exit::Host, format!("cannot execute the spawner: {error}")))
}

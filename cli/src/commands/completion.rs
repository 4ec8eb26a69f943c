//! `wattctl completion`: scripts for shells.

use clap_complete::Shell;

use crate::{
    complete,
    exit::{Exit, Failure, Outcome},
    text::out,
};

/// Prints the script.
pub fn run(shell: Shell) -> Outcome {
    let script = complete::script(&shell.to_string())
        .map_err(|error| Failure::new(Exit::Usage, format!("{shell}: {error}")))?;
    out::print(&String::from_utf8_lossy(&script));
    Ok(Exit::Ok)
}

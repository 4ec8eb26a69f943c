//! `wattctl completion`: scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    args::Cli,
    exit::{Exit, Outcome},
    text::out,
};

/// Prints the script.
pub fn run(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wattctl", &mut script);
    out::print(&String::from_utf8_lossy(&script));
    Ok(Exit::Ok)
}

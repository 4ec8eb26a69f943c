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
    // Without watt's own processes, which nobody is to type.
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut cli = clap::Command::new("wattctl").version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    clap_complete::generate(shell, &mut cli, "wattctl", &mut script);
    out::print(&String::from_utf8_lossy(&script));
    Ok(Exit::Ok)
}

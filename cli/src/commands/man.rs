//! `wattctl man`: the command line's help as man pages, for packages.

use std::{fs, path::Path};

use clap::CommandFactory;
use clap_mangen::Man;

use crate::{
    args::Cli,
    exit::{Exit, Failure, Outcome},
};

/// Writes `wattctl.1` and a page for each command into a folder.
pub fn run(folder: &Path) -> Outcome {
    let mut cli = Cli::command().disable_help_subcommand(true);
    // Names such as `wattctl config check`, and what options have in common.
    cli.build();
    let commands = cli.get_subcommands().filter(|command| !command.is_hide_set());
    for command in commands {
        write(folder, &format!("wattctl-{}", command.get_name()), command)?;
    }
    write(folder, "wattctl", &cli)?;
    Ok(Exit::Ok)
}

fn write(folder: &Path, name: &str, command: &clap::Command) -> Result<(), Failure> {
    let path = folder.join(format!("{name}.1"));
    let failed = |error| Failure::new(Exit::Host, format!("cannot write {}: {error}", path.display()));
    let mut page = Vec::new();
    let command = command.clone().display_name(name);
    Man::new(command).title(name.to_uppercase()).render(&mut page).map_err(failed)?;
    fs::write(&path, page).map_err(failed)
}

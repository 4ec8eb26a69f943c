//! docs/cli.md is the command line's own help, held by this test. `WATT_BLESS=1 cargo test -p wattctl` rewrites it.

use std::{fmt::Write, path::Path};

use clap::CommandFactory;

use crate::{args::Cli, exit};

#[test]
fn the_reference_is_what_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let text = reference();
    if std::env::var_os("WATT_BLESS").is_some() {
        std::fs::write(&path, &text).expect("docs/cli.md can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/cli.md is not what the command line says; run `WATT_BLESS=1 cargo test -p wattctl`"
    );
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

fn reference() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut text =
        String::from("# wattctl\n\n<!-- Written from the program's own help by a test; do not edit. -->\n\n");
    let _ = writeln!(text, "{}\n", cli.get_about().map(ToString::to_string).unwrap_or_default());
    text.push_str("## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in exit::ALL {
        let _ = writeln!(text, "| {} | {meaning} |", code as u8);
    }
    text.push('\n');
    for command in cli.get_subcommands() {
        section(&mut text, command, "wattctl");
    }
    text
}

fn section(text: &mut String, command: &clap::Command, above: &str) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{above} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(text, "## {name}\n\n{about}\n\n    {}\n", usage.trim_start_matches("Usage: "));
    let arguments: Vec<&clap::Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
        .collect();
    if !arguments.is_empty() {
        text.push_str("| argument | meaning |\n|---|---|\n");
        for argument in arguments {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "| `{}` | {help} |", spelling(argument));
        }
        text.push('\n');
    }
    for below in command.get_subcommands() {
        section(text, below, &name);
    }
}

fn spelling(argument: &clap::Arg) -> String {
    let value = argument
        .get_action()
        .takes_values()
        .then(|| {
            argument
                .get_value_names()
                .and_then(|names| names.first())
                .map(ToString::to_string)
                .unwrap_or_default()
        })
        .filter(|value| !value.is_empty());
    let mut text = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => return value.unwrap_or_else(|| argument.get_id().to_string().to_uppercase()),
    };
    if let Some(value) = value {
        let _ = write!(text, " {value}");
    }
    text
}

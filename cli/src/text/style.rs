//! Colours: only on a terminal, and only when neither `NO_COLOR` (no-color.org) nor `TERM=dumb` speaks against it.

use std::io::IsTerminal;

/// Whether to colour a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Write SGR sequences.
    pub colours: bool,
    /// The columns there are; `None` when it is not a terminal.
    pub width: Option<usize>,
}

/// What a piece of text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Needs attention.
    Bad,
    /// Of lesser interest.
    Dim,
    /// A heading.
    Strong,
}

impl Style {
    /// For standard output. `COLUMNS` sets the width where there is no terminal to ask.
    pub fn stdout() -> Style {
        Style::of(
            std::io::stdout().is_terminal(),
            variable("COLUMNS").and_then(|columns| columns.parse().ok()),
        )
    }

    /// For standard error.
    pub fn stderr() -> Style {
        Style::of(std::io::stderr().is_terminal(), None)
    }

    /// How many lines the terminal has; 24 where that cannot be told.
    pub fn stderr_height() -> usize {
        terminal_size::terminal_size_of(std::io::stderr()).map_or(24, |(_, height)| usize::from(height.0))
    }

    fn of(terminal: bool, asked: Option<usize>) -> Style {
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        Style {
            colours: terminal && !dumb && variable("NO_COLOR").is_none(),
            width: asked.or_else(|| terminal.then(|| terminal_width().unwrap_or(80))),
        }
    }

    /// The text in the colour of its meaning.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

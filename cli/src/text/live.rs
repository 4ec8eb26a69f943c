//! The part of a terminal that is rewritten in place, for what is under way.

use std::io::Write;

use super::{
    style::Style,
    table::{self, Cell},
};

/// The live part has at most this many lines, so that a thousand services stay readable.
const LINES_MAX: usize = 12;

/// Lines at the end of standard error that are written over by the next ones. Without a terminal there are none.
#[derive(Debug)]
pub struct Live {
    style: Style,
    shown: String,
}

impl Live {
    /// Nothing is shown yet.
    pub fn new(style: Style) -> Live {
        Live { style, shown: String::new() }
    }

    /// Writes `lasting` lines, which stay, and then a heading and rows in place of the earlier ones. Rows that have no room
    /// are counted.
    pub fn show(&mut self, lasting: &str, heading: &str, rows: &[Vec<Cell>]) {
        let live = if self.style.width.is_some() { self.lines(heading, rows) } else { String::new() };
        if lasting.is_empty() && live == self.shown {
            return;
        }
        // Lines are written over one by one and cleared only to their right (ECMA-48 CUU, EL, ED): clearing first flickers.
        let mut text = String::new();
        if !self.shown.is_empty() {
            text.push_str(&format!("\x1b[{}A", self.shown.lines().count()));
        }
        for line in lasting.lines().chain(live.lines()) {
            text.push_str(line);
            text.push_str(if self.style.width.is_some() { "\x1b[K\n" } else { "\n" });
        }
        if !self.shown.is_empty() {
            text.push_str("\x1b[J");
        }
        self.shown = live;
        // An operator who closed the terminal wants the application all the same.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Writes the last lasting lines; the live part goes.
    pub fn finish(&mut self, lasting: &str) {
        self.show(lasting, "", &[]);
    }

    fn lines(&self, heading: &str, rows: &[Vec<Cell>]) -> String {
        if heading.is_empty() {
            return String::new();
        }
        // The terminal's last line is the cursor's, and a line that scrolled away cannot be written over.
        let room = Style::stderr_height().saturating_sub(3).clamp(1, LINES_MAX);
        let shown = if rows.len() > room { &rows[..room - 1] } else { rows };
        let mut text = format!("{heading}\n{}", table::rows(shown, self.style));
        if rows.len() > shown.len() {
            text.push_str(&format!("  and {} more\n", rows.len() - shown.len()));
        }
        text
    }
}

//! systemd's journal, which gets what services write, and watt itself, beside the files: by the native protocol, with fields to ask
//! for (docs/systemd.md). Nothing waits for it, and the files have everything, whatever the journal takes.
//!
//! - `lines` sends what services write, from the thread that reads it.
//! - `own` sends what watt's own processes say, events among them, from wherever they say it.
//! - `message_ids` has the identifiers of the kinds of events.

mod lines;
mod message_ids;
mod own;

use std::ffi::{OsStr, OsString};

pub(crate) use lines::{Allowance, Fields, Lines};
pub use own::Own;
pub use watt_os::systemd::journal::is_on_stderr;

/// The variable that names another journal's socket, for tests.
pub const SOCKET_VARIABLE: &str = "WATT_JOURNAL_SOCKET";

/// A journal and how entries in it are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its socket.
    pub socket: OsString,
    /// The application.
    pub app: String,
}

impl Target {
    /// The journal of this host, or the one that `socket`, the value of [`SOCKET_VARIABLE`], names.
    pub fn new(app: &str, socket: Option<&OsStr>) -> Target {
        let socket = socket.unwrap_or(OsStr::new(watt_os::systemd::journal::SOCKET)).to_owned();
        Target { socket, app: app.to_owned() }
    }
}

/// How important an entry is: levels of syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Priority {
    Error,
    Warning,
    Info,
    Debug,
    /// As a program says it itself.
    Told(u8),
}

impl Priority {
    fn digit(self) -> [u8; 1] {
        match self {
            Priority::Error => *b"3",
            Priority::Warning => *b"4",
            Priority::Info => *b"6",
            Priority::Debug => *b"7",
            Priority::Told(digit) => [digit],
        }
    }
}

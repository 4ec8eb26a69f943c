//! Our own lines in systemd's journal, beside those on standard error.

use std::{ffi::OsStr, fmt, sync::OnceLock};

use watt_os::systemd::journal::{Entry, Journal};

/// Once in the life of the process, as standard error is: what says something need not be told where.
static JOURNAL: OnceLock<(Journal, String)> = OnceLock::new();

/// Opens it. Without it, standard error has to do.
pub(crate) fn open(socket: &OsStr, app: &str) {
    if let Ok(journal) = Journal::open(socket) {
        let _ = JOURNAL.set((journal, app.to_owned()));
    }
}

/// Writes a line, if it is open. What the journal does not take at once is on standard error alone.
pub(crate) fn write(what: fmt::Arguments<'_>) {
    let Some((journal, app)) = JOURNAL.get() else { return };
    let mut entry = Entry::default();
    entry
        .field("MESSAGE", what.to_string())
        .field("PRIORITY", "4")
        .field("SYSLOG_IDENTIFIER", "watt")
        .field("WATT_APP", app)
        .field("WATT_ROLE", "spawner");
    let _ = journal.send(&entry);
}

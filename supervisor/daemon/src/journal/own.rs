//! What watt itself says, as entries of the journal: the daemon's log, in which every event is a line. The fields of a line become
//! fields of the entry.

use std::{
    fmt::Debug,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};
use watt_os::systemd::journal::{Entry, Journal};

use super::{Priority, Target, message_ids};

/// The journal as a layer of the log, to be shared.
#[derive(Debug, Clone)]
pub struct Own(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    journal: Journal,
    app: String,
    is_on: AtomicBool,
    /// Kept for its allocation.
    entry: Mutex<Entry>,
}

impl Own {
    /// Opens the journal, on or off until the configuration is read.
    ///
    /// # Errors
    /// EMFILE, and InvalidInput for a socket without a path.
    pub fn open(target: &Target, is_on: bool) -> io::Result<Own> {
        let journal = Journal::open(&target.socket)?;
        let (app, is_on) = (target.app.clone(), AtomicBool::new(is_on));
        Ok(Own(Arc::new(Shared { journal, app, is_on, entry: Mutex::default() })))
    }

    /// Turns it on or off, as the configuration says.
    pub(crate) fn set(&self, is_on: bool) {
        self.0.is_on.store(is_on, Ordering::Relaxed);
    }
}

impl<S: Subscriber> Layer<S> for Own {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        if !self.0.is_on.load(Ordering::Relaxed) {
            return;
        }
        // Before the lock: a field that panics is told by another event.
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut entry = self.0.entry.lock().unwrap_or_else(PoisonError::into_inner);
        entry.truncate(0);
        entry
            .field("SYSLOG_IDENTIFIER", "watt")
            .field("WATT_APP", &self.0.app)
            .field("PRIORITY", priority(*event.metadata().level()).digit());
        fields.write(&mut entry);
        // The file has it too. That the journal did not take it is told of services' lines, which are many.
        let _ = self.0.journal.send(&entry);
    }
}

fn priority(level: Level) -> Priority {
    match level {
        Level::ERROR => Priority::Error,
        Level::WARN => Priority::Warning,
        Level::INFO => Priority::Info,
        _ => Priority::Debug,
    }
}

/// A line's fields.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn write(&self, entry: &mut Entry) {
        for (name, value) in &self.others {
            match *name {
                "kind" => entry.field("WATT_EVENT", value),
                name => entry.field(&format!("WATT_{}", name.to_ascii_uppercase().replace('.', "_")), value),
            };
        }
        if let Some(id) = self
            .value("kind")
            .and_then(|kind| message_ids::of(kind, self.value("state"), self.value("cause")))
        {
            entry.field("MESSAGE_ID", id);
        }
        entry.field("MESSAGE", self.about() + &self.message);
    }

    fn value(&self, wanted: &str) -> Option<&str> {
        self.others.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str())
    }

    /// Whom the message is about, which a reader of messages alone would not see.
    fn about(&self) -> String {
        match (self.value("service"), self.value("worker")) {
            (Some(service), Some(worker)) => format!("{service}/{worker}: "),
            (Some(service), None) => format!("{service}: "),
            (None, _) => String::new(),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.others.push((name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

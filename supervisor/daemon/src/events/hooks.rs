//! Events of hooks. Those that are commands are tasks, and have the events of tasks.

use std::time::Duration;

use watt_api::control::Event;
use watt_core::{RunId, WorkerId};

use super::{Happening, Level, happenings::about};

/// A webhook was sent, or could not be.
#[derive(Debug)]
pub(crate) struct WebhookEnded {
    /// Whose.
    pub(crate) worker: WorkerId,
    /// For which of its runs.
    pub(crate) run: RunId,
    /// Which hook.
    pub(crate) hook: &'static str,
    /// Who was to get it. Paths may have secrets in them, and events are for all who may look.
    pub(crate) host: String,
    /// Whether it was answered with success.
    pub(crate) is_ok: bool,
    /// What came of it: `status 204`.
    pub(crate) text: String,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// How long all of that took.
    pub(crate) took: Duration,
}

impl Happening for WebhookEnded {
    const KIND: &'static str = "webhook_ended";

    fn level(&self) -> Level {
        if self.is_ok { Level::Info } else { Level::Warn }
    }

    fn describe(self, event: &mut Event) {
        about(event, self.worker, Some(self.run));
        event.text = format!("{} to {}: {}", self.hook, self.host, self.text);
        if self.attempts > 1 {
            event.text.push_str(&format!(" ({} attempts)", self.attempts));
        }
        let took_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        event.data.insert("hook".into(), self.hook.into());
        event.data.insert("ok".into(), self.is_ok.into());
        event.data.insert("attempts".into(), self.attempts.into());
        event.data.insert("took_ms".into(), took_ms.into());
    }
}

//! Events of numbers of workers.

use watt_api::control::{Event, ScaledBy};
use watt_core::ServiceId;

use super::{Happening, Level};
use crate::words::counted;

/// A service is to have another number of workers.
#[derive(Debug)]
pub struct Scaled {
    /// Which.
    pub service: ServiceId,
    /// How many it had.
    pub from: u16,
    /// How many it is to have.
    pub to: u16,
    /// Who decided it.
    pub by: ScaledBy,
    /// Why, in words.
    pub reason: String,
}

impl Happening for Scaled {
    const KIND: &'static str = "scaled";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        let Self { service, from, to, by, reason } = self;
        event.text = format!("{from} -> {}: {reason}", counted(u64::from(to), "worker"));
        event.service = Some(service.to_string());
        event.data.insert("from".into(), from.into());
        event.data.insert("to".into(), to.into());
        event.data.insert("by".into(), serde_json::to_value(by).unwrap_or_default());
        event.data.insert("reason".into(), reason.into());
    }
}

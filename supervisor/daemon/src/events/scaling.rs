//! Events of numbers of workers.

use watt_api::control::{Event, ScaledBy};
use watt_core::ServiceId;

use super::{Happening, Level};
use crate::words::counted;

/// A service would take more workers, and there is no room for one.
#[derive(Debug)]
pub struct ScalingRefused {
    /// Which.
    pub service: ServiceId,
    /// How many it has.
    pub from: u16,
    /// How many would be better.
    pub wanted: u16,
    /// Why, in words.
    pub reason: String,
    /// What is missing, in words.
    pub lack: String,
}

impl Happening for ScalingRefused {
    const KIND: &'static str = "scaling_refused";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let Self { service, from, wanted, reason, lack } = self;
        let workers = counted(u64::from(from), "worker");
        event.text = format!("stays at {workers}, where {wanted} would be better ({reason}): {lack}");
        event.service = Some(service.to_string());
        event.data.insert("from".into(), from.into());
        event.data.insert("wanted".into(), wanted.into());
        event.data.insert("reason".into(), reason.into());
        event.data.insert("lack".into(), lack.into());
    }
}

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

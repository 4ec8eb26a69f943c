//! The events of rolls, in which the workers of a service are replaced.

use std::collections::BTreeMap;

use watt_api::control::Event;
use watt_core::{ServiceId, fleet::RollProgress};

use super::{Happening, Level};

/// A roll is so far.
#[derive(Debug)]
pub struct Rolled {
    /// The service.
    pub service: ServiceId,
    /// How far.
    pub progress: RollProgress,
}

impl Happening for Rolled {
    const KIND: &'static str = "roll";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        let RollProgress { replaced, of } = self.progress;
        event.text = format!("{}: {replaced} of {of} replaced", self.service);
        event.service = Some(self.service.to_string());
        event.data.insert("replaced".into(), replaced.into());
        event.data.insert("of".into(), of.into());
    }
}

/// A roll ended before all workers were replaced.
#[derive(Debug)]
pub struct RollFailed {
    /// The service.
    pub service: ServiceId,
    /// Why, in words.
    pub why: String,
}

impl Happening for RollFailed {
    const KIND: &'static str = "roll_failed";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("{}: no more workers are replaced, because {}", self.service, self.why);
        event.service = Some(self.service.to_string());
        event.data.insert("reason".into(), self.why.into());
    }
}

/// A reload is taken back.
#[derive(Debug)]
pub struct RolledBack {
    /// The services that did not get their new workers, and why not.
    pub why: BTreeMap<ServiceId, String>,
}

impl Happening for RolledBack {
    const KIND: &'static str = "rolled_back";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let parts: Vec<String> = self.why.iter().map(|(id, why)| format!("{id}: {why}")).collect();
        // A successor of the daemon may know no more than that it has to.
        event.text = match parts.as_slice() {
            [] => "the configuration from before comes back, because a roll failed".to_owned(),
            parts => format!("the configuration from before comes back, because of {}", parts.join("; ")),
        };
        let services: Vec<String> = self.why.keys().map(ToString::to_string).collect();
        event.data.insert("services".into(), services.into());
    }
}

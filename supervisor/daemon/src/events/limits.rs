//! Events of limits and of what they do.

use std::{collections::BTreeMap, time::Duration};

use watt_api::control::Event;
use watt_core::{RunId, ServiceId, WorkerId, plan::Resource, worker::ExitCause};

use super::{Happening, Level, happenings::about};
use crate::{
    limit_hits::Slowed,
    stalls::Window,
    words::{self, counted},
};

/// The kernel killed processes of a worker for memory.
#[derive(Debug)]
pub struct OutOfMemory {
    /// Which.
    pub worker: WorkerId,
    /// Its run.
    pub run: RunId,
    /// The limit it met, in bytes; `None` when it was the host's memory that ended.
    pub limit: Option<u64>,
    /// The most bytes it had, where the host counts them.
    pub peak: Option<u64>,
    /// How many of its processes were killed so far. The kernel does not say which.
    pub kills: u64,
}

impl Happening for OutOfMemory {
    const KIND: &'static str = "oom";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = match self.limit {
            Some(limit) => format!("a process was killed: {}", ExitCause::OutOfMemory { limit: Some(limit) }),
            None => "killed, because the host ran out of memory".to_owned(),
        };
        about(event, self.worker, Some(self.run));
        event.data.extend(self.limit.map(|limit| ("limit".to_owned(), limit.into())));
        event.data.extend(self.peak.map(|peak| ("peak".to_owned(), peak.into())));
        event.data.insert("kills".into(), self.kills.into());
    }
}

/// Limits slow a worker down.
#[derive(Debug)]
pub struct SlowedDown {
    /// Which.
    pub worker: WorkerId,
    /// Its run.
    pub run: RunId,
    /// How much.
    pub by: Slowed,
    /// In this time.
    pub within: Duration,
}

impl Happening for SlowedDown {
    const KIND: &'static str = "slowed_down";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let Slowed { cpu, memory_high } = self.by;
        let mut by = Vec::new();
        if !cpu.is_zero() {
            by.push(format!("its cpu limit made it wait for {}", words::duration(cpu)));
        }
        if memory_high > 0 {
            by.push(format!("memory_high held it up {}", counted(memory_high, "time")));
        }
        event.text = format!("slowed down: {}, within {}", by.join(" and "), words::duration(self.within));
        about(event, self.worker, Some(self.run));
        event.data.insert("cpu_us".into(), u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX).into());
        event.data.insert("memory_high".into(), memory_high.into());
    }
}

/// A worker has as many processes as it may, and wanted another one.
#[derive(Debug)]
pub struct PidsLimitMet {
    /// Which.
    pub worker: WorkerId,
    /// Its run.
    pub run: RunId,
    /// The limit.
    pub limit: u32,
    /// How many forks it has refused so far.
    pub count: u64,
}

impl Happening for PidsLimitMet {
    const KIND: &'static str = "pids_limit";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = format!("met its limit of {} processes and threads", self.limit);
        about(event, self.worker, Some(self.run));
        event.data.insert("limit".into(), self.limit.into());
        event.data.insert("count".into(), self.count.into());
    }
}

/// An operator changed limits.
#[derive(Debug)]
pub struct LimitsChanged {
    /// Whose.
    pub service: ServiceId,
    /// New values by key, for each worker.
    pub each: BTreeMap<String, String>,
    /// For all workers together.
    pub total: BTreeMap<String, String>,
}

impl Happening for LimitsChanged {
    const KIND: &'static str = "limits_changed";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        let each = self.each.iter().map(|(key, value)| format!("{key}={value}"));
        let total = self.total.iter().map(|(key, value)| format!("limits_total.{key}={value}"));
        event.text = format!("limits changed: {}", each.chain(total).collect::<Vec<_>>().join(" "));
        event.service = Some(self.service.to_string());
    }
}

/// A worker stalls: its processes wait for something.
#[derive(Debug)]
pub struct UnderPressure {
    /// Which.
    pub worker: WorkerId,
    /// Its run.
    pub run: RunId,
    /// What they wait for.
    pub resource: Resource,
    /// How much.
    pub window: Window,
    /// How long that has lasted already.
    pub lasted: Duration,
}

impl Happening for UnderPressure {
    const KIND: &'static str = "pressure";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let Window { stalled, within, at_least, pressure } = self.window;
        let least = if at_least { "at least " } else { "" };
        let (stalled_text, within_text) = (words::duration(stalled), words::duration(within));
        let name = self.resource.name();
        event.text = format!("{name} pressure: stalled for {least}{stalled_text} of {within_text}");
        if !self.lasted.is_zero() {
            event.text.push_str(&format!(", for {} now", words::duration(self.lasted)));
        }
        about(event, self.worker, Some(self.run));
        event.data.insert("resource".into(), name.into());
        event.data.insert("stalled_ms".into(), millis(stalled));
        event.data.insert("window_ms".into(), millis(within));
        event.data.insert("some_avg10".into(), pressure.some_avg10.into());
        event.data.extend(pressure.full_avg10.map(|share| ("full_avg10".to_owned(), share.into())));
        event.data.insert("lasted_ms".into(), millis(self.lasted));
    }
}

/// A worker that stalled does so no more.
#[derive(Debug)]
pub struct PressureOver {
    /// Which.
    pub worker: WorkerId,
    /// Its run.
    pub run: RunId,
    /// What its processes waited for.
    pub resource: Resource,
    /// How long some process did in all.
    pub stalled: Duration,
    /// How long it lasted.
    pub lasted: Duration,
}

impl Happening for PressureOver {
    const KIND: &'static str = "pressure_over";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        let (stalled, lasted) = (words::duration(self.stalled), words::duration(self.lasted));
        let name = self.resource.name();
        event.text = format!("{name} pressure is over: stalled for {stalled} of {lasted}");
        about(event, self.worker, Some(self.run));
        event.data.insert("resource".into(), name.into());
        event.data.insert("stalled_ms".into(), millis(self.stalled));
        event.data.insert("lasted_ms".into(), millis(self.lasted));
    }
}

fn millis(time: Duration) -> serde_json::Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}

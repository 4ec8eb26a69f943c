//! Events of limits and of what they do.

use std::{collections::BTreeMap, time::Duration};

use watt_api::control::Event;
use watt_core::{RunId, ServiceId, WorkerId, plan::Resource, worker::ExitCause};

use super::{Happening, Level, happenings::about};
use crate::{
    limit_hits::Slowed,
    limit_of::LimitOf,
    oom::{Ended, Victim},
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
    /// Who was killed, as far as the kernel's log can be read and says so.
    pub victims: Vec<Victim>,
    /// Whose memory ended, where that is known.
    pub ended: Option<Ended>,
    /// The limit that was met, in bytes, when it is one of ours.
    pub limit: Option<u64>,
    /// The most bytes it had, where the host counts them.
    pub peak: Option<u64>,
    /// How many of its processes were killed so far.
    pub kills: u64,
}

impl Happening for OutOfMemory {
    const KIND: &'static str = "oom";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let victims: Vec<String> =
            self.victims.iter().map(|victim| format!("{} (pid {})", victim.name, victim.pid)).collect();
        let who = if victims.is_empty() { "a process".to_owned() } else { victims.join(", ") };
        let were = if victims.len() > 1 { "were" } else { "was" };
        let met = ExitCause::OutOfMemory { limit: self.limit };
        let why = match &self.ended {
            Some(Ended::At(of)) => format!("{met}{}", of.apposition()),
            None => met.to_string(),
            Some(Ended::Above(path)) => format!("oom (limit of {path}, above watt's own)"),
            Some(Ended::Host) => "host out of memory".to_owned(),
        };
        event.text = format!("{who} {were} killed: {why}");
        about(event, self.worker, Some(self.run));
        event.data.extend(self.ended.as_ref().map(|ended| ("level".to_owned(), ended.name().into())));
        event.data.extend(self.limit.map(|limit| ("limit".to_owned(), limit.into())));
        event.data.extend(self.peak.map(|peak| ("peak".to_owned(), peak.into())));
        event.data.insert("kills".into(), self.kills.into());
        let victim = |Victim { pid, name }| serde_json::json!({ "pid": pid, "name": name });
        event.data.insert("victims".into(), self.victims.into_iter().map(victim).collect());
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
        let Slowed { cpu, throttled, periods, memory_high } = self.by;
        let mut by = Vec::new();
        if !cpu.is_zero() {
            let cpu = words::duration(cpu);
            by.push(format!("its cpu limit made it wait for {cpu}, in {throttled} of {periods} periods"));
        }
        if memory_high > 0 {
            by.push(format!("memory_high held it up {}", counted(memory_high, "time")));
        }
        event.text = format!("slowed down: {}, within {}", by.join(" and "), words::duration(self.within));
        about(event, self.worker, Some(self.run));
        event.data.insert("cpu_us".into(), u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX).into());
        event.data.insert("cpu_throttled".into(), throttled.into());
        event.data.insert("cpu_periods".into(), periods.into());
        event.data.insert("memory_high".into(), memory_high.into());
    }
}

/// A worker wanted another process, and there were as many as there may be.
#[derive(Debug)]
pub struct PidsLimitMet {
    /// Which.
    pub worker: WorkerId,
    /// Its run.
    pub run: RunId,
    /// Whose limit it was, and which, where that is known.
    pub at: Option<(LimitOf, u32)>,
    /// How many of its forks were refused so far.
    pub count: u64,
}

impl Happening for PidsLimitMet {
    const KIND: &'static str = "pids_limit";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        event.text = match self.at {
            Some((LimitOf::Worker, limit)) => format!("met its limit of {limit} processes and threads"),
            Some((of, limit)) => format!("met the limit of {limit} processes and threads{}", of.apposition()),
            None => "met a limit of processes and threads".to_owned(),
        };
        about(event, self.worker, Some(self.run));
        if let Some((of, limit)) = self.at {
            event.data.insert("level".into(), of.name().into());
            event.data.insert("limit".into(), limit.into());
        }
        event.data.insert("count".into(), self.count.into());
    }
}

/// There are as many processes as a service or the application may have, and somebody wanted another one. Who, the kernel does
/// not say.
#[derive(Debug)]
pub struct PidsCeilingMet {
    /// The service; `None` for the application.
    pub service: Option<ServiceId>,
    /// The limit.
    pub limit: u32,
    /// How many forks it has refused so far.
    pub count: u64,
}

impl Happening for PidsCeilingMet {
    const KIND: &'static str = "pids_limit";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let of = if self.service.is_some() { LimitOf::Service } else { LimitOf::Application };
        event.text = format!("met the limit of {} processes and threads{}", self.limit, of.apposition());
        event.service = self.service.map(|service| service.to_string());
        event.data.insert("level".into(), of.name().into());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Events;

    #[test]
    fn a_kill_for_memory_says_who_and_whose_limit_and_nothing_that_is_not_known() {
        let check = |victims: &[u32], ended, limit, expected: &str| {
            let events = Events::new();
            let victims = victims.iter().map(|pid| Victim { pid: *pid, name: "python3".into() });
            let worker = WorkerId::new(ServiceId::new("api").unwrap(), 0);
            let (run, victims) = (RunId(1), victims.collect());
            events.emit(OutOfMemory { worker, run, victims, ended, limit, peak: None, kills: 1 });
            let event: Event = serde_json::from_str(&events.read(None).batch()[0]).unwrap();
            assert_eq!(event.text, expected);
        };
        let limit = Some(48 << 20);
        check(&[7], Some(Ended::At(LimitOf::Worker)), limit, "python3 (pid 7) was killed: oom (limit 48M)");
        let both = "python3 (pid 7), python3 (pid 8) were killed: oom (limit 48M), that of all workers of the service";
        check(&[7, 8], Some(Ended::At(LimitOf::Service)), limit, both);
        check(
            &[],
            Some(Ended::At(LimitOf::Application)),
            limit,
            "a process was killed: oom (limit 48M), that of the application",
        );
        let above = "a process was killed: oom (limit of /system.slice, above watt's own)";
        check(&[], Some(Ended::Above("/system.slice".into())), None, above);
        check(&[7], Some(Ended::Host), None, "python3 (pid 7) was killed: host out of memory");
        check(&[], None, None, "a process was killed: oom");
    }

    fn told(happening: impl Happening) -> Event {
        let events = Events::new();
        events.emit(happening);
        serde_json::from_str(&events.read(None).batch()[0]).unwrap()
    }

    fn worker() -> WorkerId {
        WorkerId::new(ServiceId::new("api").unwrap(), 3)
    }

    #[test]
    fn a_stall_has_its_numbers_in_milliseconds_and_percent() {
        let pressure = watt_os::cgroup::Pressure {
            some_avg10: 12.5,
            full_avg10: Some(1.25),
            some_total: Duration::from_secs(9),
        };
        let (stalled, within) = (Duration::from_millis(1500), Duration::from_millis(2004));
        let stall = |at_least, full_avg10, lasted| UnderPressure {
            worker: worker(),
            run: RunId(7),
            resource: Resource::Memory,
            window: Window {
                stalled,
                within,
                at_least,
                pressure: watt_os::cgroup::Pressure { full_avg10, ..pressure },
            },
            lasted,
        };
        let event = told(stall(true, None, Duration::ZERO));
        assert_eq!(event.text, "memory pressure: stalled for at least 1.5s of 2s");
        assert!(!event.data.contains_key("full_avg10"), "{:?}", event.data);
        let event = told(stall(false, Some(1.25), Duration::from_secs(300)));
        assert_eq!(event.text, "memory pressure: stalled for 1.5s of 2s, for 5m now");
        assert_eq!(
            (event.kind.as_str(), event.service.as_deref(), event.worker),
            ("pressure", Some("api"), Some(3))
        );
        let expected = serde_json::json!({
            "resource": "memory", "stalled_ms": 1500, "window_ms": 2004, "some_avg10": 12.5, "full_avg10": 1.25,
            "lasted_ms": 300_000,
        });
        let got = |name: &str| event.data.get(name).cloned().unwrap_or_default();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&got(name), value, "{name}");
        }
        let over =
            PressureOver { worker: worker(), run: RunId(7), resource: Resource::Io, stalled, lasted: within };
        let event = told(over);
        assert_eq!(event.text, "io pressure is over: stalled for 1.5s of 2s");
        assert_eq!((&event.data["stalled_ms"], &event.data["lasted_ms"]), (&1500.into(), &2004.into()));
    }

    #[test]
    fn what_slows_a_worker_down_is_named_with_numbers() {
        let check = |cpu, memory_high, expected: &str| {
            let by = Slowed { cpu: Duration::from_millis(cpu), throttled: 40, periods: 50, memory_high };
            let event =
                told(SlowedDown { worker: worker(), run: RunId(7), by, within: Duration::from_secs(5) });
            assert_eq!(event.text, expected);
            assert_eq!(
                (&event.data["cpu_us"], &event.data["memory_high"]),
                (&(cpu * 1000).into(), &memory_high.into())
            );
        };
        check(1500, 0, "slowed down: its cpu limit made it wait for 1.5s, in 40 of 50 periods, within 5s");
        check(0, 1, "slowed down: memory_high held it up 1 time, within 5s");
        check(
            1500,
            3,
            "slowed down: its cpu limit made it wait for 1.5s, in 40 of 50 periods and memory_high held it up 3 times, within 5s",
        );
    }
}

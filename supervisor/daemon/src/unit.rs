//! The application as a unit of a service manager: what systemd is told of it (sd_notify(3)), by way of the spawner, and that
//! the loop turns, which the spawner is told itself.
//!
//! - `READY=1` when every service has come to something: it is ready, has done its work, or has failed for now. A service that
//!   fails is no failure of the application, whose others run on while watt tries again; the status says so.
//! - `RELOADING=1` when a configuration is read again, however that was asked for, and `READY=1` when it is what runs: when the services
//!   that it touches have come to something, as `wattctl reload --wait` waits for it. One that is refused is over at once; the status
//!   says why, until one is taken.
//! - `STATUS=` is one line, told when it changes.
//! - `STOPPING=1` when the end begins, whoever asked for it.
//! - `EXTEND_TIMEOUT_USEC=` while a start, a reload or a stop goes on that the configuration allows to take longer than the unit does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use watt_core::{
    ServiceId,
    fleet::{Goal, Selection, Verdict},
};
use watt_spawner::protocol::Request;

use crate::{
    app::{App, Ending},
    gateway,
    words::counted,
};

/// How often the spawner hears from the loop when there is nothing else to say: three times before it counts as hung
/// ([`watt_spawner::SILENCE_MAX`]).
const BEAT: Duration = Duration::from_secs(10);

/// What a manager adds to its patience each time; told again with every beat.
const EXTENSION: Duration = Duration::from_secs(30);

/// How many services a status names of each kind.
const NAMED_MAX: usize = 5;

/// The longest reason in a status, in bytes.
const REASON_SIZE_MAX: usize = 300;

/// What a manager has been told, if there is one.
#[derive(Debug)]
pub(crate) struct Unit {
    managed: bool,
    phase: Phase,
    status: String,
    /// Why the last configuration that was read was not taken.
    refused: Option<String>,
    /// When the loop says next that it turns.
    beat_at: Instant,
    /// Whether a worker's state changed since the last beat.
    progressed: bool,
}

/// What the manager takes the application for.
#[derive(Debug, PartialEq)]
enum Phase {
    Starting,
    Ready,
    /// Until no reload is under way and these have come to something.
    Reloading(Touched),
}

/// What a reload changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Touched {
    /// Services that are added or get other workers.
    pub(crate) services: BTreeSet<ServiceId>,
    /// Services that are to be gone.
    pub(crate) leaving: Vec<ServiceId>,
}

impl Unit {
    /// Nothing was told yet. `managed` says whether somebody listens.
    pub(crate) fn new(managed: bool, now: Instant) -> Unit {
        Unit {
            managed,
            phase: Phase::Starting,
            status: String::new(),
            refused: None,
            beat_at: now,
            progressed: false,
        }
    }

    /// When [`App::beat`] is due.
    pub(crate) fn beat_at(&self) -> Instant {
        self.beat_at
    }

    /// A worker's state changed.
    pub(crate) fn progressed(&mut self) {
        self.progressed = true;
    }

    /// Another configuration is in force.
    pub(crate) fn reloaded(&mut self, touched: Touched) {
        self.refused = None;
        if let Phase::Reloading(awaited) = &mut self.phase {
            *awaited = touched;
        }
    }

    /// One was read and not taken.
    pub(crate) fn not_reloaded(&mut self, reason: &str) {
        let mut reason = reason.replace('\n', " ");
        reason.truncate(reason.floor_char_boundary(REASON_SIZE_MAX));
        self.refused = Some(reason);
    }
}

impl App {
    /// Says that the loop turns, and asks the manager for patience where that is needed.
    pub(crate) fn beat(&mut self, now: Instant) {
        self.unit.beat_at = now + BEAT;
        // What waits for the spawner to read will say so too.
        if !self.link.is_waiting() {
            self.link.request(Request::Beat, Vec::new());
        }
        if self.are_names_behind {
            self.write_names();
        }
        let progressed = std::mem::replace(&mut self.unit.progressed, false);
        let needs_time = match self.ending {
            // Each service has its own time to get ready, and one without was given all of it.
            Ending::No => self.unit.phase != Phase::Ready,
            // Each process has its grace, after which it is killed. One that the kernel does not let go of is left to the unit.
            Ending::Draining | Ending::Killing => progressed || self.fleet.deadline().is_some(),
            Ending::Over => false,
        };
        if needs_time {
            self.notify(format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
        }
    }

    /// Tells the manager what is new.
    pub(crate) fn tell_manager(&mut self) {
        if !self.unit.managed || self.ending == Ending::Over {
            return;
        }
        let is_stopping = self.ending != Ending::No;
        let goal = if is_stopping { Goal::Down } else { Goal::Up };
        let verdicts = self.fleet.verdicts(&Selection::All, goal);
        let becomes_ready = !is_stopping
            && match &self.unit.phase {
                Phase::Starting => verdicts.values().all(|verdict| *verdict != Verdict::Pending),
                Phase::Reloading(touched) => self.reloads.is_idle() && self.outcome_of(touched).is_some(),
                Phase::Ready => false,
            };
        let mut status = if is_stopping { stopping(&verdicts) } else { running(&verdicts) };
        if let Some(reason) = self.unit.refused.as_ref().filter(|_| !is_stopping) {
            status.push_str(&format!("; reload refused: {reason}"));
        }
        if becomes_ready || status != self.unit.status {
            let ready = if becomes_ready { "READY=1\n" } else { "" };
            self.notify(format!("{ready}STATUS={status}"));
            self.unit.status = status;
        }
        if becomes_ready {
            self.unit.phase = Phase::Ready;
        }
    }

    /// A configuration is read again. Each time anew, also while the one before is not over: a manager that asked for it by a signal
    /// (`Type=notify-reload`) knows by the time that this is its answer.
    pub(crate) fn tell_reloading(&mut self) {
        let touched = match &self.unit.phase {
            // It learns that when everything is ready for the first time.
            Phase::Starting => return,
            Phase::Ready => Touched::default(),
            Phase::Reloading(touched) => touched.clone(),
        };
        self.unit.phase = Phase::Reloading(touched);
        // The clock is there on every Linux, and is not negative.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.notify(format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// The end begins. Whoever knocks from now on waits for the next life, if there is one: this one could only turn them away.
    pub(crate) fn tell_stopping(&mut self) {
        if self.unit.managed {
            for bound in self.gateway.values() {
                (0..self.threads).for_each(|thread| {
                    self.proxy_link.remove_listener(&gateway::name(bound.number, thread));
                });
            }
        }
        self.notify("STOPPING=1".to_owned());
    }

    /// Tells the manager, if there is one.
    pub(crate) fn notify(&mut self, text: String) {
        if self.unit.managed {
            self.link.request(Request::Notify { text }, Vec::new());
        }
    }
}

/// `3 services ready`, or how many of how many, and what the others are.
fn running(verdicts: &BTreeMap<ServiceId, Verdict>) -> String {
    let of = |wanted: fn(&Verdict) -> bool| -> Vec<&str> {
        verdicts.iter().filter(|(_, verdict)| wanted(verdict)).map(|(service, _)| service.as_str()).collect()
    };
    let well = of(|verdict| matches!(verdict, Verdict::Ready | Verdict::Completed)).len();
    if well == verdicts.len() {
        return format!("{} ready", counted(well as u64, "service"));
    }
    let others = [
        ("unready", of(|verdict| matches!(verdict, Verdict::Unready))),
        ("failed", of(|verdict| matches!(verdict, Verdict::Failed { .. }))),
        ("starting", of(|verdict| matches!(verdict, Verdict::Pending))),
        ("waiting", of(|verdict| matches!(verdict, Verdict::Blocked { .. }))),
        ("stopped", of(|verdict| matches!(verdict, Verdict::Down | Verdict::Overruled))),
    ];
    let mut text = format!("{well} of {} ready", counted(verdicts.len() as u64, "service"));
    for (word, names) in others.iter().filter(|(_, names)| !names.is_empty()) {
        text.push_str(&format!("; {word}: {}", some_of(names)));
    }
    text
}

fn stopping(verdicts: &BTreeMap<ServiceId, Verdict>) -> String {
    let left = verdicts.iter().filter(|(_, verdict)| **verdict == Verdict::Pending);
    let left: Vec<&str> = left.map(|(service, _)| service.as_str()).collect();
    match left.len() {
        0 => "stopping".to_owned(),
        count => {
            format!(
                "stopping, {count} of {} left: {}",
                counted(verdicts.len() as u64, "service"),
                some_of(&left)
            )
        }
    }
}

fn some_of(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let named = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(of: &[(&str, Verdict)]) -> BTreeMap<ServiceId, Verdict> {
        of.iter().map(|(name, verdict)| (ServiceId::new(name).unwrap(), verdict.clone())).collect()
    }

    #[test]
    fn a_status_counts_what_is_well_and_names_the_rest() {
        let check = |of: &[(&str, Verdict)], expected: &str| assert_eq!(running(&verdicts(of)), expected);
        check(&[("a", Verdict::Ready)], "1 service ready");
        check(&[("a", Verdict::Ready), ("job", Verdict::Completed)], "2 services ready");
        check(
            &[
                ("a", Verdict::Ready),
                ("b", Verdict::Failed { exit: None }),
                ("c", Verdict::Pending),
                ("d", Verdict::Down),
            ],
            "1 of 4 services ready; failed: b; starting: c; stopped: d",
        );
        let many: Vec<String> = (0..8).map(|number| format!("s{number}")).collect();
        let many: Vec<(&str, Verdict)> = many.iter().map(|name| (name.as_str(), Verdict::Pending)).collect();
        check(&many, "0 of 8 services ready; starting: s0, s1, s2, s3, s4 and 3 more");
    }

    #[test]
    fn the_end_says_what_is_left() {
        let check = |of: &[(&str, Verdict)], expected: &str| assert_eq!(stopping(&verdicts(of)), expected);
        check(&[("a", Verdict::Down), ("b", Verdict::Pending)], "stopping, 1 of 2 services left: b");
        check(&[("a", Verdict::Down)], "stopping");
    }
}

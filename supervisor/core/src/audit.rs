//! How exposed a service leaves its host, its neighbours and watt when it is broken or hostile: a score, what it is made of,
//! the switch that would lower it most, and what such a service could do.
//!
//! The idea is that of `systemd-analyze security`: every door that can be shut is a check with a weight, and the exposure is the
//! share of the weight that stands open, from 0.0 (all shut) to 10.0 (all open). Checks and weights are our own: they are about
//! watt's switches, and about what its mesh, egress, secrets and limits do. docs/audit.md says why they weigh what they weigh.
//!
//! A [`Standing`] is a service as it is in force. What a host cannot do is to be taken out of it before ([`Service`] with the
//! switches left that hold), so that a switch that is written and not enforced counts as open.
//!
//! - [`checks`](Check) is the table of what is checked, `walls` looks at the sandbox, `grants` at the rest of a service.
//! - [`steps()`] tries each switch and scores again. `runtime` knows which programs a switch breaks.
//! - [`reach()`] says in words what the service can get at.
//!
//! Both `walls` and `grants`, and `steps`, take a service apart field by field: a switch that is added and not thought of here does
//! not compile.

mod checks;
mod grants;
mod reach;
mod runtime;
mod secrets;
mod steps;
mod walls;

use std::fmt;

pub use checks::{About, Area, Check};
pub use reach::{Fact, Section, reach};
pub use secrets::look_like_secrets;
pub use steps::{Seen, Step, steps, with_profile};

use crate::plan::{Plan, Service};

/// As open as a door can be.
const WIDE: u8 = 10;

/// A service as it is in force.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The application: the other services, policies, who may control it, its ceiling.
    pub plan: &'a Plan,
    /// The service.
    pub service: &'a Service,
    /// What is not written in it.
    pub host: Circumstances,
}

/// What decides about a service and is not in its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether root started watt.
    pub is_root: bool,
    /// Whether Landlock knows signals and abstract sockets (version 6).
    pub landlock_scopes: bool,
    /// Whether secrets are in file systems that their worker alone sees.
    pub private_secrets: bool,
}

impl Circumstances {
    /// A host that can do everything, for root: what a configuration alone is judged by.
    pub const COMPLETE: Circumstances =
        Circumstances { is_root: true, landlock_scopes: true, private_secrets: true };
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// How open that door is, from 0 to 10.
    pub open: u8,
    /// How it stands, in a few words. They may have the configuration's paths and names in them.
    pub note: String,
}

/// Whether a door is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is.
    Present,
    /// In part.
    Partial,
    /// It stands open.
    Absent,
}

/// How exposed a service leaves everything else: hundredths, from 0 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exposure(u16);

/// An exposure in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Below 3.0.
    Ok,
    /// Below 5.5.
    Medium,
    /// Below 8.0.
    Exposed,
    /// The rest.
    Unsafe,
}

/// Everything that is checked about a service, in the order of [`Check::ALL`].
pub fn findings(standing: &Standing<'_>) -> Vec<Finding> {
    let mut findings = walls::findings(standing);
    findings.extend(grants::findings(standing));
    findings.sort_by_key(|finding| finding.check);
    findings
}

/// The exposure of a service.
pub fn exposure(standing: &Standing<'_>) -> Exposure {
    Exposure::of(&findings(standing))
}

impl Finding {
    fn new(check: Check, open: u8, note: impl Into<String>) -> Finding {
        Finding { check, open: open.min(WIDE), note: note.into() }
    }

    /// Whether the door is shut.
    pub fn state(&self) -> State {
        match self.open {
            0 => State::Present,
            WIDE.. => State::Absent,
            _ => State::Partial,
        }
    }

    /// What it adds to the exposure.
    pub fn adds(&self) -> Exposure {
        Exposure::share(u32::from(self.open) * self.check.weight())
    }
}

impl Exposure {
    /// The share of the weight that stands open.
    pub fn of(findings: &[Finding]) -> Exposure {
        Exposure::share(findings.iter().map(|finding| u32::from(finding.open) * finding.check.weight()).sum())
    }

    /// Of so many tenths of weight.
    fn share(open: u32) -> Exposure {
        let all = checks::weight_of_all() * u32::from(WIDE);
        let hundredths = (open * 1000 + all / 2) / all;
        Exposure(u16::try_from(hundredths).unwrap_or(1000).min(1000))
    }

    /// From 0 to 1000.
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// As it is printed and compared: from 0 to 100.
    pub fn tenths(self) -> u16 {
        (self.0 + 5) / 10
    }

    /// In one word.
    pub fn level(self) -> Level {
        match self.tenths() {
            0..30 => Level::Ok,
            30..55 => Level::Medium,
            55..80 => Level::Exposed,
            80.. => Level::Unsafe,
        }
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.tenths() / 10, self.tenths() % 10)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Ok => "OK",
            Level::Medium => "MEDIUM",
            Level::Exposed => "EXPOSED",
            Level::Unsafe => "UNSAFE",
        })
    }
}

#[cfg(test)]
mod tests;

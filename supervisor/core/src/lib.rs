//! The model and the decisions of watt: names, the plan, states, events and effects.
//!
//! Nothing here reads a clock, a file, a socket or the environment, and nothing here starts anything. Time and
//! events come in, effects go out; the daemon performs them (ARCHITECTURE.md, "watt-core").

pub mod audit;
pub mod diff;
pub mod fleet;
pub mod jobs;
pub mod names;
pub mod plan;
pub mod probe;
pub mod sandbox;
pub mod scaling;
pub mod syscalls;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod worker;

pub use names::{AppName, JobId, NameError, RunId, ServiceId, WorkerId};

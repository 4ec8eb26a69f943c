//! The exec stage: from a fresh clone to the service's program.
//!
//! The spawner clones `watt-exec`, a small static program, which reads a [`plan::LaunchPlan`] from a sealed
//! memfd, applies it step by step and executes the program. A step that fails is reported by name, object and
//! error number; success is the end of the report socket, which execve(2) closes.

pub mod plan;

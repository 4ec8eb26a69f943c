//! The daemon: one event loop that owns all state of an application, asks `watt-core` what to do, and does it.
//!
//! ```text
//! spawner ──messages──┐                        ┌──requests──▶ spawner
//! proxy   ──messages──┤                        ├──snapshot──▶ proxy
//! probes  ──events────┼─▶ app (one loop) ─▶ watt-core ─▶ effects ─▶ perform
//! control ──commands──┤                        ├──replies───▶ control
//! signals ────────────┘                        └──events────▶ event stream
//! ```
//!
//! Handling an event never waits. Tasks beside the loop wait, read and serve, and talk to it by message.

pub mod addresses;
pub mod launch;
pub mod places;

#[cfg(test)]
mod testing;
pub mod words;
mod holder;
mod record;

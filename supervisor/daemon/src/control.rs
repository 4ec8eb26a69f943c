//! The control server: HTTP/1.1 with JSON over the application's control socket (`watt_api::control`).
//!
//! It decides nothing. A request is checked for form, becomes a [`Command`] to the loop, and the loop's answer becomes
//! the reply; events and output are read from where they are kept.

mod command;

pub use command::{Command, Refusal, Reply, Services};

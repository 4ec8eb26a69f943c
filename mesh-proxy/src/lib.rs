//! See ARCHITECTURE.md.

mod dns;
pub mod http;
pub mod thread;
mod link;

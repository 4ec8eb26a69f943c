//! The mesh proxy: one process that carries an application's traffic. It answers clients at the gateway, carries
//! calls between services and to the outside, and answers name questions. See ARCHITECTURE.md and docs/mesh.md.
//!
//! - The process: [`run()`] starts the threads; `control` takes the daemon's orders over `link` and keeps track with
//!   `registry`, `drains`, `sockets` and `counts`.
//! - A thread: `threads` runs one; `listeners` accepts; `context` is what its connections share.
//! - A connection: [`http`] for requests, after `tls` where that is spoken, as `entrances` has it; `mesh_port`, `egress`, `host_port` and `tunnel` for bytes; `dns` for names;
//!   `caller` asks the kernel who it is.

mod access;
mod affinity;
mod auth;
mod balance;
mod bells;
mod breaker;
mod cache;
mod caller;
mod clients;
mod context;
mod control;
mod counts;
mod destination;
mod diag;
mod dispatch;
mod dns;
mod drains;
mod edges;
mod egress;
mod ejection;
mod entrances;
mod failures;
mod files;
mod forwarded;
mod gate;
mod guards;
mod host_port;
pub mod http;
mod http2;
mod latency;
mod link;
mod listeners;
pub mod lost;
mod mesh_port;
mod meter;
mod names;
pub mod pages;
mod patience;
mod pool;
mod process;
mod proxy_protocol;
mod refusals;
mod registry;
pub mod respond;
mod retries;
mod room;
pub mod route;
mod run;
mod sockets;
mod table;
#[cfg(test)]
mod testing;
pub mod thread;
mod threads;
mod timer;
mod tls;
mod to_https;
mod trace;
mod troubles;
mod tunnel;
mod view;
mod worker;

pub use run::{RunError, Settings, run};

//! The spawner process, and the daemon's handle to it.
//!
//! The spawner is the parent of everything an application runs: daemon, proxy and workers. It clones, reaps,
//! and holds what must outlive a daemon: pidfds, output pipes, listeners, exits and the daemon's own notes.
//! It is one thread that waits in one place ([`run`]), decides nothing about services, and does nothing that
//! can block: so it has no reason to die, and when it does, everything below it does too.
//!
//! ```text
//! run ─ Lock              one spawner per application
//!     └ Spawner           the loop: signals, the daemon's socket, report sockets, timers
//!        ├ daemon         keeps a daemon running
//!        ├ outbox         what the daemon was not yet told, and the list
//!        ├ requests       what the daemon asks for
//!        ├ runs, errands  processes in the exec stage and in their programs
//!        ├ follow         a run that goes on in another process
//!        ├ listeners      sockets that outlive their users
//!        ├ discard        what is to be closed, and may wait long then
//!        ├ manager        systemd, when that started us
//!        ├ notes          what it says itself, on a disk that may hang
//!        ├ upgrade        another program takes over, with all of this in a table (handover, table)
//!        └ ending         the end of all
//! ```
//!
//! # With the daemon
//!
//! - Messages to a daemon wait in a queue when it does not read. Requests are not read while that queue is
//!   long, so it grows only by what runs do: two messages for each. A daemon that reads nothing for 30
//!   seconds while something waits is killed and replaced.
//! - A daemon that closes its socket and does not end is killed as well, and so is one that says nothing for 30 seconds: its loop
//!   sends [`protocol::Request::Beat`] every 10 when there is nothing else. One that is still starting has five minutes.
//! - Without a daemon everything goes on; the next one learns it from the list.
//! - SIGTERM, SIGINT (both as SIGTERM) and SIGHUP are passed to the daemon once it has sent its first
//!   request, which it must do with its handlers installed. A daemon that dies before it answered SIGTERM
//!   with [`protocol::Request::Exit`] leaves it to its successor. When none lives for a minute that could do it, because it cannot be started
//!   or dies at once, the spawner kills everything and ends; a quarter of that when it was asked twice.

mod daemon;
mod discard;
mod ending;
mod errands;
mod follow;
pub mod format;
mod handle;
mod handover;
mod journal;
mod launch;
mod listeners;
mod lock;
mod manager;
mod notes;
mod outbox;
mod probe;
pub mod protocol;
mod requests;
mod runs;
mod spawner;
mod stage;
mod table;
mod upgrade;
mod wire;

pub use daemon::{DAEMON_REFUSED, SILENCE_MAX, SPAWNER_FD_VARIABLE, STALL_MAX};
pub use handle::Handle;
pub use handover::rehearse;
pub use probe::{ProbeError, probe_host};
pub use spawner::{Error, Settings, run};
pub use stage::exec_stage;
pub use table::TableError;
pub use upgrade::Resume;

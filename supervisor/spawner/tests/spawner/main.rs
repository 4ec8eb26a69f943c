//! A real spawner, driven through the daemon's handle.
//!
//! This program is everything in turn, by [`role::VARIABLE`]: the tests, the spawner they start, and the
//! daemon that the spawner starts, which hands its socket to the tests. So it has a main of its own and a
//! small runner in place of the usual one: a spawner must have one thread, and a test of the usual kind never
//! has.

mod app;
mod bounds;
mod daemons;
mod follow;
mod managed;
mod pids;
mod role;
mod runner;
mod runs;
mod sockets;
mod upgrade;

use std::process::ExitCode;

fn main() -> ExitCode {
    role::take().unwrap_or_else(|| {
        let all = [
            runs::all(),
            pids::all(),
            follow::all(),
            sockets::all(),
            bounds::all(),
            daemons::all(),
            managed::all(),
            upgrade::all(),
        ];
        runner::run(&all.concat())
    })
}

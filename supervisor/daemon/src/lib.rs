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
//!
//! - [`run`] is the whole life of a daemon. `start` does everything up to the first event, `adopt` takes over what an
//!   earlier daemon left.
//! - `app` is the loop; `news` (what others say), `operate` (what operators ask) and `perform` (what `watt-core` wants) are
//!   its hands.
//! - `unit` tells a service manager how it goes.
//! - `audit`, `launch`, `filter`, `addresses`, `places`, `snapshot`, `status`, `record` are pure: the same facts give the same answer.

#![forbid(unsafe_code)]

mod adopt;
mod analysis;
mod apis;
mod app;
mod beside;
mod call;
mod ceilings;
mod cgroups;
mod check_command;
mod containment;
mod exits;
mod fd_store;
mod gateway;
mod holder;
mod hooks;
mod host_probe;
mod in_force;
mod jobs;
mod life;
mod limit_hits;
mod limit_of;
mod limits;
mod metrics;
mod name_files;
mod news;
mod oom;
mod operate;
mod pace;
mod perform;
mod place;
mod proxies;
mod proxy;
mod record;
mod reload;
mod rolls;
mod runs;
mod scaling;
mod seat;
mod secret_command;
mod secrets;
mod settings;
mod spawner_link;
mod stalls;
mod start;
mod starts;
mod status;
mod tasks;
mod tenure;
mod unit;
mod upgrade;
mod upstreams;
mod usage;
mod watches;

pub mod addresses;
pub mod audit;
mod autoscale;
pub mod control;
pub mod doctor;
pub mod events;
mod file_watch;
pub mod filter;
mod folders;
pub mod graph;
pub mod journal;
pub mod launch;
pub mod listening;
pub mod logs;
pub mod own_log;
pub mod places;
pub mod proxy_link;
mod purges;
pub mod readiness;
pub mod routes;
pub mod snapshot;
pub mod timestamp;
pub mod title;
mod tls;
pub mod words;

#[cfg(test)]
mod testing;

use std::{io, process::ExitCode};

use app::{App, Signals};
use nix::sys::stat::{Mode, umask};
use places::Places;
use settings::StartError;
use spawner_link::SpawnerLink;
use start::{Connection, Held};
use watt_spawner::DAEMON_REFUSED;

pub use settings::Settings;

/// Gives the kernel back what a start, or a rush of changes, took and what is not needed afterwards.
pub fn give_back_memory() {
    watt_os::heap::trim();
    if let Err(error) = watt_os::program::let_go_of_code() {
        tracing::debug!("code that is not used stays mapped: {error}");
    }
}

/// What a program says that rehearses to take over, once it has shown that it can read the configuration in force: one line of JSON.
///
/// # Errors
/// Why it cannot.
pub fn rehearse(plan: std::os::fd::RawFd, app: &str) -> Result<String, String> {
    let offer = upgrade::rehearse(plan, app)?;
    serde_json::to_string(&offer).map_err(|error| error.to_string())
}

/// Descriptors of a daemon with some hundred workers. Room for so many takes 32 KiB.
const DESCRIPTORS: i32 = 4096;

/// Runs the daemon until its application is over. Needs the spawner's socket ([`watt_spawner::Handle::from_env`]).
///
/// What is said goes to `journal` as well, unless the configuration turns that off; it is a layer of the log that the caller has set
/// up.
///
/// A start that fails leaves its reason in [`Places::error`], ends the spawner, and returns
/// [`DAEMON_REFUSED`]. Whatever ends a daemon later is a crash, after which the spawner starts a successor.
pub fn run(settings: Settings, journal: Option<journal::Own>) -> ExitCode {
    title::set("daemon", &settings.app);
    watt_os::heap::be_small();
    // What is made here has the mode that is asked for, whatever the operator's mask is.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    // Each worker takes some descriptors. A lower limit is met later, with an error that says so.
    if let Err(error) = watt_os::rlimit::raise_nofile() {
        tracing::warn!("the limit of open files cannot be raised: {error}");
    }
    watt_os::rlimit::make_room(DESCRIPTORS);
    // What a crash would leave has secrets in it, for the moment in which they are handed on.
    let no_core = watt_os::rlimit::Limit { soft: 0, hard: 0 };
    if let Err(error) = watt_os::rlimit::set(None, watt_os::rlimit::Resource::Core, no_core) {
        tracing::warn!("core dumps cannot be turned off: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(beside::THREADS_MAX)
        .build();
    let places = Places { runtime: settings.runtime.clone(), state: settings.state.clone() };
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(&settings, &places, journal.as_ref())),
        Err(source) => Err(Failure::Start(StartError::Runtime { what: "start a runtime", source })),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Start(error)) => {
            error.leave(&places);
            ExitCode::from(u8::try_from(DAEMON_REFUSED).unwrap_or(1))
        }
        Err(Failure::Successor(error)) => {
            tracing::error!("cannot take over: {}", words::chain(&error));
            ExitCode::FAILURE
        }
        Err(Failure::Spawner(error)) => {
            tracing::error!("the connection to the spawner failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How a daemon failed.
enum Failure {
    /// The application cannot be started: for its user to read.
    Start(StartError),
    /// A running application cannot be taken over. The spawner tries again with another one.
    Successor(StartError),
    /// The spawner has gone, and everything else with it.
    Spawner(io::Error),
}

async fn serve(settings: &Settings, places: &Places, journal: Option<&journal::Own>) -> Result<(), Failure> {
    // Before the first message to the spawner, which passes signals on from then on.
    let signals = Signals::catch();
    let signals =
        signals.map_err(|source| Failure::Start(StartError::Runtime { what: "catch signals", source }))?;
    let link = SpawnerLink::from_env();
    let link =
        link.map_err(|source| Failure::Start(StartError::Spawner { doing: "taking it over", source }))?;
    let mut connection = Connection::new(link);
    let held = connection.list().await.map_err(Failure::Start)?;
    let failed = match held.has_predecessor() {
        true => Failure::Successor,
        false => Failure::Start,
    };
    let app = begin(settings, places, journal, connection, held, signals).await.map_err(failed)?;
    app.run().await.map_err(Failure::Spawner)
}

async fn begin(
    settings: &Settings,
    places: &Places,
    journal: Option<&journal::Own>,
    mut connection: Connection,
    held: Held,
    signals: Signals,
) -> Result<App, StartError> {
    let start = match start::start(settings, places, &mut connection, &held).await {
        Ok(start) => start,
        Err(error) => {
            connection.refuse(&error, places, &held);
            return Err(error);
        }
    };
    // Known only now, and written in the configuration if at all.
    let is_on = start.plan.logs.journal.unwrap_or(settings.is_on_journal);
    if let Some(journal) = journal {
        journal.set(is_on);
    }
    App::begin(start, settings.journal(is_on), connection, held, signals)
}

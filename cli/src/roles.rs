//! The processes that `wattctl` becomes: each role sets up its own log and hands over.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io,
    num::NonZeroUsize,
    panic,
    process::ExitCode,
    thread,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};
use watt_supervisor::{journal, own_log::OwnLog, words};

use crate::args;

/// `wattctl spawner`
pub fn spawner(arguments: args::Spawner) -> ExitCode {
    if let Some(plan) = arguments.rehearse {
        return rehearse(&arguments, plan);
    }
    let command = watt_spawner::Resume::strip(std::env::args_os());
    watt_supervisor::title::set("spawner", &arguments.app);
    let args::Spawner { lock, daemon, managed, journal, app, resume, or_else, because, rehearse: _ } =
        arguments;
    let resume = resume.map(|table| watt_spawner::Resume { table, or_else, because });
    let journal =
        journal.then(|| journal::Target::new(&app, std::env::var_os(journal::SOCKET_VARIABLE).as_deref()));
    let settings = watt_spawner::Settings {
        lock,
        daemon,
        journal: journal.map(|journal| (journal.socket, journal.app)),
        stall_max: watt_spawner::STALL_MAX,
        silence_max: watt_spawner::SILENCE_MAX,
        managed,
        own_program: true,
        command,
        resume,
    };
    match watt_spawner::run(&settings) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => failed("spawner", &error),
    }
}

/// `wattctl spawner … --rehearse`: shows that this program could take over, and changes nothing.
fn rehearse(arguments: &args::Spawner, plan: i32) -> ExitCode {
    let rehearse = || -> Result<String, String> {
        let table = arguments.resume.ok_or("there is no table")?;
        watt_spawner::rehearse(table).map_err(|error| words::chain(&error))?;
        watt_supervisor::rehearse(plan, &arguments.app)
    };
    match rehearse() {
        Ok(offer) => {
            println!("{offer}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// `wattctl daemon`
pub fn daemon(arguments: args::Daemon) -> ExitCode {
    let args::Daemon { app, file, runtime, state, journal: is_on_journal } = arguments;
    let target = journal::Target::new(&app, std::env::var_os(journal::SOCKET_VARIABLE).as_deref());
    // The configuration, which is not read yet, may turn it on or off.
    let journal = journal::Own::open(&target, is_on_journal).ok();
    let log = match OwnLog::start(io::stderr()) {
        Ok(log) => log,
        Err(error) => return failed("daemon", &error),
    };
    tracing_subscriber::registry().with(journal.clone()).with(file_layer(&log)).with(filter()).init();
    panic::set_hook(Box::new(tell_panic));
    watt_supervisor::run(
        watt_supervisor::Settings { app, file, runtime, state, is_on_journal, journal: target },
        journal,
    )
}

/// `wattctl mesh-proxy`
pub fn mesh_proxy(arguments: args::MeshProxy) -> ExitCode {
    let log = match OwnLog::start(io::stderr()) {
        Ok(log) => log,
        Err(error) => return failed("mesh-proxy", &error),
    };
    tracing_subscriber::registry().with(file_layer(&log)).with(filter()).init();
    panic::set_hook(Box::new(tell_panic));
    watt_supervisor::title::set("mesh-proxy", &arguments.app);
    let threads = arguments.threads.and_then(NonZeroUsize::new);
    let settings = watt_mesh_proxy::Settings {
        threads,
        give_back_memory: watt_supervisor::give_back_memory,
        ..watt_mesh_proxy::Settings::default()
    };
    match watt_mesh_proxy::run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed("mesh-proxy", &error),
    }
}

/// The last line of a process: said as the others are, since the disk may be why it fails.
fn failed(role: &str, error: &dyn std::error::Error) -> ExitCode {
    let line = format!("{role}: {}\n", words::chain(error));
    match OwnLog::start(io::stderr()) {
        Ok(log) => log.queue().say(line.as_bytes()),
        // Without a thread there is nobody else to say it.
        Err(_) => eprint!("{line}"),
    }
    ExitCode::FAILURE
}

/// One JSON object a line, for `watt.log`: standard error leads there.
fn file_layer<S: Subscriber + for<'a> LookupSpan<'a>>(log: &OwnLog) -> impl Layer<S> + use<S> {
    tracing_subscriber::fmt::layer::<S>().json().with_writer(log.queue())
}

/// A panic is an event like others. The standard hook would write to the file itself, and wait for its disk, in the thread that
/// panics: for a task that is the loop's.
fn tell_panic(panic: &panic::PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let thread = thread::current();
    let thread = thread.name().unwrap_or_default();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(thread, %backtrace, "{panic}"),
        _ => tracing::error!(thread, "{panic}"),
    }
}

/// `WATT_LOG` sets the level, `info` without it.
fn filter() -> EnvFilter {
    EnvFilter::try_from_env("WATT_LOG").unwrap_or_else(|_| "info".into())
}

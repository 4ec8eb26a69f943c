//! The processes that `wattctl` becomes: each role sets up its own log and hands over.

use std::{num::NonZeroUsize, process::ExitCode};

use watt_supervisor::words;

use crate::args;

/// `wattctl spawner`
pub fn spawner(arguments: args::Spawner) -> ExitCode {
    watt_supervisor::title::set("spawner", &arguments.app);
    let args::Spawner { lock, daemon, .. } = arguments;
    match watt_spawner::run(&watt_spawner::Settings { lock, daemon, stall_max: watt_spawner::STALL_MAX }) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => failed("spawner", &error),
    }
}

/// `wattctl daemon`
pub fn daemon(arguments: args::Daemon) -> ExitCode {
    log_to_stderr();
    watt_supervisor::run(watt_supervisor::Settings {
        app: arguments.app,
        file: arguments.file,
        runtime: arguments.runtime,
        state: arguments.state,
    })
}

/// `wattctl mesh-proxy`
pub fn mesh_proxy(arguments: args::MeshProxy) -> ExitCode {
    log_to_stderr();
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

fn failed(role: &str, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{role}: {}", words::chain(error));
    ExitCode::FAILURE
}

/// One JSON object a line on standard error, which leads to `watt.log`. `WATT_LOG` sets the level, `info` without it.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WATT_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
}

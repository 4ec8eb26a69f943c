//! The proxy as a process of its own, seen from outside: through the listeners that are passed to it, and over its
//! link.

mod host_network;
mod private_network;
mod process;
mod room;
mod support;

use std::{num::NonZeroUsize, time::Duration};

/// Not a test: what [`support::Proxy`] executes.
#[test]
#[ignore = "started by the other tests in a process of its own"]
fn the_proxys_process() {
    let drain = std::env::var(support::DRAIN_MS).expect("started by a test").parse().unwrap();
    let settings = watt_mesh_proxy::Settings {
        threads: NonZeroUsize::new(2),
        drain_timeout: Duration::from_millis(drain),
        ..watt_mesh_proxy::Settings::default()
    };
    watt_mesh_proxy::run(&settings).unwrap();
}

//! What this host allows, found out by trying: kernels, sysctls, AppArmor and containers refuse the same things in many ways.
//!
//! One throw-away process tries everything in turn. What needs a namespace is only tried inside it: a redirection that
//! failed to get its namespace must not reach the host's network.

use std::{net::Ipv4Addr, path::Path};

use nix::unistd::geteuid;
use watt_os::{
    credentials, mount,
    netlink::{
        nft::{self, Redirect},
        route,
    },
};

use crate::{
    error::{About, Failed, StepError},
    plan::{Failure, Probe},
    steps::{
        mounts,
        network::{self, Sharing},
        user_namespace,
    },
};

/// The user and group of nobody on every distribution; whether they exist does not matter to the kernel.
const NOBODY: u32 = 65534;

/// Tries everything. Leaves this process in whatever it could enter.
pub(crate) fn probe() -> Probe {
    let user_namespace = match geteuid().is_root() {
        true => Ok(()),
        false => named("user_namespace", user_namespace::enter_new()),
    };
    let network_namespace = named("network", enter_network());
    let inside = network_namespace.clone();
    let any_ip = inside.clone().and_then(|()| named("any_ip", route::any_ip().about("AnyIP route")));
    let redirect = inside.and_then(|()| {
        named("redirect", nft::redirect(Redirect { mesh: 1, egress: Some(2) }).about("nftables"))
    });
    let mount_namespace = named("mounts", mount_something());
    // Last, because nothing of the above works afterwards.
    let change_user =
        named("credentials", credentials::change_to(NOBODY, NOBODY).about("uid 65534, gid 65534"));
    let untried = || named("untried", Err(StepError::invalid("untried".to_owned())));
    Probe {
        user_namespace,
        network_namespace,
        redirect,
        any_ip,
        mount_namespace,
        read_only: untried(),
        devices: untried(),
        pid_namespace: untried(),
        proc: untried(),
        proc_shared: untried(),
        sys: untried(),
        ipc_namespace: untried(),
        uts_namespace: untried(),
        cgroup_namespace: untried(),
        keyring: untried(),
        landlock: untried().map(|()| 0),
        seccomp: untried(),
        change_user,
        capabilities: untried(),
    }
}

fn enter_network() -> Result<(), StepError> {
    network::enter_new()?;
    network::listener(Ipv4Addr::LOCALHOST, 80, Sharing::No).map(drop)
}

fn mount_something() -> Result<(), StepError> {
    // A minimal system may be without the first; that files can be bound is as true there.
    let files = ["/etc/hosts", "/dev/null"];
    let file = files.into_iter().find(|file| Path::new(file).exists()).unwrap_or(files[0]);
    mounts::enter_new()?;
    mount::bind(Path::new(file), Path::new(file)).about(file)?;
    // A container's profile may allow the one and not the other.
    let folder = Path::new(file).parent().unwrap_or(Path::new("/"));
    mount::cover(folder).about("tmpfs")?;
    mount::make_read_only(folder).about("tmpfs")
}

fn named(step: &str, result: Result<(), StepError>) -> Result<(), Failure> {
    result.map_err(|error| Failed::new(step, &error).0)
}

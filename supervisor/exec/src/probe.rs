//! What this host allows, found out by trying: kernels, sysctls, AppArmor and containers refuse the same things in many ways.
//!
//! One throw-away process tries everything in turn, and others what only the init of a PID namespace can, and root's user namespace. What needs
//! a namespace is only tried inside it: a redirection that failed to get its namespace must not reach the host's network.

use std::{net::Ipv4Addr, path::Path};

use nix::{
    errno::Errno,
    sys::wait::{WaitStatus, waitpid},
    unistd::{Pid, geteuid},
};
use watt_os::{
    credentials, keyring, landlock,
    namespace::{self, Kind},
    netlink::{
        nft::{self, Redirect},
        route,
    },
    prctl,
    process::{self, Forked},
    seccomp,
};

use crate::{
    error::{About, Failed, StepError},
    plan::{Failure, HiddenFolder, HideProcesses, HostName, Mount, Probe},
    steps::{
        mounts::{self, Given},
        namespaces,
        network::{self, Sharing},
        user_namespace,
    },
};

/// The user and group of nobody on every distribution; whether they exist does not matter to the kernel.
const NOBODY: u32 = 65534;

/// Any capability but those that are needed here, by its number: CAP_SYS_BOOT.
const SOME_CAPABILITY: u32 = 22;

/// `BPF_RET | BPF_K` with SECCOMP_RET_ALLOW: a filter that allows everything.
const ALLOW_ALL: [u8; 8] = {
    let [code0, code1] = 0x06u16.to_ne_bytes();
    let [k0, k1, k2, k3] = 0x7fff_0000u32.to_ne_bytes();
    [code0, code1, 0, 0, k0, k1, k2, k3]
};

type Answer = Result<(), Failure>;

/// Tries everything. Leaves this process in whatever it could enter.
pub(crate) fn probe() -> Probe {
    let user_namespace = match geteuid().is_root() {
        // What is tried here is to belong to the namespaces of the host.
        true => in_child(|| user_namespace::enter_new().map_err(|error| error.errno)),
        false => named("user_namespace", user_namespace::enter_new()),
    };
    let network_namespace = named("network", enter_network());
    let any_ip = inside(&network_namespace, "any_ip", || route::any_ip().about("AnyIP route"));
    let redirect = inside(&network_namespace, "redirect", || {
        nft::redirect(Redirect { mesh: 1, egress: Some(2) }).about("nftables")
    });
    let uts = HostName::Own("watt-probe".to_owned());
    let uts_namespace = named("namespaces", namespaces::enter_uts(&uts));
    let ipc = named("namespaces", namespaces::enter_ipc());
    let own = mounts::cgroups::own().unwrap_or_default();
    let cgroup = named("namespaces", namespaces::enter_cgroup());

    let given = Given { cgroups: &own, ..Given::default() };
    let mounts = named("mounts", mounts::enter_new());
    let mount = |what: &[Mount]| inside(&mounts, "mounts", || mounts::make(what, &given));
    let mount_namespace = mount(&names_and_hidden());
    let sys = network_namespace.clone().and_then(|()| mount(&[Mount::Sys]));
    let cgroup_namespace = cgroup.and_then(|()| mount(&[Mount::Cgroups]));
    let devices = mount(&[Mount::Devices]);
    let ipc_namespace = ipc.and_then(|()| mount(&[empty("/dev"), Mount::Mqueue]));
    let (pid_namespace, proc) = as_init(&mounts);
    let proc_shared = mount(&[hidden_processes()]);
    // Everything mounted so far is under it.
    let read_only = mount(&read_only_root());

    let keyring = named("keyring", keyring::join_new().about("session keyring"));
    let landlock = landlock::abi().about("ABI").map_err(|error| Failed::new("landlock", &error).0);
    // Last, because little of the above works afterwards.
    let capabilities = credentials::limit_bounding_set(!(1 << SOME_CAPABILITY)).about("bounding set");
    let change_user = credentials::change_to(NOBODY, NOBODY, &[]).about("uid 65534, gid 65534");
    let seccomp = prctl::set_no_new_privs().and_then(|()| seccomp::install(&ALLOW_ALL)).about("filter");
    Probe {
        user_namespace,
        network_namespace,
        redirect,
        any_ip,
        mount_namespace,
        read_only,
        devices,
        pid_namespace,
        proc,
        proc_shared,
        sys,
        ipc_namespace,
        uts_namespace,
        cgroup_namespace,
        keyring,
        landlock,
        seccomp: named("seccomp", seccomp),
        change_user: named("credentials", change_user),
        capabilities: named("credentials", capabilities),
    }
}

fn named(step: &str, result: Result<(), StepError>) -> Answer {
    result.map_err(|error| Failed::new(step, &error).0)
}

/// Tries something that needs something else, whose failure is the answer otherwise.
fn inside(needed: &Answer, step: &str, attempt: impl FnOnce() -> Result<(), StepError>) -> Answer {
    needed.clone().and_then(|()| named(step, attempt()))
}

fn enter_network() -> Result<(), StepError> {
    network::enter_new()?;
    network::listener(Ipv4Addr::LOCALHOST, 80, Sharing::No).map(drop)
}

/// A file bound over another, and a folder of which only a part is seen. A container's profile may allow the one and not
/// the other.
fn names_and_hidden() -> [Mount; 2] {
    // A minimal system may be without the first; that files can be bound is as true there.
    let file = ["/etc/hosts", "/dev/null"].into_iter().map(Path::new).find(|file| file.exists());
    let file = file.unwrap_or(Path::new("/etc/hosts")).to_owned();
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let bind = Mount::Bind { source: file.clone(), target: file.clone(), read_only: true, optional: false };
    [bind, Mount::HideFolder(HiddenFolder { folder, keep: file })]
}

fn empty(target: &str) -> Mount {
    let target = target.into();
    Mount::Tmpfs { target, size: None, mode: 0o755, no_exec: true, read_only: false, optional: false }
}

fn hidden_processes() -> Mount {
    Mount::Proc { hide: HideProcesses::Invisible, processes_only: false }
}

fn read_only_root() -> [Mount; 3] {
    let path = |path: &str| path.into();
    [
        Mount::ReadOnly { path: path("/"), optional: false },
        Mount::Writable { path: path("/tmp"), optional: true },
        Mount::Inaccessible { path: path("/proc"), optional: false },
    ]
}

/// Tries something in a process of its own, which ends with an error number.
fn in_child(attempt: impl FnOnce() -> Result<(), i32>) -> Answer {
    let child = match process::fork().about("fork") {
        Ok(Forked::Child) => std::process::exit(attempt().err().unwrap_or(0)),
        Ok(Forked::Parent(child)) => Pid::from_raw(child.cast_signed()),
        Err(error) => return named("user_namespace", Err(error)),
    };
    match exit_status(child) {
        0 => Ok(()),
        errno => named("user_namespace", Err(StepError { object: "user namespace".to_owned(), errno })),
    }
}

fn exit_status(child: Pid) -> i32 {
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, status)) => status,
        Ok(_) | Err(_) => Errno::ECHILD as i32,
    }
}

/// Tries what only the init of a PID namespace can, as one: being it, and having a /proc of it.
fn as_init(mounts: &Answer) -> (Answer, Answer) {
    let made = namespace::enter_new(Kind::Pid).and_then(|()| process::fork()).about("PID namespace");
    let init = match made {
        Ok(Forked::Child) => std::process::exit(mount_proc()),
        Ok(Forked::Parent(init)) => Pid::from_raw(init.cast_signed()),
        Err(error) => {
            let refused = named("namespaces", Err(error));
            return (refused.clone(), refused);
        }
    };
    let errno = exit_status(init);
    let answer = if errno == 0 { Ok(()) } else { Err(StepError { object: "/proc".to_owned(), errno }) };
    (Ok(()), mounts.clone().and_then(|()| named("mounts", answer)))
}

/// The init's part. Returns its exit status: 0 or an error number, all of which fit.
fn mount_proc() -> i32 {
    // In a mount namespace of its own, or what follows here would see the processes of a namespace that is no more.
    let mounted = mounts::enter_new().and_then(|()| mounts::make(&[hidden_processes()], &Given::default()));
    mounted.map_or_else(|error| error.errno, |()| 0)
}

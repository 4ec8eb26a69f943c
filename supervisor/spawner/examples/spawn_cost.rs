//! What a spawn costs: `/bin/true` through the spawner and the exec stage, without walls and with every wall at once, against a
//! bare spawn of the standard library. Prints one table; `bench/run e` runs it. The program is its own spawner and its own
//! daemon. As an ordinary user it measures what that user gets.

use std::{
    ffi::OsString,
    io,
    process::Command,
    time::{Duration, Instant},
};

use nix::unistd::Uid;
use watt_exec::plan::{
    Capabilities, FileAccess, HideProcesses, HostName, Identity, Landlock, LandlockRule, LaunchPlan, Mount,
    Namespaces, PrivateNetwork, Task,
};
use watt_os::memfd;
use watt_spawner::{
    Handle, Settings,
    protocol::{Message, Request},
};

const ROUNDS: u64 = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).as_deref() == Some("daemon") {
        return Ok(measure()?);
    }
    let lock = std::env::temp_dir().join(format!("watt-spawn-cost-{}", std::process::id()));
    let daemon: Vec<OsString> = vec![std::env::current_exe()?.into(), "daemon".into()];
    let ended = watt_spawner::run(&Settings { lock: lock.clone(), daemon });
    std::fs::remove_file(lock)?;
    ended?;
    Ok(())
}

fn measure() -> io::Result<()> {
    let handle = Handle::from_env()?;
    let spawn = |first: u64, plan: LaunchPlan| -> io::Result<u128> {
        Ok(median((first..first + ROUNDS).map(|run| one(&handle, run, &plan)).collect::<io::Result<_>>()?))
    };
    let through = spawn(0, plan())?;
    let walled = spawn(ROUNDS, with_every_wall(plan()))?;
    let bare = (0..ROUNDS).map(|_| {
        let started = Instant::now();
        Command::new("/bin/true").spawn()?.wait()?;
        Ok(started.elapsed())
    });
    let bare = median(bare.collect::<io::Result<_>>()?);
    println!("\n### (e) spawn, exec and exit of /bin/true\n\n| by | median µs | × bare |\n|---|---|---|");
    let row =
        |name: &str, median: u128| println!("| {name} | {median} | {:.2} |", median as f64 / bare as f64);
    row("a bare spawn", bare);
    row("the spawner and the exec stage", through);
    row("the same with every wall", walled);
    handle.send(&Request::Exit { status: 0, join_cgroups: vec![], remove: vec![] }, &[])
}

fn median(mut times: Vec<Duration>) -> u128 {
    times.sort();
    times[times.len() / 2].as_micros()
}

fn plan() -> LaunchPlan {
    LaunchPlan {
        argv: vec![b"/bin/true".to_vec()],
        cwd: "/".into(),
        no_new_privs: true,
        ..LaunchPlan::default()
    }
}

/// Everything that a plan can ask for, as the strictest service would.
fn with_every_wall(plan: LaunchPlan) -> LaunchPlan {
    let user = !Uid::effective().is_root();
    let rule = |path: &str| LandlockRule { path: path.into(), access: FileAccess::READ, optional: true };
    LaunchPlan {
        user_namespace: user,
        network: Some(PrivateNetwork { redirect: true, egress: true, ..PrivateNetwork::default() }),
        namespaces: Namespaces {
            ipc: true,
            uts: Some(HostName::Own("watt".into())),
            cgroup: true,
            pid: true,
        },
        mounts: mounts(),
        identity: (!user).then_some(Identity { uid: 65534, gid: 65534, groups: Vec::new() }),
        capabilities: Some(Capabilities { bounding: 0, ambient: 0 }),
        keyring: true,
        landlock: Some(Landlock {
            handled: FileAccess::ALL,
            rules: ["/usr", "/lib", "/lib64", "/bin", "/etc", "/dev", "/proc", "/sys", "/tmp", "/var"]
                .map(rule)
                .into(),
            abstract_sockets: true,
            signals: true,
        }),
        seccomp: vec![filter(100)],
        ..plan
    }
}

fn mounts() -> Vec<Mount> {
    let tmpfs = |target: &str| Mount::Tmpfs {
        target: target.into(),
        size: None,
        mode: 0o1777,
        no_exec: false,
        read_only: false,
        optional: true,
    };
    let read_only = |path: &str| Mount::ReadOnly { path: path.into(), optional: true };
    let inaccessible = |path: &str| Mount::Inaccessible { path: path.into(), optional: true };
    let mut mounts =
        vec![read_only("/"), Mount::Proc { hide: HideProcesses::NotPtraceable, processes_only: false }];
    mounts.extend(["/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/sysrq-trigger"].map(read_only));
    mounts.extend(
        ["/proc/kcore", "/proc/kallsyms", "/proc/kmsg", "/proc/keys", "/boot", "/lib/modules"]
            .map(inaccessible),
    );
    mounts.extend([Mount::Sys, Mount::Cgroups, Mount::Devices, Mount::Mqueue]);
    mounts.extend(["/tmp", "/var/tmp", "/dev/shm", "/home", "/root", "/run/user"].map(tmpfs));
    mounts.extend(["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"].map(|file| Mount::Bind {
        source: file.into(),
        target: file.into(),
        read_only: true,
        optional: true,
    }));
    mounts
}

/// A filter of this many instructions that allows everything after it has compared the number with each.
fn filter(instructions: u32) -> Vec<u8> {
    let instruction = |code: u16, k: u32| [&code.to_ne_bytes()[..], &[0, 0], &k.to_ne_bytes()].concat();
    let compare = (0..instructions).map(|number| instruction(0x15, 10_000 + number));
    [instruction(0x20, 0)]
        .into_iter()
        .chain(compare)
        .chain([instruction(0x06, 0x7fff_0000)])
        .flatten()
        .collect()
}

fn one(handle: &Handle, run: u64, plan: &LaunchPlan) -> io::Result<Duration> {
    let started = Instant::now();
    let task = postcard::to_stdvec(&Task::Launch(Box::new(plan.clone()))).map_err(io::Error::other)?;
    let task = memfd::sealed(c"plan", &task)?;
    let (pid_namespace, user_namespace) = (plan.namespaces.pid, plan.user_namespace);
    let request =
        Request::Spawn { run, tag: vec![], cgroup: false, pid_namespace, user_namespace, pass: vec![] };
    handle.send(&request, &[std::os::fd::AsFd::as_fd(&task)])?;
    loop {
        match handle.recv()? {
            Some((Message::Exited { .. }, _)) => break,
            Some((Message::SpawnFailed { step, errno, .. }, _)) => return Err(failed(&step, "", errno)),
            Some((Message::ExecFailed { step, object, errno, .. }, _)) => {
                return Err(failed(&step, &object, errno));
            }
            Some(_) => {}
            // Nothing yet; the kernel gives the processor to who has work.
            None => std::thread::yield_now(),
        }
    }
    let took = started.elapsed();
    handle.send(&Request::Forget { run }, &[])?;
    Ok(took)
}

fn failed(step: &str, object: &str, errno: i32) -> io::Error {
    io::Error::other(format!("{step} {object}: {}", io::Error::from_raw_os_error(errno)))
}

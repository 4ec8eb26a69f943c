//! What a spawn costs: `/bin/true` through the spawner and the exec stage, without walls and with every wall at once, against a
//! bare spawn of the standard library. Prints one table; `bench/run e` runs it. The program is its own spawner and its own
//! daemon. As an ordinary user it measures what that user gets.

use std::{
    ffi::OsString,
    io,
    os::fd::AsFd,
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Uid,
};
use watt_exec::plan::{
    Capabilities, FileAccess, HideProcesses, HostName, Identity, Landlock, LandlockRule, LaunchPlan, Mount,
    Namespaces, PrivateNetwork, Task,
};
use watt_os::memfd;
use watt_spawner::{
    Handle, Settings,
    protocol::{Message, Request},
};

const ROUNDS: u64 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).as_deref() == Some("daemon") {
        return Ok(measure()?);
    }
    let lock = std::env::temp_dir().join(format!("watt-spawn-cost-{}", std::process::id()));
    let daemon: Vec<OsString> = vec![std::env::current_exe()?.into(), "daemon".into()];
    let ended = watt_spawner::run(&Settings {
        lock: lock.clone(),
        daemon,
        stall_max: watt_spawner::STALL_MAX,
        silence_max: watt_spawner::SILENCE_MAX,
        managed: false,
        own_program: false,
        command: Vec::new(),
        resume: None,
        journal: None,
    });
    std::fs::remove_file(lock)?;
    ended?;
    Ok(())
}

fn measure() -> io::Result<()> {
    let handle = Handle::from_env()?;
    // A host on which nothing has a filter yet pays for the kernel's memory for them with the first one, and again when the
    // last one has gone. Workers live on.
    let other = LaunchPlan {
        argv: vec![b"/bin/sleep".to_vec(), b"600".to_vec()],
        seccomp: vec![filter(1)],
        ..plan()
    };
    start(&handle, 0, &other)?;
    let spawn = |first: u64, plan: LaunchPlan| -> io::Result<Cost> {
        Cost::median((first..first + ROUNDS).map(|run| one(&handle, run, &plan)).collect::<io::Result<_>>()?)
    };
    let through = spawn(1, plan())?;
    let walled = spawn(1 + ROUNDS, with_every_wall(plan()))?;
    let bare = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        let mut child = Command::new("/bin/true").spawn()?;
        let executed = begun.elapsed();
        child.wait()?;
        Ok(Cost { executed, ended: begun.elapsed() })
    });
    let bare = Cost::median(bare.collect::<io::Result<_>>()?)?;
    println!(
        "\n### (e) spawn, exec and exit of /bin/true\n\n| by | executed, median µs | ended, median µs | × bare |\n|---|---|---|---|"
    );
    let row = |name: &str, cost: Cost| {
        let (executed, ended) = (cost.executed.as_micros(), cost.ended.as_micros());
        println!(
            "| {name} | {executed} | {ended} | {:.2} |",
            cost.ended.as_secs_f64() / bare.ended.as_secs_f64()
        );
    };
    row("a bare spawn", bare);
    row("the spawner and the exec stage", through);
    row("the same with every wall", walled);
    handle.send(
        &Request::Exit { status: 0, join_cgroups: vec![], remove: vec![], remove_if_empty: vec![] },
        &[],
    )
}

/// How long it takes until the program is executed, and until it has ended.
#[derive(Clone, Copy)]
struct Cost {
    executed: Duration,
    ended: Duration,
}

impl Cost {
    fn median(costs: Vec<Cost>) -> io::Result<Cost> {
        let median = |of: fn(&Cost) -> Duration| {
            let mut times: Vec<Duration> = costs.iter().map(of).collect();
            times.sort();
            times.get(times.len() / 2).copied().ok_or_else(|| io::Error::other("nothing was measured"))
        };
        Ok(Cost { executed: median(|cost| cost.executed)?, ended: median(|cost| cost.ended)? })
    }
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

/// Starts a run and returns when its program was executed.
fn start(handle: &Handle, run: u64, plan: &LaunchPlan) -> io::Result<()> {
    let task = postcard::to_stdvec(&Task::Launch(Box::new(plan.clone()))).map_err(io::Error::other)?;
    let task = memfd::sealed(c"plan", &task)?;
    let (pid_namespace, user_namespace) = (plan.namespaces.pid, plan.user_namespace);
    let request = Request::Spawn {
        run,
        tag: vec![],
        cgroup: false,
        handed: 0,
        pid_namespace,
        user_namespace,
        pass: vec![],
    };
    handle.send(&request, &[task.as_fd()])?;
    wait(handle, |message| matches!(message, Message::Executed { .. }))
}

fn one(handle: &Handle, run: u64, plan: &LaunchPlan) -> io::Result<Cost> {
    let begun = Instant::now();
    start(handle, run, plan)?;
    let executed = begun.elapsed();
    wait(handle, |message| matches!(message, Message::Exited { .. }))?;
    let ended = begun.elapsed();
    handle.send(&Request::Forget { run }, &[])?;
    Ok(Cost { executed, ended })
}

/// Waits for a message, and fails when a run does.
fn wait(handle: &Handle, is_wanted: impl Fn(&Message) -> bool) -> io::Result<()> {
    loop {
        match handle.recv()? {
            Some((Message::SpawnFailed { step, errno, .. }, _)) => return Err(failed(&step, "", errno)),
            Some((Message::ExecFailed { step, object, errno, .. }, _)) => {
                return Err(failed(&step, &object, errno));
            }
            Some((message, _)) if is_wanted(&message) => return Ok(()),
            Some(_) => {}
            None => {
                poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
            }
        }
    }
}

fn failed(step: &str, object: &str, errno: i32) -> io::Error {
    io::Error::other(format!("{step} {object}: {}", io::Error::from_raw_os_error(errno)))
}

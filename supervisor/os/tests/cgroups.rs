//! Cgroups on the real kernel, whatever mode it is in: what the host enforces is seen to be enforced, and what it does not is
//! seen to be named. Everything is made in a tree of the test's own, and removed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read,
    net::TcpListener,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use watt_os::{
    cgroup::{Controller, Group, Host, IoLimits, LimitName, Limits, Mode, PressureOf, Reason, Tree},
    sock_diag::SockDiag,
};

const CAP: Duration = Duration::from_secs(30);

/// A worker's cgroup in a tree of its own.
struct Fixture {
    tree: Tree,
    group: Group,
    children: Vec<Child>,
}

impl Fixture {
    /// `None` where this user can make no cgroup; then the tree has said why.
    fn new(name: &str) -> Option<Fixture> {
        let host = Host::detect(Path::new("/")).unwrap();
        let tree = Tree::create(&host, &format!("test-{name}-{}", std::process::id()));
        if !tree.is_usable() {
            assert!(host.mode() == Mode::None || !tree.refusals().is_empty());
            return None;
        }
        // No process is moved into `supervisor`: the test is not alone in its process. On v2 this turns controllers on.
        tree.enter_supervisor(&[]).unwrap();
        let group = tree.worker("api", "0");
        tree.make(&group, &every()).unwrap();
        Some(Fixture { tree, group, children: Vec::new() })
    }

    /// Runs a script inside, from its first instruction on.
    fn run(&mut self, script: &str) -> &mut Child {
        let procs = self.procs();
        let enter = "while [ $1 != -- ]; do echo 0 > $1; shift; done; shift; eval \"$1\"";
        let mut command = Command::new("/bin/bash");
        command.args(["-c", enter, "bash"]).args(&procs).args(["--", script]);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        self.children.push(child);
        self.children.last_mut().unwrap()
    }

    /// `cgroup.procs` of every hierarchy.
    fn procs(&self) -> Vec<PathBuf> {
        let mut procs = self.group.legacy_tasks();
        if let Some(dir) = self.group.open_unified().unwrap() {
            let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
            procs.push(fs::read_link(format!("/proc/self/fd/{number}")).unwrap().join("cgroup.procs"));
        }
        procs
    }

    /// A file of the group, in whichever hierarchy has it.
    fn file(&self, name: &str) -> String {
        let found =
            self.procs().into_iter().map(|procs| procs.with_file_name(name)).find(|path| path.exists());
        fs::read_to_string(found.unwrap_or_else(|| panic!("no {name}"))).unwrap().trim().to_owned()
    }

    fn has(&self, name: &str) -> bool {
        self.procs().into_iter().any(|procs| procs.with_file_name(name).exists())
    }

    fn is_enforced(&self, limits: &Limits, limit: LimitName) -> bool {
        !self.group.set_limits(limits).iter().any(|missing| missing.limit == limit)
    }

    fn empty(&self) {
        eventually("the group is empty", || !self.group.is_populated());
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may not have entered the group yet.
            let _ = child.kill();
            let _ = child.wait();
        }
        eventually("the group can be removed", || {
            let _ = self.group.kill();
            self.group.remove().is_ok()
        });
        for dir in self.tree.way_out().remove {
            let _ = fs::remove_dir(dir.join("app"));
            let _ = fs::remove_dir(dir.join("supervisor"));
            let _ = fs::remove_dir(dir);
        }
    }
}

/// The controllers of all limits.
fn every() -> BTreeSet<Controller> {
    use Controller::{Cpu, Cpuset, Hugetlb, Io, Memory, Pids};
    [Memory, Cpu, Cpuset, Pids, Io, Hugetlb].into()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + CAP;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in {CAP:?}: {what}");
        poll(&mut [], PollTimeout::from(2u8)).unwrap();
    }
}

fn read_line(child: &mut Child) -> String {
    let mut line = Vec::new();
    let stdout = child.stdout.as_mut().unwrap();
    let mut byte = [0];
    while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn a_memory_hog_is_killed_and_counted() {
    let Some(mut fixture) = Fixture::new("oom") else { return };
    let limits = Limits { memory: Some(32 << 20), oom_group: true, ..Limits::default() };
    if !fixture.is_enforced(&limits, LimitName::Memory) {
        return;
    }
    assert_eq!(fixture.group.events().oom_kills, 0);
    // tail keeps the whole "line" in memory.
    let status = fixture.run("head -c 300m /dev/zero | tail > /dev/null").wait().unwrap();
    assert!(!status.success());
    let events = fixture.group.events();
    assert!(events.oom_kills >= 1, "{events:?}");
    if Host::detect(Path::new("/")).unwrap().mode() == Mode::Unified {
        assert!(events.memory_limit_hits >= 1, "{events:?}");
    }
    fixture.empty();
}

#[test]
fn an_end_without_a_kill_for_memory_is_not_counted_as_one() {
    let Some(mut fixture) = Fixture::new("no-oom") else { return };
    fixture.group.set_limits(&Limits { memory: Some(64 << 20), ..Limits::default() });
    fixture.run("kill -9 $$").wait().unwrap();
    assert_eq!(fixture.group.events().oom_kills, 0);
}

#[test]
fn processes_beyond_the_limit_are_refused_and_counted() {
    let Some(mut fixture) = Fixture::new("pids") else { return };
    let limits = Limits { pids: Some(8), ..Limits::default() };
    if !fixture.is_enforced(&limits, LimitName::Pids) {
        return;
    }
    fixture.run("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done; wait");
    eventually("the limit is met", || fixture.group.events().pids_limit_hits > 0);
    assert!(fixture.group.members().len() <= 8);
    assert!(fixture.group.usage().pids.unwrap() <= 8);
}

#[test]
fn limits_change_in_place_up_down_and_away() {
    let Some(mut fixture) = Fixture::new("change") else { return };
    assert_eq!(read_line(fixture.run("echo up; sleep 600")), "up");
    let host = Host::detect(Path::new("/")).unwrap();
    let (memory, pids, cpu) = match host.mode() {
        Mode::Unified => ("memory.max", "pids.max", "cpu.max"),
        _ => ("memory.limit_in_bytes", "pids.max", "cpu.cfs_quota_us"),
    };
    for bytes in [64u64 << 20, 32 << 20, 128 << 20] {
        let limits =
            Limits { memory: Some(bytes), pids: Some(50), cpu_millis: Some(500), ..Limits::default() };
        let missing = fixture.group.set_limits(&limits);
        let is_missing = |limit| missing.iter().any(|entry| entry.limit == limit);
        if !is_missing(LimitName::Memory) {
            assert_eq!(fixture.file(memory), bytes.to_string());
        }
        if !is_missing(LimitName::Pids) {
            assert_eq!(fixture.file(pids), "50");
        }
        if !is_missing(LimitName::Cpu) {
            assert_eq!(fixture.file(cpu).split(' ').next(), Some("50000"));
        }
    }
    assert_eq!(fixture.group.set_limits(&Limits::default()), []);
    if fixture.procs().iter().any(|procs| procs.with_file_name(pids).exists()) {
        assert_eq!(fixture.file(pids), "max");
    }
}

/// As the kernel has them afterwards. What this host does not do is named, and not looked for.
#[test]
fn every_limit_of_memory_is_the_kernels() {
    let Some(fixture) = Fixture::new("memory") else { return };
    let megabytes = |count: u64| Some(count << 20);
    let limits = Limits {
        memory: megabytes(64),
        swap: megabytes(8),
        memory_high: megabytes(48),
        memory_low: megabytes(32),
        memory_min: megabytes(16),
        oom_group: true,
        ..Limits::default()
    };
    let missing: Vec<LimitName> =
        fixture.group.set_limits(&limits).into_iter().map(|missing| missing.limit).collect();
    let is_unified = Host::detect(Path::new("/")).unwrap().mode() == Mode::Unified;
    let files = match is_unified {
        true => vec![
            (LimitName::Memory, "memory.max", 64 << 20),
            (LimitName::MemoryHigh, "memory.high", 48 << 20),
            (LimitName::MemoryLow, "memory.low", 32 << 20),
            (LimitName::MemoryMin, "memory.min", 16 << 20),
            (LimitName::OomGroup, "memory.oom.group", 1),
        ],
        false => vec![(LimitName::Memory, "memory.limit_in_bytes", 64 << 20)],
    };
    let swap =
        if is_unified { ("memory.swap.max", 8 << 20) } else { ("memory.memsw.limit_in_bytes", 72 << 20) };
    let is_set = |file: &str, value: u64| assert_eq!(fixture.file(file), value.to_string(), "{file}");
    for (limit, file, value) in files {
        if !missing.contains(&limit) {
            is_set(file, value);
        }
    }
    // There is no such file where swap is not counted.
    if !missing.contains(&LimitName::Swap) && fixture.has(swap.0) {
        is_set(swap.0, swap.1);
    }
    if is_unified && !missing.contains(&LimitName::Memory) {
        assert_eq!(missing, [], "v2 with its memory controller has all of them");
    }
}

#[test]
fn a_weight_of_cpu_time_is_the_kernels() {
    let Some(fixture) = Fixture::new("weight") else { return };
    if fixture.is_enforced(&Limits { cpu_weight: Some(50), ..Limits::default() }, LimitName::CpuWeight) {
        match Host::detect(Path::new("/")).unwrap().mode() {
            Mode::Unified => assert_eq!(fixture.file("cpu.weight"), "50"),
            _ => assert_eq!(fixture.file("cpu.shares"), "512"),
        }
    }
}

#[test]
fn processes_stay_on_their_cpus_and_may_come_back() {
    let Some(mut fixture) = Fixture::new("cpuset") else { return };
    let limits = Limits { cpus: [0].into(), ..Limits::default() };
    if !fixture.is_enforced(&limits, LimitName::Cpuset) {
        return;
    }
    let pid = fixture.run("sleep 600").id();
    let allowed = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned()
    };
    eventually("it is on its CPU", || allowed() == "0");
    assert_eq!(fixture.group.set_limits(&Limits::default()), []);
    let all = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    eventually("it may run everywhere", || allowed() == all.trim());
    // None of these is there.
    let limits = Limits { cpus: [4000].into(), ..Limits::default() };
    assert!(!fixture.is_enforced(&limits, LimitName::Cpuset));
}

#[test]
fn reading_from_a_disk_is_bounded_and_set_free() {
    let Some(fixture) = Fixture::new("io") else { return };
    let bounds = IoLimits { read_bytes: Some(1 << 20), ..IoLimits::default() };
    let limits = Limits { io: [("/".into(), bounds)].into(), ..Limits::default() };
    if !fixture.is_enforced(&limits, LimitName::Io) {
        return;
    }
    let file = match Host::detect(Path::new("/")).unwrap().mode() {
        Mode::Unified => "io.max",
        _ => "blkio.throttle.read_bps_device",
    };
    assert!(fixture.file(file).contains("1048576"), "{}", fixture.file(file));
    let bounds = IoLimits { write_ops: Some(100), ..bounds };
    let limits = Limits { io: [("/".into(), bounds), ("/proc".into(), bounds)].into(), ..Limits::default() };
    let missing: Vec<Reason> =
        fixture.group.set_limits(&limits).into_iter().map(|entry| entry.reason).collect();
    let no_device = Reason::NoDevice("/proc is not on a block device".into());
    match file {
        "io.max" => assert_eq!(missing, [no_device]),
        _ => assert_eq!(missing, [Reason::OnlyDirectWrites, no_device]),
    }
    assert_eq!(fixture.group.set_limits(&Limits::default()), []);
    assert_eq!(fixture.file(file), "");
}

#[test]
fn workers_share_the_ceiling_of_their_service() {
    let Some(mut fixture) = Fixture::new("ceiling") else { return };
    let service = fixture.tree.service("api");
    let limits = Limits { pids: Some(8), ..Limits::default() };
    if !service.set_limits(&limits).is_empty() {
        return;
    }
    fixture.run("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done; wait");
    eventually("the ceiling is met", || service.usage().pids == Some(8));
    let second = fixture.tree.create_worker("api", "1").unwrap();
    let refused = fixture.group.members().len() < 12;
    assert!(refused, "{:?}", fixture.group.members());
    // The kernel refuses forks, and lets a process move in that is there already.
    let mut command = Command::new("/bin/bash");
    command.args(["-c", "read; (:) && echo yes || echo no"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    second.join(child.id()).unwrap();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("yes"), "{output:?}");
    second.remove().unwrap();
}

#[test]
fn a_group_takes_the_processes_of_a_smaller_one_over() {
    let Some(mut fixture) = Fixture::new("grow") else { return };
    let whole = fixture.group.clone();
    fixture.group = whole.clone().only_for(&BTreeSet::new());
    assert_eq!(read_line(fixture.run("sleep 600 & echo up; wait")), "up");
    eventually("both are there", || fixture.group.members().len() == 2);
    whole.take_over(&fixture.group).unwrap();
    for dir in whole.directories() {
        assert_eq!(fs::read_to_string(dir.join("cgroup.procs")).unwrap().lines().count(), 2, "{dir:?}");
    }
    fixture.group = whole;
}

#[test]
fn nothing_survives_a_kill_whatever_it_forked() {
    let Some(mut fixture) = Fixture::new("kill") else { return };
    let child = fixture.run(
        "trap '' TERM HUP; setsid sleep 600 & (setsid bash -c 'sleep 600 & sleep 600' &); sleep 600 & echo up; wait",
    );
    assert_eq!(read_line(child), "up");
    eventually("all are there", || fixture.group.members().len() >= 5);
    assert!(fixture.group.is_populated());
    fixture.group.kill().unwrap();
    fixture.empty();
    assert_eq!(fixture.group.members(), [].into());
}

#[test]
fn a_fork_bomb_can_be_killed() {
    let Some(mut fixture) = Fixture::new("bomb") else { return };
    if !fixture.is_enforced(&Limits { pids: Some(60), ..Limits::default() }, LimitName::Pids) {
        return;
    }
    // It ends by itself after a while, in case the kill that is tested does not work.
    fixture.run("b() { while [ $SECONDS -lt 60 ]; do (b) & :; done; }; b");
    eventually("the bomb meets its limit", || fixture.group.events().pids_limit_hits > 0);
    eventually("the bomb is gone", || {
        fixture.group.kill().unwrap();
        !fixture.group.is_populated()
    });
}

#[test]
fn a_signal_reaches_every_member() {
    let Some(mut fixture) = Fixture::new("signal") else { return };
    let child = fixture.run("sleep 600 & (setsid sleep 600 &); echo up; wait");
    assert_eq!(read_line(child), "up");
    eventually("all are there", || fixture.group.members().len() >= 3);
    fixture.group.signal(15);
    fixture.empty();
}

#[test]
fn a_group_with_processes_is_not_removed() {
    let Some(mut fixture) = Fixture::new("busy") else { return };
    assert_eq!(read_line(fixture.run("echo up; sleep 600")), "up");
    assert_eq!(fixture.group.remove().unwrap_err().raw_os_error(), Some(nix::errno::Errno::EBUSY as i32));
    let worker = ("api".to_owned(), "0".to_owned());
    assert!(fixture.tree.workers().contains(&worker));
    fixture.group.kill().unwrap();
    fixture.empty();
    fixture.group.remove().unwrap();
    assert!(!fixture.tree.workers().contains(&worker));
    // Removing what has gone is no error, so a second try after a crash is none.
    fixture.group.remove().unwrap();
}

/// The directories of a group in which it can be frozen, with the file and the word for it.
fn freezers(fixture: &Fixture) -> Vec<(PathBuf, &'static str)> {
    let switches = [("cgroup.freeze", "1"), ("freezer.state", "FROZEN")];
    let dirs: Vec<PathBuf> = fixture.group.directories().cloned().collect();
    let files = dirs.iter().flat_map(|dir| switches.map(|(name, word)| (dir.join(name), word)));
    files.filter(|(file, _)| file.exists()).collect()
}

#[test]
fn a_frozen_group_is_thawed_and_one_that_is_frozen_above_is_named() {
    let Some(fixture) = Fixture::new("freeze") else { return };
    for (file, word) in freezers(&fixture) {
        assert_eq!(fixture.group.thaw().unwrap(), None);
        fs::write(&file, word).unwrap();
        assert_eq!(fixture.group.thaw().unwrap(), None, "{}", file.display());
        assert_ne!(fs::read_to_string(&file).unwrap().trim(), word, "{}", file.display());
        let service = file.parent().unwrap().parent().unwrap();
        let above = service.join(file.file_name().unwrap());
        fs::write(&above, word).unwrap();
        let named = fixture.group.thaw().unwrap();
        let thawed = if word == "1" { "0" } else { "THAWED" };
        fs::write(&above, thawed).unwrap();
        assert_eq!(named.as_deref(), Some(service));
        assert_eq!(fixture.group.thaw().unwrap(), None);
    }
}

#[test]
fn use_is_counted() {
    let Some(mut fixture) = Fixture::new("usage") else { return };
    let child = fixture.run("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo up; sleep 600");
    assert_eq!(read_line(child), "up");
    let usage = fixture.group.usage();
    assert!(usage.cpu_us.is_some_and(|us| us > 0), "{usage:?}");
    for (controller, value) in [(Controller::Memory, usage.memory), (Controller::Pids, usage.pids)] {
        assert!(value.is_none_or(|value| value > 0), "{controller:?} {usage:?}");
    }
    assert!(usage.memory_peak >= usage.memory);
}

#[test]
fn stalls_are_announced_and_counted() {
    let Some(mut fixture) = Fixture::new("pressure") else { return };
    let (stalled, window) = (Duration::from_millis(100), Duration::from_secs(2));
    let trigger = match fixture.group.pressure_trigger(PressureOf::Cpu, stalled, window) {
        Ok(trigger) => trigger,
        Err(error) => {
            assert_eq!(fixture.group.pressure(PressureOf::Cpu), None, "{error}");
            return eprintln!("skipped: this kernel does not count stalls of groups: {error}");
        }
    };
    assert_eq!(fixture.group.pressure(PressureOf::Cpu).map(|found| found.some_total), Some(Duration::ZERO));
    // More than have a CPU to run on.
    let spinners = std::thread::available_parallelism().map_or(4, |cpus| cpus.get() * 4);
    fixture.run(&format!("for _ in $(seq {spinners}); do (while :; do :; done) & done; wait"));
    let mut polled = [PollFd::new(trigger.as_fd(), PollFlags::POLLPRI)];
    let cap = PollTimeout::try_from(CAP).unwrap();
    assert_eq!(poll(&mut polled, cap), Ok(1), "nothing was announced");
    let found = fixture.group.pressure(PressureOf::Cpu).unwrap();
    assert!(found.some_total >= stalled, "{found:?}");
    let error = fixture.group.pressure_trigger(PressureOf::Memory, window * 2, window).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EINVAL as i32));
    fixture.group.kill().unwrap();
    fixture.empty();
}

#[test]
fn emptiness_is_announced() {
    let Some(mut fixture) = Fixture::new("events") else { return };
    let Some(mut events) = fixture.group.open_events().unwrap() else { return };
    assert_eq!(read_line(fixture.run("echo up; sleep 600")), "up");
    let populated = |file: &mut File| {
        let mut text = String::new();
        std::io::Seek::rewind(file).unwrap();
        file.read_to_string(&mut text).unwrap();
        text.contains("populated 1")
    };
    assert!(populated(&mut events));
    fixture.group.kill().unwrap();
    while populated(&mut events) {
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        assert_eq!(poll(&mut fds, PollTimeout::try_from(CAP).unwrap()).unwrap(), 1);
    }
}

#[test]
fn a_listener_names_the_cgroup_of_who_made_it() {
    let Some(mut fixture) = Fixture::new("diag") else { return };
    let Some(id) = fixture.group.id() else { return };
    let listen = "import socket, time; s = socket.create_server((\"127.0.0.1\", 0)); \
                  print(s.getsockname()[1], flush=True); time.sleep(600)";
    let port: u16 = read_line(fixture.run(&format!("exec python3 -c '{listen}'"))).parse().unwrap();
    let ours = TcpListener::bind("127.0.0.1:0").unwrap();
    let found = SockDiag::open().unwrap().listeners().unwrap();
    let cgroup_of = |port| found.iter().find(|listener| listener.address.port() == port).unwrap().cgroup;
    assert_eq!(cgroup_of(port), Some(id));
    assert_ne!(cgroup_of(ours.local_addr().unwrap().port()), Some(id));
}

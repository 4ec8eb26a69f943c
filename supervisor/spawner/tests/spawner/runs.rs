//! Runs: how they start, what is told of them, and how they end.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process,
};

use nix::{
    errno::Errno,
    sys::{signal::Signal, stat::Mode},
    unistd::{Uid, mkfifo},
};
use watt_exec::plan::{Credentials, LaunchPlan, Mount, Probe};
use watt_os::memfd;
use watt_spawner::protocol::{Message, Request, Stage};

use crate::{
    app::{App, drain, encode, eventually, program, sh, state},
    runner::{Case, cases},
};

pub(crate) fn all() -> Vec<Case> {
    cases![
        output_exit_status_and_usage_are_reported,
        a_signal_that_ends_a_run_is_named,
        an_ordinary_user_gets_the_same,
        a_program_that_cannot_be_executed_is_named,
        a_stage_that_is_killed_is_an_exec_failure,
        a_task_that_is_none_is_an_exec_failure,
        spawn_is_refused_with_its_reason,
        credentials_are_handed_on_and_not_kept,
        orphans_are_reaped,
        the_host_is_probed,
        a_run_starts_in_its_cgroup_and_the_end_removes_it,
        a_frozen_cgroup_is_refused_and_holds_nobody_up,
    ]
}

fn output_exit_status_and_usage_are_reported() {
    check_output(&App::start());
}

fn an_ordinary_user_gets_the_same() {
    check_output(&App::start_as_nobody());
}

fn check_output(app: &App) {
    let mut daemon = app.daemon();
    daemon.spawn(7, sh("echo out; echo error >&2; exit 3"));
    let (_, [_, stdout, stderr]) = daemon.spawned(7);
    daemon.executed(7);
    let exit = daemon.exited(7);
    assert_eq!((exit.code, exit.signaled, exit.core_dumped), (3, false, false));
    assert!(exit.rss_max > 100_000, "{exit:?}");
    assert!(exit.at_ms > 1_700_000_000_000, "{exit:?}");
    assert_eq!((drain(&stdout), drain(&stderr)), ("out\n".into(), "error\n".into()));
}

fn a_signal_that_ends_a_run_is_named() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("kill -SEGV $$"));
    let exit = daemon.exited(1);
    assert_eq!((exit.code, exit.signaled), (Signal::SIGSEGV as i32, true));
}

fn a_program_that_cannot_be_executed_is_named() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, program(&["/nowhere/at-all"]));
    daemon.spawned(1);
    let told: Vec<Message> = [daemon.next().0, daemon.next().0].into();
    let [Message::ExecFailed { run: 1, step, object, errno }, Message::Exited { run: 1, exit }] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((step.as_str(), *errno), ("exec", nix::libc::ENOENT));
    assert!(object.contains("/nowhere/at-all"), "{object}");
    assert!(exit.code != 0 && !exit.signaled, "{exit:?}");
}

fn a_stage_that_is_killed_is_an_exec_failure() {
    let app = App::start();
    let mut daemon = app.daemon();
    // The stage writes to this file before it does anything else, and there is no reader to let it.
    let fifo = app.folder.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let mut plan = sh("exit 0");
    plan.join_cgroups = vec![fifo];
    daemon.spawn(1, plan);
    let (pid, [pidfd, ..]) = daemon.spawned(1);
    eventually("the stage waits", || state(pid) == Some('S'));
    watt_os::pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    let told = [daemon.next().0, daemon.next().0];
    let [Message::ExecFailed { run: 1, step, object, .. }, Message::Exited { run: 1, exit }] = &told else {
        panic!("{told:?}")
    };
    assert_eq!(step, "stage");
    assert!(object.contains("signal 9"), "{object}");
    assert!(exit.signaled && exit.code == 9, "{exit:?}");
    let list = daemon.list();
    assert!(
        matches!(&list[1].0, Message::Run { stage: Stage::Failed { .. }, exit: Some(_), .. }),
        "{list:?}"
    );
}

fn a_task_that_is_none_is_an_exec_failure() {
    let app = App::start();
    let mut daemon = app.daemon();
    let task = memfd::sealed(c"plan", &[0xff; 64]).unwrap();
    let spawn = spawn_request(1, Vec::new(), false, &[]);
    daemon.send(&spawn, &[task.as_fd()]);
    daemon.spawned(1);
    daemon.wait(|message| matches!(message, Message::ExecFailed { run: 1, .. }).then_some(()));
    daemon.exited(1);
}

/// A request for a run in nobody's namespaces.
fn spawn_request(run: u64, tag: Vec<u8>, cgroup: bool, pass: &[&str]) -> Request {
    let pass = pass.iter().map(|name| (*name).to_owned()).collect();
    Request::Spawn { run, tag, cgroup, handed: 0, pid_namespace: false, user_namespace: false, pass }
}

fn spawn_is_refused_with_its_reason() {
    let app = App::start();
    let mut daemon = app.daemon();
    let task = encode(&sh("exit 0"));
    let mut refused = |request: Request, descriptors: &[&OwnedFd], expected: &str| {
        let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
        daemon.send(&request, &descriptors);
        let (step, _) = daemon.wait(|message| match message {
            Message::SpawnFailed { step, .. } => Some(step.clone()),
            _ => None,
        });
        assert_eq!(step, expected);
    };
    refused(spawn_request(1, Vec::new(), false, &[]), &[], "descriptors");
    refused(spawn_request(1, Vec::new(), true, &[]), &[&task], "descriptors");
    refused(spawn_request(1, Vec::new(), true, &[]), &[&task, &task], "cgroup");
    refused(spawn_request(1, Vec::new(), false, &[]), &[&task, &task], "descriptors");
    refused(spawn_request(1, Vec::new(), false, &["nothing"]), &[&task], "pass");
    refused(spawn_request(1, vec![0; 40_000], false, &[]), &[&task], "tag");
    daemon.send(&spawn_request(1, Vec::new(), false, &[]), &[task.as_fd()]);
    daemon.exited(1);
    daemon.send(&spawn_request(1, Vec::new(), false, &[]), &[task.as_fd()]);
    daemon
        .wait(|message| matches!(message, Message::SpawnFailed { step, .. } if step == "run").then_some(()));
}

/// A process in the end has them as files; neither it nor the spawner has what they came in.
fn credentials_are_handed_on_and_not_kept() {
    let app = App::start();
    let mut daemon = app.daemon();
    let credentials = Credentials { files: vec![("key".to_owned(), b"of the shop".to_vec())] };
    let memfd = memfd::sealed(c"their-values", &postcard::to_stdvec(&credentials).unwrap()).unwrap();
    let tmp = Mount::Tmpfs {
        target: "/tmp".into(),
        size: None,
        mode: 0o755,
        no_exec: false,
        read_only: false,
        optional: false,
    };
    let plan = LaunchPlan {
        mounts: vec![tmp, Mount::Credentials { target: "/tmp/own".into() }],
        user_namespace: !Uid::effective().is_root(),
        ..sh("cat /tmp/own/key; exec sleep 1000")
    };
    let user_namespace = plan.user_namespace;
    let request = Request::Spawn {
        run: 1,
        tag: Vec::new(),
        cgroup: false,
        handed: 1,
        pid_namespace: false,
        user_namespace,
        pass: Vec::new(),
    };
    daemon.send(&request, &[encode(&plan).as_fd(), memfd.as_fd()]);
    let (pid, [pidfd, stdout, _]) = daemon.spawned(1);
    daemon.executed(1);
    for holder in [app.spawner.id(), pid] {
        let links = fs::read_dir(format!("/proc/{holder}/fd")).unwrap().flatten();
        let links: Vec<PathBuf> = links.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        let holds = links.iter().any(|link| link.to_string_lossy().contains("their-values"));
        assert!(!holds, "{holder}: {links:?}");
    }
    eventually("it has read them", || {
        fs::read(format!("/proc/{pid}/cmdline")).unwrap().starts_with(b"sleep")
    });
    watt_os::pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    daemon.exited(1);
    assert_eq!(drain(&stdout), "of the shop");
}

fn orphans_are_reaped() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("(sleep 0.05 & echo $!; exec >&- 2>&-) ; exit 0"));
    let (_, [_, stdout, _]) = daemon.spawned(1);
    daemon.exited(1);
    let orphan: u32 = drain(&stdout).trim().parse().unwrap();
    // A zombie would still be in /proc.
    eventually("the orphan is reaped", || state(orphan).is_none());
}

fn the_host_is_probed() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.send(&Request::Probe, &[]);
    let (probe, _) = daemon.wait(|message| match message {
        Message::Probe { probe } => Some(probe.clone()),
        _ => None,
    });
    postcard::from_bytes::<Probe>(&probe).unwrap();
}

/// A cgroup v2 directory of our own below the present one, which ends with what is in it.
struct Cgroup {
    path: PathBuf,
    /// One in it, to start runs in.
    inner: PathBuf,
}

impl Cgroup {
    /// `None` where there is none that we may make.
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let path = Path::new(mount).join(own).join(format!("watt-test-spawner-{name}-{}", process::id()));
        let inner = path.join("inner");
        fs::create_dir(&path).and_then(|()| fs::create_dir(&inner)).ok()?;
        Some(Self { path, inner })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        eventually("the cgroup can be removed", || {
            let _ = fs::remove_dir(&self.inner);
            let _ = fs::remove_dir(&self.path);
            !self.path.exists()
        });
    }
}

fn a_run_starts_in_its_cgroup_and_the_end_removes_it() {
    let Some(cgroup) = Cgroup::new("start") else { return println!("no cgroup v2 here that we may use") };
    let (path, inner) = (&cgroup.path, &cgroup.inner);
    let mut app = App::start();
    let mut daemon = app.daemon();
    let task = encode(&sh("exec sleep 1000"));
    let directory = fs::File::open(inner).unwrap();
    daemon.send(&spawn_request(1, Vec::new(), true, &[]), &[task.as_fd(), directory.as_fd()]);
    let (pid, _) = daemon.spawned(1);
    daemon.executed(1);
    let found = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let name = inner.strip_prefix(path.parent().unwrap()).unwrap().display().to_string();
    assert!(found.lines().any(|line| line.starts_with("0::/") && line.ends_with(&name)), "{found}");
    // The spawner itself is in it as well, and leaves it at the end.
    fs::write(path.join("cgroup.procs"), app.spawner.id().to_string()).unwrap();
    let join_cgroups = vec![path.parent().unwrap().join("cgroup.procs")];
    let remove = vec![path.clone()];
    daemon.send(&Request::Exit { status: 0, join_cgroups, remove, remove_if_empty: Vec::new() }, &[]);
    drop(daemon);
    assert_eq!(app.wait().code(), Some(0));
    assert!(!path.exists());
}

/// The child of a clone is frozen before it executes, and until then its parent is suspended.
fn a_frozen_cgroup_is_refused_and_holds_nobody_up() {
    let Some(cgroup) = Cgroup::new("frozen") else { return println!("no cgroup v2 here that we may use") };
    let app = App::start();
    let mut daemon = app.daemon();
    let task = encode(&sh("exit 0"));
    let directory = fs::File::open(&cgroup.inner).unwrap();
    for frozen in [&cgroup.path, &cgroup.inner] {
        fs::write(frozen.join("cgroup.freeze"), "1").unwrap();
        daemon.send(&spawn_request(1, Vec::new(), true, &[]), &[task.as_fd(), directory.as_fd()]);
        let (refusal, _) = daemon.wait(|message| match message {
            Message::SpawnFailed { run: 1, step, errno } => Some((step.clone(), Errno::from_raw(*errno))),
            _ => None,
        });
        assert_eq!(refusal, ("cgroup.freeze".into(), Errno::EBUSY));
        fs::write(frozen.join("cgroup.freeze"), "0").unwrap();
    }
    daemon.send(&spawn_request(1, Vec::new(), true, &[]), &[task.as_fd(), directory.as_fd()]);
    assert_eq!(daemon.exited(1).code, 0);
}

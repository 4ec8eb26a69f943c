//! Runs that go on in another process than the one that was cloned for them.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    process::{Command, Stdio},
};

use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::Uid,
};
use watt_exec::plan::{LaunchPlan, PROGRAM_PID};
use watt_os::pidfd;
use watt_spawner::protocol::{Message, Request, WaitStatus};

use crate::{
    app::{App, Daemon, eventually, sh, state},
    pids::{apart, for_all},
    runner::Case,
    upgrade,
};

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("a_run_goes_on_in_an_orphan_and_ends_as_that_does", goes_on_in_an_orphan as fn()),
        ("a_run_goes_on_in_a_child_of_its_first_process", goes_on_in_a_child),
        ("a_child_that_is_left_to_the_spawner_ends_with_a_status", a_child_becomes_an_orphan),
        ("a_run_does_not_go_on_in_a_process_that_has_gone", does_not_go_on_in_what_has_gone),
        ("a_run_does_not_go_on_in_another_runs_process", does_not_go_on_in_anothers),
        ("an_end_that_somebody_else_looks_at_first_is_waited_for", a_traced_end_is_waited_for),
        ("in_own_pids_a_run_goes_on_in_an_orphan", goes_on_inside),
        ("in_own_pids_what_is_left_lives_on_until_it_ends", what_is_left_lives_on),
        ("in_own_pids_a_run_goes_on_in_a_child_of_its_first_process", goes_on_in_a_child_inside),
        ("in_own_pids_an_end_before_the_order_is_known", an_end_before_the_order_is_known),
        ("in_own_pids_one_that_names_itself_and_has_ended_is_not_lost", an_end_of_the_one_that_is_named),
        ("in_own_pids_an_order_is_answered_before_an_upgrade", an_order_is_answered_before_an_upgrade),
    ]
}

/// Starts a child that ends with 4 when there is a file `go`, or with 6 at TERM; then does this.
fn plan(app: &App, then: &str) -> LaunchPlan {
    plan_of(app, "trap \"exit 6\" TERM; echo up; until [ -e go ]; do sleep 0.01; done; exit 4", then)
}

/// Starts this child, prints its number, and does this.
fn plan_of(app: &App, child: &str, then: &str) -> LaunchPlan {
    let folder = app.folder.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    LaunchPlan { cwd: folder.into(), hands_over: true, ..sh(&format!("sh -c '{child}' & echo $!; {then}")) }
}

/// The number that was printed, when the child is there.
fn child(output: &OwnedFd) -> u32 {
    let mut file = fs::File::from(output.try_clone().unwrap());
    let mut text = String::new();
    eventually("the child is there", || {
        let _ = file.read_to_string(&mut text);
        text.lines().count() == 2
    });
    text.lines().find_map(|line| line.parse().ok()).unwrap()
}

fn start(daemon: &mut Daemon, plan: LaunchPlan) -> (u32, OwnedFd, u32) {
    daemon.spawn(1, plan);
    let (pid, [pidfd, output, _]) = daemon.spawned(1);
    daemon.executed(1);
    (pid, pidfd, child(&output))
}

fn follow(daemon: &mut Daemon, pid: u32, pidfd: Option<&OwnedFd>) -> bool {
    let passed: Vec<_> = pidfd.into_iter().map(AsFd::as_fd).collect();
    daemon.send(&Request::Follow { run: 1, pid }, &passed);
    let is_taken = |message: &Message| match message {
        Message::Followed { run: 1, taken } => Some(*taken),
        _ => None,
    };
    daemon.wait(is_taken).0
}

fn go(app: &App) {
    fs::write(app.folder.path().join("go"), "").unwrap();
}

fn told(daemon: &mut Daemon) -> (u32, Option<WaitStatus>) {
    let list = daemon.list();
    let run = list.into_iter().find_map(|(message, _)| match message {
        Message::Run { run: 1, pid, exit, .. } => Some((pid, exit)),
        _ => None,
    });
    run.unwrap()
}

fn goes_on_in_an_orphan() {
    let app = App::start();
    let mut daemon = app.daemon();
    let (first, _, next) = start(&mut daemon, plan(&app, "exit 0"));
    assert_eq!(daemon.exited(1).code, 0);
    let pidfd = pidfd::open(next).unwrap();
    assert!(follow(&mut daemon, next, Some(&pidfd)));
    let (pid, exit) = told(&mut daemon);
    assert!(pid == next && pid != first && exit.is_none(), "{exit:?}");
    go(&app);
    let exit = daemon.exited(1);
    assert_eq!((exit.code, exit.signaled), (4, false));
    // What the next daemon is told.
    daemon.kill();
    let mut daemon = app.daemon();
    assert_eq!(told(&mut daemon).1, Some(exit));
}

fn goes_on_in_a_child() {
    let app = App::start();
    let mut daemon = app.daemon();
    let (_, first, next) = start(&mut daemon, plan(&app, "wait; until [ -e end ]; do sleep 0.01; done"));
    let pidfd = pidfd::open(next).unwrap();
    assert!(follow(&mut daemon, next, Some(&pidfd)));
    go(&app);
    // Its parent has its status.
    assert!(!daemon.exited(1).is_seen());
    pidfd::send_signal(&first, 0).unwrap();
}

fn a_child_becomes_an_orphan() {
    let app = App::start();
    let mut daemon = app.daemon();
    let (_, first, next) = start(&mut daemon, plan(&app, "wait"));
    let pidfd = pidfd::open(next).unwrap();
    assert!(follow(&mut daemon, next, Some(&pidfd)));
    pidfd::send_signal(&first, Signal::SIGKILL as i32).unwrap();
    eventually("the first one is gone", || pidfd::send_signal(&first, 0).is_err());
    go(&app);
    let exit = daemon.exited(1);
    assert_eq!((exit.code, exit.signaled), (4, false));
}

fn does_not_go_on_in_what_has_gone() {
    let app = App::start();
    let mut daemon = app.daemon();
    let (_, _, next) = start(&mut daemon, plan(&app, "exit 3"));
    let pidfd = pidfd::open(next).unwrap();
    assert_eq!(daemon.exited(1).code, 3);
    go(&app);
    eventually("it has gone", || pidfd::send_signal(&pidfd, 0).is_err());
    assert!(follow(&mut daemon, next, Some(&pidfd)));
    assert!(!daemon.exited(1).is_seen());
    // Without a PID namespace of its own there is no init that could know a number.
    assert!(!follow(&mut daemon, 1, None));
    assert!(!daemon.exited(1).is_seen(), "told again");
}

/// A check inside the worker is a run of its own, and its end that run's.
fn does_not_go_on_in_anothers() {
    let app = App::start();
    let mut daemon = app.daemon();
    let (_, _, next) = start(&mut daemon, plan(&app, "wait"));
    daemon.spawn(2, sh("read line; exit 9"));
    let (other, [other_pidfd, ..]) = daemon.spawned(2);
    daemon.executed(2);
    let exit = daemon.exited(2);
    assert!(exit.code == 9 && !exit.signaled, "its input is empty: {exit:?}");
    daemon.spawn(3, sh("exec sleep 1000"));
    let (other_live, [live_pidfd, ..]) = daemon.spawned(3);
    daemon.executed(3);
    assert!(!follow(&mut daemon, other_live, Some(&live_pidfd)));
    pidfd::send_signal(&live_pidfd, Signal::SIGUSR1 as i32).unwrap();
    let exit = daemon.exited(3);
    assert_eq!((exit.code, exit.signaled), (Signal::SIGUSR1 as i32, true));
    // One that has ended is nobody's any more.
    assert!(follow(&mut daemon, other, Some(&other_pidfd)));
    assert!(!daemon.exited(1).is_seen());
    let pidfd = pidfd::open(next).unwrap();
    assert!(follow(&mut daemon, next, Some(&pidfd)));
    go(&app);
    assert!(!daemon.exited(1).is_seen());
}

/// Traces a process (PTRACE_SEIZE of ptrace(2)) until its input ends.
const TRACER: &str = "
import ctypes, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
if ptrace(0x4206, int(sys.argv[1]), None, None) != 0:
    sys.exit(f'it cannot be traced: error {ctypes.get_errno()}')
print('traced', flush=True)
sys.stdin.read()
";

/// Its pidfd says that it has ended, and nobody but the tracer may see how. It must not be looked at again and again meanwhile.
fn a_traced_end_is_waited_for() {
    let app = App::start();
    let mut daemon = app.daemon();
    // A signal, such as that of a child's end, would stop it for its tracer.
    nix::unistd::mkfifo(&app.folder.path().join("go"), Mode::S_IRWXU).unwrap();
    let plan = plan_of(&app, "echo up; read line < go; exit 4", "wait");
    let (_, first, next) = start(&mut daemon, plan);
    let pidfd = pidfd::open(next).unwrap();
    assert!(follow(&mut daemon, next, Some(&pidfd)));
    let mut tracer = Command::new("python3");
    tracer.args(["-c", TRACER, &next.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut tracer = tracer.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(tracer.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "traced\n");
    pidfd::send_signal(&first, Signal::SIGKILL as i32).unwrap();
    eventually("the first one is gone", || pidfd::send_signal(&first, 0).is_err());
    go(&app);
    eventually("it has ended", || state(next) == Some('Z'));
    // Whatever was asked before is answered, so that it has been noticed.
    let (pid, exit) = told(&mut daemon);
    assert!(pid == next && exit.is_none(), "{exit:?}");
    // One that looks all the time would hardly be found asleep once.
    let looks = || (0..100).all(|_| state(app.spawner.id()) == Some('S'));
    eventually("the spawner sleeps", looks);
    drop(tracer.stdin.take());
    assert!(tracer.wait().unwrap().success());
    let exit = daemon.exited(1);
    assert_eq!((exit.code, exit.signaled), (4, false));
}

fn goes_on_inside() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let (init, pidfd, next) = start(&mut daemon, apart(plan(app, "exit 0"), user));
        assert_eq!(daemon.exited(1).code, 0);
        assert!(follow(&mut daemon, next, None));
        // It gets the signals.
        pidfd::send_signal(&pidfd, Signal::SIGTERM as i32).unwrap();
        let exit = daemon.exited(1);
        assert_eq!((exit.code, exit.signaled), (6, false));
        eventually("the init has gone as well", || state(init).is_none());
    });
}

fn what_is_left_lives_on() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let (init, ..) = start(&mut daemon, apart(plan(app, "exit 5"), user));
        assert_eq!(daemon.exited(1).code, 5);
        assert!(state(init).is_some_and(|state| state != 'Z'), "the init is there");
        // A successor hears it as well.
        daemon.kill();
        let mut daemon = app.daemon();
        assert_eq!(told(&mut daemon).1.map(|exit| exit.code), Some(5));
        go(app);
        eventually("the init has gone", || state(init).is_none());
        assert_eq!(told(&mut daemon).1.map(|exit| exit.code), Some(5));
        assert!(!follow(&mut daemon, 2, None), "there is nobody to follow");
        assert_eq!(daemon.exited(1).code, 5, "told again");
    });
}

fn goes_on_in_a_child_inside() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let then = "wait; until [ -e end ]; do sleep 0.01; done; exit 7";
        let (init, pidfd, next) = start(&mut daemon, apart(plan(app, then), user));
        // One that is not there is not followed.
        assert!(follow(&mut daemon, 30_000, None));
        assert!(follow(&mut daemon, next, None));
        // One that had ended before the init looks at it would be none to follow.
        eventually("the init has looked at it", || {
            let open = fs::read_dir(format!("/proc/{init}/fd")).unwrap();
            let kinds = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            kinds.into_iter().any(|kind| kind.to_string_lossy().contains("pidfd"))
        });
        go(app);
        // Its parent has its status.
        assert!(!daemon.exited(1).is_seen());
        assert!(state(init).is_some_and(|state| state != 'Z'), "the init is there");
        pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    });
}

fn an_end_before_the_order_is_known() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let (init, pidfd, next) = start(&mut daemon, apart(plan(app, "sleep 1000 & exit 0"), user));
        assert_eq!(daemon.exited(1).code, 0);
        go(app);
        eventually("it has gone", || crate::app::children(init).len() == 1);
        assert!(follow(&mut daemon, next, None));
        let exit = daemon.exited(1);
        assert_eq!((exit.code, exit.signaled), (4, false));
        pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    });
}

fn an_end_of_the_one_that_is_named() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let (_, pidfd, _) = start(&mut daemon, apart(plan(app, "exit 5"), user));
        assert_eq!(daemon.exited(1).code, 5);
        assert!(follow(&mut daemon, PROGRAM_PID, None));
        assert_eq!(daemon.exited(1).code, 5, "it is told again, for the one that was named");
        pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    });
}

/// The end of the first process waits to be heard, and so do an order to follow another one and the upgrade: they are met in the worst order,
/// because the spawner stands still meanwhile and hears of ends first.
fn an_order_is_answered_before_an_upgrade() {
    let app = upgrade::start();
    let mut daemon = app.daemon();
    daemon.spawn(2, sh("exec sleep 1000"));
    let (_, [other, ..]) = daemon.spawned(2);
    let user = !Uid::effective().is_root();
    let first = plan(&app, "until [ -e end ]; do sleep 0.01; done; exit 5");
    let (init, _, next) = start(&mut daemon, apart(first, user));
    let program = crate::app::children(init);
    daemon.list();
    app.signal(Signal::SIGSTOP);
    eventually("it is stopped", || state(app.spawner.id()) == Some('T'));
    pidfd::send_signal(&other, Signal::SIGKILL as i32).unwrap();
    fs::write(app.folder.path().join("end"), "").unwrap();
    eventually("the init has told of the end", || {
        let children = crate::app::children(init);
        children.len() == 1 && children != program && state(init) == Some('S')
    });
    daemon.send(&Request::Follow { run: 1, pid: next }, &[]);
    upgrade::ask(&daemon, 1, &upgrade::copy(&app, "next"), 60_000);
    let before = daemon.pid;
    daemon.exit(0);
    eventually("the daemon has ended", || state(before) == Some('Z'));
    app.signal(Signal::SIGCONT);
    let mut daemon = app.daemon();
    assert_eq!(told(&mut daemon).1, None);
    go(&app);
    assert_eq!(daemon.exited(1).code, 4, "the end of the one that is followed");
}

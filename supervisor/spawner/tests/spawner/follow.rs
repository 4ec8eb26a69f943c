//! Runs that go on in another process than the one that was cloned for them.

use std::{
    fs,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
};

use nix::sys::signal::Signal;
use watt_exec::plan::LaunchPlan;
use watt_os::pidfd;
use watt_spawner::protocol::{Message, Request, WaitStatus};

use crate::{
    app::{App, Daemon, eventually, sh, state},
    pids::{apart, for_all},
    runner::Case,
};

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("a_run_goes_on_in_an_orphan_and_ends_as_that_does", goes_on_in_an_orphan as fn()),
        ("a_run_goes_on_in_a_child_of_its_first_process", goes_on_in_a_child),
        ("a_child_that_is_left_to_the_spawner_ends_with_a_status", a_child_becomes_an_orphan),
        ("a_run_does_not_go_on_in_a_process_that_has_gone", does_not_go_on_in_what_has_gone),
        ("in_own_pids_a_run_goes_on_in_an_orphan", goes_on_inside),
        ("in_own_pids_what_is_left_lives_on_until_it_ends", what_is_left_lives_on),
        ("in_own_pids_a_run_goes_on_in_a_child_of_its_first_process", goes_on_in_a_child_inside),
        ("in_own_pids_an_end_before_the_order_is_known", an_end_before_the_order_is_known),
    ]
}

/// Starts a child that ends with 4 when there is a file `go`, or with 6 at TERM; then does this.
fn plan(app: &App, then: &str) -> LaunchPlan {
    let child = "trap \"exit 6\" TERM; echo up; until [ -e go ]; do sleep 0.01; done; exit 4";
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

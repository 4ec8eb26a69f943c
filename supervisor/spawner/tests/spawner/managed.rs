//! What concerns life itself: a daemon that says nothing, and a service manager that wants to hear from the spawner. Its listeners over
//! a restart are in the tests of the whole program.

use std::{
    os::{fd::AsFd, unix::net::UnixDatagram},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::{Pid, read},
};
use watt_os::fdpass;
use watt_spawner::protocol::{Message, Request};

use crate::{
    app::{App, Daemon, PATIENCE, eventually, sh, state},
    bounds::full_pipe,
    role,
    runner::{Case, cases},
};

pub(crate) fn all() -> Vec<Case> {
    cases![
        a_daemon_that_says_nothing_any_more_is_replaced,
        a_daemon_that_hangs_is_killed_though_nobody_takes_the_note_on_it,
        a_daemon_that_is_still_starting_has_more_time,
        a_daemon_that_beats_lives,
        a_daemon_in_a_debugger_may_stand_still,
        a_spawner_that_overslept_does_not_blame_the_daemon,
        the_manager_is_told_that_we_live_and_what_the_daemon_says,
        a_manager_that_does_not_read_loses_nothing_but_time,
    ]
}

fn silence(milliseconds: u32) -> App {
    App::start_with(|command| {
        command.env(role::SILENCE_MS, milliseconds.to_string());
    })
}

fn signal(daemon: &Daemon, signal: Signal) {
    kill(Pid::from_raw(daemon.pid as i32), signal).unwrap();
}

/// The daemon of the tests' own loop says that it turns.
fn beat(daemon: &Daemon) {
    daemon.send(&Request::Beat, &[]);
}

fn a_daemon_that_says_nothing_any_more_is_replaced() {
    let app = silence(200);
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    daemon.executed(1);
    // Stopped, so that it would not even end by itself. What it says comes from here.
    signal(&daemon, Signal::SIGSTOP);
    beat(&daemon);
    let mut next = app.daemon();
    assert_ne!(next.pid, daemon.pid);
    let list = next.list();
    assert!(matches!(list[0].0, Message::Info { daemon_restarts: 1, managed: false, .. }));
    assert!(matches!(list[1].0, Message::Run { run: 1, exit: None, .. }), "what runs is not touched");
}

/// The log may be on the disk that the daemon hangs on.
fn a_daemon_that_hangs_is_killed_though_nobody_takes_the_note_on_it() {
    let (log, full, filled) = full_pipe();
    let app = App::start_with(|command| {
        command.env(role::SILENCE_MS, "200").stderr(full);
    });
    let daemon = app.daemon();
    signal(&daemon, Signal::SIGSTOP);
    beat(&daemon);
    eventually("it is killed", || matches!(state(daemon.pid), None | Some('Z')));
    // With room again, life goes on.
    assert_ne!(read(&log, &mut vec![0; filled]), Ok(0));
    assert_ne!(app.daemon().pid, daemon.pid);
}

fn a_daemon_that_is_still_starting_has_more_time() {
    let app = silence(500);
    let mut daemon = app.daemon();
    let pid = daemon.pid;
    // Its loop has not turned; a life of several silences is not too long.
    daemon.list();
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_millis(1200) {
        assert_ne!(state(pid), None);
        thread::park_timeout(Duration::from_millis(20));
    }
    assert!(matches!(daemon.list()[0].0, Message::Info { daemon_restarts: 0, .. }));
    // But it has a bound too.
    signal(&daemon, Signal::SIGSTOP);
    assert_ne!(app.daemon().pid, pid);
}

fn a_daemon_that_beats_lives() {
    let app = silence(2000);
    let mut daemon = app.daemon();
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_millis(4000) {
        beat(&daemon);
        thread::park_timeout(Duration::from_millis(50));
    }
    assert!(matches!(daemon.list()[0].0, Message::Info { daemon_restarts: 0, .. }));
}

fn a_daemon_in_a_debugger_may_stand_still() {
    let app = silence(200);
    let daemon = app.daemon();
    let (pid, tracee) = (daemon.pid, Pid::from_raw(daemon.pid as i32));
    let (attached, is_attached) = mpsc::channel();
    // A thread is a debugger, and its end lets go.
    let debugger = thread::spawn(move || {
        nix::sys::ptrace::attach(tracee).unwrap();
        attached.send(()).unwrap();
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_millis(1000) {
            assert!(!matches!(state(pid), None | Some('Z')), "it was killed");
            thread::park_timeout(Duration::from_millis(20));
        }
    });
    is_attached.recv().unwrap();
    beat(&daemon);
    debugger.join().unwrap();
    // Nobody holds it any more, and it says nothing.
    assert_ne!(app.daemon().pid, pid);
}

fn a_spawner_that_overslept_does_not_blame_the_daemon() {
    let app = silence(2000);
    let mut daemon = app.daemon();
    beat(&daemon);
    daemon.list();
    // As on a machine that was suspended: both stood still, and the spawner wakes first.
    app.signal(Signal::SIGSTOP);
    eventually("the spawner stops", || state(app.spawner.id()) == Some('T'));
    thread::park_timeout(Duration::from_millis(5000));
    app.signal(Signal::SIGCONT);
    eventually("the spawner goes on", || state(app.spawner.id()) == Some('S'));
    assert!(matches!(daemon.list()[0].0, Message::Info { daemon_restarts: 0, .. }));
}

/// A manager's socket, and a spawner that knows it.
fn managed(change: impl FnOnce(&mut Command)) -> (tempfile::TempDir, UnixDatagram, App) {
    let folder = tempfile::Builder::new().prefix("watt-test-").tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let app = App::start_with(|command| {
        command.env(role::MANAGED, "1").env("NOTIFY_SOCKET", &path);
        change(command);
    });
    (folder, manager, app)
}

/// The next thing that the manager is told.
#[track_caller]
fn told(manager: &UnixDatagram) -> String {
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    let ready = poll(&mut [PollFd::new(manager.as_fd(), PollFlags::POLLIN)], patience);
    assert_eq!(ready, Ok(1), "nothing was said");
    let mut buffer = [0; 8 << 10];
    let received = fdpass::receive(manager.as_fd(), &mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..received.length]).into_owned()
}

fn the_manager_is_told_that_we_live_and_what_the_daemon_says() {
    let (_folder, manager, app) = managed(|command| {
        command.env("WATCHDOG_USEC", "200000");
    });
    // Whatever becomes of the daemon.
    let mut daemon = app.daemon();
    signal(&daemon, Signal::SIGSTOP);
    for _ in 0..3 {
        assert_eq!(told(&manager), "WATCHDOG=1");
    }
    signal(&daemon, Signal::SIGCONT);
    assert!(matches!(daemon.list()[0].0, Message::Info { managed: true, .. }));
    daemon.send(&Request::Notify { text: "READY=1\nSTATUS=all is well".into() }, &[]);
    eventually("it is passed on", || told(&manager) == "READY=1\nSTATUS=all is well");
}

fn a_manager_that_does_not_read_loses_nothing_but_time() {
    let (_folder, manager, app) = managed(|_| {});
    let mut daemon = app.daemon();
    // More than a socket holds (net.unix.max_dgram_qlen), and fewer than are given up.
    let queue: usize =
        std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap().trim().parse().unwrap();
    let count = queue + 100;
    for number in 0..count {
        daemon.send(&Request::Notify { text: format!("STATUS={number}") }, &[]);
    }
    // The daemon is answered meanwhile.
    assert!(matches!(daemon.list()[0].0, Message::Info { .. }));
    for number in 0..count {
        assert_eq!(told(&manager), format!("STATUS={number}"));
    }
}

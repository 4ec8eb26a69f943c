//! One daemon after the other, and the life of the spawner itself: what a successor finds, who is replaced, how all of it ends.

use std::{
    fs,
    io::{Read, Write},
    os::fd::AsFd,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollTimeout, poll},
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use watt_os::memfd;
use watt_spawner::protocol::{Address, Message, Request, Stage};

use crate::{
    app::{App, PATIENCE, children, drain, eventually, idle, program, sh, spawner_command, state},
    bounds::{ask_for_lists, full_pipe, make_note},
    role,
    runner::{Case, cases},
    sockets::listen,
};

pub(crate) fn all() -> Vec<Case> {
    cases![
        a_successor_finds_runs_exits_and_every_line,
        the_successor_also_finds_values_kept_descriptors_and_tags,
        a_forgotten_run_is_gone_and_a_living_one_is_not,
        a_killed_spawner_takes_all_with_it,
        an_exit_during_a_list_is_told_once,
        the_last_requests_of_a_dead_daemon_count,
        a_daemon_that_closes_its_socket_is_replaced,
        a_daemon_that_reads_nothing_is_replaced,
        a_second_spawner_is_refused_with_the_pid,
        signals_are_passed_on_once_the_daemon_listens,
        a_stop_survives_the_daemon,
        a_stop_needs_no_daemon_that_cannot_live,
        a_daemon_that_lives_has_its_time_to_stop,
        a_refused_configuration_ends_the_spawner,
        a_daemon_that_cannot_be_executed_ends_the_spawner,
        exit_kills_what_is_left_and_clears_up,
        errands_end_with_the_daemon_that_asked,
        last_words_come_out_at_the_end,
        the_end_does_not_wait_for_a_writer_that_cannot_be_killed,
        a_daemon_that_cannot_be_killed_is_told_once,
        a_daemon_that_cannot_be_killed_is_replaced,
    ]
}

fn a_successor_finds_runs_exits_and_every_line() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done"));
    daemon.spawn(2, sh("exec sleep 1000"));
    daemon.spawned(1);
    let (pid, _) = daemon.spawned(2);
    daemon.executed(2);
    daemon.kill();
    let mut daemon = app.daemon();
    // The exit may be noted while nobody listens or afterwards: both must do.
    let list = daemon.list();
    assert!(matches!(list[0].0, Message::Info { daemon_restarts: 1, .. }), "{list:?}");
    let exit = match &list[1] {
        (Message::Run { run: 1, tag, exit: Some(exit), .. }, _) if tag == b"tag 1" => *exit,
        (Message::Run { run: 1, exit: None, .. }, _) => daemon.exited(1),
        other => panic!("{other:?}"),
    };
    assert_eq!(exit.code, 0);
    let lines = drain(&list[1].1[1]);
    assert_eq!(lines.lines().count(), 5000);
    assert!(lines.ends_with("line 4999\n"));
    let (Message::Run { run: 2, pid: found, stage: Stage::Executed, exit: None, .. }, descriptors) = &list[2]
    else {
        panic!("{list:?}")
    };
    assert_eq!((*found, descriptors.len()), (pid, 3));
    watt_os::pidfd::send_signal(&descriptors[0], Signal::SIGTERM as i32).unwrap();
    assert_eq!(daemon.exited(2).code, Signal::SIGTERM as i32);
}

fn the_successor_also_finds_values_kept_descriptors_and_tags() {
    let app = App::start();
    let mut daemon = app.daemon();
    let kept = memfd::sealed(c"kept", b"content").unwrap();
    daemon.send(&Request::Keep { name: "plan".into() }, &[kept.as_fd()]);
    daemon.send(&Request::Put { key: "a".into(), value: b"one".to_vec() }, &[]);
    daemon.send(&Request::Put { key: "b".into(), value: b"two".to_vec() }, &[]);
    daemon.send(&Request::Put { key: "a".into(), value: Vec::new() }, &[]);
    daemon.send(&Request::Put { key: "c".into(), value: vec![0; 40_000] }, &[]);
    daemon.spawn(1, sh("exit 0"));
    daemon.exited(1);
    daemon.send(&Request::Tag { run: 1, tag: b"other".to_vec() }, &[]);
    // These requests may be unread when the daemon dies. They count nevertheless.
    daemon.kill();
    let list = app.daemon().list();
    assert!(
        matches!(&list[1].0, Message::Run { run: 1, tag, exit: Some(_), .. } if tag == b"other"),
        "{list:?}"
    );
    assert_eq!(list[2].0, Message::Value { key: "b".into(), value: b"two".to_vec() });
    assert_eq!(list[3].0, Message::Kept { name: "plan".into() });
    assert_eq!(memfd::read_sealed(list[3].1[0].as_fd(), 100).unwrap(), b"content");
    assert_eq!(list.len(), 4);
}

fn a_forgotten_run_is_gone_and_a_living_one_is_not() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exit 0"));
    daemon.spawn(2, sh("exec sleep 1000"));
    daemon.exited(1);
    daemon.executed(2);
    daemon.send(&Request::Forget { run: 1 }, &[]);
    daemon.send(&Request::Forget { run: 2 }, &[]);
    daemon.send(&Request::Forget { run: 3 }, &[]);
    let (_, [pidfd, ..]) = daemon.spawned(2);
    daemon.spawned(1);
    daemon.executed(1);
    let list = daemon.list();
    assert!(matches!(list[1].0, Message::Run { run: 2, exit: None, .. }), "{list:?}");
    assert_eq!(list.len(), 2);
    watt_os::pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    daemon.exited(2);
}

fn a_killed_spawner_takes_all_with_it() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    let (pid, _) = daemon.spawned(1);
    daemon.executed(1);
    app.signal(Signal::SIGKILL);
    let gone = |pid| state(pid).is_none_or(|state| state == 'Z');
    eventually("the run ends", || gone(pid));
    eventually("the daemon ends", || gone(daemon.pid));
}

fn an_exit_during_a_list_is_told_once() {
    let app = App::start();
    let mut daemon = app.daemon();
    // Many runs before the one in question, so that a list that is stuck is most likely stuck before it.
    for run in 0..50 {
        daemon.spawn(run, program(&["/bin/true"]));
    }
    daemon.spawn(1000, sh("read -r forever < /dev/zero"));
    let (pid, [pidfd, ..]) = daemon.spawned(1000);
    daemon.executed(1000);
    for run in 0..50 {
        daemon.spawned(run);
        daemon.executed(run);
        daemon.exited(run);
    }
    let asked = ask_for_lists(&daemon);
    watt_os::pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    eventually("the run is reaped", || state(pid).is_none());
    let (mut ends, mut known) = (0, false);
    while ends < asked || !known {
        match daemon.next().0 {
            Message::ListEnd => ends += 1,
            Message::Run { run: 1000, exit, .. } => {
                assert!(exit.is_some() || !known, "a list says less than what was told before");
                known = exit.is_some();
            }
            Message::Exited { run: 1000, .. } => {
                assert!(!known, "a list has told it already");
                known = true;
            }
            _ => {}
        }
    }
}

fn the_last_requests_of_a_dead_daemon_count() {
    let app = App::start();
    let daemon = app.daemon();
    // The spawner finds requests and death at once, and more requests than it reads in one go.
    app.signal(Signal::SIGSTOP);
    eventually("the spawner stops", || state(app.spawner.id()) == Some('T'));
    for number in 0..100u8 {
        daemon.send(&Request::Put { key: format!("{number:03}"), value: vec![number] }, &[]);
    }
    let pid = daemon.pid;
    daemon.kill();
    eventually("the daemon dies", || state(pid) == Some('Z'));
    app.signal(Signal::SIGCONT);
    let list = app.daemon().list();
    assert_eq!(list.len(), 101);
    assert_eq!(list[100].0, Message::Value { key: "099".into(), value: vec![99] });
}

fn a_daemon_that_closes_its_socket_is_replaced() {
    let app = App::start();
    let daemon = app.daemon();
    let pid = daemon.pid;
    // It lives on, which `_process` holds it to.
    let _process = daemon.close();
    let mut next = app.daemon();
    assert_ne!(next.pid, pid);
    assert!(matches!(next.list()[0].0, Message::Info { daemon_restarts: 1, .. }));
}

fn a_daemon_that_reads_nothing_is_replaced() {
    let app = App::start_with(|command| {
        command.env(role::STALL_MS, "200");
    });
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    daemon.executed(1);
    // Nothing waits for it, so that it may be silent.
    idle(app.spawner.id());
    assert_ne!(state(daemon.pid), None);
    // More than fits into the socket.
    for number in 0..20u8 {
        daemon.send(&Request::Put { key: number.to_string(), value: vec![number; 32 << 10] }, &[]);
    }
    daemon.send(&Request::List, &[]);
    let mut next = app.daemon();
    assert_ne!(next.pid, daemon.pid);
    let list = next.list();
    assert!(matches!(list[0].0, Message::Info { daemon_restarts: 1, .. }));
    assert!(matches!(list[1].0, Message::Run { run: 1, exit: None, .. }));
}

fn a_second_spawner_is_refused_with_the_pid() {
    let app = App::start();
    let _daemon = app.daemon();
    let mut second = spawner_command(app.folder.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut refused = None;
    let begin = Instant::now();
    while refused.is_none() && begin.elapsed() < PATIENCE {
        refused = second.try_wait().unwrap();
        let _ = poll(&mut [], PollTimeout::from(5u8));
    }
    let _ = second.kill();
    second.wait().unwrap();
    assert!(refused.is_some(), "the second spawner runs");
    let mut told = String::new();
    second.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told.trim(), format!("already running with pid {}", app.spawner.id()));
    assert_eq!(
        fs::read_to_string(app.folder.path().join("lock")).unwrap(),
        format!("{}\n", app.spawner.id())
    );
}

fn signals_are_passed_on_once_the_daemon_listens() {
    let app = App::start();
    let mut daemon = app.daemon();
    app.signal(Signal::SIGHUP);
    idle(app.spawner.id());
    idle(daemon.pid);
    assert!(!daemon.has_signal(), "it came before the first request");
    daemon.list();
    assert_eq!(daemon.signal(), Signal::SIGHUP);
    app.signal(Signal::SIGINT);
    assert_eq!(daemon.signal(), Signal::SIGTERM);
    app.signal(Signal::SIGTERM);
    assert_eq!(daemon.signal(), Signal::SIGTERM, "a second time means now");
}

fn a_stop_survives_the_daemon() {
    let mut app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    daemon.executed(1);
    app.signal(Signal::SIGTERM);
    assert_eq!(daemon.signal(), Signal::SIGTERM);
    daemon.kill();
    let mut daemon = app.daemon();
    daemon.list();
    assert_eq!(daemon.signal(), Signal::SIGTERM);
    let exit = Request::Exit { status: 0, join_cgroups: vec![], remove: vec![], remove_if_empty: vec![] };
    daemon.send(&exit, &[]);
    drop(daemon);
    assert_eq!(app.wait().code(), Some(0));
}

/// As when it cannot be started, or dies of what it finds.
fn a_stop_needs_no_daemon_that_cannot_live() {
    let mut app = App::start_with(|command| _ = command.env(role::SILENCE_MS, "500"));
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("trap '' TERM; sleep 1000; sleep 1000"));
    let (pid, _) = daemon.spawned(1);
    daemon.executed(1);
    // Those that follow find nobody to talk to, and end.
    fs::remove_file(app.folder.path().join("daemons")).unwrap();
    daemon.kill();
    app.signal(Signal::SIGTERM);
    assert_eq!(app.wait().code(), Some(0));
    assert!(state(pid).is_none(), "it was killed and reaped");
}

fn a_daemon_that_lives_has_its_time_to_stop() {
    const SILENCE: Duration = Duration::from_secs(2);
    let mut app = App::start_with(|command| {
        command.env(role::SILENCE_MS, SILENCE.as_millis().to_string());
    });
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    daemon.executed(1);
    app.signal(Signal::SIGTERM);
    assert_eq!(daemon.signal(), Signal::SIGTERM);
    let begin = Instant::now();
    while begin.elapsed() < SILENCE * 5 / 2 {
        daemon.send(&Request::Beat, &[]);
        let _ = poll(&mut [], PollTimeout::from(50u8));
    }
    let is_there = |(message, _): &(Message, _)| matches!(message, Message::Run { run: 1, exit: None, .. });
    assert!(daemon.list().iter().any(is_there), "it is still at it");
    let exit = Request::Exit { status: 4, join_cgroups: vec![], remove: vec![], remove_if_empty: vec![] };
    daemon.send(&exit, &[]);
    drop(daemon);
    assert_eq!(app.wait().code(), Some(4));
}

fn a_refused_configuration_ends_the_spawner() {
    for status in [0, watt_spawner::DAEMON_REFUSED as u8] {
        let mut app = App::start();
        app.daemon().exit(status);
        assert_eq!(app.wait().code(), Some(status.into()));
    }
    // Any other status, and the same one when there are runs, is a crash.
    let app = App::start();
    app.daemon().exit(1);
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exit 0"));
    daemon.exited(1);
    daemon.exit(0);
    assert_eq!(app.daemon().list().len(), 2);
}

fn a_daemon_that_cannot_be_executed_ends_the_spawner() {
    let mut app = App::start_with(|command| {
        command.env(role::PROGRAM, "/nowhere/daemon").stderr(Stdio::piped());
    });
    assert_eq!(app.wait().code(), Some(100));
    let mut told = String::new();
    app.spawner.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("cannot execute the daemon: exec /nowhere/daemon"), "{told}");
}

fn exit_kills_what_is_left_and_clears_up() {
    let mut app = App::start();
    let mut daemon = app.daemon();
    let path = app.folder.path().join("a.sock");
    listen(&mut daemon, "a", Address::Unix { path: path.clone(), mode: 0o600, owner: None }).unwrap();
    // A process that outlives its parent, in another session, and ignores what can be ignored.
    daemon.spawn(1, sh("trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 1000' & wait"));
    let (pid, [_, stdout, _]) = daemon.spawned(1);
    let mut file = fs::File::from(stdout);
    let mut line = Vec::new();
    eventually("the line of the orphan", || {
        let mut bytes = [0; 16];
        let count = file.read(&mut bytes).unwrap_or(0);
        line.extend_from_slice(&bytes[..count]);
        line.ends_with(b"\n")
    });
    let orphan: u32 = String::from_utf8(line).unwrap().trim().parse().unwrap();
    let remove = app.folder.path().join("remove");
    fs::create_dir_all(remove.join("a/b")).unwrap();
    fs::File::create(remove.join("a/file")).unwrap().write_all(b"x").unwrap();
    let missing = app.folder.path().join("missing");
    let (last, used) = (remove.join("last"), app.folder.path().to_owned());
    fs::create_dir(&last).unwrap();
    let exit = Request::Exit {
        status: 42,
        join_cgroups: vec![missing.join("cgroup.procs")],
        remove: vec![missing, remove.join("a")],
        remove_if_empty: vec![last, remove.clone(), used.clone()],
    };
    daemon.send(&exit, &[]);
    drop(daemon);
    assert_eq!(app.wait().code(), Some(42));
    assert_eq!((state(pid), state(orphan)), (None, None));
    assert!(!path.exists() && !remove.exists() && used.exists());
}

fn errands_end_with_the_daemon_that_asked() {
    let app = App::start();
    let daemon = app.daemon();
    for _ in 0..40 {
        daemon.send(&Request::Probe, &[]);
    }
    daemon.kill();
    let mut daemon = app.daemon();
    let list = daemon.list();
    assert!(matches!(&list[..], [(Message::Info { daemon_restarts: 1, .. }, _)]), "{list:?}");
    daemon.send(&Request::Probe, &[]);
    daemon.wait(|message| matches!(message, Message::Probe { probe } if !probe.is_empty()).then_some(()));
}

fn last_words_come_out_at_the_end() {
    let mut app = App::start_with(|command| _ = command.stderr(Stdio::piped()));
    let mut daemon = app.daemon();
    daemon.list();
    let exit = Request::Exit {
        status: 0,
        join_cgroups: vec![],
        remove: vec!["/nowhere/at-all".into()],
        remove_if_empty: vec![],
    };
    daemon.send(&Request::Tag { run: 99, tag: Vec::new() }, &[]);
    daemon.send(&exit, &[]);
    drop(daemon);
    assert_eq!(app.wait().code(), Some(0));
    let mut told = String::new();
    app.spawner.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    let [first, last] = lines[..] else { panic!("{told}") };
    assert_eq!(first, "watt spawner: no such run, or too long a tag: run 99");
    assert!(last.starts_with("watt spawner: cannot remove /nowhere/at-all: "), "{told}");

    // Nor is the end held up by a disk that hangs.
    let (_log, stderr, _) = full_pipe();
    let mut app = App::start_with(|command| _ = command.stderr(stderr));
    let mut daemon = app.daemon();
    daemon.list();
    daemon.send(&exit, &[]);
    drop(daemon);
    assert_eq!(app.wait().code(), Some(0));
}

/// The request to end with nothing else to do.
const EXIT: Request =
    Request::Exit { status: 0, join_cgroups: vec![], remove: vec![], remove_if_empty: vec![] };

/// Makes a process one that cannot be killed, as one is that writes to some disks: its parent is not told of its end before we, who
/// trace it, have taken that (ptrace(2)).
fn hold(pid: u32) -> Pid {
    let pid = Pid::from_raw(pid as i32);
    ptrace::seize(pid, ptrace::Options::empty()).unwrap();
    pid
}

fn the_end_does_not_wait_for_a_writer_that_cannot_be_killed() {
    let (_log, stderr, _) = full_pipe();
    let mut app = App::start_with(|command| _ = command.stderr(stderr));
    let mut daemon = app.daemon();
    daemon.list();
    make_note(&daemon);
    let mut writer = 0;
    eventually("there is a writer", || {
        let other = children(app.spawner.id()).into_iter().find(|pid| *pid != daemon.pid);
        writer = other.unwrap_or(0);
        writer != 0
    });
    let writer = hold(writer);
    let begin = Instant::now();
    daemon.send(&EXIT, &[]);
    drop(daemon);
    assert_eq!(app.wait().code(), Some(0));
    // Killed processes in general have ten seconds.
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert_eq!(waitpid(writer, None), Ok(WaitStatus::Signaled(writer, Signal::SIGKILL, false)));
}

fn a_daemon_that_cannot_be_killed_is_told_once() {
    let mut app = App::start_with(|command| _ = command.stderr(Stdio::piped()));
    let mut daemon = app.daemon();
    daemon.list();
    let held = hold(daemon.pid);
    daemon.send(&EXIT, &[]);
    eventually("it is killed", || state(daemon.pid) == Some('Z'));
    let turns = || {
        let status = fs::read_to_string(format!("/proc/{}/status", app.spawner.id())).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse::<u64>().unwrap()
    };
    let enough = turns() + 10;
    eventually("it is looked at a few times more", || turns() >= enough);
    assert_eq!(waitpid(held, None), Ok(WaitStatus::Signaled(held, Signal::SIGKILL, false)));
    assert_eq!(app.wait().code(), Some(0));
    let mut told = String::new();
    app.spawner.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told.matches("does not end").count(), 1, "{told}");
}

fn a_daemon_that_cannot_be_killed_is_replaced() {
    let mut app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    daemon.executed(1);
    let first = daemon.pid;
    let held = hold(first);
    let _process = daemon.close();
    let mut daemon = app.daemon();
    let list = daemon.list();
    assert!(matches!(list[0].0, Message::Info { daemon_restarts: 1, .. }), "{list:?}");
    assert!(matches!(list[1].0, Message::Run { run: 1, exit: None, .. }), "{list:?}");
    assert_eq!(state(first), Some('Z'));
    // That it can be reaped at last changes nothing but that it is.
    assert_eq!(waitpid(held, None), Ok(WaitStatus::Signaled(held, Signal::SIGKILL, false)));
    eventually("it is reaped", || state(first).is_none());
    assert_eq!(daemon.list().len(), 2);
    daemon.send(&EXIT, &[]);
    drop(daemon);
    assert_eq!(app.wait().code(), Some(0));
}

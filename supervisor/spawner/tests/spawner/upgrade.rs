//! Another program takes over, and goes back.

use std::{
    fs::{self, File},
    io::Write,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::Command,
};

use nix::sys::signal::Signal;
use watt_os::memfd;
use watt_spawner::protocol::{Address, Message, Request};

use crate::{
    app::{App, Daemon, drain, eventually, sh, state},
    role,
    runner::{Case, cases},
};

pub(crate) fn all() -> Vec<Case> {
    cases![
        everything_is_there_after_an_upgrade,
        nothing_is_inherited_but_what_is_in_the_table,
        whoever_ends_meanwhile_is_reaped,
        a_program_in_its_exec_stage_is_followed_on,
        what_an_init_has_to_say_is_heard_by_the_next_program,
        a_program_whose_daemon_does_not_say_that_all_is_well_goes,
        a_program_whose_daemon_says_that_it_is_not_well_goes,
        a_program_whose_daemon_dies_again_and_again_goes,
        a_program_that_cannot_read_the_table_goes,
        what_cannot_be_executed_changes_nothing,
        a_daemon_that_does_not_end_for_the_next_program_is_killed,
        two_upgrades_at_a_time_are_one_and_a_refusal,
        a_signal_to_stop_reaches_the_next_program,
    ]
}

/// A spawner whose daemons have its program.
pub(crate) fn start() -> App {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut Command)) -> App {
    App::start_with(|command| {
        command.env(role::OWN_PROGRAM, "1").env("EMPTY", "").env("KEPT", "as it was").arg(role::SPAWNER);
        change(command);
    })
}

/// This program, under a name of its own.
pub(crate) fn copy(app: &App, name: &str) -> PathBuf {
    let path = app.folder.path().join(name);
    fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    path
}

pub(crate) fn ask(daemon: &Daemon, number: u64, path: &PathBuf, within_ms: u64) {
    let program = File::open(path).unwrap();
    let path = path.display().to_string();
    daemon.send(&Request::Upgrade { number, path, within_ms }, &[program.as_fd()]);
}

/// Has the spawner become this program, whose first daemon is returned.
fn upgrade(app: &App, mut daemon: Daemon, number: u64, path: &PathBuf, within_ms: u64) -> Daemon {
    ask(&daemon, number, path, within_ms);
    // A request that is answered comes after the one that is not: it is not refused.
    daemon.list();
    daemon.exit(0);
    app.daemon()
}

/// Number, path, whether it has to show that all is well, and why the last one went.
fn info(daemon: &mut Daemon) -> (u64, String, bool, Option<String>) {
    let info = daemon.list().into_iter().find_map(|(message, _)| match message {
        Message::Info { program, path, trial, went_back, .. } => Some((program, path, trial, went_back)),
        _ => None,
    });
    info.unwrap()
}

fn settle(daemon: &mut Daemon) {
    daemon.send(&Request::Settle, &[]);
    daemon.wait(|message| matches!(message, Message::Settled).then_some(()));
}

fn status(app: &App, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", app.spawner.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

fn everything_is_there_after_an_upgrade() {
    let mut app = start_with(|command| _ = command.env(role::SOFT_LIMIT, "321"));
    let mut daemon = app.daemon();
    daemon.spawn(7, sh("read line <&3; exec sleep 1000"));
    daemon.spawn(8, sh("echo before; exit 3"));
    let (pid, _) = daemon.spawned(7);
    let (_, [_, output, _]) = daemon.spawned(8);
    let exit = daemon.exited(8);
    daemon.executed(7);
    daemon.send(&Request::Tag { run: 7, tag: b"note".to_vec() }, &[]);
    daemon.send(&Request::Put { key: "key".to_owned(), value: b"value".to_vec() }, &[]);
    let address = Address::Tcp { address: "127.0.0.1:0".parse().unwrap(), reuse_port: false };
    daemon.send(&Request::Listen { name: "door".to_owned(), address }, &[]);
    let kept = memfd::sealed(c"kept", b"content").unwrap();
    daemon.send(&Request::Keep { name: "memo".to_owned() }, &[kept.as_fd()]);
    let before = daemon.list();

    let next = copy(&app, "next");
    let mut daemon = upgrade(&app, daemon, 5, &next, 60_000);
    assert_eq!(fs::read_link(format!("/proc/{}/exe", app.spawner.id())).unwrap(), next);
    assert_eq!(fs::read_link(format!("/proc/{}/exe", daemon.pid)).unwrap(), next, "its daemon is the same");
    let after = daemon.list();
    assert_eq!(info(&mut daemon), (5, next.display().to_string(), true, None));
    // What was told before the list came is in it as well.
    let rest = |list: &[(Message, Vec<OwnedFd>)]| -> Vec<(Message, usize)> {
        let info = list.iter().position(|(message, _)| matches!(message, Message::Info { .. })).unwrap();
        list.iter().skip(info + 1).map(|(message, fds)| (message.clone(), fds.len())).collect()
    };
    assert_eq!(rest(&after), rest(&before));
    assert_eq!(drain(&output), "before\n", "what was written is still there to be read");
    let memo = after.iter().find(|(message, _)| matches!(message, Message::Kept { name } if name == "memo"));
    assert_eq!(memfd::read_sealed(memo.unwrap().1[0].as_fd(), 10).unwrap(), b"content");
    assert!(exit.at_ms > 0 && state(pid).is_some());
    settle(&mut daemon);
    assert!(!info(&mut daemon).2);

    // It is a spawner like another: exits are told, programs started, and the end is one.
    daemon.spawn(9, sh("ulimit -n; exit 4"));
    let (_, [_, limit, _]) = daemon.spawned(9);
    assert_eq!(daemon.exited(9).code, 4);
    let raised = fs::read_to_string(format!("/proc/{}/limits", app.spawner.id())).unwrap();
    let raised = raised.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
    assert_eq!(drain(&limit).trim(), "321", "programs have the limit of the start; ours: {raised}");
    kill(pid);
    assert_eq!(daemon.exited(7).code, Signal::SIGKILL as i32);
    daemon.send(
        &Request::Exit { status: 6, join_cgroups: vec![], remove: vec![], remove_if_empty: vec![] },
        &[],
    );
    drop(daemon);
    assert_eq!(app.wait().code(), Some(6));
}

fn kill(pid: u32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
}

fn nothing_is_inherited_but_what_is_in_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let left_open = folder.path().join("left open");
    let app = start_with(|command| _ = command.env(role::LEFT_OPEN, &left_open));
    let has_it = || {
        let mut open = fs::read_dir(format!("/proc/{}/fd", app.spawner.id())).unwrap().flatten();
        open.any(|file| fs::read_link(file.path()).is_ok_and(|target| target == left_open))
    };
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    daemon.executed(1);
    let process = |app: &App| {
        let pid = app.spawner.id();
        let fields = [
            "Uid:",
            "Gid:",
            "Groups:",
            "Umask:",
            "SigBlk:",
            "SigIgn:",
            "SigCgt:",
            "CapInh:",
            "CapPrm:",
            "CapEff:",
            "CapBnd:",
            "CapAmb:",
            "NoNewPrivs:",
            "Seccomp:",
            "Threads:",
            "Cpus_allowed:",
        ];
        let fields: Vec<String> =
            fields.iter().map(|field| format!("{field} {}", status(app, field))).collect();
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap();
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        (fields, read("environ"), read("oom_score_adj"), read("limits"), read("cgroup"), cwd)
    };
    let environment = |daemon: &Daemon| {
        let all = fs::read(format!("/proc/{}/environ", daemon.pid)).unwrap();
        let variables = all.split(|byte| *byte == 0).filter(|variable| !variable.starts_with(b"LISTEN_PID="));
        variables.map(|variable| String::from_utf8_lossy(variable).into_owned()).collect::<Vec<_>>()
    };
    let of_daemon = environment(&daemon);
    assert!(of_daemon.iter().any(|variable| variable == "KEPT=as it was"));
    assert!(has_it(), "whoever started it has left it with that");
    let (before, descriptors) = (process(&app), app.descriptors());
    for number in 1..=3 {
        let next = copy(&app, &format!("next{number}"));
        daemon = upgrade(&app, daemon, number, &next, 60_000);
        settle(&mut daemon);
        assert!(!has_it(), "it is in no table");
        assert!(process(&app) == before, "{:?}", process(&app).0);
        assert!(environment(&daemon) == of_daemon, "{:?}", environment(&daemon));
    }
    // The first was opened twice: as the program, and as a name for the daemon's. That is one by now.
    eventually("no more descriptors are open than before", || app.descriptors() <= descriptors);
}

fn whoever_ends_meanwhile_is_reaped() {
    let app = start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    let (pid, _) = daemon.spawned(1);
    daemon.executed(1);
    let next = copy(&app, "next");
    ask(&daemon, 1, &next, 60_000);
    daemon.list();
    // Between the two daemons, whenever exactly.
    daemon.exit(0);
    kill(pid);
    let mut daemon = app.daemon();
    let listed = daemon.list().into_iter().find_map(|(message, _)| match message {
        Message::Run { run: 1, exit, .. } => Some(exit),
        _ => None,
    });
    let exit = match listed.unwrap() {
        Some(exit) => exit,
        None => daemon.exited(1),
    };
    assert!(exit.signaled && exit.code == Signal::SIGKILL as i32, "{exit:?}");
}

fn a_program_in_its_exec_stage_is_followed_on() {
    let app = start();
    let daemon = app.daemon();
    let next = copy(&app, "next");
    ask(&daemon, 1, &next, 60_000);
    daemon.spawn(2, sh("exit 9"));
    daemon.exit(0);
    let mut daemon = app.daemon();
    let (stage, exit) = daemon
        .list()
        .into_iter()
        .find_map(|(message, _)| match message {
            Message::Run { run: 2, stage, exit, .. } => Some((stage, exit)),
            _ => None,
        })
        .unwrap();
    if stage == watt_spawner::protocol::Stage::Preparing {
        daemon.executed(2);
    }
    let exit = exit.unwrap_or_else(|| daemon.exited(2));
    assert_eq!((exit.code, exit.signaled), (9, false));
}

fn what_an_init_has_to_say_is_heard_by_the_next_program() {
    let app = start();
    let mut daemon = app.daemon();
    let door = app.folder.path().join("go");
    let mut plan = sh(&format!("while [ ! -e {} ]; do :; done; kill -QUIT $$", door.display()));
    plan.namespaces.pid = true;
    plan.user_namespace = !nix::unistd::Uid::effective().is_root();
    daemon.spawn(1, plan);
    daemon.executed(1);
    let next = copy(&app, "next");
    let mut daemon = upgrade(&app, daemon, 1, &next, 60_000);
    daemon.list();
    File::create(&door).unwrap().write_all(b"x").unwrap();
    let exit = daemon.exited(1);
    assert_eq!(
        (exit.code, exit.signaled),
        (Signal::SIGQUIT as i32, true),
        "of the init itself, it is a status"
    );
}

fn a_program_whose_daemon_does_not_say_that_all_is_well_goes() {
    let app = start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    let (pid, _) = daemon.spawned(1);
    daemon.executed(1);
    let (_, own, ..) = info(&mut daemon);
    let next = copy(&app, "next");
    // Long enough for a daemon to come, which is as long as it takes to start one.
    let mut daemon = upgrade(&app, daemon, 1, &next, 3000);
    // Where that was not enough, this is the daemon of the program before already.
    if info(&mut daemon).2 {
        let _trial = std::mem::replace(&mut daemon, app.daemon());
    }
    let (number, path, is_trial, why) = info(&mut daemon);
    assert_eq!((number, &path, is_trial), (0, &own, false));
    assert!(why.as_ref().is_some_and(|why| why.contains("did not say within")), "{why:?}");
    assert_eq!(fs::read_link(format!("/proc/{}/exe", app.spawner.id())).unwrap().display().to_string(), own);
    assert_ne!(state(pid), None);
    // And another one may be tried.
    let mut daemon = upgrade(&app, daemon, 2, &next, 60_000);
    assert_eq!(info(&mut daemon), (2, next.display().to_string(), true, None));
}

fn a_program_whose_daemon_says_that_it_is_not_well_goes() {
    let app = start();
    let daemon = app.daemon();
    let next = copy(&app, "next");
    let trial = upgrade(&app, daemon, 1, &next, 60_000);
    trial.send(&Request::GoBack { why: "the proxy is not well".to_owned() }, &[]);
    let mut daemon = app.daemon();
    let (number, _, is_trial, why) = info(&mut daemon);
    assert_eq!((number, is_trial, why.as_deref()), (0, false, Some("the proxy is not well")));
    // Without effect where there is no trial.
    daemon.send(&Request::GoBack { why: "again".to_owned() }, &[]);
    assert_eq!(info(&mut daemon).3.as_deref(), Some("the proxy is not well"));
}

fn a_program_whose_daemon_dies_again_and_again_goes() {
    let app = start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    daemon.executed(1);
    let next = copy(&app, "next");
    let mut trial = upgrade(&app, daemon, 1, &next, 60_000);
    for _ in 0..2 {
        trial.kill();
        trial = app.daemon();
        assert_eq!(
            fs::read_link(format!("/proc/{}/exe", trial.pid)).unwrap(),
            next,
            "one death is an accident"
        );
    }
    trial.kill();
    let mut daemon = app.daemon();
    let (number, _, _, why) = info(&mut daemon);
    assert_eq!(number, 0);
    assert!(why.as_ref().is_some_and(|why| why.contains("died 3 times")), "{why:?}");
}

fn a_program_that_cannot_read_the_table_goes() {
    let app = start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    let (pid, _) = daemon.spawned(1);
    daemon.executed(1);
    let later = copy(&app, role::LATER);
    let mut daemon = upgrade(&app, daemon, 1, &later, 60_000);
    let (number, _, is_trial, why) = info(&mut daemon);
    assert_eq!((number, is_trial), (0, false));
    let expected = "cannot take over: the spawner's table has form 257; this version reads 1 to 1";
    assert_eq!(why.as_deref(), Some(expected));
    kill(pid);
    assert_eq!(daemon.exited(1).code, Signal::SIGKILL as i32, "it is ours still");
}

fn what_cannot_be_executed_changes_nothing() {
    let app = start();
    let mut daemon = app.daemon();
    // What the start of the daemon had open is closed by then.
    daemon.list();
    let text = app.folder.path().join("text");
    fs::write(&text, "no program").unwrap();
    let descriptors = app.descriptors();
    let mut daemon = upgrade(&app, daemon, 1, &text, 60_000);
    let (number, _, is_trial, why) = info(&mut daemon);
    assert_eq!((number, is_trial), (0, false));
    assert!(why.as_ref().is_some_and(|why| why.contains("cannot be executed")), "{why:?}");
    eventually("no more descriptors are open than before", || app.descriptors() <= descriptors);
    daemon.spawn(1, sh("ls /proc/self/fd | wc -l"));
    let (_, [_, output, _]) = daemon.spawned(1);
    assert_eq!(drain(&output).trim(), "4", "no descriptor of ours stays open for programs");
}

fn a_daemon_that_does_not_end_for_the_next_program_is_killed() {
    let app = start();
    let mut daemon = app.daemon();
    let next = copy(&app, "next");
    ask(&daemon, 1, &next, 60_000);
    daemon.list();
    let mut trial = app.daemon();
    assert_eq!(info(&mut trial).0, 1);
    drop(daemon);
}

fn two_upgrades_at_a_time_are_one_and_a_refusal() {
    let app = start();
    let mut daemon = app.daemon();
    let next = copy(&app, "next");
    let refused = |daemon: &mut Daemon| {
        daemon
            .wait(|message| match message {
                Message::UpgradeRefused { why } => Some(why.clone()),
                _ => None,
            })
            .0
    };
    ask(&daemon, 1, &next, 60_000);
    ask(&daemon, 2, &next, 60_000);
    assert_eq!(refused(&mut daemon), "another upgrade is under way");
    daemon.exit(0);
    let mut daemon = app.daemon();
    assert_eq!(info(&mut daemon).0, 1, "the first one holds");
    ask(&daemon, 2, &next, 60_000);
    assert_eq!(refused(&mut daemon), "another upgrade is under way");
    settle(&mut daemon);
    ask(&daemon, 1, &next, 60_000);
    assert_eq!(refused(&mut daemon), "its number is an earlier program's");
    daemon.send(&Request::Upgrade { number: 2, path: String::new(), within_ms: 1 }, &[]);
    assert_eq!(refused(&mut daemon), "the program did not come with it");
}

fn a_signal_to_stop_reaches_the_next_program() {
    let mut app = start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    daemon.executed(1);
    app.signal(Signal::SIGTERM);
    assert_eq!(daemon.signal(), Signal::SIGTERM);
    let next = copy(&app, "next");
    let mut daemon = upgrade(&app, daemon, 1, &next, 60_000);
    assert!(!daemon.has_signal(), "it has not said yet that it catches signals");
    daemon.list();
    assert_eq!(daemon.signal(), Signal::SIGTERM);
    daemon.send(
        &Request::Exit { status: 0, join_cgroups: vec![], remove: vec![], remove_if_empty: vec![] },
        &[],
    );
    drop(daemon);
    assert_eq!(app.wait().code(), Some(0));
}

//! What the spawner takes, what it holds on to, and what it does when there is no room: descriptors, memory, queues, names.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
    unistd::{Uid, pipe2},
};
use watt_os::memfd;
use watt_spawner::protocol::{Message, Request};

use crate::{
    app::{App, Daemon, drain, eventually, faults_of_reaped, idle, program, sh, state},
    role,
    runner::{Case, cases},
};

pub(crate) fn all() -> Vec<Case> {
    cases![
        two_hundred_spawns_at_once,
        garbage_changes_nothing,
        a_daemon_that_does_not_read_holds_nobody_up,
        values_of_ten_thousand_workers_are_kept,
        more_descriptors_than_may_be_under_way_arrive_later,
        without_free_descriptors_a_start_is_refused,
        descriptors_do_not_leak,
        private_memory_stays_below_a_megabyte,
        programs_do_not_get_the_raised_limit_of_descriptors,
        many_errands_at_once_are_all_answered,
        a_name_without_bounds_is_cut,
        a_log_that_hangs_holds_nobody_up,
        a_full_disk_is_not_tried_again_for_nothing,
        lines_whose_writer_was_killed_are_counted,
    ]
}

fn two_hundred_spawns_at_once() {
    let app = App::start();
    let mut daemon = app.daemon();
    for run in 0..200 {
        daemon.spawn(run, sh(&format!("exit {}", run % 100)));
    }
    for run in 0..200 {
        // In this order for each run, whatever comes between.
        daemon.spawned(run);
        daemon.executed(run);
        assert_eq!(daemon.exited(run).code, (run % 100) as i32);
    }
}

fn garbage_changes_nothing() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    let (_, [pidfd, ..]) = daemon.spawned(1);
    daemon.executed(1);
    daemon.list();
    let before = app.descriptors();
    let null = fs::File::open("/dev/null").unwrap();
    let mut seed = 1u32;
    for length in (1..3000).step_by(7) {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            // 255 is the number of no request, so this cannot happen to be Exit.
            .enumerate()
            .map(|(at, byte)| if at == 0 { 255 } else { byte })
            .collect();
        while watt_os::fdpass::send(daemon.handle.as_fd(), &bytes, &[null.as_fd(); 20]).is_err() {}
    }
    // Real requests with wrong descriptors, numbers and sizes.
    daemon.send(&Request::Keep { name: "none".into() }, &[]);
    daemon.send(&Request::Keep { name: "two".into() }, &[null.as_fd(), null.as_fd()]);
    daemon.send(&Request::Keep { name: "n".repeat(1000) }, &[null.as_fd()]);
    daemon.send(&Request::Tag { run: 99, tag: Vec::new() }, &[]);
    daemon.send(&Request::MakeSockets { run: 99, count: u16::MAX }, &[]);
    daemon.send(&Request::MakeSockets { run: 1, count: 1 }, &[]);
    for expected in [nix::libc::ESRCH, nix::libc::ENONET] {
        let (errno, _) = daemon.wait(|message| match message {
            Message::Sockets { errno, .. } => Some(*errno),
            _ => None,
        });
        assert_eq!(errno, expected);
    }
    assert_eq!(daemon.list().len(), 2, "the info and the run");
    // A process that writes of it may still be there.
    eventually("no descriptor was kept", || app.descriptors() == before);
    watt_os::pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    daemon.exited(1);
}

/// Asks for lists until neither the spawner nor the socket between takes more. Returns how many will come.
pub(crate) fn ask_for_lists(daemon: &Daemon) -> usize {
    const MANY: usize = 20_000;
    for asked in 0..MANY {
        let mut room = [PollFd::new(daemon.handle.as_fd(), PollFlags::POLLOUT)];
        while daemon.handle.send(&Request::List, &[]).is_err() {
            if poll(&mut room, PollTimeout::from(500u16)) == Ok(0) {
                return asked;
            }
        }
    }
    panic!("the spawner reads on and on");
}

fn a_daemon_that_does_not_read_holds_nobody_up() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("read -r forever < /dev/zero"));
    let (pid, [pidfd, ..]) = daemon.spawned(1);
    daemon.executed(1);
    let asked = ask_for_lists(&daemon);
    // The spawner still does its own work: it reaps the run and passes signals on.
    watt_os::pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    eventually("the run is reaped", || state(pid).is_none());
    app.signal(Signal::SIGHUP);
    assert_eq!(daemon.signal(), Signal::SIGHUP);
    for _ in 0..asked {
        while daemon.next().0 != Message::ListEnd {}
    }
    assert!(matches!(daemon.list()[1].0, Message::Run { exit: Some(_), .. }));
}

fn values_of_ten_thousand_workers_are_kept() {
    let app = App::start();
    let mut daemon = app.daemon();
    // As many bytes in fewer messages, and each value twice: what is replaced does not count.
    for number in (0..100u8).chain(0..100) {
        daemon.send(&Request::Put { key: format!("{number:03}"), value: vec![number; 32 << 10] }, &[]);
    }
    let list = daemon.list();
    assert_eq!(list.len(), 101);
    assert_eq!(list[100].0, Message::Value { key: "099".into(), value: vec![99; 32 << 10] });
}

/// Starts a spawner, as a user of its own if that can be, with a limit of descriptors.
fn start_with_descriptors(limit: u32) -> App {
    // Descriptors under way are counted by user (unix(7)), also those of other tests.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let user = 100_000 + process::id() % 100_000 * 10 + NEXT.fetch_add(1, Ordering::Relaxed) % 10;
    App::start_with(|command| {
        let exe = command.get_program().to_owned();
        let variables: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.unwrap().to_owned())).collect();
        let folder = command.get_envs().find(|(name, _)| *name == role::FOLDER).unwrap().1.unwrap();
        if Uid::effective().is_root() {
            for path in [Path::new(folder), &Path::new(folder).join("daemons")] {
                std::os::unix::fs::chown(path, Some(user), None).unwrap();
            }
        }
        *command = process::Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\"")]).arg(exe).envs(variables);
        if Uid::effective().is_root() {
            std::os::unix::process::CommandExt::uid(command, user);
        }
    })
}

/// unix(7), ETOOMANYREFS: as many as the limit of descriptors may be under way.
fn more_descriptors_than_may_be_under_way_arrive_later() {
    let app = start_with_descriptors(256);
    let mut daemon = app.daemon();
    const RUNS: u64 = 30;
    for run in 0..RUNS {
        daemon.spawn(run, sh("exec sleep 1000"));
        daemon.executed(run);
    }
    const LISTS: usize = 20;
    for _ in 0..LISTS {
        daemon.send(&Request::List, &[]);
    }
    idle(app.spawner.id());
    for _ in 0..LISTS {
        let mut runs = 0;
        loop {
            match daemon.next() {
                (Message::Run { .. }, descriptors) => {
                    assert_eq!(descriptors.len(), 3);
                    runs += 1;
                }
                (Message::ListEnd, _) => break,
                _ => {}
            }
        }
        assert_eq!(runs, RUNS);
    }
}

fn without_free_descriptors_a_start_is_refused() {
    let app = start_with_descriptors(64);
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("exec sleep 1000"));
    let (_, [pidfd, ..]) = daemon.spawned(1);
    daemon.executed(1);
    let refused = |daemon: &mut Daemon, run: u64| {
        daemon.spawn(run, sh("exec sleep 1000"));
        daemon.wait(|message| match message {
            Message::SpawnFailed { run: told, step, errno } if *told == run => Some((step.clone(), *errno)),
            Message::Spawned { run: told, .. } if *told == run => panic!("there was room"),
            _ => None,
        })
    };
    for kept in 0..80 {
        let any = memfd::sealed(c"any", b"").unwrap();
        daemon.send(&Request::Keep { name: kept.to_string() }, &[any.as_fd()]);
    }
    assert_eq!(refused(&mut daemon, 2).0, ("descriptors".to_owned(), Errno::EMFILE as i32));
    assert!(matches!(daemon.list()[1].0, Message::Run { run: 1, exit: None, .. }));
    watt_os::pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
    daemon.exited(1);
    daemon.send(&Request::Forget { run: 1 }, &[]);
    // Room for the request, and not for all that a start takes.
    assert_eq!(refused(&mut daemon, 3).0.1, Errno::EMFILE as i32);
}

fn descriptors_do_not_leak() {
    let app = App::start();
    let mut daemon = app.daemon();
    let mut round = |runs: std::ops::Range<u64>| {
        for run in runs.clone() {
            daemon.spawn(run, program(&[if run % 5 == 0 { "/nowhere" } else { "/bin/true" }]));
        }
        for run in runs {
            daemon.spawned(run);
            daemon.exited(run);
            daemon.wait(|message| {
                matches!(message, Message::Executed { run: told, .. } | Message::ExecFailed { run: told, .. } if *told == run)
                    .then_some(())
            });
            daemon.send(&Request::Forget { run }, &[]);
        }
        daemon.list();
        app.descriptors()
    };
    let before = round(0..10);
    for hundred in 1..6 {
        assert_eq!(round(hundred * 100..(hundred + 1) * 100), before);
    }
}

/// Private memory in kB (proc(5), smaps_rollup).
fn private_memory(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let fields = rollup.lines().filter(|line| line.starts_with("Private_"));
    fields.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

fn private_memory_stays_below_a_megabyte() {
    let app = App::start();
    let mut daemon = app.daemon();
    for run in 0..100 {
        daemon.spawn(run, sh("exec sleep 1000"));
    }
    (0..100).for_each(|run| daemon.executed(run));
    daemon.list();
    let used = private_memory(app.spawner.id());
    println!("the spawner's private memory with 100 runs: {used} kB");
    assert!(used < 1000, "{used} kB");
}

fn programs_do_not_get_the_raised_limit_of_descriptors() {
    let app = App::start_with(|command| {
        // The lowered limit of a shell is what the spawner starts with.
        let exe = command.get_program().to_owned();
        let folder =
            command.get_envs().find(|(name, _)| *name == role::FOLDER).unwrap().1.unwrap().to_owned();
        *command = std::process::Command::new("/bin/sh");
        command.args(["-c", "ulimit -Sn 321; exec \"$0\""]).arg(exe);
        command.env(role::VARIABLE, role::SPAWNER).env(role::FOLDER, folder);
    });
    let mut daemon = app.daemon();
    daemon.spawn(1, sh("ulimit -Sn"));
    let (_, [_, stdout, _]) = daemon.spawned(1);
    assert_eq!(drain(&stdout), "321\n");
    let limits = fs::read_to_string(format!("/proc/{}/limits", app.spawner.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
}

fn many_errands_at_once_are_all_answered() {
    let app = App::start();
    let mut daemon = app.daemon();
    // More than are done at the same time.
    for _ in 0..60 {
        daemon.send(&Request::Probe, &[]);
    }
    for _ in 0..60 {
        daemon.wait(|message| matches!(message, Message::Probe { probe } if !probe.is_empty()).then_some(()));
    }
    assert_eq!(daemon.list().len(), 1);
}

fn a_name_without_bounds_is_cut() {
    let app = App::start();
    let mut daemon = app.daemon();
    daemon.spawn(1, program(&[&format!("/{}", "é".repeat(20_000))]));
    daemon.spawned(1);
    let (length, _) = daemon.wait(|message| match message {
        Message::ExecFailed { run: 1, object, .. } => Some(object.len()),
        _ => None,
    });
    assert!((1000..10_000).contains(&length), "{length}");
    daemon.exited(1);
    assert_eq!(daemon.list().len(), 2);
}

/// A pipe that is full, as a disk that does not take anything: both ends, and how many bytes are in it.
pub(crate) fn full_pipe() -> (OwnedFd, OwnedFd, usize) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut nonblocking = fs::File::from(write.try_clone().unwrap());
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let filled = std::iter::from_fn(|| nonblocking.write(&[b'\n'; 4096]).ok()).sum();
    fcntl(&write, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (read, write, filled)
}

fn a_log_that_hangs_holds_nobody_up() {
    const NOTES: usize = 2000;
    let (log, stderr, filled) = full_pipe();
    let app = App::start_with(|command| _ = command.stderr(stderr));
    let mut daemon = app.daemon();
    for run in 0..NOTES {
        daemon.send(&Request::Tag { run: 900_000 + run as u64, tag: Vec::new() }, &[]);
    }
    daemon.spawn(1, sh("exit 3"));
    assert_eq!(daemon.exited(1).code, 3);
    // Its end is a note as well.
    daemon.kill();
    let mut daemon = app.daemon();
    daemon.list();

    // The disk is back: what had room is there, and the rest is counted.
    let mut log = fs::File::from(log);
    log.read_exact(&mut vec![0; filled]).unwrap();
    let mut told = String::new();
    let mut lost = 0;
    let told_of = |told: &str| told.matches("no such run").count();
    let mut log = BufReader::new(log);
    while told_of(&told) + lost < NOTES {
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let count = line.strip_suffix(" more lines could not be written\n");
        lost += count.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
        told.push_str(&line);
    }
    assert!(told.starts_with("watt spawner: no such run, or too long a tag: run 900000\n"), "{told}");
    assert!(lost > 0, "{told}");
    assert!(told_of(&told) >= 100, "{told}");
}

/// Asks for what makes no sense, which is worth a line.
pub(crate) fn make_note(daemon: &Daemon) {
    daemon.send(&Request::Tag { run: 900_000, tag: Vec::new() }, &[]);
}

fn a_full_disk_is_not_tried_again_for_nothing() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let app = App::start_with(|command| _ = command.stderr(full));
    let mut daemon = app.daemon();
    daemon.list();
    let before = faults_of_reaped(app.spawner.id());
    make_note(&daemon);
    eventually("a writer has failed", || faults_of_reaped(app.spawner.id()) > before);
    let failed = faults_of_reaped(app.spawner.id());
    // Some hundred turns of its loop, each of which could try it again.
    for _ in 0..500 {
        daemon.list();
    }
    assert_eq!(faults_of_reaped(app.spawner.id()), failed);
}

fn lines_whose_writer_was_killed_are_counted() {
    // More than what the spawner itself writes into files of its own.
    const SIZE: u64 = 1 << 30;
    let log = tempfile::NamedTempFile::new().unwrap();
    log.as_file().set_len(SIZE).unwrap();
    let stderr = fs::File::options().append(true).open(log.path()).unwrap();
    let app = App::start_with(|command| _ = command.stderr(stderr).env(role::FILE_SIZE, SIZE.to_string()));
    let mut daemon = app.daemon();
    daemon.list();
    let before = faults_of_reaped(app.spawner.id());
    make_note(&daemon);
    eventually("a writer is killed by SIGXFSZ", || faults_of_reaped(app.spawner.id()) > before);
    log.as_file().set_len(0).unwrap();
    make_note(&daemon);
    let line = "watt spawner: no such run, or too long a tag: run 900000\n";
    let wanted = format!("{line}watt spawner: 1 more lines could not be written\n");
    eventually("the lines", || fs::read_to_string(log.path()).unwrap() == wanted);
}

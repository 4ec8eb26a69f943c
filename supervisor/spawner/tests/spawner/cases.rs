//! The promises of the spawner, one case each.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{self, Stdio},
    time::Instant,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{signal::Signal, stat::Mode},
    unistd::{Uid, mkfifo, pipe2},
};
use socket2::Socket;
use watt_exec::plan::{Credentials, LaunchPlan, MESH_ADDRESS, Mount, PrivateNetwork, Probe};
use watt_os::memfd;
use watt_spawner::protocol::{Address, Message, Request, Stage};

use crate::{
    app::{App, Daemon, PATIENCE, drain, encode, eventually, idle, program, sh, spawner_command, state},
    role,
    runner::Case,
};

/// Makes the list of cases from functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), $name as fn())),*] };
}

pub(crate) fn all() -> Vec<Case> {
    cases![
        output_exit_status_and_usage_are_reported,
        a_signal_that_ends_a_run_is_named,
        an_ordinary_user_gets_the_same,
        a_program_that_cannot_be_executed_is_named,
        a_stage_that_is_killed_is_an_exec_failure,
        a_task_that_is_none_is_an_exec_failure,
        two_hundred_spawns_at_once,
        a_successor_finds_runs_exits_and_every_line,
        the_successor_also_finds_values_kept_descriptors_and_tags,
        a_forgotten_run_is_gone_and_a_living_one_is_not,
        spawn_is_refused_with_its_reason,
        listeners_outlive_the_daemon_and_are_passed_on,
        credentials_are_handed_on_and_not_kept,
        sockets_and_their_files_are_as_asked_for,
        what_cannot_be_bound_is_refused_with_the_error,
        a_killed_spawner_takes_all_with_it,
        orphans_are_reaped,
        garbage_changes_nothing,
        a_daemon_that_does_not_read_holds_nobody_up,
        an_exit_during_a_list_is_told_once,
        the_last_requests_of_a_dead_daemon_count,
        values_of_ten_thousand_workers_are_kept,
        a_daemon_that_closes_its_socket_is_replaced,
        a_daemon_that_reads_nothing_is_replaced,
        more_descriptors_than_may_be_under_way_arrive_later,
        without_free_descriptors_a_start_is_refused,
        descriptors_do_not_leak,
        private_memory_stays_below_a_megabyte,
        a_second_spawner_is_refused_with_the_pid,
        signals_are_passed_on_once_the_daemon_listens,
        a_stop_survives_the_daemon,
        a_refused_configuration_ends_the_spawner,
        a_daemon_that_cannot_be_executed_ends_the_spawner,
        exit_kills_what_is_left_and_clears_up,
        programs_do_not_get_the_raised_limit_of_descriptors,
        sockets_are_made_in_a_private_network,
        sockets_are_made_in_a_private_network_of_an_ordinary_user,
        the_host_is_probed,
        many_errands_at_once_are_all_answered,
        errands_end_with_the_daemon_that_asked,
        a_run_starts_in_its_cgroup_and_the_end_removes_it,
        a_frozen_cgroup_is_refused_and_holds_nobody_up,
        a_name_without_bounds_is_cut,
        a_log_that_hangs_holds_nobody_up,
        last_words_come_out_at_the_end,
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

/// A request for a run in nobody's namespaces.
fn spawn_request(run: u64, tag: Vec<u8>, cgroup: bool, pass: &[&str]) -> Request {
    let pass = pass.iter().map(|name| (*name).to_owned()).collect();
    Request::Spawn { run, tag, cgroup, credentials: false, pid_namespace: false, user_namespace: false, pass }
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
        credentials: true,
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

fn loopback() -> Address {
    Address::Tcp { address: "127.0.0.1:0".parse().unwrap(), reuse_port: false }
}

fn listen(daemon: &mut Daemon, name: &str, address: Address) -> Result<(Address, OwnedFd), i32> {
    daemon.send(&Request::Listen { name: name.into(), address }, &[]);
    let (answer, mut descriptors) = daemon.wait(|message| match message {
        Message::Listener { address, .. } => Some(Ok(address.clone())),
        Message::ListenFailed { errno, .. } => Some(Err(*errno)),
        _ => None,
    });
    answer.map(|address| (address, descriptors.remove(0)))
}

fn listeners_outlive_the_daemon_and_are_passed_on() {
    let app = App::start();
    let mut daemon = app.daemon();
    let (Address::Tcp { address, .. }, _) = listen(&mut daemon, "gateway", loopback()).unwrap() else {
        panic!()
    };
    let mut waiting = TcpStream::connect(address).unwrap();
    daemon.kill();
    let mut waiting_more = TcpStream::connect(address).unwrap();
    let mut daemon = app.daemon();
    let list = daemon.list();
    let (Message::Listener { name, address: Address::Tcp { address: found, .. } }, _) = &list[1] else {
        panic!("{list:?}")
    };
    assert_eq!((name.as_str(), found), ("gateway", &address));
    let (again, _) = listen(&mut daemon, "gateway", loopback()).unwrap();
    assert_eq!(again, Address::Tcp { address, reuse_port: false }, "the name gives the same listener");
    // A worker answers both connections on the socket it inherited at descriptor 3.
    let script = "import socket; s = socket.socket(fileno=3); s.setblocking(True)\n\
                  for _ in range(2): s.accept()[0].sendall(b'hello')";
    let mut plan = program(&["python3", "-c", script]);
    plan.listeners = 1;
    daemon.spawn_with(1, plan, &["gateway"]);
    for connection in [&mut waiting, &mut waiting_more] {
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
    assert_eq!(daemon.exited(1).code, 0);
}

fn sockets_and_their_files_are_as_asked_for() {
    let app = App::start();
    let mut daemon = app.daemon();
    let path = app.folder.path().join("a.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = Address::Unix { path: path.clone(), mode: 0o640, owner: None };
    listen(&mut daemon, "a", address).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    UnixStream::connect(&path).unwrap();
    let datagrams = app.folder.path().join("notify.sock");
    listen(&mut daemon, "n", Address::UnixDatagram { path: datagrams.clone(), mode: 0o622, owner: None })
        .unwrap();
    assert_eq!(fs::metadata(&datagrams).unwrap().permissions().mode() & 0o777, 0o622);
    std::os::unix::net::UnixDatagram::unbound().unwrap().send_to(b"READY=1", &datagrams).unwrap();
}

fn what_cannot_be_bound_is_refused_with_the_error() {
    let app = App::start();
    let mut daemon = app.daemon();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let holder = TcpListener::bind(taken).unwrap();
    let address = Address::Tcp { address: holder.local_addr().unwrap(), reuse_port: false };
    assert_eq!(listen(&mut daemon, "taken", address).unwrap_err(), nix::libc::EADDRINUSE);
    let path = app.folder.path().join("x".repeat(108));
    let address = Address::Unix { path, mode: 0o600, owner: None };
    assert_eq!(listen(&mut daemon, "long", address).unwrap_err(), nix::libc::ENAMETOOLONG);
    let file = app.folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let address = Address::Unix { path: file.clone(), mode: 0o600, owner: None };
    assert_eq!(listen(&mut daemon, "file", address).unwrap_err(), nix::libc::EADDRINUSE);
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
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
fn ask_for_lists(daemon: &Daemon) -> usize {
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

/// Starts a spawner, as a user of its own if that can be, with a limit of descriptors.
fn start_with_descriptors(limit: u32) -> App {
    const USER: u32 = 61_234;
    App::start_with(|command| {
        let exe = command.get_program().to_owned();
        let variables: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.unwrap().to_owned())).collect();
        let folder = command.get_envs().find(|(name, _)| *name == role::FOLDER).unwrap().1.unwrap();
        if Uid::effective().is_root() {
            for path in [Path::new(folder), &Path::new(folder).join("daemons")] {
                std::os::unix::fs::chown(path, Some(USER), None).unwrap();
            }
        }
        *command = process::Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\"")]).arg(exe).envs(variables);
        if Uid::effective().is_root() {
            std::os::unix::process::CommandExt::uid(command, USER);
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

fn sockets_are_made_in_a_private_network() {
    check_sockets(&App::start(), !Uid::effective().is_root());
}

fn sockets_are_made_in_a_private_network_of_an_ordinary_user() {
    check_sockets(&App::start_as_nobody(), true);
}

fn check_sockets(app: &App, user_namespace: bool) {
    let mut daemon = app.daemon();
    let mut plan = sh("exec sleep 1000");
    plan.user_namespace = user_namespace;
    plan.network = Some(PrivateNetwork { sockets: 3, ..PrivateNetwork::default() });
    daemon.spawn(1, plan);
    let (names, made) = daemon.wait(|message| match message {
        Message::Executed { run: 1, names } => Some(names.clone()),
        Message::ExecFailed { step, object, errno, .. } => panic!("{step} {object}: {errno}"),
        _ => None,
    });
    assert_eq!(names.len(), made.len(), "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "socket").count(), 3, "{names:?}");
    daemon.send(&Request::MakeSockets { run: 1, count: 250 }, &[]);
    let (errno, more) = daemon.wait(|message| match message {
        Message::Sockets { run: 1, errno } => Some(*errno),
        _ => None,
    });
    assert_eq!((errno, more.len()), (0, 250));
    // Both kinds reach a listener that exists in that network only.
    let mesh = Socket::from(made[names.iter().position(|name| name == "mesh").unwrap()].try_clone().unwrap());
    let first = made[names.iter().position(|name| name == "socket").unwrap()].try_clone().unwrap();
    mesh.set_nonblocking(false).unwrap();
    for socket in [first, more[249].try_clone().unwrap()] {
        let socket = Socket::from(socket);
        socket.set_nonblocking(false).unwrap();
        socket.connect(&SocketAddr::from((MESH_ADDRESS.to_ipv6_mapped(), 80)).into()).unwrap();
        mesh.accept().unwrap();
    }
    // A successor gets what was kept, and no sockets.
    daemon.kill();
    let list = app.daemon().list();
    let (Message::Run { names: kept, .. }, descriptors) = &list[1] else { panic!("{list:?}") };
    let expected: Vec<&String> = names.iter().filter(|name| *name != "socket").collect();
    assert_eq!(kept.iter().collect::<Vec<_>>(), expected);
    assert_eq!(descriptors.len(), 3 + kept.len());
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
fn full_pipe() -> (OwnedFd, OwnedFd, usize) {
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

//! Runs in a PID namespace of their own: the init beside the program is neither seen in what is reported nor in the way of it.
//! Each case runs as root, where the tests do, and as an ordinary user.

use std::fs;

use nix::{errno::Errno, sys::signal::Signal, unistd::Uid};
use watt_exec::plan::{Capabilities, HideProcesses, Identity, LaunchPlan, Mount, Namespaces};
use watt_os::pidfd;
use watt_spawner::protocol::{Message, WaitStatus};

use crate::{
    app::{App, Daemon, drain, eventually, program, sh, state},
    runner::Case,
};

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("a_program_of_own_pids_sees_its_own_processes_alone", sees_its_own_processes_alone as fn()),
        ("the_end_of_a_program_of_own_pids_is_reported_as_it_was", the_end_is_reported_as_it_was),
        ("signals_reach_a_program_of_own_pids", signals_reach_the_program),
        ("signals_to_the_init_from_inside_end_there", signals_from_inside_end_at_the_init),
        ("output_in_own_pids_ends_when_the_program_ends_it", output_ends_when_the_program_ends_it),
        ("nothing_outlives_a_program_of_own_pids", nothing_outlives_the_program),
        ("orphans_in_own_pids_are_reaped_there", orphans_are_reaped_inside),
        ("a_program_of_own_pids_that_cannot_be_executed_is_named", a_failure_is_named),
        ("own_pids_without_the_right_are_refused_by_name", own_pids_without_the_right),
        ("a_killed_init_is_a_killed_run", a_killed_init_is_a_killed_run),
        ("a_killed_spawner_takes_own_pids_with_it", a_killed_spawner_takes_all_with_it),
        ("an_init_cannot_be_looked_into", an_init_cannot_be_looked_into),
        ("an_init_is_small_and_has_no_rights", an_init_is_small_and_has_no_rights),
        ("an_end_without_a_daemon_is_kept_for_the_next", an_end_without_a_daemon_is_kept),
    ]
}

/// Runs a case for every kind of user; it is told whether a user namespace is needed.
pub(crate) fn for_all(case: impl Fn(&mut App, bool)) {
    if Uid::effective().is_root() {
        case(&mut App::start(), false);
    }
    case(&mut App::start_as_nobody(), true);
}

/// The same plan with PIDs of its own, and a /proc of these.
pub(crate) fn apart(plan: LaunchPlan, user_namespace: bool) -> LaunchPlan {
    LaunchPlan {
        user_namespace,
        namespaces: Namespaces { pid: true, ..Namespaces::default() },
        mounts: vec![Mount::Proc { hide: HideProcesses::None, processes_only: false }],
        ..plan
    }
}

/// Runs this and returns its output and end.
fn run(app: &App, plan: LaunchPlan) -> (String, WaitStatus) {
    let mut daemon = app.daemon();
    daemon.spawn(1, plan);
    let (_, [_, output, _]) = daemon.spawned(1);
    daemon.executed(1);
    let exit = daemon.exited(1);
    (drain(&output), exit)
}

fn sees_its_own_processes_alone() {
    for_all(|app, user| {
        let script = "echo $$ $PPID; echo /proc/[0-9]*; read -r _ _ _ _ _ session _ < /proc/$$/stat; echo $session; \
                      grep -E '^(Uid|CapEff|CapInh|CapAmb)' /proc/$$/status | tr '\\n\\t' '  '";
        let (output, exit) = run(app, apart(sh(script), user));
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..3], ["2 1", "/proc/1 /proc/2", "2"], "{output}");
        if user {
            // Itself, and without what the clone gave to the stage.
            assert!(lines[3].contains("65534 65534") || !Uid::effective().is_root(), "{output}");
            let caps = lines[3].split("Cap").skip(1);
            assert!(caps.into_iter().all(|cap| cap.contains(" 0000000000000000")), "{output}");
        }
        assert_eq!((exit.code, exit.signaled), (0, false));
    });
}

fn the_end_is_reported_as_it_was() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let scripts = [
            "exit 7",
            "kill -KILL $$",
            "ulimit -c 0; kill -SEGV $$",
            "ulimit -c unlimited; kill -ABRT $$",
            "kill -40 $$",
        ];
        for (number, script) in (1..).zip(scripts) {
            let mut end = |run: u64, plan| {
                daemon.spawn(run, plan);
                daemon.spawned(run);
                daemon.executed(run);
                let WaitStatus { code, signaled, core_dumped, .. } = daemon.exited(run);
                (code, signaled, core_dumped)
            };
            let folder = || LaunchPlan { cwd: app.folder.path().into(), ..sh(script) };
            let plain = end(number * 2, folder());
            assert_eq!(end(number * 2 + 1, apart(folder(), user)), plain, "{script}");
        }
    });
}

/// Waits for a line of output.
fn wait_for(output: &std::os::fd::OwnedFd, seen: &mut String, wanted: &str) {
    use std::io::Read;
    let mut file = fs::File::from(output.try_clone().unwrap());
    eventually(wanted, || {
        let _ = file.read_to_string(seen);
        seen.lines().any(|line| line == wanted)
    });
}

fn signals_reach_the_program() {
    let signals =
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCONT];
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let mut script = String::from("trap 'echo TERM; exit 3' TERM; trap 'echo RT' 50; ");
        for signal in signals {
            let name = signal.as_str().trim_start_matches("SIG");
            script += &format!("trap 'echo {name}' {name}; ");
        }
        // A builtin, which a trap interrupts at once, and which a child could not do for it.
        script += "echo ready; while :; do read -r _ < pipe; done";
        let pipe = app.folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        fs::set_permissions(&pipe, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let plan = LaunchPlan { cwd: app.folder.path().into(), ..program(&["/bin/bash", "-c", &script]) };
        daemon.spawn(1, apart(plan, user));
        let (_, [pidfd, output, _]) = daemon.spawned(1);
        daemon.executed(1);
        let mut seen = String::new();
        wait_for(&output, &mut seen, "ready");
        for signal in signals {
            pidfd::send_signal(&pidfd, signal as i32).unwrap();
            wait_for(&output, &mut seen, signal.as_str().trim_start_matches("SIG"));
        }
        pidfd::send_signal(&pidfd, 50).unwrap();
        wait_for(&output, &mut seen, "RT");
        pidfd::send_signal(&pidfd, Signal::SIGTERM as i32).unwrap();
        let exit = daemon.exited(1);
        assert_eq!((exit.code, exit.signaled), (3, false));
    });
}

fn signals_from_inside_end_at_the_init() {
    for_all(|app, user| {
        // Were they passed on, the program would be gone by the time it has asked for the second one.
        let script =
            "kill -TERM $PPID; kill -HUP 1; i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i+1)); done; exit 8";
        let (_, exit) = run(app, apart(sh(script), user));
        assert_eq!((exit.code, exit.signaled), (8, false));
    });
}

fn output_ends_when_the_program_ends_it() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        daemon.spawn(1, apart(sh("echo last; exec >&- 2>&-; exec sleep 1000"), user));
        let (_, [pidfd, output, error]) = daemon.spawned(1);
        daemon.executed(1);
        assert_eq!((drain(&output).as_str(), drain(&error).as_str()), ("last\n", ""));
        pidfd::send_signal(&pidfd, 0).unwrap();
        pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
        daemon.exited(1);
    });
}

/// A process and all below it, by the host's numbers.
fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
    [pid].into_iter().chain(children.flat_map(family)).collect()
}

/// Starts a program with some children, two of them orphans, and returns its init and the whole family.
fn start_family(daemon: &mut Daemon, user: bool, begin: &str) -> (std::os::fd::OwnedFd, Vec<u32>) {
    let script = format!("{begin} sleep 1000 & (setsid sleep 1001 & sleep 1002 &) ; wait; exit 5");
    daemon.spawn(1, apart(sh(&script), user));
    let (init, [pidfd, ..]) = daemon.spawned(1);
    daemon.executed(1);
    let mut all = Vec::new();
    eventually("all five are there", || {
        all = family(init);
        all.len() == 5
    });
    (pidfd, all)
}

fn nothing_outlives_the_program() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        // Ends when it is told to.
        let (pidfd, all) = start_family(&mut daemon, user, "trap 'exit 4' TERM;");
        pidfd::send_signal(&pidfd, Signal::SIGTERM as i32).unwrap();
        assert_eq!(daemon.exited(1).code, 4);
        // At once: the end of the run is the end of them all.
        assert!(all.iter().all(|pid| state(*pid).is_none()), "{all:?}");
    });
}

fn orphans_are_reaped_inside() {
    for_all(|app, user| {
        let script = "i=0; while [ $i -lt 20 ]; do (true & true &); i=$((i+1)); done; \
                      until set -- /proc/[0-9]*; [ $# = 2 ]; do :; done";
        let (_, exit) = run(app, apart(sh(script), user));
        assert_eq!((exit.code, exit.signaled), (0, false));
    });
}

fn a_failure_is_named() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let plans = [
            (apart(program(&["/no/such/program"]), user), "exec", "/no/such/program"),
            (LaunchPlan { cwd: "/no/such/folder".into(), ..apart(sh(""), user) }, "cwd", "/no/such/folder"),
        ];
        for (run, (plan, step, object)) in (1..).zip(plans) {
            daemon.spawn(run, plan);
            daemon.spawned(run);
            let (failure, _) = daemon.wait(|message| match message {
                Message::ExecFailed { step, object, errno, .. } => {
                    Some((step.clone(), object.clone(), *errno))
                }
                Message::Executed { .. } => panic!("executed"),
                _ => None,
            });
            assert_eq!(failure, (step.to_owned(), object.to_owned(), 2));
            assert_eq!(daemon.exited(run).code, 1);
        }
    });
}

fn own_pids_without_the_right() {
    let app = App::start_as_nobody();
    let mut daemon = app.daemon();
    daemon.spawn(1, apart(sh("true"), false));
    let (failure, _) = daemon.wait(|message| match message {
        Message::SpawnFailed { run: 1, step, errno } => Some((step.clone(), Errno::from_raw(*errno))),
        Message::Spawned { .. } => panic!("spawned"),
        _ => None,
    });
    assert_eq!(failure, ("namespaces".to_owned(), Errno::EPERM));
    // Nothing is left of it: the same number can be used.
    daemon.spawn(1, apart(sh("exit 5"), true));
    assert_eq!(daemon.exited(1).code, 5);
}

fn a_killed_init_is_a_killed_run() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let (pidfd, all) = start_family(&mut daemon, user, "");
        pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
        let exit = daemon.exited(1);
        assert_eq!((exit.code, exit.signaled), (9, true));
        assert!(all.iter().all(|pid| state(*pid).is_none()), "{all:?}");
    });
}

fn a_killed_spawner_takes_all_with_it() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        let (_, all) = start_family(&mut daemon, user, "");
        app.spawner.kill().unwrap();
        app.spawner.wait().unwrap();
        let gone = |pid: &u32| matches!(state(*pid), None | Some('Z'));
        eventually("all are gone", || all.iter().all(gone));
    });
}

fn an_init_cannot_be_looked_into() {
    for_all(|app, user| {
        let nothing = Capabilities { bounding: 0, ambient: 0 };
        let plan = LaunchPlan {
            identity: (!user).then_some(Identity { uid: 65534, gid: 65534, groups: Vec::new() }),
            capabilities: Some(nothing),
            ..apart(sh("ls /proc/1/fd || cat /proc/1/mem || cat /proc/1/environ || exit 9"), user)
        };
        let (_, exit) = run(app, plan);
        assert_eq!(exit.code, 9);
    });
}

fn an_init_is_small_and_has_no_rights() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        daemon.spawn(1, apart(program(&["/bin/sleep", "1000"]), user));
        let (init, [pidfd, ..]) = daemon.spawned(1);
        daemon.executed(1);
        let memory = fs::read_to_string(format!("/proc/{init}/smaps_rollup")).unwrap();
        // What it does not share with every other init: measured, 52.
        let own = memory.lines().find_map(|line| line.strip_prefix("Anonymous:")?.trim().strip_suffix(" kB"));
        assert!(own.unwrap().parse::<u64>().unwrap() < 200, "{memory}");
        assert_eq!(fs::read_to_string(format!("/proc/{init}/comm")).unwrap(), "watt-init\n");
        // Of all capabilities, which it has had for the steps, the one to signal is left.
        let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
        assert!(status.contains("CapEff:\t0000000000000020\n"), "{status}");
        pidfd::send_signal(&pidfd, Signal::SIGKILL as i32).unwrap();
        daemon.exited(1);
    });
}

fn an_end_without_a_daemon_is_kept() {
    for_all(|app, user| {
        let mut daemon = app.daemon();
        daemon.spawn(
            1,
            apart(sh("read -r _ < /proc/1/status; trap 'exit 6' TERM; while :; do sleep 0.01; done"), user),
        );
        let (init, [pidfd, ..]) = daemon.spawned(1);
        daemon.executed(1);
        // The trap is there as soon as the first child is.
        eventually("the program waits", || family(init).len() == 3);
        daemon.kill();
        let mut daemon = app.daemon();
        pidfd::send_signal(&pidfd, Signal::SIGTERM as i32).unwrap();
        eventually("the run ends", || state(init).is_none());
        let exit = daemon.list().into_iter().find_map(|(message, _)| match message {
            Message::Run { exit, .. } => exit,
            _ => None,
        });
        let exit = exit.map(|exit| exit.code).unwrap_or_else(|| daemon.exited(1).code);
        assert_eq!(exit, 6);
    });
}

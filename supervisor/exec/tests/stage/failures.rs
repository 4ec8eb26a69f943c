//! Each step that fails is named, with what it was about and the error number, and nothing of the program is executed.

use std::{
    fs::{self, Permissions},
    io::Read,
    net::TcpListener,
    os::{fd::AsFd, unix::fs::PermissionsExt},
};

use crate::harness::{User, abandon, bind, folder, launch, program, shell, start, start_encoded};
use nix::errno::Errno;
use watt_exec::plan::{Identity, LaunchPlan, Mount, PrivateNetwork, Report, Scheduling, Task};
use watt_os::rlimit::Resource;

/// Checks the failure of a plan for every kind of user.
fn check(plan: impl Fn(User) -> LaunchPlan, step: &str, object: &str, errno: Errno) {
    for user in User::all() {
        check_as(user, plan(user), step, object, errno);
    }
}

fn check_as(user: User, plan: LaunchPlan, step: &str, object: &str, errno: Errno) {
    let finished = launch(user, plan);
    let failure = finished.failure();
    let seen = (failure.step.as_str(), failure.object.as_str(), Errno::from_raw(failure.errno));
    assert_eq!(seen, (step, object, errno), "{user:?}");
    assert_eq!(finished.status, Some(1));
}

#[test]
fn a_program_that_is_not_there() {
    check(|_| program(&["no-such-program"]), "exec", "no-such-program", Errno::ENOENT);
    check(|_| program(&["/no/such/program"]), "exec", "/no/such/program", Errno::ENOENT);
    check(|_| program(&[]), "exec", "empty command", Errno::EINVAL);
    check(|_| program(&[""]), "exec", "empty command", Errno::EINVAL);
    let by_descriptor = |_| LaunchPlan { program: Some("/proc/self/fd/99".into()), ..program(&["x"]) };
    check(by_descriptor, "exec", "/proc/self/fd/99", Errno::ENOENT);
}

#[test]
fn a_file_that_cannot_be_executed() {
    let folder = folder();
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", "echo no interpreter is named\n", 0o755);
    check(|_| program(&[&plain]), "exec", &plain, Errno::ENOEXEC);
    let denied = file("denied", "#!/bin/sh\n", 0o644);
    check(|_| program(&[&denied]), "exec", &denied, Errno::EACCES);
    let orphan = file("orphan", "#! /no/such/interpreter -x\n", 0o755);
    let object = format!("{orphan}: interpreter /no/such/interpreter");
    check(|_| program(&[&orphan]), "exec", &object, Errno::ENOENT);
}

#[test]
fn bytes_that_cannot_be_passed() {
    check(|_| program(&["/bin/echo", "a\0b"]), "exec", "argument 1: NUL byte", Errno::EINVAL);
    let env = vec![b"A=1".to_vec(), b"B=\0".to_vec()];
    check(
        |_| LaunchPlan { env: env.clone(), ..shell("") },
        "exec",
        "environment entry 1: NUL byte",
        Errno::EINVAL,
    );
    let long = "x".repeat(4 << 20);
    check(|_| program(&["/bin/echo", &long]), "exec", "/bin/echo", Errno::E2BIG);
}

#[test]
fn a_folder_that_cannot_be_entered() {
    check(
        |_| LaunchPlan { cwd: "/no/such/folder".into(), ..shell("") },
        "cwd",
        "/no/such/folder",
        Errno::ENOENT,
    );
    let folder = folder();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let path = folder.path().to_str().unwrap();
    if User::Caller.is_root() {
        let plan = || LaunchPlan { cwd: path.into(), ..shell("") };
        check_as(User::Nobody, plan(), "cwd", path, Errno::EACCES);
        // What root may enter and the program's user may not is found as well.
        let plan =
            LaunchPlan { identity: Some(Identity { uid: 1234, gid: 1234, groups: Vec::new() }), ..plan() };
        check_as(User::Caller, plan, "cwd", path, Errno::EACCES);
    }
}

#[test]
fn limits_that_make_no_sense_or_are_not_allowed() {
    let limit = |resource: u32, soft, hard| LaunchPlan { rlimits: vec![(resource, soft, hard)], ..shell("") };
    let core = Resource::Core.number();
    check(|_| limit(core, 2, 1), "rlimits", "core 2:1", Errno::EINVAL);
    check(|_| limit(99, 1, 1), "rlimits", "resource 99", Errno::EINVAL);
    let nofile = Resource::Nofile.number();
    for user in User::all().into_iter().filter(|user| !user.is_root()) {
        check_as(user, limit(nofile, 1, 1 << 40), "rlimits", "nofile 1:1099511627776", Errno::EPERM);
    }
}

#[test]
fn a_cgroup_that_is_not_there() {
    let path = "/no/such/cgroup.procs";
    check(|_| LaunchPlan { join_cgroups: vec![path.into()], ..shell("") }, "cgroups", path, Errno::ENOENT);
}

#[test]
fn a_user_that_cannot_be_changed_to() {
    for user in User::all().into_iter().filter(|user| !user.is_root()) {
        let plan =
            LaunchPlan { identity: Some(Identity { uid: 0, gid: 0, groups: Vec::new() }), ..shell("") };
        check_as(user, plan, "credentials", "uid 0, gid 0", Errno::EPERM);
    }
}

#[test]
fn namespaces_without_the_right() {
    for user in User::all().into_iter().filter(|user| !user.is_root()) {
        let network = LaunchPlan { network: Some(PrivateNetwork::default()), ..shell("") };
        check_as(user, network, "network", "network namespace", Errno::EPERM);
        let mounts =
            LaunchPlan { mounts: vec![Mount::ReadOnly { path: "/".into(), optional: false }], ..shell("") };
        check_as(user, mounts, "mounts", "mount namespace", Errno::EPERM);
    }
}

#[test]
fn a_file_to_show_that_is_not_there() {
    let plan = |user: User| LaunchPlan {
        user_namespace: !user.is_root(),
        mounts: vec![bind("/no/such/file", "/etc/hosts")],
        ..shell("")
    };
    check(plan, "mounts", "/no/such/file", Errno::ENOENT);
}

#[test]
fn a_port_that_is_asked_for_twice() {
    let plan = |user: User| LaunchPlan {
        user_namespace: !user.is_root(),
        network: Some(PrivateNetwork { host_ports: vec![53], ..PrivateNetwork::default() }),
        ..shell("")
    };
    check(plan, "network", "127.0.0.1:53", Errno::EADDRINUSE);
}

#[test]
fn scores_and_signals_out_of_range() {
    let score = Scheduling { oom_score_adj: Some(5000), ..Scheduling::default() };
    let plan = |_| LaunchPlan { scheduling: score.clone(), ..shell("") };
    check(plan, "scheduling", "oom_score_adj 5000", Errno::EINVAL);
    let plan = |_| LaunchPlan { parent_death_signal: Some(99), ..shell("") };
    check(plan, "parent_death_signal", "signal 99", Errno::EINVAL);
}

#[test]
fn a_spawner_that_has_gone_is_not_waited_for() {
    let plan = LaunchPlan { parent_death_signal: Some(9), ..shell("echo executed") };
    let (output, status) = abandon(&Task::Launch(Box::new(plan)));
    assert_eq!(output, "watt-exec: parent_death_signal: spawner: No such process (os error 3)\n");
    assert_eq!(status, Some(1));
}

#[test]
fn listeners_that_were_promised_and_not_passed() {
    let plan = LaunchPlan { listeners: 2, ..shell("") };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let finished = start(User::Caller, &Task::Launch(Box::new(plan)), &[listener.as_fd()]).finish();
    let failure = finished.failure();
    assert_eq!((failure.step.as_str(), failure.object.as_str()), ("listeners", "descriptor 6"));
    assert_eq!(failure.errno, Errno::EBADF as i32);
}

#[test]
fn a_task_of_nonsense() {
    for task in [&b""[..], &[0xff; 64], &[0; 3]] {
        let finished = start_encoded(User::Caller, task, &[]).finish();
        let failure = finished.failure();
        assert_eq!((failure.step.as_str(), failure.object.as_str()), ("plan", "encoding"));
    }
    let mut random = fs::File::open("/dev/urandom").unwrap();
    for _ in 0..50 {
        let mut task = [0; 256];
        random.read_exact(&mut task).unwrap();
        // Past the tags of Launch and Probe: a random launch would be a real one.
        task[0] = 77;
        let finished = start_encoded(User::Caller, &task, &[]).finish();
        assert!(matches!(finished.reports.as_slice(), [Report::Failed(_)]), "{task:?}");
    }
}

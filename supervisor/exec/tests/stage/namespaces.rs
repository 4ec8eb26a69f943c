//! Namespaces of a program's own, beside those that tests of networks and mounts are about.

use std::fs;

use nix::errno::Errno;
use watt_exec::plan::{HostName, LaunchPlan, Namespaces};
use watt_os::process::Isolation;

use crate::harness::{Finished, User, launch, launch_in, shell};

#[test]
fn namespaces_are_the_programs_own() {
    for user in User::all() {
        let script = "cat /proc/sys/kernel/hostname; readlink /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/cgroup; cut -d: -f3 /proc/self/cgroup | sort -u";
        let finished = launch(
            user,
            LaunchPlan {
                user_namespace: !user.is_root(),
                namespaces: Namespaces {
                    ipc: true,
                    uts: Some(HostName::Own("watt-test".into())),
                    cgroup: true,
                    pid: false,
                },
                ..shell(script)
            },
        );
        let lines: Vec<&str> = finished.output.lines().collect();
        assert_eq!((lines[0], lines[4..].join(" ").as_str()), ("watt-test", "/"), "{:?}", finished.reports);
        for (kind, link) in ["ipc", "uts", "cgroup"].iter().zip(&lines[1..4]) {
            let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(ours.to_str().unwrap(), *link, "{user:?}");
        }
    }
    assert_ne!(nix::unistd::gethostname().unwrap(), "watt-test");
}

#[test]
fn a_pid_namespace_is_there_exactly_when_the_plan_says_so() {
    for user in User::all() {
        // The stage is cloned as for a plan without one.
        let plan = LaunchPlan {
            namespaces: Namespaces { pid: true, ..Namespaces::default() },
            ..shell("echo executed")
        };
        refused(&launch_in(Isolation::None, user, plan));
    }
    // Nor one that the plan does not know of: its program would be the init.
    if User::Caller.is_root() {
        refused(&launch_in(Isolation::Pids, User::Caller, shell("echo executed")));
    }
}

fn refused(finished: &Finished) {
    let failure = finished.failure();
    assert_eq!((failure.step.as_str(), failure.object.as_str()), ("namespaces", "PID namespace"));
    assert_eq!((failure.errno, finished.output.as_str()), (Errno::EINVAL as i32, ""));
}

//! Ending a run without any cgroup, on real processes. This test program is the subreaper, as the spawner is.

use std::{
    collections::BTreeSet,
    io::Read,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollTimeout, poll},
    sys::wait::{WaitPidFlag, waitpid},
    unistd::Pid,
};
use watt_os::{
    descendants::{self, Environment, Marks},
    namespace::{Id, Kind},
    process, process_info,
};

const CAP: Duration = Duration::from_secs(30);

/// A run: its main process leads a session, and has a mark in its environment.
struct Run {
    child: Child,
    marks: Marks,
}

impl Run {
    /// Starts a script and waits for its "up".
    fn start(script: &str, mark: &str) -> Run {
        process::become_subreaper().unwrap();
        let mut command = Command::new("setsid");
        command.args(["bash", "-c", script]).env("WATT_TEST_RUN", mark);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let marks = Marks {
            main: child.id(),
            main_started: process_info::start_time(child.id()).unwrap(),
            later: None,
            namespaces: Vec::new(),
            environment: Some(Environment::Entry(format!("WATT_TEST_RUN={mark}").into_bytes())),
            ancestor: Some(std::process::id()),
        };
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        assert_eq!(&up, b"up\n");
        Run { child, marks }
    }

    fn found(&self) -> BTreeSet<u32> {
        descendants::find(&self.marks).unwrap()
    }

    /// Waits until so many processes are found.
    fn eventually_found(&self, is_right: impl Fn(usize) -> bool) {
        let deadline = Instant::now() + CAP;
        while !is_right(self.found().len()) {
            assert!(Instant::now() < deadline, "{:?}", self.found());
            poll(&mut [], PollTimeout::from(2u8)).unwrap();
        }
    }

    fn end_main(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills until nothing is left, and reaps what was. Says whether that worked in time.
    fn end(&mut self) -> bool {
        let deadline = Instant::now() + CAP;
        let mut orphans = BTreeSet::new();
        while Instant::now() < deadline {
            orphans.extend(self.found());
            if descendants::kill(&self.marks).unwrap() == 0 {
                let _ = self.child.wait();
                for orphan in orphans {
                    // By number: other tests have children of their own.
                    let _ = waitpid(Pid::from_raw(orphan.cast_signed()), Some(WaitPidFlag::WNOHANG));
                }
                return self.found().is_empty();
            }
            poll(&mut [], PollTimeout::from(2u8)).unwrap();
        }
        false
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_tree_with_orphans_and_sessions_of_its_own_is_ended() {
    let script = "(setsid bash -c 'trap \"\" TERM; sleep 600 & wait' &) ; sleep 600 & echo up; wait";
    let mut run = Run::start(script, "tree");
    run.eventually_found(|count| count == 4);
    assert!(run.end());
}

#[test]
fn what_the_main_process_left_behind_is_ended() {
    let mut run = Run::start("(setsid sleep 600 &); (sleep 600 &); sleep 600 & echo up; wait", "left");
    run.end_main();
    // The two that were put aside, and the one that was waited for.
    run.eventually_found(|count| count == 3);
    assert!(run.end());
}

#[test]
fn an_orphan_without_session_and_environment_is_known_by_its_namespace() {
    // A user namespace is what an ordinary user's worker has; where a host allows none there is nothing to test.
    let probe = Command::new("unshare").args(["-U", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return;
    }
    let script = "exec unshare -U bash -c '(exec env -i setsid /bin/sleep 600 > /dev/null &); echo up; exec sleep 600'";
    let mut run = Run::start(script, "namespace");
    let namespace = Id::of_process(run.child.id(), Kind::User).unwrap();
    assert_ne!(namespace, Id::of_process(std::process::id(), Kind::User).unwrap());
    run.marks.namespaces = vec![namespace];
    run.end_main();
    run.eventually_found(|count| count == 1);
    let sees = |path: &str| std::fs::read(format!("/proc/{}/{path}", run.found().first().unwrap())).unwrap();
    let deadline = Instant::now() + CAP;
    while sees("cmdline") != b"/bin/sleep\x00600\x00" {
        assert!(Instant::now() < deadline, "{:?}", String::from_utf8_lossy(&sees("cmdline")));
    }
    // Nothing but the namespace leads to it.
    let blind = Marks { namespaces: Vec::new(), ..run.marks.clone() };
    assert_eq!(descendants::find(&blind).unwrap(), BTreeSet::new());
    assert!(run.end());
}

#[test]
fn processes_that_keep_forking_away_are_ended() {
    // Each of the chains is another process every few milliseconds, and its parent is gone by then. It does not grow and ends
    // by itself, out of regard for the machine it runs on.
    let script = "b() { [ $SECONDS -gt 60 ] || (sleep 0.01; b) & }; for i in 1 2 3 4 5 6 7 8 9 10; do b; done; echo up; exec sleep 600";
    let mut run = Run::start(script, "chains");
    run.eventually_found(|count| count > 10);
    assert!(run.end());
}

#[test]
fn a_beginning_of_the_environment_finds_all_whose_entry_begins_so() {
    let mut one = Run::start("echo up; exec sleep 600", "life/1");
    let mut two = Run::start("echo up; exec sleep 600", "life/2");
    let mut other = Run::start("echo up; exec sleep 600", "lifeless/1");
    let beginning = Some(Environment::Beginning(b"WATT_TEST_RUN=life/".into()));
    let marks = Marks { environment: beginning, ..Marks::default() };
    let found = descendants::find(&marks).unwrap();
    assert_eq!(found, [one.child.id(), two.child.id()].into());
    assert!(one.end() && two.end() && other.end());
}

#[test]
fn others_are_left_alone() {
    let mut one = Run::start("echo up; sleep 600", "one");
    let mut two = Run::start("echo up; sleep 600", "two");
    let found = one.found();
    assert!(found.contains(&one.child.id()));
    assert!(!found.contains(&two.child.id()) && !found.contains(&std::process::id()));
    assert!(one.end());
    assert!(two.found().contains(&two.child.id()));
    assert!(two.end());
}

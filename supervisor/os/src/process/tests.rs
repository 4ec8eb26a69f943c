//! Children of the test process. Each is waited for by its pidfd, because other tests have children too.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
    unistd::pipe,
};

use super::*;

/// Runs `/bin/sh -c script` with the given descriptors after standard input, which is /dev/null.
fn sh(
    way: Way<'_>,
    script: &str,
    descriptors: &[&OwnedFd],
    nofile: Option<(u64, u64)>,
) -> Result<Child, SpawnError> {
    let shell = File::open("/bin/sh").unwrap();
    let null = File::open("/dev/null").unwrap();
    let all: Vec<BorrowedFd<'_>> =
        [null.as_fd()].into_iter().chain(descriptors.iter().map(|fd| fd.as_fd())).collect();
    let argv = [c"sh".into(), c"-c".into(), CString::new(script).unwrap()];
    spawn_by(
        way,
        &Launch {
            program: shell.as_fd(),
            argv: &argv,
            env: &[c"PATH=/usr/bin:/bin".into()],
            descriptors: &all,
            cgroup: None,
            nofile,
            isolation: Isolation::None,
        },
    )
}

/// Every way to make a child.
fn each(check: impl Fn(Way<'_>)) {
    let slots = Slots::reserve(16).unwrap();
    check(Way::Clone3);
    check(Way::Clone);
    match &slots {
        Some(slots) => check(Way::Slots(slots)),
        None => println!("no close_range(2) here"),
    }
}

fn wait(child: &Child) -> WaitStatus {
    waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap()
}

fn output(way: Way<'_>, script: &str, nofile: Option<(u64, u64)>) -> String {
    let (read, write) = pipe().unwrap();
    let child = sh(way, script, &[&write, &write], nofile).unwrap();
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    wait(&child);
    text
}

#[test]
fn exit_statuses_and_signals_are_the_childs() {
    each(|way| {
        let child = sh(way, "exit 7", &[], None).unwrap();
        assert!(matches!(wait(&child), WaitStatus::Exited(pid, 7) if pid.as_raw() as u32 == child.pid));
        let child = sh(way, "read -r line", &[], None).unwrap();
        assert!(matches!(wait(&child), WaitStatus::Exited(_, 1)), "standard input is at its end");
    });
}

#[test]
fn descriptors_arrive_in_order_and_no_others_do() {
    // Open without close-on-exec and with a number that is not the child's: it must not arrive.
    let stray = fcntl(File::open("/dev/zero").unwrap(), FcntlArg::F_DUPFD(40)).unwrap();
    each(|way| {
        let text = output(way, "for fd in /proc/self/fd/*; do readlink $fd; done", None);
        assert!(!text.contains("/dev/zero"), "{text}");
        assert_eq!(text.lines().next(), Some("/dev/null"), "{text}");
        assert_eq!(text.matches("pipe:").count(), 2, "{text}");
    });
    nix::unistd::close(stray).unwrap();
}

#[test]
fn low_descriptors_are_not_overwritten_before_they_are_placed() {
    let (read, write) = pipe().unwrap();
    // Each is wanted at the other's number: descriptors 1 to 60 cover both.
    let filler: Vec<OwnedFd> = (0..28).map(|_| write.try_clone().unwrap()).collect();
    let mut list: Vec<&OwnedFd> = filler.iter().collect();
    list.extend(filler.iter().rev());
    list.push(&read);
    each(|way| {
        let child = sh(
            way,
            "i=1; while [ $i -le 56 ]; do [ -w /proc/self/fd/$i ] || exit 3; i=$((i+1)); done",
            &list,
            None,
        );
        assert!(matches!(wait(&child.unwrap()), WaitStatus::Exited(_, 0)));
    });
}

#[test]
fn slots_hold_nothing_after_a_spawn() {
    let Some(slots) = Slots::reserve(16).unwrap() else { return println!("no close_range(2) here") };
    let (read, write) = pipe().unwrap();
    let child =
        sh(Way::Slots(&slots), "exec >&- 2>&-; read -r line; exit 5", &[&write, &write], None).unwrap();
    drop(write);
    // Ends when the last copy of the other side is closed.
    let mut ends = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut ends, PollTimeout::from(10_000u16)).unwrap(), 1, "a copy is left");
    assert_eq!(io::read_to_string(File::from(read)).unwrap(), "");
    assert!(matches!(wait(&child), WaitStatus::Exited(_, 5)));
    let open = format!("/proc/self/fd/{}", slots.end() - 1);
    assert_eq!(fs::read_link(open).unwrap(), Path::new("/dev/null"));
}

#[test]
fn the_limit_of_descriptors_is_set() {
    each(|way| {
        assert_eq!(output(way, "ulimit -Sn; ulimit -Hn", Some((123, 456))), "123\n456\n");
    });
}

#[test]
fn what_cannot_be_executed_is_named_and_leaves_no_process() {
    let text = File::open("/etc/passwd").unwrap();
    let launch = Launch {
        program: text.as_fd(),
        argv: &[],
        env: &[],
        descriptors: &[],
        cgroup: None,
        nofile: None,
        isolation: Isolation::None,
    };
    each(|way| {
        let error = spawn_by(way, &launch).unwrap_err();
        assert_eq!((error.step, error.errno), ("execveat", Errno::EACCES));
    });
}

#[test]
fn a_directory_that_is_no_cgroup_is_refused() {
    let shell = File::open("/bin/sh").unwrap();
    let directory = File::open("/etc").unwrap();
    let launch = Launch {
        program: shell.as_fd(),
        argv: &[],
        env: &[],
        descriptors: &[],
        cgroup: Some(directory.as_fd()),
        nofile: None,
        isolation: Isolation::None,
    };
    let error = spawn_by(Way::Clone3, &launch).unwrap_err();
    assert_eq!((error.step, error.errno), ("cgroup", Errno::EBADF));
    assert_eq!(spawn_by(Way::Clone, &launch).unwrap_err().step, "cgroup");
}

/// A cgroup v2 directory of our own below the present one, if there is one and we may make it.
fn make_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let cgroup = Path::new(mount).join(own).join(format!("watt-test-process-{}", std::process::id()));
    fs::create_dir(&cgroup).is_ok().then_some(cgroup)
}

#[test]
fn the_program_starts_in_its_cgroup() {
    let Some(cgroup) = make_cgroup() else { return println!("no cgroup v2 here that we may use") };
    let directory = File::open(&cgroup).unwrap();
    let cat = File::open("/bin/cat").unwrap();
    let null = File::open("/dev/null").unwrap();
    each(|way| {
        let (read, write) = pipe().unwrap();
        let launch = Launch {
            program: cat.as_fd(),
            argv: &[c"cat".into(), c"/proc/self/cgroup".into()],
            env: &[],
            descriptors: &[null.as_fd(), write.as_fd()],
            cgroup: Some(directory.as_fd()),
            nofile: None,
            isolation: Isolation::None,
        };
        let child = spawn_by(way, &launch).unwrap();
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        wait(&child);
        let name = cgroup.file_name().unwrap().to_str().unwrap();
        assert!(text.lines().any(|line| line.starts_with("0::/") && line.ends_with(name)), "{way:?}: {text}");
    });
    fs::remove_dir(cgroup).unwrap();
}

#[test]
fn a_process_is_born_in_its_namespaces() {
    let cat = File::open("/bin/cat").unwrap();
    let null = File::open("/dev/null").unwrap();
    let argv = [c"cat".into(), c"/proc/self/status".into(), c"/proc/self/uid_map".into()];
    let check = |way: Way<'_>, isolation: Isolation| {
        let (read, write) = pipe().unwrap();
        let descriptors = [null.as_fd(), write.as_fd()];
        let launch = Launch {
            program: cat.as_fd(),
            argv: &argv,
            env: &[],
            descriptors: &descriptors,
            cgroup: None,
            nofile: None,
            isolation,
        };
        let child = match spawn_by(way, &launch) {
            Ok(child) => child,
            // An ordinary user's, or a host that refuses it.
            Err(error) => {
                // Whether clone3 itself is refused or this, only the second try tells.
                let told =
                    error.step == "namespaces" || (error.step == "clone" && !matches!(way, Way::Clone));
                assert!(told, "{error:?}");
                return;
            }
        };
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        wait(&child);
        let line =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert!(line("NSpid:").ends_with("\t1"), "{way:?} {isolation:?} {text}");
        if isolation == Isolation::PidsAndUser {
            let uid = nix::unistd::geteuid().to_string();
            assert_eq!(
                text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>(),
                [&uid, &uid, "1"]
            );
            // All there are, handed on over execve.
            assert_eq!(line("CapEff:"), line("CapBnd:"));
            assert_eq!(line("CapAmb:"), line("CapBnd:"));
        }
    };
    each(|way| {
        [Isolation::Pids, Isolation::PidsAndUser].into_iter().for_each(|isolation| check(way, isolation))
    });
}

/// What the kernel shows of a cgroup that is frozen, and of one with a process that waits for a disk meanwhile.
#[test]
fn a_cgroup_is_frozen_from_the_moment_it_is_to_be() {
    let cases = [("0", "frozen 0", false), ("0", "frozen 1", true), ("1", "frozen 0", true)];
    for (switch, events, expected) in cases {
        let cgroup = tempfile::tempdir().unwrap();
        fs::write(cgroup.path().join("cgroup.events"), format!("populated 1\n{events}\n")).unwrap();
        fs::write(cgroup.path().join("cgroup.freeze"), format!("{switch}\n")).unwrap();
        let folder = File::open(cgroup.path()).unwrap();
        assert_eq!(is_frozen(folder.as_fd()), expected, "{switch}, {events}");
    }
}

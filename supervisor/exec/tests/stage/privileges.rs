//! What is left of a program's rights, tried from inside as root and as an ordinary user: capabilities, groups, keys, signals,
//! system calls, scheduling.

use std::{
    fs::{self, Permissions},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{SocketAddr, UnixListener},
        },
    },
};

use nix::errno::Errno;
use watt_exec::plan::{
    Capabilities, FileAccess, HideProcesses, Identity, Landlock, LandlockRule, LaunchPlan, Mount, Namespaces,
    Report, Scheduling, Task,
};

use crate::harness::{User, eventually, folder, launch, program, shell, start};

/// Runs a plan for every kind of user and checks what its program wrote.
fn check(plan: impl Fn(User) -> LaunchPlan, expected: &str) {
    for user in User::all() {
        check_as(user, plan(user), expected);
    }
}

fn check_as(user: User, plan: LaunchPlan, expected: &str) {
    let finished = launch(user, plan);
    assert!(matches!(finished.reports.last(), Some(Report::Executing)), "{user:?}: {:?}", finished.reports);
    assert_eq!(finished.output, expected, "{user:?}");
}

fn fails(user: User, plan: LaunchPlan, step: &str, object: &str, errno: Errno) {
    let finished = launch(user, plan);
    let failure = finished.failure();
    let seen = (failure.step.as_str(), failure.object.as_str(), Errno::from_raw(failure.errno));
    assert_eq!(seen, (step, object, errno), "{user:?}");
    assert_eq!(finished.output, "");
}

const CHOWN: u64 = 1;
const NET_BIND_SERVICE: u64 = 1 << 10;

#[test]
fn root_keeps_the_capabilities_of_its_bounding_set() {
    if !User::Caller.is_root() {
        return;
    }
    let plan = |bounding, ambient, script: &str| LaunchPlan {
        capabilities: Some(Capabilities { bounding, ambient }),
        ..shell(script)
    };
    let sets = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | cut -f2 | sort -u";
    check_as(User::Caller, plan(CHOWN, 0, sets), "0000000000000000\n0000000000000001\n");
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let script = format!(
        "chown 1234 {0} && chown 0 {0}; mount -t tmpfs x {1} 2>/dev/null || echo refused",
        file.display(),
        folder.path().display()
    );
    check_as(User::Caller, plan(CHOWN, 0, &script), "refused\n");
    let change = format!("chown 1234 {} 2>/dev/null || echo refused", file.display());
    check_as(User::Caller, plan(!CHOWN, 0, &change), "refused\n");
}

#[test]
fn a_user_that_is_not_root_has_the_ambient_capabilities() {
    for user in User::all() {
        let plan = LaunchPlan {
            user_namespace: !user.is_root(),
            identity: user.is_root().then_some(Identity { uid: 1234, gid: 1234, groups: Vec::new() }),
            capabilities: Some(Capabilities {
                bounding: NET_BIND_SERVICE | CHOWN,
                ambient: NET_BIND_SERVICE,
            }),
            no_new_privs: true,
            ..shell(
                "id -u; grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status | cut -f2 | sort -u; grep CapBnd /proc/self/status",
            )
        };
        let uid = if user.is_root() { 1234 } else { user.uid() };
        check_as(user, plan, &format!("{uid}\n0000000000000400\nCapBnd:\t0000000000000401\n"));
    }
    // What one does not have cannot be handed on.
    for user in User::all().into_iter().filter(|user| !user.is_root()) {
        let capabilities = Some(Capabilities { bounding: CHOWN, ambient: CHOWN });
        let plan = LaunchPlan { capabilities, no_new_privs: true, ..shell("echo executed") };
        fails(user, plan, "credentials", "ambient capabilities", Errno::EPERM);
    }
}

#[test]
fn supplementary_groups_are_those_of_the_plan() {
    if !User::Caller.is_root() {
        return;
    }
    let plan = |groups: &[u32]| LaunchPlan {
        identity: Some(Identity { uid: 1234, gid: 5678, groups: groups.to_vec() }),
        ..shell("id -G")
    };
    check_as(User::Caller, plan(&[9, 11]), "5678 9 11\n");
    check_as(User::Caller, plan(&[]), "5678\n");
    fails(User::Nobody, plan(&[9]), "credentials", "uid 1234, gid 5678, groups [9]", Errno::EPERM);
}

/// As nginx does whose `error_log` is `/dev/stderr`.
#[test]
fn another_user_opens_its_output_anew() {
    if !User::Caller.is_root() {
        return;
    }
    let script = "echo one > /dev/stdout && echo two > /dev/stderr";
    let identity = Some(Identity { uid: 1234, gid: 1234, groups: Vec::new() });
    check_as(User::Caller, LaunchPlan { identity, ..shell(script) }, "one\ntwo\n");
}

#[test]
fn keys_of_another_session_are_not_found() {
    // add_key(2) and keyctl(2) by number: KEYCTL_SEARCH is 10, KEY_SPEC_SESSION_KEYRING is -3.
    let perl = |code: &str| program(&["/usr/bin/perl", "-e", code]);
    let key = format!("watt-test-{}", std::process::id());
    let add =
        format!("my @a = ('user', '{key}', 'x'); print syscall(248, @a, 1, -3) > 0 ? 'added ' : \"$! \"; ");
    let find =
        format!("my @f = ('user', '{key}'); print syscall(250, 10, -3, @f, 0) > 0 ? 'found' : 'not found';");
    // The keyring that the programs have without one of their own: this thread's, and gone with it.
    watt_os::keyring::join_new().unwrap();
    for user in User::all() {
        check_as(user, LaunchPlan { keyring: true, ..perl(&format!("{add}{find}")) }, "added found");
        check_as(user, perl(&find), "not found");
        check_as(user, perl(&add), "added ");
        check_as(user, perl(&find), "found");
        check_as(user, LaunchPlan { keyring: true, ..perl(&find) }, "not found");
        watt_os::keyring::join_new().unwrap();
    }
}

/// A domain in which everything can be read and executed, and one folder changed.
fn domain(folder: &std::path::Path) -> Landlock {
    let rule = |path: &std::path::Path, access| LandlockRule { path: path.into(), access, optional: false };
    Landlock {
        handled: FileAccess::ALL,
        rules: vec![
            rule("/".as_ref(), FileAccess::READ),
            rule(folder, FileAccess::ALL),
            rule("/dev/null".as_ref(), FileAccess::ALL),
        ],
        abstract_sockets: true,
        signals: true,
    }
}

fn has_landlock() -> bool {
    watt_os::landlock::abi().is_ok_and(|abi| abi >= 6)
}

/// A domain that has a say in files refuses what crosses folders by itself.
#[test]
fn files_move_between_folders_where_making_them_is_left_alone() {
    if !has_landlock() {
        return println!("this kernel's Landlock is too old");
    }
    let devices = FileAccess { devices: true, ..FileAccess::default() };
    let rule = LandlockRule { path: "/dev".into(), access: devices, optional: true };
    let landlock = Landlock { handled: devices, rules: vec![rule], ..Landlock::default() };
    let folder = folder();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let script = format!(
        "cd {} && mkdir a b && echo x > a/one && perl -e 'rename(\"a/one\", \"b/one\") && link(\"b/one\", \"a/two\") or die $!' \
         && echo moved; rm -rf a b",
        folder.path().display()
    );
    let plan = |landlock| LaunchPlan { landlock, no_new_privs: true, ..shell(&script) };
    check(|_| plan(Some(landlock.clone())), "moved\n");
}

#[test]
fn landlock_refuses_files_even_to_root() {
    if !has_landlock() {
        return println!("this kernel's Landlock is too old");
    }
    let (inside, outside) = (folder(), folder());
    for folder in [&inside, &outside] {
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        fs::write(folder.path().join("file"), "text\n").unwrap();
        fs::set_permissions(folder.path().join("file"), Permissions::from_mode(0o666)).unwrap();
    }
    let script = format!(
        "cd {}; for d in . {}; do (echo x > $d/new && rm $d/new && echo made; echo y >> $d/file && echo written) 2>/dev/null; \
         cat $d/file >/dev/null && echo read; done",
        inside.path().display(),
        outside.path().display()
    );
    let plan = |landlock| LaunchPlan { landlock, no_new_privs: true, ..shell(&script) };
    let all = "made\nwritten\nread\n";
    check(|_| plan(Some(domain(inside.path()))), &format!("{all}read\n"));
    check(|_| plan(None), &format!("{all}{all}"));
    // What no rule allows to be read is not.
    let mut blind = domain(inside.path());
    blind.rules[0].access = FileAccess { read: false, ..FileAccess::READ };
    blind.rules.extend(["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/dev/null"].map(|path| {
        LandlockRule {
            path: path.into(),
            access: FileAccess { write: path == "/dev/null", ..FileAccess::READ },
            optional: true,
        }
    }));
    check(
        |_| LaunchPlan {
            landlock: Some(blind.clone()),
            no_new_privs: true,
            ..shell("cat /etc/passwd 2>/dev/null || echo refused")
        },
        "refused\n",
    );
    // Nor executed.
    let mut inert = domain(inside.path());
    inert.rules[0].access = FileAccess { execute: false, ..FileAccess::READ };
    for user in User::all() {
        let plan = LaunchPlan { landlock: Some(inert.clone()), no_new_privs: true, ..shell("echo executed") };
        fails(user, plan, "exec", "/bin/sh", Errno::EACCES);
    }
}

#[test]
fn landlock_keeps_signals_and_abstract_sockets_inside() {
    if !has_landlock() {
        return println!("this kernel's Landlock is too old");
    }
    let name = format!("watt-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let connect = format!(
        "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); print connect($s, pack('Sxa*', AF_UNIX, '{name}')) ? 'connected ' : 'refused '; \
         print kill(0, {}) ? 'reached' : 'refused';",
        std::process::id()
    );
    let folder = folder();
    let plan =
        |landlock| LaunchPlan { landlock, no_new_privs: true, ..program(&["/usr/bin/perl", "-e", &connect]) };
    check(|_| plan(Some(domain(folder.path()))), "refused refused");
    let files_only = Landlock { abstract_sockets: false, signals: false, ..domain(folder.path()) };
    for user in User::all() {
        // Another user's processes are out of reach anyway.
        let expected = if user == User::Caller { "connected reached" } else { "connected refused" };
        check_as(user, plan(Some(files_only.clone())), expected);
    }
}

#[test]
fn a_domain_that_cannot_be_made_or_entered_is_named() {
    if !has_landlock() {
        return println!("this kernel's Landlock is too old");
    }
    let plan = |path: &str, optional, no_new_privs| LaunchPlan {
        landlock: Some(Landlock {
            rules: vec![LandlockRule { path: path.into(), access: FileAccess::ALL, optional }],
            ..domain("/".as_ref())
        }),
        no_new_privs,
        ..shell("true")
    };
    for user in User::all() {
        fails(user, plan("/no/such/path", false, true), "landlock", "/no/such/path", Errno::ENOENT);
        if !user.is_root() {
            fails(user, plan("/", false, false), "landlock", "domain", Errno::EPERM);
        }
        let nothing = LaunchPlan { landlock: Some(Landlock::default()), ..shell("echo ok") };
        check_as(user, nothing, "ok\n");
    }
    // Rules may make the program itself impossible to execute: then they say too little.
    fails(User::Caller, plan("/no/such/path", true, true), "exec", "/bin/sh", Errno::EACCES);
}

/// A filter by which a system call fails with an error number (seccomp(2)), for the build's own architecture.
fn refuse(call: i64, errno: Errno) -> Vec<u8> {
    let instruction =
        |code: u16, jt: u8, jf: u8, k: u32| [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()].concat();
    [
        // Load the number; if it is this one, fail; allow.
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, call as u32),
        instruction(0x06, 0, 0, 0x0005_0000 | errno as u32),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ]
    .concat()
}

#[test]
fn every_filter_refuses_its_system_call() {
    let filters = || vec![refuse(libc::SYS_mkdir, Errno::EXDEV), refuse(libc::SYS_sysinfo, Errno::EDOM)];
    let code = "print mkdir('/proc/watt') ? 'made' : $! + 0; my $b = ' ' x 200; print ' ', syscall(99, $b) < 0 ? $! + 0 : 'told';";
    let plan =
        |seccomp| LaunchPlan { seccomp, no_new_privs: true, ..program(&["/usr/bin/perl", "-e", code]) };
    check(|_| plan(filters()), "18 33");
    check(|_| plan(vec![refuse(libc::SYS_sysinfo, Errno::EDOM)]), "2 33");
}

/// Root's program, and another user's, have every right over what is theirs and none over the host's.
#[test]
fn in_users_of_its_own_a_program_has_no_right_over_the_host() {
    if !User::Caller.is_root() {
        return println!("needs root");
    }
    let folder = folder();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let script = format!(
        "tr -s ' ' </proc/self/uid_map; cd {}; f=$(id -u)-$$; touch $f; chown 1 $f 2>/dev/null || echo refused; \
         umount /proc 2>/dev/null || echo refused; grep -E '^Cap(Prm|Bnd)' /proc/self/status | tr -d '\\t'",
        folder.path().display()
    );
    let nobody = || Some(Identity { uid: 65534, gid: 65534, groups: vec![7] });
    let [sys_admin, both] = [1 << 21, CHOWN | 1 << 21];
    for pid in [false, true] {
        for (identity, ambient, uid) in [(None, 0, 0), (nobody(), sys_admin, 65534)] {
            let capabilities = Some(Capabilities { bounding: both, ambient });
            let namespaces = Namespaces { pid, ..Namespaces::default() };
            let mounts = vec![Mount::Proc { hide: HideProcesses::None, processes_only: false }];
            let plan = LaunchPlan {
                private_users: true,
                identity,
                capabilities,
                namespaces,
                mounts,
                ..shell(&script)
            };
            let left = if uid == 0 { both } else { sys_admin };
            let finished = launch(User::Caller, plan);
            let expected =
                format!(" {uid} {uid} 1\nrefused\nrefused\nCapPrm:{left:016x}\nCapBnd:{both:016x}\n");
            assert_eq!(finished.output, expected, "{pid} {:?}", finished.reports);
        }
    }
}

/// Root's right to put up a filter around a program that may gain rights is not the program's.
#[test]
fn a_filter_without_no_new_privs_leaves_no_right_behind() {
    if !User::Caller.is_root() {
        return println!("needs root");
    }
    let script = "grep -E '^(CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t\\n'";
    let nobody = || Some(Identity { uid: 65534, gid: 65534, groups: Vec::new() });
    let chown = || Some(Capabilities { bounding: 1, ambient: 0 });
    let both = || Some(Capabilities { bounding: 1, ambient: 1 });
    let zero = "0000000000000000";
    let one = "0000000000000001";
    for (identity, capabilities, left, ambient) in [
        (nobody(), None, zero, zero),
        (nobody(), chown(), zero, zero),
        (nobody(), both(), one, one),
        (None, chown(), one, zero),
    ] {
        let seccomp = vec![refuse(libc::SYS_mkdir, Errno::EXDEV)];
        let plan = LaunchPlan { identity, capabilities, seccomp, ..shell(script) };
        let expected = format!("CapPrm:{left}CapEff:{left}CapAmb:{ambient}NoNewPrivs:0Seccomp:2");
        check_as(User::Caller, plan, &expected);
    }
}

#[test]
fn a_filter_that_is_none_is_named_and_so_is_a_program_behind_one() {
    let filter = || refuse(libc::SYS_mkdir, Errno::EPERM);
    let plan = |seccomp, no_new_privs| LaunchPlan { seccomp, no_new_privs, ..shell("echo executed") };
    for user in User::all() {
        fails(user, plan(vec![filter(), vec![0; 7]], true), "seccomp", "filter 1", Errno::EINVAL);
        fails(user, plan(vec![Vec::new()], true), "seccomp", "filter 0", Errno::EINVAL);
        fails(user, plan(vec![vec![0xff; 8]], true), "seccomp", "filter 0", Errno::EINVAL);
        if !user.is_root() {
            fails(user, plan(vec![filter()], false), "seccomp", "filter 0", Errno::EACCES);
        }
        let missing = LaunchPlan { argv: program(&["/no/such/program"]).argv, ..plan(vec![filter()], true) };
        fails(user, missing, "exec", "/no/such/program", Errno::ENOENT);
    }
}

#[test]
fn scheduling_is_as_asked_for() {
    let scheduling = Scheduling {
        nice: Some(7),
        policy: Some((3, 0)),
        slice_ns: Some(100_000),
        affinity: vec![0],
        io: Some((3, 0)),
        oom_score_adj: Some(9),
    };
    let script = "nice; chrt -p $$ | sed 's/.*: //'; grep Cpus_allowed_list /proc/$$/status | cut -f2; ionice -p $$; cat /proc/$$/oom_score_adj";
    let expected = "7\nSCHED_BATCH\n0\n0\nidle\n9\n";
    check(|_| LaunchPlan { scheduling: scheduling.clone(), ..shell(script) }, expected);
}

#[test]
fn a_slice_is_as_short_as_asked_for_and_nice_stays() {
    if !std::fs::read_to_string("/proc/self/sched").unwrap_or_default().contains("se.slice") {
        return println!("not tried: this kernel has one slice for all");
    }
    let scheduling = Scheduling { nice: Some(3), slice_ns: Some(100_000), ..Scheduling::default() };
    let script = "nice; sed -n 's/^se.slice *: *//p' /proc/$$/sched";
    check(|_| LaunchPlan { scheduling: scheduling.clone(), ..shell(script) }, "3\n100000\n");
}

#[test]
fn scheduling_that_is_not_allowed_is_named() {
    let plan = |scheduling| LaunchPlan { scheduling, ..shell("echo executed") };
    let none = Scheduling::default;
    for user in User::all() {
        let far = Scheduling { affinity: vec![1023], ..none() };
        fails(user, plan(far), "scheduling", "CPUs [1023]", Errno::EINVAL);
        fails(
            user,
            plan(Scheduling { policy: Some((77, 0)), ..none() }),
            "scheduling",
            "policy 77, priority 0",
            Errno::EINVAL,
        );
        fails(
            user,
            plan(Scheduling { io: Some((9, 0)), ..none() }),
            "scheduling",
            "I/O class 9, level 0",
            Errno::EINVAL,
        );
        if !user.is_root() {
            fails(
                user,
                plan(Scheduling { nice: Some(-1), ..none() }),
                "scheduling",
                "nice -1",
                Errno::EACCES,
            );
            let realtime = Scheduling { policy: Some((1, 5)), ..none() };
            fails(user, plan(realtime), "scheduling", "policy 1, priority 5", Errno::EPERM);
        }
    }
}

#[test]
fn the_execution_domain_is_as_asked_for() {
    // ADDR_NO_RANDOMIZE
    let plan = |personality| LaunchPlan { personality, ..shell("cat /proc/$$/personality") };
    for user in User::all() {
        let output = |personality| launch(user, plan(personality)).output;
        // Another user's file of this name is not to be read once the program has changed.
        assert_eq!(output(Some(0x0004_0000)), "00040000\n");
        assert_eq!(output(None), "00000000\n");
    }
}

/// Where it is held up, what it is can be seen in whose its files in /proc are: root's alone when nobody of its user may trace it.
#[test]
fn a_stage_that_comes_in_to_others_cannot_be_looked_at_by_them() {
    if !User::Caller.is_root() {
        return;
    }
    let folder = folder();
    let held = folder.path().join("held");
    nix::unistd::mkfifo(&held, nix::sys::stat::Mode::S_IRUSR).unwrap();
    fs::set_permissions(&held, Permissions::from_mode(0o666)).unwrap();
    let process = fs::File::open("/dev/null").unwrap();
    let owner = |join: Option<u32>| {
        let plan = LaunchPlan { join, join_cgroups: vec![held.clone()], ..shell("") };
        let passed: &[std::os::fd::BorrowedFd<'_>] = if join.is_some() { &[process.as_fd()] } else { &[] };
        let stage = start(User::Nobody, &Task::Launch(Box::new(plan)), passed);
        let file = |name: &str| format!("/proc/{}/{name}", stage.pid());
        eventually("the stage waits for a reader", || {
            let where_it_waits = fs::read_to_string(file("wchan")).unwrap_or_default();
            where_it_waits.contains("partner") || where_it_waits.contains("fifo")
        });
        fs::metadata(file("environ")).unwrap().uid()
    };
    assert_eq!(owner(None), User::Nobody.uid());
    assert_eq!(owner(Some(std::process::id())), 0);
}

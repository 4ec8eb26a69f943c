//! What each step of a launch does, seen from inside the program, as root and as an ordinary user.

use std::{
    fs::{self, File, Permissions},
    io::Read,
    net::TcpListener,
    os::{
        fd::AsFd,
        unix::fs::{PermissionsExt, symlink},
    },
};

use crate::harness::{User, bind, bind_optional, bytes, eventually, folder, launch, program, shell, start};
use watt_exec::plan::{
    Capabilities, HiddenFolder, Identity, LaunchPlan, Mount, NOTIFICATION, Report, Scheduling, Task,
};
use watt_os::{
    cgroup::{Host, Tree},
    rlimit::{self, Resource},
};

const NONE: Capabilities = Capabilities { bounding: 0, ambient: 0 };
const IDENTITY: Identity = Identity { uid: 1234, gid: 5678, groups: Vec::new() };

/// Runs a plan for every kind of user and checks what its program wrote.
fn check(plan: impl Fn(User) -> LaunchPlan, expected: &str) {
    for user in User::all() {
        let finished = launch(user, plan(user));
        assert_eq!(finished.reports, [Report::Executing], "{user:?}: {}", finished.output);
        assert_eq!(finished.output, expected, "{user:?}");
        assert_eq!(finished.status, Some(0), "{user:?}");
    }
}

/// A line of /proc/self/status of the program.
fn status(plan: LaunchPlan, user: User, name: &str) -> String {
    let plan = LaunchPlan { argv: program(&["/bin/cat", "/proc/self/status"]).argv, ..plan };
    let finished = launch(user, plan);
    let line = finished.output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {name} in {:?} after {:?}", finished.output, finished.reports))
        .to_owned()
}

#[test]
fn arguments_and_environment_are_the_plans_alone() {
    let env = || vec![b"B=2".to_vec(), b"A=1 \xc3\xa4".to_vec()];
    check(|_| LaunchPlan { env: env(), ..program(&["/usr/bin/env"]) }, "B=2\nA=1 ä\n");
    check(|_| program(&["/bin/echo", "a b", "", "*"]), "a b  *\n");
}

#[test]
fn directory_and_umask() {
    check(|_| LaunchPlan { cwd: "/usr/bin".into(), umask: 0o027, ..shell("pwd; umask") }, "/usr/bin\n0027\n");
}

#[test]
fn the_program_leads_a_session_and_reads_nothing() {
    check(
        |_| shell("read -r _ _ _ _ _ session _ < /proc/$$/stat; [ $session = $$ ] && readlink /proc/$$/fd/0"),
        "/dev/null\n",
    );
}

#[test]
fn standard_input_is_a_file_with_the_programs_rights() {
    let folder = folder();
    let file = folder.path().join("input");
    fs::write(&file, "read\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let plan =
        |stdin: &std::path::Path| LaunchPlan { stdin: Some(stdin.to_owned()), ..shell("cat; echo done") };
    let zeros = || LaunchPlan { stdin: Some("/dev/zero".into()), ..shell("head -c 3 | wc -c") };
    check(|_| zeros(), "3\n");
    for user in User::all() {
        let finished = launch(user, plan(&file));
        match user {
            User::Caller => assert_eq!(finished.output, "read\ndone\n"),
            User::Nobody => {
                let failure = finished.failure();
                assert_eq!(
                    (failure.step.as_str(), failure.errno),
                    ("stdin", nix::errno::Errno::EACCES as i32)
                );
            }
        }
        let fifo = folder.path().join(format!("fifo{}", user.uid()));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        fs::set_permissions(&fifo, Permissions::from_mode(0o666)).unwrap();
        // Nobody writes to it, and it is at its end.
        assert_eq!(launch(user, plan(&fifo)).output, "done\n");
    }
}

#[test]
fn the_daemon_keeps_its_session_and_leads_a_group() {
    check(
        |_| LaunchPlan {
            keeps_session: true,
            ..shell(
                "read -r _ _ _ _ group session _ < /proc/$$/stat; [ $group = $$ ] && [ $session != $$ ] && echo kept",
            )
        },
        "kept\n",
    );
}

#[test]
fn no_signal_is_ignored_or_blocked() {
    for user in User::all() {
        for set in ["SigBlk", "SigIgn"] {
            assert_eq!(status(shell(""), user, set), "0000000000000000", "{user:?} {set}");
        }
    }
}

#[test]
fn no_descriptor_is_left() {
    check(|_| shell("for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true"), "0\n1\n2\n");
}

#[test]
fn every_limit_is_set() {
    let lowered = |resource: Resource| {
        let now = rlimit::get(None, resource).unwrap();
        let bound = match resource {
            // What the shell needs to run at all.
            Resource::As | Resource::Data | Resource::Stack | Resource::Rss => 512 << 20,
            Resource::Nproc => 20_000,
            Resource::Nice | Resource::Rtprio => 0,
            _ => 100,
        };
        let hard = now.hard.min(bound);
        (resource.number(), hard.min(hard / 2 + 1), hard)
    };
    let limits: Vec<(u32, u64, u64)> = Resource::ALL.into_iter().map(lowered).collect();
    for user in User::all() {
        let plan = LaunchPlan { rlimits: limits.clone(), ..program(&["/bin/cat", "/proc/self/limits"]) };
        let finished = launch(user, plan);
        // In the order of their numbers: name, soft, hard, unit.
        let lines: Vec<&str> = finished.output.lines().skip(1).collect();
        assert_eq!(lines.len(), limits.len(), "{user:?} {:?}", finished.reports);
        for (number, soft, hard) in &limits {
            let words: Vec<&str> = lines[*number as usize].split_whitespace().collect();
            let pair = [soft.to_string(), hard.to_string()];
            assert!(words.windows(2).any(|words| words == pair), "{user:?} {number}: {words:?} {pair:?}");
        }
    }
}

#[test]
fn no_new_privileges() {
    for user in User::all() {
        let plan = LaunchPlan { no_new_privs: true, ..shell("") };
        assert_eq!(status(plan, user, "NoNewPrivs"), "1");
        assert_eq!(status(shell(""), user, "NoNewPrivs"), "0");
    }
}

#[test]
fn an_ordinary_user_keeps_its_id_and_gains_nothing_in_a_user_namespace() {
    for user in User::all().into_iter().filter(|user| !user.is_root()) {
        let plan = || LaunchPlan { user_namespace: true, ..shell("") };
        let uid = user.uid();
        assert_eq!(status(plan(), user, "Uid"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
        for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(status(plan(), user, set), "0000000000000000", "{set}");
        }
        let dropped = LaunchPlan { capabilities: Some(NONE), ..plan() };
        assert_eq!(status(dropped, user, "CapBnd"), "0000000000000000");
    }
}

#[test]
fn root_can_become_another_user_without_groups_and_rights() {
    if !User::Caller.is_root() {
        return;
    }
    let plan = || LaunchPlan { identity: Some(IDENTITY), capabilities: Some(NONE), ..shell("") };
    assert_eq!(status(plan(), User::Caller, "Uid"), "1234\t1234\t1234\t1234");
    assert_eq!(status(plan(), User::Caller, "Gid"), "5678\t5678\t5678\t5678");
    assert_eq!(status(plan(), User::Caller, "Groups").trim(), "");
    // Root itself can give up all, and does not get it back by execve.
    let still_root = || LaunchPlan { identity: None, ..plan() };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(plan(), User::Caller, set), "0000000000000000", "{set}");
        assert_eq!(status(still_root(), User::Caller, set), "0000000000000000", "{set}");
    }
}

#[test]
fn dropping_rights_one_does_not_have_needs_no_new_privs() {
    for user in User::all().into_iter().filter(|user| !user.is_root()) {
        let plan = |no_new_privs| LaunchPlan { capabilities: Some(NONE), no_new_privs, ..shell("") };
        assert_eq!(launch(user, plan(true)).status, Some(0));
        assert_eq!(launch(user, plan(false)).failure().step, "credentials");
    }
}

#[test]
fn the_oom_score_can_be_raised() {
    let plan = |_| LaunchPlan {
        scheduling: Scheduling { oom_score_adj: Some(777), ..Scheduling::default() },
        ..program(&["/bin/cat", "/proc/self/oom_score_adj"])
    };
    check(plan, "777\n");
}

#[test]
fn the_program_dies_with_the_one_who_started_it() {
    for user in User::all() {
        let plan = LaunchPlan {
            // The kernel forgets the wish when the user changes, so this shows the order of the steps as well.
            identity: user.is_root().then_some(IDENTITY),
            parent_death_signal: Some(9),
            no_new_privs: true,
            ..program(&["setpriv", "--dump"])
        };
        let output = launch(user, plan).output;
        let line = output.lines().find(|line| line.starts_with("Parent death signal:"));
        assert!(
            line.is_some_and(|line| line.ends_with("KILL") || line.ends_with("Killed")),
            "{user:?} {output}"
        );
    }
}

#[test]
fn files_are_shown_in_place_of_others() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("ours"), "ours\n").unwrap();
    fs::write(at("theirs"), "theirs\n").unwrap();
    symlink("theirs", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let plan = |user: User| LaunchPlan {
        user_namespace: !user.is_root(),
        mounts: vec![
            bind(at("ours"), "/etc/hosts"),
            bind(at("ours"), at("link")),
            bind_optional(at("ours"), at("missing")),
            bind_optional(at("ours"), at("dangling")),
        ],
        cwd: folder.path().into(),
        ..program(&["/bin/cat", "/etc/hosts", "link", "theirs"])
    };
    check(plan, "ours\nours\nours\n");
    // The host sees nothing of it.
    assert_eq!(fs::read_to_string(at("theirs")).unwrap(), "theirs\n");
    assert_ne!(fs::read_to_string("/etc/hosts").unwrap(), "ours\n");
    assert!(!at("missing").exists());
}

#[test]
fn of_a_hidden_folder_only_one_below_is_seen() {
    let folder = folder();
    let keep = folder.path().join("run/workers/api/0");
    for path in [&keep, &folder.path().join("run/workers/web/0")] {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("mesh.sock"), "own\n").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    fs::write(folder.path().join("run/control.sock"), "").unwrap();
    fs::write(folder.path().join("run/hosts"), "ours\n").unwrap();
    let plan = |user: User| LaunchPlan {
        user_namespace: !user.is_root(),
        mounts: vec![
            Mount::HideFolder(HiddenFolder { folder: folder.path().join("run"), keep: keep.clone() }),
            bind(folder.path().join("run/hosts"), "/etc/hosts"),
        ],
        cwd: folder.path().into(),
        ..shell(
            "rm -f run/workers/api/0/new; find run -type f; cat run/workers/api/0/mesh.sock /etc/hosts; echo new > run/workers/api/0/new; \
             touch run/x 2> /dev/null || echo refused",
        )
    };
    check(plan, "run/workers/api/0/mesh.sock\nown\nours\nrefused\n");
    // The host sees what was made in the folder that was kept, and nothing of the cover.
    assert_eq!(fs::read_to_string(keep.join("new")).unwrap(), "new\n");
    assert!(folder.path().join("run/control.sock").exists());
}

/// As programs are told that are made for s6. A number of the stage's own is as good as any other, also with an init beside it.
#[test]
fn a_line_break_is_written_to_the_number_that_is_wanted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (number, listeners) in [(3, 0), (4, 0), (5, 1), (9, 1)] {
        let script = format!("echo >&{number}; exec {number}>&-; ls /proc/self/fd | tr '\\n' ' '");
        let plan = LaunchPlan { notification_fd: Some(number), listeners, ..shell(&script) };
        let passed = [listener.as_fd()];
        let passed = &passed[..usize::from(listeners)];
        let mut running = start(User::Caller, &Task::Launch(Box::new(plan)), passed);
        running.read_reports();
        let pipe = running.take(NOTIFICATION);
        let finished = running.finish();
        assert_eq!(finished.status, Some(0), "{number}: {:?}", finished.reports);
        // ls(1) has one open itself.
        let expected = if listeners == 0 { "0 1 2 3 " } else { "0 1 2 3 4 " };
        assert_eq!(finished.output, expected, "{number}");
        let mut written = String::new();
        File::from(pipe).read_to_string(&mut written).unwrap();
        assert_eq!(written, "\n", "{number}");
    }
}

#[test]
fn a_notification_descriptor_is_not_a_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = LaunchPlan { notification_fd: Some(3), listeners: 1, ..shell("") };
    let finished = start(User::Caller, &Task::Launch(Box::new(plan)), &[listener.as_fd()]).finish();
    let failure = finished.failure();
    assert_eq!((failure.step.as_str(), failure.errno), ("listeners", nix::errno::Errno::EBUSY as i32));
}

#[test]
fn listeners_are_inherited_as_systemd_does_it() {
    let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let inodes: Vec<String> = listeners
        .iter()
        .map(|listener| format!("socket:[{}]", nix::sys::stat::fstat(listener).unwrap().st_ino))
        .collect();
    for user in User::all() {
        let script =
            "[ $LISTEN_PID = $$ ] && for fd in /proc/$$/fd/*; do [ -e $fd ] && readlink $fd; done; true";
        let plan = LaunchPlan { listeners: 2, ..shell(script) };
        let passed = [listeners[0].as_fd(), listeners[1].as_fd()];
        let finished = start(user, &Task::Launch(Box::new(plan)), &passed).finish();
        let sockets: Vec<&str> = finished.output.lines().skip(3).collect();
        assert_eq!(sockets, inodes, "{user:?} {:?}", finished.reports);
    }
}

#[test]
fn a_limit_of_open_files_does_not_keep_listeners_from_their_places() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nofile = (Resource::Nofile.number(), 5, 5);
    let plan =
        LaunchPlan { listeners: 1, rlimits: vec![nofile], ..program(&["/bin/sh", "-c", "echo >&1 ok"]) };
    let finished = start(User::Caller, &Task::Launch(Box::new(plan)), &[listener.as_fd()]).finish();
    assert_eq!(finished.output, "ok\n", "{:?}", finished.reports);
}

#[test]
fn the_program_is_found_in_the_plans_path() {
    let folder = folder();
    let script = |below: &str, text: &str, mode: u32| {
        fs::create_dir_all(folder.path().join(below)).unwrap();
        let path = folder.path().join(below).join("tool");
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    script("not-executable", "#!/bin/sh\necho wrong\n", 0o644);
    script("right", "#!/bin/sh\necho right\n", 0o755);
    script("later", "#!/bin/sh\necho later\n", 0o755);
    let path = ["missing", "not-executable", "right", "later"].map(|name| bytes(&folder.path().join(name)));
    let path = [b"PATH=".to_vec(), path.join(&b':')].concat();
    check(|_| LaunchPlan { env: vec![path.clone()], ..program(&["tool"]) }, "right\n");
    let here = || LaunchPlan { cwd: folder.path().join("later"), ..program(&["./tool"]) };
    check(|_| here(), "later\n");
    check(
        |_| LaunchPlan { env: vec![b"PATH=/nowhere:".to_vec()], argv: vec![b"tool".to_vec()], ..here() },
        "later\n",
    );
}

#[test]
fn a_passed_descriptor_can_be_the_program() {
    let echo = File::open("/bin/echo").unwrap();
    for user in User::all() {
        let plan = LaunchPlan {
            program: Some("/proc/self/fd/3".into()),
            listeners: 1,
            identity: user.is_root().then_some(IDENTITY),
            ..program(&["wattctl", "hello"])
        };
        let finished = start(user, &Task::Launch(Box::new(plan)), &[echo.as_fd()]).finish();
        assert_eq!(finished.output, "hello\n", "{:?}", finished.reports);
    }
}

#[test]
fn the_program_starts_inside_its_cgroups() {
    let host = Host::detect("/".as_ref()).unwrap();
    let tree = Tree::create(&host, &format!("test-exec-{}", std::process::id()));
    if !tree.is_usable() {
        assert!(!tree.refusals().is_empty());
        return;
    }
    let group = tree.create_worker("api", "0").unwrap();
    let plan =
        LaunchPlan { join_cgroups: group.legacy_tasks(), ..program(&["/bin/cat", "/proc/self/cgroup"]) };
    let finished = launch(User::Caller, plan);
    let inside = finished.output.lines().filter(|line| line.ends_with("app/api/0")).count();
    let hierarchies = group.legacy_tasks().len();
    eventually("the cgroups are empty", || group.remove().is_ok());
    for dir in tree.way_out().remove {
        let _ = fs::remove_dir(dir.join("app"));
        let _ = fs::remove_dir(dir.join("supervisor"));
        let _ = fs::remove_dir(dir);
    }
    assert_eq!(inside, hierarchies, "{:?} {}", finished.reports, finished.output);
}

//! What each kind of mount lets a program see and do, tried from inside as root and as an ordinary user. The scripts try what is
//! not to work.

use std::{
    fs::{self, Permissions},
    os::{
        fd::AsFd,
        unix::fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    thread,
};

use nix::errno::Errno;
use watt_exec::plan::{
    Capabilities, Credentials, HideProcesses, Identity, LaunchPlan, Mount, Namespaces, PrivateNetwork,
    Report, Task,
};
use watt_os::memfd;

use crate::harness::{User, bind, bind_optional, folder, launch, shell, start};

/// One in twenty was lost when a mount was made read-only after it was shown.
const RACES: usize = 100;
const NOTHING: Capabilities = Capabilities { bounding: 0, ambient: 0 };

fn mounted(user: User, mounts: Vec<Mount>, script: &str) -> LaunchPlan {
    LaunchPlan { user_namespace: !user.is_root(), mounts, ..shell(script) }
}

/// Runs a script among these mounts, for every kind of user, and checks what it wrote.
fn check(mounts: impl Fn() -> Vec<Mount>, script: &str, expected: &str) {
    for user in User::all() {
        check_plan(user, mounted(user, mounts(), script), expected);
    }
}

fn check_plan(user: User, plan: LaunchPlan, expected: &str) {
    let finished = launch(user, plan);
    assert!(matches!(finished.reports.last(), Some(Report::Executing)), "{user:?}: {:?}", finished.reports);
    assert_eq!(finished.output, expected, "{user:?}");
}

fn fails(mounts: impl Fn() -> Vec<Mount>, object: &str, errno: Errno) {
    for user in User::all() {
        let finished = launch(user, mounted(user, mounts(), "echo executed"));
        let failure = finished.failure();
        let seen = (failure.step.as_str(), failure.object.as_str(), Errno::from_raw(failure.errno));
        assert_eq!(seen, ("mounts", object, errno), "{user:?}");
        assert_eq!(finished.output, "");
    }
}

fn read_only(path: impl Into<PathBuf>) -> Mount {
    Mount::ReadOnly { path: path.into(), optional: false }
}

fn writable(path: impl Into<PathBuf>) -> Mount {
    Mount::Writable { path: path.into(), optional: false }
}

fn inaccessible(path: impl Into<PathBuf>) -> Mount {
    Mount::Inaccessible { path: path.into(), optional: false }
}

fn tmpfs(target: impl Into<PathBuf>) -> Mount {
    let target = target.into();
    Mount::Tmpfs { target, size: None, mode: 0o1777, no_exec: false, read_only: false, optional: false }
}

/// A folder that everybody may write, with these files.
fn open_folder(files: &[&str]) -> tempfile::TempDir {
    let folder = folder();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{file}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o777)).unwrap();
    }
    folder
}

#[test]
fn what_is_read_only_can_be_read_and_a_part_of_it_written() {
    let folder = open_folder(&["fixed/file", "fixed/open/file"]);
    let fixed = folder.path().join("fixed");
    let script = format!(
        "cd {}; cat file; (echo x > file) 2>/dev/null || echo refused; rm -f open/file 2>/dev/null && echo removed; \
         (mkdir new) 2>/dev/null || echo refused; rm -f open/new; echo x > open/new && echo written; chmod 600 file 2>/dev/null || echo refused",
        fixed.display()
    );
    for root in [fixed.clone(), "/".into()] {
        fs::write(fixed.join("open/file"), "").unwrap();
        fs::set_permissions(fixed.join("open/file"), Permissions::from_mode(0o666)).unwrap();
        let mounts = || vec![read_only(&root), writable(fixed.join("open"))];
        check(mounts, &script, "fixed/file\nrefused\nremoved\nrefused\nwritten\nrefused\n");
        // On the host as well.
        assert_eq!(fs::read_to_string(fixed.join("open/new")).unwrap(), "x\n");
        fs::remove_file(fixed.join("open/new")).unwrap();
    }
}

/// Programs cannot be executed, what an interpreter reads can still be read, and a part can be an exception.
#[test]
fn executing_can_be_forbidden_and_a_part_of_it_allowed() {
    let folder = open_folder(&["fixed/open/none"]);
    let fixed = folder.path().join("fixed");
    for place in [fixed.join("program"), fixed.join("open/program")] {
        fs::copy("/bin/true", &place).unwrap();
        fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
    }
    let executable =
        |path: &Path, allowed| Mount::Executable { path: path.to_owned(), allowed, optional: false };
    let script = format!(
        "cd {}; ./program 2>/dev/null || echo refused; ./open/program && echo executed; cat open/none",
        fixed.display()
    );
    let mounts = || vec![executable(&fixed, false), executable(&fixed.join("open"), true)];
    check(mounts, &script, "refused\nexecuted\nfixed/open/none\n");
    let left_out = || vec![Mount::Executable { path: "/none/such".into(), allowed: false, optional: true }];
    check(left_out, &script, "executed\nfixed/open/none\n");
}

#[test]
fn what_is_mounted_below_is_read_only_too() {
    let folder = open_folder(&["outer/inner/file"]);
    let outer = folder.path().join("outer");
    let script = format!("echo x > {0}/inner/new || echo x > {0}/new || echo refused", outer.display());
    let script = format!("({script}) 2>/dev/null");
    check(|| vec![tmpfs(outer.join("inner")), read_only(&outer)], &script, "refused\n");
    // What comes later is not.
    check(|| vec![read_only(&outer), tmpfs(outer.join("inner"))], &script, "");
}

/// What is in it can be changed as before: a folder that could not be written still cannot.
#[test]
fn what_is_pinned_is_not_renamed_and_otherwise_as_it_was() {
    let folder = open_folder(&["outer/inner/file"]);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let (outer, inner) = (folder.path().join("outer"), folder.path().join("outer/inner"));
    let pinned = |path: &Path, optional| Mount::Pinned { path: path.to_owned(), optional };
    let script = format!(
        "cd {}; for folder in outer outer/inner; do mv $folder $folder.old 2>/dev/null || echo stays; done; \
         (echo x > outer/inner/file) 2>/dev/null && echo written; cat outer/inner/file",
        folder.path().display()
    );
    let both = || vec![pinned(&outer, false), pinned(&inner, false), pinned(Path::new("/none"), true)];
    check(both, &script, "stays\nstays\nwritten\nx\n");
    let fixed = || [vec![read_only(&inner)], both()].concat();
    check(fixed, &script, "stays\nstays\nx\n");
    fails(|| vec![pinned(Path::new("/none"), false)], "/none", Errno::ENOENT);
}

#[test]
fn nothing_gives_back_the_right_to_write() {
    let folder = open_folder(&["fixed/file"]);
    let file = folder.path().join("fixed/file");
    let script = format!(
        "mount -o remount,rw,bind {0}; umount {0}; mount --bind /dev/null {1}; echo x > {1} || echo refused",
        folder.path().display(),
        file.display()
    );
    for user in User::all() {
        let plan = mounted(user, vec![read_only(folder.path())], &format!("({script}) 2>/dev/null"));
        // Without the right to mount, which root is left with otherwise.
        check_plan(user, LaunchPlan { capabilities: Some(NOTHING), ..plan }, "refused\n");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "fixed/file\n");
}

#[test]
fn an_empty_folder_in_memory_is_as_it_was_asked_for() {
    let folder = open_folder(&["tmp/secret"]);
    let target = folder.path().join("tmp");
    let at = target.clone();
    let mounts = move |no_exec, read_only| {
        let (target, size) = (at.clone(), Some(1 << 20));
        vec![Mount::Tmpfs { target, size, mode: 0o1777, no_exec, read_only, optional: false }]
    };
    let cd = format!("cd {}; ", target.display());
    check(|| mounts(false, false), &format!("{cd}ls -A; stat -c %a ."), "1777\n");
    let fill = "head -c 2000000 /dev/zero 2>/dev/null > big || echo full; stat -c %s big";
    check(|| mounts(false, false), &format!("{cd}{fill} 2>/dev/null"), "full\n1048576\n");
    let execute = "printf '#!/bin/sh\\necho executed\\n' > x; chmod 755 x; ./x 2>/dev/null || echo refused";
    check(|| mounts(false, false), &format!("{cd}{execute}"), "executed\n");
    check(|| mounts(true, false), &format!("{cd}{execute}"), "refused\n");
    check(|| mounts(false, true), &format!("{cd}touch x 2>/dev/null || echo refused"), "refused\n");
    let options = format!("grep ' {} ' /proc/self/mountinfo | cut -d' ' -f6", target.display());
    check(|| mounts(true, false), &options, "rw,nosuid,nodev,noexec,relatime\n");
    // The host's own is as it was.
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}

#[test]
fn what_is_inaccessible_cannot_be_opened_nor_listed() {
    let folder = open_folder(&["secrets/key", "file", "other"]);
    let at = |name: &str| folder.path().join(name);
    let script = format!(
        "cd {}; for try in 'cat secrets/key' 'ls secrets' 'cat file' 'echo x > file' 'echo x > secrets/x'; do \
         eval \"$try\" || echo refused; done; cat other",
        folder.path().display()
    );
    for user in User::all() {
        let mounts = vec![inaccessible(at("secrets")), inaccessible(at("file"))];
        let plan = mounted(user, mounts, &format!("({script}) 2>/dev/null"));
        let expected = "refused\n".repeat(5) + "other\n";
        check_plan(user, LaunchPlan { capabilities: Some(NOTHING), ..plan }, &expected);
    }
    // For a root that file modes do not hold, there is nothing to see.
    let empty = format!("cd {}; cat secrets/key; ls secrets; cat file", folder.path().display());
    check(
        || vec![inaccessible(at("secrets")), inaccessible(at("file"))],
        &format!("({empty}) 2>/dev/null"),
        "",
    );
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "file\n");
}

#[test]
fn a_bound_folder_is_as_writable_as_asked() {
    let folder = open_folder(&["source/file", "target/old"]);
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    let bind = |read_only| {
        let (source, target) = (source.clone(), target.clone());
        vec![Mount::Bind { source, target, read_only, optional: false }]
    };
    let script = format!("cd {}; ls; (echo x > file) 2>/dev/null || echo refused", target.display());
    check(|| bind(true), &script, "file\nrefused\n");
    check(|| bind(false), &script, "file\n");
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "x\n");
    assert!(target.join("old").exists());
}

/// Who owns a folder on the way may lead the path elsewhere at any moment. Then it is shown elsewhere, but not to be written.
#[test]
fn a_path_that_changes_meanwhile_leaves_nothing_writable() {
    let folder = open_folder(&["source/file", "a/point/other", "b/point/other"]);
    let at = |name: &str| folder.path().join(name);
    let lead = |to: &str| {
        symlink(to, at("next")).unwrap();
        fs::rename(at("next"), at("way")).unwrap();
    };
    lead("a");
    let bind =
        Mount::Bind { source: at("source"), target: at("way/point"), read_only: true, optional: false };
    let script = format!(
        "cd {}; for point in [ab]/point; do [ ! -e $point/file ] || touch $point/new 2>/dev/null || echo refused; done",
        folder.path().display()
    );
    let run = |user| launch(user, mounted(user, vec![bind.clone()], &script)).output;
    thread::scope(|scope| {
        let runs = scope.spawn(|| User::all().into_iter().cycle().take(RACES).map(run).collect::<Vec<_>>());
        ["b", "a"].into_iter().cycle().take_while(|_| !runs.is_finished()).for_each(lead);
        assert_eq!(runs.join().unwrap(), vec!["refused\n"; RACES]);
    });
}

#[test]
fn what_is_shown_is_the_hosts_even_where_it_was_covered() {
    let folder = open_folder(&["home/app/file", "home/other/file"]);
    let home = folder.path().join("home");
    let covered = || {
        let target = home.clone();
        Mount::Tmpfs { target, size: None, mode: 0o755, no_exec: true, read_only: true, optional: false }
    };
    let script = format!(
        "cd {}; find . -type f; touch x 2>/dev/null || echo refused; echo x > app/file && cat app/file",
        home.display()
    );
    check(|| vec![covered(), writable(home.join("app"))], &script, "./app/file\nrefused\nx\n");
    let elsewhere = || vec![covered(), bind(home.join("other"), home.join("deep/er"))];
    let script = format!("cd {}; cat deep/er/file; ls", home.display());
    check(elsewhere, &script, "home/other/file\ndeep\n");
    // Nothing was made on the host, and below what was shown of it nothing is.
    assert!(!home.join("deep").exists());
    let inside =
        || vec![covered(), writable(home.join("app")), bind(home.join("other"), home.join("app/new"))];
    let about = home.join("app/new");
    fails(inside, about.to_str().unwrap(), Errno::ENOENT);
    assert!(!about.exists());
}

#[test]
fn folders_made_for_mounts_can_be_passed_through_whatever_the_programs_mask() {
    let folder = open_folder(&["home/x", "source/file"]);
    let (home, source) = (folder.path().join("home"), folder.path().join("source"));
    for user in User::all() {
        let mounts = vec![tmpfs(&home), bind(&source, home.join("deep/er"))];
        let plan = LaunchPlan {
            umask: 0o077,
            identity: user.is_root().then_some(Identity { uid: 1234, gid: 1234, groups: Vec::new() }),
            ..mounted(user, mounts, &format!("cat {}/deep/er/file; umask", home.display()))
        };
        check_plan(user, plan, "source/file\n0077\n");
    }
}

#[test]
fn a_part_of_a_bound_folder_can_be_written() {
    let folder = open_folder(&["source/data/file", "target/x"]);
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    let mounts = || {
        let (source, target) = (source.clone(), target.clone());
        let data = target.join("data");
        vec![Mount::Bind { source, target, read_only: true, optional: false }, writable(data)]
    };
    let script = format!("cd {}; touch x 2>/dev/null || echo refused; echo y > data/file", target.display());
    check(mounts, &script, "refused\n");
    assert_eq!(fs::read_to_string(source.join("data/file")).unwrap(), "y\n");
}

#[test]
fn what_is_missing_is_named_or_left_out() {
    let missing = "/no/such/path";
    fails(|| vec![read_only(missing)], missing, Errno::ENOENT);
    fails(|| vec![writable(missing)], missing, Errno::ENOENT);
    fails(|| vec![inaccessible(missing)], missing, Errno::ENOENT);
    fails(|| vec![tmpfs(missing)], missing, Errno::ENOENT);
    fails(|| vec![bind("/etc", missing)], missing, Errno::ENOENT);
    fails(|| vec![bind(missing, "/etc")], missing, Errno::ENOENT);
    fails(|| vec![bind("/etc/passwd", "/etc")], "/etc", Errno::EINVAL);
    fails(|| vec![bind("/etc", "/")], "/", Errno::EINVAL);
    fails(|| vec![inaccessible("/")], "/", Errno::EINVAL);
    let folder = folder();
    let link = folder.path().join("link");
    symlink("/", &link).unwrap();
    fails(|| vec![writable(&link)], link.to_str().unwrap(), Errno::EINVAL);
    let path = || PathBuf::from(missing);
    let left_out = || {
        vec![
            Mount::ReadOnly { path: path(), optional: true },
            Mount::Writable { path: path(), optional: true },
            Mount::Inaccessible { path: path(), optional: true },
            bind_optional("/etc", missing),
            bind_optional(missing, "/etc"),
        ]
    };
    check(left_out, "[ -e /etc/passwd ] && echo there", "there\n");
}

/// `/etc/resolv.conf` is often one, to a file that a resolver keeps in /run.
#[test]
fn a_link_is_followed_to_what_is_mounted_on() {
    let folder = open_folder(&["real/shown", "real/covered", "real/written", "other"]);
    let at = |name: &str| folder.path().join(name);
    for name in ["shown", "covered", "written"] {
        symlink(format!("real/{name}"), at(name)).unwrap();
    }
    let mounts =
        || vec![bind(at("other"), at("shown")), inaccessible(at("covered")), read_only(at("written"))];
    let script = format!(
        "cd {}; cat shown; [ -s covered ] || echo closed; echo x 2>/dev/null >> written || echo stays",
        at("real").display()
    );
    check(mounts, &script, "other\nclosed\nstays\n");
}

/// How the application's folder and those above it stay where they are.
#[test]
fn what_is_mounted_on_itself_is_not_renamed() {
    for user in User::all() {
        let folder = open_folder(&["outer/inner/file"]);
        let outer = folder.path().join("outer");
        for path in [folder.path(), &outer] {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        }
        let script = format!(
            "cd {}; mv outer other 2>/dev/null || echo stays; mv outer/inner outer/other 2>/dev/null || echo stays; \
             mv outer/inner/file outer/inner/renamed && cat outer/inner/renamed",
            folder.path().display()
        );
        let pinned = vec![writable(&outer), writable(outer.join("inner"))];
        check_plan(user, mounted(user, pinned, &script), "stays\nstays\nouter/inner/file\n");
        let inner = mounted(
            user,
            vec![bind("/etc/hostname", "/etc/hostname")],
            &format!("cd {}; mv outer other && echo moved", folder.path().display()),
        );
        check_plan(user, inner, "moved\n");
    }
}

/// A folder of systemd's, for example, that watt's environment still names: it belongs to somebody else.
#[test]
fn what_nobody_here_can_get_to_is_left_out() {
    let folder = open_folder(&["closed/file"]);
    let closed = folder.path().join("closed");
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let paths = [closed.join("file"), closed.join("missing"), folder.path().join("x".repeat(300))];
    let left_out = || {
        let read_only = paths.iter().map(|path| Mount::ReadOnly { path: path.clone(), optional: true });
        let covers = paths.iter().map(|path| Mount::Inaccessible { path: path.clone(), optional: true });
        read_only.chain(covers).collect()
    };
    let script = format!("cat {} 2>/dev/null || echo closed", closed.join("file").display());
    // Who has the right to read everything has what is covered, too: an empty file.
    for user in User::all() {
        let finished = launch(user, mounted(user, left_out(), &script));
        assert!(
            matches!(finished.reports.last(), Some(Report::Executing)),
            "{user:?}: {:?}",
            finished.reports
        );
        assert!(["closed\n", ""].contains(&finished.output.as_str()), "{user:?}: {}", finished.output);
    }
}

#[test]
fn devices_are_those_that_are_no_hardware() {
    let script = "cd /dev; echo *; echo x > null; head -c 4 zero | od -An -tx1; head -c 2 urandom | wc -c; \
                  touch new 2>/dev/null || echo refused; mknod sda b 8 0 2>/dev/null || echo refused; \
                  readlink fd ptmx; ls pts; perl -e 'open(my $m, \"+<\", \"/dev/ptmx\") or die $!; print join(\" \", glob(\"/dev/pts/*\")), \"\\n\"'";
    for user in User::all() {
        let finished = launch(user, mounted(user, vec![Mount::Devices], script));
        let mut lines = finished.output.lines();
        let mut devices: Vec<&str> = lines.next().unwrap().split(' ').collect();
        // As far as the host has them.
        devices.retain(|name| !["shm", "mqueue", "log"].contains(name));
        let all = "core fd full null ptmx pts random stderr stdin stdout tty urandom zero";
        assert_eq!(devices.join(" "), all, "{user:?} {:?}", finished.reports);
        let rest: Vec<&str> = lines.collect();
        let expected = [
            " 00 00 00 00",
            "2",
            "refused",
            "refused",
            "/proc/self/fd",
            "pts/ptmx",
            "ptmx",
            "/dev/pts/0 /dev/pts/ptmx",
        ];
        assert_eq!(rest, expected, "{user:?}");
    }
}

#[test]
fn shared_memory_and_devices_of_its_own_go_together() {
    let mounts = || vec![Mount::Devices, tmpfs("/dev/shm")];
    let script = "echo x > /dev/shm/watt-test && ls /dev/shm; touch /dev/x 2>/dev/null || echo refused";
    check(mounts, script, "watt-test\nrefused\n");
    assert!(!Path::new("/dev/shm/watt-test").exists());
}

#[test]
fn processes_of_others_can_be_hidden() {
    if !User::Caller.is_root() {
        return;
    }
    let hidden = |hide, processes_only| LaunchPlan {
        identity: Some(Identity { uid: 1234, gid: 1234, groups: Vec::new() }),
        ..mounted(
            User::Caller,
            vec![Mount::Proc { hide, processes_only }],
            "[ -e /proc/1 ] && echo seen; cat /proc/1/cmdline >/dev/null 2>&1 && echo read; [ -e /proc/sys ] && echo sys; \
             [ -e /proc/$$ ] && echo own",
        )
    };
    let check = |hide, only, expected| check_plan(User::Caller, hidden(hide, only), expected);
    check(HideProcesses::None, false, "seen\nread\nsys\nown\n");
    check(HideProcesses::NoAccess, false, "seen\nsys\nown\n");
    check(HideProcesses::Invisible, false, "sys\nown\n");
    check(HideProcesses::NotPtraceable, true, "own\n");
}

#[test]
fn the_kernels_tree_is_that_of_the_own_network_and_cannot_be_written() {
    for user in User::all() {
        let plan = LaunchPlan {
            network: Some(PrivateNetwork::default()),
            ..mounted(
                user,
                vec![Mount::Sys],
                "ls /sys/class/net; [ -n \"$(ls /sys/fs/cgroup)\" ] && echo cgroups; \
                 (echo 1 > /sys/class/net/lo/mtu; mkdir /sys/fs/cgroup/*/x) 2>/dev/null || echo refused",
            )
        };
        check_plan(user, plan, "lo\ncgroups\nrefused\n");
    }
}

#[test]
fn message_queues_are_of_the_own_namespace() {
    for user in User::all() {
        let plan = |ipc| LaunchPlan {
            namespaces: Namespaces { ipc, ..Namespaces::default() },
            ..mounted(
                user,
                vec![tmpfs("/dev"), Mount::Mqueue],
                "ls /dev/mqueue; touch /dev/mqueue/watt-test && echo made",
            )
        };
        // Each run has another: nothing is left of the first.
        check_plan(user, plan(true), "made\n");
        check_plan(user, plan(true), "made\n");
        if !user.is_root() {
            // The host's is not the user's to mount.
            assert_eq!(launch(user, plan(false)).failure().object, "/dev/mqueue");
        }
    }
}

#[test]
fn the_hosts_mounts_stay_as_they_were() {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = open_folder(&["a/b"]);
    let mounts = || {
        vec![
            read_only("/"),
            writable(folder.path()),
            tmpfs("/tmp"),
            Mount::Devices,
            Mount::Sys,
            inaccessible("/proc/sys"),
        ]
    };
    for user in User::all() {
        let plan =
            LaunchPlan { network: Some(PrivateNetwork::default()), ..mounted(user, mounts(), "echo ok") };
        check_plan(user, plan, "ok\n");
    }
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

/// A launch with these credentials below /tmp, run to its end.
fn with_credentials(user: User, plan: LaunchPlan, files: &[(&str, &[u8])]) -> crate::harness::Finished {
    let files = files.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect();
    let encoded = postcard::to_stdvec(&Credentials { files }).unwrap();
    let memfd = memfd::sealed(c"credentials", &encoded).unwrap();
    let mounts = vec![tmpfs("/tmp"), Mount::Credentials { target: "/tmp/own/credentials".into() }];
    let plan = LaunchPlan { user_namespace: !user.is_root(), mounts, ..plan };
    start(user, &Task::Launch(Box::new(plan)), &[memfd.as_fd()]).finish()
}

#[test]
fn credentials_are_for_the_programs_user_alone_and_in_memory() {
    let script = "cd /tmp/own/credentials && cat key && stat -f -c %T . && stat -c '%a %u' . key
        ls /proc/self/fd | tr '\n' ' '
        echo x 2>/dev/null >key || echo key kept; echo x 2>/dev/null >new || echo nothing added
        ls; ls -a /tmp";
    for user in User::all() {
        let finished =
            with_credentials(user, shell(script), &[("key", b"of the shop\n"), ("other", b"\0\xff")]);
        let uid = user.uid();
        let expected = format!(
            "of the shop\nramfs\n500 {uid}\n400 {uid}\n0 1 2 3 key kept\nnothing added\nkey\nother\n.\n..\nown\n"
        );
        assert_eq!(finished.output, expected, "{user:?}: {:?}", finished.reports);
    }
}

#[test]
fn credentials_belong_to_the_user_that_the_program_becomes() {
    if !User::Caller.is_root() {
        return;
    }
    let identity = Identity { uid: 4242, gid: 4343, groups: vec![] };
    let plan = LaunchPlan {
        identity: Some(identity),
        ..shell("cat /tmp/own/credentials/key; stat -c '%a %u %g' /tmp/own/credentials/key")
    };
    let finished = with_credentials(User::Caller, plan, &[("key", b"mine\n")]);
    assert_eq!(finished.output, "mine\n400 4242 4343\n", "{:?}", finished.reports);
}

#[test]
fn a_credential_stays_in_its_folder() {
    for name in ["../key", "/tmp/key", "a/b", ".", "..", ""] {
        let finished = with_credentials(User::Caller, shell("echo executed"), &[(name, b"x")]);
        assert_eq!(finished.failure().step, "mounts", "{name}");
        assert_eq!(finished.output, "");
    }
}

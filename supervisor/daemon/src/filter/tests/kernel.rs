//! The programs in the real kernel. A filter holds for one thread, so each test tries its calls in a thread of its own.

use std::{
    env, fs, io,
    os::{
        fd::AsFd,
        unix::{
            fs::{OpenOptionsExt, PermissionsExt},
            process::ExitStatusExt,
        },
    },
    path::Path,
    process::{Command, Stdio},
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, openat2},
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        personality::{self, Persona},
        ptrace,
        socket::{AddressFamily as Family, SockFlag, SockType, socket, socketpair},
        stat::{Mode, SFlag, mknod},
    },
    unistd::{getsid, mkdir},
};
use watt_core::sandbox::{AddressFamily, Profile, Sandbox};
use watt_os::{prctl, seccomp};

use super::{super::programs, list, sandbox};

/// Runs `calls` in a thread that has the sandbox's filter.
fn with_filter<T: Send>(sandbox: &Sandbox, calls: impl FnOnce() -> T + Send) -> T {
    let programs = programs(sandbox).expect("a program");
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            prctl::set_no_new_privs().expect("a filter needs it");
            for program in programs.iter() {
                seccomp::install(program).expect("the kernel takes the program");
            }
            calls()
        });
        thread.join().expect("the calls are made")
    })
}

fn open_socket(family: Family) -> Result<(), Errno> {
    socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map(drop)
}

fn write_file(path: &Path, mode: u32) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map(drop)
}

fn run(program: &str) -> io::Result<bool> {
    Command::new(program).stdout(Stdio::null()).status().map(|status| status.success())
}

#[test]
fn the_profiles_hold_and_programs_run() {
    for profile in [Profile::Standard, Profile::Strict] {
        with_filter(&Sandbox::of(profile), || {
            let none = None::<&str>;
            let mounted = mount(none, "/no/such/folder", none, MsFlags::MS_BIND, none);
            assert_eq!(mounted, Err(Errno::EPERM), "refused before it is looked at");
            assert_eq!(ptrace::traceme(), Err(Errno::EPERM));
            assert_eq!(personality::set(Persona::ADDR_NO_RANDOMIZE), Err(Errno::EPERM));
            assert!(open_socket(Family::Inet).is_ok());
            assert!(run("true").expect("a process starts"));
        });
    }
}

#[test]
fn threads_and_processes_start_without_clone3() {
    with_filter(&sandbox(|sandbox| sandbox.restrict_namespaces = Some(Default::default())), || {
        assert!(run("true").expect("a process starts"));
        assert_eq!(thread::spawn(|| 7).join().expect("a thread starts"), 7);
        assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM));
        assert_eq!(unshare(CloneFlags::CLONE_FS), Ok(()));
        let namespace = fs::File::open("/proc/self/ns/net").expect("the namespace's file");
        assert_eq!(setns(namespace.as_fd(), CloneFlags::empty()), Err(Errno::EPERM));
    });
}

#[test]
fn families_that_are_not_listed_are_not_supported() {
    let families = [AddressFamily::Unix, AddressFamily::Inet];
    with_filter(&sandbox(|sandbox| sandbox.address_families = Some(families.into())), || {
        assert_eq!(open_socket(Family::Unix), Ok(()));
        assert_eq!(open_socket(Family::Inet), Ok(()));
        assert_eq!(open_socket(Family::Netlink), Err(Errno::EAFNOSUPPORT));
        assert_eq!(open_socket(Family::Inet6), Err(Errno::EAFNOSUPPORT));
        assert!(socketpair(Family::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).is_ok());
    });
}

#[test]
fn files_cannot_lend_rights() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    with_filter(&sandbox(|sandbox| sandbox.restrict_suid_sgid = true), || {
        let errno = |result: io::Result<()>| result.err().and_then(|error| error.raw_os_error());
        let refused = Some(Errno::EPERM as i32);
        assert_eq!(errno(write_file(&path("plain"), 0o600)), None);
        assert_eq!(errno(write_file(&path("made"), 0o4700)), refused);
        let mode = |mode| fs::set_permissions(path("plain"), fs::Permissions::from_mode(mode));
        assert_eq!(errno(mode(0o755)), None);
        assert_eq!(errno(mode(0o4755)), refused);
        assert_eq!(errno(mode(0o2755)), refused);
        let bits = Mode::S_IRWXU | Mode::S_ISUID;
        assert_eq!(mknod(&path("node"), SFlag::S_IFREG, bits, 0), Err(Errno::EPERM));
        let how = OpenHow::new().flags(OFlag::O_RDONLY);
        assert_eq!(openat2(folder_of(&folder), "plain", how).err(), Some(Errno::ENOSYS));
        mkdir(&path("folder"), bits).expect("a folder");
        let mode = fs::metadata(path("folder")).expect("the folder").permissions().mode();
        assert_eq!(mode & 0o6000, 0, "the kernel keeps the bits out of a folder's mode");
    });
}

fn folder_of(folder: &tempfile::TempDir) -> fs::File {
    fs::File::open(folder.path()).expect("the folder")
}

/// Tells a second process of the test below that it is the one to be killed.
const KILLED: &str = "WATT_TEST_KILLED_BY_A_FILTER";

#[test]
fn a_call_that_kills_ends_the_process() {
    if env::var_os(KILLED).is_some() {
        with_filter(&list(["~getsid:kill"]), || getsid(None)).expect("the process ends before");
        return;
    }
    let (_, module) = module_path!().split_once("::").expect("a module of this crate");
    let name = format!("{module}::a_call_that_kills_ends_the_process");
    let mut command = Command::new(env::current_exe().expect("this program"));
    let status = command.args(["--exact", &name]).env(KILLED, "1").stdout(Stdio::null()).status();
    let status = status.expect("a process starts");
    assert_eq!(status.signal(), Some(nix::libc::SIGSYS), "{status:?}");
}

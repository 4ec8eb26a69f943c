//! Every rule on both processors, in a machine of our own; a choice of them on the real kernel; groups against systemd.

mod kernel;
mod machine;
mod systemd;

use nix::libc;
use watt_core::{
    sandbox::{AddressFamily, Namespace, Profile, Sandbox},
    syscalls::{Action, Filter, groups},
};

use super::*;
use machine::Machine;

const ARCHITECTURES: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];

const ABSENT: Action = Action::ABSENT;
const ALLOW: Action = Action::Allow;
const REFUSE: Action = Action::REFUSE;

/// The sandbox `off` with these changes.
fn sandbox(change: impl FnOnce(&mut Sandbox)) -> Sandbox {
    let mut sandbox = Sandbox::of(Profile::Off);
    change(&mut sandbox);
    sandbox
}

fn list<const N: usize>(entries: [&str; N]) -> Sandbox {
    let filter = Filter::parse(entries, REFUSE).expect("every entry means something");
    sandbox(|sandbox| sandbox.system_calls = Some(filter))
}

/// Checks what happens at calls, written as their name and first arguments, wherever the processor has them.
#[track_caller]
fn check(sandbox: &Sandbox, expected: &[(&str, &[u64], Action)]) {
    for architecture in ARCHITECTURES {
        let machine = Machine::of(sandbox, architecture);
        for (call, arguments, action) in expected {
            let Some(number) = machine.number(call) else { continue };
            let happened = machine.run(number, arguments);
            assert_eq!(happened, *action, "{call}{arguments:x?} on {architecture:?}");
        }
    }
}

#[test]
fn every_call_is_found_and_has_its_own_outcome() {
    let lists = [
        Filter::standard(),
        Filter::strict(),
        Filter::parse(["read", "@process:kill", "@timer:EACCES"], Action::Kill).expect("a list"),
        Filter::parse(["~write", "@process:kill", "~@timer:EACCES"], REFUSE).expect("a list"),
        alternating(),
    ];
    for filter in lists {
        let sandbox = sandbox(|sandbox| sandbox.system_calls = Some(filter.clone()));
        for architecture in ARCHITECTURES {
            let machine = Machine::of(&sandbox, architecture);
            for (number, call) in architecture.calls() {
                assert_eq!(machine.run(number, &[]), filter.action(call), "{call} on {architecture:?}");
            }
        }
    }
}

/// Neighbours have different outcomes, which makes the longest program there is, with jumps that no branch reaches.
fn alternating() -> Filter {
    let calls = Architecture::X86_64.calls().into_iter().filter(|(number, _)| number % 2 == 0);
    Filter { otherwise: ALLOW, calls: calls.map(|(_, call)| (call, Action::Kill)).collect() }
}

#[test]
fn calls_without_a_name_are_of_a_newer_kernel() {
    for architecture in ARCHITECTURES {
        let calls = architecture.calls();
        let last = *calls.last_key_value().expect("there are calls").0;
        let gap = (0..last).find(|number| !calls.contains_key(number)).expect("tables have gaps");
        for number in [gap, last + 1, last + 1000] {
            assert_eq!(Machine::of(&list(["@known"]), architecture).run(number, &[]), ABSENT);
            assert_eq!(Machine::of(&list(["~@mount"]), architecture).run(number, &[]), ALLOW);
        }
    }
}

#[test]
fn other_tables_are_no_way_around() {
    let machine = Machine::of(&list(["~@mount"]), Architecture::X86_64);
    let mount = machine.number("mount").expect("the call");
    assert_eq!(machine.run(mount, &[]), REFUSE);
    assert_eq!(machine.run(mount | 0x4000_0000, &[]), ABSENT, "x32");
    assert_eq!(machine.run(u32::MAX, &[]), ABSENT);
    // AUDIT_ARCH_I386 and AUDIT_ARCH_ARM of linux/audit.h.
    assert_eq!(machine.run_as(0x4000_0003, 21, &[]), Action::Kill);
    let machine = Machine::of(&list(["~@mount"]), Architecture::Aarch64);
    assert_eq!(machine.run_as(0x4000_0028, 21, &[]), Action::Kill);
    assert_eq!(machine.run_as(Architecture::X86_64.audit(), 0, &[]), Action::Kill);
}

#[test]
fn namespaces_are_neither_made_nor_entered() {
    let new_user = libc::CLONE_NEWUSER as u64;
    let thread = (libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
    let sandbox = sandbox(|sandbox| sandbox.restrict_namespaces = Some(Default::default()));
    check(
        &sandbox,
        &[
            ("clone", &[libc::SIGCHLD as u64], ALLOW),
            ("clone", &[thread], ALLOW),
            ("clone", &[thread | new_user], REFUSE),
            ("clone", &[new_user | 1 << 40], REFUSE),
            ("clone3", &[], ABSENT),
            ("fork", &[], ALLOW),
            ("unshare", &[libc::CLONE_FS as u64], ALLOW),
            ("unshare", &[libc::CLONE_NEWTIME as u64], REFUSE),
            ("setns", &[3, 0], REFUSE),
        ],
    );
    for bit in [17, 25, 26, 27, 28, 29, 30] {
        check(&sandbox, &[("clone", &[1 << bit], REFUSE), ("unshare", &[1 << bit], REFUSE)]);
    }
}

/// What is listed can be made and entered, and a descriptor that is entered has to be said to be of such a kind.
#[test]
fn namespaces_that_are_listed_are_had() {
    let kinds = [Namespace::Mount, Namespace::Time];
    let allowed = sandbox(|sandbox| sandbox.restrict_namespaces = Some(kinds.into()));
    let [mount, time, user] =
        [libc::CLONE_NEWNS, libc::CLONE_NEWTIME, libc::CLONE_NEWUSER].map(|flag| flag as u64);
    check(
        &allowed,
        &[
            ("clone", &[mount | libc::SIGCHLD as u64], ALLOW),
            ("clone", &[mount | user], REFUSE),
            ("clone3", &[], ABSENT),
            ("unshare", &[mount | time], ALLOW),
            ("unshare", &[user], REFUSE),
            ("setns", &[3, mount], ALLOW),
            ("setns", &[3, mount | time], REFUSE),
            ("setns", &[3, 0], REFUSE),
            ("setns", &[3, user], REFUSE),
        ],
    );
    let all = sandbox(|sandbox| sandbox.restrict_namespaces = Some(Namespace::ALL.into()));
    check(
        &all,
        &[("unshare", &[mount | time | user], ALLOW), ("setns", &[3, 0], ALLOW), ("clone3", &[], ALLOW)],
    );
}

#[test]
fn only_the_families_that_are_listed_are_had() {
    let families = [AddressFamily::Unix, AddressFamily::Inet];
    let sandbox = sandbox(|sandbox| sandbox.address_families = Some(families.into()));
    let unsupported = Action::Fail(libc::EAFNOSUPPORT);
    check(
        &sandbox,
        &[
            ("socket", &[libc::AF_UNIX as u64], ALLOW),
            ("socket", &[libc::AF_INET as u64, libc::SOCK_RAW as u64], ALLOW),
            ("socket", &[libc::AF_INET6 as u64], unsupported),
            ("socket", &[libc::AF_UNSPEC as u64], unsupported),
            // The kernel looks at 32 bits.
            ("socket", &[libc::AF_INET as u64 | 1 << 32], ALLOW),
            ("socket", &[libc::AF_PACKET as u64 | 1 << 32], unsupported),
            ("socketpair", &[libc::AF_UNIX as u64], ALLOW),
            ("io_uring_setup", &[], ABSENT),
        ],
    );
}

#[test]
fn a_list_of_no_families_allows_none() {
    let sandbox = sandbox(|sandbox| sandbox.address_families = Some([].into()));
    check(&sandbox, &[("socket", &[libc::AF_UNIX as u64], Action::Fail(libc::EAFNOSUPPORT))]);
}

#[test]
fn realtime_is_not_had() {
    let reset = libc::SCHED_RESET_ON_FORK as u64;
    check(
        &sandbox(|sandbox| sandbox.restrict_realtime = true),
        &[
            ("sched_setscheduler", &[0, libc::SCHED_OTHER as u64], ALLOW),
            ("sched_setscheduler", &[0, libc::SCHED_BATCH as u64], ALLOW),
            ("sched_setscheduler", &[0, libc::SCHED_IDLE as u64 | reset], ALLOW),
            ("sched_setscheduler", &[0, libc::SCHED_FIFO as u64], REFUSE),
            ("sched_setscheduler", &[0, libc::SCHED_RR as u64 | reset], REFUSE),
            ("sched_setscheduler", &[0, libc::SCHED_DEADLINE as u64], REFUSE),
            ("sched_setscheduler", &[0, 1 << 31], REFUSE),
            ("sched_setattr", &[], ABSENT),
            ("sched_setparam", &[], ALLOW),
        ],
    );
}

#[test]
fn no_file_gets_the_bits_that_lend_rights() {
    let (create, temporary) = (libc::O_CREAT as u64, libc::O_TMPFILE as u64);
    let write = libc::O_WRONLY as u64;
    let sandbox = sandbox(|sandbox| sandbox.restrict_suid_sgid = true);
    check(
        &sandbox,
        &[
            ("chmod", &[0, 0o1777], ALLOW),
            ("chmod", &[0, 0o4755], REFUSE),
            ("fchmod", &[3, 0o2755], REFUSE),
            ("fchmodat", &[3, 0, 0o6000], REFUSE),
            ("fchmodat", &[3, 0, 0o755], ALLOW),
            ("fchmodat2", &[3, 0, 0o4000], REFUSE),
            ("creat", &[0, 0o4755], REFUSE),
            ("mknod", &[0, libc::S_IFREG as u64 | 0o4755], REFUSE),
            ("mknodat", &[3, 0, libc::S_IFIFO as u64 | 0o600], ALLOW),
            ("mknodat", &[3, 0, 0o4755], REFUSE),
            ("open", &[0, create | write, 0o644], ALLOW),
            ("open", &[0, create | write, 0o4755], REFUSE),
            ("openat", &[3, 0, create, 0o644], ALLOW),
            ("openat", &[3, 0, create, 0o2755], REFUSE),
            ("openat", &[3, 0, temporary | write, 0o4755], REFUSE),
            // The mode is whatever was in the register.
            ("openat", &[3, 0, libc::O_DIRECTORY as u64, u64::MAX], ALLOW),
            ("openat2", &[], ABSENT),
            ("io_uring_enter", &[], ABSENT),
            ("mkdir", &[0, 0o2755], ALLOW),
        ],
    );
}

#[test]
fn memory_is_not_both_written_and_executed() {
    let (read, write, execute) = (1, 2, 4);
    check(
        &sandbox(|sandbox| sandbox.memory_deny_write_execute = true),
        &[
            ("mmap", &[0, 4096, read | write], ALLOW),
            ("mmap", &[0, 4096, read | execute], ALLOW),
            ("mmap", &[0, 4096, write | execute], REFUSE),
            ("mmap", &[0, 4096, read | write | execute], REFUSE),
            ("mprotect", &[0, 4096, read], ALLOW),
            ("mprotect", &[0, 4096, read | execute], REFUSE),
            ("pkey_mprotect", &[0, 4096, execute, 1], REFUSE),
            ("shmat", &[1, 0, 0], ALLOW),
            ("shmat", &[1, 0, libc::SHM_EXEC as u64], REFUSE),
            ("personality", &[libc::READ_IMPLIES_EXEC as u64], REFUSE),
            ("personality", &[libc::ADDR_NO_RANDOMIZE as u64], ALLOW),
            ("personality", &[0xffff_ffff], ALLOW),
        ],
    );
}

#[test]
fn the_execution_domain_stays() {
    let locked = sandbox(|sandbox| {
        sandbox.lock_personality = true;
        sandbox.memory_deny_write_execute = true;
    });
    check(
        &locked,
        &[
            ("personality", &[0], ALLOW),
            ("personality", &[0xffff_ffff], ALLOW),
            ("personality", &[libc::ADDR_NO_RANDOMIZE as u64], REFUSE),
            ("personality", &[8], REFUSE),
        ],
    );
}

#[test]
fn nothing_is_typed_into_a_terminal() {
    // asm-generic/ioctls.h
    const TCGETS: u64 = 0x5401;
    const TIOCSTI: u64 = 0x5412;
    const TIOCLINUX: u64 = 0x541c;
    check(
        &sandbox(|sandbox| sandbox.private_devices = true),
        &[
            ("ioctl", &[0, TCGETS], ALLOW),
            ("ioctl", &[0, TIOCSTI], REFUSE),
            ("ioctl", &[0, TIOCSTI | 1 << 32], REFUSE),
            ("ioctl", &[0, TIOCLINUX], REFUSE),
            ("iopl", &[], REFUSE),
        ],
    );
}

#[test]
fn each_protection_refuses_its_calls_and_no_others() {
    type Change = fn(&mut Sandbox);
    let protections: [(Change, &[&str]); 4] = [
        (|sandbox| sandbox.protect_clock = true, &["@clock"]),
        (|sandbox| sandbox.protect_hostname = true, &["sethostname", "setdomainname"]),
        (|sandbox| sandbox.protect_kernel_modules = true, &["@module"]),
        (|sandbox| sandbox.protect_kernel_logs = true, &["syslog"]),
    ];
    for (change, words) in protections {
        let refused: Vec<_> = words.iter().filter_map(|word| groups::members(word)).flatten().collect();
        let machine = Machine::of(&sandbox(change), Architecture::X86_64);
        for (number, call) in Architecture::X86_64.calls() {
            let expected = if refused.contains(&call) { REFUSE } else { ALLOW };
            assert_eq!(machine.run(number, &[]), expected, "{call} under {words:?}");
        }
    }
}

/// A list cannot allow what a switch refuses, and a switch does not soften the answer of a list.
#[test]
fn the_strictest_of_list_and_switch_holds() {
    let mut sandbox = list(["@known", "clone:kill"]);
    sandbox.restrict_namespaces = Some(Default::default());
    sandbox.protect_clock = true;
    check(
        &sandbox,
        &[
            ("settimeofday", &[], REFUSE),
            ("clone", &[0], Action::Kill),
            ("unshare", &[libc::CLONE_NEWNS as u64], REFUSE),
            ("unshare", &[libc::CLONE_FS as u64], ALLOW),
            ("mount", &[], ALLOW),
        ],
    );
}

/// What browsers, just-in-time compilers and databases do is allowed with the arguments they use.
#[test]
fn standard_leaves_what_runtimes_use() {
    let browser = (libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::SIGCHLD) as u64;
    check(
        &Sandbox::of(Profile::Standard),
        &[
            ("clone", &[browser], ALLOW),
            ("clone3", &[], ALLOW),
            ("chroot", &[], ALLOW),
            ("seccomp", &[], ALLOW),
            ("mmap", &[0, 4096, 7], ALLOW),
            ("mprotect", &[0, 4096, 5], ALLOW),
            ("socket", &[libc::AF_NETLINK as u64], ALLOW),
            ("execve", &[], ALLOW),
            ("sendmsg", &[], ALLOW),
            ("mount", &[], REFUSE),
            ("ptrace", &[], REFUSE),
            ("syslog", &[], REFUSE),
        ],
    );
}

#[test]
fn a_sandbox_without_rules_has_no_program() {
    let none = programs(&Sandbox::of(Profile::Off)).expect("nothing to do");
    assert!(none.is_empty());
    let switches = Switches::of(&Sandbox::of(Profile::Off));
    assert!(make(&switches, None).expect("nothing to do").is_empty(), "on any processor");
    let switches = Switches::of(&Sandbox::of(Profile::Standard));
    assert!(matches!(make(&switches, None), Err(FilterError::Architecture)));
}

#[test]
fn sandboxes_with_the_same_rules_share_their_program() {
    let one = programs(&Sandbox::of(Profile::Standard)).expect("a program");
    let other = Sandbox { umask: 0, private_tmp: false, ..Sandbox::of(Profile::Standard) };
    assert!(Arc::ptr_eq(&one, &programs(&other).expect("the same program")));
    let other = Sandbox { lock_personality: false, ..other };
    assert_ne!(one, programs(&other).expect("another program"));
}

/// A new kernel's call has to be put into a group, or into the list of those that are in none.
#[test]
fn every_call_has_a_name_that_lists_can_use() {
    for architecture in ARCHITECTURES {
        let unknown: Vec<_> =
            architecture.calls().into_values().filter(|call| groups::members(call).is_none()).collect();
        assert!(unknown.is_empty(), "{architecture:?}: {unknown:?}");
        let last = architecture.calls().into_values().next_back();
        assert_eq!(last, Some("file_setattr"), "the last of the table, on {architecture:?}");
    }
    let calls = Architecture::X86_64.calls();
    assert_eq!([calls[&0], calls[&59], calls[&262]], ["read", "execve", "newfstatat"]);
    let calls = Architecture::Aarch64.calls();
    assert_eq!([calls[&63], calls[&221], calls[&79]], ["read", "execve", "newfstatat"]);
}

//! What the switches of a sandbox do to single system calls.

use std::collections::{BTreeMap, BTreeSet};

use nix::libc;
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use watt_core::{
    sandbox::{AddressFamily, Namespace, Sandbox},
    syscalls::{Action, Filter, groups},
};

/// The switches that have to do with system calls. Sandboxes that agree in them have the same program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Switches {
    system_calls: Option<Filter>,
    address_families: Option<BTreeSet<AddressFamily>>,
    restrict_namespaces: Option<BTreeSet<Namespace>>,
    restrict_realtime: bool,
    restrict_suid_sgid: bool,
    memory_deny_write_execute: bool,
    lock_personality: bool,
    private_devices: bool,
    protect_clock: bool,
    protect_hostname: bool,
    protect_kernel_modules: bool,
    protect_kernel_logs: bool,
}

/// What happens at each call.
#[derive(Debug, Default)]
pub(super) struct Rules {
    filter: Option<Filter>,
    refused: BTreeMap<&'static str, Action>,
    checked: BTreeMap<&'static str, Check>,
}

/// What happens at a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Always the same.
    Always(Action),
    /// It depends on the arguments.
    Checked(Check),
}

/// Which arguments of a call are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    /// The call is made when it keeps one of these.
    pub(super) allowed: Vec<SeccompRule>,
    /// What happens when it keeps none.
    pub(super) otherwise: Action,
}

/// The flag of a kind in clone(2) and setns(2).
fn flag(namespace: Namespace) -> i32 {
    match namespace {
        Namespace::Cgroup => libc::CLONE_NEWCGROUP,
        Namespace::Ipc => libc::CLONE_NEWIPC,
        Namespace::Mount => libc::CLONE_NEWNS,
        Namespace::Network => libc::CLONE_NEWNET,
        Namespace::Pid => libc::CLONE_NEWPID,
        Namespace::Time => libc::CLONE_NEWTIME,
        Namespace::User => libc::CLONE_NEWUSER,
        Namespace::Uts => libc::CLONE_NEWUTS,
    }
}

/// The bits of open(2) that make it create a file. O_TMPFILE has O_DIRECTORY's bit too, which alone creates nothing.
const CREATES: i32 = libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY);

/// The bits of a mode that lend the owner's or group's rights to whoever executes the file.
const SUID_SGID: u32 = libc::S_ISUID | libc::S_ISGID;

/// asm-generic/ioctls.h. The C library's constants have other types on other systems.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// What personality(2) takes for a question.
const ASK: u32 = u32::MAX;

const IO_URING: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

impl Switches {
    pub(super) fn of(sandbox: &Sandbox) -> Switches {
        Switches {
            system_calls: sandbox.system_calls.clone(),
            address_families: sandbox.address_families.clone(),
            restrict_namespaces: sandbox.restrict_namespaces.clone(),
            restrict_realtime: sandbox.restrict_realtime,
            restrict_suid_sgid: sandbox.restrict_suid_sgid,
            memory_deny_write_execute: sandbox.memory_deny_write_execute,
            lock_personality: sandbox.lock_personality,
            private_devices: sandbox.private_devices,
            protect_clock: sandbox.protect_clock,
            protect_hostname: sandbox.protect_hostname,
            protect_kernel_modules: sandbox.protect_kernel_modules,
            protect_kernel_logs: sandbox.protect_kernel_logs,
        }
    }

    /// What they mean for each call.
    pub(super) fn rules(&self) -> Result<Rules, BackendError> {
        let mut rules = Rules { filter: self.system_calls.clone(), ..Rules::default() };
        let simple = [
            (self.protect_clock, ["@clock"].as_slice()),
            (self.protect_hostname, &["sethostname", "setdomainname"]),
            (self.protect_kernel_modules, &["@module"]),
            (self.protect_kernel_logs, &["syslog"]),
            (self.private_devices, &["@raw-io"]),
        ];
        for (on, words) in simple {
            if on {
                rules.refuse(words, Action::REFUSE);
            }
        }
        if self.private_devices {
            rules.no_typing_into_terminals()?;
        }
        if let Some(families) = &self.address_families {
            rules.only_families(families)?;
        }
        if let Some(allowed) = &self.restrict_namespaces {
            rules.only_namespaces(allowed)?;
        }
        if self.restrict_realtime {
            rules.no_realtime()?;
        }
        if self.restrict_suid_sgid {
            rules.no_suid_sgid()?;
        }
        if self.memory_deny_write_execute {
            rules.no_write_and_execute()?;
        }
        if self.lock_personality {
            rules.no_other_personality()?;
        }
        Ok(rules)
    }
}

impl Rules {
    /// What happens at a call. The strictest of list and switches holds.
    pub(super) fn outcome(&self, call: &str) -> Outcome {
        match self.filter.as_ref().map_or(Action::Allow, |filter| filter.action(call)) {
            Action::Allow => {}
            refusal => return Outcome::Always(refusal),
        }
        match (self.refused.get(call), self.checked.get(call)) {
            (Some(refusal), _) => Outcome::Always(*refusal),
            (None, Some(check)) => Outcome::Checked(check.clone()),
            (None, None) => Outcome::Always(Action::Allow),
        }
    }

    /// What happens at a call that has no name here.
    pub(super) fn outcome_of_unknown(&self) -> Outcome {
        match self.filter.as_ref().map(|filter| filter.otherwise) {
            None | Some(Action::Allow) => Outcome::Always(Action::Allow),
            Some(Action::Fail(_) | Action::Kill) => Outcome::Always(Action::ABSENT),
        }
    }

    /// TIOCSTI puts characters into a terminal as if they were typed there, TIOCLINUX pastes into a console (ioctl_tty(2)). Whoever
    /// started the supervisor at a terminal would read commands of a service. The kernel looks at 32 bits of the number.
    fn no_typing_into_terminals(&mut self) -> Result<(), BackendError> {
        let differs = |command| condition(1, SeccompCmpOp::Ne, command);
        let rule = SeccompRule::new(vec![differs(TIOCSTI)?, differs(TIOCLINUX)?])?;
        self.check("ioctl", vec![rule], Action::REFUSE);
        Ok(())
    }

    /// socketpair(2) makes local sockets only, and they lead nowhere.
    fn only_families(&mut self, families: &BTreeSet<AddressFamily>) -> Result<(), BackendError> {
        let rules = families.iter().map(|family| equal(0, family.number().unsigned_abs()));
        self.check("socket", rules.collect::<Result<_, _>>()?, Action::Fail(libc::EAFNOSUPPORT));
        self.refuse(&IO_URING, Action::ABSENT);
        Ok(())
    }

    /// A descriptor that setns(2) is to enter has to be said to be of an allowed kind: with 0 it may be of any.
    fn only_namespaces(&mut self, allowed: &BTreeSet<Namespace>) -> Result<(), BackendError> {
        let refused = Namespace::ALL.into_iter().filter(|kind| !allowed.contains(kind));
        let refused = refused.map(flag).fold(0, |flags, flag| flags | flag).unsigned_abs();
        if refused == 0 {
            return Ok(());
        }
        // In clone(2) the bit of CLONE_NEWTIME belongs to the signal, and makes no namespace.
        let by_clone = refused & !libc::CLONE_NEWTIME.unsigned_abs();
        self.check("clone", vec![clear(0, by_clone)?], Action::REFUSE);
        self.check("unshare", vec![clear(0, refused)?], Action::REFUSE);
        if allowed.is_empty() {
            self.refuse(&["setns"], Action::REFUSE);
        } else {
            let entered = allowed.iter().map(|kind| equal(1, flag(*kind).unsigned_abs()));
            self.check("setns", entered.collect::<Result<_, _>>()?, Action::REFUSE);
        }
        self.refuse(&["clone3"], Action::ABSENT);
        Ok(())
    }

    /// What is not listed by sched(7) as an ordinary policy is refused, so that of newer kernels too.
    fn no_realtime(&mut self) -> Result<(), BackendError> {
        let reset = u64::from(libc::SCHED_RESET_ON_FORK.unsigned_abs());
        let ordinary = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE];
        let rule = |policy: i32| rule(1, SeccompCmpOp::MaskedEq(!reset), policy.unsigned_abs());
        let rules = ordinary.into_iter().map(rule).collect::<Result<_, _>>()?;
        self.check("sched_setscheduler", rules, Action::REFUSE);
        self.refuse(&["sched_setattr"], Action::ABSENT);
        Ok(())
    }

    /// mkdir(2) is not here: the kernel keeps these bits out of its mode.
    fn no_suid_sgid(&mut self) -> Result<(), BackendError> {
        let modes = [
            ("chmod", 1),
            ("fchmod", 1),
            ("fchmodat", 2),
            ("fchmodat2", 2),
            ("creat", 1),
            ("mknod", 1),
            ("mknodat", 2),
        ];
        for (call, mode) in modes {
            self.check(call, vec![clear(mode, SUID_SGID)?], Action::REFUSE);
        }
        // Without these flags the mode is not looked at, and may be anything.
        for (call, flags, mode) in [("open", 1, 2), ("openat", 2, 3)] {
            let rules = vec![clear(mode, SUID_SGID)?, clear(flags, CREATES.unsigned_abs())?];
            self.check(call, rules, Action::REFUSE);
        }
        self.refuse(&["openat2"], Action::ABSENT);
        self.refuse(&IO_URING, Action::ABSENT);
        Ok(())
    }

    /// A mapping is writable or executable from its start, and never becomes executable. A file that can be written and executed
    /// is still a way around, as systemd.exec(5) says of `MemoryDenyWriteExecute=`.
    fn no_write_and_execute(&mut self) -> Result<(), BackendError> {
        let (write, execute) = (libc::PROT_WRITE.unsigned_abs(), libc::PROT_EXEC.unsigned_abs());
        self.check("mmap", vec![clear(2, write)?, clear(2, execute)?], Action::REFUSE);
        for call in ["mprotect", "pkey_mprotect"] {
            self.check(call, vec![clear(2, execute)?], Action::REFUSE);
        }
        self.check("shmat", vec![clear(2, libc::SHM_EXEC.unsigned_abs())?], Action::REFUSE);
        // In this domain all that can be read can be executed.
        let implied = libc::READ_IMPLIES_EXEC.unsigned_abs();
        self.check("personality", vec![clear(0, implied)?, equal(0, ASK)?], Action::REFUSE);
        Ok(())
    }

    /// Asking for the domain, and the one that every program starts with (PER_LINUX).
    fn no_other_personality(&mut self) -> Result<(), BackendError> {
        self.check("personality", vec![equal(0, ASK)?, equal(0, 0)?], Action::REFUSE);
        Ok(())
    }

    fn refuse(&mut self, words: &[&str], refusal: Action) {
        for call in words.iter().filter_map(|word| groups::members(word)).flatten() {
            self.refused.insert(call, refusal);
        }
    }

    fn check(&mut self, call: &'static str, allowed: Vec<SeccompRule>, otherwise: Action) {
        self.checked.insert(call, Check { allowed, otherwise });
    }
}

/// The argument, counted from 0, is this number.
fn equal(argument: u8, number: u32) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpOp::Eq, number)
}

/// The argument has none of these bits.
fn clear(argument: u8, bits: u32) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpOp::MaskedEq(bits.into()), 0)
}

fn rule(argument: u8, operation: SeccompCmpOp, number: u32) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![condition(argument, operation, number.into())?])
}

/// All these arguments are C's `int`, `mode_t` or flags below 2^32, of which the kernel looks at 32 bits. More bits
/// set would go around a comparison of 64.
fn condition(argument: u8, operation: SeccompCmpOp, number: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, number)
}

//! The names of system calls and the groups they are in.
//!
//! Names are those of the kernel's tables, of every processor that systemd's groups know: a list written for systemd carries
//! the 32-bit names (`chown32`, `mmap2`) too. Which call a name is on a processor, if any, is not known here.
//!
//! Groups and their members follow systemd.exec(5) and `systemd-analyze syscall-filter`; a test of the daemon compares them where
//! systemd is installed. Calls of newer kernels are in the group of the older call they extend.

use std::collections::BTreeSet;

/// A group of calls.
#[derive(Debug)]
pub struct Group {
    /// The name, with its `@`.
    pub name: &'static str,
    /// What its calls do.
    pub about: &'static str,
    /// Calls and other groups.
    words: &'static str,
}

/// Every group but [`KNOWN`].
pub const GROUPS: &[Group] = &[
    Group {
        name: "@default",
        about: "what every program needs; always in a list of what is allowed",
        words: "@sandbox arch_prctl brk cacheflush clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
            clock_nanosleep clock_nanosleep_time64 execve exit exit_group futex futex_requeue futex_time64 futex_wait \
            futex_waitv futex_wake get_robust_list get_thread_area getegid getegid32 geteuid geteuid32 getgid getgid32 \
            getgroups getgroups32 getpgid getpgrp getpid getppid getrandom getresgid getresgid32 getresuid getresuid32 \
            getrlimit getsid gettid gettimeofday getuid getuid32 map_shadow_stack membarrier mmap mmap2 mprotect mseal \
            munmap nanosleep pause prlimit64 restart_syscall riscv_flush_icache riscv_hwprobe rseq rt_sigreturn \
            sched_getaffinity sched_yield set_robust_list set_thread_area set_tid_address set_tls sigreturn time \
            ugetrlimit uprobe uretprobe",
    },
    Group {
        name: "@aio",
        about: "asynchronous input and output",
        words: "io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit io_uring_enter \
            io_uring_register io_uring_setup",
    },
    Group {
        name: "@basic-io",
        about: "reading, writing, seeking, copying and closing of descriptors",
        words: "_llseek close close_range dup dup2 dup3 lseek pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readv \
            write writev",
    },
    Group {
        name: "@chown",
        about: "giving files to another owner",
        words: "chown chown32 fchown fchown32 fchownat lchown lchown32",
    },
    Group {
        name: "@clock",
        about: "setting the clock",
        words: "adjtimex clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday",
    },
    Group {
        name: "@cpu-emulation",
        about: "running code of other processors",
        words: "modify_ldt subpage_prot switch_endian vm86 vm86old",
    },
    Group {
        name: "@debug",
        about: "tracing and measuring of programs",
        words: "lookup_dcookie perf_event_open pidfd_getfd ptrace rtas s390_runtime_instr sys_debug_setcontext",
    },
    Group {
        name: "@file-system",
        about: "files and folders",
        words: "access chdir chmod close creat faccessat faccessat2 fallocate fchdir fchmod fchmodat fchmodat2 fcntl \
            fcntl64 fgetxattr file_getattr file_setattr flistxattr fremovexattr fsetxattr fstat fstat64 fstatat64 \
            fstatfs fstatfs64 ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat \
            inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lgetxattr link linkat listmount listxattr \
            listxattrat llistxattr lremovexattr lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat newfstatat oldfstat \
            oldlstat oldstat open openat openat2 readlink readlinkat removexattr removexattrat rename renameat renameat2 \
            rmdir setxattr setxattrat stat stat64 statfs statfs64 statmount statx symlink symlinkat truncate truncate64 \
            unlink unlinkat utime utimensat utimensat_time64 utimes",
    },
    Group {
        name: "@io-event",
        about: "waiting for descriptors",
        words: "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
            epoll_wait_old eventfd eventfd2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select",
    },
    Group {
        name: "@ipc",
        about: "pipes, shared memory, semaphores and queues between processes",
        words: "ipc memfd_create mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
            mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd pipe pipe2 process_madvise process_vm_readv \
            process_vm_writev semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget",
    },
    Group { name: "@keyring", about: "the kernel's keyrings", words: "add_key keyctl request_key" },
    Group {
        name: "@memlock",
        about: "keeping memory from being swapped out",
        words: "mlock mlock2 mlockall munlock munlockall",
    },
    Group { name: "@module", about: "kernel modules", words: "delete_module finit_module init_module" },
    Group {
        name: "@mount",
        about: "file systems and the root folder",
        words: "chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr pivot_root \
            umount umount2",
    },
    Group {
        name: "@network-io",
        about: "sockets, local ones too",
        words: "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg \
            recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socket socketcall socketpair",
    },
    Group {
        name: "@obsolete",
        about: "calls that were given up or never made",
        words: "_sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx prof \
            profil putpmsg query_module security sgetmask ssetmask stime stty sysfs tuxcall ulimit uselib ustat vserver",
    },
    Group { name: "@pkey", about: "memory protection keys", words: "pkey_alloc pkey_free pkey_mprotect" },
    Group {
        name: "@privileged",
        about: "what the superuser alone may do",
        words: "@chown @clock @module @raw-io @reboot @swap _sysctl acct bpf capset chroot fanotify_init fanotify_mark \
            nfsservctl open_by_handle_at pivot_root quotactl quotactl_fd setdomainname setfsuid setfsuid32 setgroups \
            setgroups32 sethostname setresuid setresuid32 setreuid setreuid32 setuid setuid32 vhangup",
    },
    Group {
        name: "@process",
        about: "processes and namespaces",
        words: "capget clone clone3 execveat fork getrusage kill pidfd_open pidfd_send_signal prctl rt_sigqueueinfo \
            rt_tgsigqueueinfo setns swapcontext tgkill times tkill unshare vfork wait4 waitid waitpid",
    },
    Group {
        name: "@raw-io",
        about: "input and output ports",
        words: "ioperm iopl pciconfig_iobase pciconfig_read pciconfig_write s390_pci_mmio_read s390_pci_mmio_write",
    },
    Group { name: "@reboot", about: "restarting the machine", words: "kexec_file_load kexec_load reboot" },
    Group {
        name: "@resources",
        about: "limits, priorities and the placement of memory",
        words: "ioprio_set mbind migrate_pages move_pages nice sched_setaffinity sched_setattr sched_setparam \
            sched_setscheduler set_mempolicy set_mempolicy_home_node setpriority setrlimit",
    },
    Group {
        name: "@sandbox",
        about: "giving up rights",
        words: "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
    },
    Group {
        name: "@setuid",
        about: "changing user and group",
        words: "setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 \
            setreuid setreuid32 setuid setuid32",
    },
    Group {
        name: "@signal",
        about: "handling signals",
        words: "rt_sigaction rt_sigpending rt_sigprocmask rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 sigaction \
            sigaltstack signal signalfd signalfd4 sigpending sigprocmask sigsuspend",
    },
    Group { name: "@swap", about: "swap devices", words: "swapoff swapon" },
    Group {
        name: "@sync",
        about: "writing memory to disks",
        words: "fdatasync fsync msync sync sync_file_range sync_file_range2 syncfs",
    },
    Group {
        name: "@system-service",
        about: "what services usually need, the place to start a list of what is allowed",
        words: "@aio @basic-io @chown @default @file-system @io-event @ipc @keyring @memlock @network-io @process \
            @resources @setuid @signal @sync @timer arm_fadvise64_64 capget capset copy_file_range fadvise64 \
            fadvise64_64 flock get_mempolicy getcpu getpriority ioctl ioprio_get kcmp madvise mremap name_to_handle_at \
            oldolduname olduname personality readahead readdir remap_file_pages sched_get_priority_max \
            sched_get_priority_min sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
            sched_rr_get_interval_time64 sched_yield sendfile sendfile64 setfsgid setfsgid32 setfsuid setfsuid32 setpgid \
            setsid splice sysinfo tee umask uname userfaultfd vmsplice",
    },
    Group {
        name: "@timer",
        about: "timers",
        words: "alarm getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
            timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
            timerfd_settime64 times",
    },
];

/// The group of every call that has a name here.
pub const KNOWN: &str = "@known";

/// Calls that are in no group.
const UNGROUPED: &str = "cachestat execv getdomainname getdtablesize gethostname getpagesize kern_features lsm_get_self_attr \
    lsm_list_modules lsm_set_self_attr memfd_secret memory_ordering mincore multiplexer oldumount perfctr \
    process_mrelease s390_guarded_storage s390_sthyi setpgrp spu_create spu_run syscall syslog timerfd utrap_install";

/// Every word that an entry of a list may be: groups first, then calls, in the order of the alphabet.
pub fn words() -> impl Iterator<Item = &'static str> {
    let groups: BTreeSet<_> = GROUPS.iter().map(|group| group.name).chain([KNOWN]).collect();
    groups.into_iter().chain(known())
}

/// The calls a word means: those of a group, or the one of that name. `None` when there is no such word.
pub fn members(word: &str) -> Option<BTreeSet<&'static str>> {
    if word == KNOWN {
        return Some(known());
    }
    if word.starts_with('@') {
        let group = GROUPS.iter().find(|group| group.name == word)?;
        return Some(group.members());
    }
    let call = written_calls().find(|call| *call == word)?;
    Some(BTreeSet::from([call]))
}

impl Group {
    /// The calls in it and in the groups it names.
    pub fn members(&self) -> BTreeSet<&'static str> {
        let mut calls = BTreeSet::new();
        for word in self.words.split_ascii_whitespace() {
            match GROUPS.iter().find(|group| group.name == word) {
                Some(group) => calls.extend(group.members()),
                None => _ = calls.insert(word),
            }
        }
        calls
    }
}

fn known() -> BTreeSet<&'static str> {
    written_calls().collect()
}

/// The calls as they stand above, some more than once.
fn written_calls() -> impl Iterator<Item = &'static str> {
    let words = GROUPS.iter().flat_map(|group| group.words.split_ascii_whitespace());
    words.chain(UNGROUPED.split_ascii_whitespace()).filter(|word| !word.starts_with('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_that_a_group_names_exists() {
        for group in GROUPS {
            for word in group.words.split_ascii_whitespace().filter(|word| word.starts_with('@')) {
                assert!(GROUPS.iter().any(|group| group.name == word), "{}: {word}", group.name);
            }
        }
    }

    #[test]
    fn members_are_written_in_the_order_of_the_alphabet_and_once() {
        for words in GROUPS.iter().map(|group| group.words).chain([UNGROUPED]) {
            let words: Vec<_> = words.split_ascii_whitespace().collect();
            assert!(words.is_sorted_by(|a, b| a < b), "{words:?}");
        }
    }

    #[test]
    fn a_group_has_the_calls_of_the_groups_in_it() {
        let privileged = members("@privileged").expect("the group");
        for call in ["fchownat", "settimeofday", "init_module", "iopl", "reboot", "swapon", "bpf"] {
            assert!(privileged.contains(call), "{call}");
        }
        assert!(!privileged.contains("@chown"));
    }

    #[test]
    fn everything_is_known_and_nothing_else() {
        let known = members(KNOWN).expect("the group");
        for group in GROUPS {
            assert!(group.members().is_subset(&known), "{}", group.name);
        }
        assert!(known.contains("syslog"));
        assert_eq!(members("no_such_call"), None);
        assert_eq!(members("@no-such-group"), None);
        assert_eq!(members(""), None);
    }

    #[test]
    fn every_word_means_something() {
        assert!(words().all(|word| members(word).is_some_and(|calls| !calls.is_empty())));
        assert_eq!(words().next(), Some("@aio"));
    }
}

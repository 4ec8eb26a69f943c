//! What a worker may see and do, beyond its limits: every switch of a sandbox, with a profile's values as the start.
//!
//! The names are those of systemd.exec(5) where the meaning is the same, so that an operator finds in its manual what a
//! switch does.

use std::{collections::BTreeSet, path::PathBuf};

use crate::syscalls::Filter;

/// Every switch. [`Sandbox::of`] makes the three profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// What the switches started from.
    pub profile: Profile,
    /// Whether a service does not start where the host cannot do one of the switches.
    pub required: bool,
    /// No program gains rights by being executed (PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: bool,
    /// `/tmp`, `/var/tmp` and `/dev/shm` of its own, empty at each start.
    pub private_tmp: bool,
    /// A `/dev` of its own with the pseudo devices alone (`null`, `zero`, `full`, `random`, `urandom`, `tty`, `pts`).
    pub private_devices: bool,
    /// How much of the system's files is read-only.
    pub protect_system: ProtectSystem,
    /// What is seen of `/home`, `/root` and `/run/user`.
    pub protect_home: ProtectHome,
    /// Folders of other services cannot be opened, but for those that are around its own or in it.
    pub protect_services: bool,
    /// `/proc/sys`, `/sys` and what else changes the kernel is read-only; other knobs are hidden.
    pub protect_kernel_tunables: bool,
    /// Kernel modules cannot be loaded, and are not seen.
    pub protect_kernel_modules: bool,
    /// The kernel's log is out of reach.
    pub protect_kernel_logs: bool,
    /// The cgroup file system is read-only.
    pub protect_control_groups: bool,
    /// The clock cannot be set.
    pub protect_clock: bool,
    /// A host name of its own that cannot be set (UTS namespace).
    pub protect_hostname: bool,
    /// Which processes are seen in `/proc`.
    pub protect_proc: ProtectProc,
    /// A PID namespace of its own, with an init that reaps.
    pub private_pids: bool,
    /// A System V IPC and POSIX message queue namespace of its own.
    pub private_ipc: bool,
    /// A cgroup namespace of its own: the worker's cgroup looks like the root.
    pub private_cgroup: bool,
    /// A user namespace of its own, in which its user and group are themselves and all others nobody (`PrivateUsers=`).
    pub private_users: bool,
    /// A session keyring of its own (keyctl(2)), so that no key of another service is seen.
    pub private_keyring: bool,
    /// Paths in other places, in this order, after all of the above.
    pub paths: Vec<PathRule>,
    /// Whom the program runs as.
    pub user: User,
    /// Groups beside the user's own, by name or number.
    pub supplementary_groups: Vec<String>,
    /// Capabilities that may ever be had, the bounding set; `None` leaves the supervisor's own.
    pub capabilities: Option<BTreeSet<Capability>>,
    /// Capabilities that the program has although it is not root.
    pub ambient_capabilities: BTreeSet<Capability>,
    /// File mode creation mask.
    pub umask: u32,
    /// System calls that are refused; `None` filters nothing.
    pub system_calls: Option<Filter>,
    /// Socket address families that may be used; `None` allows all.
    pub address_families: Option<BTreeSet<AddressFamily>>,
    /// The kinds of namespaces that may still be made or entered; `None` allows all.
    pub restrict_namespaces: Option<BTreeSet<Namespace>>,
    /// Realtime scheduling cannot be asked for.
    pub restrict_realtime: bool,
    /// Set-user-ID and set-group-ID bits cannot be set on files.
    pub restrict_suid_sgid: bool,
    /// No memory is both writable and executable. Breaks just-in-time compilers.
    pub memory_deny_write_execute: bool,
    /// The execution domain (personality(2)) it starts in; `None` leaves the supervisor's own.
    pub personality: Option<Personality>,
    /// The execution domain cannot be changed.
    pub lock_personality: bool,
    /// Landlock holds what the mounts say a second time, for the files of other services and of watt, and keeps abstract
    /// sockets and signals inside.
    pub landlock: bool,
}

/// Where the switches start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// cgroup, rlimits and the names of the mesh, and nothing else.
    Off,
    /// What no service needs is out of reach. The default.
    Standard,
    /// Nothing of the host is in reach but what the program needs to run.
    Strict,
}

/// How much of the system's files is read-only (`ProtectSystem=` of systemd.exec(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtectSystem {
    /// Nothing beyond what file modes say.
    No,
    /// `/usr` and the boot loader.
    Yes,
    /// `/etc` as well.
    Full,
    /// Everything but `/dev`, `/proc`, `/sys`, the private temporary folders and the worker's own folder.
    Strict,
}

/// What is seen of the users' homes (`ProtectHome=`). The application's own folder stays, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtectHome {
    /// All that file modes allow.
    No,
    /// They cannot be written.
    ReadOnly,
    /// They look empty.
    Hidden,
}

/// Which processes are seen in `/proc` (`ProtectProc=`, `hidepid` of proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtectProc {
    /// All.
    Default,
    /// Those of the same user.
    Invisible,
    /// Those that may be traced.
    Ptraceable,
}

/// What is done to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// What.
    pub access: PathAccess,
    /// The path the program sees.
    pub path: PathBuf,
    /// Whether a path that is not there is passed over (a leading `-`).
    pub optional: bool,
}

/// What is done to a path (`ReadOnlyPaths=` … of systemd.exec(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathAccess {
    /// It cannot be written, with all below it.
    ReadOnly,
    /// It can be, although what is around it cannot.
    ReadWrite,
    /// Neither it nor what is below it can be opened.
    Inaccessible,
    /// This other path is seen there.
    Bind {
        /// The other path.
        source: PathBuf,
        /// Whether it can only be read.
        read_only: bool,
    },
    /// It is an empty folder in memory, gone at the end.
    Temporary(Temporary),
    /// Nothing can be executed from it, with all below it.
    NoExec,
    /// It can be, although what is around it cannot.
    Exec,
}

impl PathAccess {
    /// Whether it is about executing alone, so that another rule for the same path has its own say.
    pub fn is_of_executing(&self) -> bool {
        matches!(self, PathAccess::NoExec | PathAccess::Exec)
    }
}

/// What an empty folder in memory is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temporary {
    /// Its mode.
    pub mode: u32,
    /// How many bytes it may hold; `None` is the kernel's half of the memory.
    pub size: Option<u64>,
    /// Whether it cannot be written: only what other rules show in it is there.
    pub read_only: bool,
}

impl Temporary {
    /// Everybody writes, and nobody removes what others wrote: as `/tmp`.
    pub const DEFAULT: Temporary = Temporary { mode: 0o1777, size: None, read_only: false };
}

/// An execution domain, as far as the kernel still has them: what uname(2) says of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Personality {
    /// The processor as it is (PER_LINUX).
    Linux,
    /// Its 32-bit predecessor (PER_LINUX32).
    Linux32,
}

/// A kind of namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the manual has them by these names")]
pub enum Namespace {
    Cgroup,
    Ipc,
    Mount,
    Network,
    Pid,
    Time,
    User,
    Uts,
}

impl Namespace {
    /// Every one, in the order of their names.
    pub const ALL: [Namespace; 8] = [
        Namespace::Cgroup,
        Namespace::Ipc,
        Namespace::Mount,
        Namespace::Network,
        Namespace::Pid,
        Namespace::Time,
        Namespace::User,
        Namespace::Uts,
    ];

    /// The name of its file in `/proc/PID/ns`, which is systemd's for it, too.
    pub fn name(self) -> &'static str {
        match self {
            Namespace::Cgroup => "cgroup",
            Namespace::Ipc => "ipc",
            Namespace::Mount => "mnt",
            Namespace::Network => "net",
            Namespace::Pid => "pid",
            Namespace::Time => "time",
            Namespace::User => "user",
            Namespace::Uts => "uts",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Namespace> {
        Namespace::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Whom a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// The supervisor's user.
    Same,
    /// This user, by name or number, and this group or the user's own.
    Named {
        /// The user.
        user: String,
        /// The group.
        group: Option<String>,
    },
    /// A user that nobody else is, for each service of the application (`DynamicUser=`).
    Dynamic,
}

macro_rules! numbered {
    ($(#[$doc:meta])* $type:ident { $($variant:ident = $number:literal $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the manual has them by these names")]
        pub enum $type { $($variant = $number),+ }

        impl $type {
            /// Every one, by the kernel's number.
            pub const ALL: &[$type] = &[$($type::$variant),+];

            /// The kernel's name of it.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }

            /// The kernel's number of it.
            pub fn number(self) -> i32 {
                self as i32
            }

            /// The one of this name, in any case.
            pub fn from_name(name: &str) -> Option<$type> {
                Self::ALL.iter().copied().find(|one| one.name().eq_ignore_ascii_case(name))
            }
        }
    };
}

numbered! {
    /// A capability of capabilities(7).
    Capability {
        Chown = 0 "CAP_CHOWN", DacOverride = 1 "CAP_DAC_OVERRIDE", DacReadSearch = 2 "CAP_DAC_READ_SEARCH",
        Fowner = 3 "CAP_FOWNER", Fsetid = 4 "CAP_FSETID", Kill = 5 "CAP_KILL", Setgid = 6 "CAP_SETGID",
        Setuid = 7 "CAP_SETUID", Setpcap = 8 "CAP_SETPCAP", LinuxImmutable = 9 "CAP_LINUX_IMMUTABLE",
        NetBindService = 10 "CAP_NET_BIND_SERVICE", NetBroadcast = 11 "CAP_NET_BROADCAST",
        NetAdmin = 12 "CAP_NET_ADMIN", NetRaw = 13 "CAP_NET_RAW", IpcLock = 14 "CAP_IPC_LOCK",
        IpcOwner = 15 "CAP_IPC_OWNER", SysModule = 16 "CAP_SYS_MODULE", SysRawio = 17 "CAP_SYS_RAWIO",
        SysChroot = 18 "CAP_SYS_CHROOT", SysPtrace = 19 "CAP_SYS_PTRACE", SysPacct = 20 "CAP_SYS_PACCT",
        SysAdmin = 21 "CAP_SYS_ADMIN", SysBoot = 22 "CAP_SYS_BOOT", SysNice = 23 "CAP_SYS_NICE",
        SysResource = 24 "CAP_SYS_RESOURCE", SysTime = 25 "CAP_SYS_TIME", SysTtyConfig = 26 "CAP_SYS_TTY_CONFIG",
        Mknod = 27 "CAP_MKNOD", Lease = 28 "CAP_LEASE", AuditWrite = 29 "CAP_AUDIT_WRITE",
        AuditControl = 30 "CAP_AUDIT_CONTROL", Setfcap = 31 "CAP_SETFCAP", MacOverride = 32 "CAP_MAC_OVERRIDE",
        MacAdmin = 33 "CAP_MAC_ADMIN", Syslog = 34 "CAP_SYSLOG", WakeAlarm = 35 "CAP_WAKE_ALARM",
        BlockSuspend = 36 "CAP_BLOCK_SUSPEND", AuditRead = 37 "CAP_AUDIT_READ", Perfmon = 38 "CAP_PERFMON",
        Bpf = 39 "CAP_BPF", CheckpointRestore = 40 "CAP_CHECKPOINT_RESTORE",
    }
}

numbered! {
    /// A socket address family of address_families(7).
    AddressFamily {
        Unix = 1 "AF_UNIX", Inet = 2 "AF_INET", Ax25 = 3 "AF_AX25", Ipx = 4 "AF_IPX", Appletalk = 5 "AF_APPLETALK",
        X25 = 9 "AF_X25", Inet6 = 10 "AF_INET6", Key = 15 "AF_KEY", Netlink = 16 "AF_NETLINK", Packet = 17 "AF_PACKET",
        Rds = 21 "AF_RDS", Llc = 26 "AF_LLC", Can = 29 "AF_CAN", Tipc = 30 "AF_TIPC", Bluetooth = 31 "AF_BLUETOOTH",
        Alg = 38 "AF_ALG", Vsock = 40 "AF_VSOCK", Kcm = 41 "AF_KCM", Qipcrtr = 42 "AF_QIPCRTR", Xdp = 44 "AF_XDP",
    }
}

impl Sandbox {
    /// The switches of a profile.
    pub fn of(profile: Profile) -> Sandbox {
        match profile {
            Profile::Off => Sandbox::off(),
            Profile::Standard => Sandbox::standard(),
            Profile::Strict => Sandbox::strict(),
        }
    }

    fn off() -> Sandbox {
        Sandbox {
            profile: Profile::Off,
            required: false,
            no_new_privileges: false,
            private_tmp: false,
            private_devices: false,
            protect_system: ProtectSystem::No,
            protect_home: ProtectHome::No,
            protect_services: false,
            protect_kernel_tunables: false,
            protect_kernel_modules: false,
            protect_kernel_logs: false,
            protect_control_groups: false,
            protect_clock: false,
            protect_hostname: false,
            protect_proc: ProtectProc::Default,
            private_pids: false,
            private_ipc: false,
            private_cgroup: false,
            private_users: false,
            private_keyring: false,
            paths: Vec::new(),
            user: User::Same,
            supplementary_groups: Vec::new(),
            capabilities: None,
            ambient_capabilities: BTreeSet::new(),
            umask: 0o022,
            system_calls: None,
            address_families: None,
            restrict_namespaces: None,
            restrict_realtime: false,
            restrict_suid_sgid: false,
            memory_deny_write_execute: false,
            personality: None,
            lock_personality: false,
            landlock: false,
        }
    }

    /// What every runtime of reference frameworks runs under unmodified: just-in-time compilers write and execute memory,
    /// browsers make namespaces, package managers write in their own folder and in homes.
    fn standard() -> Sandbox {
        Sandbox {
            profile: Profile::Standard,
            no_new_privileges: true,
            private_tmp: true,
            private_devices: true,
            protect_system: ProtectSystem::Full,
            protect_services: true,
            protect_kernel_tunables: true,
            protect_kernel_modules: true,
            protect_kernel_logs: true,
            protect_control_groups: true,
            protect_clock: true,
            protect_hostname: true,
            private_ipc: true,
            private_keyring: true,
            capabilities: Some(STANDARD_CAPABILITIES.into()),
            umask: 0o027,
            system_calls: Some(Filter::standard()),
            address_families: Some(SERVICE_FAMILIES.into()),
            restrict_realtime: true,
            restrict_suid_sgid: true,
            lock_personality: true,
            landlock: true,
            ..Sandbox::off()
        }
    }

    fn strict() -> Sandbox {
        Sandbox {
            profile: Profile::Strict,
            protect_system: ProtectSystem::Strict,
            protect_home: ProtectHome::Hidden,
            protect_proc: ProtectProc::Ptraceable,
            private_pids: true,
            private_cgroup: true,
            user: User::Dynamic,
            capabilities: Some(BTreeSet::new()),
            umask: 0o077,
            system_calls: Some(Filter::strict()),
            restrict_namespaces: Some(BTreeSet::new()),
            ..Sandbox::standard()
        }
    }
}

/// What a server that is started as root may keep: to change to another user, to own its files, and to bind low ports. Never what
/// reaches past its own files and processes.
const STANDARD_CAPABILITIES: [Capability; 9] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::NetBindService,
];

/// The internet, and sockets between processes; netlink, because C libraries ask it for the own addresses. Some of the others,
/// such as those of virtual machines and Bluetooth, lead outside from any network namespace.
const SERVICE_FAMILIES: [AddressFamily; 4] =
    [AddressFamily::Unix, AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Netlink];

//! The launch plan and the report: what goes into the exec stage and what comes out of it.
//!
//! Descriptors at the start of `watt-exec`: 0–2 standard streams, [`PLAN_FD`] the plan, [`REPORT_FD`] a seqpacket
//! socket for [`Report`]s, and from [`LISTEN_FDS_START`]` + 2` on the listeners to hand to the program, which the
//! stage moves down to [`LISTEN_FDS_START`] as sd_listen_fds(3) wants them. After the listeners come, as the plan has them, the
//! sealed memfd with [`Credentials`] for a [`Mount::Credentials`], three [`Streams`], and the process to [join](LaunchPlan::join).

use std::{net::Ipv4Addr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Where the sealed memfd with the plan is.
pub const PLAN_FD: i32 = 3;
/// Where the report socket is.
pub const REPORT_FD: i32 = 4;
/// Where a program expects the first inherited listener (sd_listen_fds(3)).
pub const LISTEN_FDS_START: i32 = 3;

/// The address a private network's mesh listener has when packets cannot be redirected. All service names lead
/// there, and the Host header tells them apart.
pub const MESH_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// What `watt-exec` is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Become a service's program.
    Launch(Box<LaunchPlan>),
    /// Enter the network of a running worker, make unconnected TCP sockets there, report them as
    /// [`Report::Descriptors`] named `socket`, and exit. The user namespace to enter first (when there is one)
    /// and the network namespace are the descriptors from `LISTEN_FDS_START + 2` on.
    MakeSockets {
        /// Whether the first descriptor is a user namespace.
        user_namespace: bool,
        /// How many, at most 250.
        count: u16,
    },
    /// Try what this host allows, report it as [`Report::Probe`], and exit.
    Probe,
    /// Write this to standard error, and exit. A disk that hangs holds up nobody else.
    Say {
        /// Whole lines.
        text: Vec<u8>,
    },
}

/// A complete description of a process. Nothing is looked up or decided later.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// Program and arguments. The program is looked up in the plan's own `PATH` when it has no slash.
    pub argv: Vec<Vec<u8>>,
    /// The file to execute when it is not what `argv` begins with. The mesh proxy is `/proc/self/fd/4`, a passed
    /// descriptor of our own program: its path may lead to another version by now, or through folders that the
    /// proxy's user cannot enter.
    pub program: Option<PathBuf>,
    /// The whole environment, `NAME=value`. `LISTEN_PID` is added by the stage when listeners are passed.
    pub env: Vec<Vec<u8>>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The file that is standard input, as the program sees it and with its rights; `None` leaves what the stage has.
    pub stdin: Option<PathBuf>,
    /// Where its standard streams lead.
    pub streams: Streams,
    /// Be in the namespaces of this running process, where the plan has some of its own, and not in new ones. Its mounts and its
    /// network are as they are there. A pidfd of it comes as the last descriptor, so that it cannot be another one.
    pub join: Option<u32>,
    /// `tasks` files to join by writing "0": v1 hierarchies. The v2 cgroup was entered by clone3(2).
    pub join_cgroups: Vec<PathBuf>,
    /// How many listeners are passed on to the program.
    pub listeners: u16,
    /// The number of a descriptor to which the program writes when it is ready. It is a pipe that is made for it, whose other end is reported
    /// as a descriptor named [`NOTIFICATION`]; not one of the listeners' numbers.
    pub notification_fd: Option<u16>,
    /// Whether another process of its PID namespace may become its program ([`Order::Follow`]). Then those that are left when the program
    /// ends live on, and so does their init.
    pub hands_over: bool,
    /// (resource number of setrlimit(2), soft, hard)
    pub rlimits: Vec<(u32, u64, u64)>,
    /// When and where it runs, and how eagerly it is killed.
    pub scheduling: Scheduling,
    /// File mode creation mask.
    pub umask: u32,
    /// Stay in the caller's session, with a process group of its own. For the daemon, which is known by that: every other
    /// process that the spawner starts has a session of its own.
    pub keeps_session: bool,
    /// Be in a user namespace in which the caller's own uid and gid are mapped to themselves. What gives an
    /// ordinary user the capabilities the next steps need. With [`Namespaces::pid`] the spawner's clone makes it.
    pub user_namespace: bool,
    /// Enter a new network namespace.
    pub network: Option<PrivateNetwork>,
    /// The other namespaces of its own.
    pub namespaces: Namespaces,
    /// What is changed in a mount namespace of its own, in this order; none is made when this is empty.
    pub mounts: Vec<Mount>,
    /// Whom to become.
    pub identity: Option<Identity>,
    /// Be, as that user, in a user namespace of its own, in which the user and its group are mapped to themselves. Of the caller's
    /// capabilities none reaches out of it. For root; where there is `user_namespace`, that is it.
    pub private_users: bool,
    /// Which capabilities are left; `None` changes nothing.
    pub capabilities: Option<Capabilities>,
    /// Have an empty session keyring of its own, which leads to no other (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
    pub keyring: bool,
    /// The execution domain (personality(2)), by the kernel's number.
    pub personality: Option<u32>,
    /// Set no_new_privs (prctl(2)). Needed by `landlock` and `seccomp`, unless the stage came with CAP_SYS_ADMIN.
    pub no_new_privs: bool,
    /// Ask for this signal when the spawner dies (PR_SET_PDEATHSIG).
    pub parent_death_signal: Option<i32>,
    /// What Landlock is to allow.
    pub landlock: Option<Landlock>,
    /// System call filters, each an array of `struct sock_filter` (seccomp(2)) in the kernel's own byte order. Installed in
    /// this order, as the last thing before the program is executed: they have to allow execve(2), and what reports that
    /// it failed (sendmsg(2), exit_group(2)).
    pub seccomp: Vec<Vec<u8>>,
}

/// Where standard streams lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Streams {
    /// Output to the spawner, and nothing to read but [`LaunchPlan::stdin`].
    #[default]
    Spawner,
    /// All three to descriptors that come after the credentials.
    Passed,
    /// To a pseudo terminal that is made for it, in the `/dev` that it sees. The other end is reported as a descriptor named
    /// [`TERMINAL`].
    Terminal {
        /// Its size from top to bottom.
        rows: u16,
        /// Its size from left to right.
        columns: u16,
    },
}

/// How the other end of a program's terminal is called when it is reported. It is passed on and not kept.
pub const TERMINAL: &str = "terminal";

/// How the other end of what a program writes to when it is ready is called when it is reported.
pub const NOTIFICATION: &str = "notification";

/// When and where a program runs (sched(7)), and how eagerly it is killed. `None` and an empty list change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scheduling {
    /// From -20, the most eager, to 19 (setpriority(2)).
    pub nice: Option<i32>,
    /// The policy's number and its priority of sched_setscheduler(2); the priority is 0 for policies that are not realtime.
    pub policy: Option<(i32, i32)>,
    /// How long it runs before others have their turn, in nanoseconds, under the normal policy.
    pub slice_ns: Option<u64>,
    /// The numbers of the CPUs to run on (sched_setaffinity(2)).
    pub affinity: Vec<u16>,
    /// The I/O scheduling class of ioprio_set(2), 1 to 3, and the level in it, 0 to 7.
    pub io: Option<(u8, u8)>,
    /// Value of /proc/self/oom_score_adj (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: Option<i32>,
}

/// Namespaces of a program's own, beside those of user, network and mounts (namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Namespaces {
    /// System V IPC and POSIX message queues.
    pub ipc: bool,
    /// The host name.
    pub uts: Option<HostName>,
    /// Its cgroup looks like the root.
    pub cgroup: bool,
    /// Its processes see each other alone. The spawner must have cloned the stage into it
    /// (`Request::Spawn::pid_namespace`): the stage is the namespace's init, and stays there beside the program.
    pub pid: bool,
}

/// The name of the host in a UTS namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostName {
    /// What it is outside.
    Same,
    /// This, of at most 64 bytes.
    Own(String),
}

/// Whom a program runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
}

/// The capabilities that are left, as bits by the kernel's numbers (capabilities(7)). All that is not named here is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What may ever be had: the bounding set. A program that runs as root has all of it.
    pub bounding: u64,
    /// What the program has although it is not root: the ambient set. A part of `bounding`.
    pub ambient: u64,
}

/// One change of what a program sees of the file system. Sources, what [`Mount::Writable`] shows and what
/// [`HiddenFolder`] keeps are as the host has them, whatever was mounted over them before. All other paths are those that the
/// program sees at that point. A symbolic link is followed.
///
/// A path that has to exist and does not is an error, but where it is `optional`. A mount point that is missing below a
/// [`Mount::Tmpfs`], [`Mount::Devices`] or [`HiddenFolder`] is made there; on the host's own file systems nothing is made.
///
/// What comes later lies over what came before: a [`Mount::ReadOnly`] holds for everything below it that was
/// mounted until then, and not for what comes after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// The source is seen in place of the target, with everything mounted below it. Both are files, or both are folders.
    Bind {
        /// What is seen.
        source: PathBuf,
        /// Where.
        target: PathBuf,
        /// Whether it cannot be written, nor what is mounted below it.
        read_only: bool,
        /// Whether it is left out when one of them is missing.
        optional: bool,
    },
    /// An empty folder in memory, without device nodes and set-user-ID programs (tmpfs(5)).
    Tmpfs {
        /// Where. A missing one is left out when `optional`.
        target: PathBuf,
        /// How many bytes it may hold; `None` is the kernel's half of the memory. A cgroup's limit of memory holds for it as
        /// well.
        size: Option<u64>,
        /// Its mode.
        mode: u32,
        /// Whether nothing can be executed from it.
        no_exec: bool,
        /// Whether it cannot be written, once all mounts below it were made.
        read_only: bool,
        /// Whether it is left out when the target is missing.
        optional: bool,
    },
    /// A path cannot be written, nor can what is mounted below it.
    ReadOnly {
        /// The file or folder.
        path: PathBuf,
        /// Whether it is left out when the path is missing.
        optional: bool,
    },
    /// Whether programs can be executed from a path, with everything mounted below it. Those that an interpreter reads
    /// go on working.
    Executable {
        /// The file or folder.
        path: PathBuf,
        /// Whether they can.
        allowed: bool,
        /// Whether it is left out when the path is missing.
        optional: bool,
    },
    /// A path is as the host has it, with everything mounted below it.
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Whether it is left out when the path is missing.
        optional: bool,
    },
    /// A path stays where it is: it is as the program sees it at that point, and nobody there renames or removes what something is
    /// mounted on.
    Pinned {
        /// The file or folder.
        path: PathBuf,
        /// Whether it is left out when the path is missing.
        optional: bool,
    },
    /// A file or folder without a content and without any right, in place of the path.
    Inaccessible {
        /// The file or folder.
        path: PathBuf,
        /// Whether it is left out when the path is missing.
        optional: bool,
    },
    /// Of a folder only one below it is seen.
    HideFolder(HiddenFolder),
    /// A `/dev` of its own, read-only, with `null`, `zero`, `full`, `random`, `urandom`, `tty`, the usual links, an instance
    /// of pseudo terminals of its own, and the host's `shm`, `mqueue` and `log`. Later mounts go on top of these.
    Devices,
    /// A `/proc` of its own: of the own PID namespace, where there is one.
    Proc {
        /// Which processes of others are seen.
        hide: HideProcesses,
        /// Whether nothing but processes is seen (`subset=pid` of proc(5)).
        processes_only: bool,
    },
    /// A `/sys` of its own network namespace, read-only, with the host's `/sys/fs/cgroup` in it.
    Sys,
    /// `/sys/fs/cgroup` read-only, with the own cgroup as the root of each hierarchy where there is [`Namespaces::cgroup`].
    Cgroups,
    /// `/dev/mqueue` of the own IPC namespace (mq_overview(7)).
    Mqueue,
    /// A folder with the files of [`Credentials`], which only the program's user can enter and nobody can write. It is a ramfs,
    /// which is never swapped out.
    Credentials {
        /// Where.
        target: PathBuf,
    },
}

/// Files that only the program gets. They do not travel in the plan, which is read and dropped as a whole, but in a sealed memfd
/// of their own, as postcard: nobody holds it any more when the program is executed.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Credentials {
    /// Each file's name, a single component of a path, and its content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Without the contents, which have no place in any text.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.files.iter().map(|(name, _)| name)).finish()
    }
}

/// The largest encoded [`Credentials`] in bytes. systemd allows as much (systemd.exec(5), `LoadCredential=`).
pub const CREDENTIALS_SIZE_MAX: usize = 1 << 20;

/// A folder that looks empty and unchangeable to the program, but for one below it that is the real one. All services
/// of an application are the same user to the kernel, so that file modes keep none of them from another's sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenFolder {
    /// The folder.
    pub folder: PathBuf,
    /// What stays of it, below it.
    pub keep: PathBuf,
}

/// Which processes of other users are seen in /proc (`hidepid` of proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum HideProcesses {
    /// All are.
    #[default]
    None,
    /// Not what they do.
    NoAccess,
    /// None.
    Invisible,
    /// Only those that may be traced, of one's own user as well.
    NotPtraceable,
}

/// A Landlock domain (landlock(7)): what is not allowed by a rule is refused, as far as the kernel's ABI can refuse it.
/// [`Probe::landlock`] tells how far that is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Landlock {
    /// What is refused where no rule allows it. Empty leaves files alone.
    pub handled: FileAccess,
    /// What is allowed, and where.
    pub rules: Vec<LandlockRule>,
    /// No abstract Unix socket outside of the domain can be connected to (ABI 6).
    pub abstract_sockets: bool,
    /// No process outside of the domain can be sent a signal (ABI 6).
    pub signals: bool,
}

/// A file, or a folder with all below it, and what may be done there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockRule {
    /// The file or folder.
    pub path: PathBuf,
    /// What may be done. What makes no sense for a file is passed over for one.
    pub access: FileAccess,
    /// Whether it is left out when the path is missing.
    pub optional: bool,
}

/// What is done with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileAccess {
    /// Opening to read, listing folders.
    pub read: bool,
    /// Executing.
    pub execute: bool,
    /// Opening to write, truncating.
    pub write: bool,
    /// Making, renaming and removing files, folders, links, sockets and pipes.
    pub make: bool,
    /// Making device nodes, and controlling devices (ioctl(2)).
    pub devices: bool,
}

impl LaunchPlan {
    /// How many descriptors come after the listeners: the credentials, three streams, the process whose namespaces are joined.
    pub fn handed(&self) -> u16 {
        let streams = if self.streams == Streams::Passed { 3 } else { 0 };
        u16::from(self.has_credentials()) + streams + u16::from(self.join.is_some())
    }

    /// Whether credentials come with it.
    pub fn has_credentials(&self) -> bool {
        // They are there already where another process is joined.
        self.join.is_none() && self.mounts.iter().any(|mount| matches!(mount, Mount::Credentials { .. }))
    }
}

impl FileAccess {
    /// Everything.
    pub const ALL: FileAccess =
        FileAccess { read: true, execute: true, write: true, make: true, devices: true };
    /// Reading and executing.
    pub const READ: FileAccess =
        FileAccess { read: true, execute: true, write: false, make: false, devices: false };
}

/// A network namespace of its own, with loopback only, and the listeners made inside. Each is reported as a
/// descriptor with the name given here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PrivateNetwork {
    /// Redirect with nftables. With it, TCP to 127.77.0.0/16 on any port reaches `mesh`, and TCP to any address
    /// outside 127.0.0.0/8 reaches `egress`, wherever the program itself listens; SO_ORIGINAL_DST has the address that
    /// was called. Without it, `mesh` is bound to [`MESH_ADDRESS`]:80, and instead of `egress` there are `egress:80` and
    /// `egress:443`, where the address that was called is the connection's local one; the program cannot listen on
    /// these ports, and no other port of the outside can be reached.
    pub redirect: bool,
    /// Make the `egress` listener and the AnyIP route.
    pub egress: bool,
    /// Ports of 127.0.0.1 that lead to the host's own localhost: listeners named `host_port:5432`.
    pub host_ports: Vec<u16>,
    /// How many unconnected TCP sockets to make for the proxy, named `socket`.
    pub sockets: u16,
}

/// What the stage says on its report socket, one message each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "made, sent and dropped, one at a time")]
pub enum Report {
    /// Descriptors, in the order of these names: `mesh`, `egress` (or `egress:80` and `egress:443`), `dns_udp`, `dns_tcp`,
    /// `host_port:N`, `diag` (a NETLINK_SOCK_DIAG socket), `netns`, `userns`, `socket`, [`NOTIFICATION`], [`TERMINAL`]. At most 250 a message.
    Descriptors {
        /// One for each.
        names: Vec<String>,
    },
    /// All steps are done and execve(2) is next. The end of the socket alone does not tell success from a stage that
    /// was killed: both close it. An execve that fails is still a [`Report::Failed`].
    Executing,
    /// A step failed; nothing of the program was executed.
    Failed(Failure),
    /// The program was executed in a PID namespace of its own, and the stage stays beside it as the init there. Comes after
    /// [`Report::Executing`], in place of the end of the socket.
    Executed,
    /// The program of a PID namespace of its own has ended, and the init does next. Its own exit says nothing.
    Ended(Ended),
    /// The program has ended, `None` when nobody can tell how, and others are left there, with the init. What follows is told by an
    /// [`Order`], or nothing does.
    Left(Option<Ended>),
    /// The answer to each [`Order`], whatever came of it: what was said of an end before is void.
    Follows,
    /// The answer to [`Task::Probe`].
    Probe(Probe),
}

/// The number of the program in a PID namespace of its own, as long as it has not handed over: its init is 1, and forks once.
pub const PROGRAM_PID: u32 = 2;

/// What an init of a program that [hands over](LaunchPlan::hands_over) is told, on the socket of its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Another process is the program from now on: it gets the signals, and its end is the run's.
    Follow {
        /// Its number in the PID namespace.
        pid: u32,
    },
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step: `cwd`, `rlimits`, `network`, `mounts`, `seccomp`, `exec` …
    pub step: String,
    /// What it was about: a path, a limit.
    pub object: String,
    /// The error number of errno(3).
    pub errno: i32,
}

/// How a program ended, as wait4(2) said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The exit status, or the signal's number.
    pub code: i32,
    /// Whether a signal ended it.
    pub signaled: bool,
    /// Whether a core was dumped.
    pub core_dumped: bool,
}

/// What this host allows the spawner's user. `Err` carries the step and the error number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// A user namespace.
    pub user_namespace: Result<(), Failure>,
    /// A network namespace with loopback up and a listener on port 80.
    pub network_namespace: Result<(), Failure>,
    /// nftables redirection inside it.
    pub redirect: Result<(), Failure>,
    /// The AnyIP route inside it.
    pub any_ip: Result<(), Failure>,
    /// A mount namespace with a file bound over another one and a folder hidden.
    pub mount_namespace: Result<(), Failure>,
    /// Making a folder read-only and a part of it writable again, inside it.
    pub read_only: Result<(), Failure>,
    /// [`Mount::Devices`]
    pub devices: Result<(), Failure>,
    /// A PID namespace of its own.
    pub pid_namespace: Result<(), Failure>,
    /// [`Mount::Proc`] in a PID namespace of its own.
    pub proc: Result<(), Failure>,
    /// [`Mount::Proc`] without one, which hides processes.
    pub proc_shared: Result<(), Failure>,
    /// [`Mount::Sys`]
    pub sys: Result<(), Failure>,
    /// [`Namespaces::ipc`], with [`Mount::Mqueue`].
    pub ipc_namespace: Result<(), Failure>,
    /// [`Namespaces::uts`] with a name of its own.
    pub uts_namespace: Result<(), Failure>,
    /// [`Namespaces::cgroup`], with [`Mount::Cgroups`].
    pub cgroup_namespace: Result<(), Failure>,
    /// A session keyring of its own.
    pub keyring: Result<(), Failure>,
    /// The ABI version of Landlock, at least 1.
    pub landlock: Result<u32, Failure>,
    /// A filter of system calls.
    pub seccomp: Result<(), Failure>,
    /// Changing to another uid.
    pub change_user: Result<(), Failure>,
    /// Giving up capabilities for good: emptying the bounding set.
    pub capabilities: Result<(), Failure>,
}

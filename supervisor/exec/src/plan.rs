//! The launch plan and the report: what goes into the exec stage and what comes out of it.
//!
//! Descriptors at the start of `watt-exec`: 0–2 standard streams, [`PLAN_FD`] the plan, [`REPORT_FD`] a seqpacket
//! socket for [`Report`]s, and from [`LISTEN_FDS_START`]` + 2` on the listeners to hand to the program, which the
//! stage moves down to [`LISTEN_FDS_START`] as sd_listen_fds(3) wants them.

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
    /// `cgroup.procs` files to join by writing "0": v1 hierarchies. The v2 cgroup was entered by clone3(2).
    pub join_cgroups: Vec<PathBuf>,
    /// How many listeners are passed on to the program.
    pub listeners: u16,
    /// (resource number of setrlimit(2), soft, hard)
    pub rlimits: Vec<(u32, u64, u64)>,
    /// File mode creation mask.
    pub umask: u32,
    /// Stay in the caller's session, with a process group of its own. For the daemon, which is known by that: every other
    /// process that the spawner starts has a session of its own.
    pub keeps_session: bool,
    /// Enter a new user namespace in which the caller's own uid and gid are mapped to themselves. What gives an
    /// ordinary user the capabilities the next steps need.
    pub user_namespace: bool,
    /// Enter a new network namespace.
    pub network: Option<PrivateNetwork>,
    /// Enter a new mount namespace and bind these files over existing ones: (source, target).
    pub bind_files: Vec<(PathBuf, PathBuf)>,
    /// In the same mount namespace, after that: a folder of which nothing is seen but one below it.
    pub hide: Option<HiddenFolder>,
    /// Change to this user and group, without supplementary groups.
    pub identity: Option<(u32, u32)>,
    /// Give up every capability, the bounding set included.
    pub drop_capabilities: bool,
    /// Set no_new_privs (prctl(2)).
    pub no_new_privs: bool,
    /// Ask for this signal when the spawner dies (PR_SET_PDEATHSIG).
    pub parent_death_signal: Option<i32>,
    /// Value of /proc/self/oom_score_adj.
    pub oom_score_adj: Option<i32>,
}

/// A folder that looks empty and unchangeable to the program, but for one below it that is the real one. All services
/// of an application are the same user to the kernel, so that file modes keep none of them from another's sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenFolder {
    /// The folder.
    pub folder: PathBuf,
    /// What stays of it, below it.
    pub keep: PathBuf,
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
    /// `host_port:N`, `diag` (a NETLINK_SOCK_DIAG socket), `netns`, `userns`, `socket`. At most 250 a message.
    Descriptors {
        /// One for each.
        names: Vec<String>,
    },
    /// All steps are done and execve(2) is next. The end of the socket alone does not tell success from a stage that
    /// was killed: both close it. An execve that fails is still a [`Report::Failed`].
    Executing,
    /// A step failed; nothing of the program was executed.
    Failed(Failure),
    /// The answer to [`Task::Probe`].
    Probe(Probe),
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step: `cwd`, `rlimits`, `network`, `mounts`, `exec` …
    pub step: String,
    /// What it was about: a path, a limit.
    pub object: String,
    /// The error number of errno(3).
    pub errno: i32,
}

/// What this host allows the spawner's user. `Err` carries the step and the error number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// A user namespace; tried for ordinary users only.
    pub user_namespace: Result<(), Failure>,
    /// A network namespace with loopback up and a listener on port 80.
    pub network_namespace: Result<(), Failure>,
    /// nftables redirection inside it.
    pub redirect: Result<(), Failure>,
    /// The AnyIP route inside it.
    pub any_ip: Result<(), Failure>,
    /// A mount namespace with a file bound over another one and a folder hidden.
    pub mount_namespace: Result<(), Failure>,
    /// Changing to another uid.
    pub change_user: Result<(), Failure>,
}

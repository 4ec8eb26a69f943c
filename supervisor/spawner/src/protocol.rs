//! The messages between daemon and spawner: postcard over a seqpacket socketpair, one message a packet, with
//! descriptors by SCM_RIGHTS (unix(7)).
//!
//! The spawner answers every request and, between answers, says what happened by itself. It decides nothing:
//! how often to restart, what to pass and when to stop are the daemon's. The one exception is the daemon
//! itself, which it starts again when it dies.
//!
//! A daemon is told nothing before its first request, which should be [`Request::List`] and must come when
//! its handlers for SIGTERM and SIGHUP are there: signals are passed on to it from then on. Of each run it is
//! told [`Message::Spawned`], then [`Message::Executed`] or [`Message::ExecFailed`], then
//! [`Message::Exited`], in this order and once, by message or by list.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The largest message in bytes. Larger things travel as memfds.
pub const MESSAGE_SIZE_MAX: usize = 64 << 10;

/// The name under which the spawner keeps its own program, for those who are to be of the same version. It is kept anew with each
/// program that takes over, whatever a daemon has kept there.
pub const PROGRAM: &str = "program";

/// From the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Tell everything: [`Message::Info`], then a [`Message::Run`] for each run, a [`Message::Listener`] for
    /// each listener, a [`Message::Value`] for each value, a [`Message::Kept`] for each kept descriptor, then
    /// [`Message::ListEnd`].
    List,
    /// Start a process. Descriptors: the exec stage's task in a sealed memfd; then, if `cgroup`, the
    /// directory of the v2 cgroup to start in; last, those that are `handed` to the stage. Its limit of descriptors is the one the spawner was started
    /// with, unless the plan has another; its input is empty. Answered by [`Message::Spawned`] or
    /// [`Message::SpawnFailed`].
    Spawn {
        /// The daemon's number for it.
        run: u64,
        /// The daemon's own note, at most 32 KiB, given back by `List`.
        tag: Vec<u8>,
        /// Whether a cgroup comes with it.
        cgroup: bool,
        /// How many descriptors are for the stage alone (`LaunchPlan::handed`). They are not kept.
        handed: u8,
        /// Whether the plan has a PID namespace of its own (`LaunchPlan::namespaces.pid`), which only the clone can make.
        pid_namespace: bool,
        /// Whether the plan has a user namespace. The clone makes it when there is a PID namespace to make in it.
        user_namespace: bool,
        /// Names of listeners or kept descriptors to pass on, in order.
        pass: Vec<String>,
    },
    /// Replace a run's tag. Not answered.
    Tag {
        /// Which.
        run: u64,
        /// The new note, at most 32 KiB.
        tag: Vec<u8>,
    },
    /// A run goes on in another process of it: that is its main process from now on, also when the one before has ended. Comes with a pidfd
    /// of it, or without, and then the number is one of the run's own PID namespace. Answered by [`Message::Followed`].
    Follow {
        /// Which run.
        run: u64,
        /// The process.
        pid: u32,
    },
    /// The run's exit was noted: close what is kept of it. Not answered, and without effect before its exit.
    Forget {
        /// Which.
        run: u64,
    },
    /// Make unconnected sockets in a run's network namespace. Answered by [`Message::Sockets`].
    MakeSockets {
        /// Whose network.
        run: u64,
        /// How many, at most 250.
        count: u16,
    },
    /// Try what the host allows. Answered by [`Message::Probe`].
    Probe,
    /// Bind a listener and keep it under this name. Answered by [`Message::Listener`] or
    /// [`Message::ListenFailed`]. A name that exists is given as it is.
    Listen {
        /// Its name.
        name: String,
        /// Where.
        address: Address,
    },
    /// Close a listener; it is not kept anywhere any more. Not answered.
    Unlisten {
        /// Its name.
        name: String,
    },
    /// Have the service manager keep a listener while the unit is restarted, so that connections wait for the next life. Not
    /// answered, and without effect where there is no manager.
    Store {
        /// Its name, without colons (sd_pid_notify_with_fds(3)).
        name: String,
    },
    /// Tell the service manager this: assignments of sd_notify(3), one a line. Not answered, and without effect where there is no
    /// manager.
    Notify {
        /// The lines, at most 4 KiB.
        text: String,
    },
    /// That the daemon's loop turns. Not answered. Any other request says so as well.
    Beat,
    /// Keep a descriptor under this name, in place of an earlier one. Not answered. Comes with one
    /// descriptor.
    Keep {
        /// Its name.
        name: String,
    },
    /// Close a descriptor that is kept, and those that come with this. Not answered.
    Unkeep {
        /// Its name.
        name: String,
    },
    /// Close the descriptors that come with this: of what a worker has made that may take very long, and not here. Not answered.
    Close,
    /// Keep a small value. Not answered. An empty value deletes it. All of them together may have 64 MiB.
    Put {
        /// Its key.
        key: String,
        /// At most 32 KiB.
        value: Vec<u8>,
    },
    /// Give a copy of what another program would be handed, for a rehearsal. Answered by [`Message::Table`] or
    /// [`Message::UpgradeRefused`].
    Table,
    /// Become the program that comes with this as a descriptor, as soon as this daemon has ended, which it is to do by itself now.
    /// Answered by [`Message::UpgradeRefused`] alone.
    Upgrade {
        /// Its number, larger than that of each program before ([`Message::Info`]).
        number: u64,
        /// Where it was found, for people.
        path: String,
        /// How long it may take until [`Request::Settle`]. After that the program before goes on.
        within_ms: u64,
    },
    /// All is well with the program that took over. Answered by [`Message::Settled`].
    Settle,
    /// It is not, and the program before is to go on. This daemon is killed. Without effect when all was said to be well.
    GoBack {
        /// Why.
        why: String,
    },
    /// The end: close everything, do this in order, ignoring what fails, and exit with this status. Runs
    /// still there are killed first.
    Exit {
        /// The status to exit with.
        status: i32,
        /// `cgroup.procs` files to join by writing "0", to leave our own cgroup.
        join_cgroups: Vec<PathBuf>,
        /// Directories to remove with everything in them (cgroups: rmdir from the leaves up; others: files
        /// too).
        remove: Vec<PathBuf>,
        /// Directories to remove after those, unless something else is in them.
        remove_if_empty: Vec<PathBuf>,
    },
}

/// The names of the gateway's listeners begin with this. Their places are the configuration's choice, and others may use them too.
pub const GATEWAY_PREFIX: &str = "gateway/";

/// What to bind. TCP listeners and datagram sockets are non-blocking. Unix stream listeners are blocking,
/// because that is what a program expects of one that it inherits, and the setting is shared by all who hold
/// the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// TCP; with SO_REUSEPORT when there will be several of it.
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Whether to set SO_REUSEPORT.
        reuse_port: bool,
    },
    /// A Unix stream socket.
    Unix {
        /// Its path, at most 107 bytes. A stale file there is removed first.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner, when it is to be changed.
        owner: Option<(u32, u32)>,
    },
    /// A Unix datagram socket, for sd_notify(3).
    UnixDatagram {
        /// Its path.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner, when it is to be changed.
        owner: Option<(u32, u32)>,
    },
}

/// From the spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// About the spawner itself.
    Info {
        /// How often the daemon was started again.
        daemon_restarts: u64,
        /// When the spawner started: milliseconds since the Unix epoch.
        started_at_ms: u64,
        /// Whether there is a service manager to be told things ([`Request::Notify`]).
        managed: bool,
        /// The number of the program that spawner and daemon are: 0 for the one that was started first.
        program: u64,
        /// Where that was found.
        path: String,
        /// Whether it took over and [`Request::Settle`] is waited for.
        trial: bool,
        /// Why the last upgrade came to nothing, if it did.
        went_back: Option<String>,
    },
    /// A run. Descriptors: pidfd, read end of stdout, read end of stderr, then those named.
    Run {
        /// The daemon's number.
        run: u64,
        /// The daemon's note.
        tag: Vec<u8>,
        /// Its main process; in a PID namespace of its own the init, which passes signals on.
        pid: u32,
        /// Whether its program was executed, failed to be, or neither yet.
        stage: Stage,
        /// How it ended, when it has.
        exit: Option<WaitStatus>,
        /// Of the descriptors after the first three, as in the exec stage's report. Sockets are not repeated.
        names: Vec<String>,
    },
    /// A listener, with its descriptor.
    Listener {
        /// Its name.
        name: String,
        /// Where it is bound, with the kernel's choice of port.
        address: Address,
    },
    /// A kept descriptor.
    Kept {
        /// Its name.
        name: String,
    },
    /// A kept value.
    Value {
        /// Its key.
        key: String,
        /// The value.
        value: Vec<u8>,
    },
    /// The list is complete.
    ListEnd,
    /// A process was cloned. Descriptors: pidfd, read end of stdout, read end of stderr.
    Spawned {
        /// Which.
        run: u64,
        /// Its process.
        pid: u32,
    },
    /// No process could be cloned.
    SpawnFailed {
        /// Which.
        run: u64,
        /// What was tried: a system call such as `clone` or `pipe`; or what was wrong with the request:
        /// `cgroup`, `cgroup.freeze` for one that is frozen, `descriptors`, `pass`, `run`, `tag`.
        step: String,
        /// The error number.
        errno: i32,
    },
    /// The exec stage ended in the program. Descriptors: those named, at most 253. Sockets are not kept by
    /// the spawner.
    Executed {
        /// Which.
        run: u64,
        /// As in the exec stage's report.
        names: Vec<String>,
    },
    /// A step of the exec stage failed; `Exited` follows. The step is `stage` when the stage itself was
    /// killed or ended without a word.
    ExecFailed {
        /// Which.
        run: u64,
        /// The step.
        step: String,
        /// What it was about.
        object: String,
        /// The error number.
        errno: i32,
    },
    /// The main process ended. In a PID namespace of its own that is the program, everything else in there has gone with it
    /// (but for a plan that hands over, `LaunchPlan::hands_over`), and an init that was killed is a run that was.
    Exited {
        /// Which.
        run: u64,
        /// How.
        exit: WaitStatus,
    },
    /// The answer to [`Request::Follow`]. Exits of the run that were told before are those of another process. One that is told after
    /// this is the run's, also when it was told before.
    Followed {
        /// Which run.
        run: u64,
        /// Whether it goes on. It does not when everything of its PID namespace has gone.
        taken: bool,
    },
    /// Sockets, as many as could be made.
    Sockets {
        /// Whose.
        run: u64,
        /// The error number, when there are none.
        errno: i32,
    },
    /// What the host allows: a postcard `watt_exec::plan::Probe`, empty when it could not be found out.
    Probe {
        /// The encoded probe.
        probe: Vec<u8>,
    },
    /// A copy of the table, with its descriptor: a sealed memfd.
    Table,
    /// There is no upgrade.
    UpgradeRefused {
        /// Why.
        why: String,
    },
    /// The program that took over stays.
    Settled,
    /// A listener could not be bound.
    ListenFailed {
        /// Its name.
        name: String,
        /// The error number.
        errno: i32,
    },
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// In the exec stage.
    Preparing,
    /// In its program.
    Executed,
    /// The exec stage failed.
    Failed {
        /// The step.
        step: String,
        /// What it was about.
        object: String,
        /// The error number.
        errno: i32,
    },
}

/// What waitid(2) said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitStatus {
    /// The exit status, or the signal's number. [`WaitStatus::UNSEEN`] of a process that was nobody's child here, so that it is known
    /// that it has ended and not how.
    pub code: i32,
    /// Whether a signal ended it.
    pub signaled: bool,
    /// Whether a core was dumped.
    pub core_dumped: bool,
    /// When it was reaped: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// CPU time of the process and its waited-for children, in microseconds.
    pub cpu_us: u64,
    /// Peak resident memory in bytes (ru_maxrss of getrusage(2)).
    pub rss_max: u64,
}

impl WaitStatus {
    /// No process ends with this, as a status has eight bits.
    pub const UNSEEN: i32 = -1;

    /// Whether it is known how it ended.
    pub fn is_seen(&self) -> bool {
        self.code != Self::UNSEEN
    }
}

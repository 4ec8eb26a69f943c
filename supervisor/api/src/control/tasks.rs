//! Processes that run once inside a service's sandbox, and commands inside a worker's.
//!
//! With `Upgrade: watt-task` somebody is attached to one. After the status 101 the connection carries one JSON object a line: what is
//! said [to the task](ToTask) and [of it](OfTask). Its streams do not go that way: with [`OfTask::Started`] come descriptors
//! (SCM_RIGHTS of unix(7)), one for a terminal, else three pipes: where its input is written, and where its output and its errors
//! are read. A connection that ends before the task has hangs it up and, if that does not end it, kills it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is asked for as `Upgrade`.
pub const UPGRADE: &str = "watt-task";

/// What to run once in a new sandbox of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The service.
    pub service: String,
    /// Program and arguments; the service's own command, when it is empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// It is stopped after so many milliseconds; never, when it is left out.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Give it a terminal in place of pipes. Only for one that somebody is attached to.
    #[serde(default)]
    pub terminal: Option<Terminal>,
}

/// What to run inside a worker's sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The service.
    pub service: String,
    /// Which of its workers; the first that runs, when it is left out.
    #[serde(default)]
    pub worker: Option<u16>,
    /// Program and arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// Give it a terminal in place of pipes.
    #[serde(default)]
    pub terminal: Option<Terminal>,
}

/// A terminal as it is at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// Its size from top to bottom.
    pub rows: u16,
    /// Its size from left to right.
    pub columns: u16,
    /// Its kind, for `$TERM`.
    pub kind: String,
}

/// A task that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskStarted {
    /// Its name: `api/t7`.
    pub task: String,
}

/// Every task that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tasks {
    /// In the order in which they were started.
    pub tasks: Vec<TaskInfo>,
}

/// A task that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskInfo {
    /// Its name: `api/t7`.
    pub id: String,
    /// Whose sandbox it has.
    pub service: String,
    /// The worker that it is inside of: `api/0`.
    pub worker: Option<String>,
    /// What it is there for.
    pub kind: TaskKind,
    /// Program and arguments, the first ones of many.
    pub command: Vec<String>,
    /// When it was started.
    pub started_at: String,
    /// How far it is.
    pub state: TaskState,
    /// Who asked for it, in words: `user 1000`, `job nightly, run 3`.
    pub by: String,
    /// Its main process, as the host counts.
    pub pid: Option<u32>,
    /// Whether somebody is attached to it, and has its streams.
    pub attached: bool,
}

/// What a task is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// An operator's, in a sandbox of its own.
    Run,
    /// An operator's, inside a worker's sandbox.
    Exec,
    /// A job's command.
    Job,
    /// At a point of a worker's life.
    Hook,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Its secrets are read, or its sandbox is made.
    Starting,
    /// Its program runs.
    Running,
    /// It is being ended, or its main process has ended and the rest of it is cleared.
    Stopping,
}

/// How a task is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskStop {
    /// Kill it at once, without a signal and a grace before.
    #[serde(default)]
    pub now: bool,
}

/// What is said of a task to who is attached to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfTask {
    /// Its program runs. Its streams come with this.
    Started(TaskStarted),
    /// It is over, and nothing of it is left.
    Ended(TaskEnd),
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskEnd {
    /// In words: `exit 3`, `exec: exec nosuch: No such file or directory`.
    pub text: String,
    /// As a shell has it: its exit status, or 128 and the number of the signal that ended it. Of a program that there is not 127, of
    /// one that cannot be executed 126, and 125 where something else stood in the way.
    pub status: u8,
    /// Whether its program was executed.
    pub executed: bool,
}

/// What is said to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToTask {
    /// Its streams can be taken. Nothing is sent with descriptors before this, since who reads HTTP does not expect any.
    Take,
    /// Send this signal to its main process.
    Signal(i32),
}

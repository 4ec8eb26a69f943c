//! Jobs: what is done at certain times.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Jobs {
    /// In the order of their names.
    pub jobs: Vec<Job>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// The service that it is a job of.
    pub service: String,
    /// What it does, in words: `POST /tick`.
    pub work: String,
    /// When, as it is configured.
    pub schedule: String,
    /// The place whose clocks that is about.
    pub timezone: String,
    /// What it is doing.
    pub state: JobState,
    /// The next instant, unless it is paused.
    pub next: Option<String>,
    /// How many firings that were missed are still to be made up for.
    #[serde(default)]
    pub pending: u64,
    /// Firings that are under way.
    #[serde(default)]
    pub running: Vec<JobRun>,
    /// The last one that ended.
    pub last: Option<JobRun>,
}

/// What a job is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for the next instant.
    Waiting,
    /// Something of it is under way.
    Running,
    /// It does not fire by itself.
    Paused,
    /// It cannot: there is no such time zone on this host any more.
    NoTimezone,
}

/// Why a job fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobCause {
    /// It was time.
    Schedule,
    /// To make up for an instant that was missed.
    CatchUp,
    /// Somebody asked for it.
    Request,
}

/// What came of a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobResult {
    /// What it was to do is done.
    Ok,
    /// It failed.
    Failed,
    /// It took too long, and was stopped.
    TimedOut,
    /// It was stopped, because a later one replaced it or the application ended.
    Stopped,
    /// Nobody saw how it ended.
    Interrupted,
}

/// A firing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobRun {
    /// Counts up within the job, for ever.
    pub number: u64,
    /// The instant it was for.
    pub at: String,
    /// Why it fired.
    pub cause: JobCause,
    /// When it began.
    pub started_at: String,
    /// When it ended, if it has.
    pub ended_at: Option<String>,
    /// What came of it, if it has ended.
    pub result: Option<JobResult>,
    /// The same in words: `status 200`, `exit 3`.
    #[serde(default)]
    pub text: String,
    /// How often a call was sent.
    #[serde(default)]
    pub attempts: u32,
}

/// One job in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobDetail {
    /// What it is doing.
    pub job: Job,
    /// What becomes of a firing while an earlier one is under way: `allow`, `forbid`, `replace`.
    pub overlap: String,
    /// What is made up for: `skip`, `one within 6h`.
    pub catch_up: String,
    /// Firings that have ended, the last one first.
    pub history: Vec<JobRun>,
    /// What the last one that ended said, or the beginning or end of it when that is long. What is no UTF-8 is replaced.
    pub output: Option<String>,
}

/// Instants that are to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobInstants {
    /// In order.
    pub instants: Vec<JobInstant>,
}

/// One instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobInstant {
    /// When.
    pub at: String,
    /// What the clocks of the job's place show then: `2026-03-29T03:00:00+02:00`.
    pub local: String,
}

/// How to fire now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// Answer when it has ended.
    #[serde(default)]
    pub wait: bool,
}

//! Work at certain times.

use std::{collections::BTreeMap, time::Duration};

use crate::{JobId, ServiceId, jobs::Schedule};

/// Work that is done at certain times, for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// The service that it is a job of.
    pub service: ServiceId,
    /// What is done.
    pub work: Work,
    /// When.
    pub schedule: Schedule,
    /// The place whose clocks the schedule is about: a name of the IANA's time zone database.
    pub timezone: String,
    /// Each firing is put off by less than this, at random, so that many jobs do not begin in one moment.
    pub jitter: Duration,
    /// What becomes of a firing while an earlier one is under way.
    pub overlap: Overlap,
    /// What is made up for.
    pub catch_up: CatchUp,
    /// How long a command, or one attempt of a call, may take; `None` is any time.
    pub timeout: Option<Duration>,
    /// How many firings that have ended are remembered.
    pub history: u32,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Runs a command as the service's processes run: program and arguments, never empty.
    Command(Vec<String>),
    /// Sends the service a request.
    Call(Call),
}

/// A request, which has to be answered with a status from 200 to 299.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: String,
    /// Path and query, starting with `/`.
    pub path: String,
    /// Fields of the request's head.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Option<String>,
    /// How often it is sent again when that fails. At 0 it is never sent twice, whatever happens.
    pub retries: u32,
}

/// What becomes of a firing while an earlier one of the same job is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It begins beside it.
    Allow,
    /// It is skipped.
    Forbid,
    /// The earlier one is stopped, and then it begins.
    Replace,
}

/// What is made up for of the firings that were missed: the application did not run, the host slept, the clock was set forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    Skip,
    /// The last one, if it is not longer ago than this.
    One(Duration),
    /// Each one that is not longer ago than this.
    All(Duration),
}

//! The kinds of events of jobs.

use watt_api::control::{Event, JobResult};
use watt_core::{JobId, ServiceId};

use super::{Happening, Level};
use crate::words;

/// Which job it is about.
#[derive(Debug, Clone)]
pub struct Of {
    /// Its name.
    pub job: JobId,
    /// The service that it is a job of.
    pub service: ServiceId,
}

impl Of {
    fn describe(self, event: &mut Event) -> JobId {
        event.service = Some(self.service.to_string());
        event.data.insert("job".into(), self.job.to_string().into());
        self.job
    }
}

/// A job fired.
#[derive(Debug)]
pub struct JobStarted {
    /// Which.
    pub of: Of,
    /// The number of the firing.
    pub number: u64,
    /// The instant that it is for.
    pub at: String,
    /// `schedule`, `catch_up` or `request`.
    pub cause: &'static str,
}

impl Happening for JobStarted {
    const KIND: &'static str = "job_started";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        let job = self.of.describe(event);
        event.text = match self.cause {
            "catch_up" => format!("job {job} makes up for {}: run {}", self.at, self.number),
            "request" => format!("job {job} was asked to fire: run {}", self.number),
            _ => format!("job {job} fires: run {}", self.number),
        };
        event.data.insert("number".into(), self.number.into());
        event.data.insert("at".into(), self.at.into());
        event.data.insert("cause".into(), self.cause.into());
    }
}

/// What a job did is over.
#[derive(Debug)]
pub struct JobEnded {
    /// Which.
    pub of: Of,
    /// The number of the firing.
    pub number: u64,
    /// The instant that it was for.
    pub at: String,
    /// What came of it.
    pub result: JobResult,
    /// The same in words: `status 200`, `exit 3`.
    pub text: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Happening for JobEnded {
    const KIND: &'static str = "job_ended";

    fn level(&self) -> Level {
        match self.result {
            JobResult::Ok | JobResult::Stopped => Level::Info,
            JobResult::Failed | JobResult::TimedOut | JobResult::Interrupted => Level::Warn,
        }
    }

    fn describe(self, event: &mut Event) {
        let job = self.of.describe(event);
        event.text = format!("job {job}, run {}: {}", self.number, self.text);
        event.data.insert("number".into(), self.number.into());
        event.data.insert("at".into(), self.at.into());
        event.data.insert("result".into(), words::job_result(self.result).into());
        event.data.insert("took_ms".into(), self.took_ms.into());
    }
}

/// Instants of a job had no firing, and will have none.
#[derive(Debug)]
pub struct JobMissed {
    /// Which.
    pub of: Of,
    /// How many; at 1000, at least so many.
    pub count: u64,
    /// The last one of them.
    pub last: String,
    /// Why.
    pub why: String,
}

impl Happening for JobMissed {
    const KIND: &'static str = "job_missed";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let job = self.of.describe(event);
        event.text = format!("job {job} missed {}: {}", passed(self.count, &self.last), self.why);
        event.data.insert("count".into(), self.count.into());
        event.data.insert("last".into(), self.last.into());
    }
}

/// An instant of a job had no firing, because an earlier one comes first.
#[derive(Debug)]
pub struct JobSkipped {
    /// Which.
    pub of: Of,
    /// The instant.
    pub at: String,
    /// Why.
    pub why: String,
}

impl Happening for JobSkipped {
    const KIND: &'static str = "job_skipped";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        let job = self.of.describe(event);
        event.text = format!("job {job} skips {}: {}", self.at, self.why);
        event.data.insert("at".into(), self.at.into());
    }
}

fn passed(count: u64, last: &str) -> String {
    match count {
        1 => last.to_owned(),
        1000.. => format!("1000 firings or more, the last one at {last}"),
        count => format!("{count} firings, the last one at {last}"),
    }
}

//! What a successor has to know of a task: kept by the spawner as the tag of its run, in JSON.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use watt_core::RunId;

use super::{Owner, Stop, Stopped, Task, UNATTENDED_MAX};
use crate::record::Uptime;

/// The note on one. Its number is its run's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskNote {
    pub(super) service: String,
    pub(super) owner: Owner,
    #[serde(default)]
    pub(super) has_secrets: bool,
    /// The run of the worker that it is inside of.
    #[serde(default)]
    pub(super) inside: Option<u64>,
    #[serde(default)]
    pub(super) is_attached: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    oom_kills_before: u64,
    #[serde(default)]
    times_out_at_up_ms: Option<u64>,
    #[serde(default)]
    stop: Option<StopNote>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct StopNote {
    why: Stopped,
    kill_at_up_ms: u64,
}

impl TaskNote {
    pub(super) fn new(task: &Task) -> TaskNote {
        TaskNote {
            service: task.seat.service.to_string(),
            owner: task.owner.clone(),
            has_secrets: task.secrets.is_some(),
            inside: task.inside.map(|run| run.0),
            is_attached: task.is_attached,
            by: task.by.clone(),
            command: task.command.clone(),
            oom_kills_before: task.oom_kills_before,
            times_out_at_up_ms: task.times_out_at.map(up_ms),
            stop: task.stop.map(|stop| StopNote { why: stop.why, kill_at_up_ms: up_ms(stop.kill_at) }),
        }
    }

    /// Takes over what it says of time.
    pub(super) fn restore(&self, task: &mut Task) {
        task.inside = self.inside.map(RunId);
        task.is_attached = self.is_attached;
        (task.by, task.command) = (self.by.clone(), self.command.clone());
        task.oom_kills_before = self.oom_kills_before;
        task.unattended_until = self.is_attached.then(|| Instant::now() + UNATTENDED_MAX);
        task.times_out_at = self.times_out_at_up_ms.map(instant);
        task.stop = self.stop.map(|StopNote { why, kill_at_up_ms }| Stop {
            why,
            kill_at: instant(kill_at_up_ms),
            is_killed: false,
        });
    }
}

/// Both are on the same clock.
fn up_ms(at: Instant) -> u64 {
    let wait = at.saturating_duration_since(Instant::now());
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Uptime::now().millis().saturating_add(wait)
}

fn instant(at_up_ms: u64) -> Instant {
    let wait = Duration::from_millis(at_up_ms.saturating_sub(Uptime::now().millis()));
    let now = Instant::now();
    // A note is read only when it was written, but a number of a broken one may be any.
    now.checked_add(wait).unwrap_or(now)
}

//! Events of tasks.

use watt_api::control::Event;

use super::{Happening, Level};
use crate::{
    seat::Seat,
    tasks::{End, Stopped},
};

/// A task was started.
#[derive(Debug)]
pub(crate) struct TaskStarted {
    /// Which.
    pub(crate) task: Seat,
    /// Who wanted it, in words.
    pub(crate) owner: String,
    /// The program. Its arguments may have secrets in them, and events are for all who may look.
    pub(crate) program: String,
}

impl Happening for TaskStarted {
    const KIND: &'static str = "task_started";

    fn level(&self) -> Level {
        Level::Info
    }

    fn describe(self, event: &mut Event) {
        about(event, self.task);
        event.text = format!("started for {}: {}", self.owner, self.program);
        event.data.insert("for".into(), self.owner.into());
    }
}

/// A task has ended, and nothing of it is left.
#[derive(Debug)]
pub(crate) struct TaskEnded {
    /// Which.
    pub(crate) task: Seat,
    /// How.
    pub(crate) end: End,
}

impl Happening for TaskEnded {
    const KIND: &'static str = "task_ended";

    fn level(&self) -> Level {
        if self.end.is_success() { Level::Info } else { Level::Warn }
    }

    fn describe(self, event: &mut Event) {
        about(event, self.task);
        event.text = self.end.cause.to_string();
        let stopped = match self.end.stopped {
            Some(Stopped::Asked) => "stopped",
            Some(Stopped::TimedOut) => "timed_out",
            Some(Stopped::Left) => "left",
            None => "no",
        };
        match self.end.stopped {
            Some(Stopped::Asked) => event.text.push_str("; it was stopped"),
            Some(Stopped::TimedOut) => event.text.push_str("; it took longer than it may"),
            Some(Stopped::Left) => event.text.push_str("; who had started it went away"),
            None => {}
        }
        event.data.insert("stopped".into(), stopped.into());
        let took_ms = self.end.ended_at_ms.saturating_sub(self.end.started_at_ms);
        event.data.insert("took_ms".into(), took_ms.into());
    }
}

fn about(event: &mut Event, task: Seat) {
    event.service = Some(task.service.to_string());
    event.data.insert("task".into(), task.name.into());
}

//! Tasks whose process is not there yet. Their secrets may take a while, and there is no run whose note could be found: so what they
//! are is kept as a value (`task/t7`), from before anything of them is made until their run has it.

use watt_core::{RunId, ServiceId, worker::ExecFailure};

use super::{Owner, Task, TaskId, TaskNote};
use crate::{
    app::App,
    record::{RunNote, RunOf},
    seat::Seat,
};

/// What the keys begin with.
const KEY: &str = "task/";

fn key(id: TaskId) -> String {
    format!("{KEY}{id}")
}

impl App {
    /// Keeps what one is. A successor clears away what was made of it.
    pub(super) fn note_unborn(&mut self, id: TaskId, task: &Task, has_secrets: bool) {
        let mut note = TaskNote::new(task);
        note.has_secrets = has_secrets;
        let note = RunNote { of: RunOf::Task(note), started_at_ms: task.started_at_ms };
        // A note is strings and numbers, which always have a JSON form.
        self.put(&key(id), serde_json::to_vec(&note).unwrap_or_default());
        watt_fault::step("daemon.task_noted");
    }

    /// Its run has the note now, or it is over.
    pub(super) fn forget_unborn(&mut self, id: TaskId) {
        self.put(&key(id), Vec::new());
    }

    /// Ends those that a predecessor had begun with and that have no process. Those that have one are known by now.
    pub(crate) fn end_unborn_tasks(&mut self, values: &[(String, Vec<u8>)]) {
        for (name, value) in values {
            let Some(id) = name.strip_prefix(KEY).and_then(TaskId::of_name) else { continue };
            let note = serde_json::from_slice(value).ok();
            match note {
                Some(RunNote { of: RunOf::Task(note), started_at_ms })
                    if !self.tasks.running.contains_key(&id) =>
                {
                    self.end_unborn(id, &note, started_at_ms);
                }
                // The predecessor had not come to say so.
                _ => self.forget_unborn(id),
            }
        }
    }

    fn end_unborn(&mut self, id: TaskId, note: &TaskNote, started_at_ms: u64) {
        let Ok(service) = ServiceId::new(&note.service) else { return self.forget_unborn(id) };
        let seat = Seat::of_task(service, id);
        let group = match note.inside {
            Some(_) => Default::default(),
            None => self.cgroups.standing_at(&seat, &self.plan),
        };
        let mark = self.life.of_run(id.run());
        // A hook is run once more, and this one is nobody's.
        let (owner, by) = match &note.owner {
            Owner::Hook(hooked) => {
                self.begin_hook_again(hooked);
                (Owner::Operator, Some(hooked.to_string()))
            }
            owner @ (Owner::Operator | Owner::Job { .. }) => (owner.clone(), None),
        };
        let mut task = Task::new(seat, owner, group, &mark, started_at_ms);
        note.restore(&mut task);
        task.by = by.or(task.by);
        if note.has_secrets {
            task.secrets = Some((self.places.seat_credentials(&task.seat), Default::default()));
        }
        let object = "the supervisor was replaced before its program ran".to_owned();
        task.failure = Some(ExecFailure { step: "start".to_owned(), object, errno: 0 });
        self.tasks.last = self.tasks.last.max(id.0);
        self.tasks.running.insert(id, task);
        self.empty_task(id);
    }

    /// Ends those inside of workers that have ended meanwhile.
    pub(crate) fn end_strays_inside(&mut self) {
        let inside = self.tasks.running.values().filter_map(|task| task.inside);
        let gone: Vec<RunId> = inside.filter(|run| !self.runs.contains_key(run)).collect();
        gone.into_iter().for_each(|run| self.end_inside(run));
    }
}

//! Tasks as operators see them.

use watt_api::control::{self, TaskInfo, TaskKind, TaskState};

use super::{Owner, Task, TaskId};
use crate::{app::App, timestamp};

/// How much of a command is kept for people, in bytes. It is in notes, which are bounded.
const COMMAND_SIZE_MAX: usize = 1024;

impl App {
    /// Those that have not ended.
    pub(crate) fn view_tasks(&self) -> control::Tasks {
        control::Tasks {
            tasks: self.tasks.running.iter().map(|(id, task)| self.view_task(*id, task)).collect(),
        }
    }

    fn view_task(&self, id: TaskId, task: &Task) -> TaskInfo {
        let worker = task.inside.and_then(|run| self.runs.get(&run)).map(|run| run.worker.to_string());
        let has_ended = task.main.as_ref().is_some_and(|main| main.exit.is_some());
        let state = match (task.stop.is_some() || has_ended || task.failure.is_some(), task.is_executed) {
            (true, _) => TaskState::Stopping,
            (false, true) => TaskState::Running,
            (false, false) => TaskState::Starting,
        };
        TaskInfo {
            id: format!("{}/{id}", task.seat.service),
            service: task.seat.service.to_string(),
            worker,
            kind: match (&task.owner, task.inside) {
                (Owner::Job { .. }, _) => TaskKind::Job,
                (Owner::Hook(_), _) => TaskKind::Hook,
                (Owner::Operator, Some(_)) => TaskKind::Exec,
                (Owner::Operator, None) => TaskKind::Run,
            },
            command: task.command.clone(),
            started_at: timestamp::from_ms(task.started_at_ms),
            state,
            by: task.by.clone().unwrap_or_else(|| task.owner.to_string()),
            pid: task.live_pid(),
            attached: task.is_attached,
        }
    }
}

/// A command, as much of it as is kept.
pub(super) fn shortened(command: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut room = COMMAND_SIZE_MAX;
    for argument in command {
        // Each is at least some bytes of a note.
        let size = argument.len() + 4;
        if size > room {
            let start = argument.floor_char_boundary(room.saturating_sub(4));
            kept.push(format!("{}…", &argument[..start]));
            break;
        }
        room -= size;
        kept.push(argument.clone());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_kept_as_far_as_there_is_room() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let short = words(&["sh", "-c", "exit 0"]);
        assert_eq!(shortened(&short), short);
        let long = shortened(&words(&["echo", &"é".repeat(2000), "last"]));
        assert_eq!(long.len(), 2);
        assert!(long[1].ends_with("é…") && long[1].len() < COMMAND_SIZE_MAX, "{}", long[1].len());
        let many = shortened(&vec![String::new(); 100_000]);
        assert!(many.len() < COMMAND_SIZE_MAX, "{}", many.len());
    }
}

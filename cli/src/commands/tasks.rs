//! `wattctl tasks`: processes that run once, and an end to one.

use watt_api::control::{TaskEnd, TaskInfo, TaskKind, TaskState, TaskStop, Tasks};

use crate::{
    args::{self, TasksCommand},
    context::Running,
    exit::{Exit, Outcome},
    text::{
        numbers, out, safe,
        style::{Style, Tone},
        table::{self, Cell, Column},
    },
};

const COLUMNS: [Column; 7] = [
    Column { title: "TASK", rank: 0, right: false },
    Column { title: "KIND", rank: 1, right: false },
    Column { title: "STATE", rank: 0, right: false },
    Column { title: "FOR", rank: 2, right: true },
    Column { title: "PID", rank: 4, right: true },
    Column { title: "BY", rank: 3, right: false },
    Column { title: "COMMAND", rank: 0, right: false },
];

/// Runs the command.
pub async fn run(arguments: args::Tasks) -> Outcome {
    let json = arguments.print().json;
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let failed = |error| running.failure(error);
    match arguments.command {
        None | Some(TasksCommand::Ls(_)) => {
            let tasks = client.tasks().await.map_err(failed)?;
            match json {
                true => out::json(&tasks),
                false => out::print(&render(&tasks, Style::stdout())),
            }
        }
        Some(TasksCommand::Stop(stop)) => {
            let end = client.stop_task(&stop.task, TaskStop { now: stop.now }).await.map_err(failed)?;
            match json {
                true => out::json(&end),
                false => out::print(&ended(&stop.task, &end)),
            }
        }
    }
    Ok(Exit::Ok)
}

fn ended(task: &str, end: &TaskEnd) -> String {
    format!("{task} has ended: {}\n", safe::line(&end.text, false))
}

fn render(tasks: &Tasks, style: Style) -> String {
    let rows: Vec<Vec<Cell>> = tasks.tasks.iter().map(row).collect();
    match rows.is_empty() {
        true => "no tasks\n".to_owned(),
        false => table::render(&COLUMNS, &rows, style),
    }
}

fn row(task: &TaskInfo) -> Vec<Cell> {
    let state = match task.state {
        TaskState::Starting => Cell::tone(Tone::Busy, "starting"),
        TaskState::Running => Cell::tone(Tone::Good, "running"),
        TaskState::Stopping => Cell::tone(Tone::Busy, "stopping"),
    };
    let kind = match (task.kind, &task.worker) {
        (TaskKind::Exec, Some(worker)) => format!("exec in {worker}"),
        (TaskKind::Exec, None) => "exec".to_owned(),
        (TaskKind::Run, _) => "run".to_owned(),
        (TaskKind::Job, _) => "job".to_owned(),
        (TaskKind::Hook, _) => "hook".to_owned(),
    };
    vec![
        task.id.as_str().into(),
        kind.into(),
        state,
        numbers::since(&task.started_at).map(numbers::span).unwrap_or_default().into(),
        task.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
        safe::line(&task.by, false).into(),
        safe::line(&task.command.join(" "), false).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_a_line_whatever_its_command_has_in_it() {
        let task = TaskInfo {
            id: "api/t7".into(),
            service: "api".into(),
            worker: Some("api/0".into()),
            kind: TaskKind::Exec,
            command: vec!["sh".into(), "-c".into(), "a\nb\x1b[2J".into()],
            started_at: String::new(),
            state: TaskState::Running,
            by: "user 0".into(),
            pid: Some(4711),
            attached: true,
        };
        let style = Style { colours: false, width: None };
        let text = render(&Tasks { tasks: vec![task] }, style);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].starts_with("api/t7 exec in api/0 running 4711 user 0 sh -c a"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert_eq!(render(&Tasks { tasks: Vec::new() }, style), "no tasks\n");
    }
}

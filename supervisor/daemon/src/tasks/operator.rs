//! Tasks that operators want, and what they say to those they are attached to.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::mpsc;
use watt_api::control::{self, TaskEnd, TaskStarted};
use watt_core::{ServiceId, worker::ExitCause};

use super::{Attachment, End, NotStarted, Order, Owner, Stopped, TaskId, Told};
use crate::{
    app::App,
    control::{Refusal, Reply},
    operate::answer,
};

/// A request about tasks.
#[derive(Debug)]
pub(crate) enum Request {
    /// Start one in a sandbox of its own.
    Run {
        service: ServiceId,
        /// The service's own when it is empty.
        command: Vec<String>,
        time_max: Option<Duration>,
        attachment: Attachment,
        /// Answered when its process is asked for.
        reply: Reply<TaskStarted>,
    },
    /// Start one inside a worker's.
    Exec {
        service: ServiceId,
        /// The first that runs when there is none.
        worker: Option<u16>,
        command: Vec<String>,
        attachment: Attachment,
        /// Answered when its process is asked for.
        reply: Reply<TaskStarted>,
    },
    /// Go on being told of one that a predecessor started.
    Attach { task: TaskId, told: mpsc::UnboundedSender<Told>, reply: Reply<()> },
    /// All of them.
    List { reply: Reply<control::Tasks> },
    /// End one. Always legal.
    Stop {
        task: TaskId,
        /// Kill it at once.
        now: bool,
        /// Answered when nothing of it is left.
        reply: Reply<TaskEnd>,
    },
    /// Send its main process a signal.
    Signal { task: TaskId, signal: i32 },
    /// Who was attached to it has gone.
    Leave { task: TaskId },
}

impl App {
    /// Does what is asked for. What starts something is legal until a shutdown has begun.
    pub(crate) fn task_request(&mut self, request: Request) {
        match request {
            Request::Run { service, command, time_max, attachment, reply } => {
                let command = Some(command).filter(|command| !command.is_empty());
                answer(reply, self.start_for_operator(service, command, time_max, attachment));
            }
            Request::Exec { service, worker, command, attachment, reply } => {
                answer(reply, self.exec(service, worker, command, attachment));
            }
            Request::Attach { task, told, reply } => answer(reply, self.attach_to(task, told)),
            Request::List { reply } => answer(reply, Ok(self.view_tasks())),
            Request::Stop { task, now, reply } => self.stop_for_operator(task, now, reply),
            Request::Signal { task, signal } => {
                if let Some(task) = self.tasks.running.get_mut(&task) {
                    task.signal(signal);
                }
            }
            Request::Leave { task } => {
                if let Some(left) = self.tasks.running.get_mut(&task) {
                    left.told = None;
                }
                self.stop_task(task, Stopped::Left, false);
            }
        }
    }

    fn exec(
        &mut self,
        service: ServiceId,
        worker: Option<u16>,
        command: Vec<String>,
        attachment: Attachment,
    ) -> Result<TaskStarted, Refusal> {
        let found = self.plan.services.get(&service).ok_or_else(|| self.unknown(&service))?;
        let run = self.run_to_enter(found, worker)?;
        let attachment = Attachment { inside: Some(run), ..attachment };
        self.start_for_operator(service, Some(command), None, attachment)
    }

    fn start_for_operator(
        &mut self,
        service: ServiceId,
        command: Option<Vec<String>>,
        time_max: Option<Duration>,
        attachment: Attachment,
    ) -> Result<TaskStarted, Refusal> {
        let env = BTreeMap::new();
        let order = Order { service: service.clone(), command, env, time_max, owner: Owner::Operator };
        match self.start_attached_task(order, attachment) {
            Ok(task) => Ok(TaskStarted { task: format!("{service}/{task}") }),
            Err(NotStarted::Refused(refusal)) => Err(refusal),
            Err(NotStarted::Failed(failure)) => Err(Refusal::NotStarted(failure.to_string())),
        }
    }

    fn stop_for_operator(&mut self, id: TaskId, now: bool, reply: Reply<TaskEnd>) {
        let Some(task) = self.tasks.running.get_mut(&id) else {
            let known = self.view_tasks().tasks.into_iter().map(|task| task.id).collect();
            return answer(reply, Err(Refusal::UnknownTask { name: id.to_string(), known }));
        };
        task.awaited_by.push(reply);
        self.stop_task(id, Stopped::Asked, now);
    }

    fn attach_to(&mut self, id: TaskId, told: mpsc::UnboundedSender<Told>) -> Result<(), Refusal> {
        if let Some((end, _)) = self.tasks.unheard.remove(&id) {
            // Who asked may have gone already.
            let _ = told.send(Told::Ended(end));
            return Ok(());
        }
        match self.tasks.running.get_mut(&id) {
            Some(task) if task.is_attached && task.told.is_none() => {
                (task.told, task.unattended_until) = (Some(told), None);
                Ok(())
            }
            Some(_) | None => Err(Refusal::NotStarted(format!("there is no task {id} to attach to"))),
        }
    }
}

/// As it is told to who is attached.
pub(crate) fn wire(end: &End) -> TaskEnd {
    /// How a shell says that there is no such program, and that it cannot be executed; and, as others have it, that something else
    /// went wrong.
    const MISSING: u8 = 127;
    const UNUSABLE: u8 = 126;
    const FAILED: u8 = 125;
    /// What a shell adds to a signal's number.
    const SIGNALED: i32 = 128;
    /// ENOENT and ENOTDIR.
    const NOT_THERE: [i32; 2] = [2, 20];
    let status = |status: i32| u8::try_from(status).unwrap_or(u8::MAX);
    let (executed, status) = match &end.cause {
        ExitCause::Exited(code) => (true, status(*code)),
        ExitCause::Signaled { signal, .. } => (true, status(SIGNALED + signal)),
        ExitCause::OutOfMemory { .. } => (true, status(SIGNALED + crate::runs::SIGKILL)),
        ExitCause::ExecFailed(failure) if failure.step != "exec" => (false, FAILED),
        ExitCause::ExecFailed(failure) if NOT_THERE.contains(&failure.errno) => (false, MISSING),
        ExitCause::ExecFailed(_) => (false, UNUSABLE),
        ExitCause::Stopped
        | ExitCause::StartTimeout
        | ExitCause::Group
        | ExitCause::Recycled(_)
        | ExitCause::Unhealthy(_)
        | ExitCause::Unknown => (false, FAILED),
    };
    TaskEnd { text: end.cause.to_string(), status, executed }
}

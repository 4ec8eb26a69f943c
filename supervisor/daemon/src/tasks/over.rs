//! The end of a task: at its time or on request, and what is cleared when no process of it is left.

use std::time::{Duration, Instant};

use watt_core::{RunId, ServiceId, worker::ExitCause};
use watt_spawner::protocol::{Request, WaitStatus};

use super::{End, HANGUP_GRACE, News, Owner, Stop, Stopped, Task, TaskId, Told, wire};
use crate::{
    app::App,
    events::tasks::TaskEnded,
    launch::listener_name,
    operate::answer,
    place::remove_folders,
    runs::{self, SIGCONT, SIGHUP, SIGKILL, SIGTERM},
    secrets, status,
};

/// For a task whose service is not configured any more.
const GRACE_DEFAULT: Duration = Duration::from_secs(10);

impl App {
    /// Ends a task: its service's stop signal, and after its grace, or at once when `now`, a kill of all its processes. Its owner
    /// is told when that is over. A second time only `now` has an effect.
    pub(crate) fn stop_task(&mut self, id: TaskId, why: Stopped, now: bool) {
        let Some(task) = self.tasks.running.get_mut(&id) else { return };
        let service = self.plan.services.get(&task.seat.service).map(|service| &service.stop);
        let (signal, grace) = match task.is_attached {
            // What a terminal's end would send: a shell that somebody sits at ignores most others.
            true => (SIGHUP, HANGUP_GRACE),
            false => service.map_or((SIGTERM, GRACE_DEFAULT), |stop| (stop.signal, stop.grace)),
        };
        let at = Instant::now();
        match &mut task.stop {
            Some(stop) if now => stop.kill_at = at,
            Some(_) => return,
            None => {
                let kill_at = if now { at } else { at.checked_add(grace).unwrap_or(at) };
                task.stop = Some(Stop { why, kill_at, is_killed: false });
                if !now {
                    task.signal(signal);
                    task.signal(SIGCONT);
                }
            }
        }
        if !task.is_asked_for {
            // Nobody waits for its secrets any more, which ends the programs that would say them.
            task.waits.clear();
            return self.empty_task(id);
        }
        self.note_task(id);
        self.tick_tasks();
    }

    /// Ends all of them, or those of one service.
    pub(crate) fn stop_tasks(&mut self, of: Option<&ServiceId>, now: bool) {
        // A stop waits for its own hooks.
        let is_of_stop = |task: &Task| matches!(&task.owner, Owner::Hook(hooked) if hooked.is_of_stop());
        let is_meant = |task: &Task| {
            of.is_none_or(|service| task.seat.service == *service) && (now || !is_of_stop(task))
        };
        let meant = self.tasks.running.iter().filter(|(_, task)| is_meant(task)).map(|(id, _)| *id);
        for id in meant.collect::<Vec<_>>() {
            self.stop_task(id, Stopped::Asked, now);
        }
    }

    /// A worker's run is over, and with it what was started inside of it: what has left its cgroup or shed its marks, and what was only
    /// about to come in.
    pub(crate) fn end_inside(&mut self, run: RunId) {
        for id in self.tasks.inside(run) {
            self.stop_task(id, Stopped::Asked, true);
        }
    }

    /// Does what is due.
    pub(crate) fn tick_tasks(&mut self) {
        let now = Instant::now();
        let is_due = |task: &Task| task.deadline().is_some_and(|at| at <= now);
        let due = self.tasks.running.iter().filter(|(_, task)| is_due(task)).map(|(id, _)| *id);
        for id in due.collect::<Vec<_>>() {
            let Some(task) = self.tasks.running.get_mut(&id) else { continue };
            match &mut task.stop {
                Some(stop) => {
                    stop.is_killed = true;
                    self.kill_task(id);
                }
                None if task.times_out_at.is_some_and(|at| at <= now) => {
                    // Something waits for a hook that has had its time.
                    let now = matches!(task.owner, Owner::Hook(_));
                    self.stop_task(id, Stopped::TimedOut, now);
                }
                None => self.stop_task(id, Stopped::Left, false),
            }
        }
        self.tasks.unheard.retain(|_, (_, until)| *until > now);
    }

    /// Kills what is left of it, and goes on when nothing is.
    pub(super) fn empty_task(&mut self, id: TaskId) {
        let Some(task) = self.tasks.running.get_mut(&id) else { return };
        let (containment, emptied) = (task.containment(), self.senders.tasks.clone());
        task.waits.push(runs::Task(tokio::spawn(async move {
            containment.clone().kill().await;
            containment.emptied().await;
            // Fails when the loop has ended, and with it everything else.
            let _ = emptied.send(News::Emptied(id)).await;
        })));
    }

    /// No process of it is left: its secrets, listeners, folder, cgroup and pipes go, and its owner is told.
    ///
    /// What is still being done beside the loop is waited for, and then this is called again.
    pub(crate) fn task_emptied(&mut self, id: TaskId) {
        let Some(task) = self.tasks.running.get_mut(&id) else { return };
        if let Some((folder, over)) = task.secrets.take() {
            task.acts.push(secrets::end(folder, over));
        }
        task.acts.retain(|act| !act.is_finished());
        let service = task.seat.service.clone();
        if task.acts.is_empty()
            && task.inside.is_none()
            && self.is_last_task(id, &service)
            && let Err(busy) = self.cgroups.end_total(&service)
            && let Some(task) = self.tasks.running.get_mut(&id)
        {
            task.acts.push(tokio::spawn(busy.idle()));
        }
        let Some(task) = self.tasks.running.get_mut(&id) else { return };
        if !task.acts.is_empty() {
            let (acts, emptied) = (std::mem::take(&mut task.acts), self.senders.tasks.clone());
            task.waits.push(runs::Task(tokio::spawn(async move {
                for act in acts {
                    // A panic there ends the act as well.
                    let _ = act.await;
                }
                let _ = emptied.send(News::Emptied(id)).await;
            })));
            return;
        }
        if let Some(task) = self.tasks.running.remove(&id) {
            self.clear_task(id, &task);
            self.tell_end(id, task);
        }
    }

    /// Whether its service has nothing else that runs.
    fn is_last_task(&self, id: TaskId, service: &ServiceId) -> bool {
        let others = self.tasks.running.iter().filter(|(other, _)| **other != id);
        let mut others = others.filter(|(_, task)| task.inside.is_none());
        !others.any(|(_, task)| task.seat.service == *service)
            && !self.runs.values().any(|run| run.worker.service == *service)
    }

    fn clear_task(&mut self, id: TaskId, task: &Task) {
        if task.inside.is_some() {
            // Everything that it had is the worker's.
            return;
        }
        for listener in &task.listeners {
            self.proxy_link.remove_listener(listener);
        }
        let mesh = listener_name("mesh", &task.seat);
        self.bound.remove(&mesh);
        if let Some(listener) = self.mesh_listeners.remove(&mesh) {
            self.proxy_link.remove_listener(&listener);
        }
        self.link.request(Request::Unlisten { name: mesh }, Vec::new());
        remove_folders(&self.places, &task.seat);
        if task.group.is_usable()
            && let Err(error) = task.group.remove()
        {
            tracing::warn!("the cgroup of {} cannot be removed: {error}", task.seat);
        }
        // Done in its own time: the last lines are read by the logs' thread.
        drop(self.logs.ended(id.run()));
    }

    fn tell_end(&mut self, id: TaskId, task: Task) {
        let end = End {
            task: id,
            service: task.seat.service.clone(),
            cause: self.cause_of(&task),
            stopped: task.stop.map(|stop| stop.why),
            started_at_ms: task.started_at_ms,
            ended_at_ms: exit_of(&task).map_or_else(status::now_ms, |exit| exit.at_ms),
        };
        for reply in task.awaited_by {
            answer(reply, Ok(wire(&end)));
        }
        if !task.is_told {
            self.events.emit(TaskEnded { task: task.seat, end: end.clone() });
            self.task_over(&task.owner, &end);
            match (task.told, task.unattended_until) {
                // Who has gone does not hear it.
                (Some(told), _) => drop(told.send(Told::Ended(end))),
                (None, Some(until)) => drop(self.tasks.unheard.insert(id, (end, until))),
                (None, None) => {}
            }
        }
        // Last: a successor of a daemon that ends before this tells it once more.
        if task.main.is_none() {
            self.forget_unborn(id);
        }
        self.forgettable.push(id.run());
        self.unsettle();
    }

    fn cause_of(&self, task: &Task) -> ExitCause {
        if let Some(failure) = &task.failure {
            return ExitCause::ExecFailed(failure.clone());
        }
        let Some(exit) = exit_of(task) else { return ExitCause::Stopped };
        let limits = self.plan.services.get(&task.seat.service).map(|service| &service.limits);
        // Inside a worker the kernel counted what was killed there before, too.
        let is_oom =
            limits.is_some_and(|limits| limits.oom_group) && task.group.oom_kills() > task.oom_kills_before;
        match exit {
            WaitStatus { signaled: true, code: SIGKILL, .. } if is_oom => ExitCause::OutOfMemory {
                limit: limits
                    .and_then(|limits| limits.cgroup.memory)
                    .filter(|_| task.group.memory_ended().is_some_and(|count| count > 0)),
            },
            WaitStatus { signaled: true, code, core_dumped, .. } => {
                ExitCause::Signaled { signal: code, core_dumped }
            }
            WaitStatus { signaled: false, code, .. } => ExitCause::Exited(code),
        }
    }

    /// A task is over and nothing of it is left. Here its owner is told: once, or once more by a successor.
    fn task_over(&mut self, owner: &Owner, end: &End) {
        match owner {
            // Its end is an event.
            Owner::Operator => {}
            Owner::Job { job, number } => self.command_over(job, *number, end),
            Owner::Hook(hooked) => self.hook_task_over(hooked, end),
        }
    }
}

fn exit_of(task: &Task) -> Option<WaitStatus> {
    task.main.as_ref().and_then(|main| main.exit)
}

//! What the spawner says of tasks, and what a successor finds of them.

use std::{os::fd::OwnedFd, sync::Arc};

use watt_core::{RunId, ServiceId, worker::ExecFailure};
use watt_exec::plan::TERMINAL;
use watt_os::cgroup::Group;
use watt_spawner::protocol::{Stage, WaitStatus};

use super::{News, Stopped, Task, TaskId, TaskNote, Told};
use crate::{
    app::App,
    logs,
    news::listener_kind,
    runs::{Main, SIGKILL},
    seat::Seat,
    start::HeldRun,
};

impl App {
    /// News from beside the loop.
    pub(crate) fn task_news(&mut self, news: News) {
        match news {
            News::Ready { task, launch, ready } => self.task_is_ready(task, *launch, ready),
            News::Emptied(task) => self.task_emptied(task),
        }
    }

    fn task_is_ready(
        &mut self,
        id: TaskId,
        launch: crate::launch::Launch,
        ready: Result<Vec<OwnedFd>, ExecFailure>,
    ) {
        // It may be over before it began.
        if self.tasks.running.get(&id).is_none_or(|task| task.stop.is_some()) {
            return;
        }
        if let Err(failure) = ready.and_then(|handed| self.spawn_task(id, launch, handed)) {
            self.task_failed(id, failure);
        }
    }

    /// A process was cloned.
    pub(crate) fn task_spawned(
        &mut self,
        id: TaskId,
        pid: u32,
        pidfd: OwnedFd,
        [stdout, stderr]: [OwnedFd; 2],
    ) {
        let Some(task) = self.tasks.running.get_mut(&id) else { return };
        let main = Main::new(pid, pidfd);
        task.owed_signals.drain(..).for_each(|signal| main.signal(signal));
        task.main = Some(main);
        // Its run has the note.
        self.forget_unborn(id);
        let Some(task) = self.tasks.running.get(&id) else { return };
        if !task.is_attached {
            let source = source(id, &task.seat);
            self.attach(id.run(), source, None, stdout, stderr);
        }
        // Whatever was asked for meanwhile.
        self.note_task(id);
        self.unsettle();
    }

    /// There is no process, and will be none.
    pub(crate) fn task_failed(&mut self, id: TaskId, failure: ExecFailure) {
        if let Some(task) = self.tasks.running.get_mut(&id) {
            task.failure = Some(failure);
            self.empty_task(id);
        }
    }

    /// A step before the program failed. The exit follows.
    pub(crate) fn task_not_executed(&mut self, id: TaskId, failure: ExecFailure) {
        if let Some(task) = self.tasks.running.get_mut(&id) {
            task.failure = Some(failure);
        }
    }

    /// The program runs: what the exec stage made in its network is served.
    pub(crate) fn task_executed(&mut self, id: TaskId, made: impl Iterator<Item = (String, OwnedFd)>) {
        let Some(task) = self.tasks.running.get_mut(&id) else { return };
        task.is_executed = true;
        let mut terminal = None;
        for (name, descriptor) in made {
            match name.as_str() {
                TERMINAL => terminal = Some(descriptor),
                _ => drop(task.descriptors.insert(name, Arc::new(descriptor))),
            }
        }
        // Who asked for it may have gone before there was a conversation whose end could be heard of.
        let has_left = task.told.as_ref().is_some_and(|told| told.send(Told::Executed { terminal }).is_err());
        if has_left {
            task.told = None;
            return self.stop_task(id, Stopped::Left, false);
        }
        self.serve_task(id);
    }

    fn serve_task(&mut self, id: TaskId) {
        let Some(task) = self.tasks.running.get_mut(&id) else { return };
        for (name, descriptor) in &task.descriptors {
            let Some((kind, label)) = listener_kind(name, task.seat.service.as_str()) else { continue };
            let listener = format!("{label}/{}", id.run());
            self.proxy_link.add_listener(listener.clone(), kind, Arc::clone(descriptor));
            task.listeners.push(listener);
        }
    }

    /// The main process ended. Whatever it started ends with it.
    pub(crate) fn task_exited(&mut self, id: TaskId, exit: WaitStatus) {
        let Some(task) = self.tasks.running.get_mut(&id) else {
            return self.forgettable.push(id.run());
        };
        match &mut task.main {
            Some(main) => main.exit = Some(exit),
            None => return,
        }
        // What it leaves behind in a worker's sandbox is the worker's, unless it was ended for somebody's sake.
        match (task.inside, task.stop) {
            (Some(_), None) => self.task_emptied(id),
            (Some(_), Some(_)) | (None, _) => self.empty_task(id),
        }
    }

    /// Takes over one that a predecessor started.
    pub(crate) fn adopt_task(&mut self, note: &TaskNote, started_at_ms: u64, held: HeldRun) {
        let (Some(id), Ok(service)) = (TaskId::of_run(RunId(held.run)), ServiceId::new(&note.service)) else {
            return self.end_stray(held);
        };
        let HeldRun { run: _, tag: _, pid, stage, exit, pidfd, stdout, stderr, descriptors } = held;
        let seat = Seat::of_task(service, id);
        let group = match note.inside {
            Some(_) => Group::default(),
            None => self.cgroups.standing_at(&seat, &self.plan),
        };
        let mark = self.life.of_run(id.run());
        let mut task = Task::new(seat, note.owner.clone(), group, &mark, started_at_ms);
        note.restore(&mut task);
        if note.inside.is_some() {
            task.environment = format!("{}={mark}", super::inside::VARIABLE).into_bytes();
        }
        if note.has_secrets {
            task.secrets = Some((self.places.seat_credentials(&task.seat), Arc::default()));
        }
        let mut main = Main::new(pid, pidfd);
        if exit.is_some() {
            // It was reaped, and what has its number now is another process.
            main.started = 0;
        }
        (task.main, task.is_asked_for) = (Some(main), true);
        task.is_executed = stage == Stage::Executed;
        if let Stage::Failed { step, object, errno } = stage {
            task.failure = Some(ExecFailure { step, object, errno });
        }
        task.descriptors =
            descriptors.into_iter().map(|(name, descriptor)| (name, Arc::new(descriptor))).collect();
        let source = source(id, &task.seat);
        self.tasks.last = self.tasks.last.max(id.0);
        self.tasks.running.insert(id, task);
        if !note.is_attached {
            self.attach(id.run(), source, Some(started_at_ms * 1000), stdout, stderr);
        }
        match exit {
            Some(exit) => self.task_exited(id, exit),
            None => self.serve_task(id),
        }
    }

    /// A run as a list tells it that was asked for again because a message was lost.
    pub(crate) fn task_told_again(&mut self, id: TaskId, held: HeldRun) {
        let HeldRun { run: _, tag: _, pid, stage, exit, pidfd, stdout, stderr, descriptors } = held;
        let Some(task) = self.tasks.running.get(&id) else { return };
        let is_over = task.main.as_ref().is_some_and(|main| main.exit.is_some());
        let is_news = task.is_news(&stage);
        if task.main.is_none() {
            self.task_spawned(id, pid, pidfd, [stdout, stderr]);
        }
        match stage {
            Stage::Failed { step, object, errno } => {
                self.task_not_executed(id, ExecFailure { step, object, errno });
            }
            Stage::Executed if is_news => self.task_executed(id, descriptors.into_iter()),
            Stage::Executed | Stage::Preparing => {}
        }
        if let Some(exit) = exit.filter(|_| !is_over) {
            self.task_exited(id, exit);
        }
    }

    /// Numbers go on after those that a predecessor gave out.
    pub(crate) fn skip_tasks(&mut self, last: Option<&[u8]>) {
        let last = last.and_then(|value| str::from_utf8(value).ok()?.parse().ok());
        self.tasks.last = self.tasks.last.max(last.unwrap_or(0));
    }

    /// Kills at once.
    pub(super) fn kill_task(&mut self, id: TaskId) {
        let Some(task) = self.tasks.running.get_mut(&id) else { return };
        // The main process by itself, so that nothing depends on what else succeeds.
        task.signal(SIGKILL);
        task.acts.push(tokio::spawn(task.containment().kill()));
    }
}

/// Whose output it is.
fn source(id: TaskId, seat: &Seat) -> logs::Source {
    logs::Source::Task { service: seat.service.clone(), name: seat.name.clone(), run: id.run() }
}

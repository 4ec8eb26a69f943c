//! The start of a task.

use std::{os::fd::OwnedFd, sync::Arc, time::Instant};

use watt_core::{
    plan::{Listen, ReadyWhen, Service},
    worker::ExecFailure,
};
use watt_exec::plan::LaunchPlan;
use watt_os::cgroup::Group;
use watt_spawner::protocol::Request;

use super::{Attachment, LAST, News, Order, Owner, Streams, Task, TaskId, TaskNote, view};
use crate::{
    app::{App, Ending},
    control::Refusal,
    events::tasks::TaskStarted,
    launch::{Launch, Launcher},
    perform::{failed, refuse_frozen},
    record::{RunNote, RunOf},
    runs,
    seat::Seat,
    status,
};

/// Why there is no task. Nothing of it is left.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// It is not to be.
    Refused(Refusal),
    /// Something stood in the way before there was a process.
    Failed(ExecFailure),
}

impl App {
    /// Starts a task: asks for its process, or first for its secrets. What stands in the way after this call is its end, and
    /// told as such.
    ///
    /// # Errors
    /// When there is no such service, the application ends, or its cgroup, folders or sandbox cannot be made.
    pub(crate) fn start_task(&mut self, order: Order) -> Result<TaskId, NotStarted> {
        self.start_attached_task(order, Attachment::default())
    }

    /// The same with somebody attached to it.
    pub(crate) fn start_attached_task(
        &mut self,
        order: Order,
        attachment: Attachment,
    ) -> Result<TaskId, NotStarted> {
        let service = self.service_for_task(&order).map_err(NotStarted::Refused)?.clone();
        let Attachment { inside, streams, told, by } = attachment;
        self.tasks.last += 1;
        let id = TaskId(self.tasks.last);
        // A successor must not give the number out again, even when nothing else is left of this one.
        self.put(LAST, self.tasks.last.to_string().into_bytes());
        let seat = Seat::of_task(service.id.clone(), id);
        let mark = self.life.of_run(id.run());
        let mut task =
            Task::new(seat.clone(), order.owner.clone(), Group::default(), &mark, status::now_ms());
        task.times_out_at = order.time_max.and_then(|time| Instant::now().checked_add(time));
        (task.is_attached, task.told, task.inside, task.by) = (told.is_some(), told, inside, by);
        task.command = view::shortened(order.command.as_ref().unwrap_or(&service.command));
        let asked_by = task.by.clone().unwrap_or_else(|| order.owner.to_string());
        self.note_unborn(id, &task, !service.secrets.is_empty());
        task.group = match inside {
            Some(run) => self.runs.get(&run).map(|run| run.group.clone()).unwrap_or_default(),
            None => match self.cgroups.create_at(&seat, &self.plan) {
                Ok(made) => made.group,
                Err(error) => {
                    self.forget_unborn(id);
                    return Err(NotStarted::Failed(failed("cgroup", seat.to_string(), &error)));
                }
            },
        };
        task.oom_kills_before = task.group.oom_kills();
        self.tasks.running.insert(id, task);
        let (command, started) = match inside {
            Some(run) => {
                let command = order.command.clone().unwrap_or_default();
                (command.clone(), self.try_start_inside(id, run, &service, command, streams))
            }
            None => {
                let one_off = one_off(&service, &order);
                let started = self.try_start_task(id, &seat, &one_off, &mark, streams);
                (one_off.command, started)
            }
        };
        if let Err(failure) = started {
            // By what is returned.
            if let Some(task) = self.tasks.running.get_mut(&id) {
                (task.is_told, task.told) = (true, None);
            }
            self.task_emptied(id);
            return Err(NotStarted::Failed(failure));
        }
        let program = command.into_iter().next().unwrap_or_default();
        self.events.emit(TaskStarted { task: seat, owner: asked_by, program });
        self.unsettle();
        Ok(id)
    }

    fn service_for_task(&self, order: &Order) -> Result<&Service, Refusal> {
        let id = &order.service;
        // The end of a worker has its hooks, whatever it ends for.
        let is_hook = matches!(order.owner, Owner::Hook(_));
        if self.ending != Ending::No && !is_hook {
            return Err(Refusal::ShuttingDown);
        }
        let service = self.plan.services.get(id).filter(|_| is_hook || !self.fleet.is_leaving(id));
        service.ok_or_else(|| self.unknown(id))
    }

    fn try_start_task(
        &mut self,
        id: TaskId,
        seat: &Seat,
        service: &Service,
        mark: &str,
        streams: Streams,
    ) -> Result<(), ExecFailure> {
        let Some(task) = self.tasks.running.get(&id) else { return Ok(()) };
        let group = task.group.clone();
        refuse_frozen(&group)?;
        let launcher = Launcher {
            plan: &self.plan,
            places: &self.places,
            host: &self.host,
            inherited: &self.in_force.sources.env,
            accounts: &self.accounts,
        };
        let mut launch = launcher.launch(service, seat, mark, None, group.legacy_tasks())?;
        self.make_folders(seat, launch.owner)?;
        let given = lead(&mut launch.plan, streams);
        let Some(folder) = launch.credentials.clone() else { return self.spawn_task(id, launch, given) };
        let over = Arc::default();
        let reading = self.begin_reading(service, mark, &group, &launch, folder.clone(), Arc::clone(&over));
        let sender = self.senders.tasks.clone();
        let wait = tokio::spawn(async move {
            let (ready, _) = reading.await;
            // Fails when the loop has ended, and with it everything else.
            let ready = ready.map(|credentials| credentials.into_iter().chain(given).collect());
            let _ = sender.send(News::Ready { task: id, launch: Box::new(launch), ready }).await;
        });
        if let Some(task) = self.tasks.running.get_mut(&id) {
            task.secrets = Some((folder, over));
            task.waits.push(runs::Task(wait));
        }
        Ok(())
    }

    /// Asks for the process.
    pub(super) fn spawn_task(
        &mut self,
        id: TaskId,
        launch: Launch,
        handed: Vec<OwnedFd>,
    ) -> Result<(), ExecFailure> {
        let Launch { plan, listeners, pass, .. } = launch;
        for (name, address) in listeners {
            self.bind(name, address);
        }
        self.request_task(id, plan, pass, handed)
    }

    /// The same for one inside a worker, which has all the rest.
    pub(super) fn spawn_inside(
        &mut self,
        id: TaskId,
        plan: LaunchPlan,
        handed: Vec<OwnedFd>,
    ) -> Result<(), ExecFailure> {
        self.request_task(id, plan, Vec::new(), handed)
    }

    fn request_task(
        &mut self,
        id: TaskId,
        plan: LaunchPlan,
        pass: Vec<String>,
        handed: Vec<OwnedFd>,
    ) -> Result<(), ExecFailure> {
        let Some(task) = self.tasks.running.get_mut(&id) else { return Ok(()) };
        task.is_asked_for = true;
        let (group, tag) = (task.group.clone(), tag(task));
        self.ask_to_spawn(id.run().0, tag, &group, plan, pass, handed)
    }

    /// Keeps what has changed for a successor.
    pub(super) fn note_task(&mut self, id: TaskId) {
        let Some(task) = self.tasks.running.get(&id).filter(|task| task.main.is_some()) else { return };
        let request = Request::Tag { run: id.run().0, tag: tag(task) };
        self.link.request(request, Vec::new());
    }
}

/// Has a plan's streams lead there; gives back what is to be handed to the exec stage for that.
pub(super) fn lead(plan: &mut LaunchPlan, streams: Streams) -> Vec<OwnedFd> {
    match streams {
        Streams::Log => Vec::new(),
        Streams::Given(given) => {
            plan.streams = watt_exec::plan::Streams::Passed;
            given.into()
        }
        Streams::Terminal { rows, columns, kind } => {
            plan.streams = watt_exec::plan::Streams::Terminal { rows, columns };
            set(&mut plan.env, "TERM", &kind);
            Vec::new()
        }
    }
}

/// Sets a variable in an environment.
pub(crate) fn set(env: &mut Vec<Vec<u8>>, name: &str, value: &str) {
    let beginning = format!("{name}=");
    env.retain(|entry| !entry.starts_with(beginning.as_bytes()));
    env.push(format!("{beginning}{value}").into_bytes());
}

fn tag(task: &Task) -> Vec<u8> {
    let note = RunNote { of: RunOf::Task(TaskNote::new(task)), started_at_ms: task.started_at_ms };
    // A note is strings and numbers, which always have a JSON form.
    serde_json::to_vec(&note).unwrap_or_default()
}

/// The service as a task of it needs it: with another command, and without what only a worker has, a place where it
/// accepts and somebody who watches it.
fn one_off(service: &Service, order: &Order) -> Service {
    let mut one_off =
        Service { listen: Listen::None, startup: None, health: None, fd_store: 0, ..service.clone() };
    one_off.ready.when = ReadyWhen::Started;
    one_off.env.extend(order.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    if let Some(command) = &order.command {
        one_off.command.clone_from(command);
    }
    one_off
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tasks::Owner;

    #[test]
    fn a_task_has_the_service_s_sandbox_and_no_place_where_it_accepts() {
        let mut plan = crate::testing::plan(&["api"]);
        let service = plan.services.values_mut().next().unwrap();
        service.ready.when = ReadyWhen::Notify;
        service.env.insert("A".into(), "1".into());
        let order = Order {
            service: service.id.clone(),
            command: Some(vec!["report".into()]),
            env: BTreeMap::from([("B".to_owned(), "2".to_owned())]),
            time_max: None,
            owner: Owner::Operator,
        };
        let found = one_off(service, &order);
        assert_eq!((found.listen, found.notifies()), (Listen::None, false));
        assert_eq!((&found.command, &found.sandbox), (&vec!["report".to_owned()], &service.sandbox));
        assert_eq!(found.env, BTreeMap::from([("A", "1"), ("B", "2")].map(|(a, b)| (a.into(), b.into()))));
        let own = one_off(service, &Order { command: None, ..order });
        assert_eq!(own.command, service.command);
    }
}

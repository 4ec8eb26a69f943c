//! Commands that check a worker: processes inside its walls, like those of `wattctl exec`, of which nobody else hears.
//!
//! Each is in a part of the worker's cgroup, so that it counts against the worker's limits, and what it starts can be told from what the
//! worker did. A daemon that is killed leaves at most one for each check, which its successor ends.

use std::{collections::BTreeMap, os::unix::process::parent_id, sync::Arc};

use watt_core::{
    RunId,
    plan::{Check, Service},
};
use watt_exec::plan::LaunchPlan;
use watt_os::{
    cgroup::Group,
    descendants::{Environment, Marks},
};

use crate::{
    app::App,
    containment::Containment,
    perform::failed,
    readiness::exec::{Ask, Begun, NotBegun, OwnTurns, Remains, Walls, clear},
    record::{RunNote, RunOf},
    runs::{Main, SIGKILL},
    start::HeldRun,
    status, tasks,
};

impl App {
    /// What it takes to run the commands of a service's checks in the walls of one of its runs. They are the run's as long as it is of the
    /// configuration in force, and its watch keeps them from then on.
    pub(crate) fn walls(&self, id: RunId, service: &Service) -> Walls {
        let mut walls = Walls(BTreeMap::new(), OwnTurns::of(&service.id));
        if self.in_force.is_earlier(&service.id, id) {
            return walls;
        }
        for command in commands(service) {
            match self.plan_inside(id, service, command) {
                Ok(plan) => drop(walls.0.insert(command.to_vec(), Arc::new(plan))),
                Err(failure) => tracing::warn!("run {id} cannot be checked by a command: {failure}"),
            }
        }
        walls
    }

    /// Asks for the process of a check.
    pub(crate) fn begin_check(&mut self, ask: Ask) {
        let Ask { run, plan, reply } = ask;
        // Whoever asked may have gone; then the process is killed when it is there.
        let _ = reply.send(self.try_begin_check(run, &plan));
    }

    fn try_begin_check(&mut self, id: RunId, plan: &LaunchPlan) -> Result<Begun, NotBegun> {
        let run = self.runs.get(&id).ok_or(NotBegun::Gone)?;
        let main = run.main.as_ref().filter(|main| main.exit.is_none()).ok_or(NotBegun::Gone)?;
        let refused = |step: &'static str| move |error| NotBegun::Failed(failed(step, String::new(), &error));
        let pidfd = main.pidfd.try_clone().map_err(refused("join"))?;
        let (number, answer) = self.secret_commands.begin_thorough();
        let part = run.group.part(&number.to_string());
        if let Some(Err(error)) = part.as_ref().map(Group::make_part) {
            self.secret_commands.not_started(number, failed("cgroup", String::new(), &error));
            return Err(refused("cgroup")(error));
        }
        let group = part.clone().unwrap_or_else(|| run.group.clone());
        let mark = self.life.of_run(RunId(number));
        let mut plan = plan.clone();
        // Another one may have taken its place since the plan was made.
        plan.join = Some(main.pid);
        tasks::set(&mut plan.env, tasks::VARIABLE, &mark);
        let note = RunNote { of: RunOf::Check { run: id.0 }, started_at_ms: status::now_ms() };
        // A note is strings and numbers, which always have a JSON form.
        let tag = serde_json::to_vec(&note).unwrap_or_default();
        if let Err(failure) = self.ask_to_spawn(number, tag, &group, plan, Vec::new(), vec![pidfd]) {
            self.secret_commands.not_started(number, failure);
        }
        let environment = format!("{}={mark}", tasks::VARIABLE).into_bytes();
        let remains = Remains::new(part, environment, RunId(number), self.senders.emptied.clone());
        Ok(Begun { answer, remains })
    }

    /// Ends one that a predecessor has begun: nobody waits for it any more.
    pub(crate) fn end_check(&mut self, held: HeldRun, of: RunId) {
        let main = Main::new(held.pid, held.pidfd);
        let part = self.runs.get(&of).and_then(|run| run.group.part(&held.run.to_string()));
        let mark = format!("{}={}", tasks::VARIABLE, self.life.of_run(RunId(held.run)));
        let mut marks = Marks {
            main: main.pid,
            main_started: main.started,
            environment: Some(Environment::Entry(mark.into_bytes())),
            ancestor: Some(parent_id()),
            ..Marks::default()
        };
        match held.exit {
            // It was reaped, and what has its number now is another process.
            Some(_) => (marks.main, marks.main_started) = (0, 0),
            None => main.signal(SIGKILL),
        }
        let held_by = part.map_or(Containment::Marks(marks), Containment::Group);
        self.secret_commands.take_over(held.run, held.exit.is_some());
        tokio::spawn(clear(held_by, RunId(held.run), self.senders.emptied.clone()));
    }
}

/// The commands of a service's checks.
fn commands(service: &Service) -> impl Iterator<Item = &[String]> {
    service.checks().filter_map(|check| match check {
        Check::Exec(command) => Some(command.as_slice()),
        Check::Http(_) | Check::Tcp | Check::Grpc(_) => None,
    })
}

//! What runs inside a worker's sandbox, a task or a check: the worker's own plan with another program, which enters what the worker's
//! start made.

use watt_core::{
    RunId,
    plan::Service,
    worker::{ExecFailure, State},
};
use watt_exec::plan::LaunchPlan;

use super::{
    Streams, TaskId,
    start::{lead, set},
};
use crate::{
    app::App,
    control::Refusal,
    launch::{Accepts, Launcher},
    perform::failed,
    seat::Seat,
};

/// The entry of the environment by which processes of such a task are told from the worker's: `WATT_EXEC=<life>/<run>`.
pub(crate) const VARIABLE: &str = "WATT_EXEC";

/// What is said to the worker's own program alone: where it was given a listener, and where it says how it is.
const OF_PROGRAM: [&str; 6] =
    ["LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE"];

impl App {
    /// The run of a worker that can be entered: the first of a service that runs, or the one of this index.
    pub(crate) fn run_to_enter(&self, service: &Service, index: Option<u16>) -> Result<RunId, Refusal> {
        let is_meant = |run: &&RunId| {
            let of = self.runs.get(*run).map(|run| &run.worker);
            of.is_some_and(|of| of.service == service.id && index.is_none_or(|index| of.index == index))
        };
        let is_earlier = |run: &RunId| self.in_force.is_earlier(&service.id, *run);
        let lives = |run: &RunId| self.runs.get(run).is_some_and(|run| run.live_pid().is_some());
        let is_up = |run: &RunId| {
            let state =
                self.runs.get(run).and_then(|run| self.fleet.worker(&run.worker)).map(|worker| &worker.state);
            let executed = !matches!(state, Some(State::Starting { executed: false, .. }));
            lives(run) && executed && !is_earlier(run)
        };
        let mut all = self.runs.keys().filter(is_meant);
        let (name, none_runs) = match index {
            Some(index) => {
                let name = format!("{}/{index}", service.id);
                (name.clone(), format!("{name} does not run"))
            }
            None => (format!("every worker of {}", service.id), format!("no worker of {} runs", service.id)),
        };
        match all.clone().find(|run| is_up(run)) {
            Some(run) => Ok(*run),
            None if all.any(|run| lives(run) && is_earlier(run)) => Err(Refusal::NotStarted(format!(
                "{name} is of an earlier configuration and being replaced, with walls that are not known any more"
            ))),
            None => Err(Refusal::NotStarted(none_runs)),
        }
    }

    /// Asks for the process.
    pub(super) fn try_start_inside(
        &mut self,
        id: TaskId,
        run: RunId,
        service: &Service,
        command: Vec<String>,
        streams: Streams,
    ) -> Result<(), ExecFailure> {
        let worker = self.runs.get(&run).ok_or_else(gone)?;
        let main = worker.main.as_ref().filter(|main| main.exit.is_none()).ok_or_else(gone)?;
        let pidfd = main.pidfd.try_clone().map_err(|error| failed("join", String::new(), &error))?;
        let mut plan = self.plan_inside(run, service, &[])?;
        plan.argv = command.into_iter().map(String::into_bytes).collect();
        let own_mark = self.life.of_run(id.run());
        set(&mut plan.env, VARIABLE, &own_mark);
        let mut handed = lead(&mut plan, streams);
        handed.push(pidfd);
        if let Some(task) = self.tasks.running.get_mut(&id) {
            task.environment = format!("{VARIABLE}={own_mark}").into_bytes();
        }
        self.spawn_inside(id, plan, handed)
    }

    /// The plan of a process inside a worker's sandbox, which executes this: `{socket}` and `{port}` in it are replaced, as in the service's
    /// own command. The worker's pidfd comes with it as the last descriptor ([`LaunchPlan::join`]).
    pub(crate) fn plan_inside(
        &self,
        run: RunId,
        service: &Service,
        command: &[String],
    ) -> Result<LaunchPlan, ExecFailure> {
        let worker = self.runs.get(&run).ok_or_else(gone)?;
        let main = worker.main.as_ref().filter(|main| main.exit.is_none()).ok_or_else(gone)?;
        let port = match &worker.accepts {
            Accepts::Port(port) | Accepts::Found(port) => Some(*port),
            Accepts::Unix(_) | Accepts::Inherited(_) | Accepts::Nowhere => None,
        };
        let launcher = Launcher {
            plan: &self.plan,
            places: &self.places,
            host: &self.host,
            inherited: &self.in_force.sources.env,
            accounts: &self.accounts,
        };
        let seat = Seat::from(&worker.worker);
        let mark = self.life.of_run(run);
        let service = Service { command: command.to_vec(), ..service.clone() };
        let mut plan = launcher.launch(&service, &seat, &mark, port, worker.group.legacy_tasks())?.plan;
        (plan.join, plan.listeners, plan.stdin, plan.notification_fd) = (Some(main.pid), 0, None, None);
        plan.hands_over = false;
        for name in OF_PROGRAM {
            let beginning = format!("{name}=");
            plan.env.retain(|entry| !entry.starts_with(beginning.as_bytes()));
        }
        Ok(plan)
    }
}

fn gone() -> ExecFailure {
    ExecFailure { step: "join".to_owned(), object: "the worker has ended".to_owned(), errno: 0 }
}

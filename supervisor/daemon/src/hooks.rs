//! Hooks: what a service has done at points of its workers' lives. A command is a task in a sandbox of the service's own, a webhook is sent
//! by us ([`webhooks`]).
//!
//! - `pre_start` is run before anything else of a run: its worker is queued meanwhile, and its time to get ready has not begun. When it
//!   fails, so has the start.
//! - `pre_stop` comes between the last request and the stop signal, within the grace; the kill after that waits for nobody.
//! - `post_stop` comes when no process of a run is left. Only then `watt-core` hears of that, so that the next run waits.
//! - `post_start` and `on_failure` hold nobody up.
//!
//! Which of them is under way for a run is known by the owner in its task's note, or a webhook's own. So a successor of the daemon waits for the
//! one that its predecessor began; when that was lost in between, or had ended without its consequence, it is run once more. Of `post_start`,
//! which follows from no state that lasts, the run's note says that it was not begun yet.

pub(crate) mod webhooks;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use watt_core::{
    RunId, ServiceId, WorkerId,
    plan::{Hook, HookAct, HookPoint, Service},
    worker::{AfterStop, Event, ExecFailure, ExitCause, Left, State, Worker, will_restart},
};

use crate::{
    app::{App, Ending},
    status,
    tasks::{End, NotStarted, Order, Owner, Stopped, TaskId},
    timestamp, words,
};

/// How many hooks of a service that hold nobody up may be under way at a time. More are left out: a program that fails all the
/// time would have ever more of them when they hang.
const UNATTENDED_MAX: usize = 16;

/// How long those that nobody waits for have when the application ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What has happened, in JSON: a variable of commands, and the body of webhooks.
const EVENT: &str = "WATT_HOOK_EVENT";

/// For which run a hook is, in the note of its task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hooked {
    service: String,
    place: String,
    run: u64,
    point: String,
}

/// Hooks that are to be run, or need not be any more.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    /// Those that hold nobody up, in order.
    due: VecDeque<(WorkerId, RunId, HookPoint)>,
    /// Those that are over, of runs that are not.
    over: BTreeSet<(RunId, HookPoint)>,
    /// Webhooks that are under way.
    calls: BTreeMap<(RunId, HookPoint), webhooks::Call>,
}

impl Hooks {
    /// Notes that one is due, once.
    fn note(&mut self, worker: WorkerId, run: RunId, point: HookPoint) {
        if self.over.insert((run, point)) {
            self.due.push_back((worker, run, point));
        }
    }

    /// Whether no webhook is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Webhooks under way for which nobody waits.
    fn unattended_calls(&self) -> Vec<(RunId, HookPoint)> {
        self.calls.keys().filter(|(_, point)| !point.is_awaited()).copied().collect()
    }
}

/// What has come of asking for a hook.
enum Asked {
    /// There is none, or it is over.
    Nothing,
    UnderWay,
    Failed(ExecFailure),
}

impl Hooked {
    fn new(worker: &WorkerId, run: RunId, point: HookPoint) -> Hooked {
        let service = worker.service.to_string();
        Hooked { service, place: worker.place(), run: run.0, point: point.name().to_owned() }
    }

    fn worker(&self) -> Option<WorkerId> {
        WorkerId::of_place(ServiceId::new(&self.service).ok()?, &self.place)
    }

    /// Whether a stop waits for it.
    pub(crate) fn is_of_stop(&self) -> bool {
        matches!(self.point(), Some(HookPoint::PreStop | HookPoint::PostStop))
    }

    /// Whether nobody waits for it.
    pub(crate) fn is_unattended(&self) -> bool {
        self.point().is_some_and(|point| !point.is_awaited())
    }

    fn point(&self) -> Option<HookPoint> {
        HookPoint::ALL.into_iter().find(|point| point.name() == self.point)
    }
}

impl std::fmt::Display for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the hook {} of {}/{}", self.point, self.service, self.place)
    }
}

impl App {
    /// Whether a run may be asked for: not while its `pre_start` is under way, nor when that has failed.
    pub(crate) fn may_start(&mut self, worker: &WorkerId, run: RunId) -> bool {
        match self.ask_for_hook(worker, run, HookPoint::PreStart) {
            Asked::Nothing => true,
            Asked::UnderWay => false,
            Asked::Failed(failure) => {
                self.exec_failed(worker, run, failure);
                false
            }
        }
    }

    /// Whether a run may be told to stop: not while its `pre_stop` is under way.
    pub(crate) fn may_signal(&mut self, worker: &WorkerId, run: RunId) -> bool {
        let runs = self.runs.get(&run).is_some_and(|run| run.live_pid().is_some());
        !runs || !matches!(self.ask_for_hook(worker, run, HookPoint::PreStop), Asked::UnderWay)
    }

    /// Whether a run of which nothing is left may be over: not while its `post_stop` is under way.
    pub(crate) fn may_end(&mut self, worker: &WorkerId, run: RunId) -> bool {
        !matches!(self.ask_for_hook(worker, run, HookPoint::PostStop), Asked::UnderWay)
    }

    /// Ends a hook that a run waits for: `pre_start` when the run is not wanted any more, and all of them for a kill. Says whether the run
    /// is one that had not been asked for.
    pub(crate) fn end_hooks(&mut self, worker: &WorkerId, run: RunId, now: bool) -> bool {
        let start = self.hook_task(worker, run, HookPoint::PreStart);
        if let Some(task) = start {
            self.stop_task(task, Stopped::Asked, now);
        }
        if now {
            self.give_up_webhook(run, HookPoint::PreStop);
        }
        if self.give_up_webhook(run, HookPoint::PreStart) {
            self.pre_start_over(worker, run, Err("stopped".to_owned()));
            return true;
        }
        if let Some(task) = self.hook_task(worker, run, HookPoint::PreStop).filter(|_| now) {
            self.stop_task(task, Stopped::Asked, now);
        }
        start.is_some()
    }

    /// Notes what is to be run after a worker has entered a state: in the case of readiness, for the first time in its run.
    pub(crate) fn note_hooks(&mut self, id: &WorkerId, is_new: bool) {
        let (Some(worker), Some(plan)) = (self.fleet.worker(id), self.fleet.plan(&id.service)) else {
            return;
        };
        let Some((run, point)) = point_of(worker, plan, is_new) else { return };
        if plan.hooks.contains_key(&point) {
            self.hooks.note(id.clone(), run, point);
        }
    }

    /// Notes what a predecessor may have had no time to ask for. What is under way was taken over.
    pub(crate) fn note_adopted_hooks(&mut self) {
        let workers: Vec<WorkerId> = self.fleet.workers().map(|(id, _)| id).collect();
        for worker in workers {
            let run = self.fleet.worker(&worker).and_then(Worker::run);
            let owes_post_start =
                run.and_then(|run| self.runs.get(&run)).is_some_and(|run| run.owes_post_start);
            self.note_hooks(&worker, owes_post_start);
        }
    }

    /// Has one run once more that a predecessor had only begun with. Who waits for one asks for it.
    pub(crate) fn begin_hook_again(&mut self, hooked: &Hooked) {
        if let (true, Some(worker), Some(point)) = (hooked.is_unattended(), hooked.worker(), hooked.point()) {
            self.hooks.note(worker, RunId(hooked.run), point);
        }
    }

    /// Runs what holds nobody up. To be called before what follows from the state that it comes of: a successor does not see that
    /// state any more.
    pub(crate) fn run_due_hooks(&mut self) {
        if !self.hooks.due.is_empty() {
            watt_fault::step("daemon.hooks_due");
        }
        while let Some((worker, run, point)) = self.hooks.due.pop_front() {
            self.hooks.over.remove(&(run, point));
            let is_under_way = self.is_under_way(&worker, run, point);
            if is_under_way || self.unattended_hooks_of(&worker.service) < UNATTENDED_MAX {
                drop(self.ask_for_hook(&worker, run, point));
            } else {
                tracing::warn!(
                    "the hook {} of {worker} is left out: {UNATTENDED_MAX} of its service are under way",
                    point.name()
                );
            }
            match self.runs.get_mut(&run) {
                Some(known) => {
                    self.hooks.over.insert((run, point));
                    // After its task was asked for: one too many is better than none.
                    if point == HookPoint::PostStart && std::mem::take(&mut known.owes_post_start) {
                        self.note_run(run);
                    }
                }
                None => self.forget_hooks(run),
            }
        }
    }

    fn unattended_hooks_of(&self, service: &ServiceId) -> usize {
        let is_one = |(key, call): &(&(RunId, HookPoint), &webhooks::Call)| {
            !key.1.is_awaited() && call.worker.service == *service
        };
        self.tasks.unattended_hooks_of(service) + self.hooks.calls.iter().filter(is_one).count()
    }

    /// The task of a hook has ended.
    pub(crate) fn hook_task_over(&mut self, hooked: &Hooked, end: &End) {
        let (Some(worker), Some(point)) = (hooked.worker(), hooked.point()) else { return };
        let result = if end.is_success() { Ok(()) } else { Err(how(end)) };
        self.hook_over(&worker, RunId(hooked.run), point, result);
    }

    /// A hook is over, and has failed in this way.
    fn hook_over(&mut self, worker: &WorkerId, run: RunId, point: HookPoint, result: Result<(), String>) {
        match point {
            HookPoint::PreStart => self.pre_start_over(worker, run, result),
            // The run may have ended meanwhile, by the hook's doing for instance.
            HookPoint::PreStop | HookPoint::PostStop if !self.runs.contains_key(&run) => {}
            HookPoint::PreStop => {
                self.hooks.over.insert((run, point));
                let state = self.fleet.worker(worker).map(|worker| &worker.state);
                if matches!(state, Some(State::Stopping { run: at, left: Left::All, .. }) if *at == run) {
                    self.signal(worker, run);
                }
            }
            HookPoint::PostStop => {
                self.hooks.over.insert((run, point));
                self.emptied(run);
            }
            HookPoint::PostStart | HookPoint::OnFailure => {}
        }
    }

    fn pre_start_over(&mut self, worker: &WorkerId, run: RunId, result: Result<(), String>) {
        match self.fleet.worker(worker).map(|worker| &worker.state) {
            Some(State::Starting { run: at, .. }) if *at == run && !self.runs.contains_key(&run) => {
                match result {
                    Ok(()) => {
                        self.hooks.over.insert((run, HookPoint::PreStart));
                        self.starts.insert(run, worker.clone());
                    }
                    Err(how) => {
                        self.starts.remove(&run);
                        self.exec_failed(worker, run, ExecFailure::of_hook(how));
                    }
                }
            }
            // It was stopped meanwhile, and has no process.
            Some(State::Stopping { run: at, .. }) if *at == run && !self.runs.contains_key(&run) => {
                self.push(worker.clone(), Event::Emptied(run));
            }
            _ => {}
        }
    }

    pub(crate) fn hook_task(&self, worker: &WorkerId, run: RunId, point: HookPoint) -> Option<TaskId> {
        self.tasks.of(&Owner::Hook(Hooked::new(worker, run, point)))
    }

    fn is_under_way(&self, worker: &WorkerId, run: RunId, point: HookPoint) -> bool {
        self.hooks.calls.contains_key(&(run, point)) || self.hook_task(worker, run, point).is_some()
    }

    fn ask_for_hook(&mut self, worker: &WorkerId, run: RunId, point: HookPoint) -> Asked {
        let Some(service) = self.plan.services.get(&worker.service) else { return Asked::Nothing };
        let (Some(hook), Some(mut time_max)) = (service.hooks.get(&point), time_max(service, point)) else {
            return Asked::Nothing;
        };
        if self.ending != Ending::No && !point.is_awaited() {
            time_max = time_max.min(FAREWELL);
        }
        if self.hooks.over.contains(&(run, point)) || self.ending == Ending::Killing {
            return Asked::Nothing;
        }
        if self.is_under_way(worker, run, point) {
            return Asked::UnderWay;
        }
        let env = self.hook_environment(worker, run, point);
        let Hook { act, .. } = hook;
        match act.clone() {
            HookAct::Command(command) => self.run_hook(worker, (run, point), command, env, time_max),
            HookAct::Webhook(webhook) => {
                let event = env.get(EVENT).cloned().unwrap_or_default();
                self.send_webhook(worker, (run, point), &webhook, time_max, event);
                Asked::UnderWay
            }
        }
    }

    fn run_hook(
        &mut self,
        worker: &WorkerId,
        (run, point): (RunId, HookPoint),
        command: Vec<String>,
        env: BTreeMap<String, String>,
        time_max: Duration,
    ) -> Asked {
        let order = Order {
            service: worker.service.clone(),
            command: Some(command),
            env,
            time_max: Some(time_max),
            owner: Owner::Hook(Hooked::new(worker, run, point)),
        };
        match self.start_task(order) {
            Ok(_) => Asked::UnderWay,
            Err(error) => {
                self.hooks.over.insert((run, point));
                let why = match error {
                    NotStarted::Refused(_) => "the application ends".to_owned(),
                    NotStarted::Failed(failure) => ExitCause::ExecFailed(failure).to_string(),
                };
                tracing::warn!("the hook {} of {worker} cannot be run: {why}", point.name());
                Asked::Failed(ExecFailure::of_hook(why))
            }
        }
    }

    /// What a hook is told of what it is run for.
    fn hook_environment(&self, worker: &WorkerId, run: RunId, point: HookPoint) -> BTreeMap<String, String> {
        let mut event = serde_json::json!({
            "hook": point.name(), "app": self.plan.name.as_str(), "service": worker.service.as_str(),
            "worker": worker.index, "run": run.0, "at": timestamp::from_ms(status::now_ms()),
        });
        let mut env = BTreeMap::from([
            ("WATT_HOOK".to_owned(), point.name().to_owned()),
            ("WATT_HOOK_WORKER".to_owned(), worker.index.to_string()),
        ]);
        let has_ended = matches!(point, HookPoint::PostStop | HookPoint::OnFailure);
        let plan = self.fleet.plan(&worker.service);
        let known = self.fleet.worker(worker).and_then(|worker| worker.record.last_exit.as_ref());
        if let (true, Some(cause), Some(plan)) = (has_ended, known, plan) {
            let (word, text) = (words::exit_cause(cause), words::exit_of(cause, Some(plan)));
            event["cause"] = word.into();
            event["text"] = text.clone().into();
            env.insert("WATT_CAUSE".to_owned(), word.to_owned());
            env.insert("WATT_CAUSE_TEXT".to_owned(), text);
            if let Some(code) = words::exit_code(cause) {
                event["code"] = code.into();
                env.insert("WATT_EXIT".to_owned(), code.to_string());
            }
        }
        env.insert(EVENT.to_owned(), event.to_string());
        env
    }

    /// A run is over: nothing has to be known of its hooks any more.
    pub(crate) fn forget_hooks(&mut self, run: RunId) {
        self.hooks.over.retain(|(of, _)| *of != run);
    }
}

/// The hook that follows from a state and holds nobody up, and the run it is for.
fn point_of(worker: &Worker, plan: &Service, is_new: bool) -> Option<(RunId, HookPoint)> {
    match &worker.state {
        State::Ready { run, .. } | State::Unready { run, .. } if is_new => Some((*run, HookPoint::PostStart)),
        State::Stopping { run, then: AfterStop::Policy, left: Left::Rest, cause, .. } => {
            // One that was to run to completion has.
            let has_failed = *cause != ExitCause::Exited(0) || will_restart(plan.restart.policy, cause);
            has_failed.then_some((*run, HookPoint::OnFailure))
        }
        State::Stopping { run, then: AfterStop::Replace(_), left: Left::Rest, .. } => {
            Some((*run, HookPoint::OnFailure))
        }
        State::Down
        | State::Asleep
        | State::Waiting
        | State::Starting { .. }
        | State::Ready { .. }
        | State::Unready { .. }
        | State::Draining { .. }
        | State::Stopping { .. }
        | State::Backoff { .. }
        | State::Failed { .. }
        | State::Completed { .. } => None,
    }
}

/// How long a service's hook may take. The kill at the end of the grace waits for nobody.
fn time_max(service: &Service, point: HookPoint) -> Option<Duration> {
    let timeout = service.hooks.get(&point)?.timeout;
    Some(match point {
        HookPoint::PreStop => timeout.min(service.stop.grace),
        HookPoint::PreStart | HookPoint::PostStart | HookPoint::PostStop | HookPoint::OnFailure => timeout,
    })
}

/// How a hook that failed ended: `exit 3`, `timeout`.
fn how(end: &End) -> String {
    match end.stopped {
        Some(Stopped::TimedOut) => "timeout".to_owned(),
        Some(Stopped::Asked | Stopped::Left) => "stopped".to_owned(),
        None => end.cause.to_string(),
    }
}

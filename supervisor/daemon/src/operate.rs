//! What operators ask for over the control socket: questions are answered at once, operations when they are done.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use watt_api::control::{self, Outcome, Reloaded, Scaled, ScaledService};
use watt_config::Sources;
use watt_core::{
    RunId, ServiceId, WorkerId,
    fleet::{FleetEvent, Goal, Request, Selection, Verdict},
    plan::{Plan, Role},
};

use crate::{
    app::{App, Ending},
    beside::VIEWS,
    control::{Command, Refusal, Reply, Services, TaskCommand},
    logs::{self, Logs},
    proxies::{Part, View},
    reload::Asked,
    status, timestamp,
    unit::Touched,
    usage::{Figures, Subject},
    words,
};

/// What is said of a service that has gone.
const GONE: &str = "gone";

/// How many of its last lines a failed start is told with.
const LAST_LINES: usize = 10;

/// How long one waits for the last lines of all: who reads output may hang on a disk, and then `status` is needed most.
const LAST_LINES_PATIENCE: Duration = Duration::from_secs(2);

/// How many answers may be owed to all who ask.
static LAST_LINES_OWED: Semaphore = Semaphore::const_new(16);

/// How long an answer waits for a proxy that does not say that it does what is answered.
const USED_WITHIN: Duration = Duration::from_secs(1);

/// An operation that is under way.
#[derive(Debug)]
pub(crate) struct Operation {
    selection: Selection,
    goal: Goal,
    /// Services that are to be gone.
    leaving: Vec<ServiceId>,
    pub(crate) answer: Answer,
}

/// What it is answered with.
#[derive(Debug)]
pub(crate) enum Answer {
    Outcome(Reply<Outcome>),
    /// What came of a reload is added to what it changed.
    Reloaded(Reply<Box<Reloaded>>, Box<Reloaded>),
    /// What came of each service is added.
    Scaled(Reply<Scaled>, BTreeMap<String, ScaledService>),
}

impl Operation {
    pub(crate) fn new(selection: Selection, goal: Goal, answer: Answer) -> Operation {
        Operation { selection, goal, leaving: Vec::new(), answer }
    }

    /// The services that it is about.
    pub(crate) fn services<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = &'a ServiceId> {
        plan.services.keys().filter(|id| match &self.selection {
            Selection::All => true,
            Selection::Services(named) => named.contains(*id),
        })
    }

    /// Waits for what follows from a reload.
    pub(crate) fn reload(touched: Touched, answer: Answer) -> Operation {
        let Touched { services, leaving } = touched;
        Operation { leaving, ..Operation::new(Selection::Services(services), Goal::Up, answer) }
    }
}

impl App {
    /// Takes a command. Each says when it is legal.
    pub(crate) fn command(&mut self, command: Command) {
        match command {
            Command::Names { reply } => answer(reply, Ok(self.plan.services.keys().cloned().collect())),
            Command::ServiceOf { line, reply } => answer(reply, Ok(self.service_of(&line))),
            Command::Status { reply } => self.status(reply),
            Command::Inspect { service, reply } => self.inspect(&service, reply),
            Command::Graph { reply } => self.graph(reply),
            Command::Routes { reply } => self.routes(reply),
            Command::Edges { reply } => drop(reply.send(Ok(self.proxy_link.edges()))),
            Command::Cache { reply } => self.cache(reply),
            Command::PurgeCache { purge, reply } => self.purge_cache(purge, reply),
            Command::Analyze { service, reply } => self.analysis(service, reply),
            Command::Limits { reply } => self.limits(reply),
            Command::Audit { services, full, turn, reply } => self.audit(services, full, turn, reply),
            Command::ChangeLimits { service, change, reply } => self.change_limits(&service, change, reply),
            Command::Jobs { reply } => self.view_jobs(reply),
            Command::Job { job, reply } => self.view_job(&job, reply),
            Command::JobInstants { job, count, reply } => self.view_instants(&job, count, reply),
            Command::OrderJob { job, order, reply } => self.order_job(&job, order, reply),
            Command::RunJob { job, wait, reply } => self.run_job(&job, wait, reply),
            Command::Await { services, reply } => self.wait_for(services, reply),
            Command::Start { services, reply } => self.operate(services, Goal::Up, Request::Start, reply),
            Command::Restart { services, reply } => self.operate(services, Goal::Up, Request::Restart, reply),
            Command::Stop { services, reply } => self.operate(services, Goal::Down, Request::Stop, reply),
            Command::Scale { services, reply } => self.scale(services, reply),
            Command::Reload { request, reply } => self.reload(Asked::new(request, reply)),
            Command::Apply { single, request, reply } => {
                self.reload(Asked::one(single.0, request, reply));
            }
            Command::Task(TaskCommand(request)) => self.task_request(request),
            Command::Upgrade { request, reply } => self.upgrade(request, reply),
            Command::UpgradeState { reply } => self.upgrade_state(reply),
            Command::Shutdown { now, reply } => {
                self.operations.push(Operation::new(Selection::All, Goal::Down, Answer::Outcome(reply)));
                self.shut_down(now);
            }
        }
    }

    /// The service of the run or task whose main process is one of these.
    fn service_of(&self, line: &[u32]) -> Option<(ServiceId, Option<Role>)> {
        let mut runs = self.runs.values();
        let run = runs.find(|run| run.live_pid().is_some_and(|pid| line.contains(&pid)));
        let service = run.map(|run| &run.worker.service).or_else(|| self.tasks.service_of(line))?;
        Some((service.clone(), self.plan.services.get(service)?.management))
    }

    fn operate(
        &mut self,
        services: Services,
        goal: Goal,
        request: impl FnOnce(Selection) -> Request,
        reply: Reply<Outcome>,
    ) {
        let selection = match self.select(services) {
            Ok(_) if goal == Goal::Up && self.ending != Ending::No => {
                return answer(reply, Err(Refusal::ShuttingDown));
            }
            Ok(selection) => selection,
            Err(refusal) => return answer(reply, Err(refusal)),
        };
        self.tell(FleetEvent::Request(request(selection.clone())));
        self.operations.push(Operation::new(selection, goal, Answer::Outcome(reply)));
        self.unsettle();
    }

    fn wait_for(&mut self, services: Services, reply: Reply<Outcome>) {
        match self.select(services) {
            Ok(selection) => {
                self.operations.push(Operation::new(selection, Goal::Up, Answer::Outcome(reply)));
            }
            Err(refusal) => return answer(reply, Err(refusal)),
        }
        self.unsettle();
    }

    pub(crate) fn select(&self, services: Services) -> Result<Selection, Refusal> {
        let named = match services {
            Services::All => return Ok(Selection::All),
            Services::Named(named) => named,
        };
        let is_known = |id: &ServiceId| self.plan.services.contains_key(id) && !self.fleet.is_leaving(id);
        match named.iter().find(|service| !is_known(service)) {
            Some(unknown) => Err(self.unknown(unknown)),
            None => Ok(Selection::Services(named.into_iter().collect())),
        }
    }

    pub(crate) fn unknown(&self, service: &ServiceId) -> Refusal {
        Refusal::UnknownService {
            name: service.to_string(),
            known: self.plan.services.keys().cloned().collect(),
        }
    }

    /// Answers the operations that are done.
    pub(crate) fn answer_operations(&mut self) {
        for operation in std::mem::take(&mut self.operations) {
            let Operation { selection, goal, leaving, .. } = &operation;
            let Some(outcome) = self.outcome(selection, *goal, leaving) else {
                self.operations.push(operation);
                continue;
            };
            match operation.answer {
                Answer::Outcome(reply) => self.answer_in_use(reply, outcome, self.version),
                Answer::Reloaded(reply, reloaded) => {
                    let Outcome { ok, services } = outcome;
                    let reloaded = Box::new(Reloaded { ok, services, ..*reloaded });
                    self.answer_in_use(reply, reloaded, self.version);
                }
                Answer::Scaled(reply, mut scaled) => {
                    let Outcome { ok, services } = outcome;
                    for (service, result) in services {
                        scaled.entry(service).or_default().result = result;
                    }
                    self.answer_in_use(reply, Scaled { ok, services: scaled }, self.version);
                }
            }
        }
    }

    /// Answers when the proxy uses this snapshot: whoever is told that a route is there, or that a service is stopped, finds it so
    /// with the next request.
    pub(crate) fn answer_in_use<T: Send + 'static>(&self, reply: Reply<T>, value: T, version: u64) {
        let mut used = self.proxy_link.used();
        // At the end of all nobody would be left to answer.
        if self.ending != Ending::No || *used.borrow() >= version {
            return answer(reply, Ok(value));
        }
        tokio::spawn(async move {
            // One that hangs holds up requests, and not who has to do something about it.
            let _ = tokio::time::timeout(USED_WITHIN, used.wait_for(|used| *used >= version)).await;
            answer(reply, Ok(value));
        });
    }

    /// What came of a reload that touches these. `None` while that is not known.
    pub(crate) fn outcome_of(&self, touched: &Touched) -> Option<Outcome> {
        let selection = Selection::Services(touched.services.clone());
        self.outcome(&selection, Goal::Up, &touched.leaving)
    }

    fn outcome(&self, selection: &Selection, goal: Goal, leaving: &[ServiceId]) -> Option<Outcome> {
        let verdicts = self.fleet.verdicts(selection, goal);
        if verdicts.values().any(|verdict| *verdict == Verdict::Pending) {
            return None;
        }
        let leaving = leaving.iter().map(|id| Some((id.to_string(), self.leaving_in_words(id)?)));
        let leaving = leaving.collect::<Option<Vec<_>>>()?;
        let ok = verdicts.values().all(|verdict| verdict.is_ok(goal))
            && leaving.iter().all(|(_, words)| words == GONE);
        let services =
            verdicts.iter().map(|(service, verdict)| (service.to_string(), self.in_words(service, verdict)));
        Some(Outcome { ok, services: services.chain(leaving).collect() })
    }

    /// What became of a service that is to go. `None` while that is not known.
    fn leaving_in_words(&self, service: &ServiceId) -> Option<String> {
        if !self.fleet.is_leaving(service) {
            return Some(GONE.to_owned());
        }
        let needed = self.fleet.kept_for(service);
        let verdicts = self.fleet.verdicts(&Selection::Services(needed.iter().cloned().collect()), Goal::Up);
        if verdicts.is_empty() || verdicts.values().any(|verdict| *verdict == Verdict::Pending) {
            return None;
        }
        let names: Vec<&str> = needed.iter().map(ServiceId::as_str).collect();
        Some(format!("stays: old workers of {} may need it", names.join(", ")))
    }

    fn in_words(&self, service: &ServiceId, verdict: &Verdict) -> String {
        match verdict {
            Verdict::Pending => "on its way".to_owned(),
            Verdict::Ready => "ready".to_owned(),
            Verdict::Unready => "not ready any more".to_owned(),
            Verdict::Asleep => "asleep".to_owned(),
            Verdict::Completed => "completed".to_owned(),
            Verdict::Down => "down".to_owned(),
            Verdict::Failed { exit: Some(cause) } => words::exit_of(cause, self.fleet.plan(service)),
            Verdict::Failed { exit: None } => "failed".to_owned(),
            Verdict::Kept { why } => words::kept(why, self.fleet.plan(service)),
            Verdict::Blocked { on: (service, condition) } => {
                format!("waits for {service} to be {}", words::condition(*condition))
            }
            Verdict::Overruled => "another request came in between".to_owned(),
        }
    }

    /// Puts together what is in memory, and has the rest read beside the loop.
    fn status(&self, reply: Reply<Box<control::Status>>) {
        let sources = self.facts();
        let gateway = self.gateway_url();
        let now_s = i64::try_from(status::now_ms() / 1_000).unwrap_or(i64::MAX);
        let status = control::Status {
            app: self.plan.name.to_string(),
            file: self.plan.file.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: timestamp::from_ms(self.started_at_ms),
            loaded_at: timestamp::from_ms(self.in_force.loaded_at_ms),
            digest: self.in_force.digest(),
            listeners: Some(self.gateway_listeners())
                // What `gateway` says alone is not said twice.
                .filter(|all| all.len() > usize::from(gateway.is_some()))
                .unwrap_or_default(),
            gateway,
            tls: self.tls(),
            supervisor: control::Supervisor {
                spawner_pid: std::os::unix::process::parent_id(),
                daemon_pid: std::process::id(),
                proxy_pid: self.proxy.pid(),
                daemon_restarts: self.daemon_restarts,
                proxy_restarts: self.proxy.record().restarts,
                memory: 0,
                program: self.upgrades.path.clone(),
                proxies: self.proxies(),
            },
            services: sources.services(),
            taken_out: status::taken_out(&self.in_force.sources.applied),
            warnings: self.warnings.iter().cloned().chain(self.certificates.warnings(now_s)).collect(),
        };
        let rest = self.rest(&status.services);
        tokio::spawn(async move {
            let mut status = status;
            let own = [status.supervisor.spawner_pid, status.supervisor.daemon_pid];
            let proxies = status.supervisor.proxies.iter().map(|proxy| proxy.pid);
            let own: Vec<u32> = own.into_iter().chain(proxies).collect();
            let memory = VIEWS.run(move || own.into_iter().map(private_memory).sum()).await;
            status.supervisor.memory = memory.unwrap_or(0);
            rest.fill(&mut status.services).await;
            answer(reply, Ok(Box::new(status)));
        });
    }

    fn proxies(&self) -> Vec<control::ProxyProcess> {
        let process = |view: View| {
            let View { other, version, part } = view;
            let (pid, program) = match other {
                Some(other) => other,
                None => (self.proxy.pid()?, self.upgrades.path.clone()),
            };
            let state = match part {
                Part::Tried => "tried",
                Part::Serves => "serves",
                Part::Leaves => "leaves",
            };
            Some(control::ProxyProcess { pid, version, program, state: state.to_owned() })
        };
        self.proxy_link.view().into_iter().filter_map(process).collect()
    }

    fn inspect(&self, service: &ServiceId, reply: Reply<Box<control::Inspect>>) {
        let Some(plan) = self.fleet.plan(service) else { return answer(reply, Err(self.unknown(service))) };
        let found = self.facts().service(plan);
        let groups = found.workers.iter().filter_map(|worker| self.runs.get(&RunId(worker.run?)));
        let cgroups = groups.flat_map(|run| run.group.directories().cloned()).collect();
        let rest = self.rest(std::slice::from_ref(&found));
        let (sources, id) = (Arc::clone(&self.in_force.sources), service.clone());
        let log_dir = self.places.logs(&self.plan);
        let outside =
            self.outside.get(service.as_str()).into_iter().flatten().map(status::outgoing).collect();
        tokio::spawn(async move {
            let mut services = [found];
            let config = VIEWS.run(move || effective(&sources, &id)).await.unwrap_or_default();
            rest.fill(&mut services).await;
            let [service] = services;
            answer(reply, Ok(Box::new(control::Inspect { service, config, log_dir, cgroups, outside })));
        });
    }

    pub(crate) fn facts(&self) -> status::Sources<'_> {
        status::Sources {
            fleet: &self.fleet,
            runs: &self.runs,
            times: &self.times,
            counts: &self.counts,
            unenforced: &self.unenforced,
            scales: &self.scales,
            autoscale: &self.autoscale,
            loaded_at_ms: self.in_force.loaded_at_ms,
            applied: &self.in_force.sources.applied,
            stores: &self.stores,
            now: Instant::now(),
        }
    }

    /// What has to be read from elsewhere for these services.
    fn rest(&self, services: &[control::Service]) -> Rest {
        let running = services.iter().flat_map(|service| &service.workers).filter_map(|worker| worker.run);
        let subjects = running.filter_map(|run| {
            let known = self.runs.get(&RunId(run))?;
            let limits = self.plan.services.get(&known.worker.service).map(|service| &service.limits);
            Some(Subject {
                run: RunId(run),
                pid: known.live_pid(),
                group: known.group.clone(),
                started_at_ms: known.started_at_ms,
                pids_refused_before: limits
                    .is_some_and(|limits| limits.cgroup.pids.is_some())
                    .then_some(known.pids_refused_before),
            })
        });
        Rest { subjects: subjects.collect(), meter: self.meter.clone(), logs: self.logs.clone() }
    }
}

/// Sending fails when the client has gone, which is no business of ours.
pub(crate) fn answer<T>(reply: Reply<T>, answer: Result<T, Refusal>) {
    let _ = reply.send(answer);
}

/// The last lines of a worker, if they come before a deadline.
async fn last_lines(logs: &Logs, source: logs::Source, deadline: Instant) -> Option<Vec<logs::Entry>> {
    let asked = async {
        let turn = LAST_LINES_OWED.acquire().await.ok()?;
        let lines = logs.last_lines(source, LAST_LINES);
        // It goes on when nobody waits any more: an answer is owed until it has come.
        let owed = tokio::spawn(async move {
            let _turn = turn;
            lines.await
        });
        owed.await.ok()
    };
    tokio::time::timeout_at(deadline.into(), asked).await.ok().flatten()
}

/// The effective configuration of a service, read once more: the sources had no error when the plan was made.
fn effective(sources: &Sources, service: &ServiceId) -> serde_json::Value {
    watt_config::parse(sources).map(|config| config.service_json(service)).unwrap_or_default()
}

/// 0 for a process that has gone.
fn private_memory(pid: u32) -> u64 {
    watt_os::process_info::private_memory(pid).unwrap_or(0)
}

/// What `status` has to read from files and from the logs.
struct Rest {
    subjects: Vec<Subject>,
    meter: crate::usage::Meter,
    logs: Logs,
}

impl Rest {
    async fn fill(self, services: &mut [control::Service]) {
        let Rest { subjects, meter, logs } = self;
        let figures = VIEWS.run(move || meter.read(&subjects)).await;
        // A panic there would leave the figures out and nothing else.
        let figures: Arc<BTreeMap<RunId, Figures>> = Arc::new(figures.unwrap_or_default());
        let deadline = Instant::now() + LAST_LINES_PATIENCE;
        for service in services {
            status::fill(service, &figures);
            let Ok(id) = ServiceId::new(&service.id) else { continue };
            for worker in service.workers.iter_mut().filter(|worker| status::explains(worker.state)) {
                let source = logs::Source::Worker(WorkerId::new(id.clone(), worker.index));
                if let Some(lines) = last_lines(&logs, source, deadline).await {
                    worker.last_output =
                        lines.iter().filter_map(|line| line.text()).map(Into::into).collect();
                }
            }
        }
    }
}

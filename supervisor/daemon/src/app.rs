//! The loop: it owns all state of the application, and everything else talks to it by message.
//!
//! An event is handled at once and to its end: it goes to `watt-core` when it is about a worker, what comes out is
//! performed, and what that brings about goes back, until nothing is left. Work that is done for all workers together
//! (a new snapshot for the proxy, answers to operators) waits for the moment when no further event is there, so that a
//! thousand services that start at once cost one snapshot and not a thousand.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use watt_api::{
    control::WorkerState,
    mesh::{Counts, Outgoing},
};
use watt_core::{
    RunId, ServiceId, WorkerId,
    fleet::{Fleet, FleetEvent, Goal, Request, RollProgress, Selection},
    plan::Plan,
    worker,
};
use watt_exec::plan::Probe;
use watt_spawner::protocol;

use crate::{
    apis::{self, Apis},
    autoscale::Autoscale,
    ceilings::Ceilings,
    cgroups::Cgroups,
    control::{Command, Roles, Server},
    events::{Events, happenings},
    fd_store::Stores,
    file_watch::FileWatch,
    gateway::AllBound,
    hooks::{self, Hooks},
    in_force::InForce,
    jobs::{self, Jobs},
    launch::{Host, accounts::Accounts},
    life::Life,
    limit_hits::LimitNews,
    logs::Logs,
    oom::Kills,
    operate::Operation,
    pace::Pace,
    places::Places,
    proxies::Proxies,
    proxy::Proxy,
    proxy_link::LinkEvent,
    purges::Purges,
    readiness,
    record::{self, Times, Uptime, WorkerNote},
    reload::{self, Reloads},
    runs::Run,
    scaling::Scale,
    secret_command::Commands,
    secrets, snapshot,
    spawner_link::{News, SpawnerLink},
    status,
    tasks::{self, Tasks},
    tls::InUse,
    unit::Unit,
    upgrade::{self, Upgrades},
    usage::Meter,
};

/// How many messages of each kind may wait for the loop. Senders wait for room.
const INBOX_SIZE: usize = 256;

/// How long after everything is ready the memory is given back that the start took: what followed from it is over by then.
const TIDY_AFTER: Duration = Duration::from_secs(1);

/// How often every task has its turn before a daemon ends for the next program. An answer takes two or three.
const LAST_TURNS: usize = 64;

/// The key under which a shutdown that was asked for is kept for a successor: `drain` or `now`.
pub(crate) const SHUTDOWN: &str = "shutdown";
/// The key that says that the application was told to start.
pub(crate) const STARTED: &str = "started";
/// The key of the highest number that was given to a worker's run.
pub(crate) const LAST_RUN: &str = "last_run";
/// The key of the proxy's record.
pub(crate) const PROXY: &str = "proxy";

/// An application that runs.
pub(crate) struct App {
    pub(crate) plan: Arc<Plan>,
    /// What the plan was made from, as a successor finds it.
    pub(crate) in_force: InForce,
    pub(crate) reloads: Reloads,
    pub(crate) file_watch: FileWatch,
    pub(crate) jobs: Jobs,
    pub(crate) upgrades: Upgrades,
    pub(crate) places: Places,
    pub(crate) life: Life,
    pub(crate) host: Host,
    /// Certificates that clients are shown.
    pub(crate) certificates: InUse,
    /// What was found out of the host, for warnings.
    pub(crate) probe: Option<Probe>,
    /// Whom services run as.
    pub(crate) accounts: Accounts,
    pub(crate) cgroups: Cgroups,
    pub(crate) threads: usize,
    /// Where clients come in.
    pub(crate) gateway: AllBound,
    /// By these sockets, and those that it had before.
    pub(crate) gateway_inodes: BTreeSet<u64>,
    /// Where names lead on the host's network.
    pub(crate) mesh_host: Option<Ipv4Addr>,
    /// Whether names of services could not be written, so that it is tried again.
    pub(crate) are_names_behind: bool,
    pub(crate) warnings: Vec<String>,
    pub(crate) resolvers: Vec<SocketAddr>,
    pub(crate) started_at_ms: u64,
    pub(crate) daemon_restarts: u64,

    pub(crate) fleet: Fleet,
    /// In boxes like `times`, because a map keeps room for more than it has.
    pub(crate) runs: BTreeMap<RunId, Box<Run>>,
    pub(crate) times: BTreeMap<WorkerId, Box<Times>>,
    /// The last state of each worker that was told.
    pub(crate) told: BTreeMap<WorkerId, WorkerState>,
    /// Services that have another number of workers than the configuration says, and why.
    pub(crate) scales: BTreeMap<ServiceId, Scale>,
    /// How far each roll was when that was told last.
    pub(crate) rolls_told: BTreeMap<ServiceId, RollProgress>,
    pub(crate) autoscale: Autoscale,
    /// Descriptions of services' APIs.
    pub(crate) apis: Apis,
    /// Of the cache.
    pub(crate) purges: Purges,
    /// What is configured and not enforced, by service.
    pub(crate) unenforced: BTreeMap<String, Vec<String>>,
    /// The last change of limits that the kernel is being told of, by service; `None` is the application as a whole.
    pub(crate) limit_turns: BTreeMap<Option<ServiceId>, JoinHandle<()>>,
    pub(crate) counts: BTreeMap<String, Counts>,
    /// What services did outside the mesh, as the proxy counted it.
    pub(crate) outside: BTreeMap<String, Vec<Outgoing>>,
    /// Sockets of workers that the spawner holds, by their names there.
    pub(crate) bound: BTreeMap<String, Arc<OwnedFd>>,
    /// How the mesh sockets among them are called at the proxy: each time one is bound, by another name.
    pub(crate) mesh_listeners: BTreeMap<String, String>,
    /// Ports of the host that runs were told to use.
    pub(crate) ports: BTreeMap<u16, RunId>,
    pub(crate) proxy: Proxy,
    pub(crate) secret_commands: Commands,
    /// Descriptors that workers have kept.
    pub(crate) stores: Stores,
    /// Processes that run once.
    pub(crate) tasks: Tasks,
    pub(crate) hooks: Hooks,
    pub(crate) operations: Vec<Operation>,
    pub(crate) meter: Meter,
    pub(crate) oom_kills: Kills,
    /// What was told of ceilings of processes.
    pub(crate) ceilings: Ceilings,

    pub(crate) link: SpawnerLink,
    pub(crate) proxy_link: Proxies,
    pub(crate) logs: Logs,
    pub(crate) events: Events,
    pub(crate) server: Serving,
    /// What a service manager was told.
    pub(crate) unit: Unit,
    pub(crate) senders: Senders,
    pub(crate) inbox: Inbox,

    /// News of workers that `watt-core` has not heard yet.
    pub(crate) pending: VecDeque<(WorkerId, worker::Event)>,
    /// What `watt-core` wants done and was not yet, in order.
    pub(crate) effects: VecDeque<(WorkerId, worker::Effect)>,
    /// Runs whose processes have not been asked for yet. Their numbers are in the order in which that is to happen.
    pub(crate) starts: BTreeMap<RunId, WorkerId>,
    /// Runs that are over as soon as their worker's note is with the spawner.
    pub(crate) forgettable: Vec<RunId>,
    /// When work for all workers together is due.
    pub(crate) pace: Pace,
    pub(crate) version: u64,
    /// How many mesh sockets were given to the proxy so far.
    pub(crate) bindings: u64,
    pub(crate) said_ready: bool,
    pub(crate) ending: Ending,
    /// Whether SIGTERM or SIGINT came. A second one kills, whoever began the shutdown; the spawner repeats the first
    /// one to a successor, for which it is the first again.
    pub(crate) was_terminated: bool,
}

/// How far the end of the application has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not asked for.
    No,
    /// Services are being drained and stopped.
    Draining,
    /// Everything is being killed.
    Killing,
    /// No run is left, and the spawner was told to end.
    Over,
}

/// The control server, which runs beside the loop.
#[derive(Debug)]
pub(crate) struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Who may what.
    pub(crate) roles: watch::Sender<Arc<Roles>>,
}

impl Serving {
    pub(crate) fn start(server: Server) -> Serving {
        let (stop, stopped) = oneshot::channel();
        let roles = server.roles();
        let task = tokio::spawn(server.run(async {
            // An error is a loop that has gone without a word, and an end like another.
            let _ = stopped.await;
        }));
        Serving { stop, task, roles }
    }

    /// Ends it when the replies under way have left.
    async fn finish(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!("the control server failed: {error}");
        }
    }
}

/// Something that happens.
pub(crate) enum Event {
    /// From the spawner.
    Spawner(News),
    /// From the link to the proxy of the program with this number.
    Proxy(u64, LinkEvent),
    /// From a run that is watched.
    Readiness(readiness::News),
    /// The secrets of a run that is being started were read, or cannot be.
    Secrets(Box<secrets::News>),
    /// A task has come a step further.
    Task(tasks::News),
    /// No process of a run is left.
    Emptied(RunId),
    /// A limit of a run may have acted, or was changed.
    Limit(LimitNews),
    /// A reload has come a step further.
    Reload(reload::News),
    /// Something of a job, or the wall clock.
    Jobs(jobs::News),
    /// The description of all APIs was made anew.
    Apis(apis::News),
    /// A webhook is over.
    Hook(hooks::webhooks::News),
    /// An upgrade has.
    Upgrade(upgrade::News),
    /// An operator's request.
    Command(Command),
    /// SIGHUP.
    Hangup,
    /// SIGTERM or SIGINT.
    Terminate,
    /// A deadline of the fleet, the proxy or a task.
    Tick,
    /// It is time to say that the loop turns.
    Beat,
    /// There are processes to be asked for, and there is room for that.
    Start,
    /// Nothing else is there to be done.
    Quiet,
}

/// Where tasks beside the loop send to.
#[derive(Debug, Clone)]
pub(crate) struct Senders {
    pub(crate) readiness: mpsc::Sender<readiness::News>,
    pub(crate) secrets: mpsc::Sender<Box<secrets::News>>,
    pub(crate) tasks: mpsc::Sender<tasks::News>,
    pub(crate) emptied: mpsc::Sender<RunId>,
    pub(crate) limit_hits: mpsc::Sender<LimitNews>,
    pub(crate) proxy: mpsc::Sender<(u64, LinkEvent)>,
    pub(crate) reload: mpsc::Sender<reload::News>,
    pub(crate) jobs: mpsc::Sender<jobs::News>,
    pub(crate) apis: mpsc::Sender<apis::News>,
    pub(crate) hooks: mpsc::Sender<hooks::webhooks::News>,
    pub(crate) upgrade: mpsc::Sender<upgrade::News>,
    pub(crate) commands: mpsc::Sender<Command>,
}

/// What waits for the loop.
#[derive(Debug)]
pub(crate) struct Inbox {
    readiness: mpsc::Receiver<readiness::News>,
    secrets: mpsc::Receiver<Box<secrets::News>>,
    tasks: mpsc::Receiver<tasks::News>,
    emptied: mpsc::Receiver<RunId>,
    limit_hits: mpsc::Receiver<LimitNews>,
    proxy: mpsc::Receiver<(u64, LinkEvent)>,
    reload: mpsc::Receiver<reload::News>,
    jobs: mpsc::Receiver<jobs::News>,
    apis: mpsc::Receiver<apis::News>,
    hooks: mpsc::Receiver<hooks::webhooks::News>,
    upgrade: mpsc::Receiver<upgrade::News>,
    commands: mpsc::Receiver<Command>,
    signals: Signals,
    pub(crate) backlog: VecDeque<News>,
}

/// The signals that are for the application.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them from now on. The spawner passes signals on after our first message, so this comes before.
    pub(crate) fn catch() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Terminate,
            _ = self.interrupt.recv() => Event::Terminate,
            _ = self.hangup.recv() => Event::Hangup,
        }
    }
}

/// The channels to the loop.
pub(crate) fn channels(signals: Signals, backlog: VecDeque<News>) -> (Senders, Inbox) {
    let (readiness_sender, readiness) = mpsc::channel(INBOX_SIZE);
    let (secrets_sender, secrets) = mpsc::channel(INBOX_SIZE);
    let (tasks_sender, tasks) = mpsc::channel(INBOX_SIZE);
    let (emptied_sender, emptied) = mpsc::channel(INBOX_SIZE);
    let (limit_hits_sender, limit_hits) = mpsc::channel(INBOX_SIZE);
    let (proxy_sender, proxy) = mpsc::channel(INBOX_SIZE);
    let (reload_sender, reload) = mpsc::channel(INBOX_SIZE);
    let (jobs_sender, jobs) = mpsc::channel(INBOX_SIZE);
    let (apis_sender, apis) = mpsc::channel(1);
    let (hooks_sender, hooks) = mpsc::channel(INBOX_SIZE);
    let (upgrade_sender, upgrade) = mpsc::channel(INBOX_SIZE);
    let (commands_sender, commands) = mpsc::channel(INBOX_SIZE);
    let senders = Senders {
        readiness: readiness_sender,
        secrets: secrets_sender,
        tasks: tasks_sender,
        emptied: emptied_sender,
        limit_hits: limit_hits_sender,
        proxy: proxy_sender,
        reload: reload_sender,
        jobs: jobs_sender,
        apis: apis_sender,
        hooks: hooks_sender,
        upgrade: upgrade_sender,
        commands: commands_sender,
    };
    let inbox = Inbox {
        readiness,
        secrets,
        tasks,
        emptied,
        limit_hits,
        proxy,
        reload,
        jobs,
        apis,
        hooks,
        upgrade,
        commands,
        signals,
        backlog,
    };
    (senders, inbox)
}

impl App {
    /// Handles events until the application is over, or the spawner has gone.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        while self.ending != Ending::Over && !self.upgrades.is_leaving() {
            let event = self.next().await?;
            self.handle(event);
        }
        self.jobs.finish().await;
        self.link.sent().await?;
        if self.upgrades.is_leaving() {
            // What was answered leaves; what is waited for is cut off, as a stream's end would say that all is over.
            for _ in 0..LAST_TURNS {
                tokio::task::yield_now().await;
            }
            return Ok(());
        }
        self.server.finish().await;
        Ok(())
    }

    /// Waits for something to happen. What matters most is looked at first; each source is bounded by what runs do,
    /// so that none can keep the others from their turn for long.
    async fn next(&mut self) -> io::Result<Event> {
        if let Some(news) = self.inbox.backlog.pop_front() {
            return Ok(Event::Spawner(news));
        }
        let now = Instant::now();
        if self.pace.due_at().is_some_and(|at| at <= now) {
            return Ok(Event::Quiet);
        }
        let deadlines = [
            self.fleet.deadline(),
            self.proxy.deadline(),
            self.proxy_link.deadline(),
            self.tasks.deadline(),
            self.autoscale.deadline(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        // First of all, or a source that always has something would put it off for ever. Two ticks never follow each
        // other: each moves the deadline.
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(Event::Tick);
        }
        let beat_at = self.unit.beat_at();
        if beat_at <= now {
            return Ok(Event::Beat);
        }
        let quiet_at = self.pace.quiet_at();
        let may_start = !self.starts.is_empty() && !self.link.is_full();
        let Inbox {
            readiness,
            secrets,
            tasks,
            emptied,
            limit_hits,
            proxy,
            reload,
            jobs,
            apis,
            hooks,
            upgrade,
            commands,
            signals,
            backlog: _,
        } = &mut self.inbox;
        let event = tokio::select! {
            biased;
            event = signals.next() => event,
            news = self.link.next() => news?.map_or(Event::Start, Event::Spawner),
            Some(news) = limit_hits.recv() => Event::Limit(news),
            Some(run) = emptied.recv() => Event::Emptied(run),
            Some(news) = readiness.recv() => Event::Readiness(news),
            Some(news) = secrets.recv() => Event::Secrets(news),
            Some(news) = tasks.recv() => Event::Task(news),
            Some((program, news)) = proxy.recv() => Event::Proxy(program, news),
            Some(news) = reload.recv() => Event::Reload(news),
            Some(news) = jobs.recv() => Event::Jobs(news),
            Some(news) = apis.recv() => Event::Apis(news),
            Some(news) = hooks.recv() => Event::Hook(news),
            Some(news) = upgrade.recv() => Event::Upgrade(news),
            Some(command) = commands.recv() => Event::Command(command),
            () = until(deadline) => Event::Tick,
            () = until(Some(beat_at)) => Event::Beat,
            () = std::future::ready(()), if may_start => Event::Start,
            () = until(quiet_at) => Event::Quiet,
        };
        Ok(event)
    }

    /// Handles one event to its end.
    fn handle(&mut self, event: Event) {
        match event {
            Event::Spawner((message, descriptors)) => self.spawner_says(message, descriptors),
            Event::Proxy(program, news) => self.proxy_says(program, news),
            Event::Readiness(news) => self.readiness_says(news),
            Event::Secrets(news) => self.secrets_read(*news),
            Event::Task(news) => self.task_news(news),
            Event::Emptied(run) => self.emptied(run),
            Event::Limit(news) => self.limit_news(news),
            Event::Command(command) => self.command(command),
            Event::Reload(news) => self.reload_news(news),
            Event::Jobs(news) => self.job_news(news),
            Event::Apis(news) => self.apis_described(news),
            Event::Hook(news) => self.hook_news(news),
            Event::Upgrade(news) => self.upgrade_news(news),
            Event::Hangup => self.reload(reload::Asked::by_signal()),
            Event::Terminate => self.terminate(),
            Event::Tick => {
                self.tell(FleetEvent::Tick);
                self.revive_proxy();
                self.tick_tasks();
                self.measure(Instant::now());
                self.proxy_link.kill_late(Instant::now());
            }
            Event::Beat => {
                self.beat(Instant::now());
                self.tick_jobs();
            }
            Event::Start => {}
            Event::Quiet => self.settle(),
        }
        self.drain_pending();
        self.start_some();
        self.settle_jobs();
        self.drain_pending();
        self.run_due_hooks();
    }

    /// News of a worker for `watt-core`, which hears it when the present event has been handled.
    pub(crate) fn push(&mut self, worker: WorkerId, event: worker::Event) {
        self.pending.push_back((worker, event));
    }

    pub(crate) fn drain_pending(&mut self) {
        loop {
            self.run_due_hooks();
            self.perform();
            let Some((worker, event)) = self.pending.pop_front() else { break };
            self.tell(FleetEvent::Worker(worker, event));
        }
        for run in std::mem::take(&mut self.forgettable) {
            watt_fault::step("daemon.forgetting");
            self.link.request(protocol::Request::Forget { run: run.0 }, Vec::new());
        }
    }

    /// Tells `watt-core`, and notes what changed where a successor finds it. What it wants is performed after that: a run
    /// that is not in the notes would be nobody's to a successor.
    pub(crate) fn tell(&mut self, event: FleetEvent) {
        let mut effects = Vec::new();
        self.fleet.handle(Instant::now(), event, &mut effects);
        watt_fault::step("daemon.decided");
        self.note_changes();
        watt_fault::step("daemon.noted");
        self.effects.extend(effects);
    }

    pub(crate) fn note_changes(&mut self) {
        for worker in self.fleet.take_removed() {
            self.clear_place(&worker);
        }
        for service in self.fleet.left() {
            self.service_left(&service);
        }
        let changed = self.fleet.take_changed();
        if !changed.is_empty() {
            self.unit.progressed();
            self.unsettle();
        }
        self.note_failed_rolls();
        let (now, now_ms, uptime) = (Instant::now(), status::now_ms(), Uptime::now());
        for worker in changed {
            let is_new = self.note_start(&worker, uptime);
            self.announce(&worker, now, now_ms);
            self.note_hooks(&worker, is_new);
            self.release_store(&worker.service, worker.index);
            let Some(saved) = self.fleet.save(now, &worker) else { continue };
            let times = self.times.get(&worker).map(|times| **times).unwrap_or_default();
            let note = WorkerNote::new(&saved, times, uptime);
            // A note is strings and numbers, which always have a JSON form.
            if let Ok(value) = serde_json::to_vec(&note) {
                self.put(&record::key(&worker), value);
            }
        }
    }

    /// Makes an event of a worker's new state.
    fn announce(&mut self, id: &WorkerId, now: Instant, now_ms: u64) {
        let (Some(worker), Some(plan)) = (self.fleet.worker(id), self.fleet.plan(&id.service)) else {
            return;
        };
        let state = status::state(&worker.state);
        if self.told.insert(id.clone(), state) == Some(state) {
            return;
        }
        // What kept it from getting ready in its time comes before that.
        if let worker::State::Stopping { run, cause: worker::ExitCause::StartTimeout, .. } = &worker.state
            && let Some((check, text)) = self.runs.get(run).and_then(|known| known.early_failure())
        {
            self.events.emit(happenings::CheckFailed { worker: id.clone(), run: *run, check, text });
        }
        let times = self.times.entry(id.clone()).or_default();
        times.since_ms = now_ms;
        let ended = matches!(
            state,
            WorkerState::Backoff
                | WorkerState::Failed
                | WorkerState::Completed
                | WorkerState::Asleep
                | WorkerState::Down
        );
        let exit = worker.record.last_exit.as_ref().filter(|_| ended);
        let waiting_for = self.fleet.waiting_for(&id.service);
        let waiting_for: Vec<String> = waiting_for.iter().map(|(service, _)| service.to_string()).collect();
        self.events.emit(happenings::WorkerEntered {
            worker: id.clone(),
            run: worker.run(),
            state,
            exit: exit.map(|cause| status::exit(cause, plan, times.exited_at_ms)),
            text: status::describe(worker, plan, now, &waiting_for.join(", ")),
        });
    }

    /// Keeps a value for a successor.
    pub(crate) fn put(&mut self, key: &str, value: Vec<u8>) {
        self.link.request(protocol::Request::Put { key: key.to_owned(), value }, Vec::new());
    }

    /// Something changed that the proxy or an operator waits for.
    pub(crate) fn unsettle(&mut self) {
        self.pace.want(Instant::now());
    }

    /// Does what waits for a quiet moment.
    fn settle(&mut self) {
        let started = Instant::now();
        self.publish();
        let is_ready_now = self.announce_ready();
        self.tell_manager();
        self.tell_rolls();
        self.judge_reload();
        self.answer_operations();
        self.upgrade_step();
        self.pace.done(Instant::now(), started.elapsed());
        if is_ready_now {
            tokio::spawn(async {
                tokio::time::sleep(TIDY_AFTER).await;
                crate::give_back_memory();
            });
        }
        if self.fleet.is_shutting_down()
            && self.fleet.is_idle()
            && self.tasks.is_empty()
            && self.hooks.is_idle()
        {
            self.end();
        }
    }

    /// Gives the proxy a new snapshot.
    fn publish(&mut self) {
        self.version += 1;
        let (runs, tasks) = (&self.runs, &self.tasks);
        let facts = |run: RunId| runs.get(&run).map(|run| run.facts()).unwrap_or_default();
        let metrics = self.places.metrics_socket();
        let sources = snapshot::Sources {
            metrics: &metrics,
            plan: &self.plan,
            addresses: &self.in_force.addresses,
            certificates: &self.in_force.sources.certificates,
            bound: &self.gateway,
            fleet: &self.fleet,
            facts: &facts,
            tasks: &|service| tasks.callers(service),
            redirect: self.host.redirect,
            resolvers: &self.resolvers,
            now: Instant::now(),
        };
        let snapshot = snapshot::snapshot(&sources, self.version);
        self.describe_apis(&snapshot);
        self.proxy_link.publish(snapshot);
        watt_fault::step("daemon.published");
    }

    /// Says once that everything is ready, and whether that was now.
    fn announce_ready(&mut self) -> bool {
        if self.said_ready {
            return false;
        }
        let verdicts = self.fleet.verdicts(&Selection::All, Goal::Up);
        self.said_ready = verdicts.values().all(|verdict| verdict.is_ok(Goal::Up));
        if self.said_ready {
            self.events.emit(happenings::AppReady { services: verdicts.len() });
        }
        self.said_ready
    }

    /// SIGTERM: the first one drains, the second one kills.
    fn terminate(&mut self) {
        let again = std::mem::replace(&mut self.was_terminated, true);
        self.shut_down(again);
    }

    /// Begins the end, or cuts it short.
    pub(crate) fn shut_down(&mut self, now: bool) {
        let next = if now { Ending::Killing } else { Ending::Draining };
        if self.ending == Ending::Over || (self.ending == Ending::Killing && !now) {
            return;
        }
        if self.ending != next {
            self.ending = next;
            self.events.emit(happenings::AppStopping { now });
            self.tell_stopping();
            self.close_jobs();
            self.put(SHUTDOWN, if now { b"now".to_vec() } else { b"drain".to_vec() });
        }
        self.unsettle();
        self.stop_tasks(None, now);
        self.tell(FleetEvent::Request(Request::Shutdown { now }));
        // Those that something waited for are over: what waited was told to stop before.
        self.close_webhooks(now);
    }

    /// Everything has ended: the spawner ends the rest and removes what is ours.
    fn end(&mut self) {
        if self.ending == Ending::Over {
            return;
        }
        self.ending = Ending::Over;
        watt_fault::step("daemon.ending");
        self.end_jobs();
        self.proxy.retire();
        let way_out = self.cgroups.way_out();
        let mut remove = way_out.remove;
        remove.push(self.places.runtime.clone());
        let exit = protocol::Request::Exit {
            status: 0,
            join_cgroups: way_out.join,
            remove,
            remove_if_empty: way_out.remove_if_empty,
        };
        self.link.request(exit, Vec::new());
    }
}

pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        // At once, where a timer would take up to a millisecond.
        Some(deadline) if deadline <= Instant::now() => {}
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

//! The beginning of the loop: a first daemon starts the application, a successor takes over what runs.
//!
//! The spawner's list says which processes there are and how those that ended did; the notes say what they were for.
//! Where the two disagree, processes win: a run that no note knows is ended, and a noted run without a process has
//! ended in a way that nobody saw.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    os::{fd::OwnedFd, unix::process::parent_id},
    sync::Arc,
    time::{Duration, Instant},
};

use watt_api::mesh::ListenerKind;
use watt_core::{
    RunId, ServiceId, WorkerId,
    fleet::{Fleet, FleetEvent, Request, Saved, SavedState, Selection},
    plan::{HookPoint, ListenAt, Plan},
    worker::{Effect, Event, ExecFailure, ExitCause, Part, State, Wanted},
};
use watt_os::{
    descendants::{Environment, Marks},
    process_info,
};
use watt_spawner::protocol::{self, Stage};

use crate::{
    apis::Apis,
    app::{self, App, Ending, LAST_RUN, PROXY, SHUTDOWN, STARTED, Serving, Signals},
    autoscale::Autoscale,
    ceilings::Ceilings,
    containment::Containment,
    control::Server,
    events::{Events, happenings},
    fd_store::Stores,
    file_watch, folders,
    gateway::{self, Binding},
    hooks::Hooks,
    jobs::{self, Jobs},
    journal,
    launch::{self, Accepts, accounts},
    life,
    logs::{self, Logs},
    oom::Kills,
    pace::Pace,
    proxies::Proxies,
    proxy::{self, Proxy},
    purges::Purges,
    record::{self, RunNote, RunOf, Uptime},
    reload::{Reloads, own_socket},
    runs::{Main, Run, SIGKILL},
    scaling,
    secret_command::Commands,
    settings::StartError,
    snapshot,
    start::{Connection, Held, HeldRun, Listeners, Start},
    status,
    tasks::{self, TaskId, Tasks},
    tls::InUse,
    unit::Unit,
    upgrade::Upgrades,
    usage::Meter,
};

/// Mode and owner of the gateway's sockets: an earlier daemon may have ended between keeping a plan and this. What a name service does not
/// know now stays whose it is.
fn own_gateway(plan: &Plan) {
    for (name, listener) in plan.other_listeners() {
        if let ListenAt::Unix { path, mode, owner: _ } = &listener.at {
            let owner = gateway::owner(name, listener).map(|owner| owner.unwrap_or_else(accounts::own));
            own_socket(path, *mode, owner.ok());
        }
    }
}

impl App {
    /// Makes the loop's state from what the start found.
    pub(crate) fn begin(
        start: Start,
        journal: Option<journal::Target>,
        connection: Connection,
        held: Held,
        signals: Signals,
    ) -> Result<App, StartError> {
        let Start {
            in_force,
            plan,
            places,
            life,
            host,
            probe,
            cgroups,
            warnings,
            listeners,
            roles,
            are_names_behind,
        } = start;
        let Connection { link, backlog } = connection;
        let plan = Arc::new(plan);
        let events = Events::new();
        let mut settings = logs::Settings::new(places.logs(&plan), places.bookmarks(), &plan.logs);
        settings.journal = journal;
        let logs = Logs::start(settings, events.clone());
        let logs = logs.map_err(|source| StartError::Runtime { what: "start to read output", source })?;
        let (senders, inbox) = app::channels(signals, backlog);
        let Listeners { control, metrics, mesh, gateway, mesh_host, mesh_host_address, threads } = listeners;
        // A reload may have given others a role, or taken the last one away.
        own_socket(&places.control_socket(), roles.socket_mode(), None);
        // Of a proxy that is another user it is the group's.
        let of_proxy = host.proxy_group.map(|group| (accounts::own().0, group));
        own_socket(&places.metrics_socket(), if of_proxy.is_some() { 0o660 } else { 0o600 }, of_proxy);
        own_gateway(&plan);
        let server = Server::new(control, roles, senders.commands.clone(), events.clone(), logs.clone());
        let server = server.and_then(|server| server.with_scrapes(metrics)).map_err(StartError::Control)?;
        let server = Serving::start(server);
        let upgrades = Upgrades::new(&held);
        let is_tried = held.trial && held.runs.iter().any(|run| is_other_proxy(run, held.program));
        let socket = places.proxy_socket(held.program);
        let proxy_link = Proxies::new(held.program, socket, is_tried, senders.proxy.clone());
        let proxy_record = held.value(PROXY).and_then(|value| serde_json::from_slice(value).ok());
        let accounts = accounts::of_plan(&plan);
        let mut app = App {
            accounts,
            fleet: Fleet::new(&plan, RunId(1), fastrand::u64(..)),
            threads,
            certificates: InUse::of(&plan, &in_force.sources.certificates),
            gateway: gateway::all(&gateway),
            gateway_inodes: BTreeSet::new(),
            resolvers: snapshot::resolvers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
            started_at_ms: held.started_at_ms,
            daemon_restarts: held.daemon_restarts,
            plan,
            in_force,
            reloads: Reloads::default(),
            file_watch: Default::default(),
            jobs: Jobs::new(places.jobs(), life.as_str().to_owned(), senders.jobs.clone()),
            upgrades,
            mesh_host: mesh_host_address,
            are_names_behind,
            probe,
            places,
            life,
            host,
            cgroups,
            warnings,
            runs: BTreeMap::new(),
            times: BTreeMap::new(),
            told: BTreeMap::new(),
            scales: BTreeMap::new(),
            rolls_told: BTreeMap::new(),
            autoscale: Autoscale::default(),
            purges: Purges::default(),
            unenforced: BTreeMap::new(),
            limit_turns: BTreeMap::new(),
            counts: BTreeMap::new(),
            outside: BTreeMap::new(),
            bound: BTreeMap::new(),
            mesh_listeners: BTreeMap::new(),
            ports: BTreeMap::new(),
            proxy: Proxy::new(proxy_record.unwrap_or_default()),
            secret_commands: Commands::new(),
            stores: Stores::default(),
            tasks: Tasks::default(),
            apis: Apis::default(),
            hooks: Hooks::default(),
            operations: Vec::new(),
            meter: Meter::default(),
            oom_kills: Kills::watch(),
            ceilings: Ceilings::default(),
            link,
            proxy_link,
            logs,
            events,
            server,
            unit: Unit::new(held.managed, Instant::now()),
            senders,
            inbox,
            pending: VecDeque::new(),
            effects: VecDeque::new(),
            starts: BTreeMap::new(),
            forgettable: Vec::new(),
            pace: Pace::new(Instant::now()),
            version: 0,
            bindings: 0,
            said_ready: false,
            ending: Ending::No,
            was_terminated: false,
        };
        app.autoscale.fit(&app.plan, Instant::now());
        app.note_who_is_alone();
        app.give_own_listeners(mesh, gateway, mesh_host);
        // Before anything is started: the next life looks here for what this one may leave.
        match app.write_info() {
            Ok(()) => {}
            // All but the daemon's pid is as its predecessor wrote it, and a full disk is no reason to be without a daemon.
            Err(error) if held.has_predecessor() => {
                tracing::warn!("{} cannot be written anew: {error}", app.places.info().display());
            }
            Err(source) => return Err(StartError::Write { path: app.places.info(), source }),
        }
        let begun = jobs::begun(&held);
        let seen = held.value(file_watch::SEEN).map(<[u8]>::to_vec);
        app.take_over(held);
        app.begin_jobs(&begun);
        app.begin_file_watch(seen.as_deref());
        Ok(app)
    }

    fn give_own_listeners(
        &mut self,
        mesh: Arc<OwnedFd>,
        gateway: Vec<Binding>,
        mesh_host: Option<Arc<OwnedFd>>,
    ) {
        gateway.into_iter().for_each(|binding| self.give_gateway(binding));
        self.proxy_link.pass_folders(folders::of_plan(&self.plan));
        self.proxy_link.add_listener("mesh.sock".to_owned(), ListenerKind::MeshHost, mesh);
        if let Some(listener) = mesh_host {
            self.proxy_link.add_listener(proxy::MESH_HOST.to_owned(), ListenerKind::MeshHost, listener);
        }
    }

    /// Facts for tools: `wattctl` finds running applications by this file.
    fn write_info(&self) -> io::Result<()> {
        let info = serde_json::json!({
            "app": self.plan.name.as_str(),
            "file": self.plan.file,
            "spawner_pid": std::os::unix::process::parent_id(),
            "daemon_pid": std::process::id(),
            "life": self.life,
        });
        // Renamed, so that nobody reads half of it.
        let (info_path, new) = (self.places.info(), self.places.runtime.join("info.json.new"));
        fs::write(&new, format!("{info:#}\n"))?;
        fs::rename(new, info_path)
    }

    /// Takes over everything the spawner holds, and goes on from there.
    fn take_over(&mut self, mut held: Held) {
        let went_back = held.went_back.take();
        let reload_is_wanted = App::is_reload_wanted(&held);
        let is_started = held.value(STARTED).is_some();
        let is_successor = held.has_predecessor();
        let shutdown = held.value(SHUTDOWN).map(<[u8]>::to_vec);
        let notes = record::workers(&held.values);
        self.skip_tasks(held.value(tasks::LAST));
        if let Some(last) = held.value(LAST_RUN).and_then(|value| str::from_utf8(value).ok()?.parse().ok()) {
            self.fleet.skip_runs(RunId(last));
        }
        if is_started {
            let runs = held.runs.len();
            self.events.emit(happenings::DaemonReplaced { restarts: self.daemon_restarts, runs });
            // Whether all were ready before is not worth a note; it is not news again.
            self.said_ready = true;
        }
        let links: Vec<u64> = held.listeners.keys().filter_map(|name| proxy::program_of(name)).collect();
        for (name, (_, socket)) in held.listeners {
            if is_of_worker(&name) {
                self.adopt_bound(name, socket);
            }
        }

        watt_fault::step("daemon.taking_over");
        self.adopt_stores(held.kept);
        let uptime = Uptime::now();
        self.times.extend(notes.iter().map(|(worker, note)| (worker.clone(), Box::new(note.times))));
        let saved = notes.into_iter().map(|(worker, note)| (worker, note.restore(uptime)));
        let mut saved: BTreeMap<WorkerId, Saved> = saved.collect();
        let numbers: BTreeSet<RunId> = held.runs.iter().map(|run| RunId(run.run)).collect();
        let live = held.runs.iter().filter(|run| run.exit.is_none());
        let live = live.filter_map(|run| Some((RunId(run.run), worker_of(&run.tag)?)));
        believe(&self.plan, &numbers, live, &mut saved);
        let noted: BTreeSet<WorkerId> = saved.keys().cloned().collect();
        self.scales = scaling::kept(&held.values, &self.plan);
        self.fleet.adopt_counts(scaling::counts(&self.scales));
        let mut effects = Vec::new();
        // Services that the plan does not have cannot be among them: the plan is the predecessor's.
        self.fleet.adopt(Instant::now(), saved, Duration::ZERO, &mut effects);
        let told = self.fleet.workers().map(|(id, worker)| (id, status::state(&worker.state)));
        self.told = told.collect();
        self.release_adopted_stores();

        let expected: BTreeMap<RunId, WorkerId> =
            self.fleet.workers().filter_map(|(id, worker)| Some((worker.run()?, id))).collect();
        let mut present = BTreeSet::new();
        for run in held.runs {
            present.extend(self.adopt_run(run, &expected));
        }
        self.end_unborn_tasks(&held.values);
        self.end_strays_inside();
        // A proxy that was tried and has gone has left its own.
        for program in links.into_iter().filter(|program| !self.proxy_link.has(*program)) {
            self.link.request(protocol::Request::Unlisten { name: proxy::listener(program) }, Vec::new());
        }
        if is_successor {
            self.enforce_adopted();
        }
        // What a predecessor had begun is done again: a signal sent twice, a release that looks once more. A process may
        // have been asked for although the note of that is not there.
        for (worker, effect) in effects {
            match effect {
                Effect::Spawn(run) if present.contains(&run) => self.push(worker, Event::Requested(run)),
                Effect::Spawn(run) => drop(self.starts.insert(run, worker)),
                effect => self.effects.push_back((worker, effect)),
            }
        }
        for (run, worker) in expected {
            // One whose `pre_start` is under way ends with that, and is not to be started beside it.
            let is_held_up = self.hook_task(&worker, run, HookPoint::PreStart).is_some();
            if !present.contains(&run) && !self.starts.contains_key(&run) && !is_held_up {
                self.push(worker.clone(), Event::Exited(run, ExitCause::Unknown));
            }
        }
        // The predecessor may have died before it had noted the start of all, or the parts of workers in a new plan.
        let unnoted = self.fleet.workers().map(|(id, _)| id);
        let unnoted: BTreeSet<WorkerId> = unnoted.filter(|id| is_started && !noted.contains(id)).collect();
        // Their ports are known now.
        self.note_who_is_alone();
        let mut effects = Vec::new();
        let (leaving, renewal) = (self.in_force.leaving(), self.in_force.renewal.clone());
        self.fleet.spare(self.in_force.spared.clone());
        self.fleet.go_on(Instant::now(), leaving, &renewal, &unnoted, &mut effects);
        self.note_changes();
        self.effects.extend(effects);
        self.adopt_webhooks(&held.values);
        self.note_adopted_hooks();
        self.go_on(is_started, shutdown.as_deref());
        self.take_over_upgrade(went_back.as_deref(), reload_is_wanted);
    }

    /// What was asked for before, or the first start.
    fn go_on(&mut self, is_started: bool, shutdown: Option<&[u8]>) {
        // Only now: one that ended may be followed in the list by one that lives.
        watt_fault::step("daemon.taken_over");
        if self.proxy.is_down() {
            self.start_proxy();
        }
        self.revive_proxy();
        if !is_started {
            self.put(STARTED, b"1".to_vec());
            self.tell(FleetEvent::Request(Request::Start(Selection::All)));
        }
        if let Some(how) = shutdown {
            self.shut_down(how == b"now");
        }
        self.go_on_back();
        self.drain_pending();
        self.note_changes();
        self.unsettle();
    }

    /// Takes over one run. Gives back its number when it is a worker's.
    fn adopt_run(&mut self, held: HeldRun, expected: &BTreeMap<RunId, WorkerId>) -> Option<RunId> {
        let id = RunId(held.run);
        let note: Option<RunNote> = serde_json::from_slice(&held.tag).ok();
        match note {
            Some(RunNote { of: RunOf::Proxy { program, path }, .. }) => {
                self.adopt_proxy(held, program, path);
                None
            }
            Some(RunNote { of: RunOf::Check { run }, .. }) => {
                self.end_check(held, RunId(run));
                None
            }
            Some(RunNote { of: RunOf::Task(note), started_at_ms }) => {
                self.adopt_task(&note, started_at_ms, held);
                None
            }
            Some(RunNote {
                of:
                    RunOf::Worker {
                        service,
                        index,
                        second,
                        accepts,
                        endpoint,
                        oom_kills_before,
                        pids_refused_before,
                        said,
                        first,
                        inside,
                        owes_post_start,
                    },
                started_at_ms,
            }) => {
                let worker = WorkerId { service: ServiceId::new(&service).ok()?, index, second };
                if expected.get(&id) != Some(&worker) {
                    self.end_stray(held);
                    return None;
                }
                let group = self.cgroups.standing(&worker, &self.plan);
                let mut run = Run::new(worker.clone(), group, &self.life.of_run(id), started_at_ms);
                run.count_from_now();
                run.accepts = accepts.into();
                run.endpoint = endpoint;
                run.oom_kills_before = oom_kills_before;
                run.pids_refused_before = pids_refused_before;
                run.said = said;
                run.first = first;
                run.inside = inside;
                run.owes_post_start = owes_post_start;
                // By the predecessor.
                run.pids_limit_told = run.pids_refused() > 0;
                self.adopt_worker(id, run, held);
                Some(id)
            }
            None => {
                self.end_stray(held);
                None
            }
        }
    }

    fn adopt_worker(&mut self, id: RunId, mut run: Run, held: HeldRun) {
        let HeldRun { run: _, tag: _, pid, stage, exit, pidfd, stdout, stderr, descriptors } = held;
        let (worker, started_at_us) = (run.worker.clone(), run.started_at_ms * 1000);
        run.spawned(pid, pidfd);
        // Versions before did not note it. No process has the number 0, so that each one that is named is news.
        run.inside = run.inside.or_else(|| is_init(pid).then_some(0));
        if let (Some(main), Some(_)) = (&mut run.main, exit) {
            // It was reaped, and what has its number now is another process.
            main.started = 0;
        }
        run.descriptors =
            descriptors.into_iter().map(|(name, descriptor)| (name, Arc::new(descriptor))).collect();
        if let Stage::Failed { step, object, errno } = &stage {
            run.exec_failure =
                Some(ExecFailure { step: step.clone(), object: object.clone(), errno: *errno });
        }
        if let (Accepts::Port(port) | Accepts::Found(port), false) =
            (&run.accepts, run.descriptors.contains_key("diag"))
        {
            self.ports.insert(*port, id);
        }
        // Where a predecessor had begun a check and not asked for its process.
        run.group.remove_empty_parts();
        self.runs.insert(id, Box::new(run));
        self.attach(id, logs::Source::Worker(worker.clone()), Some(started_at_us), stdout, stderr);
        let state = self.fleet.worker(&worker).map(|worker| worker.state.clone());
        // It may have said who goes on in its place.
        let may_go_on = self.bound.contains_key(&launch::listener_name("notify", &worker));
        if stage == Stage::Executed && (exit.is_none() || may_go_on) {
            self.give_listeners(id);
            if let Some(State::Starting { executed: false, .. }) = state {
                self.push(worker, Event::Executed(id));
            }
            self.watch_again(id);
        }
        if let Some(exit) = exit {
            self.exited(id.0, exit);
        }
    }

    /// A run as a list tells it that was asked for again because a message was lost: what is not known yet is taken up.
    pub(crate) fn told_again(&mut self, held: HeldRun) {
        if let Some(task) = TaskId::of_run(RunId(held.run)) {
            return self.task_told_again(task, held);
        }
        let HeldRun { run, tag: _, pid, stage, exit, pidfd, stdout, stderr, descriptors } = held;
        let id = RunId(run);
        let known = self.runs.get(&id);
        let is_proxy = run >= proxy::FIRST_RUN;
        let is_spawned =
            if is_proxy { self.proxy.pid().is_some() } else { known.is_none_or(|run| run.main.is_some()) };
        let is_over = known.and_then(|run| run.main.as_ref()).is_some_and(|main| main.exit.is_some());
        let worker = known.map(|run| run.worker.clone());
        if !is_spawned {
            self.spawned(run, pid, vec![pidfd, stdout, stderr]);
        }
        if let (Stage::Failed { step, object, errno }, Some(run)) = (&stage, self.runs.get_mut(&id)) {
            run.exec_failure =
                Some(ExecFailure { step: step.clone(), object: object.clone(), errno: *errno });
        }
        let state = worker.and_then(|worker| Some(&self.fleet.worker(&worker)?.state));
        if let (Stage::Executed, Some(State::Starting { run, executed: false, .. })) = (&stage, state)
            && *run == id
        {
            self.executed(id, descriptors.into_iter());
        }
        if let Some(exit) = exit.filter(|_| !is_over) {
            self.exited(run, exit);
        }
    }

    fn adopt_proxy(&mut self, held: HeldRun, program: u64, path: String) {
        let id = RunId(held.run);
        if program != self.upgrades.program {
            self.proxy.leave_out(held.run);
            let main = Main::new(held.pid, held.pidfd);
            self.proxy_link.adopt(program, self.places.proxy_socket(program), held.run, main, path);
            self.attach(id, logs::Source::Proxy, Some(0), held.stdout, held.stderr);
            if held.exit.is_some() {
                self.other_proxy_ended(held.run);
            }
            return;
        }
        match held.exit {
            None => {
                self.proxy.adopt(Instant::now(), held.run, Some(Main::new(held.pid, held.pidfd)));
                self.proxy_link.adopt_own();
                self.attach(id, logs::Source::Proxy, Some(0), held.stdout, held.stderr);
            }
            // It ended while nobody looked; the next one has a greater number.
            Some(_) => {
                self.proxy.adopt(Instant::now(), held.run, None);
                self.proxy.ended(Instant::now(), held.run);
                // Its last words are in its pipes.
                self.attach(id, logs::Source::Proxy, Some(0), held.stdout, held.stderr);
                drop(self.logs.ended(id));
                self.forgettable.push(id);
            }
        }
    }

    /// A run that nobody knows: a start that was asked for and not noted. It is ended; its worker starts anew.
    pub(crate) fn end_stray(&mut self, held: HeldRun) {
        self.secret_commands.leave_out(held.run);
        tracing::warn!("run {} is not known and is ended", held.run);
        if held.exit.is_some() {
            return self.forgettable.push(RunId(held.run));
        }
        let main = Main::new(held.pid, held.pidfd);
        if let Err(error) = watt_os::pidfd::send_signal(&main.pidfd, SIGKILL) {
            tracing::warn!("run {} cannot be ended: {error}", held.run);
        }
        // Not by its cgroup, which may be that of a run which is known.
        let mark = format!("{}={}", life::VARIABLE, self.life.of_run(RunId(held.run)));
        let marks = Marks {
            main: main.pid,
            main_started: main.started,
            environment: Some(Environment::Entry(mark.into_bytes())),
            ancestor: Some(parent_id()),
            ..Marks::default()
        };
        tokio::spawn(Containment::Marks(marks).kill());
    }
}

/// Whether a process is the first of a PID namespace below this one.
fn is_init(pid: u32) -> bool {
    let numbers = process_info::numbers(pid).unwrap_or_default();
    matches!(numbers[..], [_, .., 1])
}

/// Whether this is the name of a worker's socket at the spawner ([`crate::launch::listener_name`]).
pub(crate) fn is_of_worker(name: &str) -> bool {
    let kind = name.split('/').next().unwrap_or_default();
    name.matches('/').count() == 2 && matches!(kind, "mesh" | "worker" | "notify")
}

/// Whether a run is a proxy that lives and is of another program than this.
fn is_other_proxy(held: &HeldRun, own: u64) -> bool {
    let note: Option<RunNote> = serde_json::from_slice(&held.tag).ok();
    held.exit.is_none()
        && matches!(note, Some(RunNote { of: RunOf::Proxy { program, .. }, .. }) if program != own)
}

/// The worker that a run's tag names.
fn worker_of(tag: &[u8]) -> Option<WorkerId> {
    let note: RunNote = serde_json::from_slice(tag).ok()?;
    match note.of {
        RunOf::Worker { service, index, second, .. } => {
            Some(WorkerId { service: ServiceId::new(&service).ok()?, index, second })
        }
        RunOf::Proxy { .. } | RunOf::Check { .. } | RunOf::Task(_) => None,
    }
}

/// Processes win over notes: a worker without a note, or with one of a run that is not there, has the run that lives.
/// Nobody knows whether that is ready, so that it is taken for one that starts.
fn believe(
    plan: &Plan,
    held: &BTreeSet<RunId>,
    live: impl Iterator<Item = (RunId, WorkerId)>,
    saved: &mut BTreeMap<WorkerId, Saved>,
) {
    for (run, worker) in live {
        let Some(service) = plan.services.get(&worker.service) else { continue };
        let noted = saved.get(&worker);
        if noted.and_then(|noted| noted.state.run()).is_some_and(|noted| held.contains(&noted)) {
            continue;
        }
        let note = Saved {
            wanted: Wanted::Up,
            state: SavedState::Starting { run, ready_in: Some(service.ready.timeout), executed: false },
            stop_pending: false,
            restarts: noted.map_or(0, |noted| noted.restarts),
            last_exit: noted.and_then(|noted| noted.last_exit.clone()),
            recent_failures: Vec::new(),
            failures_in_row: 0,
            recycled: noted.and_then(|noted| noted.recycled),
            last_run: Some(run),
            healthy_run: None,
            part: noted.map_or(Part::Stays, |noted| noted.part),
        };
        saved.insert(worker, note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_lives_is_taken_over_without_its_workers_note() {
        let plan = crate::testing::plan(&["api"]);
        let worker = WorkerId::new(ServiceId::new("api").unwrap(), 0);
        let believed = |held: &[u64], live: u64, saved: &mut BTreeMap<WorkerId, Saved>| {
            let held = held.iter().copied().map(RunId).collect();
            believe(&plan, &held, [(RunId(live), worker.clone())].into_iter(), saved);
            saved[&worker].state.run()
        };
        let mut saved = BTreeMap::new();
        assert_eq!(believed(&[7], 7, &mut saved), Some(RunId(7)), "without a note");
        assert_eq!(believed(&[7, 8], 8, &mut saved), Some(RunId(7)), "its note is of a run that is there");
        assert_eq!(believed(&[8], 8, &mut saved), Some(RunId(8)), "its note is of a run that is not");
        saved.get_mut(&worker).unwrap().state = SavedState::Down;
        assert_eq!(believed(&[9], 9, &mut saved), Some(RunId(9)), "its note knows of no run");
        assert_eq!(saved[&worker].wanted, Wanted::Up);
    }
}

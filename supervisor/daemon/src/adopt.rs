//! The beginning of the loop: a first daemon starts the application, a successor takes over what runs.
//!
//! The spawner's list says which processes there are and how those that ended did; the notes say what they were for.
//! Where the two disagree, processes win: a run that no note knows is ended, and a noted run without a process has
//! ended in a way that nobody saw.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use watt_api::mesh::ListenerKind;
use watt_core::{
    RunId, ServiceId, WorkerId,
    fleet::{Fleet, FleetEvent, Request, Selection},
    worker::{Event, ExecFailure, ExitCause, State},
};
use watt_os::cgroup::Group;
use watt_spawner::protocol::Stage;

use crate::{
    app::{self, App, Ending, PROXY, SHUTDOWN, STARTED, Serving, Signals},
    control::Server,
    events::{Events, happenings},
    launch::Accepts,
    logs::{self, Logs},
    proxy::{self, Proxy},
    proxy_link::ProxyLink,
    record::{self, RunNote, RunOf},
    runs::{Main, Run, SIGKILL},
    settings::StartError,
    snapshot,
    start::{Connection, Held, HeldRun, Listeners, Start},
    status,
    usage::Meter,
};

impl App {
    /// Makes the loop's state from what the start found.
    pub(crate) fn begin(
        start: Start,
        connection: Connection,
        held: Held,
        signals: Signals,
    ) -> Result<App, StartError> {
        let Start { sources, plan, places, life, host, cgroups, warnings, listeners } = start;
        let Connection { link, backlog } = connection;
        let events = Events::new();
        let settings = logs::Settings::new(places.logs(&plan), places.bookmarks(), &plan.logs);
        let logs = Logs::start(settings, events.clone());
        let logs = logs.map_err(|source| StartError::Runtime { what: "start to read output", source })?;
        let (senders, inbox) = app::channels(signals, backlog);
        let Listeners { control, mesh, gateway, gateway_address, mesh_host, mesh_host_address: _, threads } =
            listeners;
        let server = Server::new(control, senders.commands.clone(), events.clone(), logs.clone());
        let server = Serving::start(server.map_err(StartError::Control)?);
        let proxy_link = ProxyLink::start(places.proxy_socket(), senders.proxy.clone());
        let first_run = held.runs.iter().map(|run| run.run).filter(|run| *run < proxy::FIRST_RUN).max();
        let proxy_record = held.value(PROXY).and_then(|value| serde_json::from_slice(value).ok());
        let mut app = App {
            fleet: Fleet::new(&plan, RunId(first_run.map_or(1, |run| run + 1)), fastrand::u64(..)),
            threads,
            gateway: gateway_address,
            resolvers: snapshot::resolvers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
            started_at_ms: held.started_at_ms,
            daemon_restarts: held.daemon_restarts,
            plan,
            sources: Arc::new(sources),
            places,
            life,
            host,
            cgroups,
            warnings,
            runs: BTreeMap::new(),
            times: BTreeMap::new(),
            told: BTreeMap::new(),
            unenforced: BTreeMap::new(),
            counts: BTreeMap::new(),
            bound: BTreeMap::new(),
            ports: BTreeMap::new(),
            proxy: Proxy::new(proxy_record.unwrap_or_default()),
            operations: Vec::new(),
            meter: Meter::default(),
            link,
            proxy_link,
            logs,
            events,
            server,
            senders,
            inbox,
            pending: VecDeque::new(),
            forgettable: Vec::new(),
            unsettled_since: None,
            version: 0,
            said_ready: false,
            ending: Ending::No,
        };
        app.give_own_listeners(mesh, gateway, mesh_host);
        // Before anything is started: the next life looks here for what this one may leave.
        app.write_info().map_err(|source| StartError::Write { path: app.places.info(), source })?;
        app.take_over(held);
        Ok(app)
    }

    fn give_own_listeners(
        &mut self,
        mesh: Arc<OwnedFd>,
        gateway: Vec<Arc<OwnedFd>>,
        mesh_host: Option<Arc<OwnedFd>>,
    ) {
        for (thread, listener) in (0..).zip(gateway) {
            self.proxy_link.add_listener(
                format!("gateway/{thread}"),
                ListenerKind::Gateway { thread },
                listener,
            );
        }
        self.proxy_link.add_listener("mesh.sock".to_owned(), ListenerKind::MeshHost, mesh);
        if let Some(listener) = mesh_host {
            self.proxy_link.add_listener("mesh/host".to_owned(), ListenerKind::MeshHost, listener);
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
        fs::write(self.places.info(), format!("{info:#}\n"))
    }

    /// Takes over everything the spawner holds, and goes on from there.
    fn take_over(&mut self, held: Held) {
        let is_started = held.value(STARTED).is_some();
        let shutdown = held.value(SHUTDOWN).map(<[u8]>::to_vec);
        let notes = record::workers(&held.values);
        if is_started {
            let runs = held.runs.len();
            self.events.emit(happenings::DaemonReplaced { restarts: self.daemon_restarts, runs });
            // Whether all were ready before is not worth a note; it is not news again.
            self.said_ready = true;
        }
        for (name, (_, socket)) in held.listeners {
            let kind = name.split('/').next().unwrap_or_default();
            if name.matches('/').count() == 2 && matches!(kind, "mesh" | "worker" | "notify") {
                self.adopt_bound(name, socket);
            }
        }

        let now_ms = status::now_ms();
        self.times.extend(notes.iter().map(|(worker, note)| (worker.clone(), note.times)));
        let saved = notes.into_iter().map(|(worker, note)| (worker, note.restore(now_ms))).collect();
        let mut effects = Vec::new();
        // Services that the plan does not have cannot be among them: the plan is the predecessor's.
        self.fleet.adopt(Instant::now(), saved, Duration::ZERO, &mut effects);
        let told = self.fleet.workers().map(|(id, worker)| (id, status::state(&worker.state)));
        self.told = told.collect();

        let expected: BTreeMap<RunId, WorkerId> =
            self.fleet.workers().filter_map(|(id, worker)| Some((worker.run()?, id))).collect();
        let mut present = BTreeSet::new();
        for run in held.runs {
            present.extend(self.adopt_run(run, &expected));
        }
        // What a predecessor had begun is done again: a signal sent twice, a release that looks once more.
        self.perform(effects);
        for (run, worker) in expected {
            if !present.contains(&run) {
                self.push(worker.clone(), Event::Exited(run, ExitCause::Unknown));
            }
        }
        self.go_on(is_started, shutdown.as_deref());
    }

    /// What was asked for before, or the first start.
    fn go_on(&mut self, is_started: bool, shutdown: Option<&[u8]>) {
        if self.proxy.is_down() {
            self.start_proxy();
        }
        if !is_started {
            self.put(STARTED, b"1".to_vec());
            self.tell(FleetEvent::Request(Request::Start(Selection::All)));
        }
        if let Some(how) = shutdown {
            self.shut_down(how == b"now");
        }
        self.drain_pending();
        self.note_changes();
        self.unsettle();
    }

    /// Takes over one run. Gives back its number when it is a worker's.
    fn adopt_run(&mut self, held: HeldRun, expected: &BTreeMap<RunId, WorkerId>) -> Option<RunId> {
        let id = RunId(held.run);
        let note: Option<RunNote> = serde_json::from_slice(&held.tag).ok();
        match note {
            Some(RunNote { of: RunOf::Proxy, .. }) => {
                self.adopt_proxy(held);
                None
            }
            Some(RunNote {
                of: RunOf::Worker { service, index, accepts, endpoint, oom_kills_before },
                started_at_ms,
            }) => {
                let worker = WorkerId { service: ServiceId::new(&service).ok()?, index };
                if expected.get(&id) != Some(&worker) {
                    self.end_stray(held);
                    return None;
                }
                let group = self.adopt_group(&worker);
                let mut run = Run::new(worker.clone(), group, &self.life.of_run(id), started_at_ms);
                run.accepts = accepts.into();
                run.endpoint = endpoint;
                run.oom_kills_before = oom_kills_before;
                self.adopt_worker(id, run, held);
                Some(id)
            }
            None => {
                self.end_stray(held);
                None
            }
        }
    }

    fn adopt_group(&mut self, worker: &WorkerId) -> Group {
        let Some(service) = self.plan.services.get(&worker.service).cloned() else { return Group::default() };
        let (group, unenforced) = self.cgroups.adopt(worker, &service.limits);
        self.note_unenforced(&service, &unenforced);
        group
    }

    fn adopt_worker(&mut self, id: RunId, mut run: Run, held: HeldRun) {
        let HeldRun { run: _, tag: _, pid, stage, exit, pidfd, stdout, stderr, descriptors } = held;
        let (worker, started_at_us) = (run.worker.clone(), run.started_at_ms * 1000);
        run.spawned(pid, pidfd);
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
        self.runs.insert(id, run);
        self.attach(id, logs::Source::Worker(worker.clone()), Some(started_at_us), stdout, stderr);
        let state = self.fleet.worker(&worker).map(|worker| worker.state.clone());
        if stage == Stage::Executed && exit.is_none() {
            self.give_listeners(id);
            self.watch_memory(id);
            if let Some(State::Starting { executed, .. }) = state {
                self.watch(id, &mut Vec::new());
                if !executed {
                    self.push(worker, Event::Executed(id));
                }
            }
        }
        if let Some(exit) = exit {
            self.exited(id.0, exit);
        }
    }

    fn adopt_proxy(&mut self, held: HeldRun) {
        let id = RunId(held.run);
        match held.exit {
            None => {
                self.proxy.adopt(Instant::now(), held.run, Some(Main::new(held.pid, held.pidfd)));
                self.attach(id, logs::Source::Proxy, Some(0), held.stdout, held.stderr);
            }
            // It ended while nobody looked; the next one has a greater number.
            Some(_) => {
                self.proxy.adopt(Instant::now(), held.run, None);
                self.proxy.ended(Instant::now(), held.run);
                self.forgettable.push(id);
                self.revive_proxy();
            }
        }
    }

    /// A run that nobody knows: a start that was asked for and not noted. It is ended; its worker starts anew.
    fn end_stray(&mut self, held: HeldRun) {
        tracing::warn!("run {} is not known and is ended", held.run);
        if held.exit.is_some() {
            return self.forgettable.push(RunId(held.run));
        }
        if let Err(error) = watt_os::pidfd::send_signal(&held.pidfd, SIGKILL) {
            tracing::warn!("run {} cannot be ended: {error}", held.run);
        }
    }
}

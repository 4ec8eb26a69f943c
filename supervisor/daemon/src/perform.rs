//! The effects that `watt-core` asks for, performed: one function each. None of them waits; what takes time runs
//! beside the loop, and what comes of it returns as an event.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt, PermissionsExt, chown},
            process::parent_id,
        },
    },
    path::Path,
};

use watt_core::{
    RunId, WorkerId,
    plan::HookPoint,
    worker::{Effect, Event, ExecFailure, ExitCause},
};
use watt_exec::plan::{LaunchPlan, PROGRAM_PID, Task as ExecTask};
use watt_os::{cgroup::Group, memfd};
use watt_spawner::protocol::{Address, Request};

use crate::{
    app::{App, LAST_RUN},
    cgroups::Made,
    containment::Containment,
    doctor::asks_for_pressure,
    launch::{self, Accepts, Launch, Launcher},
    logs,
    places::{WorkerPlaces, make_dir},
    runs::{Run, SIGCONT, SIGKILL, SIGTERM, Task},
    seat::Seat,
    secret_command::Commands,
    status,
};

/// Processes asked for before the loop looks for other news.
const STARTS_AT_A_TIME: usize = 16;

/// How often a free port of the host is asked for before it is taken although another run was told the same.
const PORT_ATTEMPTS: usize = 16;

impl App {
    /// Performs what `watt-core` wants, in order; processes are asked for by [`start_some`](Self::start_some). What is to be
    /// done to a run that has none yet ends it.
    pub(crate) fn perform(&mut self) {
        while let Some((worker, effect)) = self.effects.pop_front() {
            match effect {
                Effect::Spawn(run) => drop(self.starts.insert(run, worker)),
                Effect::Drain(run)
                | Effect::Signal(run)
                | Effect::TerminateRest(run)
                | Effect::Kill(run)
                | Effect::Release(run)
                    if self.starts.remove(&run).is_some() =>
                {
                    self.forget_hooks(run);
                    self.push(worker, Event::Emptied(run));
                }
                Effect::Drain(run) => self.drain(&worker, run),
                Effect::Signal(run) => self.signal(&worker, run),
                Effect::TerminateRest(run) => self.terminate_rest(run),
                Effect::Kill(run) if self.end_hooks(&worker, run, true) => {}
                Effect::Kill(run) => self.kill(run),
                Effect::Release(run) => self.release(&worker, run),
            }
            watt_fault::step("daemon.performed");
        }
    }

    /// Asks for some processes, and for none while the spawner has not taken up the last ones. So those that run already
    /// are heard of meanwhile, what waits for the spawner stays little, and a stop overtakes the starts before it.
    pub(crate) fn start_some(&mut self) {
        for _ in 0..STARTS_AT_A_TIME {
            if self.link.is_full() {
                return;
            }
            let Some((run, worker)) = self.starts.pop_first() else { return };
            self.spawn(&worker, run);
        }
    }

    /// Asks for a process. A step that fails here is a failed start like one of the exec stage's.
    fn spawn(&mut self, worker: &WorkerId, run: RunId) {
        // A successor must not give the number out again, even when nothing else is left of this run.
        self.put(LAST_RUN, run.to_string().into_bytes());
        watt_fault::step("daemon.spawning");
        if !self.may_start(worker, run) {
            return;
        }
        self.push(worker.clone(), Event::Requested(run));
        if let Err(failure) = self.try_spawn(worker, run) {
            self.exec_failed(worker, run, failure);
        }
    }

    fn try_spawn(&mut self, worker: &WorkerId, run: RunId) -> Result<(), ExecFailure> {
        let Some(service) = self.plan.services.get(&worker.service).cloned() else { return Ok(()) };
        let Made { group, is_new, unenforced } = self
            .cgroups
            .create(worker, &self.plan)
            .map_err(|error| failed("cgroup", worker.to_string(), &error))?;
        self.note_unenforced(&service, unenforced);
        // A run exists from here on, even if what follows fails: its cgroup is released like any other's.
        let mark = self.life.of_run(run);
        let mut new = Run::new(worker.clone(), group.clone(), &mark, status::now_ms());
        if !is_new {
            new.count_from_now();
        }
        new.owes_post_start = service.hooks.contains_key(&HookPoint::PostStart);
        self.runs.insert(run, Box::new(new));
        refuse_frozen(&group)?;

        let port = launch::needs_host_port(&service, &self.host).then(|| self.free_port(run)).flatten();
        let launcher = Launcher {
            plan: &self.plan,
            places: &self.places,
            host: &self.host,
            inherited: &self.in_force.sources.env,
            accounts: &self.accounts,
        };
        let seat = Seat::from(worker);
        let launch = launcher.launch(&service, &seat, &mark, port, group.legacy_tasks())?;
        self.make_folders(&seat, launch.owner)?;
        match launch.credentials.clone() {
            Some(folder) => {
                self.read_secrets(run, &service, group, launch, folder);
                Ok(())
            }
            None => self.request_spawn(run, &group, launch, None),
        }
    }

    /// Makes the folders of a worker or a task, and of its service's state.
    pub(crate) fn make_folders(&self, seat: &Seat, owner: Option<(u32, u32)>) -> Result<(), ExecFailure> {
        let failed = |folder: &Path| {
            let folder = folder.display().to_string();
            move |error| failed("folder", folder, &error)
        };
        let places = self.places.seat(seat);
        make_folder(&places, self.host.proxy_group, owner).map_err(failed(&places.dir))?;
        let state = self.places.service_state(&seat.service);
        make_state_folder(&state, owner).map_err(failed(&state))
    }

    /// Asks for a worker's process, with these credentials.
    pub(crate) fn request_spawn(
        &mut self,
        run: RunId,
        group: &Group,
        launch: Launch,
        credentials: Option<OwnedFd>,
    ) -> Result<(), ExecFailure> {
        let Launch { mut plan, listeners, mut pass, accepts, owner: _, credentials: _ } = launch;
        for (name, address) in listeners {
            self.bind(name, address);
        }
        if let Some(worker) = self.runs.get(&run).map(|run| run.worker.clone()) {
            self.give_stored(&worker, &mut plan, &mut pass);
        }
        remove_socket(&accepts);
        let tag = self.runs.get_mut(&run).and_then(|run| {
            run.accepts = accepts;
            run.inside = plan.namespaces.pid.then_some(PROGRAM_PID);
            serde_json::to_vec(&run.note()).ok()
        });
        self.ask_to_spawn(
            run.0,
            tag.unwrap_or_default(),
            group,
            plan,
            pass,
            credentials.into_iter().collect(),
        )
    }

    /// Asks for a process in a cgroup: a worker's, a task's, or a secret's. What is handed is for the exec stage alone
    /// ([`LaunchPlan::handed`]).
    pub(crate) fn ask_to_spawn(
        &mut self,
        run: u64,
        tag: Vec<u8>,
        group: &Group,
        plan: LaunchPlan,
        pass: Vec<String>,
        handed: Vec<OwnedFd>,
    ) -> Result<(), ExecFailure> {
        // Where another process is joined there is none to be made.
        let is_new = plan.join.is_none();
        let (pid_namespace, user_namespace) = (is_new && plan.namespaces.pid, is_new && plan.user_namespace);
        let task = postcard::to_stdvec(&ExecTask::Launch(Box::new(plan))).map_err(io::Error::other);
        let task = task.and_then(|task| memfd::sealed(c"watt-launch", &task));
        let task = task.map_err(|error| failed("plan", String::new(), &error))?;
        let cgroup = group.open_unified().map_err(|error| failed("cgroup", String::new(), &error))?;
        let request = Request::Spawn {
            run,
            tag,
            cgroup: cgroup.is_some(),
            // The stage takes a handful.
            handed: u8::try_from(handed.len()).unwrap_or(u8::MAX),
            pid_namespace,
            user_namespace,
            pass,
        };
        watt_fault::step("daemon.spawn_planned");
        self.link.request(request, [task].into_iter().chain(cgroup).chain(handed).collect());
        watt_fault::step("daemon.spawn_asked");
        Ok(())
    }

    /// Has the spawner bind a worker's socket, once. It answers in order, so that the run that follows finds it.
    pub(crate) fn bind(&mut self, name: String, address: Address) {
        match self.bound.get(&name) {
            // Messages that were meant for an earlier run are of no use to the next one.
            Some(socket) if name.starts_with("notify/") => match crate::readiness::notify::prepare(socket) {
                Ok(unread) => self.close(unread),
                Err(error) => tracing::warn!("{name} cannot be made ready for its next run: {error}"),
            },
            Some(_) => {}
            None => self.link.request(Request::Listen { name, address }, Vec::new()),
        }
    }

    /// A step before the program failed.
    pub(crate) fn exec_failed(&mut self, worker: &WorkerId, id: RunId, failure: ExecFailure) {
        let cause = ExitCause::ExecFailed(failure.clone());
        if let Some(run) = self.runs.get_mut(&id) {
            run.exec_failure = Some(failure);
        }
        self.exited_now(worker);
        self.push(worker.clone(), Event::Exited(id, cause));
    }

    /// Notes when a worker's run ended.
    pub(crate) fn exited_now(&mut self, worker: &WorkerId) {
        self.times.entry(worker.clone()).or_default().exited_at_ms = status::now_ms();
    }

    /// Takes a run out of the table. The proxy answers when it has no request of it left; one that was never in the
    /// table has none.
    fn drain(&mut self, worker: &WorkerId, run: RunId) {
        watt_fault::step("daemon.draining");
        self.unsettle();
        if self.runs.get(&run).is_none_or(|run| run.endpoint.is_none()) {
            self.push(worker.clone(), Event::Drained(run));
        }
    }

    pub(crate) fn signal(&mut self, worker: &WorkerId, run: RunId) {
        if self.end_hooks(worker, run, false) || !self.may_signal(worker, run) {
            return;
        }
        let Some(signal) = self.plan.services.get(&worker.service).map(|service| service.stop.signal) else {
            return;
        };
        if let Some(run) = self.runs.get_mut(&run) {
            if run.inside.is_some() && run.follows > 0 {
                // An init passes it on to the one that it follows: it is sent when the init has heard which that is, and so once.
                return;
            }
            run.signal_main(signal);
            run.signal_main(SIGCONT);
        }
        watt_fault::step("daemon.signalled");
    }

    fn terminate_rest(&mut self, run: RunId) {
        if self.runs.get(&run).is_some_and(|run| !self.is_alone(run))
            && let Some(run) = self.runs.get_mut(&run)
        {
            run.acts.push(tokio::spawn(run.containment().signal(&[SIGTERM, SIGCONT])));
        }
    }

    /// Kills every process of a run; the main one at once, so that nothing depends on what else succeeds.
    pub(crate) fn kill(&mut self, run: RunId) {
        let is_alone = self.runs.get(&run).is_some_and(|run| self.is_alone(run));
        if let Some(run) = self.runs.get_mut(&run) {
            run.signal_main(SIGKILL);
            if !is_alone {
                run.acts.push(tokio::spawn(run.containment().kill()));
            }
        }
    }

    /// Whether it is known at little cost that a run has no process but its main one: then there is nothing to be done
    /// beside the loop. Of a run without a cgroup the look for its processes takes a walk over all of the host's, which
    /// for a thousand services at once is a thousand walks.
    fn is_alone(&self, run: &Run) -> bool {
        match run.containment() {
            Containment::Group(group) => run.live_pid().is_none() && !group.is_populated(),
            Containment::Marks(_) => {
                let is_childless = |pid| children(pid).is_some_and(|children| children.is_empty());
                run.live_pid().is_none_or(is_childless) && !self.has_orphans()
            }
            Containment::Nothing => true,
        }
    }

    /// Whether the spawner has children that nobody knows: what an ended process leaves behind comes to it, because it
    /// is the subreaper (prctl(2)). When that cannot be seen, there may be some.
    fn has_orphans(&self) -> bool {
        let Some(children) = children(parent_id()) else { return true };
        let own = [Some(std::process::id()), self.proxy.pid()].into_iter().flatten();
        let of_tasks = self.tasks.live_pids();
        let of_runs = self.runs.values().filter_map(|run| run.live_pid());
        let known: BTreeSet<u32> = of_runs.chain(of_tasks).chain(own).collect();
        children.iter().any(|child| !known.contains(child))
    }

    /// The main process has gone. When the others have too, the run is over.
    fn release(&mut self, worker: &WorkerId, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else {
            // A run that a predecessor had let go of, or that was never asked for.
            self.forget_hooks(id);
            return self.push(worker.clone(), Event::Emptied(id));
        };
        // What it was watched for cannot come any more.
        run.watching = None;
        let containment = run.containment();
        let is_alone = self.runs.get(&id).is_some_and(|run| self.is_alone(run));
        if is_alone {
            return self.emptied(id);
        }
        let emptied = self.senders.emptied.clone();
        let task = tokio::spawn(async move {
            containment.emptied().await;
            // Fails when the loop has ended, and with it everything else.
            let _ = emptied.send(id).await;
        });
        if let Some(run) = self.runs.get_mut(&id) {
            run.tasks.push(Task(task));
        }
    }

    /// No process of a run is left: its cgroup, its listeners and its pipes go.
    ///
    /// Signals and limits that are still being told, and the end of its secrets, are waited for: the worker's next run may have the
    /// same cgroup and folder, and must not meet what was meant for this one.
    pub(crate) fn emptied(&mut self, id: RunId) {
        if Commands::is_one(id.0) {
            if self.secret_commands.emptied(id.0) {
                self.forgettable.push(id);
            }
            return;
        }
        let Some(worker) = self.runs.get(&id).map(|run| run.worker.clone()) else { return };
        if !self.may_end(&worker, id) {
            return;
        }
        self.remove_secrets(id);
        let is_last = self.is_last_of_service(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.acts.retain(|act| !act.is_finished());
        if run.acts.is_empty()
            && let Err(busy) = self.cgroups.end(&run.worker, is_last)
        {
            run.acts.push(tokio::spawn(busy.idle()));
        }
        if !run.acts.is_empty() {
            let (acts, emptied) = (std::mem::take(&mut run.acts), self.senders.emptied.clone());
            run.tasks.push(Task(tokio::spawn(async move {
                for act in acts {
                    // A panic there ends the act as well.
                    let _ = act.await;
                }
                let _ = emptied.send(id).await;
            })));
            return;
        }
        watt_fault::step("daemon.emptied");
        let Some(run) = self.runs.remove(&id) else { return };
        self.forget_hooks(id);
        for listener in &run.listeners {
            self.proxy_link.remove_listener(listener);
        }
        if let Err(error) = run.group.remove() {
            tracing::warn!("the cgroup of {} cannot be removed: {error}", run.worker);
        }
        if is_last {
            self.ceilings.unwatch(&run.worker.service);
        }
        self.ports.retain(|_, holder| *holder != id);
        self.end_inside(id);
        // Done in its own time: the last lines are read by the logs' thread.
        drop(self.logs.ended(id));
        self.forgettable.push(id);
        self.push(run.worker.clone(), Event::Emptied(id));
        self.unsettle();
    }

    /// Whether its service has no other run, and no task.
    fn is_last_of_service(&self, id: RunId) -> bool {
        let Some(service) = self.runs.get(&id).map(|run| &run.worker.service) else { return true };
        !self.runs.iter().any(|(other, run)| *other != id && run.worker.service == *service)
            && !self.tasks.has_one_of(service)
    }

    /// A port of the host that is free now and that no other run was told.
    fn free_port(&mut self, run: RunId) -> Option<u16> {
        let free =
            || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).ok();
        let mut found = None;
        for _ in 0..PORT_ATTEMPTS {
            found = free().map(|address| address.port());
            if found.is_none_or(|port| !self.ports.contains_key(&port)) {
                break;
            }
        }
        self.ports.extend(found.map(|port| (port, run)));
        found
    }

    pub(crate) fn note_unenforced(&mut self, service: &watt_core::plan::Service, mut missing: Vec<String>) {
        let account = self.accounts.get(&service.id).and_then(|account| account.as_ref().ok()?.as_ref());
        missing.extend(launch::missing(service, &self.host, account));
        if let (true, Some(reason)) = (asks_for_pressure(service), &self.cgroups.found().no_pressure) {
            missing.push(format!("pressure ({reason})"));
        }
        self.unenforced.insert(service.id.to_string(), missing);
    }

    /// Gives the logs a run's pipes.
    pub(crate) fn attach(
        &self,
        id: RunId,
        source: logs::Source,
        adopted_since: Option<u64>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) {
        self.logs.attach(logs::RunInfo { run: id, source, adopted_since }, stdout, stderr);
    }
}

pub(crate) fn failed(step: &str, object: String, error: &io::Error) -> ExecFailure {
    ExecFailure { step: step.to_owned(), object, errno: error.raw_os_error().unwrap_or(0) }
}

/// A process in a frozen cgroup would not come as far as its program.
pub(crate) fn refuse_frozen(group: &Group) -> Result<(), ExecFailure> {
    match group.thaw() {
        Ok(None) => Ok(()),
        Ok(Some(above)) => {
            let object = format!("{} is frozen", above.display());
            Err(ExecFailure { step: "cgroup".to_owned(), object, errno: 0 })
        }
        Err(error) => Err(failed("cgroup.freeze", String::new(), &error)),
    }
}

/// The folder of a worker: for its user, and for the proxy, which connects to the worker's socket. The set-group-ID bit
/// gives what the worker creates the proxy's group.
fn make_folder(places: &WorkerPlaces, proxy_group: Option<u32>, owner: Option<(u32, u32)>) -> io::Result<()> {
    let service = places.dir.parent().unwrap_or(&places.dir);
    for (folder, mode) in [(service.parent().unwrap_or(service), 0o711), (service, 0o711)] {
        make_dir(folder, mode)?;
    }
    make_dir(&places.dir, 0o700)?;
    let (uid, gid) = owner.unzip();
    if proxy_group.is_some() || owner.is_some() {
        chown(&places.dir, uid, proxy_group.or(gid))?;
    }
    if proxy_group.is_some() {
        fs::set_permissions(&places.dir, fs::Permissions::from_mode(0o2710))?;
    }
    Ok(())
}

/// What a service keeps from run to run is its user's. One that is there as it should be is left alone: a change would wait for its
/// disk, and this is the loop.
fn make_state_folder(folder: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let found = match fs::metadata(folder) {
        Ok(found) if found.is_dir() => found,
        Ok(_) | Err(_) => {
            make_dir(folder, 0o700)?;
            fs::metadata(folder)?
        }
    };
    match owner {
        Some((uid, gid)) if (uid, gid) != (found.uid(), found.gid()) => chown(folder, Some(uid), Some(gid)),
        Some(_) | None => Ok(()),
    }
}

/// The children of a process, of all its threads. `None` when the kernel does not say (CONFIG_PROC_CHILDREN).
fn children(pid: u32) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(thread.path().join("children")).ok()?;
        all.extend(text.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Some(all)
}

/// Removes the socket that an earlier run made: bind(2) does not replace it.
fn remove_socket(accepts: &Accepts) {
    if let Accepts::Unix(path) = accepts {
        // It is not there before the first run.
        let _ = fs::remove_file(path);
    }
}

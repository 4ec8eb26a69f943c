//! What others tell the loop: the spawner, the proxy, and the watches for readiness.

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc, time::Instant};

use watt_api::mesh::{Endpoint, FromProxy, ListenerKind};
use watt_core::{
    RunId,
    worker::{Event, ExecFailure, State},
};
use watt_os::socket_file::SocketFile;
use watt_spawner::protocol::{Message, Request};

use crate::{
    adopt::is_of_worker,
    app::{App, Ending, PROXY},
    events::{happenings, lost},
    gateway,
    launch::Accepts,
    logs, proxy,
    proxy_link::LinkEvent,
    readiness,
    runs::Main,
    secret_command::Commands,
    start::HeldRun,
    status,
    tasks::TaskId,
};

/// Sockets made at a time when the proxy or a probe has none left in a run's network.
const SOCKETS_AT_A_TIME: u16 = 32;

/// How the exec stage calls a socket that is for the proxy.
const SOCKET: &str = "socket";

/// Sockets kept for the probes of a run, and made at a time for them.
pub(crate) const PROBE_SOCKETS: u16 = 8;

impl App {
    /// A message of the spawner.
    pub(crate) fn spawner_says(&mut self, message: Message, descriptors: Vec<OwnedFd>) {
        match message {
            Message::Spawned { run, pid } => self.spawned(run, pid, descriptors),
            Message::SpawnFailed { run, step, errno } => {
                self.start_failed(run, ExecFailure { step, object: String::new(), errno });
            }
            Message::Executed { run, names } => {
                let made = names.into_iter().zip(descriptors);
                match TaskId::of_run(RunId(run)) {
                    Some(task) => self.task_executed(task, made.filter(|(name, _)| name != SOCKET)),
                    None => self.executed(RunId(run), made),
                }
            }
            Message::ExecFailed { run, step, object, errno } if Commands::is_one(run) => {
                self.secret_commands.failed(run, ExecFailure { step, object, errno });
            }
            Message::ExecFailed { run, step, object, errno } if TaskId::of_run(RunId(run)).is_some() => {
                if let Some(task) = TaskId::of_run(RunId(run)) {
                    self.task_not_executed(task, ExecFailure { step, object, errno });
                }
            }
            Message::ExecFailed { run, step, object, errno } => {
                // Its exit follows, and tells `watt-core`.
                if let Some(run) = self.runs.get_mut(&RunId(run)) {
                    run.exec_failure = Some(ExecFailure { step, object, errno });
                } else {
                    tracing::error!("the mesh proxy cannot be started: {step} {object}: error {errno}");
                }
            }
            Message::Exited { run, exit } => self.exited(run, exit),
            Message::Followed { run, taken } => self.followed(RunId(run), taken),
            Message::Listener { name, address } => {
                if gateway::is_name(&name) {
                    if let Some(descriptor) = descriptors.into_iter().next() {
                        self.reload_bound(&name, Ok((address, descriptor)));
                    }
                } else if is_of_worker(&name) && !self.bound.contains_key(&name) {
                    self.bound(name, descriptors);
                }
            }
            Message::ListenFailed { name, errno } if self.reload_bound(&name, Err(errno)) => {}
            Message::ListenFailed { name, errno } => {
                let error = io::Error::from_raw_os_error(errno);
                tracing::warn!("cannot listen on {name}: {error}");
            }
            Message::Sockets { run, errno } => self.sockets(RunId(run), descriptors, errno),
            Message::Run { run, tag, pid, stage, exit, names } => {
                let held = HeldRun::new(run, tag, pid, stage, exit, names, descriptors);
                held.into_iter().for_each(|held| self.told_again(held));
            }
            // Of a list or a probe that was asked for before there was a loop, or of a list that was asked for again.
            Message::Info { .. }
            | Message::Kept { .. }
            | Message::Value { .. }
            | Message::ListEnd
            | Message::Probe { .. } => {}
            Message::Table => self.table_copied(descriptors.into_iter().next()),
            Message::UpgradeRefused { why } => self.upgrade_refused(why),
            Message::Settled => self.settled(),
        }
    }

    pub(crate) fn spawned(&mut self, run: u64, pid: u32, descriptors: Vec<OwnedFd>) {
        let Ok([pidfd, stdout, stderr]) = <[OwnedFd; 3]>::try_from(descriptors) else {
            return tracing::error!("the spawner sent a process without its descriptors");
        };
        let id = RunId(run);
        if run >= proxy::FIRST_RUN {
            self.proxy.spawned(run, Main::new(pid, pidfd));
            return self.attach(id, logs::Source::Proxy, None, stdout, stderr);
        }
        if let Some(task) = TaskId::of_run(id) {
            return self.task_spawned(task, pid, pidfd, [stdout, stderr]);
        }
        if Commands::is_one(run) {
            return self.secret_commands.spawned(run, Main::new(pid, pidfd), stdout, stderr);
        }
        let Some(known) = self.runs.get_mut(&id) else { return };
        known.spawned(pid, pidfd);
        let source = logs::Source::Worker(known.worker.clone());
        self.attach(id, source, None, stdout, stderr);
        self.watch_limits(id);
        self.unsettle();
    }

    /// No process could be started.
    fn start_failed(&mut self, run: u64, failure: ExecFailure) {
        if run >= proxy::FIRST_RUN {
            tracing::error!("the mesh proxy cannot be started: {}", failure.step);
            return self.proxy_ended(run, "it could not be started".to_owned());
        }
        if let Some(task) = TaskId::of_run(RunId(run)) {
            return self.task_failed(task, failure);
        }
        if Commands::is_one(run) {
            return self.secret_commands.not_started(run, failure);
        }
        let Some(worker) = self.runs.get(&RunId(run)).map(|run| run.worker.clone()) else { return };
        if failure.step == "pass" {
            // The spawner could not keep all of it, and would refuse the next start as well.
            self.forget_store(&worker);
        }
        self.exec_failed(&worker, RunId(run), failure);
    }

    /// The program runs. Its listeners go to the proxy, and it is watched from now on.
    pub(crate) fn executed(&mut self, id: RunId, descriptors: impl Iterator<Item = (String, OwnedFd)>) {
        // Of one whose descriptors were lost, the list tells this once more.
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.main.is_some()) else { return };
        watt_fault::step("daemon.executed");
        let worker = run.worker.clone();
        let mut sockets = Vec::new();
        for (name, descriptor) in descriptors {
            match name.as_str() {
                SOCKET => sockets.push(descriptor),
                _ => drop(run.descriptors.insert(name, Arc::new(descriptor))),
            }
        }
        self.give_listeners(id);
        self.push(worker, Event::Executed(id));
        self.watch(id, &mut sockets);
        if !sockets.is_empty() {
            self.proxy_link.give_sockets(id, sockets);
        }
    }

    /// Has the proxy serve what the exec stage made in a private network.
    pub(crate) fn give_listeners(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let caller = run.worker.service.to_string();
        for (name, descriptor) in &run.descriptors {
            let Some((kind, label)) = listener_kind(name, &caller) else { continue };
            let listener = format!("{label}/{id}");
            self.proxy_link.add_listener(listener.clone(), kind, Arc::clone(descriptor));
            run.listeners.push(listener);
        }
    }

    /// A socket of a worker is bound.
    fn bound(&mut self, name: String, descriptors: Vec<OwnedFd>) {
        let Some(socket) = descriptors.into_iter().next() else { return };
        if name.starts_with("notify/")
            && let Err(error) = readiness::notify::ask_for_senders(&socket)
        {
            tracing::warn!("{name} cannot be made ready: {error}");
        }
        self.adopt_bound(name, socket);
    }

    /// Puts a worker's socket to its use. A notify socket is left as it is: what waits in it may be the `READY=1` of a
    /// run that said so while there was no daemon.
    pub(crate) fn adopt_bound(&mut self, name: String, socket: OwnedFd) {
        let socket = Arc::new(socket);
        let Some((kind, rest)) = name.split_once('/') else { return };
        // The others are read by the watch of a run, or are the worker's own, which the spawner passes to the program.
        if kind == "mesh" {
            let caller = rest.split('/').next().unwrap_or_default().to_owned();
            let kind = ListenerKind::MeshUnix { caller };
            // Another name each time: one that comes back is told apart from the one that went before.
            self.bindings += 1;
            let listener = format!("mesh-unix/{rest}/{}", self.bindings);
            self.proxy_link.add_listener(listener.clone(), kind, Arc::clone(&socket));
            self.mesh_listeners.insert(name.clone(), listener);
        }
        self.bound.insert(name, socket);
    }

    /// Sockets that were made in a run's network, as many as its probes or the proxy have asked for.
    fn sockets(&mut self, id: RunId, sockets: Vec<OwnedFd>, errno: i32) {
        if sockets.is_empty() {
            let error = io::Error::from_raw_os_error(errno);
            return tracing::warn!("no sockets can be made in the network of run {id}: {error}");
        }
        let Some(run) = self.runs.get(&id) else { return };
        if sockets.len() > usize::from(PROBE_SOCKETS) {
            return self.proxy_link.give_sockets(id, sockets);
        }
        for socket in sockets {
            // What there is no room for is closed.
            let _ = run.probe_sockets.as_ref().map(|probes| probes.try_send(socket));
        }
    }

    fn need_sockets(&mut self, run: RunId, count: u16) {
        if self.runs.contains_key(&run) {
            self.link.request(Request::MakeSockets { run: run.0, count }, Vec::new());
        }
    }

    /// News of a watched run.
    pub(crate) fn readiness_says(&mut self, news: readiness::News) {
        match news {
            readiness::News::Ready { run, endpoint } => {
                watt_fault::step("daemon.ready");
                self.accepts_at(run, endpoint);
                self.push_of(run, Event::Ready(run));
            }
            readiness::News::Endpoint { run, endpoint } => self.accepts_at(run, Some(endpoint)),
            readiness::News::Started { run } => self.push_of(run, Event::Started(run)),
            readiness::News::Extend { run, time } => self.push_of(run, Event::Extend(run, time)),
            readiness::News::Healthy { run } => self.push_of(run, Event::Healthy(run)),
            readiness::News::Unready { run, why } => {
                self.check_failed(run, "ready", why);
                self.push_of(run, Event::Unready(run));
            }
            readiness::News::Unhealthy { run, complaint, why } => {
                self.check_failed(run, "health", why);
                self.push_of(run, Event::Unhealthy(run, complaint));
            }
            readiness::News::Main { run, named } => self.main_named(run, named),
            readiness::News::Heard(reply) => reply.done(),
            readiness::News::HeardOut { run } => self.heard_out(run),
            readiness::News::Store(asked) => self.store_asked(*asked),
            readiness::News::Check(ask) => self.begin_check(*ask),
            readiness::News::NeedSockets { run } => self.need_sockets(run, PROBE_SOCKETS),
            readiness::News::Said { run, said } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.said = said;
                }
                self.note_run(run);
                self.unsettle();
            }
        }
    }

    /// An event of a run that is known.
    pub(crate) fn push_of(&mut self, run: RunId, event: Event) {
        if let Some(worker) = self.runs.get(&run).map(|run| run.worker.clone()) {
            self.push(worker, event);
        }
    }

    /// Tells what was seen of a worker that is not ready or not healthy any more, unless it is on its way out.
    fn check_failed(&mut self, id: RunId, check: &'static str, text: String) {
        let Some(worker) = self.runs.get(&id).map(|run| run.worker.clone()) else { return };
        let is_news = match self.fleet.worker(&worker).map(|worker| &worker.state) {
            Some(State::Ready { run, .. }) => *run == id,
            Some(State::Unready { run, .. }) => *run == id && check == "health",
            _ => false,
        };
        if !is_news {
            return;
        }
        self.events.emit(happenings::CheckFailed { worker, run: id, check, text });
    }

    /// It is known where a run accepts: for the proxy, and for a successor.
    fn accepts_at(&mut self, id: RunId, endpoint: Option<Endpoint>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Some(endpoint) = endpoint else { return };
        if let (Endpoint::Unix { path }, Accepts::Unix(_), Some(_)) =
            (&endpoint, &run.accepts, self.host.proxy_group)
            && let Err(error) = open_to_group(path)
        {
            tracing::warn!("the mesh proxy cannot be let into {}: {error}", path.display());
        }
        run.endpoint = Some(endpoint);
        if run.has_own_port() {
            self.fleet.set_alone(&run.worker.service, true);
        }
        self.note_run(id);
        self.unsettle();
    }

    /// Keeps what a successor has to know of a run.
    pub(crate) fn note_run(&mut self, id: RunId) {
        if let Some(tag) = self.runs.get(&id).and_then(|run| serde_json::to_vec(&run.note()).ok()) {
            self.link.request(Request::Tag { run: id.0, tag }, Vec::new());
        }
    }

    /// News of the link to the proxy.
    pub(crate) fn proxy_says(&mut self, program: u64, news: LinkEvent) {
        let drained = self.proxy_link.hear(program, &news);
        match news {
            LinkEvent::Connected => tracing::info!("connected to the mesh proxy"),
            LinkEvent::Lost { error } => {
                self.autoscale.proxy_lost();
                tracing::info!(
                    error = error.map(|error| error.to_string()),
                    "the connection to the mesh proxy ended"
                );
            }
            LinkEvent::Message(FromProxy::Applied { version }) => {
                tracing::debug!(version, "snapshot applied");
                self.upgrade_step();
            }
            LinkEvent::Message(FromProxy::Hello { version, format }) => {
                tracing::debug!(version, format, "the mesh proxy says hello");
            }
            LinkEvent::Message(FromProxy::Drained { .. }) => {
                drained.into_iter().for_each(|run| self.push_of(run, Event::Drained(run)));
            }
            LinkEvent::Message(FromProxy::NeedSockets { run }) => {
                self.need_sockets(RunId(run), SOCKETS_AT_A_TIME)
            }
            LinkEvent::Message(FromProxy::Counts { troubles, .. }) => {
                self.counts = self.proxy_link.counts();
                for trouble in troubles {
                    let run = trouble.run.and_then(|run| self.runs.get(&RunId(run)));
                    self.events.tell_trouble(trouble, run.map(|run| run.worker.index));
                }
            }
            LinkEvent::Message(FromProxy::Wanted { service }) => self.wanted(&service),
            LinkEvent::Message(FromProxy::Work { services }) => {
                // What another one still has to do is on its way out.
                if self.proxy_link.serves_newcomers(program) {
                    self.autoscale.proxy_measured(Instant::now(), services);
                }
            }
            LinkEvent::Message(FromProxy::Refused { caller, target, reason }) => {
                self.events.emit(happenings::CallRefused { caller, target, reason });
            }
            LinkEvent::Message(FromProxy::Lost { service, run, method, path, reason }) => {
                let worker = self.runs.get(&RunId(run)).map(|run| run.worker.clone());
                self.events.emit(lost::RequestLost { service, run, worker, method, path, reason });
            }
            LinkEvent::Message(FromProxy::EgressRefused { caller, target, reason, allow }) => {
                self.events.emit(happenings::EgressRefused { caller, target, reason, allow });
            }
            // Those who ask get them.
            LinkEvent::Message(FromProxy::Edges { .. }) => {}
            LinkEvent::Message(FromProxy::CachePurged { number, removed }) => {
                self.cache_purged(number, removed)
            }
            LinkEvent::Message(FromProxy::Outside { service, .. }) => {
                let destinations = self.proxy_link.outside(&service);
                self.outside.insert(service, destinations);
            }
        }
    }

    /// The proxy's process has gone. Of one that is not the present one that is no news.
    pub(crate) fn proxy_ended(&mut self, run: u64, exit: String) {
        if self.ending == Ending::Over {
            return;
        }
        if !self.proxy.ended(Instant::now(), run) {
            return;
        }
        self.proxy_link.own_ended();
        self.tried_proxy_ended(&exit);
        self.events.emit(happenings::ProxyReplaced { exit, restarts: self.proxy.record().restarts });
        if let Ok(record) = serde_json::to_vec(&self.proxy.record()) {
            self.put(PROXY, record);
        }
        self.revive_proxy();
    }

    /// A process has ended. Says whether it was the proxy of another program, which has left.
    pub(crate) fn other_proxy_ended(&mut self, run: u64) -> bool {
        let Some((program, drained)) = self.proxy_link.other_ended(run) else { return false };
        self.link.request(Request::Unlisten { name: proxy::listener(program) }, Vec::new());
        self.forgettable.push(RunId(run));
        self.counts = self.proxy_link.counts();
        drained.into_iter().for_each(|run| self.push_of(run, Event::Drained(run)));
        self.upgrade_step();
        true
    }

    /// Starts the proxy when it is time to.
    pub(crate) fn revive_proxy(&mut self) {
        if self.proxy.is_wanted(Instant::now()) {
            self.start_proxy();
        }
    }

    /// Asks for a proxy.
    pub(crate) fn start_proxy(&mut self) {
        let run = self.proxy.starting(Instant::now());
        let plan = proxy::launch(&self.plan.name, self.threads, &self.host, &self.in_force.sources.env);
        let task =
            postcard::to_stdvec(&watt_exec::plan::Task::Launch(Box::new(plan))).map_err(io::Error::other);
        let task = match task.and_then(|task| watt_os::memfd::sealed(c"watt-launch", &task)) {
            Ok(task) => task,
            Err(error) => {
                tracing::error!("the mesh proxy cannot be started: {error}");
                self.proxy.ended(Instant::now(), run);
                return;
            }
        };
        let (program, path) = (self.upgrades.program, self.upgrades.path.clone());
        let of = crate::record::RunOf::Proxy { program, path };
        let note = crate::record::RunNote { of, started_at_ms: status::now_ms() };
        let request = Request::Spawn {
            run,
            tag: serde_json::to_vec(&note).unwrap_or_default(),
            cgroup: false,
            handed: 0,
            pid_namespace: false,
            user_namespace: false,
            pass: vec![proxy::listener(program), watt_spawner::protocol::PROGRAM.to_owned()],
        };
        self.link.request(request, vec![task]);
    }
}

/// What comes in at a listener that the exec stage made, and how it is called at the proxy.
pub(crate) fn listener_kind(name: &str, caller: &str) -> Option<(ListenerKind, String)> {
    let caller = caller.to_owned();
    let kind = match name {
        "mesh" => ListenerKind::Mesh { caller },
        "egress" => ListenerKind::Egress { caller },
        "dns_udp" => ListenerKind::DnsUdp { caller },
        "dns_tcp" => ListenerKind::DnsTcp { caller },
        other => match other.split_once(':')? {
            // Where nothing can be redirected, one for each port. The proxy asks the connection where it was to go.
            ("egress", _) => ListenerKind::Egress { caller },
            ("host_port", port) => ListenerKind::HostPort { caller, port: port.parse().ok()? },
            _ => return None,
        },
    };
    Some((kind, name.replace(':', "/")))
}

/// Lets the proxy, which has its group, connect to a socket that a program made. Connecting takes the right to write
/// (unix(7)), which most umasks take away.
fn open_to_group(path: &Path) -> io::Result<()> {
    let socket = SocketFile::open(path)?;
    socket.set_mode(socket.mode()? | 0o060)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_called_by_what_comes_in_there() {
        let check = |name, expected: Option<(ListenerKind, &str)>| {
            let expected = expected.map(|(kind, label)| (kind, label.to_owned()));
            assert_eq!(listener_kind(name, "api"), expected, "{name}");
        };
        let caller = || "api".to_owned();
        check("mesh", Some((ListenerKind::Mesh { caller: caller() }, "mesh")));
        check(
            "host_port:5432",
            Some((ListenerKind::HostPort { caller: caller(), port: 5432 }, "host_port/5432")),
        );
        check("egress", Some((ListenerKind::Egress { caller: caller() }, "egress")));
        check("egress:443", Some((ListenerKind::Egress { caller: caller() }, "egress/443")));
        check("host_port:x", None);
        check("diag", None);
        check("netns", None);
    }
}

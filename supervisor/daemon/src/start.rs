//! From a spawner and a configuration to a running loop: what a first daemon makes, and what a successor finds.
//!
//! Every step finds what an earlier daemon had already done (a listener that is bound, a cgroup that is there), so
//! that a daemon which is killed in the middle of its start is continued by the next one.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    ops::ControlFlow,
    os::{fd::OwnedFd, unix::process::parent_id},
    path::PathBuf,
    sync::Arc,
};

use watt_config::Sources;
use watt_core::{
    AppName,
    plan::{Listener, Plan},
};
use watt_exec::plan::Probe;
use watt_spawner::{
    format::{FORMAT, readable},
    protocol::{Address, Message, Request, Stage, WaitStatus},
};

use crate::{
    addresses,
    cgroups::Cgroups,
    control::Roles,
    doctor,
    gateway::{self, Binding, Place},
    host_probe,
    in_force::{InForce, PLAN},
    launch::Host,
    life::Life,
    name_files,
    places::Places,
    proxy,
    settings::{Settings, StartError},
    spawner_link::{News, SpawnerLink},
    tls,
    upgrade::FORM,
    words,
};

/// What the host allows, found out once.
const PROBE: &str = "probe";

/// Everything the loop begins with, besides its connection and what that holds.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) in_force: InForce,
    pub(crate) plan: Plan,
    pub(crate) places: Places,
    pub(crate) life: Life,
    pub(crate) host: Host,
    pub(crate) probe: Option<Probe>,
    pub(crate) cgroups: Cgroups,
    pub(crate) warnings: Vec<String>,
    pub(crate) listeners: Listeners,
    pub(crate) roles: Roles,
    /// Whether names of services could not be written.
    pub(crate) are_names_behind: bool,
}

/// The application's own listeners.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) control: OwnedFd,
    /// Where the proxy gets what was counted.
    pub(crate) metrics: OwnedFd,
    /// Operators' calls into the mesh.
    pub(crate) mesh: Arc<OwnedFd>,
    /// Those for clients.
    pub(crate) gateway: Vec<Binding>,
    /// The names' address on the host's network, where it can be bound.
    pub(crate) mesh_host: Option<Arc<OwnedFd>>,
    /// That address.
    pub(crate) mesh_host_address: Option<Ipv4Addr>,
    /// How many threads the proxy has.
    pub(crate) threads: usize,
}

/// What the spawner holds: everything a predecessor left, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) daemon_restarts: u64,
    pub(crate) started_at_ms: u64,
    /// Whether a service manager wants to know how it goes.
    pub(crate) managed: bool,
    /// The program that spawner and daemon are: its number, where it was found, whether it took over and has to show that all is well.
    pub(crate) program: u64,
    pub(crate) path: String,
    pub(crate) trial: bool,
    /// Why the last upgrade came to nothing.
    pub(crate) went_back: Option<String>,
    pub(crate) runs: Vec<HeldRun>,
    pub(crate) listeners: BTreeMap<String, (Address, OwnedFd)>,
    pub(crate) values: Vec<(String, Vec<u8>)>,
    pub(crate) kept: BTreeMap<String, OwnedFd>,
}

/// A run as the spawner tells it.
#[derive(Debug)]
pub(crate) struct HeldRun {
    pub(crate) run: u64,
    pub(crate) tag: Vec<u8>,
    pub(crate) pid: u32,
    pub(crate) stage: Stage,
    pub(crate) exit: Option<WaitStatus>,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) descriptors: Vec<(String, OwnedFd)>,
}

impl HeldRun {
    /// From the message of this name. `None` without the descriptors that belong to it.
    pub(crate) fn new(
        run: u64,
        tag: Vec<u8>,
        pid: u32,
        stage: Stage,
        exit: Option<WaitStatus>,
        names: Vec<String>,
        descriptors: Vec<OwnedFd>,
    ) -> Option<HeldRun> {
        let mut descriptors = descriptors.into_iter();
        let (pidfd, stdout, stderr) = (descriptors.next()?, descriptors.next()?, descriptors.next()?);
        let descriptors = names.into_iter().zip(descriptors).collect();
        Some(HeldRun { run, tag, pid, stage, exit, pidfd, stdout, stderr, descriptors })
    }
}

impl Held {
    /// Whether an earlier daemon had come so far that its configuration is in force.
    pub(crate) fn has_predecessor(&self) -> bool {
        self.kept.contains_key(PLAN)
    }

    /// A kept value.
    pub(crate) fn value(&self, key: &str) -> Option<&[u8]> {
        self.values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_slice())
    }
}

/// Does everything up to the first event. Cgroups come late, so that a start which fails before, for a reason that
/// the user can do something about, leaves none.
pub(crate) async fn start(
    settings: &Settings,
    places: &Places,
    connection: &mut Connection,
    held: &Held,
) -> Result<Start, StartError> {
    let uid = own_uid();
    places.create(uid)?;
    let app = AppName::new(&settings.app).map_err(StartError::Name)?;
    check_form(held)?;
    let (mut in_force, plan) = configuration(settings, &app, held)?;
    places.check(&plan)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if !held.has_predecessor() {
        remove_stale(places);
        in_force.listeners = gateway::first_numbers(&plan, &held.listeners, threads);
        in_force.last_listener = in_force.listeners.values().copied().max().unwrap_or(0);
        let sealed = in_force.sealed();
        let sealed =
            sealed.map_err(|source| StartError::Runtime { what: "keep the configuration", source })?;
        connection.keep(PLAN, sealed);
        connection.put(FORM, FORMAT.to_string().into_bytes());
    }
    let roles = Roles::of_plan(&plan, uid);
    let mut warnings = watt_config::warnings(&in_force.sources);
    warnings.extend(roles.unknown().iter().cloned());
    let listeners =
        connection.listeners(places, &plan, &roles, (&in_force, threads), held, &mut warnings).await?;
    let mut probe = connection.probe(held).await?;
    if let Some(probe) = &mut probe {
        host_probe::switch_off(probe, &in_force.sources.env);
    }
    let mut host = host_probe::host(probe.as_ref(), &app, uid);
    let names = name_files::write(places, &in_force, host.redirect, listeners.mesh_host_address);
    let are_names_behind = names.is_err();
    match names {
        // What runs has those that were written before.
        Err(error) if held.has_predecessor() => tracing::error!("{}", crate::words::chain(&error)),
        written => written?,
    }

    let mut cgroups = Cgroups::prepare(&app, places, &[parent_id(), std::process::id()]);
    host.pids_by_rlimit = cgroups.found().lack_pids()
        && host_probe::counts_processes(host.user_namespace, host.bind_files, &doctor::kernel());
    cgroups.pids_by_rlimit(host.pids_by_rlimit);
    let life =
        Life::current().map_err(|source| StartError::Runtime { what: "look at the spawner", source })?;
    if held.runs.is_empty() {
        cgroups.remove_leftovers().await;
        // Without a cgroup, what escaped from a run when the spawner was killed is known by its environment alone.
        if let Some(earlier) = Life::read(&places.info()).filter(|earlier| *earlier != life) {
            earlier.end_leftovers().await;
        }
    }
    if !held.has_predecessor() {
        let unenforced = cgroups.limit_application(&plan.limits);
        warnings.extend(unenforced.into_iter().map(|line| format!("{OF_APPLICATION}{line}")));
    }
    warnings.extend(doctor::warnings(probe.as_ref(), cgroups.found().clone(), &plan));
    let places = places.clone();
    Ok(Start {
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
    })
}

/// Begins a warning about the ceiling of all services.
pub(crate) const OF_APPLICATION: &str = "limits of the application: ";

/// The configuration an earlier daemon kept, else the files'. Where each value came from is not kept: for a thousand
/// services that takes 8 MB, and the text tells it again when somebody asks.
fn configuration(settings: &Settings, app: &AppName, held: &Held) -> Result<(InForce, Plan), StartError> {
    let mut in_force = match held.kept.get(PLAN).and_then(InForce::read) {
        Some(in_force) => in_force,
        None => {
            // Variables that are not UTF-8 cannot be written in a configuration either.
            let env = std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
            let sources = Sources::read(&settings.file, env.collect());
            let mut in_force = InForce::new(sources.map_err(StartError::Config)?);
            let plan = in_force.plan(app).map_err(StartError::Config)?;
            tls::read_at_start(Arc::make_mut(&mut in_force.sources), &plan).map_err(StartError::Config)?;
            in_force
        }
    };
    let plan = in_force.plan(app).map_err(StartError::Config)?;
    in_force.address(&plan);
    Ok((in_force, plan))
}

/// Whether what is kept is of a form that this version reads. A program that does not is not asked to take over, so that this is for what
/// nobody thought of.
fn check_form(held: &Held) -> Result<(), StartError> {
    let form = held.value(FORM).and_then(|value| str::from_utf8(value).ok()?.parse().ok());
    match form {
        Some(found) if !readable().contains(&found) => Err(StartError::Form { found }),
        Some(_) | None => Ok(()),
    }
}

/// Removes what a killed spawner left in the runtime folder. Sockets that are bound anew are unlinked by that.
fn remove_stale(places: &Places) {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(
                "what an earlier start left in {} cannot be removed: {error}",
                places.runtime.display()
            );
        }
        Ok(()) | Err(_) => {}
    };
    gone(watt_os::remove::tree(&places.workers()));
    gone(watt_os::remove::tree(&places.credentials()));
    gone(fs::remove_file(places.error()));
}

/// The effective user: the owner of our own folder in /proc (proc(5)).
pub(crate) fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").map_or(u32::MAX, |own| own.uid())
}

/// The connection to the spawner. Before there is a loop, questions are asked one by one, and other news wait.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) link: SpawnerLink,
    /// News that came while something else was waited for, in order.
    pub(crate) backlog: VecDeque<News>,
}

impl Connection {
    pub(crate) fn new(link: SpawnerLink) -> Connection {
        Connection { link, backlog: VecDeque::new() }
    }

    /// Everything the spawner holds.
    pub(crate) async fn list(&mut self) -> Result<Held, StartError> {
        self.link.request(Request::List, Vec::new());
        let mut held = Held::default();
        loop {
            let doing = "asking for what it holds";
            let news = self.link.next().await.map_err(|source| StartError::Spawner { doing, source })?;
            let Some(news) = news else { continue };
            match held.take(news) {
                Listed::Part => {}
                Listed::End => return Ok(held),
                Listed::Other(news) => self.backlog.push_back(news),
            }
        }
    }

    /// Tells a service manager why there will be nothing, and leaves nothing. Whoever typed `up` finds the reason in a file there.
    pub(crate) fn refuse(&mut self, error: &StartError, places: &Places, held: &Held) {
        if !held.managed || held.has_predecessor() {
            return;
        }
        let errno = words::errno(error).map(|errno| format!("\nERRNO={errno}")).unwrap_or_default();
        let reason = words::chain(error).replace('\n', " ");
        self.link.request(Request::Notify { text: format!("STATUS={reason}{errno}") }, Vec::new());
        // Where an earlier life was killed, the next start needs what that one noted.
        let runtime = Some(places.runtime.clone()).filter(|_| !places.info().exists());
        let exit = Request::Exit {
            status: watt_spawner::DAEMON_REFUSED,
            join_cgroups: Vec::new(),
            remove: runtime.into_iter().collect(),
            remove_if_empty: Vec::new(),
        };
        self.link.request(exit, Vec::new());
    }

    /// Waits for the message that `pick` breaks with. What it gives back waits for the loop.
    async fn wait<T>(
        &mut self,
        doing: &'static str,
        mut pick: impl FnMut(News) -> ControlFlow<T, News>,
    ) -> Result<T, StartError> {
        loop {
            let news = self.link.next().await.map_err(|source| StartError::Spawner { doing, source })?;
            let Some(news) = news else { continue };
            match pick(news) {
                ControlFlow::Break(answer) => return Ok(answer),
                ControlFlow::Continue(news) => self.backlog.push_back(news),
            }
        }
    }

    fn put(&mut self, key: &str, value: Vec<u8>) {
        self.link.request(Request::Put { key: key.to_owned(), value }, Vec::new());
    }

    fn keep(&mut self, name: &str, descriptor: OwnedFd) {
        self.link.request(Request::Keep { name: name.to_owned() }, vec![descriptor]);
    }

    /// What the host allows: as an earlier daemon found out, else by trying.
    async fn probe(&mut self, held: &Held) -> Result<Option<Probe>, StartError> {
        if let Some(bytes) = held.value(PROBE) {
            return Ok(postcard::from_bytes(bytes).ok());
        }
        self.link.request(Request::Probe, Vec::new());
        let probe = self.wait("asking what the host allows", |news| match news {
            (Message::Probe { probe }, _) => ControlFlow::Break(probe),
            other => ControlFlow::Continue(other),
        });
        let bytes = probe.await?;
        let probe = postcard::from_bytes(&bytes).ok();
        self.link.request(Request::Put { key: PROBE.to_owned(), value: bytes }, Vec::new());
        Ok(probe)
    }

    /// Binds a listener, or gets the one that is bound.
    async fn listen(&mut self, name: &str, address: Address) -> Result<(Address, OwnedFd), io::Error> {
        self.link.request(Request::Listen { name: name.to_owned(), address }, Vec::new());
        let answer = self.wait("binding a listener", |(message, mut descriptors)| match message {
            Message::Listener { name: of, address } if of == name => match descriptors.pop() {
                Some(descriptor) => ControlFlow::Break(Ok((address, descriptor))),
                None => ControlFlow::Break(Err(io::ErrorKind::InvalidData.into())),
            },
            Message::ListenFailed { name: of, errno } if of == name => {
                ControlFlow::Break(Err(io::Error::from_raw_os_error(errno)))
            }
            other => ControlFlow::Continue((other, descriptors)),
        });
        answer.await.map_err(io::Error::other)?
    }

    async fn listeners(
        &mut self,
        places: &Places,
        plan: &Plan,
        roles: &Roles,
        (in_force, threads): (&InForce, usize),
        held: &Held,
        warnings: &mut Vec<String>,
    ) -> Result<Listeners, StartError> {
        // First what most probably fails, and what the user can do something about.
        let gateway = self.gateway(plan, in_force, held, threads).await?;
        let control = self.unix("control.sock", places.control_socket(), roles.socket_mode()).await?;
        let metrics = self.unix("metrics.sock", places.metrics_socket(), 0o600).await?;
        // Held for the proxy; it is reached by its path.
        drop(self.unix(&proxy::listener(held.program), places.proxy_socket(held.program), 0o600).await?);
        let mesh = self.unix("mesh.sock", places.mesh_socket(), 0o600).await?.into();
        let (mesh_host_address, mesh_host) = self.mesh_host(places, plan, warnings).await.unzip();
        Ok(Listeners { control, metrics, mesh, gateway, mesh_host, mesh_host_address, threads })
    }

    async fn unix(&mut self, name: &str, path: PathBuf, mode: u32) -> Result<OwnedFd, StartError> {
        let what = path.display().to_string();
        let bound = self.listen(name, Address::Unix { path, mode, owner: None }).await;
        bound.map(|(_, descriptor)| descriptor).map_err(|source| StartError::Listen { what, source })
    }

    /// Those that are there and fit, and new ones for the rest. A service manager keeps them while the unit is restarted.
    async fn gateway(
        &mut self,
        plan: &Plan,
        in_force: &InForce,
        held: &Held,
        threads: usize,
    ) -> Result<Vec<Binding>, StartError> {
        let number = |name: &str| in_force.listeners.get(name).copied().unwrap_or(0);
        let fitting = |(name, listener): (&str, &Listener)| {
            gateway::fitting(&listener.at, number(name), &held.listeners, threads)
        };
        let kept: BTreeMap<String, Place> = gateway::in_order(plan).flat_map(fitting).collect();
        for name in gateway::unwanted(&held.listeners, &kept) {
            self.link.request(Request::Unlisten { name: name.clone() }, Vec::new());
        }
        let mut bound = Vec::new();
        for (name, listener) in gateway::in_order(plan) {
            let found = fitting((name, listener)).into_values().next();
            let owner = match &found {
                // One that is held has its owner: a name service that does not answer now is no reason not to start.
                Some(_) => None,
                None => gateway::owner(name, listener)?,
            };
            let mut binding = Binding::new(name, number(name), &listener.at, owner, threads);
            match found {
                Some(place) => binding.goes_on_at(&place),
                // Those that were just given back may not be closed yet.
                None => {
                    let own = gateway::inodes(held.listeners.values().map(|(_, socket)| socket));
                    gateway::check_free(name, listener, &own)?;
                }
            }
            self.bind(&mut binding).await?;
            bound.push(binding);
        }
        Ok(bound)
    }

    /// Binds what a listener lacks, or gets what is bound.
    async fn bind(&mut self, binding: &mut Binding) -> Result<(), StartError> {
        while let Some((name, wanted)) = binding.next() {
            let is_tcp = matches!(wanted, Address::Tcp { .. });
            let bound = self.listen(&name, wanted).await.map_err(|error| binding.refused(&error))?;
            if is_tcp {
                self.link.request(Request::Store { name }, Vec::new());
            }
            let (address, descriptor) = bound;
            binding.took(address, descriptor);
        }
        Ok(())
    }

    /// Port 80 of the application's own loopback address, for services on the host's network. An ordinary user may
    /// not bind it on most hosts, and those services call by `$WATT_MESH_SOCKET`.
    async fn mesh_host(
        &mut self,
        places: &Places,
        plan: &Plan,
        warnings: &mut Vec<String>,
    ) -> Option<(Ipv4Addr, Arc<OwnedFd>)> {
        let mut refusal = None;
        for address in addresses::of_app(&plan.name, &places.runtime) {
            let wanted = Address::Tcp { address: SocketAddr::new(address.into(), 80), reuse_port: false };
            match self.listen(proxy::MESH_HOST, wanted).await {
                Ok((Address::Tcp { address: SocketAddr::V4(bound), .. }, descriptor)) => {
                    return Some((*bound.ip(), Arc::new(descriptor)));
                }
                // Another application has it.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => refusal = Some((address, error)),
                Err(error) => {
                    refusal = Some((address, error));
                    break;
                }
                Ok(_) => {}
            }
        }
        // That an ordinary user may not is known beforehand and told with what the host does not offer.
        if let Some((address, error)) =
            refusal.filter(|(_, error)| error.kind() != io::ErrorKind::PermissionDenied)
            && plan.services.values().any(|service| service.network == watt_core::plan::Network::Host)
        {
            warnings.push(format!(
                "services on the host's network reach the mesh by $WATT_MESH_SOCKET alone: cannot listen on \
                 {address}:80: {error}"
            ));
        }
        None
    }
}

/// What a message was to the list.
enum Listed {
    Part,
    End,
    /// It is none of the list.
    Other(News),
}

impl Held {
    fn take(&mut self, (message, descriptors): News) -> Listed {
        match message {
            Message::ListEnd => return Listed::End,
            Message::Info { daemon_restarts, started_at_ms, managed, program, path, trial, went_back } => {
                (self.daemon_restarts, self.started_at_ms, self.managed) =
                    (daemon_restarts, started_at_ms, managed);
                (self.program, self.path, self.trial, self.went_back) = (program, path, trial, went_back);
            }
            Message::Run { run, tag, pid, stage, exit, names } => {
                self.runs.extend(HeldRun::new(run, tag, pid, stage, exit, names, descriptors));
            }
            Message::Listener { name, address } => {
                let descriptor = descriptors.into_iter().next();
                self.listeners.extend(descriptor.map(|descriptor| (name, (address, descriptor))));
            }
            Message::Value { key, value } => self.values.push((key, value)),
            Message::Kept { name } => {
                self.kept.extend(descriptors.into_iter().next().map(|descriptor| (name, descriptor)));
            }
            other @ (Message::Spawned { .. }
            | Message::SpawnFailed { .. }
            | Message::Executed { .. }
            | Message::ExecFailed { .. }
            | Message::Exited { .. }
            | Message::Followed { .. }
            | Message::Sockets { .. }
            | Message::Probe { .. }
            | Message::Table
            | Message::UpgradeRefused { .. }
            | Message::Settled
            | Message::ListenFailed { .. }) => return Listed::Other((other, descriptors)),
        }
        Listed::Part
    }
}

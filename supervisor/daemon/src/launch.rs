//! From the plan to one process: the complete description of a worker's program for the exec stage. Pure: the
//! same plan, host and port give the same launch, whatever the supervisor has in its own environment.

pub(crate) mod accounts;
mod environment;
mod in_force;
mod mounts;
mod rlimits;
mod sandbox;
mod scheduling;

use std::{collections::BTreeMap, path::PathBuf};

use watt_core::{
    plan::{Listen, Network, Plan, ReadyWhen, Service},
    worker::ExecFailure,
};
use watt_exec::plan::{LaunchPlan, PrivateNetwork};
use watt_spawner::protocol::Address;

use self::accounts::{Accounts, Unknown};
pub use self::sandbox::Abilities;
use self::sandbox::Walls;
pub(crate) use self::{
    in_force::{in_force, missing},
    sandbox::LANDLOCK_WITH_SCOPES,
    scheduling::SLICE_NS,
};

use crate::{
    life,
    places::{Places, WorkerPlaces},
    seat::Seat,
    secrets::CREDENTIALS_DIRECTORY,
};

/// The port a program gets in a network of its own when its configuration names none.
const PRIVATE_PORT: u16 = 8080;

/// Connections to a private worker need sockets made in its network; this many are made with it, and more when
/// the proxy asks.
const SOCKETS_AT_START: u16 = 16;

/// Ends a worker when the spawner dies: without its parent nobody would ever see its exit.
const SIGKILL: i32 = 9;

/// The operation is not supported: what a `required` sandbox that the host cannot do fails with.
const EOPNOTSUPP: i32 = 95;

/// What this host and this user allow for workers, found out once at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// We may ask for what only root may.
    pub is_root: bool,
    /// Namespaces need a user namespace around them: we are not root.
    pub user_namespace: bool,
    /// Workers can have a network of their own.
    pub private_network: bool,
    /// Packets can be redirected there with nftables.
    pub redirect: bool,
    /// Files can be bound over others for a worker alone, and folders hidden from it.
    pub bind_files: bool,
    /// Those of `/etc/hosts`, `/etc/resolv.conf`, `/etc/nsswitch.conf` that the host has: only what exists can be
    /// bound over.
    pub name_files: Vec<PathBuf>,
    /// A supervisor that is spared by the OOM killer must not pass this on: the adjustment for workers.
    pub oom_score_adj: Option<i32>,
    /// Group of the proxy's process, when it is not our own.
    pub proxy_group: Option<u32>,
    /// No cgroup bounds how many processes a worker has, but the kernel counts them in the user namespace that each has.
    pub pids_by_rlimit: bool,
    /// Which walls can be put around a worker.
    pub walls: Abilities,
}

/// Everything needed to start one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// For the exec stage.
    pub plan: LaunchPlan,
    /// Sockets the spawner has to bind before, by name.
    pub listeners: Vec<(String, Address)>,
    /// Names of those that are passed to the program, in order.
    pub pass: Vec<String>,
    /// How the worker will accept.
    pub accepts: Accepts,
    /// The user and group of its folders, when it is not the supervisor's.
    pub owner: Option<(u32, u32)>,
    /// Where it finds its secrets, when it gets any.
    pub credentials: Option<PathBuf>,
}

/// How a started worker is expected to accept connections: the plan's [`Listen`] with everything chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepts {
    /// On this Unix socket, which the program makes.
    Unix(PathBuf),
    /// On this Unix socket, which it inherited.
    Inherited(PathBuf),
    /// On this TCP port of its network.
    Port(u16),
    /// Wherever the kernel shows it listening. It was told this port.
    Found(u16),
    /// Nowhere.
    Nowhere,
}

/// The network a service gets on this host: what it asks for, as far as the host can.
pub fn network(service: &Service, host: &Host) -> Network {
    match service.network {
        Network::Private if host.private_network => Network::Private,
        Network::Private | Network::Host => Network::Host,
    }
}

/// Whether the worker needs a port of the host that nobody else has.
pub fn needs_host_port(service: &Service, host: &Host) -> bool {
    let chosen_by_us = matches!(service.listen, Listen::Auto | Listen::Port(None));
    chosen_by_us && network(service, host) == Network::Host
}

/// Names of the sockets of a worker or a task at the spawner.
pub fn listener_name(kind: &str, of: &impl std::fmt::Display) -> String {
    format!("{kind}/{of}")
}

/// What all launches of an application have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launcher<'a> {
    /// The application.
    pub plan: &'a Plan,
    /// Where its files are.
    pub places: &'a Places,
    /// What the host allows.
    pub host: &'a Host,
    /// The environment the supervisor was started with.
    pub inherited: &'a BTreeMap<String, String>,
    /// Whom services run as.
    pub accounts: &'a Accounts,
}

impl Launcher<'_> {
    /// Describes the start of a worker or a task. `mark` tells this run's processes from all others, `free_port` is a free port of
    /// the host (used if [`needs_host_port`]), `join_cgroups` the v1 hierarchies to join.
    ///
    /// # Errors
    /// When it runs as a user that there is not, or the host cannot do what its sandbox requires.
    pub(crate) fn launch(
        &self,
        service: &Service,
        seat: &Seat,
        mark: &str,
        free_port: Option<u16>,
        join_cgroups: Vec<PathBuf>,
    ) -> Result<Launch, ExecFailure> {
        let Launcher { plan, places, host, inherited, accounts } = *self;
        let account =
            accounts.get(&service.id).map_or(Ok(None), |account| account.as_ref().map(Option::as_ref));
        let walls = Walls::of(service, host, account.map_err(unknown)?);
        if service.sandbox.required && !walls.missing.is_empty() {
            return Err(refused(&walls));
        }
        let own = places.seat(seat);
        let state = places.service_state(&service.id);
        let network = network(service, host);
        let accepts = accepts(service.listen, network, &own, free_port);
        let owner = walls.account.as_ref().map(|account| (account.identity.uid, account.identity.gid));
        let listeners = listeners(service, seat, &own, host, owner);
        let inherits_listener = matches!(accepts, Accepts::Inherited(_));
        let pass: Vec<String> =
            inherits_listener.then(|| listener_name("worker", seat)).into_iter().collect();
        let substitute = |text: &str| environment::substitute(text, &own.socket, &accepts);

        let mut env = environment::inherit(inherited, &walls, service, &state);
        env.extend(service.env.iter().map(|(name, value)| (name.clone(), substitute(value))));
        env.retain(|name, _| !service.unset_env.contains(name));
        env.extend(environment::own(plan, service, seat, &own, &state, &places.control_socket(), &accepts));
        env.insert(life::VARIABLE.to_owned(), mark.to_owned());
        let credentials = (!service.secrets.is_empty()).then(|| places.seat_credentials(seat));
        let folder = credentials.iter().map(|folder| folder.display().to_string());
        env.extend(folder.map(|folder| (CREDENTIALS_DIRECTORY.to_owned(), folder)));

        let view = mounts::View {
            plan,
            service,
            network,
            host,
            places,
            own: &own,
            state: &state,
            credentials: credentials.as_deref(),
            inherited,
            walls: &walls,
        };
        let mut launch = LaunchPlan {
            argv: service.command.iter().map(|argument| substitute(argument).into_bytes()).collect(),
            env: env.into_iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
            cwd: service.path.clone(),
            stdin: service.stdin.clone(),
            join_cgroups,
            listeners: pass.len() as u16,
            notification_fd: match service.ready.when {
                ReadyWhen::NotificationFd(number) => Some(number),
                _ => None,
            },
            // Only a worker's socket is listened to.
            hands_over: service.notifies() && seat.index.is_some(),
            rlimits: rlimits::of(service, host),
            scheduling: scheduling::of(&service.scheduling, host).0,
            keeps_session: false,
            network: (network == Network::Private).then(|| private_network(service, &accepts, host)),
            mounts: mounts::list(&view),
            parent_death_signal: Some(SIGKILL),
            ..LaunchPlan::default()
        };
        walls.put_into(&mut launch, &own.dir, &state);
        let needs_namespaces = launch.network.is_some()
            || !launch.mounts.is_empty()
            || launch.namespaces != Default::default()
            || launch.capabilities.is_some()
            || walls.sandbox.private_users;
        launch.user_namespace = host.user_namespace && needs_namespaces;
        Ok(Launch { plan: launch, listeners, pass, accepts, owner, credentials })
    }
}

fn unknown(unknown: &Unknown) -> ExecFailure {
    let Unknown { what, errno } = unknown.clone();
    ExecFailure { step: "account".to_owned(), object: what, errno }
}

fn refused(walls: &Walls) -> ExecFailure {
    ExecFailure { step: "sandbox".to_owned(), object: walls.missing.join(", "), errno: EOPNOTSUPP }
}

fn accepts(listen: Listen, network: Network, own: &WorkerPlaces, free_port: Option<u16>) -> Accepts {
    let chosen = || match network {
        Network::Private => PRIVATE_PORT,
        Network::Host => free_port.unwrap_or(PRIVATE_PORT),
    };
    match listen {
        Listen::Auto => Accepts::Found(chosen()),
        Listen::Unix => Accepts::Unix(own.socket.clone()),
        Listen::Fd => Accepts::Inherited(own.socket.clone()),
        Listen::Port(Some(port)) => Accepts::Port(port.get()),
        Listen::Port(None) => Accepts::Port(chosen()),
        Listen::None => Accepts::Nowhere,
    }
}

/// `mesh.sock` for every worker; its own inherited socket and the notify socket for those that use them. They are for
/// the worker's user and nobody else.
fn listeners(
    service: &Service,
    seat: &Seat,
    own: &WorkerPlaces,
    host: &Host,
    owner: Option<(u32, u32)>,
) -> Vec<(String, Address)> {
    let mut listeners = Vec::with_capacity(3);
    let mut add = |kind: &str, address| listeners.push((listener_name(kind, seat), address));
    add("mesh", Address::Unix { path: own.mesh.clone(), mode: 0o600, owner });
    if service.listen == Listen::Fd {
        let owner = host.proxy_group.map(|group| (owner.map_or(0, |(uid, _)| uid), group));
        add("worker", Address::Unix { path: own.socket.clone(), mode: 0o660, owner });
    }
    if service.notifies() {
        add("notify", Address::UnixDatagram { path: own.notify.clone(), mode: 0o600, owner });
    }
    listeners
}

fn private_network(service: &Service, accepts: &Accepts, host: &Host) -> PrivateNetwork {
    let by_tcp = matches!(accepts, Accepts::Port(_) | Accepts::Found(_));
    PrivateNetwork {
        redirect: host.redirect,
        egress: service.egress.allow.as_ref().is_none_or(|rules| !rules.is_empty()),
        host_ports: service.egress.host_ports.iter().copied().collect(),
        sockets: if by_tcp { SOCKETS_AT_START } else { 0 },
    }
}

#[cfg(test)]
mod tests {
    use watt_core::{
        WorkerId,
        plan::{Destination, EgressRule},
        sandbox::{Profile, Sandbox, User},
    };
    use watt_exec::plan::Identity;

    use super::*;
    use crate::testing;

    const HOST: Host = testing::HOST;

    fn launched(host: &Host, change: impl FnOnce(&mut Service)) -> Launch {
        attempt(host, change).unwrap()
    }

    fn attempt(host: &Host, change: impl FnOnce(&mut Service)) -> Result<Launch, ExecFailure> {
        let mut plan = testing::plan(&["api"]);
        let service = plan.services.values_mut().next().unwrap();
        change(service);
        let service = service.clone();
        let places = Places { runtime: "/run/watt/shop".into(), state: "/var/lib/watt/shop".into() };
        let inherited = [("PATH", "/bin"), ("LC_ALL", "C"), ("SECRET", "x"), ("PORT", "1")];
        let inherited = inherited.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let worker = WorkerId::new(service.id.clone(), 0);
        let accounts = accounts::of_plan(&plan);
        let launcher =
            Launcher { plan: &plan, places: &places, host, inherited: &inherited, accounts: &accounts };
        launcher.launch(&service, &Seat::from(&worker), "1-2/3", Some(40000), Vec::new())
    }

    fn env(launch: &Launch) -> String {
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
        launch.plan.env.iter().map(text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_environment_is_made_of_the_plan_watts_own_and_the_listed_inherited_ones() {
        let launch = launched(&HOST, |service| {
            service.env = [("GREETING", "hi {port}"), ("WATT_APP", "forged")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        });
        assert_eq!(
            env(&launch),
            "GREETING=hi 8080\nLC_ALL=C\nPATH=/bin\nPORT=8080\nSTATE_DIRECTORY=/var/lib/watt/shop/services/api\nWATT_APP=shop\n\
             WATT_MESH_SOCKET=/run/watt/shop/workers/api/0/mesh.sock\nWATT_ROOT=/srv/shop\nWATT_RUN=1-2/3\n\
             WATT_SERVICE=api\nWATT_WORKER=0"
        );
    }

    #[test]
    fn variables_can_be_taken_out_but_for_watts_own() {
        let launch = launched(&HOST, |service| {
            service.env = [("TOKEN".to_owned(), "x".to_owned())].into();
            service.unset_env = ["TOKEN", "LC_ALL", "WATT_APP"].map(str::to_owned).into();
            service.stdin = Some("/srv/shop/in".into());
        });
        let env = env(&launch);
        assert!(!env.contains("TOKEN") && !env.contains("LC_ALL") && env.contains("WATT_APP=shop"), "{env}");
        assert_eq!(launch.plan.stdin.as_deref(), Some(std::path::Path::new("/srv/shop/in")));
    }

    #[test]
    fn each_way_to_listen_has_its_variables_and_sockets() {
        let check = |listen, network, accepts: Accepts, variable: &str, passed: usize| {
            let launch = launched(&HOST, |service| {
                service.listen = listen;
                service.network = network;
            });
            assert_eq!(launch.accepts, accepts);
            assert!(env(&launch).contains(variable), "{variable} in {}", env(&launch));
            assert_eq!((launch.pass.len(), launch.plan.listeners as usize), (passed, passed));
            let bound: Vec<_> = launch.listeners.iter().map(|(name, _)| name).collect();
            assert!(launch.pass.iter().all(|name| bound.contains(&name)), "passed but not bound: {bound:?}");
        };
        let socket = PathBuf::from("/run/watt/shop/workers/api/0/worker.sock");
        let fixed = Listen::Port(std::num::NonZeroU16::new(3000));
        check(Listen::Auto, Network::Private, Accepts::Found(8080), "PORT=8080", 0);
        check(Listen::Auto, Network::Host, Accepts::Found(40000), "PORT=40000", 0);
        check(Listen::Port(None), Network::Host, Accepts::Port(40000), "PORT=40000", 0);
        check(fixed, Network::Private, Accepts::Port(3000), "PORT=3000", 0);
        check(fixed, Network::Host, Accepts::Port(3000), "PORT=3000", 0);
        check(Listen::Unix, Network::Private, Accepts::Unix(socket.clone()), "WATT_SOCKET=/run", 0);
        check(Listen::Fd, Network::Private, Accepts::Inherited(socket), "LISTEN_FDS=1", 1);
        check(Listen::None, Network::Private, Accepts::Nowhere, "WATT_WORKER=0", 0);
        assert!(!env(&launched(&HOST, |service| service.listen = Listen::Unix)).contains("PORT="));
    }

    #[test]
    fn a_host_without_namespaces_gets_the_same_program_on_its_own_network() {
        let walls = Abilities::default();
        let host = Host { private_network: false, bind_files: false, user_namespace: true, walls, ..HOST };
        let launch = launched(&host, |service| service.network = Network::Private);
        assert_eq!(launch.plan.network, None);
        assert!(!launch.plan.user_namespace, "a user namespace for nothing");
        assert!(env(&launch).contains("PORT=40000"));
    }

    /// The worker's folders and the sockets in them are its user's; the proxy gets in by its group.
    #[test]
    fn sockets_belong_to_the_user_of_the_worker() {
        let host = Host { proxy_group: Some(7), ..HOST };
        let launch = launched(&host, |service| {
            let user = User::Named { user: "4242424".into(), group: Some("12".into()) };
            service.sandbox = Sandbox { user, ..Sandbox::of(Profile::Off) }.into();
            service.listen = Listen::Fd;
            service.ready.when = watt_core::plan::ReadyWhen::Notify;
        });
        let identity = Identity { uid: 4242424, gid: 12, groups: Vec::new() };
        assert_eq!((&launch.plan.identity, launch.owner), (&Some(identity), Some((4242424, 12))));
        let owners = launch.listeners.iter().map(|(name, address)| match address {
            Address::Unix { owner, .. } | Address::UnixDatagram { owner, .. } => (name.as_str(), *owner),
            Address::Tcp { .. } => (name.as_str(), None),
        });
        let own = Some((4242424, 12));
        assert_eq!(
            owners.collect::<Vec<_>>(),
            [("mesh/api/0", own), ("worker/api/0", Some((4242424, 7))), ("notify/api/0", own)]
        );
        let env = env(&launch);
        assert!(env.contains("HOME=/var/lib/watt/shop/services/api\n") && env.contains("USER=api"), "{env}");
    }

    #[test]
    fn what_a_required_sandbox_lacks_is_why_it_does_not_start() {
        let host = Host { walls: Abilities { devices: false, keyring: false, ..HOST.walls }, ..HOST };
        let with = |required| {
            move |service: &mut Service| {
                service.sandbox = Sandbox { required, ..Sandbox::of(Profile::Standard) }.into();
            }
        };
        let failure = attempt(&host, with(true)).unwrap_err();
        assert_eq!(
            (failure.step.as_str(), failure.object.as_str(), failure.errno),
            ("sandbox", "private_devices, private_keyring", 95)
        );
        assert!(attempt(&host, with(false)).is_ok() && attempt(&HOST, with(true)).is_ok());
        let mut plan = testing::plan(&["api"]);
        let service = plan.services.values_mut().next().unwrap();
        let told = missing(service, &host, None);
        assert_eq!(
            told,
            ["private_devices", "private_keyring"]
                .map(|switch| format!("sandbox: {switch} is not available on this host"))
        );
    }

    #[test]
    fn a_list_of_destinations_is_not_enforced_on_the_hosts_network() {
        let host = Host { private_network: false, ..HOST };
        let mut plan = testing::plan(&["api"]);
        let service = plan.services.values_mut().next().unwrap();
        service.network = Network::Private;
        let of_list = |told: &[String]| told.iter().any(|told| told.starts_with("egress.allow: "));
        assert!(!of_list(&missing(service, &host, None)));
        service.egress.allow = Some(Vec::new());
        assert!(of_list(&missing(service, &host, None)));
        assert!(!of_list(&missing(service, &HOST, None)));
        service.network = Network::Host;
        assert!(of_list(&missing(service, &HOST, None)));
    }

    #[test]
    fn with_an_empty_list_there_is_no_way_out_at_all() {
        let way_out = |allow| {
            let launch = launched(&HOST, |service| {
                service.network = Network::Private;
                service.egress.allow = allow;
            });
            launch.plan.network.unwrap().egress
        };
        let rule = EgressRule { to: Destination::Name("example.org".to_owned()), port: None };
        assert!(way_out(None) && way_out(Some(vec![rule])));
        assert!(!way_out(Some(Vec::new())));
    }

    #[test]
    fn an_account_that_is_not_there_is_why_it_does_not_start() {
        let user = User::Named { user: "nobody-of-watt".into(), group: None };
        let failure = attempt(&HOST, |service| {
            service.sandbox = Sandbox { user, ..Sandbox::of(Profile::Off) }.into();
        });
        let failure = failure.unwrap_err();
        assert_eq!((failure.step.as_str(), failure.object.as_str()), ("account", "user nobody-of-watt"));
    }
}

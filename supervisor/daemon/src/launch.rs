//! From the plan to one process: the complete description of a worker's program for the exec stage. Pure: the
//! same plan, host and port give the same launch, whatever the supervisor has in its own environment.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use watt_core::{
    WorkerId,
    plan::{Limits, Listen, Network, Plan, ReadyWhen, Rlimit, Service},
};
use watt_exec::plan::{HiddenFolder, LaunchPlan, PrivateNetwork};
use watt_spawner::protocol::Address;

use crate::{
    life,
    places::{Places, WorkerPlaces},
};

/// The variables a worker has from the supervisor's own environment (docs/environment.md). Everything else comes
/// from the configuration, so that a service does not depend on the shell it was started from.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TERM", "TMPDIR"];

/// What a program finds in `PATH` when the supervisor has none: the default of systemd.exec(5).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The port a program gets in a network of its own when its configuration names none.
const PRIVATE_PORT: u16 = 8080;

/// Nobody outside the group reads or writes what a service creates.
const UMASK: u32 = 0o027;

/// Connections to a private worker need sockets made in its network; this many are made with it, and more when
/// the proxy asks.
const SOCKETS_AT_START: u16 = 16;

/// Ends a worker when the spawner dies: without its parent nobody would ever see its exit.
const SIGKILL: i32 = 9;

/// What this host and this user allow for workers, found out once at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
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

/// Names of a worker's sockets at the spawner.
pub fn listener_name(kind: &str, worker: &WorkerId) -> String {
    format!("{kind}/{worker}")
}

/// What all launches of an application have in common.
#[derive(Debug, Clone, Copy)]
pub struct Launcher<'a> {
    /// The application.
    pub plan: &'a Plan,
    /// Where its files are.
    pub places: &'a Places,
    /// What the host allows.
    pub host: &'a Host,
    /// The environment the supervisor was started with.
    pub inherited: &'a BTreeMap<String, String>,
}

impl Launcher<'_> {
    /// Describes the start of a worker. `mark` tells this run's processes from all others, `free_port` is a free port of
    /// the host (used if [`needs_host_port`]), `join_cgroups` the v1 hierarchies to join.
    pub fn launch(
        &self,
        service: &Service,
        worker: &WorkerId,
        mark: &str,
        free_port: Option<u16>,
        join_cgroups: Vec<PathBuf>,
    ) -> Launch {
        let Launcher { plan, places, host, inherited } = *self;
        let own = places.worker(worker);
        let network = network(service, host);
        let accepts = accepts(service.listen, network, &own, free_port);
        let listeners = listeners(service, worker, &own, host);
        let inherits_listener = matches!(accepts, Accepts::Inherited(_));
        let pass: Vec<String> =
            inherits_listener.then(|| listener_name("worker", worker)).into_iter().collect();
        let substitute = |text: &str| substitute(text, &own.socket, &accepts);

        let mut env = inherit(inherited);
        env.extend(service.env.iter().map(|(name, value)| (name.clone(), substitute(value))));
        env.extend(own_variables(plan, service, worker, &own, &accepts));
        env.insert(life::VARIABLE.to_owned(), mark.to_owned());

        let launch = LaunchPlan {
            argv: service.command.iter().map(|argument| substitute(argument).into_bytes()).collect(),
            program: None,
            env: env.into_iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
            cwd: service.path.clone(),
            join_cgroups,
            listeners: pass.len() as u16,
            rlimits: rlimits(&service.limits),
            umask: UMASK,
            keeps_session: false,
            user_namespace: host.user_namespace && (network == Network::Private || host.bind_files),
            network: (network == Network::Private).then(|| private_network(service, &accepts, host)),
            bind_files: if host.bind_files { bind_files(places, network, host) } else { Vec::new() },
            hide: host
                .bind_files
                .then(|| HiddenFolder { folder: hidden(places, inherited), keep: own.dir.clone() }),
            identity: None,
            drop_capabilities: false,
            no_new_privs: true,
            parent_death_signal: Some(SIGKILL),
            oom_score_adj: host.oom_score_adj,
        };
        Launch { plan: launch, listeners, pass, accepts }
    }
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

/// `mesh.sock` for every worker; its own inherited socket and the notify socket for those that use them.
fn listeners(
    service: &Service,
    worker: &WorkerId,
    own: &WorkerPlaces,
    host: &Host,
) -> Vec<(String, Address)> {
    let mut listeners = Vec::with_capacity(3);
    let mut add = |kind: &str, address| listeners.push((listener_name(kind, worker), address));
    // The worker runs as our own user, so that the socket is for nobody else.
    add("mesh", Address::Unix { path: own.mesh.clone(), mode: 0o600, owner: None });
    if service.listen == Listen::Fd {
        let owner = host.proxy_group.map(|group| (0, group));
        add("worker", Address::Unix { path: own.socket.clone(), mode: 0o660, owner });
    }
    if service.ready.when == ReadyWhen::Notify {
        add("notify", Address::UnixDatagram { path: own.notify.clone(), mode: 0o600 });
    }
    listeners
}

fn private_network(service: &Service, accepts: &Accepts, host: &Host) -> PrivateNetwork {
    let by_tcp = matches!(accepts, Accepts::Port(_) | Accepts::Found(_));
    PrivateNetwork {
        redirect: host.redirect,
        egress: true,
        host_ports: service.host_ports.iter().copied().collect(),
        sockets: if by_tcp { SOCKETS_AT_START } else { 0 },
    }
}

/// The files that give the mesh its names. Only the hosts file makes sense on the host's network, where the
/// host's own resolver stays in charge.
fn bind_files(places: &Places, network: Network, host: &Host) -> Vec<(PathBuf, PathBuf)> {
    let files = match network {
        Network::Private => vec![
            (places.hosts(), "/etc/hosts"),
            (places.resolv_conf(), "/etc/resolv.conf"),
            (places.nsswitch_conf(), "/etc/nsswitch.conf"),
        ],
        Network::Host => vec![(places.hosts_shared(), "/etc/hosts")],
    };
    let exists = |target: &&str| host.name_files.iter().any(|file| file == Path::new(target));
    files
        .into_iter()
        .filter(|(_, target)| exists(target))
        .map(|(source, target)| (source, target.into()))
        .collect()
}

/// What the worker is not to see: the sockets of watt, of other workers and of this user's other applications. A folder that
/// somebody chose to hold them may hold anything else as well, and only our own one in it is hidden.
fn hidden(places: &Places, inherited: &BTreeMap<String, String>) -> PathBuf {
    let is_chosen = inherited.get("WATT_RUNTIME_DIR").is_some_and(|folder| Path::new(folder).is_absolute());
    match places.runtime.parent() {
        Some(base) if !is_chosen => base.to_owned(),
        Some(_) | None => places.runtime.clone(),
    }
}

fn inherit(inherited: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let kept = |name: &str| INHERITED.contains(&name) || name.starts_with("LC_");
    let mut env: BTreeMap<String, String> = inherited
        .iter()
        .filter(|(name, _)| kept(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    env.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    env
}

/// watt's own variables, which win over the configuration's.
fn own_variables(
    plan: &Plan,
    service: &Service,
    worker: &WorkerId,
    own: &WorkerPlaces,
    accepts: &Accepts,
) -> BTreeMap<String, String> {
    let path = |path: &Path| path.display().to_string();
    let mut env = BTreeMap::from([
        ("WATT_APP".to_owned(), plan.name.to_string()),
        ("WATT_SERVICE".to_owned(), worker.service.to_string()),
        ("WATT_WORKER".to_owned(), worker.index.to_string()),
        ("WATT_MESH_SOCKET".to_owned(), path(&own.mesh)),
        ("WATT_ROOT".to_owned(), path(&plan.root)),
    ]);
    match accepts {
        Accepts::Unix(socket) => {
            env.insert("WATT_SOCKET".to_owned(), path(socket));
        }
        Accepts::Inherited(socket) => {
            env.insert("WATT_SOCKET".to_owned(), path(socket));
            env.insert("LISTEN_FDS".to_owned(), "1".to_owned());
            env.insert("LISTEN_FDNAMES".to_owned(), "http".to_owned());
        }
        Accepts::Port(port) | Accepts::Found(port) => {
            env.insert("PORT".to_owned(), port.to_string());
        }
        Accepts::Nowhere => {}
    }
    if service.ready.when == ReadyWhen::Notify {
        env.insert("NOTIFY_SOCKET".to_owned(), path(&own.notify));
    }
    env
}

/// `{socket}` and `{port}` in arguments and values.
fn substitute(text: &str, socket: &Path, accepts: &Accepts) -> String {
    match accepts {
        Accepts::Unix(_) | Accepts::Inherited(_) => text.replace("{socket}", &socket.display().to_string()),
        Accepts::Port(port) | Accepts::Found(port) => text.replace("{port}", &port.to_string()),
        Accepts::Nowhere => text.to_owned(),
    }
}

fn rlimits(limits: &Limits) -> Vec<(u32, u64, u64)> {
    limits.rlimits.iter().map(|(rlimit, value)| (number(*rlimit), value.soft, value.hard)).collect()
}

/// The kernel's number of a resource (include/uapi/asm-generic/resource.h).
fn number(rlimit: Rlimit) -> u32 {
    match rlimit {
        Rlimit::Cpu => 0,
        Rlimit::Fsize => 1,
        Rlimit::Data => 2,
        Rlimit::Stack => 3,
        Rlimit::Core => 4,
        Rlimit::Rss => 5,
        Rlimit::Nproc => 6,
        Rlimit::Nofile => 7,
        Rlimit::Memlock => 8,
        Rlimit::As => 9,
        Rlimit::Locks => 10,
        Rlimit::Sigpending => 11,
        Rlimit::Msgqueue => 12,
        Rlimit::Nice => 13,
        Rlimit::Rtprio => 14,
        Rlimit::Rttime => 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const HOST: Host = Host {
        user_namespace: false,
        private_network: true,
        redirect: true,
        bind_files: true,
        name_files: Vec::new(),
        oom_score_adj: None,
        proxy_group: None,
    };

    fn launched(host: &Host, change: impl FnOnce(&mut Service)) -> Launch {
        let mut plan = testing::plan(&["api"]);
        let service = plan.services.values_mut().next().unwrap();
        change(service);
        let service = service.clone();
        let places = Places { runtime: "/run/watt/shop".into(), state: "/var/lib/watt/shop".into() };
        let inherited = [("PATH", "/bin"), ("LC_ALL", "C"), ("SECRET", "x"), ("PORT", "1")];
        let inherited = inherited.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let worker = WorkerId { service: service.id.clone(), index: 0 };
        Launcher { plan: &plan, places: &places, host, inherited: &inherited }.launch(
            &service,
            &worker,
            "1-2/3",
            Some(40000),
            Vec::new(),
        )
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
            "GREETING=hi 8080\nLC_ALL=C\nPATH=/bin\nPORT=8080\nWATT_APP=shop\n\
             WATT_MESH_SOCKET=/run/watt/shop/workers/api/0/mesh.sock\nWATT_ROOT=/srv/shop\nWATT_RUN=1-2/3\n\
             WATT_SERVICE=api\nWATT_WORKER=0"
        );
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
        let host = Host { private_network: false, bind_files: false, user_namespace: true, ..HOST };
        let launch = launched(&host, |service| service.network = Network::Private);
        assert_eq!(launch.plan.network, None);
        assert!(!launch.plan.user_namespace, "a user namespace for nothing");
        assert!(env(&launch).contains("PORT=40000"));
    }

    #[test]
    fn a_worker_sees_its_own_sockets_and_no_others() {
        let hide = |host: &Host| launched(host, |_| {}).plan.hide;
        let keep = PathBuf::from("/run/watt/shop/workers/api/0");
        assert_eq!(hide(&HOST), Some(HiddenFolder { folder: "/run/watt".into(), keep }));
        assert_eq!(hide(&Host { bind_files: false, ..HOST }), None);
    }

    #[test]
    fn a_folder_that_was_chosen_for_the_sockets_is_not_hidden_itself() {
        let places = Places { runtime: "/srv/run/shop".into(), state: "/srv/state".into() };
        let check = |variable: (&str, &str), expected: &str| {
            let inherited = BTreeMap::from([(variable.0.to_owned(), variable.1.to_owned())]);
            assert_eq!(hidden(&places, &inherited), Path::new(expected), "{variable:?}");
        };
        check(("XDG_RUNTIME_DIR", "/srv"), "/srv/run");
        check(("WATT_RUNTIME_DIR", "/srv/run"), "/srv/run/shop");
        // Not obeyed, and so not what chose the folder.
        check(("WATT_RUNTIME_DIR", "srv/run"), "/srv/run");
        check(("WATT_RUNTIME_DIR", ""), "/srv/run");
    }

    #[test]
    fn resource_limits_have_the_kernels_numbers() {
        let launch = launched(&HOST, |service| {
            let value = watt_core::plan::RlimitValue { soft: 9, hard: 10 };
            service.limits.rlimits = [(Rlimit::Nofile, value), (Rlimit::As, value)].into();
        });
        assert_eq!(launch.plan.rlimits, [(9, 9, 10), (7, 9, 10)]);
    }
}

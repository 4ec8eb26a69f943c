//! Who calls? Asked of the kernel, for callers whose listener does not tell: those on the host's network and on
//! the application's own `mesh.sock`.
//!
//! | over | service known by | operator |
//! |---|---|---|
//! | TCP | the cgroup the client's socket was made in | never |
//! | Unix | the client's cgroup; without one, its descent from a worker's main process | root and the supervisor's user, but for what services started |
//!
//! A program on the host that is none of these is unknown. It may call services that everybody may call, and no
//! others.
//!
//! A worker's own `mesh.sock` tells whose it is, and the kernel is asked none the less: all services are the same user, and
//! where they see each other's sockets, the folder proves nothing.

use std::{collections::BTreeMap, net::SocketAddr, rc::Rc};

use tokio::net::UnixStream;
use watt_api::mesh::Snapshot;

use crate::{diag, process};

/// How a caller is called that is neither a service nor an operator. It is no possible service's name, so that no
/// list of callers has it.
pub(crate) const UNKNOWN_CALLER: &str = "(unknown)";

/// Who is at the other end, as far as policies care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// This service.
    Service(Rc<str>),
    /// Somebody who may do to the application what he likes anyway.
    Operator,
    /// None of them.
    Unknown,
}

impl Caller {
    /// As policies know it; `None` is an operator.
    pub(crate) fn name(self) -> Option<Rc<str>> {
        match self {
            Self::Service(name) => Some(name),
            Self::Operator => None,
            Self::Unknown => Some(UNKNOWN_CALLER.into()),
        }
    }
}

/// To what the callers of one snapshot are matched.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    by_cgroup: BTreeMap<u64, String>,
    by_pid: BTreeMap<u32, String>,
    supervisor_uid: Option<u32>,
}

impl Callers {
    /// The workers of this snapshot. `supervisor_uid` is the user the daemon's connection came from.
    pub(crate) fn new(snapshot: &Snapshot, supervisor_uid: Option<u32>) -> Self {
        let mut callers = Self { supervisor_uid, ..Self::default() };
        for (name, service) in &snapshot.services {
            for worker in &service.workers {
                match (worker.cgroup, worker.pid) {
                    (Some(cgroup), _) => drop(callers.by_cgroup.insert(cgroup, name.clone())),
                    (None, Some(pid)) => drop(callers.by_pid.insert(pid, name.clone())),
                    (None, None) => {}
                }
            }
        }
        callers
    }

    /// Of a TCP connection from this host, with these ends as the client sees them.
    pub(crate) fn over_tcp(&self, client: SocketAddr, listener: SocketAddr) -> Caller {
        let cgroup = match diag::cgroup_of_socket(client, listener) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                tracing::debug!(%client, %error, "cannot ask whose connection it is");
                None
            }
        };
        match cgroup.and_then(|cgroup| self.by_cgroup.get(&cgroup)) {
            Some(service) => Caller::Service(service.as_str().into()),
            None => Caller::Unknown,
        }
    }

    /// Of a connection over the application's Unix socket. A process that has ended waits for no answer, and is nobody.
    pub(crate) fn over_unix(&self, stream: &UnixStream) -> Caller {
        let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { return Caller::Unknown };
        process::ask_about_peer(stream, |pid| Some(self.of_process(pid, uid))).unwrap_or(Caller::Unknown)
    }

    /// Of a connection over the Unix socket of one of `service`'s workers. Whom the kernel names is the caller. Otherwise it is
    /// an operator in the service's place; or a process of the service that the snapshot has no worker for yet, or
    /// that has detached itself from its worker where there are no cgroups.
    pub(crate) fn over_unix_of(&self, service: &Rc<str>, stream: &UnixStream) -> Rc<str> {
        let named = |pid| Some(self.service_of(pid).map_or_else(|| Rc::clone(service), Rc::from));
        process::ask_about_peer(stream, named).unwrap_or_else(|| UNKNOWN_CALLER.into())
    }

    fn of_process(&self, pid: u32, uid: u32) -> Caller {
        match self.service_of(pid) {
            Some(service) => Caller::Service(service.into()),
            None if self.is_operator(uid) && !process::is_of_worker(pid) => Caller::Operator,
            None => Caller::Unknown,
        }
    }

    fn is_operator(&self, uid: u32) -> bool {
        uid == 0 || Some(uid) == self.supervisor_uid
    }

    fn service_of(&self, pid: u32) -> Option<&str> {
        let in_cgroup = || process::cgroup_ids(pid).iter().find_map(|cgroup| self.by_cgroup.get(cgroup));
        let by_descent = || process::ancestors(pid).find_map(|pid| self.by_pid.get(&pid));
        let found = if self.by_cgroup.is_empty() { None } else { in_cgroup() };
        found.or_else(|| if self.by_pid.is_empty() { None } else { by_descent() }).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use watt_api::mesh::{Service, Worker, WorkerState};

    use super::*;

    fn callers(cgroup: Option<u64>, pid: Option<u32>, supervisor_uid: Option<u32>) -> Callers {
        let worker = Worker {
            run: 1,
            index: 0,
            endpoint: None,
            state: WorkerState::Ready,
            drain_ms: None,
            cgroup,
            pid,
        };
        let service = Service { workers: vec![worker], ..Service::default() };
        let services = [("api".to_owned(), service)].into();
        Callers::new(&Snapshot { services, ..Snapshot::default() }, supervisor_uid)
    }

    fn own_cgroup() -> u64 {
        process::cgroup_ids(std::process::id())[0]
    }

    fn api() -> Caller {
        Caller::Service("api".into())
    }

    #[tokio::test]
    async fn a_worker_is_known_by_its_cgroup_or_its_descent() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(callers(Some(own_cgroup()), None, None).over_unix(&here), api());
        assert_eq!(callers(None, Some(std::process::id()), None).over_unix(&here), api());
        let parent = std::os::unix::process::parent_id();
        assert_eq!(callers(None, Some(parent), None).over_unix(&here), api());
    }

    #[tokio::test]
    async fn others_are_operators_by_their_user() {
        let (here, _there) = UnixStream::pair().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(callers(Some(u64::MAX), Some(u32::MAX), Some(uid)).over_unix(&here), Caller::Operator);
        let expected = if uid == 0 { Caller::Operator } else { Caller::Unknown };
        assert_eq!(callers(Some(u64::MAX), None, None).over_unix(&here), expected);
    }

    #[tokio::test]
    async fn a_workers_socket_is_its_services_unless_the_kernel_names_another() {
        let (here, _there) = UnixStream::pair().unwrap();
        let shop: Rc<str> = "shop".into();
        assert_eq!(callers(Some(own_cgroup()), None, None).over_unix_of(&shop, &here), "api".into());
        assert_eq!(callers(None, Some(std::process::id()), None).over_unix_of(&shop, &here), "api".into());
        assert_eq!(callers(Some(u64::MAX), None, None).over_unix_of(&shop, &here), shop);
    }

    #[test]
    fn root_and_the_supervisors_user_are_operators() {
        let callers = callers(None, None, Some(1000));
        assert_eq!([0, 1000, 1001].map(|uid| callers.is_operator(uid)), [true, true, false]);
        assert!(!Callers::default().is_operator(1000));
    }

    #[test]
    fn a_connection_is_known_by_the_cgroup_of_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ends = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert_eq!(callers(Some(own_cgroup()), None, None).over_tcp(ends.0, ends.1), api());
        // Root on the host is nobody special here: any service may reach the host's network as root.
        assert_eq!(callers(Some(u64::MAX), None, Some(0)).over_tcp(ends.0, ends.1), Caller::Unknown);
    }
}

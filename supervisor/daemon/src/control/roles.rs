//! Who may what at the control socket: the one place that decides.
//!
//! Root and the supervisor's user may everything, members of the groups in `control.groups` what their role says, and a
//! service what its `management` says, whoever its user is. What an operation takes is in the table of `routes`.

use std::os::fd::AsFd;

use tokio::net::UnixStream;
use watt_core::{
    ServiceId,
    plan::{Listener, Plan, Role},
    sandbox::User,
};
use watt_os::peer::groups;

use super::{
    Command, Control,
    peer::{self, Origin},
    problem::Failure,
};
use crate::{launch::accounts, words};

/// The kernel's overflow uid, which is nobody's.
const NOBODY: u32 = 65534;

/// The roles of an application. Groups are looked up once, before there is a loop: a name service may have to ask the network.
#[derive(Debug, Clone)]
pub struct Roles {
    own: u32,
    groups: Vec<(u32, Role)>,
    /// Whether any service has a role.
    of_services: bool,
    mode: u32,
    /// Whether collectors may have what was counted, without any.
    has_scrapes: bool,
    /// What the configuration names and this host does not have.
    unknown: Vec<String>,
}

/// Who asks, and what he may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) who: Who,
    pub(super) uid: u32,
    pub(super) pid: Option<i32>,
    pub(super) role: Option<Role>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// A user of the host.
    User(u32),
    /// A process of a service; of one that is not known by name when its processes have left their parents.
    Service(Option<ServiceId>),
}

impl Roles {
    /// The roles of a plan, when this user is the supervisor.
    pub fn of_plan(plan: &Plan, own: u32) -> Roles {
        let (mut groups, mut unknown) = (Vec::new(), Vec::new());
        for (name, role) in &plan.control {
            match accounts::group(name) {
                Ok(gid) => groups.push((gid, *role)),
                Err(_) => unknown.push(format!(
                    "control.groups: there is no group {name} here, so nobody gets the role {} by it",
                    words::role(*role)
                )),
            }
        }
        let of_services = plan.services.values().any(|service| service.management.is_some());
        let of_other_users = plan
            .services
            .values()
            .any(|service| service.management.is_some() && service.sandbox.user != User::Same);
        // A socket has one group, and there may be several, and services with users of their own. So everybody can connect
        // then, and is asked who he is, as in any case.
        let mode = if groups.is_empty() && !of_other_users { 0o600 } else { 0o666 };
        let has_scrapes = plan.listeners.contains_key(Listener::METRICS);
        Roles { own, groups, of_services, mode, has_scrapes, unknown }
    }

    /// Whether collectors may have what was counted, by the listener that the configuration has for them.
    pub(super) fn has_scrapes(&self) -> bool {
        self.has_scrapes
    }

    /// The mode of the socket.
    pub(crate) fn socket_mode(&self) -> u32 {
        self.mode
    }

    /// What the configuration names and this host does not have, in words.
    pub(crate) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Whether this is somebody else than root and the supervisor's user.
    pub(super) fn is_other(&self, caller: &Caller) -> bool {
        match caller.who {
            Who::User(uid) => uid != 0 && uid != self.own,
            Who::Service(_) => true,
        }
    }

    /// The role of a user in these groups.
    fn of_user(&self, uid: u32, groups: &[u32]) -> Option<Role> {
        if uid == 0 || uid == self.own {
            return Some(Role::Admin);
        }
        let roles = self.groups.iter().filter(|(gid, _)| groups.contains(gid));
        roles.map(|(_, role)| *role).max()
    }

    /// Finds out who is at the other end.
    pub(super) async fn caller(&self, stream: &UnixStream, control: &Control) -> Result<Caller, Failure> {
        let Ok(credentials) = stream.peer_cred() else {
            return Ok(Caller { who: Who::User(NOBODY), uid: NOBODY, pid: None, role: None });
        };
        let (uid, pid) = (credentials.uid(), credentials.pid());
        let (who, role) = match peer::origin(stream, std::os::unix::process::parent_id()) {
            Origin::Outside => {
                let mut all = groups(stream.as_fd()).unwrap_or_default();
                all.push(credentials.gid());
                (Who::User(uid), self.of_user(uid, &all))
            }
            Origin::Service(_) if !self.of_services => (Who::Service(None), None),
            Origin::Service(line) => {
                let found = control.ask(|reply| Command::ServiceOf { line, reply }).await?;
                // Only a process that is still there was asked about for certain.
                match found.filter(|_| !peer::has_gone(stream)) {
                    Some((service, role)) => (Who::Service(Some(service)), role),
                    None => (Who::Service(None), None),
                }
            }
        };
        Ok(Caller { who, uid, pid, role })
    }
}

impl Caller {
    /// Whether this may be done.
    pub(super) fn may(&self, needed: Role) -> Result<(), Failure> {
        if self.role.is_some_and(|role| role >= needed) {
            return Ok(());
        }
        Err(Failure::Forbidden { who: self.who.clone(), has: self.role, needed })
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::User(uid) => write!(f, "user {uid}"),
            Who::Service(Some(service)) => write!(f, "service {service}"),
            Who::Service(None) => write!(f, "a service"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn roles(groups: &[(&str, Role)], change: impl FnOnce(&mut Plan)) -> Roles {
        let mut plan = testing::plan(&["api"]);
        plan.control = groups.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect();
        change(&mut plan);
        Roles::of_plan(&plan, 1000)
    }

    #[test]
    fn the_highest_role_of_a_users_groups_counts() {
        let roles = roles(&[("4001", Role::View), ("4002", Role::Operate)], |_| {});
        assert_eq!(roles.of_user(0, &[]), Some(Role::Admin));
        assert_eq!(roles.of_user(1000, &[]), Some(Role::Admin));
        assert_eq!(roles.of_user(1001, &[]), None);
        assert_eq!(roles.of_user(1001, &[4000]), None);
        assert_eq!(roles.of_user(1001, &[4000, 4001]), Some(Role::View));
        assert_eq!(roles.of_user(1001, &[4002, 4001]), Some(Role::Operate));
    }

    #[test]
    fn a_group_that_there_is_not_is_told() {
        let roles = roles(&[("no-such-group-here", Role::Admin)], |_| {});
        assert!(roles.unknown()[0].contains("no group no-such-group-here"), "{:?}", roles.unknown());
        assert_eq!((roles.of_user(1001, &[0]), roles.socket_mode()), (None, 0o600));
    }

    #[test]
    fn others_can_connect_only_where_somebody_else_has_a_role() {
        assert_eq!(roles(&[], |_| {}).socket_mode(), 0o600);
        assert_eq!(roles(&[("4001", Role::View)], |_| {}).socket_mode(), 0o666);
        let managed = |user: User| {
            roles(&[], |plan| {
                for service in plan.services.values_mut() {
                    service.management = Some(Role::View);
                    let mut sandbox = (*service.sandbox).clone();
                    sandbox.user = user.clone();
                    service.sandbox = sandbox.into();
                }
            })
            .socket_mode()
        };
        assert_eq!((managed(User::Same), managed(User::Dynamic)), (0o600, 0o666));
    }

    #[test]
    fn a_role_includes_those_before_it() {
        let caller = |role| Caller { who: Who::User(1001), uid: 1001, pid: None, role };
        assert!(caller(Some(Role::Operate)).may(Role::View).is_ok());
        assert!(caller(Some(Role::Operate)).may(Role::Operate).is_ok());
        assert!(caller(Some(Role::Operate)).may(Role::Admin).is_err());
        assert!(caller(None).may(Role::View).is_err());
    }
}

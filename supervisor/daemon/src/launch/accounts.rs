//! Whom each service runs as: names of the host's accounts as numbers, and users that nobody else is.
//!
//! Looked up once, before there is a loop: a name service may have to ask the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    io,
    path::PathBuf,
};

use nix::unistd::{Gid, Group, Uid, User as Entry, getgrouplist};
use watt_core::{
    ServiceId,
    plan::Plan,
    sandbox::{Sandbox, User},
};
use watt_exec::plan::Identity;

use crate::addresses;

/// Another user than the supervisor's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its numbers.
    pub(crate) identity: Identity,
    /// Its name, where it has one.
    pub(crate) name: Option<String>,
    /// Its home; `None` for one that has none, which gets the service's own folder.
    pub(crate) home: Option<PathBuf>,
}

/// An account that there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// `user www-data`.
    pub(crate) what: String,
    /// The error number.
    pub(crate) errno: i32,
}

/// Every service's account; `None` for those that run as the supervisor's user.
pub(crate) type Accounts = BTreeMap<ServiceId, Result<Option<Account>, Unknown>>;

/// Looks up everybody's account.
pub(crate) fn of_plan(plan: &Plan) -> Accounts {
    let dynamic =
        dynamic_ids(plan, |id| Entry::from_uid(Uid::from_raw(id)).is_ok_and(|entry| entry.is_some()));
    let accounts = plan.services.iter().map(|(id, service)| {
        let account = of_service(&service.sandbox, dynamic.get(id).copied());
        (id.clone(), account)
    });
    accounts.collect()
}

fn of_service(sandbox: &Sandbox, dynamic: Option<u32>) -> Result<Option<Account>, Unknown> {
    let groups = |mut groups: Vec<u32>| {
        for name in &sandbox.supplementary_groups {
            groups.push(group(name)?);
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    };
    match &sandbox.user {
        User::Same if sandbox.supplementary_groups.is_empty() => Ok(None),
        User::Same => {
            let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
            let identity = Identity { uid, gid, groups: groups(Vec::new())? };
            Ok(Some(Account { identity, name: None, home: None }))
        }
        User::Dynamic => {
            let Some(id) = dynamic else {
                return Err(unknown("a free dynamic user", nix::errno::Errno::EBUSY));
            };
            let identity = Identity { uid: id, gid: id, groups: groups(Vec::new())? };
            Ok(Some(Account { identity, name: None, home: None }))
        }
        User::Named { user, group: own } => {
            let found = entry(user)?;
            let gid = match (own, &found) {
                (Some(name), _) => group(name)?,
                (None, Found::Entry(entry)) => entry.gid.as_raw(),
                (None, Found::Number(number)) => *number,
            };
            let (uid, name, home, member) = match found {
                Found::Number(number) => (number, None, None, Vec::new()),
                Found::Entry(entry) => {
                    let member = memberships(&entry.name, gid);
                    (entry.uid.as_raw(), Some(entry.name), Some(entry.dir), member)
                }
            };
            Ok(Some(Account { identity: Identity { uid, gid, groups: groups(member)? }, name, home }))
        }
    }
}

/// A user as the configuration names it.
enum Found {
    Entry(Entry),
    /// A number that has no name on this host, which the kernel does not mind.
    Number(u32),
}

fn entry(user: &str) -> Result<Found, Unknown> {
    let what = || format!("user {user}");
    let number: Option<u32> = user.parse().ok();
    let found = match number {
        Some(number) => Entry::from_uid(Uid::from_raw(number)),
        None => Entry::from_name(user),
    };
    match (found, number) {
        (Ok(Some(entry)), _) => Ok(Found::Entry(entry)),
        (Ok(None), Some(number)) => Ok(Found::Number(number)),
        (Ok(None), None) => Err(unknown(what(), nix::errno::Errno::ENOENT)),
        (Err(error), _) => Err(unknown(what(), error)),
    }
}

/// Whose the file of a socket is to be: by name or number, or as the supervisor's own files are.
pub(crate) fn of_socket(user: Option<&str>, group: Option<&str>) -> Result<(u32, u32), Unknown> {
    let uid = match user.map(entry).transpose()? {
        None => Uid::effective().as_raw(),
        Some(Found::Entry(entry)) => entry.uid.as_raw(),
        Some(Found::Number(number)) => number,
    };
    let gid = group.map(self::group).transpose()?;
    Ok((uid, gid.unwrap_or_else(|| Gid::effective().as_raw())))
}

/// The supervisor's own user and group.
pub(crate) fn own() -> (u32, u32) {
    (Uid::effective().as_raw(), Gid::effective().as_raw())
}

/// The number of a group that is written by name or as a number.
pub(crate) fn group(group: &str) -> Result<u32, Unknown> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    match Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        Ok(None) => Err(unknown(format!("group {group}"), nix::errno::Errno::ENOENT)),
        Err(error) => Err(unknown(format!("group {group}"), error)),
    }
}

/// The groups a user is a member of, as a login would have them (initgroups(3)).
fn memberships(user: &str, gid: u32) -> Vec<u32> {
    let Ok(name) = CString::new(user) else { return Vec::new() };
    // Without a list the user has its own group alone, which is the safe side.
    let groups = getgrouplist(&name, Gid::from_raw(gid)).unwrap_or_default();
    groups.into_iter().map(Gid::as_raw).filter(|group| *group != gid).collect()
}

fn unknown(what: impl Into<String>, error: nix::errno::Errno) -> Unknown {
    Unknown { what: what.into(), errno: io::Error::from(error).raw_os_error().unwrap_or(0) }
}

/// The ids of services with a dynamic user: the same at every start as long as the names stay, and nobody else's.
fn dynamic_ids(plan: &Plan, is_taken: impl Fn(u32) -> bool) -> BTreeMap<ServiceId, u32> {
    let mut used = BTreeSet::from([addresses::unprivileged_id(&plan.name)]);
    let mut ids = BTreeMap::new();
    let dynamic = plan.services.values().filter(|service| service.sandbox.user == User::Dynamic);
    for service in dynamic {
        let free =
            addresses::dynamic_ids(&plan.name, &service.id).find(|id| !used.contains(id) && !is_taken(*id));
        if let Some(id) = free {
            used.insert(id);
            ids.insert(service.id.clone(), id);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn sandbox(user: User) -> Sandbox {
        Sandbox { user, ..Sandbox::of(watt_core::sandbox::Profile::Off) }
    }

    fn named(user: &str, group: Option<&str>) -> User {
        User::Named { user: user.into(), group: group.map(Into::into) }
    }

    /// Every host has root, and what it has is known.
    #[test]
    fn names_become_numbers() {
        let account = |sandbox: &Sandbox| of_service(sandbox, Some(61200)).unwrap();
        assert_eq!(account(&sandbox(User::Same)), None);
        let root = account(&sandbox(named("root", None))).unwrap();
        assert_eq!((root.identity.uid, root.identity.gid), (0, 0));
        assert_eq!(root.name.as_deref(), Some("root"));
        let by_number = account(&sandbox(named("0", Some("12")))).unwrap();
        assert_eq!((by_number.identity.uid, by_number.identity.gid), (0, 12));
        let nameless = account(&sandbox(named("4242424", None))).unwrap();
        assert_eq!((nameless.identity.uid, nameless.identity.gid, nameless.name), (4242424, 4242424, None));
        let dynamic =
            Sandbox { supplementary_groups: vec!["7".into(), "0".into()], ..sandbox(User::Dynamic) };
        let dynamic = account(&dynamic).unwrap();
        assert_eq!(dynamic.identity, Identity { uid: 61200, gid: 61200, groups: vec![0, 7] });
    }

    #[test]
    fn who_is_not_there_is_named() {
        let error = |sandbox: &Sandbox| of_service(sandbox, None).unwrap_err().what;
        assert_eq!(error(&sandbox(named("nobody-of-watt", None))), "user nobody-of-watt");
        assert_eq!(error(&sandbox(named("0", Some("none-of-watt")))), "group none-of-watt");
        assert_eq!(error(&sandbox(User::Dynamic)), "a free dynamic user");
    }

    #[test]
    fn dynamic_users_are_their_services_own_and_stay_the_same() {
        let plan = |names: &[&str]| {
            let mut plan = testing::plan(names);
            for service in plan.services.values_mut() {
                service.sandbox = sandbox(User::Dynamic).into();
            }
            plan
        };
        let names: Vec<String> = (0..500).map(|index| format!("s{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let ids = dynamic_ids(&plan(&names), |_| false);
        let distinct: BTreeSet<u32> = ids.values().copied().collect();
        assert_eq!((ids.len(), distinct.len()), (500, 500));
        assert!(distinct.iter().all(|id| (61184..=65519).contains(id)));
        let proxy = addresses::unprivileged_id(&plan(&[]).name);
        assert!(!distinct.contains(&proxy));

        let one = |is_taken: &dyn Fn(u32) -> bool| {
            dynamic_ids(&plan(&["api"]), is_taken).into_values().next().unwrap()
        };
        let first = one(&|_| false);
        assert_eq!(first, one(&|_| false));
        assert_ne!(first, one(&|id| id == first), "an account of the host keeps its id");
    }
}

//! An application's part of the cgroup tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
};

use super::{Controller, Group, Host, Mode, file, host::Hierarchy};
use crate::xattr;

/// The v2 controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// How often a cgroup is looked through that is to be emptied. What is forked by a process that was moved is born in its new
/// place, so that this ends soon.
const MOVES_MAX: usize = 16;

/// Why a hierarchy cannot be used.
#[derive(Debug)]
pub struct Refusal {
    /// The directory that was tried.
    pub path: PathBuf,
    /// What was said.
    pub error: io::Error,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot make cgroups below {}: {}", self.path.display(), self.error)
    }
}

/// How the last process leaves the tree, and what is to be removed then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WayOut {
    /// `cgroup.procs` files to join by writing "0".
    pub join: Vec<PathBuf>,
    /// Directories to remove with everything below.
    pub remove: Vec<PathBuf>,
}

/// An application's part of the tree, in every hierarchy in which it could be made.
#[derive(Debug)]
pub struct Tree {
    unified: Option<Base>,
    legacy: BTreeMap<Controller, Base>,
    refusals: Vec<Refusal>,
}

/// The directory that everything of an application is below.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    path: PathBuf,
    /// The directory of the workers below it. Its name tells applications apart that share a unit.
    workers: String,
    /// Given to us by a service manager, which removes it. Otherwise it is ours, and `parent` is where we came from.
    delegated: bool,
    parent: PathBuf,
}

impl Tree {
    /// Makes `supervisor` and the directory of the workers for an application in every hierarchy that lets us. Those that do not are in
    /// [`Tree::refusals`]. A tree that is there already is taken as it is.
    pub fn create(host: &Host, app: &str) -> Tree {
        let mut refusals = Vec::new();
        let alone = host.mode() == Mode::Unified;
        let mut make = |base: Base| match make_base(&base) {
            Ok(()) => Some(base),
            Err(error) => {
                refusals.push(Refusal { path: base.path, error });
                None
            }
        };
        let unified = host.unified.as_ref().and_then(|at| {
            let base = if alone {
                unified_base(at, app, nix::unistd::geteuid().as_raw())
            } else {
                child_base(at, app)
            };
            make(base)
        });
        // With v2 in charge a lone v1 hierarchy (an old freezer) adds nothing.
        let legacy = host.legacy.iter().filter(|_| !alone);
        let legacy = legacy.filter_map(|(name, at)| Some((*name, make(child_base(at, app))?))).collect();
        Tree { unified, legacy, refusals }
    }

    /// Whether workers get a cgroup at all.
    pub fn is_usable(&self) -> bool {
        self.unified.is_some() || !self.legacy.is_empty()
    }

    /// The hierarchies that cannot be used, and why.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// Moves these processes (spawner and daemon) into `supervisor`, then turns the controllers on. The order is the
    /// kernel's: a v2 cgroup with processes of its own cannot give controllers to those below (EBUSY).
    ///
    /// Returns the v2 controllers that could not be turned on; the limits that need them will be named as
    /// unenforced by [`Group::set_limits`].
    ///
    /// # Errors
    /// When a process cannot be moved.
    pub fn enter_supervisor(&self, pids: &[u32]) -> io::Result<Vec<&'static str>> {
        let supervisor = self.group(|base| base.path.join("supervisor"));
        for pid in pids {
            supervisor.join(*pid)?;
        }
        let Some(base) = &self.unified else { return Ok(Vec::new()) };
        if !self.legacy.is_empty() {
            return Ok(Vec::new()); // hybrid: v2 has no controllers
        }
        if base.delegated {
            // All of a delegated unit is ours: a helper of ExecStartPre= or the like would be in the way.
            empty_into(&base.path, &base.path.join("supervisor/cgroup.procs"))?;
        }
        let way: Vec<PathBuf> = self.way_down(base).collect();
        Ok(CONTROLLERS.into_iter().filter(|name| !enable(&way, name)).collect())
    }

    /// Makes a worker's cgroup in every hierarchy, or takes the one that is there.
    ///
    /// # Errors
    /// What the first hierarchy that refuses says.
    pub fn create_worker(&self, service: &str, worker: &str) -> io::Result<Group> {
        let group = self.worker(service, worker);
        self.make(&group)?;
        Ok(group)
    }

    /// Makes a worker's cgroup in the hierarchies that the group has, or takes the one that is there.
    ///
    /// # Errors
    /// What the first hierarchy that refuses says.
    pub fn make(&self, group: &Group) -> io::Result<()> {
        if let Some(dir) = group.unified.as_ref().and_then(|dir| dir.parent()) {
            file::make_dir(dir)?;
            if self.legacy.is_empty() {
                for name in CONTROLLERS {
                    // One that is not there was reported by `enter_supervisor`.
                    enable(&[dir.into()], name);
                }
            }
        }
        for dir in group.directories() {
            if let Some(service) = dir.parent() {
                file::make_dir(service)?;
            }
            file::make_dir(dir)?;
        }
        Ok(())
    }

    /// A worker's cgroup, whether it is there or not.
    pub fn worker(&self, service: &str, worker: &str) -> Group {
        self.group(|base| base.workers().join(service).join(worker))
    }

    /// The workers that have a cgroup in any hierarchy, as (service, worker): after a crash, what is left.
    pub fn workers(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for base in self.unified.iter().chain(self.legacy.values()) {
            let app = base.workers();
            for service in file::subdirectories(&app) {
                let workers = file::subdirectories(&app.join(&service));
                found.extend(workers.into_iter().map(|worker| (service.clone(), worker)));
            }
        }
        found
    }

    /// What the last process (the spawner) does at the end: go back to where it came from, and remove the tree. A
    /// delegated cgroup is left to the service manager, which removes it.
    pub fn way_out(&self) -> WayOut {
        let mut way = WayOut::default();
        for base in self.unified.iter().chain(self.legacy.values()) {
            let (join, remove) = match base.delegated {
                true => (None, base.workers()),
                false => (Some(base.parent.join("cgroup.procs")), base.path.clone()),
            };
            way.join.extend(join.filter(|path| !way.join.contains(path)));
            if !way.remove.contains(&remove) {
                way.remove.push(remove);
            }
        }
        way
    }

    fn group(&self, at: impl Fn(&Base) -> PathBuf) -> Group {
        Group {
            unified: self.unified.as_ref().map(&at),
            legacy: self.legacy.iter().map(|(name, base)| (*name, at(base))).collect(),
        }
    }

    /// The cgroups that have to hand controllers down, from the top.
    fn way_down<'a>(&self, base: &'a Base) -> impl Iterator<Item = PathBuf> + use<'a> {
        // `/sys/fs/cgroup/watt/<app>` has two above it that are not anybody else's.
        let above =
            (!base.delegated).then(|| base.path.parent().map(|watt| [base.parent.clone(), watt.into()]));
        above.flatten().into_iter().flatten().chain([base.path.clone(), base.workers()])
    }
}

impl Base {
    fn workers(&self) -> PathBuf {
        self.path.join(&self.workers)
    }
}

/// The base on a host with v2 alone.
fn unified_base(at: &Hierarchy, app: &str, uid: u32) -> Base {
    // A daemon that is started again finds itself in `supervisor`, and so does one of a unit with DelegateSubgroup=.
    let unit = match at.own.parent() {
        Some(parent) if at.own.ends_with("supervisor") => parent,
        _ => &at.own,
    };
    if uid != 0 || is_delegated(unit) {
        // An ordinary user without delegation is refused here when the directories are made.
        return Base {
            path: unit.into(),
            workers: format!("app-{app}"),
            delegated: true,
            parent: unit.into(),
        };
    }
    let path = at.mount.join("watt").join(app);
    Base { path, workers: "app".into(), delegated: false, parent: at.mount.clone() }
}

/// The base in a hierarchy of a hybrid or v1 host: a child of where this process was when the tree was made.
fn child_base(at: &Hierarchy, app: &str) -> Base {
    let name = format!("watt-{app}");
    let inside = at.own.ends_with(Path::new(&name).join("supervisor"));
    let parent = match at.own.ancestors().nth(2) {
        Some(parent) if inside => parent,
        _ => &at.own,
    };
    Base { path: parent.join(name), workers: "app".into(), delegated: false, parent: parent.into() }
}

/// Whether a service manager gave us this cgroup: systemd marks it (CGROUP_DELEGATION, "Controlling Delegation").
fn is_delegated(dir: &Path) -> bool {
    ["trusted.delegate", "user.delegate"]
        .iter()
        .any(|name| xattr::get(dir, name).is_ok_and(|value| value == b"1"))
}

fn make_base(base: &Base) -> io::Result<()> {
    if !base.delegated {
        if let Some(above) = base.path.parent().filter(|above| *above != base.parent) {
            file::make_dir(above)?;
        }
        file::make_dir(&base.path)?;
    }
    file::make_dir(&base.path.join("supervisor"))?;
    file::make_dir(&base.workers())
}

/// Turns a controller on for the children of these cgroups. Says whether all of them have it.
fn enable(dirs: &[PathBuf], controller: &str) -> bool {
    dirs.iter().all(|dir| {
        let control = dir.join("cgroup.subtree_control");
        let is_on =
            file::read(&control).is_ok_and(|text| text.split_whitespace().any(|name| name == controller));
        is_on || file::write(&control, &format!("+{controller}")).is_ok()
    })
}

/// Moves the processes of a cgroup. Looks again for those that were forked meanwhile.
fn empty_into(cgroup: &Path, procs: &Path) -> io::Result<()> {
    for _ in 0..MOVES_MAX {
        let pids = file::processes(cgroup);
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            file::write(procs, &pid.to_string()).or_else(gone_is_fine)?;
        }
    }
    Ok(())
}

fn gone_is_fine(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mount: &str, own: &str) -> Hierarchy {
        Hierarchy { mount: mount.into(), own: own.into() }
    }

    #[test]
    fn root_on_pure_v2_has_a_place_of_its_own() {
        let base = unified_base(&at("/nowhere", "/nowhere/user.slice/session-1.scope"), "shop", 0);
        assert_eq!(base.path, Path::new("/nowhere/watt/shop"));
        assert!(!base.delegated);
        let again = unified_base(&at("/nowhere", "/nowhere/watt/shop/supervisor"), "shop", 0);
        assert_eq!(base, again);
    }

    #[test]
    fn an_ordinary_user_stays_where_it_is() {
        let base = unified_base(&at("/nowhere", "/nowhere/user.slice/app.service/supervisor"), "shop", 1000);
        assert_eq!(base.path, Path::new("/nowhere/user.slice/app.service"));
    }

    #[test]
    fn a_child_below_the_own_cgroup_is_found_again_from_inside() {
        let base = child_base(&at("/m", "/m/a"), "shop");
        assert_eq!(base.path, Path::new("/m/a/watt-shop"));
        assert_eq!(base, child_base(&at("/m", "/m/a/watt-shop/supervisor"), "shop"));
        // Another application's supervisor is an ordinary place to be.
        let nested = child_base(&at("/m", "/m/a/watt-other/supervisor"), "shop");
        assert_eq!(nested.path, Path::new("/m/a/watt-other/supervisor/watt-shop"));
    }

    #[test]
    fn the_tree_is_made_over_plain_directories() {
        let root = tempfile::tempdir().unwrap();
        let host = Host {
            unified: Some(Hierarchy { mount: root.path().into(), own: root.path().into() }),
            legacy: BTreeMap::new(),
        };
        // Delegated as for an ordinary user; the test may run as either.
        let base = unified_base(host.unified.as_ref().unwrap(), "shop", 1000);
        make_base(&base).unwrap();
        let tree = Tree { unified: Some(base), legacy: BTreeMap::new(), refusals: Vec::new() };
        let group = tree.create_worker("api", "0").unwrap();
        assert!(root.path().join("app-shop/api/0").is_dir());
        assert_eq!(tree.workers(), [("api".to_owned(), "0".to_owned())].into());
        assert_eq!(tree.way_out().join, Vec::<PathBuf>::new());
        group.remove().unwrap();
        assert!(!root.path().join("app-shop/api").exists());
        // Another application in the same unit has workers of its own.
        let base = unified_base(host.unified.as_ref().unwrap(), "other", 1000);
        let other = Tree { unified: Some(base), legacy: BTreeMap::new(), refusals: Vec::new() };
        assert_ne!(other.worker("api", "0"), group);
    }

    #[test]
    fn controllers_are_turned_on_from_the_top() {
        let base = unified_base(&at("/nowhere", "/nowhere"), "shop", 0);
        let tree = Tree { unified: Some(base.clone()), legacy: BTreeMap::new(), refusals: Vec::new() };
        let way: Vec<PathBuf> = tree.way_down(&base).collect();
        let expected = ["/nowhere", "/nowhere/watt", "/nowhere/watt/shop", "/nowhere/watt/shop/app"];
        assert_eq!(way, expected.map(PathBuf::from));
    }

    #[test]
    fn a_host_that_refuses_says_so() {
        let host = Host { unified: Some(at("/proc", "/proc/self")), legacy: BTreeMap::new() };
        let tree = Tree::create(&host, "shop");
        assert!(!tree.is_usable());
        assert_eq!(tree.refusals().len(), 1);
        assert!(!tree.worker("api", "0").is_usable());
    }
}

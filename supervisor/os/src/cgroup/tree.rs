//! An application's part of the cgroup tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io, iter,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{Controller, Group, Host, Mode, file, file::gone_is_fine, group::MOVES_MAX, host::Hierarchy};
use crate::{process_info::Stat, xattr};

/// The v2 controllers that are on in any case: two that count what a worker uses, and the one that gives each service an equal
/// share of the CPUs. The others cost something and are turned on for the first limit that needs them.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// How far up a process's parents are looked at, which may change meanwhile.
const ANCESTORS_MAX: usize = 64;

/// How often and how far apart one looks for other programs in a cgroup: what started us may have started something short as well, and no
/// limit would hold for as long as we run.
const STRANGER_LOOKS: usize = 3;
const STRANGER_LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a hierarchy cannot be used.
#[derive(Debug)]
pub enum Refusal {
    /// The kernel does not let us.
    Denied {
        /// The directory that was tried.
        path: PathBuf,
        /// What was said.
        error: io::Error,
    },
    /// It was not given to us, and we are not alone in it.
    Shared {
        /// The cgroup this process is in.
        path: PathBuf,
        /// A process of another program that is in it too.
        stranger: u32,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Denied { path, error } => {
                write!(f, "cannot make cgroups below {}: {error}", path.display())
            }
            Refusal::Shared { path, stranger } => {
                let path = path.display();
                write!(f, "{path} is not delegated, and other programs run in it, such as pid {stranger}")
            }
        }
    }
}

/// How the last process leaves the tree, and what is to be removed then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WayOut {
    /// `cgroup.procs` files to join by writing "0".
    pub join: Vec<PathBuf>,
    /// Directories to remove with everything below.
    pub remove: Vec<PathBuf>,
    /// Directories to remove after those, unless another application is in them.
    pub remove_if_empty: Vec<PathBuf>,
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
    /// A unit's cgroup, which its service manager removes. Otherwise it is ours, and `parent` is where we came from.
    is_unit: bool,
    parent: PathBuf,
}

impl Tree {
    /// Makes `supervisor` and the directory of the workers for an application in every hierarchy that lets us. Those that do not are in
    /// [`Tree::refusals`]. A tree that is there already is taken as it is.
    pub fn create(host: &Host, app: &str) -> Tree {
        let mut refusals = Vec::new();
        let alone = host.mode() == Mode::Unified;
        let mut make = |base: Result<Base, Refusal>| {
            let made = base.and_then(|base| match make_base(&base) {
                Ok(()) => Ok(base),
                Err(error) => Err(Refusal::Denied { path: base.path, error }),
            });
            made.map_err(|refusal| refusals.push(refusal)).ok()
        };
        let unified = host.unified.as_ref().and_then(|at| {
            let uid = nix::unistd::geteuid().as_raw();
            make(if alone { unified_base(at, app, uid) } else { Ok(child_base(at, app)) })
        });
        // With v2 in charge a lone v1 hierarchy (an old freezer) adds nothing.
        let legacy = host.legacy.iter().filter(|_| !alone);
        let legacy = legacy.filter_map(|(name, at)| Some((*name, make(Ok(child_base(at, app)))?))).collect();
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
        let mut supervisor = self.group(|base| base.path.join("supervisor"));
        // Nothing is counted there, and a cpuset takes nobody before it has CPUs.
        supervisor.legacy.retain(|controller, _| !controller.is_for_limits_alone());
        for pid in pids {
            supervisor.join(*pid)?;
        }
        let Some(base) = &self.unified else { return Ok(Vec::new()) };
        if !self.legacy.is_empty() {
            return Ok(Vec::new()); // hybrid: v2 has no controllers
        }
        if base.is_unit {
            // What else is in it is ours to move, a helper of ExecStartPre= or the like, and would be in the way.
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
        self.make(&group, &BTreeSet::new())?;
        Ok(group)
    }

    /// Makes a cgroup of this tree in the hierarchies that the group has, or takes the one that is there, and turns on these
    /// controllers for it. One that cannot be turned on is named by [`Group::set_limits`]. Says whether the group was there
    /// nowhere before: then it has no limit yet, and has counted nothing.
    ///
    /// # Errors
    /// What the first hierarchy that refuses says.
    pub fn make(&self, group: &Group, needed: &BTreeSet<Controller>) -> io::Result<bool> {
        self.turn_on(needed);
        let mut is_new = true;
        for (controller, dir) in group.hierarchies() {
            let Some(above) = dir.parent() else { continue };
            file::make_dir(above)?;
            if controller.is_none() {
                self.turn_on_below(above, needed);
            }
            is_new &= file::make_dir(dir)?;
            if controller == Some(Controller::Cpuset) {
                inherit_cpuset(dir)?;
            }
        }
        Ok(is_new)
    }

    /// Turns v2 controllers on for the application and its services: on a hybrid host those that no v1 hierarchy has.
    fn turn_on(&self, needed: &BTreeSet<Controller>) {
        let Some(base) = &self.unified else { return };
        let way: Vec<PathBuf> = self.way_down(base).collect();
        for controller in self.without_legacy(needed) {
            enable(&way, controller);
        }
    }

    fn turn_on_below(&self, service: &Path, needed: &BTreeSet<Controller>) {
        let always = CONTROLLERS.into_iter().filter(|_| self.legacy.is_empty());
        for name in always.chain(self.without_legacy(needed)) {
            // One that is not there was reported by `enter_supervisor`, or will be by the limit.
            enable(&[service.into()], name);
        }
    }

    fn without_legacy(&self, needed: &BTreeSet<Controller>) -> impl Iterator<Item = &'static str> {
        needed.iter().filter(|controller| !self.legacy.contains_key(controller)).map(|found| found.name())
    }

    /// A worker's cgroup, whether it is there or not.
    pub fn worker(&self, service: &str, worker: &str) -> Group {
        self.group(|base| base.workers().join(service).join(worker))
    }

    /// The cgroup of all workers of a service, whether it is there or not.
    pub fn service(&self, service: &str) -> Group {
        self.group(|base| base.workers().join(service))
    }

    /// The cgroup of all workers of the application.
    pub fn application(&self) -> Group {
        self.group(Base::workers)
    }

    /// Whether limits of this controller can be had, without trying.
    pub fn offers(&self, controller: Controller) -> bool {
        if self.legacy.contains_key(&controller) {
            return true;
        }
        let Some(base) = &self.unified else { return false };
        let Some(top) = self.way_down(base).next() else { return false };
        let has = |file: &str| file::words(&top.join(file)).any(|name| name == controller.name());
        // On a hybrid host the top has processes of others, which only the root of all may have beside controllers for those below.
        let can_turn_on = self.legacy.is_empty() || !top.join("cgroup.type").exists();
        has("cgroup.subtree_control") || can_turn_on && has("cgroup.controllers")
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
    /// unit's cgroup is left to the service manager, which removes it.
    pub fn way_out(&self) -> WayOut {
        let mut way = WayOut::default();
        for base in self.unified.iter().chain(self.legacy.values()) {
            let (join, remove) = match base.is_unit {
                true => (None, base.workers()),
                false => (Some(base.parent.join("cgroup.procs")), base.path.clone()),
            };
            way.remove_if_empty.extend(base.shared_folder().map(Path::to_path_buf));
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
        let parent = (!base.is_unit).then(|| base.parent.clone());
        let shared = base.shared_folder().map(Path::to_path_buf);
        parent.into_iter().chain(shared).chain([base.path.clone(), base.workers()])
    }
}

impl Base {
    fn workers(&self) -> PathBuf {
        self.path.join(&self.workers)
    }

    /// The directory of all of root's applications on pure v2, between this base and its parent.
    fn shared_folder(&self) -> Option<&Path> {
        self.path.parent().filter(|above| !self.is_unit && *above != self.parent)
    }
}

/// The base on a host with v2 alone: the own unit where that is right, and for root a place of its own otherwise.
///
/// A mark tells that a unit was delegated, but its absence tells an ordinary user nothing: the manager of a user's units
/// sets none (systemd 252), and `trusted.delegate`, which is older than `user.delegate`, is hidden. That the user owns a
/// cgroup does not tell either, because all units of that manager are the user's. So without a mark only a unit in which
/// nothing but watt runs is taken, since all that is in it is moved: that of
/// `systemd-run --user --scope -p Delegate=yes wattctl up`, but not a terminal's.
fn unified_base(at: &Hierarchy, app: &str, uid: u32) -> Result<Base, Refusal> {
    // A daemon that is started again finds itself in `supervisor`, and so does one of a unit with DelegateSubgroup=.
    let (unit, is_taken) = match at.own.parent() {
        Some(parent) if at.own.ends_with("supervisor") => (parent, true),
        _ => (at.own.as_path(), false),
    };
    let is_ours = is_delegated(unit) || (uid != 0 && is_taken);
    if uid == 0 && !is_ours {
        let path = at.mount.join("watt").join(app);
        return Ok(Base { path, workers: "app".into(), is_unit: false, parent: at.mount.clone() });
    }
    if !is_ours && let Some(stranger) = stranger(unit) {
        return Err(Refusal::Shared { path: unit.into(), stranger });
    }
    Ok(Base { path: unit.into(), workers: format!("app-{app}"), is_unit: true, parent: unit.into() })
}

/// The base in a hierarchy of a hybrid or v1 host: a child of where this process was when the tree was made.
fn child_base(at: &Hierarchy, app: &str) -> Base {
    let name = format!("watt-{app}");
    let inside = at.own.ends_with(Path::new(&name).join("supervisor"));
    let parent = match at.own.ancestors().nth(2) {
        Some(parent) if inside => parent,
        _ => &at.own,
    };
    Base { path: parent.join(name), workers: "app".into(), is_unit: false, parent: parent.into() }
}

/// Whether a service manager gave us this cgroup: systemd marks it (CGROUP_DELEGATION, "Controlling Delegation").
fn is_delegated(dir: &Path) -> bool {
    ["trusted.delegate", "user.delegate"]
        .iter()
        .any(|name| xattr::get(dir, name).is_ok_and(|value| value == b"1"))
}

/// A process in this cgroup that neither runs our program nor was started by one that does, and that stays.
#[expect(clippy::disallowed_methods, reason = "the kernel tells nobody that a process has left a cgroup")]
fn stranger(dir: &Path) -> Option<u32> {
    let mut found = None;
    for look in 0..STRANGER_LOOKS {
        if look > 0 {
            thread::sleep(STRANGER_LOOK_EVERY);
        }
        let text = file::read(&dir.join("cgroup.procs")).unwrap_or_default();
        found = text.lines().filter_map(|line| line.parse().ok()).find(|pid| !is_of_ours(*pid));
        found?;
    }
    found
}

fn is_of_ours(pid: u32) -> bool {
    let parent = |pid: &u32| Stat::of(*pid).ok().map(|stat| stat.parent);
    let is_ours = iter::successors(Some(pid), parent).take(ANCESTORS_MAX).any(runs_our_program);
    is_ours || has_ended(pid)
}

/// Who has ended is in nobody's way. To be asked after everything else, because who ends meanwhile has no program and soon no parent.
fn has_ended(pid: u32) -> bool {
    // 0 stands for a process that our /proc does not show.
    pid != 0 && Stat::of(pid).map_or(true, |stat| stat.state == b'Z')
}

fn runs_our_program(pid: u32) -> bool {
    let program =
        |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| (file.dev(), file.ino()));
    let its = program(&pid.to_string());
    its.is_some() && its == program("self")
}

fn make_base(base: &Base) -> io::Result<()> {
    if !base.is_unit {
        make_own(base)?;
    }
    file::make_dir(&base.path.join("supervisor"))?;
    file::make_dir(&base.workers())?;
    Ok(())
}

/// Makes a base that is not a unit's. Another application that ends may remove the folder above in between.
fn make_own(base: &Base) -> io::Result<()> {
    let make = || -> io::Result<()> {
        base.shared_folder().map(file::make_dir).transpose()?;
        file::make_dir(&base.path)?;
        Ok(())
    };
    make().or_else(|error| if error.kind() == io::ErrorKind::NotFound { make() } else { Err(error) })
}

/// Turns a controller on for the children of these cgroups. Says whether all of them have it.
fn enable(dirs: &[PathBuf], controller: &str) -> bool {
    dirs.iter().all(|dir| {
        let control = dir.join("cgroup.subtree_control");
        let is_on = file::words(&control).any(|name| name == controller);
        is_on || file::write(&control, &format!("+{controller}")).is_ok()
    })
}

/// Gives a v1 cpuset the CPUs and the memory of the one above, where it has none: it takes no process before
/// (cgroup-v1/cpusets.rst).
fn inherit_cpuset(dir: &Path) -> io::Result<()> {
    let names = ["cpuset.cpus", "cpuset.mems"];
    let lacks = |name: &&str| file::read(&dir.join(name)).is_ok_and(|text| text.trim().is_empty());
    let (Some(above), true) = (dir.parent(), names.iter().any(lacks)) else { return Ok(()) };
    inherit_cpuset(above)?;
    for name in names.iter().filter(|name| lacks(name)) {
        file::write(&dir.join(name), file::read(&above.join(name))?.trim())?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mount: &str, own: &str) -> Hierarchy {
        Hierarchy { mount: mount.into(), own: own.into() }
    }

    #[test]
    fn root_on_pure_v2_has_a_place_of_its_own() {
        let base = unified_base(&at("/nowhere", "/nowhere/user.slice/session-1.scope"), "shop", 0).unwrap();
        assert_eq!(base.path, Path::new("/nowhere/watt/shop"));
        assert!(!base.is_unit);
        let again = unified_base(&at("/nowhere", "/nowhere/watt/shop/supervisor"), "shop", 0).unwrap();
        assert_eq!(base, again);
        let tree = Tree { unified: Some(base), legacy: BTreeMap::new(), refusals: Vec::new() };
        let way = tree.way_out();
        assert_eq!(way.remove, [Path::new("/nowhere/watt/shop")]);
        assert_eq!(way.remove_if_empty, [Path::new("/nowhere/watt")]);
    }

    #[test]
    fn an_ordinary_user_that_has_moved_stays_where_it_is() {
        let unit = tempfile::tempdir().unwrap();
        // Somebody who came later is no reason to lose sight of the workers.
        fs::write(unit.path().join("cgroup.procs"), "0\n").unwrap();
        let base =
            unified_base(&at("/nowhere", unit.path().join("supervisor").to_str().unwrap()), "shop", 1000);
        assert_eq!(base.unwrap().path, unit.path());
    }

    #[test]
    fn a_unit_that_is_not_known_to_be_delegated_is_left_to_the_strangers_in_it() {
        let unit = tempfile::tempdir().unwrap();
        let take = |procs: &str| {
            fs::write(unit.path().join("cgroup.procs"), procs).unwrap();
            match unified_base(&at("/nowhere", unit.path().to_str().unwrap()), "shop", 1000) {
                Ok(base) => Ok(base.path),
                Err(Refusal::Shared { stranger, .. }) => Err(stranger),
                Err(other) => panic!("{other}"),
            }
        };
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let own = format!("{}\n{}\n", std::process::id(), child.id());
        assert_eq!(take(&own), Ok(unit.path().to_path_buf()));
        assert_eq!(take(&format!("{own}1\n")), Err(1));
        assert_eq!(take(&format!("{own}0\n")), Err(0));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(take(&own), Ok(unit.path().to_path_buf()));
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
        let base = unified_base(host.unified.as_ref().unwrap(), "shop", 1000).unwrap();
        make_base(&base).unwrap();
        let tree = Tree { unified: Some(base), legacy: BTreeMap::new(), refusals: Vec::new() };
        let group = tree.worker("api", "0");
        assert!(tree.make(&group, &BTreeSet::new()).unwrap(), "it is new");
        assert!(!tree.make(&group, &BTreeSet::new()).unwrap(), "and now it is there");
        assert!(root.path().join("app-shop/api/0").is_dir());
        assert_eq!(tree.workers(), [("api".to_owned(), "0".to_owned())].into());
        assert_eq!(tree.way_out().join, Vec::<PathBuf>::new());
        group.remove().unwrap();
        assert!(!root.path().join("app-shop/api").exists());
        // Another application in the same unit has workers of its own.
        let base = unified_base(host.unified.as_ref().unwrap(), "other", 1000).unwrap();
        let other = Tree { unified: Some(base), legacy: BTreeMap::new(), refusals: Vec::new() };
        assert_ne!(other.worker("api", "0"), group);
    }

    #[test]
    fn controllers_are_turned_on_from_the_top() {
        let base = unified_base(&at("/nowhere", "/nowhere"), "shop", 0).unwrap();
        let tree = Tree { unified: Some(base.clone()), legacy: BTreeMap::new(), refusals: Vec::new() };
        let way: Vec<PathBuf> = tree.way_down(&base).collect();
        let expected = ["/nowhere", "/nowhere/watt", "/nowhere/watt/shop", "/nowhere/watt/shop/app"];
        assert_eq!(way, expected.map(PathBuf::from));
    }

    /// A controller is in one hierarchy, and a v1 one that is not mounted leaves it to v2.
    #[test]
    fn a_hybrid_host_has_in_v2_what_v1_does_not() {
        let root = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| fs::write(root.path().join(file), text).unwrap();
        put("cgroup.controllers", "hugetlb\n");
        put("cgroup.subtree_control", "");
        let own = root.path().to_str().unwrap();
        let base = child_base(&at(own, own), "shop");
        make_base(&base).unwrap();
        let memory = child_base(&at("/v1/memory", "/v1/memory"), "shop");
        let legacy = [(Controller::Memory, memory)].into();
        let tree = Tree { unified: Some(base.clone()), legacy, refusals: Vec::new() };
        let way: Vec<PathBuf> = tree.way_down(&base).collect();
        assert_eq!(way, ["", "watt-shop", "watt-shop/app"].map(|below| root.path().join(below)));
        let offers = |controller| tree.offers(controller);
        assert!(offers(Controller::Hugetlb) && offers(Controller::Memory) && !offers(Controller::Io));
        for dir in &way {
            fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
        }
        tree.turn_on(&[Controller::Hugetlb, Controller::Memory].into());
        for dir in &way {
            assert_eq!(fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap(), "+hugetlb");
        }
        // Below the root of all, a cgroup with processes of others gives none down.
        put("cgroup.subtree_control", "");
        put("cgroup.type", "domain\n");
        assert!(!offers(Controller::Hugetlb));
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

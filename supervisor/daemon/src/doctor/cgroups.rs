//! Which limits the host enforces, found out with a cgroup of our own that is removed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use watt_core::plan::PRESSURE_WINDOW;
use watt_os::cgroup::{
    Controller, Group, Host, LimitName, Limits, Mode, PressureOf, Reason, Tree, Unenforced,
};

/// The service of the trial: a name that no service can have, so that no running application's is touched.
const SERVICE: &str = "-doctor";
/// Values that every kernel takes, of the controllers that are on in any case: 64 MiB, and as much of the rest.
const LIMITS: Limits = Limits {
    memory: Some(64 << 20),
    memory_high: Some(32 << 20),
    memory_low: Some(16 << 20),
    memory_min: Some(8 << 20),
    swap: None,
    cpu_millis: None,
    cpu_weight: None,
    cpus: BTreeSet::new(),
    pids: Some(64),
    io_weight: None,
    io: BTreeMap::new(),
    hugetlb: BTreeMap::new(),
    oom_group: true,
};
/// The others: their controllers are turned on for the first limit that needs them, which a trial must not be.
const BY_CONTROLLER: [(LimitName, Controller); 6] = [
    (LimitName::Cpu, Controller::Cpu),
    (LimitName::CpuWeight, Controller::Cpu),
    (LimitName::IoWeight, Controller::Io),
    (LimitName::Cpuset, Controller::Cpuset),
    (LimitName::Io, Controller::Io),
    (LimitName::Hugetlb, Controller::Hugetlb),
];

/// Why nothing is told of stalls on most kernels where nothing is.
pub(super) const NOT_COUNTED: &str = "the kernel does not count stalls";

/// What was found out about cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroups {
    pub(super) mode: Mode,
    /// Why none can be made, when none can.
    pub(super) refused: Option<String>,
    /// The limits that are not enforced, and why.
    pub(super) missing: BTreeMap<LimitName, String>,
    /// Why it cannot be told that workers stall, when it cannot.
    pub(crate) no_pressure: Option<String>,
}

impl Cgroups {
    pub(super) fn try_out() -> Cgroups {
        let host = match Host::detect(Path::new("/")) {
            Ok(host) => host,
            Err(error) => return Cgroups::none(Mode::None, format!("cannot read /proc: {error}")),
        };
        let tree = Tree::create(&host, &format!("watt-doctor-{}", std::process::id()));
        // Inside a delegated unit, controllers could only be turned on by moving the unit's processes, which are not
        // ours to move. What is offered is written there.
        let found = match (host.mode(), delegated_unit(&tree)) {
            (Mode::Unified, Some(unit)) if tree.is_usable() => Cgroups {
                mode: Mode::Unified,
                refused: None,
                missing: not_offered(&unit),
                no_pressure: no_pressure(&tree.application()),
            },
            (mode, _) => {
                // What fails here fails with a worker's cgroup as well.
                let _ = tree.enter_supervisor(&[]);
                Cgroups::of(mode, &tree)
            }
        };
        remove(&tree);
        found
    }

    /// What the tree of an application enforces, in which every process is in its place.
    pub(crate) fn of(mode: Mode, tree: &Tree) -> Cgroups {
        if !tree.is_usable() {
            // Each hierarchy has its refusal, and they say the same.
            let refusal = tree.refusals().first();
            let reason = refusal.map_or_else(|| "no cgroups are mounted".to_owned(), ToString::to_string);
            return Cgroups::none(mode, reason);
        }
        let group = tree.worker(SERVICE, "0");
        match tree.make(&group, &LIMITS.controllers()) {
            Ok(_) => {
                let missing = group.set_limits(&LIMITS).into_iter().chain(not_there(tree));
                let missing = missing.map(|entry| (entry.limit, entry.to_string())).collect();
                let no_pressure = no_pressure(&group);
                // An empty cgroup that was just made can be removed.
                let _ = group.remove();
                Cgroups { mode, refused: None, missing, no_pressure }
            }
            Err(error) => Cgroups::none(mode, format!("cannot make a cgroup: {error}")),
        }
    }

    /// Whether they leave a worker as many processes as it likes.
    pub(crate) fn lack_pids(&self) -> bool {
        self.refused.is_some() || self.missing.contains_key(&LimitName::Pids)
    }

    /// Whether a limit holds here.
    pub(crate) fn enforce(&self, limit: LimitName) -> bool {
        self.refused.is_none() && !self.missing.contains_key(&limit)
    }

    #[cfg(test)]
    pub(crate) fn all_enforced() -> Cgroups {
        Cgroups { mode: Mode::Unified, refused: None, missing: BTreeMap::new(), no_pressure: None }
    }

    pub(crate) fn none(mode: Mode, reason: String) -> Cgroups {
        let no_pressure = Some("no cgroup can be made here".to_owned());
        Cgroups { mode, refused: Some(reason), missing: BTreeMap::new(), no_pressure }
    }
}

/// Why the kernel does not tell that processes of a group stall, when it does not.
fn no_pressure(group: &Group) -> Option<String> {
    let trial = group.pressure_trigger(PressureOf::Memory, PRESSURE_WINDOW / 10, PRESSURE_WINDOW);
    let error = trial.err()?;
    Some(match Path::new("/proc/pressure").exists() {
        false => NOT_COUNTED.to_owned(),
        true if error.kind() == io::ErrorKind::NotFound => "there is no cgroup v2 hierarchy".to_owned(),
        true => format!("the kernel refuses to tell: {error}"),
    })
}

/// The limits whose controllers are not there.
fn not_there(tree: &Tree) -> impl Iterator<Item = Unenforced> {
    let missing = BY_CONTROLLER.into_iter().filter(|(_, controller)| !tree.offers(*controller));
    missing.map(|(limit, controller)| Unenforced { limit, reason: Reason::NoController(controller.name()) })
}

/// The unit's cgroup, when a service manager gave it to us: then it is not left at the end.
fn delegated_unit(tree: &Tree) -> Option<PathBuf> {
    let way = tree.way_out();
    let app = way.remove.first().filter(|_| way.join.is_empty())?;
    app.parent().map(Path::to_path_buf)
}

fn not_offered(unit: &Path) -> BTreeMap<LimitName, String> {
    let offered = fs::read_to_string(unit.join("cgroup.controllers")).unwrap_or_default();
    let needed = [
        (LimitName::Memory, Controller::Memory),
        (LimitName::MemoryHigh, Controller::Memory),
        (LimitName::MemoryLow, Controller::Memory),
        (LimitName::MemoryMin, Controller::Memory),
        (LimitName::Pids, Controller::Pids),
    ];
    let needed =
        needed.into_iter().chain(BY_CONTROLLER).map(|(limit, controller)| (limit, controller.name()));
    let missing = needed.filter(|(_, name)| !offered.split_whitespace().any(|offer| offer == *name));
    missing
        .map(|(limit, name)| (limit, format!("the controller {name} is not delegated to this unit")))
        .collect()
}

/// Removes what was made, from the leaves up. What others use is not empty and stays.
fn remove(tree: &Tree) {
    // The worker's own cgroup first: in every hierarchy.
    let _ = tree.worker(SERVICE, "0").remove();
    let way = tree.way_out();
    for path in way.remove {
        // Of a delegated unit it is the directory of the workers, of our own base the base itself.
        let in_unit = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("app-"));
        let (base, app) = match in_unit {
            true => (path.parent().map(Path::to_path_buf), path),
            false => (Some(path.clone()), path.join("app")),
        };
        let of_base = base.iter().flat_map(|base| [base.join("supervisor"), base.clone()]);
        for dir in [app.join(SERVICE), app.clone()].into_iter().chain(of_base) {
            let _: io::Result<()> = fs::remove_dir(dir);
        }
    }
    for dir in way.remove_if_empty {
        let _: io::Result<()> = fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_leaves_nothing_behind() {
        let found = Cgroups::try_out();
        assert!(found.refused.is_some() || found.mode != Mode::None, "{found:?}");
        let name = format!("watt-doctor-{}", std::process::id());
        let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts =
            own.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
        for mount in mounts {
            let left = walk(Path::new(mount), 3).into_iter().find(|path| path.ends_with(&name));
            assert_eq!(left, None);
        }
    }

    fn walk(dir: &Path, depth: usize) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        let below = dirs.iter().filter(|_| depth > 0).flat_map(|dir| walk(dir, depth - 1));
        below.collect::<Vec<_>>().into_iter().chain(dirs).collect()
    }

    #[test]
    fn a_unit_without_a_controller_is_named() {
        let unit = tempfile::tempdir().unwrap();
        fs::write(unit.path().join("cgroup.controllers"), "cpuset cpu pids io\n").unwrap();
        let missing: Vec<LimitName> = not_offered(unit.path()).into_keys().collect();
        let expected = [
            LimitName::Memory,
            LimitName::MemoryHigh,
            LimitName::MemoryLow,
            LimitName::MemoryMin,
            LimitName::Hugetlb,
        ];
        assert_eq!(missing, expected);
    }
}

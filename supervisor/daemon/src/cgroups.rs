//! The application's cgroups: made at the start, one for each run, and what the host does not let them enforce.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use watt_core::{
    AppName, ServiceId, WorkerId,
    plan::{self, CgroupLimits, Plan, SchedulingPolicy},
};
use watt_os::cgroup::{self, Controller, Group, LimitName, Mode, Tree, Unenforced, WayOut};

use crate::{
    addresses, beside, doctor,
    limit_of::{self, LimitOf},
    oom,
    places::Places,
    seat::Seat,
    tenure::Tenure,
    words,
};

/// The cgroups of an application on this host, as far as it has any.
#[derive(Debug)]
pub(crate) struct Cgroups {
    host: Option<cgroup::Host>,
    tree: Option<Arc<Tree>>,
    found: doctor::Cgroups,
    /// Processes of a worker are bounded by a resource limit, as no cgroup does it.
    pids_by_rlimit: bool,
    /// Services whose workers have the limits of all of them together, or will soon have, because that is done beside the loop. To
    /// set the same again could make the kernel reclaim memory, which takes time.
    totals: BTreeMap<ServiceId, Total>,
    /// The times of groups of workers to which something is done beside the loop, or was.
    tenures: BTreeMap<WorkerId, Tenure>,
}

/// The group of all workers of a service.
#[derive(Debug, Default)]
struct Total {
    /// What of its limits is not enforced, in words.
    unenforced: Vec<String>,
    tenure: Tenure,
}

impl Cgroups {
    /// Makes the application's tree, and moves these processes (spawner and daemon) out of the workers' way. A
    /// successor finds everything as it was. Everything but limits works without.
    pub(crate) fn prepare(app: &AppName, places: &Places, own_pids: &[u32]) -> Cgroups {
        let host = match cgroup::Host::detect("/".as_ref()) {
            Ok(host) => host,
            Err(error) => {
                let reason = format!("cannot read /proc: {error}");
                return Cgroups {
                    host: None,
                    tree: None,
                    found: doctor::Cgroups::none(Mode::None, reason),
                    pids_by_rlimit: false,
                    totals: BTreeMap::new(),
                    tenures: BTreeMap::new(),
                };
            }
        };
        let mode = host.mode();
        let tree = Tree::create(&host, &addresses::cgroup_name(app, &places.runtime));
        if tree.is_usable()
            && let Err(error) = tree.enter_supervisor(own_pids)
        {
            tracing::warn!("the supervisor cannot move to a cgroup of its own: {error}");
        }
        for refusal in tree.refusals() {
            tracing::warn!("limits need cgroups: {refusal}");
        }
        let found = doctor::Cgroups::of(mode, &tree);
        let host = Some(host);
        let tree = Some(tree).filter(Tree::is_usable).map(Arc::new);
        Cgroups {
            host,
            tree,
            found,
            pids_by_rlimit: false,
            totals: BTreeMap::new(),
            tenures: BTreeMap::new(),
        }
    }

    /// What they enforce.
    pub(crate) fn found(&self) -> &doctor::Cgroups {
        &self.found
    }

    /// Says whether a resource limit bounds a worker's processes in place of a cgroup.
    pub(crate) fn pids_by_rlimit(&mut self, does: bool) {
        self.pids_by_rlimit = does;
    }

    /// What the kernel calls the cgroups that bound a worker's memory.
    pub(crate) fn levels(&self, worker: &WorkerId) -> Option<oom::Levels> {
        let (host, tree) = (self.host.as_ref()?, self.tree.as_ref()?);
        Some(oom::Levels {
            worker: host.memory_path(&tree.worker(worker.service.as_str(), &worker.place()))?,
            service: host.memory_path(&tree.service(worker.service.as_str()))?,
            application: host.memory_path(&tree.application())?,
        })
    }

    /// How often memory ended at each of these. `None` where the kernel does not count that: on v1.
    pub(crate) fn memory_ended(&self, worker: &WorkerId) -> Option<oom::Counts> {
        let tree = self.tree.as_ref()?;
        Some(oom::Counts {
            worker: tree.worker(worker.service.as_str(), &worker.place()).memory_ended()?,
            service: tree.service(worker.service.as_str()).memory_ended()?,
            application: tree.application().memory_ended()?,
        })
    }

    /// The level at which a worker is, or once was, as many processes as the limit there allows, when there is but one. The
    /// group is the worker's own.
    pub(crate) fn full_of_processes(&self, worker: &WorkerId, plan: &Plan, group: &Group) -> Option<LimitOf> {
        limit_of::only(|of| {
            let limit = of.limits(plan, worker).and_then(|limits| limits.pids);
            let peak = limit.and_then(|_| self.at(of, worker, plan, group).pids_peak());
            limit.zip(peak).is_some_and(|(limit, peak)| peak >= u64::from(limit))
        })
    }

    /// The group with a limit that a worker is under; the one given is the worker's own.
    fn at(&self, of: LimitOf, worker: &WorkerId, plan: &Plan, group: &Group) -> Group {
        match of {
            LimitOf::Worker => group.clone(),
            LimitOf::Service => self.service(&worker.service),
            LimitOf::Application => self.application(&plan.limits),
        }
    }

    /// Sets the ceiling of the whole application, before anything runs. Returns what of it is not enforced, in words.
    pub(crate) fn limit_application(&self, ceiling: &CgroupLimits) -> Vec<String> {
        let group = self.tree.as_deref().map(Tree::application).unwrap_or_default();
        words::unenforced(&set_together(self.tree.as_deref(), &group, &of_ceiling(ceiling)))
    }

    /// Makes the cgroup for a new run and sets its limits, and those of its service. What a killed predecessor left in it does
    /// not come back: the group of a worker is used by one run at a time.
    pub(crate) fn create(&mut self, worker: &WorkerId, plan: &Plan) -> io::Result<Made> {
        self.create_at(&worker.into(), plan)
    }

    /// The same for a worker or a task, each of which has the limits of a worker.
    pub(crate) fn create_at(&mut self, seat: &Seat, plan: &Plan) -> io::Result<Made> {
        let Some(limits) = Levels::of(&seat.service, plan) else { return Ok(Made::default()) };
        let group = self.group(seat, &limits);
        let made = self.tree.as_ref().map(|tree| tree.make(&group, &limits.controllers()));
        let is_new = made.transpose()?.unwrap_or(false);
        // First, since a worker cannot have CPUs that its service has not.
        let of_total = self.set_total(&seat.service, &limits.service);
        let unset = match is_new {
            true => group.set_first_limits(&limits.worker),
            false => group.set_limits(&limits.worker),
        };
        let mut unenforced = of_worker(unset, self.pids_by_rlimit, AT_START);
        unenforced.extend(of_total);
        Ok(Made { group, is_new, unenforced })
    }

    /// Sets the limits of all workers of a service together for the first of them: nothing is there yet for which the kernel would
    /// have to make room. Those that start later find them set, or being set beside the loop.
    fn set_total(&mut self, service: &ServiceId, limits: &cgroup::Limits) -> Vec<String> {
        if let Some(total) = self.totals.get(service) {
            return total.unenforced.clone();
        }
        let mut unenforced = Vec::new();
        if *limits != cgroup::Limits::default() {
            let tree = self.tree.as_deref();
            let group = tree.map(|tree| tree.service(service.as_str())).unwrap_or_default();
            unenforced = of_total(&set_together(tree, &group, limits));
        }
        let total = Total { unenforced: unenforced.clone(), tenure: Tenure::default() };
        self.totals.insert(service.clone(), total);
        unenforced
    }

    /// What beside the loop was set is in force, but for these.
    pub(crate) fn is_set(&mut self, service: &ServiceId, unenforced: &[String]) {
        if let Some(total) = self.totals.get_mut(service) {
            let lines = unenforced.iter().filter(|line| line.starts_with(words::OF_TOTAL));
            total.unenforced = lines.cloned().collect();
        }
    }

    /// The time of a worker's group.
    pub(crate) fn tenure(&mut self, worker: &WorkerId) -> Tenure {
        self.tenures.entry(worker.clone()).or_default().clone()
    }

    /// A worker's run is over, and perhaps it was the last one of its service: nothing may be done any more to its group, or to that
    /// of all of them, which go now.
    ///
    /// # Errors
    /// Something is being done to one of them. This has to be tried again after that.
    pub(crate) fn end(&mut self, worker: &WorkerId, is_last: bool) -> Result<(), Tenure> {
        let total = self.totals.get(&worker.service).filter(|_| is_last);
        let tenures = self.tenures.get(worker).into_iter().chain(total.map(|total| &total.tenure));
        if let Some(busy) = tenures.into_iter().find(|tenure| !tenure.end()) {
            return Err(busy.clone());
        }
        self.tenures.remove(worker);
        if is_last {
            self.totals.remove(&worker.service);
        }
        Ok(())
    }

    /// The last task of a service that has no run is over: the limits of all of them are set anew for the next one.
    ///
    /// # Errors
    /// As [`Cgroups::end`].
    pub(crate) fn end_total(&mut self, service: &ServiceId) -> Result<(), Tenure> {
        if let Some(busy) = self.totals.get(service).map(|total| &total.tenure).filter(|tenure| !tenure.end())
        {
            return Err(busy.clone());
        }
        self.totals.remove(service);
        Ok(())
    }

    /// Makes a cgroup for programs of a service's secrets beside its workers', with the limits of one of them.
    pub(crate) fn create_for_secrets(&self, service: &ServiceId, nth: u64, plan: &Plan) -> io::Result<Group> {
        let limits = Levels::of(service, plan);
        let (Some(tree), Some(limits)) = (&self.tree, limits) else { return Ok(Group::default()) };
        let needed = limits.controllers();
        let group = tree.worker(service.as_str(), &format!("secrets-{nth}")).only_for(&needed);
        tree.make(&group, &needed)?;
        group.set_limits(&limits.worker);
        Ok(group)
    }

    /// The cgroup of a run that is there already, as its limits have it now: in every hierarchy that they need, and in those that it is
    /// in. Its processes may have to be moved; what [`Cgroups::change`] gives does that.
    pub(crate) fn standing(&self, worker: &WorkerId, plan: &Plan) -> Group {
        self.standing_at(&worker.into(), plan)
    }

    /// The same for a worker or a task.
    pub(crate) fn standing_at(&self, seat: &Seat, plan: &Plan) -> Group {
        let (Some(tree), Some(limits)) = (&self.tree, Levels::of(&seat.service, plan)) else {
            return Group::default();
        };
        let group = tree.worker(seat.service.as_str(), &seat.name);
        let kept = limits.controllers().union(&group.present()).copied().collect();
        group.only_for(&kept)
    }

    /// What sets changed limits of a service and of the groups of its workers, which are [standing](Cgroups::standing). The kernel may
    /// have to make room first or to move processes, which takes time: not for the loop. It gives in words what is not enforced.
    pub(crate) fn change(
        &mut self,
        service: &ServiceId,
        plan: &Plan,
        groups: Vec<(Group, Tenure)>,
    ) -> impl FnOnce() -> Vec<String> + Send + use<> {
        self.set_beside(service, plan, groups, AT_CHANGE)
    }

    /// The same for workers that were taken over: a predecessor set their limits or was about to, and they are set once more to find
    /// out what is not enforced.
    pub(crate) fn adopt(
        &mut self,
        service: &ServiceId,
        plan: &Plan,
        groups: Vec<(Group, Tenure)>,
    ) -> impl FnOnce() -> Vec<String> + Send + use<> {
        self.set_beside(service, plan, groups, AT_START)
    }

    fn set_beside(
        &mut self,
        service: &ServiceId,
        plan: &Plan,
        groups: Vec<(Group, Tenure)>,
        how: &'static str,
    ) -> impl FnOnce() -> Vec<String> + Send + use<> {
        let limits = Levels::of(service, plan);
        let total_tenure = match groups.is_empty() {
            // Whoever is first sets them.
            true => Tenure::default(),
            false => self.totals.entry(service.clone()).or_default().tenure.clone(),
        };
        let (tree, pids_by_rlimit, id) = (self.tree.clone(), self.pids_by_rlimit, service.clone());
        move || {
            let Some(limits) = limits else { return Vec::new() };
            let tree = tree.as_deref();
            let together = tree.map(|tree| tree.service(id.as_str())).unwrap_or_default();
            let set = || of_total(&set_together(tree, &together, &limits.service));
            let mut unenforced = total_tenure.within(set).unwrap_or_default();
            for (group, tenure) in groups {
                let set = || completed(tree, group, &limits.controllers()).set_limits(&limits.worker);
                let lines = of_worker(tenure.within(set).unwrap_or_default(), pids_by_rlimit, how);
                unenforced.retain(|line| !lines.contains(line));
                unenforced.extend(lines);
            }
            unenforced
        }
    }

    /// What sets a changed ceiling of all services, with the groups of all workers. Like [`Cgroups::change`], not for the loop.
    pub(crate) fn change_application(
        &self,
        ceiling: &CgroupLimits,
        groups: Vec<(Group, Tenure)>,
    ) -> impl FnOnce() -> Vec<String> + Send + use<> {
        let (tree, limits) = (self.tree.clone(), of_ceiling(ceiling));
        move || {
            let tree = tree.as_deref();
            let group = tree.map(Tree::application).unwrap_or_default();
            let unenforced = words::unenforced(&set_together(tree, &group, &limits));
            for (group, tenure) in groups {
                tenure.within(|| completed(tree, group, &limits.controllers()));
            }
            unenforced
        }
    }

    /// The group of all services together. In v1 only hierarchies that its ceiling needs have all processes.
    pub(crate) fn application(&self, ceiling: &CgroupLimits) -> Group {
        let group = self.tree.as_deref().map(Tree::application).unwrap_or_default();
        group.only_for(&of_ceiling(ceiling).controllers())
    }

    /// The group of all workers of a service, which are in the same hierarchies.
    pub(crate) fn service(&self, service: &ServiceId) -> Group {
        let group = self.tree.as_ref().map(|tree| tree.service(service.as_str())).unwrap_or_default();
        let present = group.present();
        group.only_for(&present)
    }

    fn group(&self, seat: &Seat, limits: &Levels) -> Group {
        let group = self.tree.as_ref().map(|tree| tree.worker(seat.service.as_str(), &seat.name));
        group.map(|group| group.only_for(&limits.controllers())).unwrap_or_default()
    }

    /// Ends and removes what an application whose spawner was killed left behind: there is never a second copy.
    pub(crate) async fn remove_leftovers(&self) {
        let Some(tree) = &self.tree else { return };
        for (service, worker) in tree.workers() {
            let group = tree.worker(&service, &worker);
            tracing::warn!("ending what an earlier start left of {service}/{worker}");
            let removed = tokio::time::timeout(LEFTOVER_PATIENCE, remove(group)).await;
            match removed {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!("the cgroup of {service}/{worker} cannot be removed: {error}")
                }
                Err(_) => {
                    tracing::warn!("processes of {service}/{worker} do not end although they were killed")
                }
            }
        }
    }

    /// How the spawner leaves and what it removes at the end.
    pub(crate) fn way_out(&self) -> WayOut {
        self.tree.as_deref().map(Tree::way_out).unwrap_or_default()
    }
}

/// Sets the limits of a group that has no processes of its own. What cannot be made is told like what is not there.
fn set_together(tree: Option<&Tree>, group: &Group, limits: &cgroup::Limits) -> Vec<Unenforced> {
    let needed = limits.controllers();
    let made = tree.map(|tree| tree.make(&group.clone().only_for(&needed), &needed));
    if let Some(Err(error)) = made {
        tracing::warn!("a cgroup cannot be made: {error}");
    }
    // Where it has been before, a limit may have to be lifted.
    group.clone().only_for(&group.present()).set_limits(limits)
}

/// The group of a run with its processes in every hierarchy of it, unless the run has ended meanwhile; where they cannot be moved,
/// the group as they are in it.
fn completed(tree: Option<&Tree>, group: Group, needed: &BTreeSet<Controller>) -> Group {
    let (Some(tree), true) = (tree, group.exists()) else { return group };
    // In those of this one every process is from its start on.
    let smallest = group.clone().only_for(&BTreeSet::new());
    match tree.make(&group, needed).and_then(|_| group.take_over(&smallest)) {
        Ok(_) => group,
        Err(error) => {
            tracing::warn!("processes cannot be moved to where their new limits are: {error}");
            group.where_populated()
        }
    }
}

/// The cgroup of a run that is to be started.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) group: Group,
    /// Whether it was not there before, so that it has counted nothing yet.
    pub(crate) is_new: bool,
    /// What of its limits is not enforced, in words.
    pub(crate) unenforced: Vec<String>,
}

/// How long killed processes may take to be gone.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(10);

async fn remove(group: Group) -> io::Result<()> {
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    while group.is_populated() {
        let killed = group.clone();
        let kill = beside::now(move || killed.kill());
        kill.await.map_err(io::Error::other)??;
        poll.tick().await;
    }
    group.remove()
}

/// How a resource limit does what `pids` would.
const AT_START: &str = "pids by RLIMIT_NPROC, as no cgroup counts them";
const AT_CHANGE: &str = "pids by RLIMIT_NPROC, from the next start on";

/// What is not enforced for one worker, and what is in another way.
fn of_worker(mut unenforced: Vec<Unenforced>, pids_by_rlimit: bool, how: &str) -> Vec<String> {
    let all = unenforced.len();
    unenforced.retain(|entry| !pids_by_rlimit || entry.limit != LimitName::Pids);
    let by_rlimit = (unenforced.len() < all).then(|| how.to_owned());
    words::unenforced(&unenforced).into_iter().chain(by_rlimit).collect()
}

fn of_total(unenforced: &[Unenforced]) -> Vec<String> {
    words::unenforced(unenforced).into_iter().map(|line| format!("{}{line}", words::OF_TOTAL)).collect()
}

/// The limits that hold for a worker.
struct Levels {
    worker: cgroup::Limits,
    /// Of all workers of its service together.
    service: cgroup::Limits,
    /// Of all services together.
    application: cgroup::Limits,
    /// It gets a share of the CPUs. Not who is to run before all others: a v1 group may have no time for that
    /// (sched-rt-group.rst), and the kernel would refuse it.
    has_share: bool,
}

impl Levels {
    /// `None` for a service that the plan does not have.
    fn of(service: &ServiceId, plan: &Plan) -> Option<Levels> {
        let service = plan.services.get(service)?;
        let plan::Limits { cgroup, oom_group, rlimits: _ } = &*service.limits;
        Some(Levels {
            worker: cgroup::Limits { oom_group: *oom_group, ..of_ceiling(cgroup) },
            service: of_ceiling(&service.limits_total),
            application: of_ceiling(&plan.limits),
            has_share: !matches!(
                service.scheduling.policy,
                Some(SchedulingPolicy::Fifo(_) | SchedulingPolicy::RoundRobin(_))
            ),
        })
    }

    /// What a process has to be in for all of them to hold. That of the CPUs in nearly any case: without it each process has the
    /// same share, and a service that starts many takes the others' time.
    fn controllers(&self) -> BTreeSet<Controller> {
        [&self.worker, &self.service, &self.application]
            .into_iter()
            .flat_map(|limits| limits.controllers())
            .chain(self.has_share.then_some(Controller::Cpu))
            .collect()
    }
}

fn of_ceiling(limits: &CgroupLimits) -> cgroup::Limits {
    let CgroupLimits {
        memory,
        memory_high,
        memory_low,
        memory_min,
        swap,
        cpu_millis,
        cpu_weight,
        cpus,
        pids,
        io_weight,
        io,
        hugetlb,
    } = limits;
    let bounds = |limits: &plan::IoLimits| {
        let plan::IoLimits { read_bytes, write_bytes, read_ops, write_ops } = *limits;
        cgroup::IoLimits { read_bytes, write_bytes, read_ops, write_ops }
    };
    cgroup::Limits {
        memory: *memory,
        memory_high: *memory_high,
        memory_low: *memory_low,
        memory_min: *memory_min,
        swap: *swap,
        cpu_millis: *cpu_millis,
        cpu_weight: *cpu_weight,
        cpus: cpus.clone(),
        pids: *pids,
        io_weight: *io_weight,
        io: io.iter().map(|(path, limits)| (path.clone(), bounds(limits))).collect(),
        hugetlb: hugetlb.clone(),
        oom_group: false,
    }
}

#[cfg(test)]
mod tests;

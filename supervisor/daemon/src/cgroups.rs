//! The application's cgroups: made at the start, one for each run, and what the host does not let them enforce.

use std::{io, time::Duration};

use watt_core::{AppName, WorkerId, plan};
use watt_os::cgroup::{self, Group, Mode, Tree, Unenforced, WayOut};

use crate::{addresses, doctor, places::Places};

/// The cgroups of an application on this host, as far as it has any.
#[derive(Debug)]
pub(crate) struct Cgroups {
    tree: Option<Tree>,
    found: doctor::Cgroups,
}

impl Cgroups {
    /// Makes the application's tree, and moves these processes (spawner and daemon) out of the workers' way. A
    /// successor finds everything as it was. Everything but limits works without.
    pub(crate) fn prepare(app: &AppName, places: &Places, own_pids: &[u32]) -> Cgroups {
        let host = match cgroup::Host::detect("/".as_ref()) {
            Ok(host) => host,
            Err(error) => {
                let reason = format!("cannot read /proc: {error}");
                return Cgroups { tree: None, found: doctor::Cgroups::none(Mode::None, reason) };
            }
        };
        let mode = host.mode();
        let tree = Tree::create(&host, &addresses::cgroup_name(app, &places.runtime));
        if tree.is_usable()
            && let Err(error) = tree.enter_supervisor(own_pids)
        {
            tracing::warn!("the supervisor cannot move to a cgroup of its own: {error}");
        }
        let found = doctor::Cgroups::of(mode, &tree);
        Cgroups { tree: Some(tree).filter(Tree::is_usable), found }
    }

    /// What they enforce.
    pub(crate) fn found(&self) -> &doctor::Cgroups {
        &self.found
    }

    /// Makes the cgroup for a new run and sets its limits. Returns those that are not enforced. What a killed
    /// predecessor left in it does not come back: the group of a worker is used by one run at a time.
    pub(crate) fn create(
        &self,
        worker: &WorkerId,
        limits: &plan::Limits,
    ) -> io::Result<(Group, Vec<Unenforced>)> {
        let limits = of_plan(limits);
        let group = self.group(worker, &limits);
        if let Some(tree) = &self.tree {
            tree.make(&group)?;
        }
        let unenforced = group.set_limits(&limits);
        Ok((group, unenforced))
    }

    /// The cgroup of a run that a predecessor started, with the limits that are not enforced: they are set once more
    /// to find out.
    pub(crate) fn adopt(&self, worker: &WorkerId, limits: &plan::Limits) -> (Group, Vec<Unenforced>) {
        let limits = of_plan(limits);
        let group = self.group(worker, &limits);
        let unenforced = group.set_limits(&limits);
        (group, unenforced)
    }

    fn group(&self, worker: &WorkerId, limits: &cgroup::Limits) -> Group {
        let index = worker.index.to_string();
        let group = self.tree.as_ref().map(|tree| tree.worker(worker.service.as_str(), &index));
        group.map(|group| group.only_for(limits)).unwrap_or_default()
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
        self.tree.as_ref().map(Tree::way_out).unwrap_or_default()
    }
}

/// How long killed processes may take to be gone.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(10);

async fn remove(group: Group) -> io::Result<()> {
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    while group.is_populated() {
        let killed = group.clone();
        let kill = tokio::task::spawn_blocking(move || killed.kill());
        kill.await.map_err(io::Error::other)??;
        poll.tick().await;
    }
    group.remove()
}

fn of_plan(limits: &plan::Limits) -> cgroup::Limits {
    let plan::Limits { cgroup, oom_group, rlimits: _ } = limits;
    let plan::CgroupLimits { memory, memory_high, cpu_millis, pids, .. } = cgroup;
    cgroup::Limits {
        memory: *memory,
        memory_high: *memory_high,
        cpu_millis: *cpu_millis,
        pids: *pids,
        oom_group: *oom_group,
    }
}

//! The application's cgroups: made at the start, one for each run, and what the host does not let them enforce.

use std::{io, time::Duration};

use watt_core::{AppName, WorkerId, plan};
use watt_os::cgroup::{self, Group, Tree, Unenforced, WayOut};

use crate::{addresses, places::Places};

/// The cgroups of an application on this host, as far as it has any.
#[derive(Debug)]
pub(crate) struct Cgroups {
    tree: Option<Tree>,
    warnings: Vec<String>,
}

impl Cgroups {
    /// Makes the application's tree, and moves these processes (spawner and daemon) out of the workers' way. A
    /// successor finds everything as it was. What fails is a warning: everything but limits works without.
    pub(crate) fn prepare(app: &AppName, places: &Places, own_pids: &[u32]) -> Cgroups {
        let tree = match cgroup::Host::detect("/".as_ref()) {
            Ok(host) => Tree::create(&host, &addresses::cgroup_name(app, &places.runtime)),
            Err(error) => return Cgroups::none(format!("cgroups cannot be looked at: {error}")),
        };
        if !tree.is_usable() {
            // Each hierarchy has its refusal, and they say the same.
            return Cgroups::none(match tree.refusals().first() {
                Some(refusal) => refusal.to_string(),
                None => "this host has no cgroups".to_owned(),
            });
        }
        let mut warnings: Vec<String> = tree.refusals().iter().map(ToString::to_string).collect();
        match tree.enter_supervisor(own_pids) {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) => warnings.push(format!(
                "cgroup controllers that are not available here: {}; the limits that need them are not enforced",
                missing.join(", ")
            )),
            Err(error) => warnings.push(format!("the supervisor cannot move to a cgroup of its own: {error}")),
        }
        Cgroups { tree: Some(tree), warnings }
    }

    /// Nothing at all, for a host or a user that has no cgroups.
    fn none(reason: String) -> Cgroups {
        let consequence = "limits of memory, CPU and processes are not enforced, and a service can hide a process \
                           from its own stop";
        Cgroups { tree: None, warnings: vec![format!("{reason}: {consequence}")] }
    }

    /// What cannot be done here, in words.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
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
    let plan::Limits { memory, memory_high, cpu_millis, pids, oom_group, rlimits: _ } = limits;
    cgroup::Limits {
        memory: *memory,
        memory_high: *memory_high,
        cpu_millis: *cpu_millis,
        pids: *pids,
        oom_group: *oom_group,
    }
}

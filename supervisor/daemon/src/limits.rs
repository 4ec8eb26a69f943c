//! `wattctl limits`: what is bounded, and changes of it while everything runs.
//!
//! A change is one of the plan, as if the configuration had it: what is started later has it too, and a successor of the
//! daemon finds it noted. The next `up` reads the configuration alone.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use watt_api::control::{LimitHits, Limited, Limits, LimitsChange, LimitsChanged};
use watt_config::{LimitChanges, written_limits};
use watt_core::{
    ServiceId,
    plan::{CgroupLimits, Plan},
};
use watt_os::cgroup::Group;

use crate::{
    app::App,
    control::{Refusal, Reply},
    events::limits::LimitsChanged as Changed,
    limit_hits::LimitNews,
    operate::answer,
};

/// The key under which changes of limits are kept for a successor.
pub(crate) const LIMITS: &str = "limits";

/// All changes since the start, by service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Changes(BTreeMap<String, Change>);

/// Values by key, as [`LimitChanges`] has them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Change {
    each: BTreeMap<String, String>,
    total: BTreeMap<String, String>,
}

impl Changes {
    /// Those that a predecessor kept.
    pub(crate) fn kept(value: Option<&[u8]>) -> Changes {
        value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default()
    }

    /// The plan with these changes, which were possible when they were made.
    pub(crate) fn apply(&self, mut plan: Plan) -> Plan {
        for (name, Change { each, total }) in &self.0 {
            let Ok(id) = ServiceId::new(name) else { continue };
            let Some(service) = plan.services.get(&id) else { continue };
            let changes = LimitChanges { each: each.clone(), total: total.clone() };
            match changes.apply(&plan, service) {
                Ok(service) => drop(plan.services.insert(id, service)),
                Err(errors) => tracing::warn!("changed limits of {name} are lost: {}", errors.join("; ")),
            }
        }
        plan
    }

    fn add(&mut self, service: &ServiceId, changes: LimitChanges) {
        let Change { each, total } = self.0.entry(service.to_string()).or_default();
        each.extend(changes.each);
        total.extend(changes.total);
    }
}

impl App {
    /// Makes new limits the service's, and has the kernel told beside the loop.
    pub(crate) fn change_limits(
        &mut self,
        id: &ServiceId,
        change: LimitsChange,
        reply: Reply<LimitsChanged>,
    ) {
        let Some(service) = self.plan.services.get(id) else { return answer(reply, Err(self.unknown(id))) };
        let changes = LimitChanges { each: change.limits, total: change.limits_total };
        let after = match changes.apply(&self.plan, service) {
            Ok(after) => after,
            Err(errors) => return answer(reply, Err(Refusal::BadLimits(errors.join("\n")))),
        };
        let (each, total) = (written_limits(&after.limits.cgroup), written_limits(&after.limits_total));
        let mut plan = Plan::clone(&self.plan);
        plan.services.insert(id.clone(), after);
        self.plan = Arc::new(plan);
        self.fleet.change_limits(&self.plan);
        self.events.emit(Changed {
            service: id.clone(),
            each: changes.each.clone(),
            total: changes.total.clone(),
        });
        self.limit_changes.add(id, changes);
        if let Ok(value) = serde_json::to_vec(&self.limit_changes) {
            self.put(LIMITS, value);
        }

        let groups = self.grow(id);
        let set = self.cgroups.change(id, &self.plan, groups);
        let (sender, id) = (self.senders.limit_hits.clone(), id.clone());
        tokio::spawn(async move {
            let unenforced = tokio::task::spawn_blocking(set).await.unwrap_or_default();
            // The loop has ended when it does not take it.
            let _ = sender.send(LimitNews::Set(id, unenforced.clone())).await;
            answer(reply, Ok(LimitsChanged { limits: each, limits_total: total, unenforced }));
        });
    }

    /// The groups of a service's runs, in every hierarchy that they now need.
    fn grow(&mut self, id: &ServiceId) -> Vec<Group> {
        let mut groups = Vec::new();
        let mut watched = Vec::new();
        for (run_id, run) in self.runs.iter_mut().filter(|(_, run)| run.worker.service == *id) {
            run.group = self.cgroups.grow(&run.worker, &self.plan, &run.group);
            groups.push(run.group.clone());
            watched.push(*run_id);
        }
        for run in watched {
            self.watch_limits(run);
        }
        groups
    }

    /// The kernel has the new limits of a service.
    pub(crate) fn limits_set(&mut self, id: &ServiceId, unenforced: Vec<String>) {
        let Some(service) = self.plan.services.get(id).cloned() else { return };
        self.note_unenforced(&service, unenforced);
    }

    /// Puts together what is bounded, and has the rest read beside the loop.
    pub(crate) fn limits(&self, reply: Reply<Limits>) {
        let mut groups =
            vec![(self.cgroups.application(&self.plan.limits), limited(None, None, &self.plan.limits))];
        for (id, service) in &self.plan.services {
            let together = limited(Some(id), None, &service.limits_total);
            groups.push((self.cgroups.service(id), together));
            let runs = self.runs.values().filter(|run| run.worker.service == *id);
            groups.extend(runs.map(|run| {
                (run.group.clone(), limited(Some(id), Some(run.worker.index), &service.limits.cgroup))
            }));
        }
        tokio::task::spawn_blocking(move || {
            let groups = groups.into_iter().map(|(group, limited)| read(&group, limited)).collect();
            answer(reply, Ok(Limits { groups }));
        });
    }
}

fn limited(service: Option<&ServiceId>, worker: Option<u16>, limits: &CgroupLimits) -> Limited {
    Limited {
        service: service.map(ToString::to_string),
        worker,
        limits: written_limits(limits),
        memory: None,
        memory_peak: None,
        cpu_us: None,
        pids: None,
        hits: LimitHits::default(),
    }
}

fn read(group: &Group, limited: Limited) -> Limited {
    let (usage, events) = (group.usage(), group.events());
    Limited {
        memory: usage.memory,
        memory_peak: usage.memory_peak,
        cpu_us: usage.cpu_us,
        pids: usage.pids,
        hits: LimitHits {
            oom_kills: events.oom_kills,
            memory_high: events.memory_high_hits,
            pids: events.pids_limit_hits,
            cpu: events.cpu_throttled,
            cpu_us: events.cpu_throttled_us,
        },
        ..limited
    }
}

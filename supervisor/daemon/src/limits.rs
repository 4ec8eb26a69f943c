//! `wattctl limits`: what is bounded, and changes of it while everything runs.
//!
//! A change is one of the plan, as if the configuration had it: what is started later has it too, and a successor of the
//! daemon finds it noted. The next `up` reads the configuration alone; a reload keeps a change as long as the configuration says
//! of that limit what it said before.
//!
//! The kernel is told beside the loop, one change of a service after the other: two at a time would leave whichever came last.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use watt_api::control::{LimitHits, Limited, Limits, LimitsChange, LimitsChanged};
use watt_config::{LimitChanges, written_limits};
use watt_core::{
    RunId, ServiceId, WorkerId,
    plan::{CgroupLimits, Plan},
};
use watt_os::cgroup::Group;

use crate::{
    app::App,
    beside::{LIMITS, VIEWS},
    control::{Refusal, Reply},
    events::limits::LimitsChanged as Changed,
    limit_hits::LimitNews,
    operate::answer,
    runs::Run,
    tenure::Tenure,
};

/// All changes since the start, by service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Changes(BTreeMap<String, Change>);

/// Values by key, as [`LimitChanges`] has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Change {
    each: BTreeMap<String, String>,
    total: BTreeMap<String, String>,
}

impl Changes {
    /// The plan with these changes, which were possible when they were made.
    pub(crate) fn apply(&self, mut plan: Plan) -> Plan {
        for error in self.try_apply(&mut plan) {
            tracing::warn!("changed limits are lost: {error}");
        }
        plan
    }

    /// Puts these changes into a plan. Returns in words those that do not go with it.
    pub(crate) fn try_apply(&self, plan: &mut Plan) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, Change { each, total }) in &self.0 {
            let Ok(id) = ServiceId::new(name) else { continue };
            let Some(service) = plan.services.get(&id) else { continue };
            let changes = LimitChanges { each: each.clone(), total: total.clone() };
            match changes.apply(plan, service) {
                Ok(service) => drop(plan.services.insert(id, service)),
                Err(errors) => problems.push(format!("{name}: {}", errors.join("; "))),
            }
        }
        problems
    }

    /// Those that stay when another configuration takes the place of one: of limits of which both say the same.
    pub(crate) fn that_stay(&self, old: &Plan, new: &Plan) -> Changes {
        self.of_limits(old, new, |same| same)
    }

    /// These, which were made under `new`, when that comes back in the place of `old`: of limits of which `old` says something else, and
    /// `stay` for the others.
    pub(crate) fn that_return(&self, old: &Plan, new: &Plan, stay: &Changes) -> Changes {
        let mut all = self.of_limits(old, new, |same| !same);
        for (name, Change { each, total }) in &stay.0 {
            let change = all.0.entry(name.clone()).or_default();
            change.each.extend(each.clone());
            change.total.extend(total.clone());
        }
        all
    }

    /// Those of limits of which both plans say the same, or not. Where a service is new, they say the same of none.
    fn of_limits(&self, old: &Plan, new: &Plan, is_meant: impl Fn(bool) -> bool) -> Changes {
        let stay = |changes: &BTreeMap<String, String>, old: Option<&CgroupLimits>, new: &CgroupLimits| {
            let (old, new) = (old.map(written_limits), written_limits(new));
            let is_same = |key: &String| old.as_ref().is_some_and(|old| old.get(key) == new.get(key));
            let meant = changes.iter().filter(|(key, _)| is_meant(is_same(key)));
            meant.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let changes = self.0.iter().filter_map(|(name, change)| {
            let id = ServiceId::new(name).ok()?;
            let (old, new) = (old.services.get(&id), new.services.get(&id)?);
            let each = stay(&change.each, old.map(|old| &old.limits.cgroup), &new.limits.cgroup);
            let total = stay(&change.total, old.map(|old| &*old.limits_total), &new.limits_total);
            (!each.is_empty() || !total.is_empty()).then(|| (name.clone(), Change { each, total }))
        });
        Changes(changes.collect())
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
        self.in_force.limits.add(id, changes);
        self.keep_in_force();
        self.enforce_limits(id, |unenforced| {
            answer(reply, Ok(LimitsChanged { limits: each, limits_total: total, unenforced }));
        });
    }

    /// Has the kernel told of a service's limits as the plan has them now.
    pub(crate) fn enforce_limits(&mut self, id: &ServiceId, then: impl FnOnce(Vec<String>) + Send + 'static) {
        let groups = self.standing(|worker| worker.service == *id);
        let set = self.cgroups.change(id, &self.plan, groups);
        self.set_in_turn(Some(id.clone()), set, then);
    }

    /// The same for what was taken over: a predecessor may not have come to it, and nobody knows what it was told.
    pub(crate) fn enforce_adopted(&mut self) {
        self.enforce_ceiling();
        let services: BTreeSet<ServiceId> =
            self.runs.values().map(|run| run.worker.service.clone()).collect();
        for id in services {
            if let Some(service) = self.plan.services.get(&id).cloned() {
                // What is known without a try.
                self.note_unenforced(&service, Vec::new());
            }
            let groups = self.standing(|worker| worker.service == id);
            let set = self.cgroups.adopt(&id, &self.plan, groups);
            self.set_in_turn(Some(id), set, |_| {});
        }
    }

    /// The same of the ceiling of all services.
    pub(crate) fn enforce_ceiling(&mut self) {
        let groups = self.standing(|_| true);
        let set = self.cgroups.change_application(&self.plan.limits, groups);
        self.set_in_turn(None, set, |_| {});
    }

    /// Sets limits when those that are being set for the same have been, so that the last ones stay.
    fn set_in_turn(
        &mut self,
        of: Option<ServiceId>,
        set: impl FnOnce() -> Vec<String> + Send + 'static,
        then: impl FnOnce(Vec<String>) + Send + 'static,
    ) {
        let before = self.limit_turns.remove(&of);
        let (sender, subject) = (self.senders.limit_hits.clone(), of.clone());
        let turn = tokio::spawn(async move {
            if let Some(before) = before {
                // A panic is an end as well.
                let _ = before.await;
            }
            let unenforced = LIMITS.run(set).await.unwrap_or_default();
            // The loop has ended when it does not take it.
            let _ = sender.send(LimitNews::Set(subject, unenforced.clone())).await;
            then(unenforced);
        });
        self.limit_turns.insert(of, turn);
    }

    /// The groups of the runs of these workers, as they are to be now, and their times.
    fn standing(&mut self, of: impl Fn(&WorkerId) -> bool) -> Vec<(Group, Tenure)> {
        let runs = self.runs.values_mut().filter(|run| of(&run.worker));
        let groups = runs.map(|run| {
            run.group = self.cgroups.standing(&run.worker, &self.plan);
            (run.group.clone(), self.cgroups.tenure(&run.worker))
        });
        groups.collect()
    }

    /// The kernel has the new limits of a service, or of all of them together: from now on it can tell of them.
    pub(crate) fn limits_set(&mut self, of: Option<ServiceId>, unenforced: Vec<String>) {
        let is_meant = |run: &Run| of.as_ref().is_none_or(|id| run.worker.service == *id);
        let runs = self.runs.iter().filter(|(_, run)| is_meant(run) && run.live_pid().is_some());
        let runs: Vec<RunId> = runs.map(|(id, _)| *id).collect();
        for run in runs {
            self.watch_limits(run);
        }
        let Some(id) = of else { return self.warn_of_ceiling(unenforced) };
        self.cgroups.is_set(&id, &unenforced);
        let Some(service) = self.plan.services.get(&id).cloned() else { return };
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
        let read = move || groups.into_iter().map(|(group, limited)| read(&group, limited)).collect();
        tokio::spawn(async move {
            let groups = VIEWS.run(read).await.unwrap_or_default();
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

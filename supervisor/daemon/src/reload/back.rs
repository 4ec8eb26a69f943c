//! A reload that is taken back by itself: a service whose roll says so did not get its new workers, and the configuration from before
//! comes back as a whole, by a reload like any other.
//!
//! What it would come back to is kept with the configuration in force until all rolls of the reload have ended well, and so is that it
//! has to: a successor of the daemon goes on with that. Workers of the configuration that comes back are not replaced once more.

use std::{collections::BTreeMap, sync::Arc};

use watt_api::control::Reloaded;
use watt_config::Sources;
use watt_core::{RunId, ServiceId, fleet::Renewal, plan::OnFailure, worker::Part};

use super::Asked;
use crate::{
    app::App,
    events::rolls::RolledBack,
    operate::{Answer, answer},
    words,
};

/// A configuration that may come back.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    /// What its plan is made from.
    pub(crate) sources: Arc<Sources>,
    /// Its own [`InForce::renewal`](crate::in_force::InForce::renewal): runs after these are its own …
    pub(crate) renewal: Renewal,
    /// … up to this one.
    pub(crate) last_run: RunId,
    /// Whether it has to come back.
    pub(crate) is_due: bool,
}

impl Before {
    /// Which runs of these services are of the configuration that comes back: after the first number, up to the second.
    pub(crate) fn own_runs<'a>(
        &'a self,
        services: impl Iterator<Item = &'a ServiceId>,
    ) -> impl Iterator<Item = (ServiceId, (RunId, RunId))> {
        services.map(|id| {
            let after = self.renewal.get(id).copied().unwrap_or(RunId(0));
            (id.clone(), (after, self.last_run))
        })
    }
}

impl App {
    /// Looks whether the last reload has ended well, or has to be taken back.
    pub(crate) fn judge_reload(&mut self) {
        let failed = self.fleet.take_failed_rolls();
        let Some(before) = &mut self.in_force.before else { return };
        let is_strict = |id: &ServiceId| {
            self.plan.services.get(id).is_some_and(|plan| plan.roll.on_failure == OnFailure::RollBack)
        };
        let why: BTreeMap<ServiceId, String> = failed
            .into_iter()
            .filter(|(id, _)| is_strict(id))
            .map(|(id, why)| {
                let words = words::roll_failed(&why, self.plan.services.get(&id));
                (id, words)
            })
            .collect();
        if !before.is_due && !why.is_empty() {
            before.is_due = true;
            let sources = Arc::clone(&before.sources);
            self.keep_in_force();
            self.events.emit(RolledBack { why: why.clone() });
            self.fail_reloads(&why);
            return self.reload(Asked::back(sources));
        }
        let is_rolling = |id: &ServiceId| self.fleet.is_renewing(id);
        if !before.is_due && !self.plan.services.keys().any(is_rolling) {
            self.in_force.before = None;
            self.keep_in_force();
        }
    }

    /// What a predecessor was about to take back, or would have been.
    pub(crate) fn go_on_back(&mut self) {
        let Some(before) = &mut self.in_force.before else { return };
        let has_failed = self.fleet.workers().any(|(id, worker)| {
            let plan = self.plan.services.get(&id.service);
            worker.part == Part::Outdated
                && plan.is_some_and(|plan| plan.roll.on_failure == OnFailure::RollBack)
        });
        if before.is_due || has_failed {
            before.is_due = true;
            let sources = Arc::clone(&before.sources);
            self.reload(Asked::back(sources));
        }
    }

    /// Those who wait for the reload that is taken back have their answer.
    fn fail_reloads(&mut self, why: &BTreeMap<ServiceId, String>) {
        let with = why.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let words = |id: &ServiceId| match why.get(id) {
            Some(why) => format!("rolled back: {why}"),
            None => format!("rolled back with {with}"),
        };
        for operation in std::mem::take(&mut self.operations) {
            let services = operation.services(&self.plan).map(|id| (id.to_string(), words(id))).collect();
            match operation.answer {
                Answer::Reloaded(reply, reloaded) => {
                    answer(reply, Ok(Box::new(Reloaded { ok: false, services, ..*reloaded })));
                }
                Answer::Outcome(_) | Answer::Scaled(..) => self.operations.push(operation),
            }
        }
    }
}

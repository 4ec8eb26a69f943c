//! A reload that is taken back by itself: a service whose roll says so did not get its new workers, and the configuration from before
//! comes back as a whole, by a reload like any other.
//!
//! What it would come back to is kept with the configuration in force until all rolls of the reload have ended well, and so is that it
//! has to: a successor of the daemon goes on with that. Workers of the configuration that comes back are not replaced once more.

use std::{collections::BTreeMap, sync::Arc};

use watt_api::control::Reloaded;
use watt_config::Sources;
use watt_core::{
    RunId, ServiceId,
    fleet::Renewal,
    plan::{OnFailure, Service},
    worker::Part,
};

use super::Asked;
use crate::{
    app::{App, Ending},
    events::rolls::RolledBack,
    limits::Changes,
    operate::{Answer, answer},
    scaling::Scale,
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
    /// What operators had changed of its limits.
    pub(crate) limits: Changes,
    /// How many workers its services had by somebody's word, or by the load.
    pub(crate) scales: BTreeMap<ServiceId, Scale>,
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
    /// Whether a roll of this service that fails takes the last reload back: it has to be one of that reload, and not the restart of a
    /// service that was the same before.
    fn takes_back(&self, before: &Before, id: &ServiceId) -> bool {
        let is_strict = |plan: &Service| plan.roll.on_failure == OnFailure::RollBack;
        self.in_force.renewal.get(id).is_some_and(|last| *last >= before.last_run)
            && self.plan.services.get(id).is_some_and(is_strict)
    }

    /// Notes that the last reload has to be taken back, before it is noted what has become of its workers: a successor might not see in
    /// them that they have failed.
    pub(crate) fn note_failed_rolls(&mut self) {
        let has_failed = self.in_force.before.as_ref().is_some_and(|before| {
            let failed =
                |id: &&ServiceId| self.fleet.failed_roll(id).is_some() && self.takes_back(before, id);
            !before.is_due && self.plan.services.keys().any(|id| failed(&id))
        });
        if let Some(before) = self.in_force.before.as_mut().filter(|_| has_failed) {
            before.is_due = true;
            self.keep_in_force();
        }
    }

    /// Looks whether the last reload has ended well, or has to be taken back.
    pub(crate) fn judge_reload(&mut self) {
        let failed = self.fleet.take_failed_rolls();
        let Some(before) = &self.in_force.before else { return };
        let why: BTreeMap<ServiceId, String> = failed
            .into_iter()
            .filter(|(id, _)| self.takes_back(before, id))
            .map(|(id, why)| {
                let words = words::roll_failed(&why, self.plan.services.get(&id));
                (id, words)
            })
            .collect();
        if (before.is_due || !why.is_empty()) && self.ending == Ending::No && !self.reloads.is_coming_back() {
            self.fail_reloads(&why);
            return self.take_back(why);
        }
        let is_rolling = |id: &ServiceId| self.fleet.is_renewing(id);
        if !before.is_due && !self.plan.services.keys().any(is_rolling) {
            self.in_force.before = None;
            self.keep_in_force();
        }
    }

    /// Whether the last reload is being taken back, so that another one has to wait. To be asked before another configuration takes the
    /// place of the one in force: the loop may not have looked at what has happened just before.
    pub(super) fn has_to_come_back(&mut self) -> bool {
        self.tell_rolls();
        self.judge_reload();
        self.in_force.before.as_ref().is_some_and(|before| before.is_due)
    }

    /// What a predecessor was about to take back, or would have been.
    pub(crate) fn go_on_back(&mut self) {
        let Some(before) = &self.in_force.before else { return };
        let outdated = self.fleet.workers().filter(|(_, worker)| worker.part == Part::Outdated);
        let failed = outdated.map(|(worker, _)| worker.service).filter(|id| self.takes_back(before, id));
        let why: BTreeMap<ServiceId, String> =
            failed.map(|id| (id, "not all of its workers were replaced".to_owned())).collect();
        if (before.is_due || !why.is_empty()) && self.ending == Ending::No && !self.reloads.is_coming_back() {
            self.take_back(why);
        }
    }

    fn take_back(&mut self, why: BTreeMap<ServiceId, String>) {
        let Some(before) = &mut self.in_force.before else { return };
        before.is_due = true;
        let sources = Arc::clone(&before.sources);
        self.keep_in_force();
        self.events.emit(RolledBack { why });
        self.reload(Asked::back(sources));
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

//! How many workers services have, where that is not what the configuration says: kept for a successor, and told.
//!
//! A note has what the configuration said of the service's workers when it was made. One that says something else wins, also when a
//! daemon was killed between the two.

use std::{collections::BTreeMap, num::NonZeroU16};

use serde::{Deserialize, Serialize};
use watt_api::control::{ScaledBy, ScaledService, Scaling};
use watt_core::{
    ServiceId,
    fleet::{FleetEvent, Goal, Selection, WorkerCounts},
    plan::{Plan, Service, Workers},
};

use crate::{
    app::{App, Ending},
    control::{Refusal, Reply},
    events::scaling::Scaled as Happened,
    operate::{Answer, Operation, answer},
    place::has_fixed_port,
    status, timestamp,
};

/// What an operator's number is explained with.
const BY_OPERATOR: &str = "`wattctl scale`";
/// And one that goes on from what it was under another configuration.
const CHANGED: &str = "the configuration changed";

/// Why a service has another number of workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scale {
    count: NonZeroU16,
    by: ScaledBy,
    from: u16,
    at_ms: u64,
    reason: String,
    /// What the configuration says.
    configured: String,
}

impl Scale {
    /// As the control API has it.
    pub(crate) fn describe(&self) -> Scaling {
        Scaling {
            by: self.by,
            from: self.from,
            at: timestamp::from_ms(self.at_ms),
            reason: self.reason.clone(),
            range: None,
            lacks: None,
        }
    }

    /// As it is with what the configuration says now. `None` when that wins; a number that follows the load goes on from where it is.
    fn fitted(self, service: &Service) -> Option<Scale> {
        let configured = service.workers.to_string();
        if self.configured == configured {
            return Some(self);
        }
        let count = service.workers.scaling()?.clamp(self.count);
        Some(Scale { count, by: ScaledBy::Load, reason: CHANGED.to_owned(), configured, ..self })
    }
}

/// The key of a service's note.
fn key(service: &ServiceId) -> String {
    format!("scale/{service}")
}

/// The notes that a predecessor left and that go with this plan.
pub(crate) fn kept(values: &[(String, Vec<u8>)], plan: &Plan) -> BTreeMap<ServiceId, Scale> {
    let note = |(key, value): &(String, Vec<u8>)| {
        let id = ServiceId::new(key.strip_prefix("scale/")?).ok()?;
        let note: Scale = serde_json::from_slice(value).ok()?;
        let note = note.fitted(plan.services.get(&id)?)?;
        Some((id, note))
    };
    values.iter().filter_map(note).collect()
}

/// The numbers of these notes.
pub(crate) fn counts(scales: &BTreeMap<ServiceId, Scale>) -> WorkerCounts {
    scales.iter().map(|(id, scale)| (id.clone(), scale.count)).collect()
}

/// Which numbers a reload leaves as they are although the configuration has others, in words.
pub(crate) fn that_stay(scales: &BTreeMap<ServiceId, Scale>, old: &Plan, new: &Plan) -> Vec<String> {
    let stays = scales.iter().filter_map(|(id, scale)| {
        let (old, new) = (old.services.get(id)?, new.services.get(id)?);
        let (count, reason) = (scale.count, &scale.reason);
        (scale.by == ScaledBy::Operator && old.workers == new.workers).then(|| {
            format!(
                "{id} keeps {count} of `workers`, as {reason} said; the configuration still has {}",
                new.workers
            )
        })
    });
    stays.collect()
}

impl App {
    /// Gives services other numbers of workers, all of them or none.
    pub(crate) fn scale(
        &mut self,
        wanted: BTreeMap<ServiceId, Option<u16>>,
        reply: Reply<watt_api::control::Scaled>,
    ) {
        if self.ending != Ending::No {
            return answer(reply, Err(Refusal::ShuttingDown));
        }
        let mut counts = BTreeMap::new();
        for (id, count) in wanted {
            match self.may_have(&id, count) {
                Ok(count) => drop(counts.insert(id, count)),
                Err(refusal) => return answer(reply, Err(refusal)),
            }
        }
        let mut services = BTreeMap::new();
        for (id, count) in counts {
            let from = self.fleet.count(&id);
            // What follows the load goes on from where it is.
            let scaling = self.plan.services.get(&id).and_then(|service| service.workers.scaling());
            let present = NonZeroU16::new(from).filter(|_| count.is_none());
            match scaling.zip(present).map(|(scaling, present)| scaling.clamp(present)) {
                Some(count) => self.give_workers(&id, Some(count), ScaledBy::Load, BY_OPERATOR),
                None => self.give_workers(&id, count, ScaledBy::Operator, BY_OPERATOR),
            }
            let to = self.fleet.count(&id);
            // Whoever asks for workers wants them awake.
            if self.fleet.will_sleep(&id) && self.is_held(&id) {
                self.tell(FleetEvent::Wake(id.clone()));
            }
            // One that is stopped has them when it is started, and is not waited for.
            let result = if self.is_stopped(&id) { "down" } else { "" }.to_owned();
            services.insert(id.to_string(), ScaledService { from, to, result });
        }
        let awaited = services.iter().filter(|(_, scaled)| scaled.result.is_empty());
        let ids = awaited.filter_map(|(name, _)| ServiceId::new(name).ok()).collect();
        let answer = Answer::Scaled(reply, services);
        self.operations.push(Operation::new(Selection::Services(ids), Goal::Up, answer));
        self.unsettle();
    }

    /// Whether a service may have so many workers.
    fn may_have(&self, id: &ServiceId, count: Option<u16>) -> Result<Option<NonZeroU16>, Refusal> {
        let service = self.plan.services.get(id).filter(|_| !self.fleet.is_leaving(id));
        let Some(service) = service else { return Err(self.unknown(id)) };
        let Some(count) = count else { return Ok(None) };
        let refused = |message: String, hint: Option<String>| Refusal::BadScale { message, hint };
        let Some(count) = NonZeroU16::new(count) else {
            return Err(refused(
                format!("{id} cannot have 0 workers"),
                Some(format!("`wattctl stop {id}` stops it")),
            ));
        };
        if count.get() > watt_config::WORKERS_MAX {
            let max = watt_config::WORKERS_MAX;
            return Err(refused(format!("{id} cannot have {count} workers: {max} is the most"), None));
        }
        if count.get() > 1 && has_fixed_port(service, &self.host) {
            return Err(refused(
                format!("{count} workers of {id} cannot all listen on one port of the host"),
                None,
            ));
        }
        let mut plan = Plan::clone(&self.plan);
        plan.services.retain(|other, _| other == id);
        plan.services.insert(id.clone(), Service { workers: Workers::Fixed(count), ..service.clone() });
        match self.places.check(&plan) {
            Ok(()) => Ok(Some(count)),
            Err(error) => Err(refused(crate::words::chain(&error), None)),
        }
    }

    /// Has a service have another number of workers from now on, or the configured one; says so, and notes it for a successor.
    pub(crate) fn give_workers(
        &mut self,
        id: &ServiceId,
        count: Option<NonZeroU16>,
        by: ScaledBy,
        reason: &str,
    ) {
        let Some(service) = self.plan.services.get(id) else { return };
        let (from, configured) = (self.fleet.count(id), service.workers.to_string());
        match count {
            Some(count) => {
                let reason = reason.to_owned();
                let scale = Scale { count, by, from, at_ms: status::now_ms(), reason, configured };
                // A note is strings and numbers, which always have a JSON form.
                self.put(&key(id), serde_json::to_vec(&scale).unwrap_or_default());
                self.scales.insert(id.clone(), scale);
            }
            None => {
                self.put(&key(id), Vec::new());
                self.scales.remove(id);
            }
        }
        let mut effects = Vec::new();
        self.fleet.scale(std::time::Instant::now(), id, count, &mut effects);
        self.note_changes();
        self.effects.extend(effects);
        let to = self.fleet.count(id);
        if from != to {
            self.events.emit(Happened { service: id.clone(), from, to, by, reason: reason.to_owned() });
        }
        self.unsettle();
    }

    /// Notes and tells that a service has gone to sleep, or was woken: the number that it has while it is awake stays.
    pub(crate) fn note_scale(&mut self, id: &ServiceId, by: ScaledBy, from: u16, to: u16, reason: &str) {
        let Some(service) = self.plan.services.get(id) else { return };
        if let Some(count) = NonZeroU16::new(self.fleet.count(id)) {
            let (reason, configured) = (reason.to_owned(), service.workers.to_string());
            let scale = Scale { count, by, from, at_ms: status::now_ms(), reason, configured };
            self.put(&key(id), serde_json::to_vec(&scale).unwrap_or_default());
            self.scales.insert(id.clone(), scale);
        }
        self.events.emit(Happened { service: id.clone(), from, to, by, reason: reason.to_owned() });
        self.unsettle();
    }

    /// Whether an operator said how many workers a service has.
    pub(crate) fn is_held(&self, id: &ServiceId) -> bool {
        self.scales.get(id).is_some_and(|scale| scale.by == ScaledBy::Operator)
    }

    /// How many workers each service has, to be told to [`App::forget_scales`].
    pub(crate) fn worker_counts(&self) -> BTreeMap<ServiceId, u16> {
        self.plan.services.keys().map(|id| (id.clone(), self.fleet.count(id))).collect()
    }

    /// A configuration comes back, and with it the numbers that the one in force has changed.
    pub(crate) fn bring_scales_back(&mut self, plan: &Plan) {
        let Some(before) = &self.in_force.before else { return };
        let returns = |(id, scale): &(&ServiceId, &Scale)| {
            let workers = |plan: &Plan| plan.services.get(*id).map(|service| service.workers.to_string());
            workers(plan).as_ref() == Some(&scale.configured) && workers(&self.plan) != workers(plan)
        };
        let back: BTreeMap<ServiceId, Scale> =
            before.scales.iter().filter(returns).map(|(id, scale)| (id.clone(), scale.clone())).collect();
        for (id, scale) in &back {
            self.put(&key(id), serde_json::to_vec(scale).unwrap_or_default());
        }
        self.fleet.bring_back(counts(&back));
        self.scales.extend(back);
    }

    /// Another configuration is in force: forgets the numbers that it has changed, or goes on from them.
    pub(crate) fn forget_scales(&mut self, before: &BTreeMap<ServiceId, u16>) {
        for (id, scale) in std::mem::take(&mut self.scales) {
            let fitted = self.plan.services.get(&id).filter(|_| self.fleet.counts().contains_key(&id));
            match fitted.and_then(|service| scale.clone().fitted(service)) {
                Some(fitted) => {
                    if fitted != scale {
                        self.put(&key(&id), serde_json::to_vec(&fitted).unwrap_or_default());
                    }
                    self.scales.insert(id, fitted);
                }
                None => self.put(&key(&id), Vec::new()),
            }
        }
        // A number that follows the load begins with what there was, which no note says yet.
        let new = |(id, _): &(&ServiceId, &NonZeroU16)| !self.scales.contains_key(*id);
        let carried: Vec<(ServiceId, NonZeroU16)> =
            self.fleet.counts().iter().filter(new).map(|(id, count)| (id.clone(), *count)).collect();
        for (id, count) in carried {
            let Some(service) = self.plan.services.get(&id) else { continue };
            let scale = Scale {
                count,
                by: ScaledBy::Load,
                from: before.get(&id).copied().unwrap_or(count.get()),
                at_ms: status::now_ms(),
                reason: CHANGED.to_owned(),
                configured: service.workers.to_string(),
            };
            self.put(&key(&id), serde_json::to_vec(&scale).unwrap_or_default());
            self.scales.insert(id, scale);
        }
    }
}

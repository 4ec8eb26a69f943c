//! A difference as the API says it, and a refusal as the event log does.

use std::collections::{BTreeMap, BTreeSet};

use watt_api::control::{Change, ChangeEffect, ChangeKind};
use watt_config::written_limits;
use watt_core::{
    ServiceId,
    diff::{Effect, Field, ServiceDiff},
    plan::{CgroupLimits, Listener, Plan, Service},
};

use super::prepare::Prepared;
use crate::{control::Refusal, gateway::AllBound};

/// Every difference: of the application, then of each service.
pub(super) fn changes(old: &Plan, prepared: &Prepared, gateway: &AllBound) -> Vec<Change> {
    let new = &prepared.plan;
    let mut changes = Vec::new();
    for field in &prepared.diff.app {
        match field {
            Field::AppLimits => {
                changes.extend(limits(None, "limits", &old.limits, &new.limits, effect(*field)));
            }
            Field::Server => {
                changes.push(Change {
                    before: gateway.get(Listener::SERVER).map(|bound| bound.place.to_string()),
                    after: new.server().map(|server| server.at.to_string()),
                    ..changed(None, field.key(), effect(*field))
                });
            }
            Field::Listeners => changes.extend(listeners(old, new, gateway)),
            field => changes.push(changed(None, field.key(), effect(*field))),
        }
    }
    if prepared.certificates {
        // Those of upstreams are the routes'.
        let of = if new.tls().next().is_some() { Field::Tls } else { Field::Routes };
        if !prepared.diff.app.contains(&of) && !new.certificate_files().is_empty() {
            changes.push(changed(None, of.key(), effect(of)));
        }
    }
    if prepared.credentials && !prepared.diff.app.contains(&Field::Routes) {
        changes.push(changed(None, Field::Routes.key(), effect(Field::Routes)));
    }
    for (id, diff) in &prepared.diff.services {
        match (diff, old.services.get(id), new.services.get(id)) {
            (ServiceDiff::Added, ..) => changes.push(whole(id, ChangeKind::Added)),
            (ServiceDiff::Removed, ..) => changes.push(whole(id, ChangeKind::Removed)),
            (ServiceDiff::Changed(fields), Some(before), Some(after)) => {
                changes.extend(fields.iter().flat_map(|field| of_service(id, *field, before, after)));
            }
            (ServiceDiff::Changed(_), ..) => {}
        }
    }
    let because = [("secrets", &prepared.rotated), ("surroundings", &prepared.surroundings)];
    for (key, services) in because {
        changes.extend(services.iter().map(|id| changed(Some(id), key, ChangeEffect::NewWorkers)));
    }
    changes
}

/// Each of `gateway.listeners` that is another one, with where it is where that is another place.
fn listeners(old: &Plan, new: &Plan, gateway: &AllBound) -> Vec<Change> {
    let (old, new) = (old.other_listeners(), new.other_listeners());
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let one = |name: &str| {
        let (before, after) = (old.get(name), new.get(name));
        let is_moved = before.map(|one| &one.at) != after.map(|one| &one.at);
        let kind = match (before, after) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            (Some(_), Some(_)) => ChangeKind::Changed,
        };
        let bound = gateway.get(name).map(|bound| bound.place.to_string());
        Change {
            kind,
            before: before.and(bound).filter(|_| is_moved),
            after: after.map(|one| one.at.to_string()).filter(|_| is_moved),
            ..changed(None, &format!("gateway.listeners.{name}"), effect(Field::Listeners))
        }
    };
    names.into_iter().filter(|name| old.get(name) != new.get(name)).map(one).collect()
}

fn of_service(id: &ServiceId, field: Field, old: &Service, new: &Service) -> Vec<Change> {
    let one = || changed(Some(id), field.key(), effect(field));
    match field {
        Field::Workers => vec![Change {
            before: Some(old.workers.to_string()),
            after: Some(new.workers.to_string()),
            ..one()
        }],
        Field::CgroupLimits => {
            limits(Some(id), "limits", &old.limits.cgroup, &new.limits.cgroup, effect(field))
        }
        Field::LimitsTotal => {
            limits(Some(id), "limits_total", &old.limits_total, &new.limits_total, effect(field))
        }
        // By their names: a value may well be a secret.
        Field::Env => differing(&old.env, &new.env)
            .into_iter()
            .map(|name| changed(Some(id), &format!("env.{name}"), effect(field)))
            .collect(),
        _ => vec![one()],
    }
}

/// Each limit that is another, with its values as the configuration writes them.
fn limits(
    id: Option<&ServiceId>,
    table: &str,
    old: &CgroupLimits,
    new: &CgroupLimits,
    effect: ChangeEffect,
) -> Vec<Change> {
    let (before, after) = (written_limits(old), written_limits(new));
    let each = differing(&before, &after).into_iter().map(|key| Change {
        before: before.get(key).cloned(),
        after: after.get(key).cloned(),
        ..changed(id, &format!("{table}.{key}"), effect)
    });
    let by_device = (old.io != new.io).then(|| changed(id, &format!("{table}.io"), effect));
    let by_page = (old.hugetlb != new.hugetlb).then(|| changed(id, &format!("{table}.hugetlb"), effect));
    each.chain(by_device).chain(by_page).collect()
}

/// The keys whose values are others.
fn differing<'a>(old: &'a BTreeMap<String, String>, new: &'a BTreeMap<String, String>) -> BTreeSet<&'a str> {
    let keys = old.keys().chain(new.keys());
    keys.filter(|key| old.get(*key) != new.get(*key)).map(String::as_str).collect()
}

fn changed(service: Option<&ServiceId>, key: &str, effect: ChangeEffect) -> Change {
    Change {
        service: service.map(ToString::to_string),
        kind: ChangeKind::Changed,
        key: Some(key.to_owned()),
        before: None,
        after: None,
        effect,
    }
}

fn whole(service: &ServiceId, kind: ChangeKind) -> Change {
    Change {
        service: Some(service.to_string()),
        kind,
        key: None,
        before: None,
        after: None,
        effect: ChangeEffect::Workers,
    }
}

fn effect(field: Field) -> ChangeEffect {
    match field.effect() {
        Effect::InPlace => ChangeEffect::InPlace,
        Effect::FromNowOn => ChangeEffect::FromNowOn,
        Effect::WorkerCount => ChangeEffect::Workers,
        Effect::Listener => ChangeEffect::Listener,
        // What takes a restart of the application is refused before.
        Effect::NewWorkers | Effect::Restart => ChangeEffect::NewWorkers,
    }
}

/// Why a configuration was not taken, in one line.
pub(crate) fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Config { report, .. } => {
            let errors = report["errors"].as_array().map_or(&[][..], Vec::as_slice);
            let first = errors.first().and_then(|error| error["message"].as_str()).unwrap_or("it has errors");
            match errors.len() {
                0 | 1 => first.to_owned(),
                count => format!("{first}; and {} more", crate::words::counted(count as u64 - 1, "error")),
            }
        }
        Refusal::NotReloaded { message, .. } | Refusal::NotUpgraded { message, .. } => message.clone(),
        Refusal::UnknownService { name, .. } => format!("there is no service {name:?}"),
        Refusal::UnknownJob { name, .. } => format!("there is no job {name:?}"),
        Refusal::UnknownTask { name, .. } => format!("there is no task {name:?}"),
        Refusal::JobBusy(name) => format!("an earlier firing of {name} is under way"),
        Refusal::BadLimits(message) | Refusal::NotStarted(message) | Refusal::BadScale { message, .. } => {
            message.clone()
        }
        Refusal::ShuttingDown => "the application is being shut down".to_owned(),
    }
}

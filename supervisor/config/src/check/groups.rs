//! Groups of services: each service is in one, and is listed after what it depends on where the order counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use watt_core::{ServiceId, plan::GroupStrategy};

use crate::{
    decode::{GroupDraft, ServiceDraft},
    report::{Problem, Problems},
    scalar::quote,
    source::Span,
};

/// What is wrong with groups besides names that do not exist.
pub(crate) fn groups(services: &[ServiceDraft], groups: &[GroupDraft], problems: &mut Problems) {
    memberships(groups, problems);
    let drafts: BTreeMap<&ServiceId, &ServiceDraft> =
        services.iter().map(|draft| (&draft.service.id, draft)).collect();
    for group in groups.iter().filter(|group| group.strategy == GroupStrategy::RestForOne) {
        order(group, &drafts, problems);
    }
}

fn memberships(groups: &[GroupDraft], problems: &mut Problems) {
    let mut first: HashMap<&ServiceId, (&str, Span)> = HashMap::new();
    for group in groups {
        for (id, at) in &group.services {
            if problems.is_full() {
                return;
            }
            let Some((other, place)) = first.get(id) else {
                first.insert(id, (&group.name, *at));
                continue;
            };
            let (message, hint) = match *other == group.name {
                true => (format!("{} is written twice", quote(id.as_str())), "keep one of them"),
                false => {
                    let (id, other) = (quote(id.as_str()), quote(other));
                    (format!("{id} is in the group {other} already"), "a service is in one group at most")
                }
            };
            problems.push(Problem::new(*at, message).related(*place, "it was first written here").hint(hint));
        }
    }
}

/// What fails takes along those that come after it, which are to be those that use it.
fn order(group: &GroupDraft, drafts: &BTreeMap<&ServiceId, &ServiceDraft>, problems: &mut Problems) {
    let mut later: BTreeSet<&ServiceId> = group.services.iter().map(|(id, _)| id).collect();
    for (id, at) in &group.services {
        later.remove(id);
        let Some(draft) = drafts.get(id) else { continue };
        let needed = draft.dependencies.iter().find(|(on, _, _)| later.contains(on) && on != id);
        if let Some((on, _, place)) = needed.filter(|_| !problems.is_full()) {
            let (id, on) = (quote(id.as_str()), quote(on.as_str()));
            let message = format!("{id} comes before {on}, which it depends on");
            let hint =
                format!("with `rest_for_one` a service takes along those after it: put {on} before {id}");
            problems.push(Problem::new(*at, message).related(*place, "it depends on it here").hint(hint));
        }
    }
}

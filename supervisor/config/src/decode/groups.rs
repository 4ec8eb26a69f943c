//! Groups of services.

use std::time::Duration;

use watt_core::{
    AppName, ServiceId,
    plan::{Group, GroupStrategy},
};

use super::{
    fields::{Field, Fields, Written},
    service,
};
use crate::{
    keys::{GIVE_UP, GROUP, STRATEGY},
    report::Problem,
    scalar::{Whole, quote},
    show::Shown,
    source::Span,
};

/// A group with the places that looking at all services together needs.
#[derive(Debug)]
pub(crate) struct GroupDraft {
    pub(crate) name: String,
    /// Each service with its place.
    pub(crate) services: Vec<(ServiceId, Span)>,
    pub(crate) strategy: GroupStrategy,
    give_up: Option<(u32, Duration)>,
}

impl GroupDraft {
    pub(crate) fn into_group(self) -> (String, Group) {
        let GroupDraft { name, services, strategy, give_up } = self;
        let services = services.into_iter().map(|(id, _)| id).collect();
        (name, Group { services, strategy, give_up })
    }
}

/// Decodes `groups`.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> Vec<GroupDraft> {
    let mut groups = Vec::new();
    let mut shown = Vec::new();
    for entry in f.entries("groups", "name") {
        if f.d.problems.is_full() {
            break;
        }
        let name = &entry.key.text;
        if let Err(error) = AppName::new(name) {
            let message = format!("{} cannot be a group's name: {error}", quote(name));
            f.d.problem(Problem::new(entry.key.span, message));
        }
        let mut inner = Fields::open(f.d, &GROUP, Some(Field::from(entry)), None);
        let services = services(&mut inner, entry.key.span);
        let strategy = inner.word_or_default("strategy", &STRATEGY).value;
        let give_up = give_up(&mut inner);
        shown.push((name.clone(), inner.close()));
        groups.push(GroupDraft { name: name.clone(), services, strategy, give_up });
    }
    f.show("groups", Shown::Map(shown));
    groups
}

fn services(f: &mut Fields<'_, '_, '_>, at: Span) -> Vec<(ServiceId, Span)> {
    let mut services = Vec::new();
    let mut shown = Vec::new();
    if !f.is_written("services") {
        f.missing("services");
    }
    let items = f.list("services");
    for item in items {
        if f.d.problems.is_full() {
            break;
        }
        let Some(text) = f.d.scalar(item, item.span, "services", "a service's name", &[]) else { continue };
        let Some(id) = service::id(f.d, &text.text, text.span) else { continue };
        shown.push(Shown::Leaf { value: id.as_str().into(), from: text.from, span: Some(text.span) });
        services.push((id, text.span));
    }
    if f.is_written("services") && items.is_empty() && f.d.problems.is_empty() {
        let hint = f.example("services");
        f.d.problem(Problem::new(at, "a group without services").hint(hint));
    }
    f.show("services", Shown::List(shown));
    services
}

fn give_up(f: &mut Fields<'_, '_, '_>) -> Option<(u32, Duration)> {
    let field = f.field("give_up")?;
    let mut inner = Fields::open(f.d, &GIVE_UP, Some(field), None);
    let failures: Written<Whole<1, 1000>> = inner.value("failures");
    let within: Written<Duration> = inner.value("within");
    let shown = inner.close();
    f.show("give_up", shown);
    Some((u32::try_from(failures.value.0).unwrap_or(u32::MAX), within.value))
}

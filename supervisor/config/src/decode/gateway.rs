//! The gateway's rules, and who may call whom.

use std::rc::Rc;

use serde_json::json;
use watt_core::{
    ServiceId,
    plan::{Hold, Policy},
};

use super::{
    Decoder,
    fields::{Field, Fields, Written},
    guard,
    listener::{self, ListenerDraft},
    route::{self, RouteDraft},
    service,
};
use crate::{
    keys::{GATEWAY, HOLD, POLICIES},
    scalar::Whole,
    show::Shown,
    source::Span,
    tree::{Node, Value},
};

/// A policy with its places.
#[derive(Debug)]
pub(crate) struct PolicyDraft {
    pub(crate) policy: Policy,
    pub(crate) from_at: Span,
    pub(crate) to_at: Span,
}

/// What the key `gateway` holds.
pub(super) struct Gateway {
    pub(super) routes: Vec<RouteDraft>,
    pub(super) listeners: Vec<ListenerDraft>,
    pub(super) hold: Hold,
    pub(super) body_rate_min: u64,
    pub(super) shown: Shown,
}

/// Whether any of these was written, right or wrong: a wrong one must not look as if there were no gateway.
pub(super) fn has(field: Option<Field<'_>>, key: &str) -> bool {
    let Some(Value::Map(entries)) = field.map(|field| &field.node.value) else { return false };
    let is_something = |node: &Node| match &node.value {
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
        Value::Null | Value::Scalar { .. } => false,
    };
    entries.iter().any(|entry| entry.key.text == key && is_something(&entry.node))
}

/// Decodes `gateway`.
pub(super) fn decode(d: &mut Decoder<'_>, field: Option<Field<'_>>) -> Gateway {
    let mut f = Fields::open(d, &GATEWAY, field, None);
    let base = guard::of_gateway(&mut f);
    let mut routes = Vec::new();
    let mut shown = Vec::new();
    for item in f.list("routes") {
        if f.d.problems.is_full() {
            break;
        }
        let (route, shown_route) = route::decode(f.d, item, &base);
        routes.extend(route);
        shown.push(shown_route);
    }
    f.show("routes", Shown::List(shown));
    let mut listeners = listener::further(&mut f, &base);
    let of_listeners = listeners.iter_mut().filter_map(|one| one.routes.as_mut()).flatten();
    // Where it is looked whether they exist, once.
    if let Some(first) = routes.iter_mut().chain(of_listeners).next() {
        first.services.extend(base.services);
    }
    let hold = hold(&mut f);
    let body_rate: Written<Whole<0, 1_000_000_000>> = f.value("body_rate");
    Gateway { routes, listeners, hold, body_rate_min: body_rate.value.0, shown: f.close() }
}

/// Where to point for a whole item of a list: its first key.
pub(super) fn start_of(node: &Node) -> Span {
    match &node.value {
        Value::Map(entries) => entries.first().map_or(node.span, |entry| entry.key.span),
        Value::Null | Value::Scalar { .. } | Value::List(_) => node.span,
    }
}

/// A key that names a service.
pub(super) fn service_name(f: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<(ServiceId, Span)> {
    let Some(field) = f.field(key) else {
        f.missing(key);
        return None;
    };
    let text = f.d.scalar(field.node, field.at(), key, "a service's name", &[])?;
    let id = service::id(f.d, &text.text, text.span)?;
    f.show(key, Shown::Leaf { value: json!(id.as_str()), from: text.from, span: Some(text.span) });
    Some((id, text.span))
}

fn hold(f: &mut Fields<'_, '_, '_>) -> Hold {
    let field = f.field("hold");
    let mut inner = Fields::open(f.d, &HOLD, field, None);
    let timeout: Written<std::time::Duration> = inner.value("timeout");
    let requests: Written<Whole<0, 1_000_000>> = inner.value("requests");
    let shown = inner.close();
    f.show("hold", shown);
    Hold { timeout: timeout.value, requests_max: usize::try_from(requests.value.0).unwrap_or(usize::MAX) }
}

/// Decodes `policies`.
pub(super) fn policies(d: &mut Decoder<'_>, items: &[Rc<Node>]) -> (Vec<PolicyDraft>, Shown) {
    let mut policies: Vec<PolicyDraft> = Vec::new();
    let mut shown = Vec::new();
    for item in items {
        if d.problems.is_full() {
            break;
        }
        let mut f = Fields::open(d, &POLICIES, Some(Field { key_span: start_of(item), node: item }), None);
        let from = service_name(&mut f, "from");
        let to = service_name(&mut f, "to");
        shown.push(f.close());
        if let (Some((from, from_at)), Some((to, to_at))) = (from, to) {
            policies.push(PolicyDraft { policy: Policy { from, to }, from_at, to_at });
        }
    }
    (policies, Shown::List(shown))
}

//! Where collectors get what was counted.

use std::net::IpAddr;

use serde_json::json;
use watt_core::plan::{
    Guard, ListenAt, Listener, PathMatch, Protocol, RequestPart, Route, RouteCondition, RouteTarget,
    Timeouts, Upstream, UpstreamServer, ValueTest,
};

use super::{
    fields::{Field, Fields, Written},
    listener::{ListenerDraft, port_of},
    route::{RouteDraft, spelt_in_one_way},
};
use crate::{
    keys::METRICS,
    report::Problem,
    scalar::{Bad, Scalar, UrlPath, Whole},
    show::Shown,
    source::Span,
    tree::Value,
};

/// Decodes `metrics`: a listener with routes of its own, which lead to watt itself.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> Option<ListenerDraft> {
    let Some(field) = f.field("metrics") else {
        f.show("metrics", Shown::default_value(json!(false)));
        return None;
    };
    let Value::Scalar { .. } = field.node.value else { return table(f, Some(field), field.key_span) };
    let text = f.d.scalar(field.node, field.at(), "metrics", "`true`, `false`, or a table", &[])?;
    if f.d.parse(&text, bool::parse)? {
        return table(f, None, text.span);
    }
    f.show("metrics", Shown::Leaf { value: json!(false), from: text.from, span: Some(text.span) });
    None
}

fn table(f: &mut Fields<'_, '_, '_>, field: Option<Field<'_>>, at: Span) -> Option<ListenerDraft> {
    let mut inner = Fields::open(f.d, &METRICS, field, None);
    let enabled: Written<bool> = inner.value("enabled");
    let hostname: Written<IpAddr> = inner.value("hostname");
    let port: Written<Whole<0, 65535>> = inner.value("port");
    let endpoint: Written<UrlPath<false>> = inner.value("endpoint");
    if let (Some(span), Err(Bad { message, hint })) = (endpoint.span, spelt_in_one_way(&endpoint.value.0)) {
        inner.d.problem(Problem::new(span, message).maybe_hint(hint));
    }
    let shown = inner.close();
    f.show("metrics", shown);
    let draft = |route| RouteDraft { route, at, services: Vec::new() };
    let place = ListenAt::Tcp { hostname: hostname.value, port: port_of(port.value) };
    enabled.value.then(|| {
        ListenerDraft::with_routes(
            Listener::METRICS,
            place,
            routes(&endpoint.value.0).map(draft).into(),
            (at, port.span.unwrap_or(at)),
        )
    })
}

/// The paths that say whether the application can take requests, and whether watt is there, as Platformatic has them.
const READY: &str = "/ready";
const ALIVE: &str = "/status";

/// Which format it is to be is known by the route, so that the daemon reads nothing that a client wrote: its server knows these paths.
fn routes(path: &str) -> [Route; 4] {
    let upstream = Upstream {
        server: UpstreamServer::Metrics,
        host: Some("watt".to_owned()),
        protocol: Protocol::Http1,
        timeouts: Timeouts::default(),
        ca: None,
    };
    let route = |path: &str, inner: &str, conditions| Route {
        matching: PathMatch::Exact,
        case_exact: true,
        methods: vec!["GET".to_owned()],
        conditions,
        rewrite: Some(inner.to_owned()),
        guard: Guard { body_max: Some(0), ..Guard::default() },
        ..Route::to(path, RouteTarget::Upstream(upstream.clone()))
    };
    let open_metrics = RouteCondition {
        part: RequestPart::Header,
        name: "accept".to_owned(),
        test: ValueTest::Regex(".*application/openmetrics-text.*".to_owned()),
    };
    [
        route(path, "/openmetrics", vec![open_metrics]),
        route(path, "/text", Vec::new()),
        route(READY, READY, Vec::new()),
        route(ALIVE, ALIVE, Vec::new()),
    ]
}

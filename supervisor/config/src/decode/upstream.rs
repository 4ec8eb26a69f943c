//! A server outside that a route leads to.

use serde_json::json;
use watt_core::plan::{Protocol, RouteTarget, Upstream, UpstreamServer};

use super::{
    actions::Target,
    fields::{Fields, Written},
    traffic,
};
use crate::{
    keys::{PROTOCOL, UPSTREAM},
    report::Problem,
    scalar::{HostField, UpstreamUrl, quote},
    show::Shown,
};

/// `upstream` of a route: a server, or a service in words of other programs.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> Option<Target> {
    let field = f.field("upstream")?;
    let mut inner = Fields::open(f.d, &UPSTREAM, Some(field), Some("url"));
    let url: Option<Written<UpstreamUrl>> = match inner.is_written("url") {
        true => inner.scalar("url"),
        false => {
            inner.field("url");
            inner.missing("url");
            None
        }
    };
    let host: Option<Written<HostField>> = match inner.is_written("host") {
        true => inner.scalar("host"),
        false => {
            inner.field("host");
            let shown = match url.as_ref().map(|url| &url.value) {
                Some(UpstreamUrl::Outside(server)) => server.host().unwrap_or_else(|| "client".to_owned()),
                Some(UpstreamUrl::Inside(_)) | None => "client".to_owned(),
            };
            inner.show("host", Shown::default_value(json!(shown)));
            None
        }
    };
    let protocol: Written<Protocol> = inner.word_or_default("protocol", &PROTOCOL);
    let ca = inner.path("ca").map(|written| written.value);
    let timeouts = traffic::timeouts(&mut inner);
    let url = url?;
    if let (Some(field), false) = (inner.written("ca"), is_secure(&url.value)) {
        let problem = Problem::new(field.key_span, "nobody vouches for a server without TLS");
        inner.d.problem(problem.hint("write `https://` in `url`, or remove it"));
    }
    if let (Some(field), true, Protocol::H2c) =
        (inner.written("protocol"), is_secure(&url.value), protocol.value)
    {
        let problem = Problem::new(field.key_span, "HTTP/2 is not spoken in TLS with servers outside");
        inner.d.problem(
            problem.hint("remove it: HTTP/1.1 is, which nearly all that speak HTTP/2 speak as well"),
        );
    }
    if let UpstreamUrl::Inside(_) = &url.value {
        for key in ["host", "protocol", "timeouts"] {
            if let Some(field) = inner.written(key) {
                let message = format!("{} of a service is the service's to say", quote(key));
                inner.d.problem(Problem::new(field.key_span, message).hint("remove it"));
            }
        }
    }
    let shown = inner.close();
    f.show("upstream", shown);
    let at = url.span.unwrap_or(field.key_span);
    Some(match url.value {
        UpstreamUrl::Inside(id) => (RouteTarget::Service(id.clone()), vec![(id, at)]),
        UpstreamUrl::Outside(server) => {
            let host = match host.map(|host| host.value) {
                None => server.host(),
                Some(HostField::Client) => None,
                Some(HostField::Is(host)) => Some(host),
            };
            let upstream = Upstream { server, host, protocol: protocol.value, timeouts, ca };
            (RouteTarget::Upstream(upstream), Vec::new())
        }
    })
}

fn is_secure(url: &UpstreamUrl) -> bool {
    matches!(url, UpstreamUrl::Outside(UpstreamServer::Tls { .. }))
}

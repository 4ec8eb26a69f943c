//! Servers outside of the application that routes lead to. The proxy has each as a service that is always there: that it is not shows when
//! it is connected to.

use std::{collections::BTreeMap, path::Path, time::Duration};

use watt_api::mesh::{self, Outlook};
use watt_certificates::Certificates;
use watt_core::plan::{Plan, Protocol, Timeouts, Upstream, UpstreamServer};

use crate::{
    snapshot::{millis, protocol},
    tls,
};

/// Those of a plan, by what routes call them. Of one server all routes say the same. `metrics` is where we say ourselves what was counted.
pub(crate) fn of_plan(plan: &Plan, read: &Certificates, metrics: &Path) -> BTreeMap<String, mesh::Service> {
    let named = |upstream: &Upstream| (upstream.server.to_string(), service(plan, read, metrics, upstream));
    // What a route says of a server holds for keys that come from there as well.
    let of_keys = plan.key_servers().map(|server| named(&for_keys(server)));
    of_keys.chain(plan.upstreams().map(named)).collect()
}

/// A server that nobody is led to: keys are fetched from it.
fn for_keys(server: &UpstreamServer) -> Upstream {
    Upstream {
        server: server.clone(),
        host: server.host(),
        protocol: Protocol::Http1,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            per_try: None,
            total: None,
        },
        ca: None,
    }
}

fn service(plan: &Plan, read: &Certificates, metrics: &Path, upstream: &Upstream) -> mesh::Service {
    let Upstream { server, host, protocol: spoken, timeouts, ca } = upstream;
    let tls = match server {
        UpstreamServer::Tls { name, .. } => Some(mesh::UpstreamTls {
            name: name.clone(),
            ca: ca.as_ref().map(|path| tls::text(read, path).to_owned()),
        }),
        UpstreamServer::Tcp { .. } | UpstreamServer::Unix(_) | UpstreamServer::Metrics => None,
    };
    let server = match server {
        UpstreamServer::Tcp { name, port } | UpstreamServer::Tls { name, port } => {
            mesh::Server::Tcp { name: name.clone(), port: *port }
        }
        UpstreamServer::Unix(path) => mesh::Server::Unix { path: path.clone() },
        UpstreamServer::Metrics => mesh::Server::Unix { path: metrics.to_path_buf() },
    };
    mesh::Service {
        outlook: Outlook::Coming,
        // Routes lead there, and nobody calls it by name.
        callers: Some(Vec::new()),
        protocol: protocol(*spoken),
        connect_timeout_ms: millis(timeouts.connect),
        first_byte_timeout_ms: millis(timeouts.first_byte),
        idle_timeout_ms: millis(timeouts.idle),
        // Nobody starts another one, so that there is nothing to wait for.
        hold_timeout_ms: 0,
        hold_requests_max: plan.hold.requests_max,
        traffic: mesh::Traffic {
            try_timeout_ms: timeouts.per_try.map_or(0, millis),
            total_timeout_ms: timeouts.total.map_or(0, millis),
            ..mesh::Traffic::default()
        }
        .into(),
        upstream: Some(Box::new(mesh::Upstream { server, host: host.clone(), tls })),
        ..mesh::Service::default()
    }
}

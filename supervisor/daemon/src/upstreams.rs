//! Servers outside of the application that routes lead to. The proxy has each as a service that is always there: that it is not shows when
//! it is connected to.

use std::collections::BTreeMap;

use watt_api::mesh::{self, Outlook};
use watt_core::plan::{Plan, Upstream, UpstreamServer};

use crate::snapshot::{millis, protocol};

/// Those of a plan, by what routes call them. Of one server all routes say the same.
pub(crate) fn of_plan(plan: &Plan) -> BTreeMap<String, mesh::Service> {
    plan.upstreams().map(|upstream| (upstream.server.to_string(), service(plan, upstream))).collect()
}

fn service(plan: &Plan, upstream: &Upstream) -> mesh::Service {
    let Upstream { server, host, protocol: spoken, timeouts } = upstream;
    let server = match server {
        UpstreamServer::Tcp { name, port } => mesh::Server::Tcp { name: name.clone(), port: *port },
        UpstreamServer::Unix(path) => mesh::Server::Unix { path: path.clone() },
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
        upstream: Some(Box::new(mesh::Upstream { server, host: host.clone() })),
        ..mesh::Service::default()
    }
}

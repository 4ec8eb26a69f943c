//! The gateway's rules as the proxy and operators get them.

use watt_api::{control, mesh};
use watt_core::plan::{PathMatch, Plan, RequestPart, Route, RouteCondition, ValueTest};

use crate::{app::App, control::Reply, operate::answer};

/// The rules of a configuration.
pub fn of_configuration(plan: &Plan) -> control::Routes {
    control::Routes {
        app: plan.name.to_string(),
        file: plan.file.clone(),
        gateway: None,
        routes: of_plan(plan),
    }
}

impl App {
    pub(crate) fn routes(&self, reply: Reply<Box<control::Routes>>) {
        let gateway = self.gateway.map(|address| format!("http://{address}"));
        answer(reply, Ok(Box::new(control::Routes { gateway, ..of_configuration(&self.plan) })));
    }
}

/// In the order of the file.
pub(crate) fn of_plan(plan: &Plan) -> Vec<mesh::Route> {
    plan.routes.iter().map(route).collect()
}

fn route(route: &Route) -> mesh::Route {
    let Route { path, matching, host, methods, conditions, service, rewrite } = route;
    mesh::Route {
        path: path.clone(),
        matching: match matching {
            PathMatch::Prefix => mesh::PathMatch::Prefix,
            PathMatch::Exact => mesh::PathMatch::Exact,
            PathMatch::Regex => mesh::PathMatch::Regex,
        },
        host: host.clone(),
        methods: methods.clone(),
        conditions: conditions.iter().map(condition).collect(),
        service: service.to_string(),
        rewrite: rewrite.clone(),
    }
}

fn condition(condition: &RouteCondition) -> mesh::RouteCondition {
    mesh::RouteCondition {
        part: match condition.part {
            RequestPart::Header => mesh::RequestPart::Header,
            RequestPart::Cookie => mesh::RequestPart::Cookie,
            RequestPart::Query => mesh::RequestPart::Query,
        },
        name: condition.name.clone(),
        test: match &condition.test {
            ValueTest::Is(text) => mesh::ValueTest::Is(text.clone()),
            ValueTest::Regex(expression) => mesh::ValueTest::Regex(expression.clone()),
            ValueTest::Present => mesh::ValueTest::Present,
            ValueTest::Absent => mesh::ValueTest::Absent,
        },
    }
}

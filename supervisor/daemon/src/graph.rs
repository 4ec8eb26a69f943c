//! Who waits for whom, from a plan alone or with what the services are doing.

use std::collections::BTreeMap;

use watt_api::control::{self, GraphEdge, GraphGroup, GraphService, WorkerState};
use watt_core::{
    ServiceId, fleet,
    plan::{Dependency, Plan},
};

use crate::{app::App, control::Reply, operate::answer, words};

/// The graph of a configuration.
pub fn of_configuration(plan: &Plan) -> control::Graph {
    of(plan, &BTreeMap::new())
}

impl App {
    pub(crate) fn graph(&self, reply: Reply<Box<control::Graph>>) {
        let services = self.facts().services().into_iter();
        let states = services.map(|service| (service.id, service.state)).collect();
        answer(reply, Ok(Box::new(of(&self.plan, &states))));
    }
}

fn of(plan: &Plan, states: &BTreeMap<String, WorkerState>) -> control::Graph {
    let service = |(id, level): (ServiceId, u32)| GraphService {
        level,
        state: states.get(id.as_str()).copied(),
        depends_on: plan
            .services
            .get(&id)
            .map(|service| service.depends_on.iter().map(edge).collect())
            .unwrap_or_default(),
        id: id.to_string(),
    };
    let groups = plan.groups.iter().map(|(name, group)| GraphGroup {
        id: name.clone(),
        strategy: words::strategy(group.strategy).to_owned(),
        services: group.services.iter().map(ToString::to_string).collect(),
    });
    control::Graph {
        app: plan.name.to_string(),
        file: plan.file.clone(),
        services: fleet::levels(plan).into_iter().map(service).collect(),
        groups: groups.collect(),
    }
}

fn edge((on, dependency): (&ServiceId, &Dependency)) -> GraphEdge {
    GraphEdge {
        on: on.to_string(),
        condition: words::condition(dependency.condition).replace(' ', "_"),
        required: dependency.required,
        restart: dependency.restart,
    }
}

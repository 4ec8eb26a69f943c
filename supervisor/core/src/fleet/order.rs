//! The order among services: who depends on whom.
//!
//! Everything is settled here once, iteratively, so that acting on it later needs no recursion. A cycle is refused by
//! `watt-config`; should one come through, its services wait for ever when started, and are stopped in the order of their names.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ServiceId,
    plan::{Group, GroupStrategy, Plan, Service},
};

/// The dependencies of a plan.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Every service, dependencies before dependents.
    starts: Vec<ServiceId>,
    /// The neighbours of each.
    nodes: BTreeMap<ServiceId, Node>,
    /// Those with a dependency that is not required.
    lenient: Vec<ServiceId>,
    /// Those whose workers follow those of another service, and which.
    followers: Vec<(ServiceId, ServiceId)>,
    groups: Vec<Group>,
    /// Which of the groups each service is in, and where in it.
    members: BTreeMap<ServiceId, (usize, usize)>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    dependencies: Vec<ServiceId>,
    dependents: Vec<ServiceId>,
}

impl Order {
    pub(super) fn new(plan: &Plan) -> Order {
        let mut nodes: BTreeMap<ServiceId, Node> =
            plan.services.keys().map(|id| (id.clone(), Node::default())).collect();
        for (id, service) in &plan.services {
            for dependency in service.depends_on.keys() {
                if let Some(node) = nodes.get_mut(dependency) {
                    node.dependents.push(id.clone());
                }
            }
            if let Some(node) = nodes.get_mut(id) {
                node.dependencies = service.depends_on.keys().cloned().collect();
            }
        }
        let starts = sorted(&nodes);
        let is_lenient = |service: &&Service| service.depends_on.values().any(|on| !on.required);
        let lenient = plan.services.values().filter(is_lenient).map(|service| service.id.clone()).collect();
        let followed = |service: &Service| {
            let followed = service.depends_on.iter().filter(|(_, dependency)| dependency.restart);
            followed.map(|(on, _)| (service.id.clone(), on.clone())).collect::<Vec<_>>()
        };
        let followers = plan.services.values().flat_map(followed).collect();
        let groups: Vec<Group> = plan.groups.values().cloned().collect();
        let members = groups.iter().enumerate().flat_map(|(group, Group { services, .. })| {
            services.iter().enumerate().map(move |(place, id)| (id.clone(), (group, place)))
        });
        let members = members.collect();
        Order { starts, nodes, lenient, followers, groups, members }
    }

    /// The group of a service.
    pub(super) fn group(&self, service: &ServiceId) -> Option<&Group> {
        let (group, _) = self.members.get(service)?;
        self.groups.get(*group)
    }

    /// The services that are started anew with this one when it fails, and it with them.
    pub(super) fn ended_with(&self, service: &ServiceId) -> &[ServiceId] {
        self.in_group(service, |services, place| services.get(place + 1..))
    }

    /// The services that this one is started anew with when they fail.
    pub(super) fn ending(&self, service: &ServiceId) -> &[ServiceId] {
        self.in_group(service, |services, place| services.get(..place))
    }

    fn in_group(
        &self,
        service: &ServiceId,
        rest: impl Fn(&[ServiceId], usize) -> Option<&[ServiceId]>,
    ) -> &[ServiceId] {
        let Some((group, place)) = self.members.get(service) else { return &[] };
        let Some(group) = self.groups.get(*group) else { return &[] };
        match group.strategy {
            GroupStrategy::OneForOne => &[],
            GroupStrategy::OneForAll => &group.services,
            GroupStrategy::RestForOne => rest(&group.services, *place).unwrap_or_default(),
        }
    }

    /// Services with a dependency that is not required.
    pub(super) fn lenient(&self) -> &[ServiceId] {
        &self.lenient
    }

    /// Services whose workers follow those of another one, with that one.
    pub(super) fn followers(&self) -> &[(ServiceId, ServiceId)] {
        &self.followers
    }

    /// Every service, dependencies before dependents.
    pub(super) fn starts(&self) -> &[ServiceId] {
        &self.starts
    }

    /// The services that name this one in their `depends_on`.
    pub(super) fn dependents(&self, id: &ServiceId) -> &[ServiceId] {
        self.nodes.get(id).map_or(&[], |node| &node.dependents)
    }

    /// These services and everything they depend on, over any number of steps.
    pub(super) fn with_dependencies(&self, services: &BTreeSet<ServiceId>) -> BTreeSet<ServiceId> {
        let mut found = services.clone();
        let mut open: Vec<&ServiceId> = services.iter().collect();
        while let Some(node) = open.pop().and_then(|id| self.nodes.get(id)) {
            for dependency in &node.dependencies {
                if self.nodes.contains_key(dependency) && found.insert(dependency.clone()) {
                    open.push(dependency);
                }
            }
        }
        found
    }

    /// For each of these services, those of them that have to be stopped before it: the nearest dependents among
    /// them, over any number of services that are not.
    pub(super) fn stop_after(
        &self,
        services: &BTreeSet<ServiceId>,
    ) -> BTreeMap<ServiceId, BTreeSet<ServiceId>> {
        let mut nearest: BTreeMap<ServiceId, BTreeSet<ServiceId>> = BTreeMap::new();
        for id in self.starts.iter().rev() {
            let mut before = BTreeSet::new();
            for dependent in self.dependents(id) {
                match nearest.get(dependent) {
                    Some(_) if services.contains(dependent) => {
                        before.insert(dependent.clone());
                    }
                    Some(further) => before.extend(further.iter().cloned()),
                    // It comes earlier in the order: only within a cycle, which is cut open here.
                    None => {}
                }
            }
            nearest.insert(id.clone(), before);
        }
        nearest.retain(|id, _| services.contains(id));
        nearest
    }
}

/// Every service of a plan in the order of starts, with how many steps of dependencies are below it.
pub fn levels(plan: &Plan) -> Vec<(ServiceId, u32)> {
    let order = Order::new(plan);
    let mut levels: BTreeMap<&ServiceId, u32> = BTreeMap::new();
    for id in &order.starts {
        let dependencies = order.nodes.get(id).map_or(&[][..], |node| &node.dependencies);
        let below = dependencies.iter().filter_map(|on| levels.get(on)).max();
        levels.insert(id, below.map_or(0, |below| below + 1));
    }
    let level = |id: &ServiceId| levels.get(id).copied().unwrap_or_default();
    order.starts.iter().map(|id| (id.clone(), level(id))).collect()
}

/// Kahn's algorithm, with ties in the order of names. What is left over is in cycles or depends on one.
fn sorted(nodes: &BTreeMap<ServiceId, Node>) -> Vec<ServiceId> {
    let known = |node: &Node| node.dependencies.iter().filter(|id| nodes.contains_key(*id)).count();
    let mut missing: BTreeMap<&ServiceId, usize> = nodes.iter().map(|(id, node)| (id, known(node))).collect();
    let mut free: BTreeSet<&ServiceId> =
        missing.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    let mut starts = Vec::with_capacity(nodes.len());
    while let Some(id) = free.pop_first() {
        missing.remove(id);
        starts.push(id.clone());
        for dependent in nodes.get(id).map_or(&[][..], |node| &node.dependents) {
            if let Some(count) = missing.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    free.insert(dependent);
                }
            }
        }
    }
    starts.extend(missing.into_keys().cloned());
    starts
}

//! What of a service's configuration this host does, and what it does not.

use std::sync::Arc;

use watt_core::{
    plan::{Network, Scheduling, Service},
    sandbox::User,
};

use super::{
    Host,
    accounts::Account,
    sandbox::{self, Walls},
    scheduling,
};

/// The service with what is left of it on this host: its sandbox without the switches that cannot be done, the network it gets.
/// Limits are the cgroups' to say.
pub(crate) fn in_force(service: &Service, host: &Host, account: Option<&Account>) -> Service {
    let mut left = service.clone();
    left.network = super::network(service, host);
    left.sandbox = sandbox::in_force(&service.sandbox, host);
    // Root has more names than one.
    let is_root = account.is_some_and(|account| account.identity.uid == 0);
    if let (true, User::Named { group, .. }) = (is_root, &left.sandbox.user) {
        let user = User::Named { user: "root".to_owned(), group: group.clone() };
        Arc::make_mut(&mut left.sandbox).user = user;
    }
    left.scheduling = scheduled(&service.scheduling, host);
    left
}

/// Without what only root may ask for, where we are not root.
fn scheduled(wanted: &Scheduling, host: &Host) -> Scheduling {
    let mut left = wanted.clone();
    for refused in scheduling::of(wanted, host).1 {
        match refused {
            "nice" => left.nice = None,
            "policy" => left.policy = None,
            "io" => left.io = None,
            _ => left.oom_score_adj = None,
        }
    }
    left
}

/// What the configuration asks for and this host does not do, in words.
pub(crate) fn missing(service: &Service, host: &Host, account: Option<&Account>) -> Vec<String> {
    let walls = Walls::of(service, host, account);
    let network = (super::network(service, host) != service.network).then_some("network: private");
    let (_, scheduling) = scheduling::of(&service.scheduling, host);
    let network = network.into_iter().map(str::to_owned);
    let walls = walls.missing.iter().map(|switch| format!("sandbox: {switch}"));
    let scheduling = scheduling.iter().map(|key| format!("scheduling: {key}"));
    let all = network.chain(walls).chain(scheduling);
    let mut missing: Vec<String> = all.map(|what| format!("{what} is not available on this host")).collect();
    if !service.secrets.is_empty() && !host.bind_files {
        missing
            .push("secrets: files in the runtime folder, which others of the same user can read".to_owned());
    }
    if super::network(service, host) == Network::Host && service.egress.allow.is_some() {
        missing.push("egress.allow: nothing is filtered on the host's network".to_owned());
    }
    missing
}

//! A snapshot with what is looked up in it, made once by the control thread and read by all others.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, LazyLock},
};

use watt_api::mesh::{Service, Snapshot};

use crate::{
    caller::Callers,
    dns::{Names, Zone},
    egress::{Outside, Rules},
};

/// One snapshot. Immutable, so that threads share it without sharing anything that changes.
#[derive(Debug)]
pub(crate) struct View {
    /// As the daemon sent it.
    pub(crate) snapshot: Snapshot,
    /// Who calls.
    pub(crate) callers: Callers,
    /// What names mean.
    pub(crate) zone: Arc<Zone>,
    /// What is known of the ways out; the same for all snapshots.
    pub(crate) outside: Arc<Outside>,
    rules: BTreeMap<String, Rules>,
    by_address: BTreeMap<Ipv4Addr, String>,
}

/// Of services that there are not.
static NOWHERE: LazyLock<Rules> = LazyLock::new(|| Rules::new(Some(&[])));

impl View {
    /// `supervisor_uid` is the user the daemon's connection came from.
    pub(crate) fn new(snapshot: Snapshot, supervisor_uid: Option<u32>, outside: Arc<Outside>) -> Self {
        let rules =
            |(name, service): (&String, &Service)| (name.clone(), Rules::new(service.egress.as_deref()));
        let address = |(name, service): (&String, &Service)| Some((service.address?, name.clone()));
        Self {
            callers: Callers::new(&snapshot, supervisor_uid),
            zone: Arc::new(Zone { names: Names::new(&snapshot), resolvers: snapshot.resolvers.clone() }),
            outside,
            rules: snapshot.services.iter().map(rules).collect(),
            by_address: snapshot.services.iter().filter_map(address).collect(),
            snapshot,
        }
    }

    /// Where this service may connect to outside. One that is gone, whose last processes are about to end,
    /// goes nowhere.
    pub(crate) fn rules(&self, service: &str) -> &Rules {
        self.rules.get(service).unwrap_or(&NOWHERE)
    }

    /// The service with this address.
    pub(crate) fn service_at(&self, address: Ipv4Addr) -> Option<&str> {
        self.by_address.get(&address).map(String::as_str)
    }
}

impl Default for View {
    /// Before the first snapshot: no service, no resolver.
    fn default() -> Self {
        Self::new(Snapshot::default(), None, Arc::default())
    }
}

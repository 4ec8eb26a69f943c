//! A snapshot with what is looked up in it, made once by the control thread and read by all others.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, LazyLock},
};

use watt_api::mesh::{ListenerKind, Service, Snapshot};

use crate::{
    caller::Callers,
    dns::{Names, Zone},
    egress::{Outside, Rules},
    ejection::Wards,
    entrances::{Entrance, Entrances},
    files::Folders,
    gate,
    pages::Documents,
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
    /// What requests to services pass that have limits of their own; one for all threads.
    pub(crate) service_gates: gate::Gates,
    /// What is known of workers' failures; the same for all threads.
    pub(crate) wards: Wards,
    /// Folders with files that routes lead to.
    pub(crate) folders: Folders,
    /// What pages show.
    pub(crate) documents: Documents,
    rules: BTreeMap<String, Rules>,
    entrances: Entrances,
    by_address: BTreeMap<Ipv4Addr, String>,
}

/// Of services that there are not.
static NOWHERE: LazyLock<Rules> = LazyLock::new(|| Rules::new(Some(&[])));

impl View {
    /// The first one. `supervisor_uid` is the user the daemon's connection came from.
    pub(crate) fn new(snapshot: Snapshot, supervisor_uid: Option<u32>, outside: Arc<Outside>) -> Self {
        Self::after(&Entrances::default(), snapshot, supervisor_uid, outside)
    }

    /// The one that follows this one.
    pub(crate) fn next(
        &self,
        snapshot: Snapshot,
        supervisor_uid: Option<u32>,
        outside: Arc<Outside>,
    ) -> Self {
        Self::after(&self.entrances, snapshot, supervisor_uid, outside)
    }

    fn after(
        entrances: &Entrances,
        snapshot: Snapshot,
        supervisor_uid: Option<u32>,
        outside: Arc<Outside>,
    ) -> Self {
        let rules =
            |(name, service): (&String, &Service)| (name.clone(), Rules::new(service.egress.as_deref()));
        let address = |(name, service): (&String, &Service)| Some((service.address?, name.clone()));
        Self {
            callers: Callers::new(&snapshot, supervisor_uid),
            zone: Arc::new(Zone { names: Names::new(&snapshot), resolvers: snapshot.resolvers.clone() }),
            outside,
            service_gates: gate::Gates::new(),
            wards: Wards::new(),
            rules: snapshot.services.iter().map(rules).collect(),
            entrances: entrances.next(&snapshot.listeners),
            by_address: snapshot.services.iter().filter_map(address).collect(),
            folders: Folders::new(),
            documents: Documents::new(),
            snapshot,
        }
    }

    /// The same with these gates and wards.
    pub(crate) fn with_gates(self, service_gates: gate::Gates, wards: Wards) -> Self {
        Self { service_gates, wards, ..self }
    }

    /// With these folders, and what pages show.
    pub(crate) fn with_content(self, folders: Folders, documents: Documents) -> Self {
        Self { folders, documents, ..self }
    }

    /// Where this service may connect to outside. One that is gone, whose last processes are about to end,
    /// goes nowhere.
    pub(crate) fn rules(&self, service: &str) -> &Rules {
        self.rules.get(service).unwrap_or(&NOWHERE)
    }

    /// How clients are met at this listener of the gateway.
    pub(crate) fn entrance(&self, listener: &str) -> Entrance {
        self.entrances.get(listener)
    }

    /// Whether there are open connections that ought not to be, as clients are met now.
    pub(crate) fn ends_connections(&self) -> bool {
        self.entrances.end_connections()
    }

    /// Whether it is known how clients are met there.
    pub(crate) fn knows(&self, kind: &ListenerKind) -> bool {
        match kind {
            ListenerKind::Gateway { listener, .. } => self.entrances.knows(listener),
            _ => true,
        }
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

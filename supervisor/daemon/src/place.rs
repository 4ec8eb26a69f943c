//! The places of workers: which of them cannot be two at a time, and what goes with one that is no more.

use std::{fs, io};

use watt_core::{
    WorkerId,
    plan::{Listen, Network, Service},
};
use watt_spawner::protocol::Request;

use crate::{
    app::App,
    launch::{self, Host, listener_name},
    places::Places,
    record,
    seat::Seat,
};

/// The kinds of sockets that are bound in a worker's folder.
const SOCKETS: [&str; 3] = ["mesh", "worker", "notify"];

impl App {
    /// Tells `watt-core` which services cannot have two workers in one place.
    pub(crate) fn note_who_is_alone(&mut self) {
        for (id, service) in &self.plan.services {
            let found = self.runs.values().any(|run| run.worker.service == *id && run.has_own_port());
            self.fleet.set_alone(id, found || has_fixed_port(service, &self.host));
        }
    }

    /// A place is no more: what was kept under its name goes, at the spawner, at the proxy and in the runtime folder.
    pub(crate) fn clear_place(&mut self, worker: &WorkerId) {
        self.times.remove(worker);
        self.told.remove(worker);
        self.release_store(&worker.service, worker.index);
        for kind in SOCKETS {
            let name = listener_name(kind, worker);
            self.bound.remove(&name);
            if let Some(listener) = self.mesh_listeners.remove(&name) {
                self.proxy_link.remove_listener(&listener);
            }
            self.link.request(Request::Unlisten { name }, Vec::new());
        }
        remove_folders(&self.places, &worker.into());
        // Last: as long as there is a note, a successor does all this again.
        self.put(&record::key(worker), Vec::new());
        self.unsettle();
    }
}

/// Removes the folders of a worker or a task, and those of its service if they were the last.
pub(crate) fn remove_folders(places: &Places, seat: &Seat) {
    let own = places.seat(seat).dir;
    if let Err(error) = watt_os::remove::tree(&own)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{} cannot be removed: {error}", own.display());
    }
    let credentials = places.seat_credentials(seat);
    for folder in [own.parent(), credentials.parent()].into_iter().flatten() {
        // Refused as long as another worker has one in it, which is right.
        let _ = fs::remove_dir(folder);
    }
}

/// Whether every worker would take the same port of the host.
pub(crate) fn has_fixed_port(service: &Service, host: &Host) -> bool {
    matches!(service.listen, Listen::Port(Some(_))) && launch::network(service, host) == Network::Host
}

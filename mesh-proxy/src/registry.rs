//! Which listeners there are, and which thread accepts where.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroUsize,
    ops::Range,
};

use watt_api::mesh::{ListenerId, ListenerKind};

/// The listeners of the whole process.
#[derive(Debug)]
pub(crate) struct Registry {
    threads: NonZeroUsize,
    known: BTreeMap<ListenerId, Known>,
}

#[derive(Debug)]
struct Known {
    /// Those that accept there.
    threads: BTreeSet<usize>,
    /// Whether the present daemon spoke of it.
    confirmed: bool,
}

impl Registry {
    /// No listener yet, for so many threads.
    pub(crate) fn new(threads: NonZeroUsize) -> Self {
        Self { threads, known: BTreeMap::new() }
    }

    /// A daemon has come, and is going to name every listener it wants.
    pub(crate) fn hello(&mut self) {
        self.known.values_mut().for_each(|known| known.confirmed = false);
    }

    /// The threads that are to accept there from now on: those that do not already.
    pub(crate) fn add(&mut self, id: &ListenerId, kind: &ListenerKind) -> Vec<usize> {
        let wanted = self.threads_for(id, kind);
        let new = || Known { threads: BTreeSet::new(), confirmed: true };
        let known = self.known.entry(id.clone()).or_insert_with(new);
        known.confirmed = true;
        wanted.filter(|thread| known.threads.insert(*thread)).collect()
    }

    /// The threads that are to stop accepting there.
    pub(crate) fn remove(&mut self, id: &ListenerId) -> BTreeSet<usize> {
        self.known.remove(id).map(|known| known.threads).unwrap_or_default()
    }

    /// This thread accepts there no longer, and will again when the listener is named anew. Whether the present daemon wants it.
    pub(crate) fn ended(&mut self, id: &ListenerId, thread: usize) -> bool {
        self.known.get_mut(id).is_some_and(|known| {
            known.threads.remove(&thread);
            known.confirmed
        })
    }

    /// The daemon has named all it wants: the others are to go.
    pub(crate) fn settle(&mut self) -> Vec<(ListenerId, BTreeSet<usize>)> {
        let gone = self.known.extract_if(.., |_, known| !known.confirmed);
        gone.map(|(id, known)| (id, known.threads)).collect()
    }

    fn threads_for(&self, id: &str, kind: &ListenerKind) -> Range<usize> {
        let thread = match kind {
            ListenerKind::Gateway { thread, listener: _ } => {
                usize::try_from(*thread).unwrap_or(0) % self.threads
            }
            // The listener of all services on the host's network: the thread that is free takes the next one.
            ListenerKind::MeshHost => return 0..self.threads.get(),
            // What one worker does stays on one thread, so that its calls find the connections they left.
            ListenerKind::Mesh { caller }
            | ListenerKind::MeshUnix { caller }
            | ListenerKind::Egress { caller }
            | ListenerKind::HostPort { caller, .. }
            | ListenerKind::DnsUdp { caller }
            | ListenerKind::DnsTcp { caller } => self.thread_of_worker(caller, id),
        };
        thread..thread + 1
    }

    /// By the service and the end of the id, `mesh/17`, which is the same for all listeners made in a run's network.
    fn thread_of_worker(&self, caller: &str, id: &str) -> usize {
        let run = id.rsplit('/').next().unwrap_or(id);
        let mut hasher = DefaultHasher::new();
        (caller, run).hash(&mut hasher);
        // The remainder is smaller than a usize.
        (hasher.finish() % self.threads.get() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(threads: usize) -> Registry {
        Registry::new(NonZeroUsize::new(threads).unwrap())
    }

    fn mesh() -> ListenerKind {
        ListenerKind::Mesh { caller: "api".to_owned() }
    }

    #[test]
    fn a_known_listener_is_not_added_again() {
        let mut registry = registry(2);
        let id = "mesh/1".to_owned();
        assert_eq!(registry.add(&id, &mesh()).len(), 1);
        assert!(registry.add(&id, &mesh()).is_empty());
        assert_eq!(registry.remove(&id).len(), 1);
        assert!(registry.remove(&id).is_empty());
        assert_eq!(registry.add(&id, &mesh()).len(), 1);
    }

    #[test]
    fn a_thread_that_lost_a_listener_gets_it_again_and_the_others_keep_it() {
        let mut registry = registry(3);
        let id = "mesh_host".to_owned();
        assert_eq!(registry.add(&id, &ListenerKind::MeshHost), [0, 1, 2]);
        registry.ended(&id, 1);
        assert_eq!(registry.add(&id, &ListenerKind::MeshHost), [1]);
        assert_eq!(registry.remove(&id), BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn what_the_next_daemon_does_not_name_goes() {
        let mut registry = registry(2);
        let [kept, dropped] = ["mesh/1", "mesh/2"].map(str::to_owned);
        registry.add(&kept, &mesh());
        registry.add(&dropped, &mesh());
        assert!(registry.settle().is_empty(), "both were named");
        registry.hello();
        registry.add(&kept, &mesh());
        assert_eq!(registry.settle().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [dropped]);
        assert!(registry.settle().is_empty());
    }

    #[test]
    fn one_workers_listeners_are_one_threads() {
        let mut registry = registry(8);
        let mut used = std::collections::BTreeSet::new();
        for worker in 0..100 {
            let mesh = registry.add(&format!("mesh/{worker}"), &mesh());
            let dns =
                registry.add(&format!("dns_udp/{worker}"), &ListenerKind::DnsUdp { caller: "api".into() });
            assert_eq!(mesh, dns);
            assert_eq!(mesh.len(), 1);
            used.insert(mesh[0]);
        }
        assert_eq!(used, (0..8).collect());
    }

    #[test]
    fn gateways_have_their_thread_and_the_hosts_network_has_all() {
        let mut registry = registry(2);
        for (thread, expected) in [(0, [0]), (1, [1]), (2, [0]), (u32::MAX, [1])] {
            let id = format!("gateway/{thread}");
            assert_eq!(
                registry.add(&id, &ListenerKind::Gateway { thread, listener: String::new() }),
                expected
            );
        }
        assert_eq!(registry.add(&"mesh_host".to_owned(), &ListenerKind::MeshHost), [0, 1]);
    }
}

//! Descriptors that workers have kept for their successors: `FDSTORE=1` of sd_notify(3).
//!
//! The spawner keeps them, each by itself under a name that says all there is to know of it, so that a daemon that is killed takes none
//! with it and leaves none half kept. They belong to a worker's index, whose next run inherits them after its listener. They go
//! when the worker is down, has failed or is done, and stay over any restart, as by systemd's default
//! (`FileDescriptorStorePreserve=restart`).

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::{SFlag, fstat},
};
use watt_api::control::WorkerState;
use watt_core::{ServiceId, WorkerId, worker::Worker};
use watt_exec::plan::LaunchPlan;
use watt_os::fdpass::DESCRIPTORS_MAX;
use watt_spawner::protocol::Request;

use crate::{
    app::App,
    readiness::store::{self, Asked, What},
    status,
};

/// What names of theirs at the spawner begin with.
const KIND: &str = "store";

/// Between two lines that say that something is not kept.
const LINES_APART: Duration = Duration::from_secs(1);

/// Whose they are: service and index.
type Owner = (ServiceId, u16);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    last: u64,
    /// When it was said that something was not kept.
    refused_at: Option<Instant>,
    kept: BTreeMap<Owner, Vec<Stored>>,
}

/// One of them.
#[derive(Debug)]
struct Stored {
    number: u64,
    name: String,
    /// Whether it goes when its other side has gone.
    poll: bool,
    identity: Option<Identity>,
    descriptor: OwnedFd,
}

impl Stored {
    /// Its name at the spawner: `store/api/0/7/poll/NAME`.
    fn key(&self, (service, index): &Owner) -> String {
        let poll = if self.poll { "poll" } else { "keep" };
        format!("{KIND}/{service}/{index}/{}/{poll}/{}", self.number, self.name)
    }

    /// What such a name says.
    fn of_key(key: &str, descriptor: OwnedFd) -> Option<(Owner, Stored)> {
        let mut parts = key.splitn(6, '/');
        let mut next = || parts.next();
        let (KIND, service, index, number, poll, name) =
            (next()?, next()?, next()?, next()?, next()?, next()?)
        else {
            return None;
        };
        let owner = (ServiceId::new(service).ok()?, index.parse().ok()?);
        let (number, poll) = (number.parse().ok()?, poll == "poll");
        let identity = identity(&descriptor);
        Some((owner, Stored { number, name: name.to_owned(), poll, identity, descriptor }))
    }

    /// Whether its other side has gone. What cannot be asked stays.
    fn is_hung_up(&self) -> bool {
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        let mut fds = [PollFd::new(self.descriptor.as_fd(), PollFlags::empty())];
        self.poll
            && poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0].revents().is_some_and(|events| events.intersects(gone))
    }
}

/// What tells an open socket or an end of a pipe from all others. Of files that cannot be told.
type Identity = (u64, u64, i32);

/// Those of two that lead to the same are the same: a program may have stored what it was given.
fn identity(descriptor: &OwnedFd) -> Option<Identity> {
    let stat = fstat(descriptor).ok()?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let is_telling = kind == SFlag::S_IFSOCK || kind == SFlag::S_IFIFO;
    // The two ends of a pipe differ in this alone.
    let flags = fcntl(descriptor, FcntlArg::F_GETFL).ok()?;
    is_telling.then_some((stat.st_dev, stat.st_ino, flags))
}

impl Stores {
    /// What is kept for a worker's successor, by name.
    pub(crate) fn names(&self, worker: &WorkerId) -> Vec<String> {
        let kept = self.kept.get(&(worker.service.clone(), worker.index));
        kept.into_iter().flatten().map(|stored| stored.name.clone()).collect()
    }
}

impl App {
    /// A run asks something of its store.
    pub(crate) fn store_asked(&mut self, Asked { run, name, what }: Asked) {
        let worker = self.runs.get(&run).map(|run| run.worker.clone());
        match (what, worker) {
            (What::Keep { descriptors, poll }, Some(worker)) => {
                self.store(&worker, &name, poll, descriptors);
            }
            (What::Remove, Some(worker)) => {
                self.let_go(&(worker.service, worker.index), |_, stored| stored.name == name);
            }
            (What::Keep { descriptors, .. } | What::Close { descriptors }, _) => self.close(descriptors),
            (What::Remove, None) => {}
        }
    }

    /// Has the spawner close what a worker has made: that may take very long (SO_LINGER of socket(7)).
    pub(crate) fn close(&mut self, mut descriptors: Vec<OwnedFd>) {
        descriptors.retain(store::may_wait);
        while !descriptors.is_empty() {
            let rest = descriptors.split_off(descriptors.len().min(DESCRIPTORS_MAX));
            self.link.request(Request::Close, descriptors);
            descriptors = rest;
        }
    }

    fn store(&mut self, worker: &WorkerId, name: &str, poll: bool, descriptors: Vec<OwnedFd>) {
        let max = self.plan.services.get(&worker.service).map_or(0, |service| usize::from(service.fd_store));
        let owner = (worker.service.clone(), worker.index);
        if self.stores.kept.get(&owner).map_or(0, Vec::len) + descriptors.len() > max {
            self.let_go(&owner, |_, stored| stored.is_hung_up());
        }
        let mut refused = Vec::new();
        for descriptor in descriptors {
            let identity = identity(&descriptor);
            let kept = self.stores.kept.get(&owner).map_or(&[][..], Vec::as_slice);
            if identity.is_some() && kept.iter().any(|stored| stored.identity == identity) {
                continue;
            }
            let copy = (kept.len() < max).then(|| descriptor.try_clone().ok()).flatten();
            let Some(copy) = copy else {
                refused.push(descriptor);
                continue;
            };
            self.stores.last += 1;
            let new = Stored { number: self.stores.last, name: name.to_owned(), poll, identity, descriptor };
            self.link.request(Request::Keep { name: new.key(&owner) }, vec![copy]);
            self.stores.kept.entry(owner.clone()).or_default().push(new);
        }
        if !refused.is_empty() {
            self.refuse(worker, name, max, refused);
        }
    }

    /// Does not keep these. One that sends nothing but more has its lines no more often than they are read.
    fn refuse(&mut self, worker: &WorkerId, name: &str, max: usize, refused: Vec<OwnedFd>) {
        let now = Instant::now();
        if self.stores.refused_at.is_none_or(|at| now.duration_since(at) >= LINES_APART) {
            self.stores.refused_at = Some(now);
            tracing::warn!(
                "{} of the descriptors {name} of {worker} are not kept: its `fd_store` of {max} is full, or too few open \
                 files are allowed (ulimit -n)",
                refused.len()
            );
        }
        self.close(refused);
    }

    /// Lets go of those of which this holds; it is given how many there are before each.
    fn let_go(&mut self, owner: &Owner, which: impl Fn(usize, &Stored) -> bool) {
        let Some(kept) = self.stores.kept.get_mut(owner) else { return };
        let mut nth = 0;
        let gone = kept.extract_if(.., |stored| {
            nth += 1;
            which(nth - 1, stored)
        });
        for stored in gone {
            // With the descriptor: where the spawner could not keep it, the last one to close it would be this loop.
            self.link.request(Request::Unkeep { name: stored.key(owner) }, vec![stored.descriptor]);
        }
        if kept.is_empty() {
            self.stores.kept.remove(owner);
        }
    }

    /// Has a worker's next run inherit what is kept for it, after its listener.
    pub(crate) fn give_stored(&mut self, worker: &WorkerId, plan: &mut LaunchPlan, pass: &mut Vec<String>) {
        let max = self.plan.services.get(&worker.service).map_or(0, |service| usize::from(service.fd_store));
        let owner = (worker.service.clone(), worker.index);
        self.let_go(&owner, |nth, stored| nth >= max || stored.is_hung_up());
        let Some(kept) = self.stores.kept.get(&owner) else { return };
        pass.extend(kept.iter().map(|stored| stored.key(&owner)));
        inherit(plan, kept.iter().map(|stored| stored.name.as_str()));
    }

    /// Lets go of what is kept where no successor is to come: to be called for every worker that has changed or has gone, and for all that
    /// a predecessor has kept. This alone decides that.
    pub(crate) fn release_store(&mut self, service: &ServiceId, index: u16) {
        let owner = (service.clone(), index);
        if !self.stores.kept.contains_key(&owner) {
            return;
        }
        // It may be in either place, and have no process yet, but wait for one.
        let has_successor =
            |(id, worker): (&WorkerId, &Worker)| id.index == index && !is_over(status::state(&worker.state));
        if !self.fleet.workers_of(service).any(has_successor) {
            self.let_go(&owner, |_, _| true);
        }
    }

    /// What is kept for a worker's successor goes.
    pub(crate) fn forget_store(&mut self, worker: &WorkerId) {
        self.let_go(&(worker.service.clone(), worker.index), |_, _| true);
    }

    /// Takes over what a predecessor had kept. What has no owner any more is let go of.
    pub(crate) fn adopt_stores(&mut self, kept: BTreeMap<String, OwnedFd>) {
        for (key, descriptor) in kept {
            if !key.starts_with("store/") {
                continue;
            }
            match Stored::of_key(&key, descriptor) {
                Some((owner, stored)) if self.plan.services.contains_key(&owner.0) => {
                    self.stores.last = self.stores.last.max(stored.number);
                    self.stores.kept.entry(owner).or_default().push(stored);
                }
                _ => self.link.request(Request::Unkeep { name: key }, Vec::new()),
            }
        }
        // By name they are in another order.
        for kept in self.stores.kept.values_mut() {
            kept.sort_by_key(|stored| stored.number);
        }
    }

    /// Lets go of what a predecessor would have let go of, had it lived a moment longer.
    pub(crate) fn release_adopted_stores(&mut self) {
        let owners: Vec<Owner> = self.stores.kept.keys().cloned().collect();
        for (service, index) in owners {
            self.release_store(&service, index);
        }
    }
}

/// Whether a worker in this state has no successor to come, so that nothing is kept for one.
fn is_over(state: WorkerState) -> bool {
    matches!(state, WorkerState::Failed | WorkerState::Completed | WorkerState::Asleep | WorkerState::Down)
}

/// Adds descriptors of these names to what a program inherits (sd_listen_fds_with_names(3)).
fn inherit<'a>(plan: &mut LaunchPlan, names: impl Iterator<Item = &'a str>) {
    const FDNAMES: &str = "LISTEN_FDNAMES=";
    let present = plan.env.iter().find_map(|entry| entry.strip_prefix(FDNAMES.as_bytes()));
    let present = present.map(|names| String::from_utf8_lossy(names).into_owned());
    let mut all: Vec<String> = present.into_iter().collect();
    for name in names {
        all.push(name.to_owned());
        plan.listeners += 1;
    }
    plan.env.retain(|entry| !entry.starts_with(b"LISTEN_FDS=") && !entry.starts_with(FDNAMES.as_bytes()));
    plan.env.push(format!("LISTEN_FDS={}", plan.listeners).into_bytes());
    plan.env.push(format!("{FDNAMES}{}", all.join(":")).into_bytes());
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn stored(name: &str, poll: bool, descriptor: impl Into<OwnedFd>) -> Stored {
        Stored { number: 7, name: name.into(), poll, identity: None, descriptor: descriptor.into() }
    }

    #[test]
    fn a_name_at_the_spawner_says_all_of_it() {
        let owner = (ServiceId::new("api").unwrap(), 3);
        for (name, poll) in [("stored", true), ("a/b c", false)] {
            let one = stored(name, poll, std::io::pipe().unwrap().0);
            let key = one.key(&owner);
            let (found, other) = Stored::of_key(&key, std::io::pipe().unwrap().0.into()).unwrap();
            assert_eq!(
                (found, other.number, other.name.as_str(), other.poll),
                (owner.clone(), 7, name, poll)
            );
        }
        for key in ["plan", "program", "store/api/0", "store/api/x/1/poll/a", "store/A/0/1/poll/a"] {
            assert!(Stored::of_key(key, std::io::pipe().unwrap().0.into()).is_none(), "{key}");
        }
        let longest = (ServiceId::new(&"a".repeat(63)).unwrap(), u16::MAX);
        let name = "x".repeat(128);
        let one = Stored { number: u64::MAX, ..stored(&name, true, std::io::pipe().unwrap().0) };
        assert!(one.key(&longest).len() <= 255);
    }

    #[test]
    fn what_is_kept_comes_after_the_listener() {
        let env = |plan: &LaunchPlan| {
            plan.env.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect::<Vec<_>>()
        };
        let mut plan = LaunchPlan::default();
        inherit(&mut plan, ["a", "b"].into_iter());
        assert_eq!(
            (plan.listeners, env(&plan)),
            (2, vec!["LISTEN_FDS=2".into(), "LISTEN_FDNAMES=a:b".into()])
        );
        let before = ["LISTEN_FDS=1", "LISTEN_FDNAMES=http"].map(|entry| entry.as_bytes().to_vec());
        let mut plan = LaunchPlan { listeners: 1, env: before.into(), ..LaunchPlan::default() };
        inherit(&mut plan, ["a"].into_iter());
        let expected = vec!["LISTEN_FDS=2".to_owned(), "LISTEN_FDNAMES=http:a".to_owned()];
        assert_eq!((plan.listeners, env(&plan)), (2, expected));
    }

    #[test]
    fn one_whose_other_side_has_gone_is_told_unless_it_is_not_to_be() {
        let (near, far) = UnixStream::pair().unwrap();
        let (polled, kept) = (stored("a", true, near.try_clone().unwrap()), stored("a", false, near));
        assert!(!polled.is_hung_up());
        drop(far);
        assert!(polled.is_hung_up() && !kept.is_hung_up());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!stored("a", true, file).is_hung_up());
    }

    fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
        identity(one).is_some_and(|one| identity(other) == Some(one))
    }

    #[test]
    fn the_same_socket_is_known_again_and_the_other_end_of_a_pipe_is_another() {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far): (OwnedFd, OwnedFd) = (near.into(), far.into());
        assert!(is_same(&near, &near.try_clone().unwrap()) && !is_same(&near, &far));
        let (reader, writer) = std::io::pipe().unwrap();
        let (reader, writer): (OwnedFd, OwnedFd) = (reader.into(), writer.into());
        assert!(is_same(&reader, &reader.try_clone().unwrap()) && !is_same(&reader, &writer));
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(!is_same(&file(), &file()), "two positions in one file");
    }
}

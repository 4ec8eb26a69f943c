//! Ceilings of processes that refuse forks, where the kernel counts that at the limit (since Linux 6.11). Then nobody says who
//! forked, so that this is told of the service or of the application, and not of a worker. Older kernels count it at who forked, and
//! [`App::fork_refused`] tells it of that worker.

use std::collections::BTreeMap;

use watt_core::{RunId, ServiceId};
use watt_os::cgroup::Group;

use crate::{
    app::App,
    events::limits,
    limit_hits::{LimitNews, told},
    runs::Task,
};

/// What was told of ceilings: those of services, and that of the application.
#[derive(Debug, Default)]
pub(crate) struct Ceilings(BTreeMap<Option<ServiceId>, Told>);

#[derive(Debug)]
struct Told {
    /// The cgroup: a service's is made anew after its last worker has gone, and then counts from 0.
    group: Option<u64>,
    /// Counts up to this are no news; none is once it was told.
    up_to: Option<u64>,
    /// Waits for more. There is one for each group, because all its workers have but one count: a thousand that look for it at each
    /// word of the kernel's would leave the loop no time in a fork bomb.
    watch: Option<Task>,
}

impl Ceilings {
    /// Up to which count a ceiling has nothing to tell: what it has refused when it is seen first was a predecessor's to tell.
    fn told(&mut self, of: Option<&ServiceId>, group: Option<u64>, count: u64) -> &mut Told {
        let new = |up_to| Told { group, up_to: Some(up_to), watch: None };
        let told = self.0.entry(of.cloned()).or_insert_with(|| new(count));
        if told.group != group {
            *told = new(0);
        }
        told
    }

    /// Starts a watch for counts above the one that it is given, unless the group has one or everything was told of it.
    fn watch(&mut self, ceiling: &Ceiling, start: impl FnOnce(u64) -> Task) {
        let told = self.told(ceiling.service.as_ref(), ceiling.group.id(), ceiling.count);
        let is_watched = told.watch.as_ref().is_some_and(|watch| !watch.0.is_finished());
        if let (Some(up_to), false) = (told.up_to, is_watched) {
            told.watch = Some(start(up_to));
        }
    }

    /// The last run of a service has gone, and its group too, unless that could not be removed.
    pub(crate) fn unwatch(&mut self, service: &ServiceId) {
        if let Some(told) = self.0.get_mut(&Some(service.clone())) {
            told.watch = None;
        }
    }

    /// Whether a count is news. It is so once in the life of a group.
    fn is_news(&mut self, of: Option<&ServiceId>, group: Option<u64>, count: u64) -> bool {
        let told = self.told(of, group, count);
        let is_news = told.up_to.is_some_and(|up_to| count > up_to);
        if is_news {
            told.up_to = None;
        }
        is_news
    }
}

/// A ceiling of processes.
struct Ceiling {
    /// Whose; `None` for the application's.
    service: Option<ServiceId>,
    group: Group,
    limit: u32,
    /// How many forks it has refused.
    count: u64,
}

impl App {
    /// Has the kernel tell of the first fork that a ceiling of a run refuses.
    pub(crate) fn watch_ceilings(&mut self, id: RunId) {
        for ceiling in self.ceilings_of(id) {
            let (sender, group, of) =
                (self.senders.limit_hits.clone(), ceiling.group.clone(), ceiling.service.clone());
            let wait = |counted| async move {
                if let Ok(Some(signal)) = group.pids_signal() {
                    told(signal, || group.pids_own_limit_hits() > Some(counted)).await;
                    // The loop has ended when it does not take it.
                    let _ = sender.send(LimitNews::Ceiling(of)).await;
                }
            };
            self.ceilings.watch(&ceiling, |counted| Task(tokio::spawn(wait(counted))));
        }
    }

    /// Ceilings of a run may have refused forks.
    pub(crate) fn ceilings_met(&mut self, id: RunId) {
        for ceiling in self.ceilings_of(id) {
            self.tell_of_ceiling(ceiling);
        }
    }

    /// That of a service, or the application's, may have.
    pub(crate) fn ceiling_met(&mut self, of: Option<ServiceId>) {
        if let Some(ceiling) = self.ceiling(of) {
            self.tell_of_ceiling(ceiling);
        }
    }

    fn tell_of_ceiling(&mut self, Ceiling { service, group, limit, count }: Ceiling) {
        if self.ceilings.is_news(service.as_ref(), group.id(), count) {
            self.events.emit(limits::PidsCeilingMet { service, limit, count });
        }
    }

    fn ceilings_of(&self, id: RunId) -> Vec<Ceiling> {
        let Some(run) = self.runs.get(&id) else { return Vec::new() };
        let service = self.ceiling(Some(run.worker.service.clone()));
        service.into_iter().chain(self.ceiling(None)).collect()
    }

    /// One that counts.
    fn ceiling(&self, service: Option<ServiceId>) -> Option<Ceiling> {
        let limits = match &service {
            Some(id) => &self.plan.services.get(id)?.limits_total,
            None => &self.plan.limits,
        };
        let limit = limits.pids?;
        let group = match &service {
            Some(id) => self.cgroups.service(id),
            None => self.cgroups.application(limits),
        };
        let count = group.pids_own_limit_hits()?;
        Some(Ceiling { service, group, limit, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_is_told_once_in_the_life_of_its_group() {
        let mut ceilings = Ceilings::default();
        let api = ServiceId::new("api").unwrap();
        // Four were refused in the time of a predecessor.
        assert_eq!(ceilings.told(Some(&api), Some(1), 4).up_to, Some(4));
        assert!(!ceilings.is_news(Some(&api), Some(1), 4));
        assert!(ceilings.is_news(Some(&api), Some(1), 5));
        assert!(!ceilings.is_news(Some(&api), Some(1), 6));
        assert!(ceilings.is_news(Some(&api), Some(2), 1), "a new group");
        assert!(!ceilings.is_news(None, Some(3), 1), "the application's, which is seen first now");
        assert!(ceilings.is_news(None, Some(3), 2));
    }

    #[tokio::test]
    async fn a_group_has_one_watch_until_everything_was_told_of_it() {
        let mut ceilings = Ceilings::default();
        let api = ServiceId::new("api").unwrap();
        // None of them has a number: they are the same group.
        let seen = |count| Ceiling { service: Some(api.clone()), group: Group::default(), limit: 9, count };
        let pending = || Task(tokio::spawn(std::future::pending()));
        let started = |ceilings: &mut Ceilings, count| {
            let mut from = None;
            ceilings.watch(&seen(count), |up_to| {
                from = Some(up_to);
                pending()
            });
            from
        };
        assert_eq!(started(&mut ceilings, 4), Some(4));
        assert_eq!(started(&mut ceilings, 4), None, "another worker of the service");
        ceilings.unwatch(&api);
        assert_eq!(started(&mut ceilings, 5), Some(4), "the first after the last");
        ceilings.unwatch(&api);
        assert!(ceilings.is_news(Some(&api), None, 5));
        assert_eq!(started(&mut ceilings, 6), None, "there is nothing to wait for");
    }
}

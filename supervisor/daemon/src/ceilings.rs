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
    limit_of::LimitOf,
    runs::Task,
};

/// What was told of ceilings: those of services, and that of the application.
#[derive(Debug, Default)]
pub(crate) struct Ceilings(BTreeMap<Option<ServiceId>, Told>);

#[derive(Debug)]
struct Told {
    /// The cgroup: a service's is made anew after its last worker has gone, and then counts from 0.
    group: Option<u64>,
    /// Counts up to this are no news.
    up_to: u64,
}

impl Ceilings {
    /// Up to which count a ceiling has nothing to tell: what it has refused when it is seen first was a predecessor's to tell.
    fn told(&mut self, of: Option<&ServiceId>, group: Option<u64>, count: u64) -> u64 {
        let told = self.0.entry(of.cloned()).or_insert(Told { group, up_to: count });
        if told.group != group {
            *told = Told { group, up_to: 0 };
        }
        told.up_to
    }

    /// Whether a count is news. It is so once in the life of a group.
    fn is_news(&mut self, of: Option<&ServiceId>, group: Option<u64>, count: u64) -> bool {
        let is_news = count > self.told(of, group, count);
        if let (true, Some(told)) = (is_news, self.0.get_mut(&of.cloned())) {
            told.up_to = u64::MAX;
        }
        is_news
    }
}

/// A ceiling of processes that a run is under.
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
        for Ceiling { service, group, count, .. } in self.ceilings_of(id) {
            let counted = self.ceilings.told(service.as_ref(), group.id(), count);
            let (Some(run), sender) = (self.runs.get_mut(&id), self.senders.limit_hits.clone()) else {
                return;
            };
            run.limit_watches.push(Task(tokio::spawn(async move {
                if let Ok(Some(signal)) = group.pids_signal() {
                    told(signal, || group.pids_own_limit_hits() > Some(counted)).await;
                    // The loop has ended when it does not take it.
                    let _ = sender.send(LimitNews::Hit(id)).await;
                }
            })));
        }
    }

    /// Ceilings of a run may have refused forks.
    pub(crate) fn ceilings_met(&mut self, id: RunId) {
        for Ceiling { service, group, limit, count } in self.ceilings_of(id) {
            if self.ceilings.is_news(service.as_ref(), group.id(), count) {
                self.events.emit(limits::PidsCeilingMet { service, limit, count });
            }
        }
    }

    /// Those that count.
    fn ceilings_of(&self, id: RunId) -> Vec<Ceiling> {
        let Some(run) = self.runs.get(&id) else { return Vec::new() };
        let ceiling = |of: LimitOf, service| {
            let limit = of.limits(&self.plan, &run.worker)?.pids?;
            let group = self.cgroups.at(of, &run.worker, &self.plan, &run.group);
            let count = group.pids_own_limit_hits()?;
            Some(Ceiling { service, group, limit, count })
        };
        let service = ceiling(LimitOf::Service, Some(run.worker.service.clone()));
        service.into_iter().chain(ceiling(LimitOf::Application, None)).collect()
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
        assert_eq!(ceilings.told(Some(&api), Some(1), 4), 4);
        assert!(!ceilings.is_news(Some(&api), Some(1), 4));
        assert!(ceilings.is_news(Some(&api), Some(1), 5));
        assert!(!ceilings.is_news(Some(&api), Some(1), 6));
        assert!(ceilings.is_news(Some(&api), Some(2), 1), "a new group");
        assert!(!ceilings.is_news(None, Some(3), 1), "the application's, which is seen first now");
        assert!(ceilings.is_news(None, Some(3), 2));
    }
}

//! Out-of-memory kills: whom they met, and whose limit that was. Nothing of it is guessed; what nobody says is left out.

use std::collections::VecDeque;

use watt_core::{
    WorkerId,
    plan::{CgroupLimits, Plan},
};
use watt_os::{
    cgroup::Group,
    kernel_log::{KernelLog, OomKill},
};

use crate::{
    limit_of::{self, LimitOf},
    runs::Run,
};

/// How many kills are kept that no worker was asked about yet.
const KILLS_MAX: usize = 64;
/// How many victims of one worker are told together.
const VICTIMS_MAX: usize = 8;
/// How far below its limit a group may be when a kill says that it was met: the kernel charges each CPU's memory ahead, in
/// batches of 64 pages.
const NEAR: u64 = 1 << 20;

/// Whose memory ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// That of one of our own limits.
    At(LimitOf),
    /// That of a cgroup above them: of a unit, a container.
    Above(String),
    /// The host's.
    Host,
}

impl Ended {
    /// The limit that was met, where it is one of ours.
    pub(crate) fn limit(&self, plan: &Plan, worker: &WorkerId) -> Option<u64> {
        match self {
            Ended::At(of) => of.limits(plan, worker)?.memory,
            Ended::Above(_) | Ended::Host => None,
        }
    }

    /// In one word, for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Ended::At(of) => of.name(),
            Ended::Above(_) => "above",
            Ended::Host => "host",
        }
    }
}

/// A process that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// Where a worker's limits are, as the kernel calls these cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) worker: String,
    pub(crate) service: String,
    pub(crate) application: String,
}

impl Levels {
    fn ended(&self, kill: &OomKill) -> Ended {
        match &kill.limit_of {
            None => Ended::Host,
            Some(path) if *path == self.worker => Ended::At(LimitOf::Worker),
            Some(path) if *path == self.service => Ended::At(LimitOf::Service),
            Some(path) if *path == self.application => Ended::At(LimitOf::Application),
            Some(path) => Ended::Above(path.clone()),
        }
    }

    fn has(&self, kill: &OomKill) -> bool {
        let below = kill.cgroup.strip_prefix(&self.worker);
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }
}

/// What the kernel's log said of kills, as far as it can be read here.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    log: Option<KernelLog>,
    kept: VecDeque<OomKill>,
}

impl Kills {
    /// From now on.
    pub(crate) fn watch() -> Kills {
        let log = KernelLog::open().inspect_err(|error| {
            tracing::info!("whom the kernel kills for memory is not known here: /dev/kmsg: {error}");
        });
        Kills { log: log.ok(), kept: VecDeque::new() }
    }

    /// The victims in a worker that nobody was told of yet, the first ones of many, and whose memory ended last.
    pub(crate) fn of(&mut self, levels: &Levels) -> (Vec<Victim>, Option<Ended>) {
        let new = self.log.as_mut().map(KernelLog::kills).unwrap_or_default();
        self.kept.extend(new);
        let (own, others) = self.kept.drain(..).partition::<Vec<_>, _>(|kill| levels.has(kill));
        let surplus = others.len().saturating_sub(KILLS_MAX);
        self.kept = others.into_iter().skip(surplus).collect();
        let ended = own.last().map(|kill| levels.ended(kill));
        let victims = own.into_iter().map(|OomKill { pid, name, .. }| Victim { pid, name });
        (victims.take(VICTIMS_MAX).collect(), ended)
    }
}

/// How often memory ended at each limit of ours that a worker is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) worker: u64,
    pub(crate) service: u64,
    pub(crate) application: u64,
}

impl Counts {
    /// Whose memory ended since then. Not known when it was that of none, because it may have been that of a cgroup above
    /// or the host's.
    pub(crate) fn since(&self, before: &Counts) -> Option<Ended> {
        let rose = |of| match of {
            LimitOf::Worker => self.worker > before.worker,
            LimitOf::Service => self.service > before.service,
            LimitOf::Application => self.application > before.application,
        };
        limit_of::only(rose).map(Ended::At)
    }
}

/// A kill was told of a worker, with these counts: at limits that others are under as well, it is no news of them any more. But
/// one that has had a kill itself which is to be told yet keeps what it saw before, since that may have been at the same limit.
pub(crate) fn told_of_neighbour<'a>(
    runs: impl Iterator<Item = &'a mut Run>,
    worker: &WorkerId,
    counts: &Counts,
) {
    for run in runs {
        let Some(seen) = &mut run.memory_ended else { continue };
        let is_of_service = run.worker.service == worker.service;
        let service = if is_of_service { counts.service } else { seen.service };
        let now = Counts { service, application: counts.application, ..*seen };
        // In this order, since a kill at a worker's own limit is no reason to read a file for every other.
        if now != *seen && run.group.oom_kills() <= run.oom_kills_told {
            *seen = now;
        }
    }
}

/// Whose memory ended, where neither the kernel's log nor its counters say: the worker's, when its limit is the only one of ours
/// and it was as full as that.
pub(crate) fn by_peak(plan: &Plan, worker: &WorkerId, group: &Group) -> Option<Ended> {
    let service = plan.services.get(&worker.service)?;
    let has = |limits: &CgroupLimits| limits.memory.is_some();
    if has(&plan.limits) || has(&service.limits_total) {
        return None;
    }
    let limit = service.limits.cgroup.memory?;
    let peak = group.usage().memory_peak?;
    (peak.saturating_add(NEAR) >= limit).then_some(Ended::At(LimitOf::Worker))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(pid: u32, cgroup: &str, limit_of: Option<&str>) -> OomKill {
        OomKill { pid, name: "python3".into(), cgroup: cgroup.into(), limit_of: limit_of.map(str::to_owned) }
    }

    fn levels() -> Levels {
        Levels { worker: "/app/api/1".into(), service: "/app/api".into(), application: "/app".into() }
    }

    #[test]
    fn a_kill_belongs_to_the_worker_it_met_and_to_the_level_whose_limit_it_was() {
        let check = |limit_of, expected: Ended| {
            let mut kills = Kills::default();
            kills.kept.push_back(kill(7, "/app/api/1", limit_of));
            let victim = Victim { pid: 7, name: "python3".into() };
            assert_eq!(kills.of(&levels()), (vec![victim], Some(expected)));
            assert_eq!(kills.of(&levels()), (Vec::new(), None), "told once");
        };
        check(Some("/app/api/1"), Ended::At(LimitOf::Worker));
        check(Some("/app/api"), Ended::At(LimitOf::Service));
        check(Some("/app"), Ended::At(LimitOf::Application));
        check(Some("/"), Ended::Above("/".into()));
        check(None, Ended::Host);
    }

    #[test]
    fn the_count_that_rose_tells_whose_limit_it_was() {
        let counts = |worker, service, application| Counts { worker, service, application };
        let before = counts(3, 5, 0);
        let check = |now: Counts, expected: Option<LimitOf>| {
            assert_eq!(now.since(&before), expected.map(Ended::At), "{now:?}");
        };
        check(counts(4, 5, 0), Some(LimitOf::Worker));
        check(counts(3, 7, 0), Some(LimitOf::Service));
        check(counts(3, 5, 1), Some(LimitOf::Application));
        check(counts(3, 5, 0), None);
        check(counts(4, 6, 0), None);
        // A service's group that was made anew begins at 0.
        check(counts(4, 0, 0), Some(LimitOf::Worker));
    }

    #[test]
    fn kills_of_others_are_kept_for_them_and_not_for_ever() {
        let mut kills = Kills::default();
        kills.kept.extend((0..100).map(|pid| kill(pid, "/app/api/10", None)));
        kills.kept.push_back(kill(500, "/app/api/1/inner", None));
        assert_eq!(kills.of(&levels()).0, [Victim { pid: 500, name: "python3".into() }]);
        assert_eq!(kills.kept.len(), KILLS_MAX);
        let ten = Levels { worker: "/app/api/10".into(), ..levels() };
        let pids: Vec<u32> = kills.of(&ten).0.into_iter().map(|victim| victim.pid).collect();
        assert_eq!(pids, (36..44).collect::<Vec<_>>());
    }
}

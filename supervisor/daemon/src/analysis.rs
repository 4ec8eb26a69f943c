//! `wattctl analyze`: what a start waited for, and which services were slow.
//!
//! A service is as late as its last worker. What held it back was the dependency that reached its condition last before it was started,
//! if that was after it was wanted; from one to the next, this makes the critical chain.

use std::collections::BTreeMap;

use watt_api::control::{self, AnalyzedStart};
use watt_core::{
    ServiceId, WorkerId,
    plan::{Condition, Plan},
};

use crate::{
    app::App,
    control::{Refusal, Reply},
    operate::answer,
    record::Times,
    starts::Start,
};

impl App {
    pub(crate) fn analysis(&self, service: Option<ServiceId>, reply: Reply<Box<control::Analysis>>) {
        if let Some(service) = service.as_ref().filter(|service| !self.plan.services.contains_key(service)) {
            let refusal: Refusal = self.unknown(service);
            return answer(reply, Err(refusal));
        }
        let records = records(&self.times);
        answer(reply, Ok(Box::new(analysis(&self.plan, &records, service.as_ref()))));
    }
}

/// What is known of the starts of a service's workers: of each the first and the last one.
type Records = BTreeMap<ServiceId, Vec<(Option<Start>, Option<Start>)>>;

fn records(times: &BTreeMap<WorkerId, Box<Times>>) -> Records {
    let mut records = Records::new();
    for (worker, times) in times {
        records.entry(worker.service.clone()).or_default().push((times.starts.first, times.starts.last));
    }
    records
}

/// Of the application's start, or of the last start of one service.
fn analysis(plan: &Plan, records: &Records, service: Option<&ServiceId>) -> control::Analysis {
    match service {
        None => of_application(plan, records),
        Some(service) => of_service(plan, records, service),
    }
}

fn of_application(plan: &Plan, records: &Records) -> control::Analysis {
    let first = |id: &ServiceId| records.get(id).into_iter().flatten().filter_map(|(first, _)| *first);
    let all = || plan.services.keys().flat_map(|id| first(id).map(move |start| (id, start)));
    let Some(begin) = all().map(|(_, start)| start.wanted).min() else { return control::Analysis::default() };
    // What was wanted when all of these were there came later, by a reload for instance.
    let end = all().filter(|(_, start)| start.wanted == begin).filter_map(|(_, start)| start.done()).max();
    let is_of_it = |start: &Start| start.wanted <= end.unwrap_or(u64::MAX);
    let mut starts: BTreeMap<&ServiceId, Start> = BTreeMap::new();
    for (id, start) in all().filter(|(_, start)| start.done().is_some() && is_of_it(start)) {
        let last = starts.entry(id).or_insert(start);
        if start.done() > last.done() {
            *last = start;
        }
    }
    let missing: Vec<String> = plan
        .services
        .keys()
        .filter(|id| !first(id).any(|start| start.done().is_some()))
        .map(ToString::to_string)
        .collect();
    let last = starts.iter().max_by_key(|(_, start)| start.done()).map(|(id, start)| (*id, *start));
    let total = last.and_then(|(_, start)| start.done()).filter(|_| missing.is_empty());
    let mut services: Vec<AnalyzedStart> =
        starts.iter().filter_map(|(id, start)| described(plan, records, id, start, begin)).collect();
    services.sort_by(|a, b| b.took_ms.cmp(&a.took_ms).then_with(|| a.service.cmp(&b.service)));
    control::Analysis {
        service: None,
        total_ms: total.map(|total| total.saturating_sub(begin)),
        missing,
        chain: last.map(|(id, start)| chain(plan, records, id, start, begin)).unwrap_or_default(),
        services,
    }
}

fn of_service(plan: &Plan, records: &Records, service: &ServiceId) -> control::Analysis {
    let last = records.get(service).into_iter().flatten().filter_map(|(_, last)| *last);
    let last = last.filter(|start| start.done().is_some()).max_by_key(Start::done);
    let name = Some(service.to_string());
    let Some(start) = last else {
        let missing = vec![service.to_string()];
        return control::Analysis { service: name, missing, ..control::Analysis::default() };
    };
    let chain = chain(plan, records, service, start, start.wanted);
    control::Analysis {
        service: name,
        total_ms: start.done().map(|done| done.saturating_sub(start.wanted)),
        missing: Vec::new(),
        services: chain.first().cloned().into_iter().collect(),
        chain,
    }
}

/// From a start down to one that waited for nothing. Times go down from one to the next, so that this ends.
fn chain(
    plan: &Plan,
    records: &Records,
    service: &ServiceId,
    start: Start,
    begin: u64,
) -> Vec<AnalyzedStart> {
    let mut chain = Vec::new();
    let mut next = Some((service, start));
    while let Some((id, start)) = next {
        chain.extend(described(plan, records, id, &start, begin));
        next = held_by(plan, records, id, &start);
    }
    chain
}

fn described(
    plan: &Plan,
    records: &Records,
    id: &ServiceId,
    start: &Start,
    begin: u64,
) -> Option<AnalyzedStart> {
    let (done, spawned) = (start.done()?, start.spawned?);
    Some(AnalyzedStart {
        service: id.to_string(),
        at_ms: done.saturating_sub(begin),
        waited_ms: spawned.saturating_sub(start.wanted),
        waited_for: held_by(plan, records, id, start).map(|(on, _)| on.to_string()),
        exec_ms: start.executed.map(|executed| executed.saturating_sub(spawned)),
        took_ms: done.saturating_sub(spawned),
    })
}

/// The dependency that a start waited for last, with its start.
fn held_by<'p>(
    plan: &'p Plan,
    records: &Records,
    id: &ServiceId,
    start: &Start,
) -> Option<(&'p ServiceId, Start)> {
    let spawned = start.spawned?;
    let candidates = plan.services.get(id)?.depends_on.iter().flat_map(|(on, dependency)| {
        let known = records.get(on).into_iter().flatten().flat_map(|(first, last)| [*first, *last]);
        known.flatten().filter_map(move |start| Some((on, start, reached(&start, dependency.condition)?)))
    });
    let held = candidates.filter(|(_, _, reached)| *reached > start.wanted && *reached <= spawned);
    held.max_by_key(|(_, _, reached)| *reached).map(|(on, start, _)| (on, start))
}

/// When a start had reached a condition.
fn reached(start: &Start, condition: Condition) -> Option<u64> {
    match condition {
        Condition::Started => start.executed,
        Condition::Ready => start.ready.or(start.ended),
        Condition::Healthy => start.healthy.or(start.ready).or(start.ended),
        Condition::Completed | Condition::CompletedSuccessfully => start.ended,
    }
}

#[cfg(test)]
mod tests {
    use watt_core::testing;

    use super::*;

    /// A start that was wanted at 0.
    fn start(spawned: u64, ready: u64) -> Start {
        Start { spawned: Some(spawned), executed: Some(spawned + 1), ready: Some(ready), ..Start::default() }
    }

    fn plan() -> Plan {
        let service = |name: &str, on: &[&str]| {
            let mut service = testing::service(name);
            service.depends_on = on.iter().map(|on| (testing::id(on), Condition::Ready.into())).collect();
            service
        };
        testing::plan([
            service("db", &[]),
            service("cache", &[]),
            service("api", &["db", "cache"]),
            service("web", &["api"]),
        ])
    }

    fn records(of: &[(&str, Start)]) -> Records {
        of.iter().map(|(name, start)| (testing::id(name), vec![(Some(*start), Some(*start))])).collect()
    }

    fn chain_of(analysis: &control::Analysis) -> Vec<(&str, u64, Option<&str>)> {
        let steps = analysis.chain.iter();
        steps.map(|start| (start.service.as_str(), start.at_ms, start.waited_for.as_deref())).collect()
    }

    #[test]
    fn the_chain_goes_by_what_was_waited_for_last() {
        let starts =
            [("db", start(0, 50)), ("cache", start(0, 80)), ("api", start(80, 90)), ("web", start(90, 300))];
        let analysis = analysis(&plan(), &records(&starts), None);
        assert_eq!(
            chain_of(&analysis),
            [("web", 300, Some("api")), ("api", 90, Some("cache")), ("cache", 80, None)]
        );
        assert_eq!(analysis.total_ms, Some(300));
        let slowest: Vec<&str> = analysis.services.iter().map(|start| start.service.as_str()).collect();
        assert_eq!(slowest, ["web", "cache", "db", "api"]);
    }

    #[test]
    fn a_restart_of_one_service_is_not_of_the_applications_start() {
        let mut records = records(&[
            ("db", start(0, 50)),
            ("cache", start(0, 40)),
            ("api", start(50, 60)),
            ("web", start(60, 70)),
        ]);
        let again = Start { wanted: 1000, ..start(1002, 1010) };
        records.get_mut(&testing::id("db")).unwrap()[0].1 = Some(again);
        // One that was added by a reload.
        records.get_mut(&testing::id("web")).unwrap().push((Some(again), Some(again)));
        let whole = analysis(&plan(), &records, None);
        assert_eq!(whole.total_ms, Some(70));
        assert_eq!(chain_of(&whole), [("web", 70, Some("api")), ("api", 60, Some("db")), ("db", 50, None)]);
        let one = analysis(&plan(), &records, Some(&testing::id("db")));
        assert_eq!((one.total_ms, chain_of(&one)), (Some(10), vec![("db", 10, None)]));
    }

    #[test]
    fn what_has_not_got_ready_is_told() {
        let unfinished = Start { ready: None, ..start(0, 0) };
        let analysis = analysis(&plan(), &records(&[("db", unfinished), ("cache", start(0, 5))]), None);
        assert_eq!(
            (analysis.total_ms, analysis.missing),
            (None, vec!["api".into(), "db".into(), "web".into()])
        );
        assert_eq!(analysis.chain.len(), 1);
        let nothing = super::analysis(&plan(), &Records::new(), None);
        assert!(nothing.chain.is_empty());
    }
}

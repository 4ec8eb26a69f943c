//! A fleet driven by hand: one line does something, and its effects are compared as text.

use std::{
    collections::BTreeSet,
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant},
};

use watt_core::{
    RunId, ServiceId, WorkerId,
    fleet::{Fleet, FleetEffects, FleetEvent, Goal, Request, Selection},
    plan::Plan,
    worker::{Complaint, Effect, Event, ExitCause, State},
};

use crate::plans::plan;

pub(crate) struct Script {
    pub(crate) fleet: Fleet,
    pub(crate) now: Instant,
}

impl Script {
    pub(crate) fn new(text: &str) -> Script {
        Script::of(plan(text))
    }

    pub(crate) fn of(plan: Plan) -> Script {
        Script {
            fleet: Fleet::new(&Arc::new(plan), RunId(1), 0),
            now: Instant::now() + Duration::from_secs(1_000_000),
        }
    }

    /// Lets every service get ready (or complete, where it runs to completion), in whatever order they start.
    pub(crate) fn up(text: &str) -> Script {
        let mut script = Script::new(text);
        script.request(Request::Start(Selection::All));
        while let Some((id, run)) = script.starting().pop() {
            script.event(FleetEvent::Worker(id.clone(), Event::Executed(run)));
            script.event(FleetEvent::Worker(id.clone(), Event::Ready(run)));
            if text.contains(&format!("{}!", id.service)) {
                script.tell(&format!("{id} exited 0"));
                script.tell(&format!("{id} emptied"));
            }
        }
        script
    }

    fn starting(&self) -> Vec<(WorkerId, RunId)> {
        let starting =
            self.fleet.workers().filter(|(_, worker)| matches!(worker.state, State::Starting { .. }));
        starting.filter_map(|(id, worker)| Some((id, worker.run()?))).collect()
    }

    pub(crate) fn request(&mut self, request: Request) -> String {
        self.event(FleetEvent::Request(request))
    }

    /// Another number of workers; 0 is the plan's.
    pub(crate) fn scale(&mut self, service: &str, count: u16) -> String {
        let mut effects = Vec::new();
        self.fleet.scale(self.now, &id(service), NonZeroU16::new(count), &mut effects);
        for (worker, effect) in effects.clone() {
            if let Effect::Spawn(run) = effect {
                effects.extend(self.event_alone(FleetEvent::Worker(worker, Event::Requested(run))));
            }
        }
        text(&effects)
    }

    pub(crate) fn start(&mut self, names: &str) -> String {
        self.request(Request::Start(some(names)))
    }

    pub(crate) fn stop(&mut self, names: &str) -> String {
        self.request(Request::Stop(some(names)))
    }

    /// `api/0 exited 1`: news of the worker's present run.
    pub(crate) fn tell(&mut self, text: &str) -> String {
        let words: Vec<&str> = text.split(' ').collect();
        let id = worker_id(words[0]);
        let run = self
            .fleet
            .worker(&id)
            .and_then(|worker| worker.run())
            .unwrap_or_else(|| panic!("{text}: no run"));
        let event = match words[1..] {
            ["executed"] => Event::Executed(run),
            ["ready"] => Event::Ready(run),
            ["healthy"] => Event::Healthy(run),
            ["unready"] => Event::Unready(run),
            ["unhealthy"] => Event::Unhealthy(run, Complaint::Check { failures: 3 }),
            ["complains"] => Event::Unhealthy(run, Complaint::Itself),
            ["drained"] => Event::Drained(run),
            ["exited", status] => Event::Exited(run, ExitCause::Exited(status.parse().unwrap())),
            ["emptied"] => Event::Emptied(run),
            _ => panic!("{text}"),
        };
        self.event(FleetEvent::Worker(id, event))
    }

    /// Several of those; returns the effects of all.
    pub(crate) fn tell_all(&mut self, texts: &[&str]) -> String {
        let effects: Vec<String> = texts.iter().map(|text| self.tell(text)).collect();
        effects.into_iter().filter(|effects| !effects.is_empty()).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn pass(&mut self, time: Duration) -> String {
        self.now += time;
        self.event(FleetEvent::Tick)
    }

    /// Processes are asked for at once.
    pub(crate) fn event(&mut self, event: FleetEvent) -> String {
        let effects = self.event_alone(event);
        for (id, effect) in &effects {
            if let Effect::Spawn(run) = effect {
                assert_eq!(self.event_alone(FleetEvent::Worker(id.clone(), Event::Requested(*run))), []);
            }
        }
        text(&effects)
    }

    pub(crate) fn event_alone(&mut self, event: FleetEvent) -> FleetEffects {
        let mut effects = Vec::new();
        self.fleet.handle(self.now, event, &mut effects);
        effects
    }

    pub(crate) fn state(&self, worker: &str) -> State {
        self.fleet.worker(&worker_id(worker)).unwrap().state.clone()
    }

    pub(crate) fn verdict(&self, service: &str, goal: Goal) -> String {
        format!("{:?}", self.fleet.verdicts(&some(service), goal)[&id(service)])
    }
}

pub(crate) fn text(effects: &[(WorkerId, Effect)]) -> String {
    let one = |(id, effect): &(WorkerId, Effect)| {
        let word = match effect {
            Effect::Spawn(_) => "spawn",
            Effect::Drain(_) => "drain",
            Effect::Signal(_) => "signal",
            Effect::TerminateRest(_) => "terminate-rest",
            Effect::Kill(_) => "kill",
            Effect::Release(_) => "release",
        };
        format!("{word} {id}")
    };
    effects.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(crate) fn id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap()
}

pub(crate) fn worker_id(text: &str) -> WorkerId {
    let (service, place) = text.split_once('/').unwrap();
    WorkerId::of_place(id(service), place).unwrap()
}

pub(crate) fn some(names: &str) -> Selection {
    Selection::Services(names.split(' ').map(id).collect::<BTreeSet<_>>())
}

//! Jobs at a reload, and at the end of the application.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use watt_api::control::JobResult;
use watt_core::{
    JobId,
    jobs::Event,
    plan::{self, Plan},
};

use super::{
    Entry, Jobs, NOBODY_SAW,
    notes::{Line, Notes, Terms},
    store,
    zone::Zone,
};
use crate::app::App;

/// What was read for the jobs of another configuration, beside the loop.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    zones: BTreeMap<String, Zone>,
    /// Of jobs that the present configuration does not have.
    notes: BTreeMap<JobId, Notes>,
}

impl Prepared {
    /// Reads files.
    pub(crate) fn read(folder: &Path, before: &Plan, after: &Plan) -> Prepared {
        let zones = after.jobs.values().map(|job| &job.timezone);
        let zones = zones.filter_map(|name| Some((name.clone(), Zone::named(name)?))).collect();
        let new = after.jobs.values().filter(|job| !before.jobs.contains_key(&job.id));
        let notes = new.map(|job| (job.id.clone(), store::read(folder, &job.id, job.history as usize)));
        Prepared { zones, notes: notes.collect() }
    }
}

impl Jobs {
    /// The folder of their files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }
}

impl App {
    /// Another configuration is in force: what is under way goes on, and everything else follows it.
    pub(crate) fn change_jobs(&mut self, mut prepared: Prepared) {
        let gone = self.jobs.entries.keys().filter(|id| !self.plan.jobs.contains_key(*id));
        for id in gone.cloned().collect::<Vec<_>>() {
            if let Some(entry) = self.jobs.entries.get_mut(&id) {
                entry.leaves = true;
            }
            self.tell_job(&id, Event::Close);
        }
        for job in self.plan.jobs.clone().into_values() {
            let zone = prepared.zones.get(&job.timezone).cloned();
            match self.jobs.entries.contains_key(&job.id) {
                true => self.change_job(job, zone),
                false => self.add_job(&job, zone, prepared.notes.remove(&job.id).unwrap_or_default()),
            }
        }
        self.tick_jobs();
    }

    fn change_job(&mut self, job: plan::Job, zone: Option<Zone>) {
        let Some(entry) = self.jobs.entries.get_mut(&job.id) else { return };
        let is_anew = entry.leaves || Terms::of(&entry.job) != Terms::of(&job);
        let id = job.id.clone();
        (entry.job, entry.zone, entry.leaves) = (job, zone, false);
        if is_anew {
            let terms = Line::Schedule(Terms::of(&entry.job));
            let job = entry.job.clone();
            self.jobs.put(&job, terms);
            self.tell_job(&id, Event::Anew);
        }
    }

    /// A job that is new: what was before is none of it but its history.
    fn add_job(&mut self, job: &plan::Job, zone: Option<Zone>, notes: Notes) {
        for fired in self.jobs.take(job, zone, notes, true) {
            let text = NOBODY_SAW.to_owned();
            self.job_over(&job.id, fired.firing().number, JobResult::Interrupted, text, None);
        }
    }

    /// One that is not configured any more goes when nothing of it is under way.
    pub(super) fn leave_if_over(&mut self, id: &JobId) {
        let is_over = |entry: &Entry| entry.leaves && entry.flights.is_empty();
        if self.jobs.entries.get(id).is_some_and(is_over) {
            self.jobs.entries.remove(id);
        }
    }

    /// The application ends: nothing fires any more. What is under way has as long as its service has.
    pub(crate) fn close_jobs(&mut self) {
        let all: Vec<JobId> = self.jobs.entries.keys().cloned().collect();
        for id in all {
            self.tell_job(&id, Event::Close);
        }
    }

    /// The application has ended, and what is under way with it.
    pub(crate) fn end_jobs(&mut self) {
        let flights = self
            .jobs
            .entries
            .iter()
            .flat_map(|(id, entry)| entry.flights.keys().map(move |number| (id.clone(), *number)));
        for (id, number) in flights.collect::<Vec<_>>() {
            self.stop_firing(&id, number, "the application ended");
        }
    }
}

//! Secrets at a reload: they are read again, and services whose values are others get new workers.
//!
//! A value is compared by a digest that means nothing outside of this process, and that is kept nowhere else. So of runs that a predecessor
//! started nobody knows what they have, and the next reload replaces them.

use std::collections::BTreeMap;

use watt_core::{
    ServiceId,
    plan::Secret,
    worker::{Part, State, Worker},
};
use watt_os::cgroup::Group;

use super::{Asked, News, Stage, UnderWay, prepare::Prepared};
use crate::{
    app::App,
    containment::Containment,
    runs::Run,
    secrets::{self, Context},
};

/// Cgroups in which programs of secrets run.
pub(super) type Groups = Vec<Group>;

impl App {
    /// Reads the secrets of services that run and stay.
    pub(super) fn read_values(&mut self, asked: Vec<Asked>, prepared: Box<Prepared>) {
        let renewed = prepared.renewed();
        let runs = |id: &ServiceId| self.runs.values().any(|run| run.worker.service == *id);
        let services: Vec<ServiceId> = prepared
            .plan
            .services
            .values()
            .filter(|service| !service.secrets.is_empty() && !renewed.contains(&service.id))
            .filter(|service| prepared.concerns(&service.id))
            .filter(|service| runs(&service.id))
            .map(|service| service.id.clone())
            .collect();
        if services.is_empty() {
            return self.values_read(asked, prepared);
        }
        let mut groups = Groups::new();
        let mut wanted = Vec::new();
        for id in services {
            wanted.extend(self.wanted_values(&id, &prepared, &mut groups).map(|values| (id, values)));
        }
        let (sender, hasher) = (self.senders.reload.clone(), self.reloads.digests.clone());
        tokio::spawn(async move {
            let digest = async {
                let mut digests = BTreeMap::new();
                for (id, values) in wanted {
                    let credentials = secrets::read(values).await?;
                    digests.insert(id, std::hash::BuildHasher::hash_one(&hasher, &credentials.files));
                }
                Ok(digests)
            };
            let digests = digest.await;
            // The loop has ended when it does not take it.
            let _ = sender.send(News::Values(digests)).await;
        });
        self.reloads.under_way = Some(UnderWay { asked, stage: Stage::Values(prepared, groups) });
    }

    fn wanted_values(
        &mut self,
        id: &ServiceId,
        prepared: &Prepared,
        groups: &mut Groups,
    ) -> Option<Vec<secrets::Wanted>> {
        let service = prepared.plan.services.get(id)?;
        let has_command = service
            .secrets
            .values()
            .any(|name| matches!(prepared.plan.secrets.get(name), Some(Secret::Command(_))));
        let group = if has_command { self.group_for_commands(id, groups) } else { Group::default() };
        // Of no run: it ends with the reload.
        let mark = self.life.of_run(watt_core::RunId(0));
        let context =
            Context { env: &prepared.sources.env, root: &prepared.plan.root, mark: &mark, group: &group };
        let begin = |argv: &[String]| self.begin_command(argv, &context);
        Some(secrets::wanted(&prepared.plan, service, &prepared.sources, begin))
    }

    /// A cgroup with the limits that a worker has. Within those of one that runs, a program that takes too much would be that
    /// one's end.
    fn group_for_commands(&mut self, id: &ServiceId, groups: &mut Groups) -> Group {
        self.reloads.groups += 1;
        match self.cgroups.create_for_secrets(id, self.reloads.groups, &self.plan) {
            Ok(group) => {
                groups.push(group.clone());
                group
            }
            Err(error) => {
                tracing::warn!("no cgroup can be made for the programs of {id}'s secrets: {error}");
                Group::default()
            }
        }
    }

    /// Ends what programs of secrets have left running, and their cgroups.
    pub(super) fn leave_groups(&mut self, groups: Groups) {
        for group in groups.into_iter().filter(Group::is_usable) {
            tokio::spawn(async move {
                Containment::Group(group.clone()).kill().await;
                Containment::Group(group.clone()).emptied().await;
                if let Err(error) = group.remove() {
                    tracing::warn!("the cgroup of a secret's program cannot be removed: {error}");
                }
            });
        }
    }

    /// Notes the services whose runs have other values than these. A run that goes in any case, or is to, does not count: with what it
    /// has, those that have taken its place would be replaced once more.
    pub(super) fn note_rotated(&self, prepared: &mut Prepared, values: &BTreeMap<ServiceId, u64>) {
        for (id, digest) in values {
            let stays = |run: &&Run| self.fleet.worker(&run.worker).is_some_and(stays);
            let mut runs =
                self.runs.values().map(AsRef::as_ref).filter(|run| run.worker.service == *id).filter(stays);
            if runs.any(|run| run.secrets != Some(*digest)) {
                prepared.rotated.insert(id.clone());
            }
        }
    }
}

/// Whether a worker's run is neither on its way out nor about to be replaced.
fn stays(worker: &Worker) -> bool {
    matches!(worker.state, State::Starting { .. } | State::Ready { .. } | State::Unready { .. })
        && !matches!(worker.part, Part::Leaves | Part::Due)
}

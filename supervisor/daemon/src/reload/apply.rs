//! The last step of a reload: another configuration takes the place of the one in force. Nothing in here can fail; what the kernel
//! does not do of it is told as at a start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use watt_api::mesh::ListenerKind;
use watt_certificates::Certificates;
use watt_config::Sources;
use watt_core::{
    RunId, ServiceId,
    diff::{Diff, Field, ServiceDiff},
    plan::{ListenAt, OnFailure, Plan},
};
use watt_spawner::protocol::Request;

use super::{
    Asked, Gateway, asked,
    back::Before,
    not_started, own_socket,
    prepare::{Prepared, is_limit},
};
use crate::{
    app::App,
    control::Roles,
    doctor,
    events::happenings,
    folders,
    gateway::{self, AllBound, Binding, Bound, Place},
    in_force::{InForce, Left, PLAN},
    launch::accounts,
    logs,
    operate::{Answer, Operation, answer},
    settings::StartError,
    start::OF_APPLICATION,
    status,
    tls::listener_name,
    unit::Touched,
};

/// How many sockets of the gateway's are known as our own: those of some reloads, with one for each processor.
const KNOWN_SOCKETS_MAX: usize = 4096;

/// Whose the files of listeners' sockets are, where something is said about that.
type Owners = BTreeMap<String, Option<(u32, u32)>>;

impl App {
    /// Puts a prepared configuration in force.
    pub(super) fn apply(&mut self, asked: Vec<Asked>, prepared: Prepared, gateway: Gateway) {
        if !prepared.is_back && self.has_to_come_back() {
            self.unlisten(&gateway);
            // It is compared anew, with the one that comes back, and takes its place then.
            asked::put_back(&mut self.reloads.waiting, asked);
            return self.next_reload();
        }
        let (plan, in_force) = self.next_in_force(&prepared, &gateway);
        let sealed = match in_force.sealed() {
            Ok(sealed) => sealed,
            Err(source) => {
                self.unlisten(&gateway);
                let what = "keep the configuration";
                return self.not_reloaded(asked, &not_started(&StartError::Runtime { what, source }));
            }
        };
        let reloaded = self.reloaded(&prepared, true);
        let renewed = prepared.renewed();
        let happened = happened(reloaded.changes.len(), &prepared, &renewed);
        if prepared.is_back {
            self.bring_scales_back(&prepared.plan);
        }
        watt_fault::step("daemon.reload_prepared");
        // From here on a successor goes on with the new one.
        self.link.request(Request::Keep { name: PLAN.to_owned() }, vec![sealed]);
        watt_fault::step("daemon.reload_kept");
        self.in_force = in_force;
        self.plan = Arc::new(plan);
        self.accounts = prepared.accounts;
        self.certificates = prepared.in_use;
        self.proxy_link.pass_folders(folders::of_plan(&self.plan));
        self.apply_to_application(&prepared.diff, prepared.roles, gateway, &prepared.owners);
        self.note_who_is_alone();
        self.change_fleet(&renewed);
        watt_fault::step("daemon.reload_changed");
        self.apply_limits(&prepared.diff);
        self.apply_checks(&prepared.diff, &renewed);
        self.change_jobs(prepared.jobs);
        if prepared.single.is_none() && !prepared.is_back {
            self.note_file_in_force(&prepared.sources);
        }
        self.fit_file_watch();
        self.events.emit(happened);
        self.answer_reload(asked, reloaded, &prepared.diff, renewed);
        self.unsettle();
        self.next_reload();
    }

    /// The plan that is to be in force, with what leaves, and what a successor has to know of it.
    fn next_in_force(&self, prepared: &Prepared, gateway: &Gateway) -> (Plan, InForce) {
        let mut plan = prepared.plan.clone();
        let mut in_force = self.in_force.clone();
        in_force.sources = Arc::new(prepared.sources.clone());
        in_force.loaded_at_ms = status::now_ms();
        in_force.bound(&gateway.bound());
        in_force.limits = prepared.limits.clone();
        for left in &mut in_force.leaving {
            left.services.retain(|id| !plan.services.contains_key(id));
        }
        in_force.leaving.retain(|left| !left.services.is_empty());
        in_force.leaving.extend(self.left_by(prepared));
        for id in in_force.leaving.iter().flat_map(|left| &left.services) {
            plan.services.extend(self.plan.services.get(id).map(|service| (id.clone(), service.clone())));
        }
        self.note_before(prepared, &plan, &mut in_force);
        in_force.renewal.retain(|id, _| plan.services.contains_key(id));
        let last = self.fleet.last_run();
        in_force.renewal.extend(prepared.renewed().into_iter().map(|id| (id, last)));
        in_force.address(&plan);
        (plan, in_force)
    }

    /// What can come back if the rolls of this reload fail, or what of the running workers is of the one that comes back.
    fn note_before(&self, prepared: &Prepared, plan: &Plan, in_force: &mut InForce) {
        let renewed = prepared.renewed();
        let before = in_force.before.take();
        in_force.spared.retain(|id, _| !renewed.contains(id) && plan.services.contains_key(id));
        let is_strict = |id: &ServiceId| {
            plan.services.get(id).is_some_and(|plan| plan.roll.on_failure == OnFailure::RollBack)
        };
        match before {
            Some(before) if prepared.is_back => in_force.spared.extend(before.own_runs(renewed.iter())),
            // What is in force has not ended well yet, so that it is nothing to come back to.
            Some(before) => in_force.before = Some(before),
            None if !prepared.is_back && renewed.iter().any(is_strict) => {
                in_force.before = Some(Before {
                    sources: Arc::clone(&self.in_force.sources),
                    renewal: self.in_force.renewal.clone(),
                    last_run: self.fleet.last_run(),
                    limits: self.in_force.limits.clone(),
                    scales: self.scales.clone(),
                    is_due: false,
                });
            }
            None => {}
        }
    }

    /// What is no longer configured.
    fn left_by(&self, prepared: &Prepared) -> Option<Left> {
        let removed =
            |(id, diff): (&ServiceId, &ServiceDiff)| (*diff == ServiceDiff::Removed).then(|| id.clone());
        let services: BTreeSet<ServiceId> = prepared.diff.services.iter().filter_map(removed).collect();
        let needs_one = |id: &&ServiceId| {
            let before = self.plan.services.get(*id);
            before.is_some_and(|before| before.depends_on.keys().any(|on| services.contains(on)))
        };
        let after = prepared.plan.services.keys().filter(needs_one).cloned().collect();
        // What clients are shown is not theirs, and would be kept once more for each that leaves.
        let sources = Sources { certificates: Certificates::new(), ..Sources::clone(&self.in_force.sources) };
        (!services.is_empty()).then(|| Left { services, after, sources: Arc::new(sources) })
    }

    fn apply_to_application(&mut self, diff: &Diff, roles: Roles, gateway: Gateway, owners: &Owners) {
        self.write_names();
        if diff.app.contains(&Field::Listeners) {
            self.own_sockets(&gateway.stay, owners);
        }
        self.replace_gateway(gateway);
        if diff.app.contains(&Field::Logs) {
            let settings =
                logs::Settings::new(self.places.logs(&self.plan), self.places.bookmarks(), &self.plan.logs);
            self.logs.rotate(settings.rotation);
        }
        self.warn_anew(&roles);
        own_socket(&self.places.control_socket(), roles.socket_mode(), None);
        self.server.roles.send_replace(Arc::new(roles));
    }

    /// What this host does not do of the plan; of the ceiling, the kernel says it when it is set.
    fn warn_anew(&mut self, roles: &Roles) {
        let ceiling: Vec<String> =
            self.warnings.iter().filter(|line| line.starts_with(OF_APPLICATION)).cloned().collect();
        let host = doctor::warnings(self.probe.as_ref(), self.cgroups.found().clone(), &self.plan);
        let project = watt_config::warnings(&self.in_force.sources);
        self.warnings =
            project.into_iter().chain(roles.unknown().iter().cloned()).chain(ceiling).chain(host).collect();
    }

    /// Has the proxy accept clients at this listener.
    pub(crate) fn give_gateway(&mut self, binding: Binding) {
        let Binding { number, sockets, .. } = binding;
        // Those that were given up stay known: the proxy and the service manager may have them for a moment longer. Numbers count up.
        self.gateway_inodes.extend(gateway::inodes(sockets.iter().map(AsRef::as_ref)));
        while self.gateway_inodes.len() > KNOWN_SOCKETS_MAX {
            self.gateway_inodes.pop_first();
        }
        // That of a Unix socket is every thread's.
        for (thread, socket) in (0..self.threads).zip(sockets.iter().cycle()) {
            let kind = ListenerKind::Gateway {
                thread: u32::try_from(thread).unwrap_or(u32::MAX),
                listener: listener_name(number),
            };
            self.proxy_link.add_listener(gateway::name(number, thread), kind, Arc::clone(socket));
        }
    }

    /// Those that are no longer where the configuration wants some take nobody any more; new ones do. Connections that were accepted stay.
    fn replace_gateway(&mut self, gateway: Gateway) {
        let before = std::mem::replace(&mut self.gateway, gateway.bound());
        let stays = |number: u64| gateway.stay.values().any(|bound| bound.number == number);
        for bound in before.values().filter(|bound| !stays(bound.number)) {
            for thread in 0..self.threads {
                let name = gateway::name(bound.number, thread);
                self.proxy_link.remove_listener(&name);
                self.link.request(Request::Unlisten { name }, Vec::new());
            }
        }
        for binding in gateway.fresh {
            if matches!(binding.bound(), Some(Bound { place: Place::Tcp(_), .. })) {
                for thread in 0..binding.sockets.len() {
                    let name = gateway::name(binding.number, thread);
                    self.link.request(Request::Store { name }, Vec::new());
                }
            }
            self.give_gateway(binding);
        }
    }

    /// Mode and owner of the files of those that stay.
    fn own_sockets(&self, stay: &AllBound, owners: &Owners) {
        for (name, listener) in self.plan.other_listeners() {
            let ListenAt::Unix { path, mode, owner: _ } = &listener.at else { continue };
            if !stay.contains_key(name) {
                continue;
            }
            let owner = owners.get(name).copied().flatten().unwrap_or_else(accounts::own);
            own_socket(path, *mode, Some(owner));
        }
    }

    fn change_fleet(&mut self, renewed: &BTreeSet<ServiceId>) {
        let last = self.fleet.last_run();
        let renewal = renewed.iter().map(|id| (id.clone(), RunId(last.0))).collect();
        let mut effects = Vec::new();
        let leaving = self.in_force.leaving();
        self.fleet.spare(self.in_force.spared.clone());
        let counts = self.worker_counts();
        self.fleet.change(Instant::now(), &Arc::clone(&self.plan), leaving, &renewal, &mut effects);
        self.forget_scales(&counts);
        self.autoscale.fit(&self.plan, Instant::now());
        self.note_changes();
        self.effects.extend(effects);
    }

    /// Limits of what runs.
    fn apply_limits(&mut self, diff: &Diff) {
        if diff.app.contains(&Field::AppLimits) {
            self.enforce_ceiling();
        }
        for (id, diff) in &diff.services {
            if let ServiceDiff::Changed(fields) = diff
                && fields.iter().copied().any(is_limit)
            {
                self.enforce_limits(id, |_| {});
            }
        }
    }

    /// What running workers are watched for. Those that are to be replaced go on as they were.
    fn apply_checks(&mut self, diff: &Diff, renewed: &BTreeSet<ServiceId>) {
        let is_check = |field: &Field| matches!(field, Field::ReadyWhen | Field::ReadyUpkeep | Field::Health);
        let changed: BTreeSet<&ServiceId> = diff
            .services
            .iter()
            .filter(|(_, diff)| matches!(diff, ServiceDiff::Changed(fields) if fields.iter().any(is_check)))
            .map(|(id, _)| id)
            .filter(|id| !renewed.contains(*id))
            .collect();
        let watched = self.runs.iter().filter(|(_, run)| run.watching.is_some());
        let watched = watched.filter(|(_, run)| changed.contains(&run.worker.service)).map(|(id, _)| *id);
        for run in watched.collect::<Vec<_>>() {
            self.watch_again(run);
        }
    }

    fn answer_reload(
        &mut self,
        asked: Vec<Asked>,
        reloaded: watt_api::control::Reloaded,
        diff: &Diff,
        renewed: BTreeSet<ServiceId>,
    ) {
        let counts = |fields: &[Field]| fields.contains(&Field::Workers);
        let touched = diff.services.iter().filter(|(_, diff)| match diff {
            ServiceDiff::Added => true,
            ServiceDiff::Removed => false,
            ServiceDiff::Changed(fields) => counts(fields),
        });
        let touched = touched.map(|(id, _)| id.clone()).chain(renewed);
        // Those of an earlier reload as well: what is waited for is that the configuration is what runs.
        let renewing = self.plan.services.keys().filter(|id| self.fleet.is_renewing(id)).cloned();
        let services: BTreeSet<ServiceId> = touched.chain(renewing).collect();
        let touched = Touched { services, leaving: self.in_force.leaving().into_keys().collect() };
        self.unit.reloaded(touched.clone());
        for Asked { request, reply, what: _ } in asked {
            let Some(reply) = reply else { continue };
            match request.wait && !request.plan {
                true => {
                    let answer = Answer::Reloaded(reply, Box::new(reloaded.clone()));
                    self.operations.push(Operation::reload(touched.clone(), answer));
                }
                false if request.plan => answer(reply, Ok(Box::new(reloaded.clone()))),
                false => {
                    self.unsettle();
                    // What is published next has it.
                    self.answer_in_use(reply, Box::new(reloaded.clone()), self.version + 1);
                }
            }
        }
    }

    /// The last worker of a service that was removed has gone.
    pub(crate) fn service_left(&mut self, service: &ServiceId) {
        self.stop_tasks(Some(service), false);
        let mut plan = Plan::clone(&self.plan);
        plan.services.remove(service);
        self.plan = Arc::new(plan);
        self.fleet.forget(&self.plan, service);
        self.in_force.forget(service);
        self.keep_in_force();
        self.write_names();
        self.accounts.remove(service);
        self.unenforced.remove(service.as_str());
        self.counts.remove(service.as_str());
        self.outside.remove(service.as_str());
        self.proxy_link.forget(service.as_str());
        self.limit_turns.remove(&Some(service.clone()));
        self.unsettle();
    }

    /// Keeps what is in force for a successor.
    pub(crate) fn keep_in_force(&mut self) {
        match self.in_force.sealed() {
            Ok(sealed) => self.link.request(Request::Keep { name: PLAN.to_owned() }, vec![sealed]),
            Err(error) => {
                tracing::error!("the configuration in force cannot be kept for a successor: {error}")
            }
        }
    }

    /// What of the ceiling of all services is not enforced.
    pub(crate) fn warn_of_ceiling(&mut self, unenforced: Vec<String>) {
        self.warnings.retain(|line| !line.starts_with(OF_APPLICATION));
        self.warnings.extend(unenforced.into_iter().map(|line| format!("{OF_APPLICATION}{line}")));
    }
}

fn happened(changes: usize, prepared: &Prepared, renewed: &BTreeSet<ServiceId>) -> happenings::Reloaded {
    let of = |wanted: ServiceDiff| {
        let found = prepared.diff.services.iter().filter(|(_, diff)| **diff == wanted);
        found.map(|(id, _)| id.to_string()).collect()
    };
    let single = prepared.single.as_ref().map(|single| happenings::Single {
        service: single.service.to_string(),
        is_removed: single.applied.document.is_none(),
        by: single.applied.by.clone(),
    });
    happenings::Reloaded {
        single,
        taken_back: prepared.taken_back.iter().map(ToString::to_string).collect(),
        changes,
        added: of(ServiceDiff::Added),
        removed: of(ServiceDiff::Removed),
        renewed: renewed.iter().map(ToString::to_string).collect(),
    }
}

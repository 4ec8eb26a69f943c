//! `wattctl audit`: how exposed each service leaves its host, its neighbours and watt. What is checked and what that weighs is
//! `watt_core::audit`'s; here is what it is told of this host, and how it is said.
//!
//! Of a running application, what counts is what is in force: switches that the host cannot do are taken out of a service before it
//! is looked at ([`in_force`]), and so are limits that no cgroup holds. A step is tried the same way, so that no switch is proposed
//! that would change nothing here.

use std::collections::BTreeMap;

use tokio::sync::OwnedSemaphorePermit;
use watt_api::{
    control::{self, AuditBasis, AuditCheck, AuditFact, AuditState, AuditStep, AuditedService},
    mesh::Outgoing,
};
use watt_core::{
    ServiceId,
    audit::{self, Circumstances, Exposure, Finding, Section, Seen, Standing, State, Step},
    fleet::Selection,
    plan::{CgroupLimits, Plan, Service},
    sandbox::Profile,
};
use watt_os::cgroup::{Group, LimitName};

use crate::{
    app::App,
    beside,
    control::{Reply, Services},
    doctor,
    launch::{Host, LANDLOCK_WITH_SCOPES, accounts::Accounts, in_force, missing},
    operate::answer,
    places::Places,
    words,
};

/// How a service's own folder is called where it is not known yet.
const STATE_DIRECTORY: &str = "$STATE_DIRECTORY";

/// Audits a configuration alone, as root would run it on a host that can do everything.
pub fn of_configuration(plan: &Plan) -> control::Audit {
    let ideal = Ideal;
    let services = plan.services.values();
    let services = services.map(|service| audited(plan, service, &ideal, plan, true)).collect();
    of(plan, AuditBasis::Configured, true, services)
}

fn of(
    plan: &Plan,
    basis: AuditBasis,
    started_by_root: bool,
    services: Vec<AuditedService>,
) -> control::Audit {
    control::Audit { app: plan.name.to_string(), file: plan.file.clone(), basis, started_by_root, services }
}

impl App {
    /// Puts together what is known, and has the rest read and everything worked out beside the loop.
    pub(crate) fn audit(
        &self,
        services: Services,
        full: bool,
        turn: OwnedSemaphorePermit,
        reply: Reply<Box<control::Audit>>,
    ) {
        let selection = match self.select(services) {
            Ok(selection) => selection,
            Err(refusal) => return answer(reply, Err(refusal)),
        };
        let plan = std::sync::Arc::clone(&self.plan);
        let real = Real {
            host: self.host.clone(),
            accounts: self.accounts.clone(),
            cgroups: self.cgroups.found().clone(),
            places: self.places.clone(),
            unenforced: self.unenforced.clone(),
            outside: self.outside.clone(),
            groups: self.runs.values().map(|run| (run.worker.service.clone(), run.group.clone())).collect(),
        };
        // It holds its turn for as long as it takes.
        beside::now(move || {
            let is_wanted = |service: &&Service| match &selection {
                Selection::All => true,
                Selection::Services(wanted) => wanted.contains(&service.id),
            };
            let held = real.application(&plan);
            let services = plan.services.values().filter(is_wanted);
            let services = services.map(|service| audited(&plan, service, &real, &held, full)).collect();
            let audit = of(&plan, AuditBasis::Running, real.host.is_root, services);
            answer(reply, Ok(Box::new(audit)));
            drop(turn);
        });
    }
}

/// Where a service runs, or would.
trait Place {
    /// What is left of a service there. It may be one that is not configured like this, but could be.
    fn in_force(&self, service: &Service) -> Service;
    /// What is not, in words.
    fn unenforced(&self, service: &Service) -> Vec<String>;
    fn circumstances(&self) -> Circumstances;
    /// The folder it may keep things in.
    fn state(&self, service: &ServiceId) -> String;
    fn seen(&self, service: &ServiceId) -> Seen;
}

/// A host that can do everything, and on which nothing has run yet.
struct Ideal;

impl Place for Ideal {
    fn in_force(&self, service: &Service) -> Service {
        service.clone()
    }

    fn unenforced(&self, _: &Service) -> Vec<String> {
        Vec::new()
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances::COMPLETE
    }

    fn state(&self, _: &ServiceId) -> String {
        STATE_DIRECTORY.to_owned()
    }

    fn seen(&self, _: &ServiceId) -> Seen {
        Seen::default()
    }
}

/// This host, and what the application did on it.
struct Real {
    host: Host,
    accounts: Accounts,
    cgroups: doctor::Cgroups,
    places: Places,
    unenforced: BTreeMap<String, Vec<String>>,
    outside: BTreeMap<String, Vec<Outgoing>>,
    groups: Vec<(ServiceId, Group)>,
}

impl Real {
    /// The application with the ceiling that is held, and its services as they are in force: what one of them is told of the others.
    fn application(&self, plan: &Plan) -> Plan {
        let mut held = plan.clone();
        self.lift(&mut held.limits, &[], false);
        for service in held.services.values_mut() {
            *service = self.in_force(service);
        }
        held
    }

    /// Takes out the limits that are not held: by what was tried at the start, and by what was told of this group.
    fn lift(&self, limits: &mut CgroupLimits, lines: &[&str], pids_by_rlimit: bool) {
        let holds =
            |limit| self.cgroups.enforce(limit) && !lines.iter().any(|line| words::is_about(line, limit));
        let CgroupLimits {
            memory,
            memory_high,
            memory_low: _,
            memory_min: _,
            swap: _,
            cpu_millis,
            cpu_weight,
            cpus,
            pids,
            io_weight: _,
            io,
            hugetlb: _,
        } = limits;
        memory.take_if(|_| !holds(LimitName::Memory));
        memory_high.take_if(|_| !holds(LimitName::MemoryHigh));
        cpu_millis.take_if(|_| !holds(LimitName::Cpu));
        cpu_weight.take_if(|_| !holds(LimitName::CpuWeight));
        pids.take_if(|_| !holds(LimitName::Pids) && !pids_by_rlimit);
        if !holds(LimitName::Cpuset) {
            cpus.clear();
        }
        if !holds(LimitName::Io) {
            io.clear();
        }
    }
}

impl Place for Real {
    fn in_force(&self, service: &Service) -> Service {
        let account = self.accounts.get(&service.id).and_then(|account| account.as_ref().ok()?.as_ref());
        let mut left = in_force(service, &self.host, account);
        let told = self.unenforced.get(service.id.as_str()).into_iter().flatten();
        let (total, each): (Vec<&str>, Vec<&str>) =
            told.map(String::as_str).partition(|line| line.starts_with(words::OF_TOTAL));
        let total: Vec<&str> = total.iter().filter_map(|line| line.strip_prefix(words::OF_TOTAL)).collect();
        // A resource limit bounds the processes of each worker, where no cgroup does.
        self.lift(&mut left.limits.cgroup, &each, self.host.pids_by_rlimit);
        self.lift(&mut left.limits_total, &total, false);
        left
    }

    fn unenforced(&self, service: &Service) -> Vec<String> {
        let account = self.accounts.get(&service.id).and_then(|account| account.as_ref().ok()?.as_ref());
        // Nothing was told of a service that has not been started.
        let told = self.unenforced.get(service.id.as_str()).cloned();
        told.unwrap_or_else(|| missing(service, &self.host, account))
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances {
            is_root: self.host.is_root,
            landlock_scopes: self.host.walls.landlock >= LANDLOCK_WITH_SCOPES,
            private_secrets: self.host.bind_files,
        }
    }

    fn state(&self, service: &ServiceId) -> String {
        self.places.service_state(service).display().to_string()
    }

    fn seen(&self, service: &ServiceId) -> Seen {
        let made = self.outside.get(service.as_str()).into_iter().flatten();
        let made = made.filter(|outgoing| outgoing.counts.connections > 0).map(|outgoing| &outgoing.to);
        let destinations = made.filter_map(|to| Some((to.clone(), watt_config::destination(to)?))).collect();
        let groups = self.groups.iter().filter(|(id, _)| id == service);
        let memory_peak = groups.filter_map(|(_, group)| group.usage().memory_peak).max();
        Seen { destinations, memory_peak }
    }
}

/// One service. `held` is the application as it is in force.
fn audited(plan: &Plan, service: &Service, place: &dyn Place, held: &Plan, full: bool) -> AuditedService {
    let host = place.circumstances();
    let score = |service: &Service| {
        let service = place.in_force(service);
        audit::exposure(&Standing { plan: held, service: &service, host })
    };
    let real = place.in_force(service);
    let standing = Standing { plan: held, service: &real, host };
    let findings = audit::findings(&standing);
    let exposure = Exposure::of(&findings);
    let steps = audit::steps(plan, service, &place.seen(&service.id), score);
    let steps: Vec<AuditStep> = steps.into_iter().map(|step| said(step, &service.id)).collect();
    let strict = score(&audit::with_profile(service, Profile::Strict));
    let mut audited = AuditedService {
        id: service.id.to_string(),
        sandbox: words::profile(service.sandbox.profile).to_owned(),
        exposure: number(exposure),
        level: exposure.level().to_string(),
        next: steps.first().filter(|step| step.breaks.is_none()).cloned(),
        strict: (strict < exposure).then(|| number(strict)),
        unenforced: place.unenforced(service),
        checks: Vec::new(),
        steps: Vec::new(),
        can: Vec::new(),
        cannot: Vec::new(),
        at_most: Vec::new(),
    };
    if full {
        // The application's parts as they are written, too: its ceiling counts.
        let written = audit::findings(&Standing {
            plan,
            service,
            host: Circumstances { is_root: host.is_root, ..Circumstances::COMPLETE },
        });
        audited.checks = findings.iter().zip(&written).map(|(real, written)| check(real, written)).collect();
        audited.steps = steps;
        let [can, cannot, at_most] = audit::reach(&standing, &place.state(&service.id)).map(facts);
        (audited.can, audited.cannot, audited.at_most) = (can, cannot, at_most);
    }
    audited
}

fn check(real: &Finding, written: &Finding) -> AuditCheck {
    let about = real.check.about();
    AuditCheck {
        id: about.id.to_owned(),
        area: about.area.title().to_owned(),
        state: match real.state() {
            State::Present => AuditState::Present,
            State::Partial => AuditState::Partial,
            State::Absent => AuditState::Absent,
        },
        weight: about.weight,
        exposure: number(real.adds()),
        key: about.key.to_owned(),
        risk: about.risk.to_owned(),
        note: real.note.clone(),
        unenforced: real.open > written.open,
    }
}

fn said(step: Step, service: &ServiceId) -> AuditStep {
    let line = step.line(service.as_str());
    let path = ["services", service.as_str()].into_iter().chain(step.key.split('.'));
    AuditStep {
        line,
        key: path.map(str::to_owned).collect(),
        value: serde_json::from_str(&step.value).unwrap_or_default(),
        exposure: number(step.after),
        level: step.after.level().to_string(),
        caution: Some(step.caution).filter(|text| !text.is_empty()).map(str::to_owned),
        breaks: step.breaks,
    }
}

fn facts(section: Section) -> Vec<AuditFact> {
    let facts = section.facts.into_iter();
    facts.map(|(about, text)| AuditFact { about: about.to_owned(), text }).collect()
}

fn number(exposure: Exposure) -> f64 {
    f64::from(exposure.hundredths()) / 100.0
}

#[cfg(test)]
mod tests;

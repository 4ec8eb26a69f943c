//! The first step of a reload, beside the loop: the configuration is read, checked as `wattctl config check` does, and compared with
//! the one in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use watt_certificates::{Certificates, Pem};
use watt_config::{Config, Report, Sources};
use watt_core::{
    ServiceId, WorkerId,
    diff::{Diff, Effect, Field},
    plan::{Limits, Listener, Plan, Service, Tls},
    worker::ExecFailure,
};

use super::{Folder, Single, asked::What, not_started};
use crate::{
    control::{Refusal, Roles},
    file_watch::Unusable,
    gateway::{self, AllBound},
    in_force::InForce,
    jobs,
    launch::{Host, Launch, Launcher, accounts, accounts::Accounts},
    limits::Changes,
    places::Places,
    seat::Seat,
    settings::StartError,
    start,
    tls::InUse,
};

/// What it works on.
pub(super) struct Input {
    pub(super) folder: Folder,
    /// What is to be in force.
    pub(super) what: What,
    pub(super) in_force: InForce,
    /// The plan in force, with what leaves.
    pub(super) plan: Arc<Plan>,
    pub(super) accounts: Accounts,
    pub(super) places: Places,
    pub(super) host: Host,
    /// Where clients come in, and the sockets that are ours.
    pub(super) gateway: AllBound,
    pub(super) gateway_inodes: BTreeSet<u64>,
    /// The folder of what became of jobs.
    pub(super) jobs: PathBuf,
}

/// A configuration that can take the place of the one in force.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The plan it was compared with.
    pub(super) base: Arc<Plan>,
    /// It was in force before.
    pub(super) is_back: bool,
    /// What was applied of one service, if that is all that is asked for.
    pub(super) single: Option<Arc<Single>>,
    /// What was applied of these services holds no longer.
    pub(super) taken_back: BTreeSet<ServiceId>,
    pub(super) sources: Sources,
    /// The plan, without what leaves.
    pub(super) plan: Plan,
    /// Changes of limits by operators that stay.
    pub(super) limits: Changes,
    /// Whose the files of listeners' sockets are.
    pub(super) owners: BTreeMap<String, Option<(u32, u32)>>,
    pub(super) accounts: Accounts,
    pub(super) roles: Roles,
    pub(super) diff: Diff,
    /// Services whose workers are started otherwise from now on although nothing of theirs has changed: what is around them has.
    pub(super) surroundings: BTreeSet<ServiceId>,
    /// Services that have other secrets now.
    pub(super) rotated: BTreeSet<ServiceId>,
    /// Whether files of certificates and keys say something else.
    pub(super) certificates: bool,
    /// Whether files of what those are known by who ask say something else.
    pub(super) credentials: bool,
    /// What is in them.
    pub(super) in_use: InUse,
    pub(super) jobs: jobs::Prepared,
}

impl Prepared {
    /// The plan, without what leaves.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether it is about this service: about all of them, unless one alone was applied. Nobody who applies one expects another to be
    /// replaced because a secret of it is another one by now.
    pub(super) fn concerns(&self, service: &ServiceId) -> bool {
        self.single.as_ref().is_none_or(|single| single.service == *service)
    }

    /// The services whose workers have to be replaced.
    pub(super) fn renewed(&self) -> BTreeSet<ServiceId> {
        let changed = self.diff.services.keys().filter(|id| self.diff.needs_new_workers(id));
        changed.chain(&self.surroundings).chain(&self.rotated).cloned().collect()
    }
}

/// A reload that comes to nothing.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(super) refusal: Refusal,
    /// When that is because of certificates or keys.
    pub(super) unusable: Option<Box<Unusable>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Refused { refusal, unusable: None }
    }
}

pub(super) fn prepare(input: Input) -> Result<Box<Prepared>, Refused> {
    let Input { folder, what, in_force, plan: base, accounts, places, host, gateway, gateway_inodes, jobs } =
        input;
    let refused = |report: Report| refused(report, &folder);
    let mut sources = match &what {
        What::Back(sources) => Sources::clone(sources),
        What::Service(single) => with_one(&in_force.sources, single, &base)?,
        What::File => Sources::read(&in_force.sources.file, in_force.sources.env.clone()).map_err(refused)?,
    };
    let (is_back, single) = match what {
        What::Back(_) => (true, None),
        What::Service(single) => (false, Some(single)),
        What::File => (false, None),
    };
    let config: Config = watt_config::parse(&sources).map_err(refused)?;
    let missing = watt_config::check_host(&config);
    if !missing.is_empty() {
        return Err(refused(missing).into());
    }
    if is_back {
        sources.certificates = that_come_back(&config, &sources.certificates, &in_force.sources.certificates);
    } else if single.is_none() {
        sources.certificates = read_certificates(&config, &base, refused)?;
    }
    // It had no error when it was taken.
    let written = watt_config::plan(&in_force.sources).map_err(refused)?;
    let mut plan = config.plan;
    // A name that was given at the start holds, whatever the configuration says.
    if plan.name == written.name || written.name != base.name {
        plan.name = base.name.clone();
    }
    let stay = in_force.limits.that_stay(&written, &plan);
    let limits = match in_force.before.as_ref().filter(|_| is_back) {
        Some(before) => before.limits.that_return(&written, &plan, &stay),
        None => stay,
    };
    let problems = limits.try_apply(&mut plan);
    if !problems.is_empty() {
        return Err(overruled(&problems).into());
    }
    places.check(&plan).map_err(|error| not_started(&StartError::Place(error)))?;
    let old = without_leaving(&base, &in_force);
    let diff = Diff::between(&old, &plan);
    possible(&diff)?;
    let (stay, missing) = gateway::assign(&plan, &gateway);
    for (name, listener) in missing {
        gateway::check_beside(name, listener, &stay).map_err(|error| not_started(&error))?;
        gateway::check_free(name, listener, &gateway_inodes).map_err(|error| not_started(&error))?;
    }
    let owner = |(name, listener): (&str, &Listener)| {
        gateway::owner(name, listener).map(|owner| (name.to_owned(), owner))
    };
    let owners: Result<_, _> = gateway::in_order(&plan).map(owner).collect();
    let owners = owners.map_err(|error| not_started(&error))?;
    // With those that leave or will: they may have to be started again, as the same users, and nobody else gets their numbers.
    let mut with_leaving = plan.clone();
    for (id, service) in &base.services {
        with_leaving.services.entry(id.clone()).or_insert_with(|| service.clone());
    }
    let new_accounts = accounts::of_plan(&with_leaving);
    let before = Launches {
        plan: &base,
        places: &places,
        host: &host,
        sources: &in_force.sources,
        accounts: &accounts,
    };
    let after = Launches { plan: &plan, sources: &sources, accounts: &new_accounts, ..before };
    let surroundings = surroundings(&diff, &before, &after);
    let roles = Roles::of_plan(&plan, start::own_uid());
    let jobs = jobs::Prepared::read(&jobs, &base, &plan);
    let says_else =
        |path: &&PathBuf| sources.certificates.get(*path) != in_force.sources.certificates.get(*path);
    let certificates = plan.tls().flat_map(Tls::files).any(|path| says_else(&path));
    let credentials = plan.credential_files().iter().any(says_else);
    let in_use = InUse::of(&plan, &sources.certificates);
    Ok(Box::new(Prepared {
        base,
        is_back,
        taken_back: if single.is_some() { BTreeSet::new() } else { taken_back(&in_force.sources, &sources) },
        single,
        sources,
        plan,
        limits,
        owners,
        accounts: new_accounts,
        roles,
        diff,
        surroundings,
        rotated: BTreeSet::new(),
        certificates,
        credentials,
        in_use,
        jobs,
    }))
}

/// What the files of certificates and keys say now.
fn read_certificates(
    config: &Config,
    in_force: &Plan,
    refused: impl FnOnce(Report) -> Refusal,
) -> Result<Certificates, Refused> {
    config.certificates().or_else(|_| {
        // Looked at before they are read once more, so that whatever changes from now on is a change.
        let unusable = Some(Box::new(Unusable::look(&config.plan, in_force)));
        config.certificates().map_err(|report| Refused { refusal: refused(report), unusable })
    })
}

/// Those of a configuration that comes back: what is in its files by now, as far as one knows. That a service does not start with what
/// came with them says nothing against them, and the ones before may be known to others, or have expired.
fn that_come_back(config: &Config, own: &Certificates, in_force: &Certificates) -> Certificates {
    let newer = |(path, pem): (&PathBuf, &Pem)| (path.clone(), in_force.get(path).unwrap_or(pem).clone());
    let newer: Certificates = own.iter().map(newer).collect();
    if config.accepts(&newer) { newer } else { own.clone() }
}

/// The sources in force with something applied. What the file does not have either needs no word that it is gone.
fn with_one(in_force: &Sources, single: &Single, plan: &Plan) -> Result<Sources, Refusal> {
    let Single { service, applied } = single;
    if applied.document.is_some() {
        return Ok(in_force.with(service, applied.clone()));
    }
    // One that is on its way out, or has gone by the same word, may be asked to go once more.
    if !plan.services.contains_key(service) && !in_force.applied.contains_key(service.as_str()) {
        return Err(Refusal::UnknownService {
            name: service.to_string(),
            known: plan.services.keys().cloned().collect(),
        });
    }
    let of_file = watt_config::plan(&in_force.of_file());
    Ok(match of_file {
        Ok(of_file) if !of_file.services.contains_key(service) => in_force.without(service),
        _ => in_force.with(service, applied.clone()),
    })
}

/// What was applied and is again as the file has it.
fn taken_back(old: &Sources, new: &Sources) -> BTreeSet<ServiceId> {
    let gone = old.applied.iter().filter(|(name, applied)| new.applied.get(*name) != Some(*applied));
    gone.filter_map(|(name, _)| ServiceId::new(name).ok()).collect()
}

/// The configuration that is in force, without what only has not gone yet.
fn without_leaving(plan: &Plan, in_force: &InForce) -> Plan {
    let leaving = in_force.leaving();
    let mut plan = plan.clone();
    plan.services.retain(|id, _| !leaving.contains_key(id));
    plan
}

fn possible(diff: &Diff) -> Result<(), Refusal> {
    let fields: Vec<&str> = diff.impossible().map(Field::key).collect();
    if fields.is_empty() {
        return Ok(());
    }
    let is_one = fields.len() == 1;
    Err(Refusal::NotReloaded {
        code: "not_while_running",
        message: format!("{} cannot be changed while the application runs", fields.join(", ")),
        hint: Some(format!(
            "put {} back, or run `wattctl down` and `wattctl up`",
            if is_one { "it" } else { "them" }
        )),
    })
}

/// What the starts of services are described with.
#[derive(Clone, Copy)]
struct Launches<'a> {
    plan: &'a Plan,
    places: &'a Places,
    host: &'a Host,
    sources: &'a Sources,
    accounts: &'a Accounts,
}

impl Launches<'_> {
    /// The start of a service's first worker, but for what is another at each start.
    fn of(&self, service: &Service) -> Result<Launch, ExecFailure> {
        let launcher = Launcher {
            plan: self.plan,
            places: self.places,
            host: self.host,
            inherited: &self.sources.env,
            accounts: self.accounts,
        };
        let first = Seat::from(&WorkerId::new(service.id.clone(), 0));
        launcher.launch(service, &first, "", Some(1), Vec::new())
    }
}

/// Services with nothing changed that needs new workers, and whose workers are started otherwise all the same: by another user of
/// that name, without a file that is another one's secret now. A start is a pure function of the plan, so it is compared as a whole.
fn surroundings(diff: &Diff, before: &Launches<'_>, after: &Launches<'_>) -> BTreeSet<ServiceId> {
    let differs = |service: &&Service| {
        let Some(old) = before.plan.services.get(&service.id) else { return false };
        // One that was about to go and comes back has workers too, of the plan that it was in.
        if diff.needs_new_workers(&service.id) {
            return false;
        }
        // Limits change in place, and with them only the size of /tmp, which follows at the next start.
        let limits = Limits { cgroup: old.limits.cgroup.clone(), ..(*service.limits).clone() };
        let same_limits = Service { limits: limits.into(), ..Service::clone(service) };
        before.of(old) != after.of(&same_limits)
    };
    after.plan.services.values().filter(differs).map(|service| service.id.clone()).collect()
}

/// The errors, as `wattctl config check` prints them.
fn refused(report: Report, folder: &Folder) -> Refusal {
    let json = report.to_json();
    let report = match folder {
        Some(folder) => report.seen_from(folder),
        None => report,
    };
    Refusal::Config { text: report.to_string(), report: json }
}

fn overruled(problems: &[String]) -> Refusal {
    Refusal::NotReloaded {
        code: "limits",
        message: format!(
            "limits that were changed with `wattctl limits set` do not go with the configuration: {}",
            problems.join("; ")
        ),
        hint: Some("take them back with `wattctl limits set SERVICE LIMIT=none`".to_owned()),
    }
}

/// Whether this is a difference that is applied by others than the fleet.
pub(super) fn is_limit(field: Field) -> bool {
    matches!(field, Field::CgroupLimits | Field::OomGroup | Field::LimitsTotal | Field::Pressure)
        && field.effect() == Effect::InPlace
}

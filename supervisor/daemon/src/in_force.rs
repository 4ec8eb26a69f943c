//! The configuration in force, as a successor finds it: one memfd that the spawner keeps, replaced by the next one in one step. So
//! whatever happens to a daemon, its successor has the old configuration or the new one, and with that all that follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use watt_config::{Report, Sources};
use watt_core::{
    AppName, RunId, ServiceId,
    fleet::{self, Leaving, Renewal, Spared},
    plan::{Listener, Plan},
};
use watt_os::memfd;

use crate::{addresses, gateway::AllBound, limits::Changes, reload::back::Before, scaling::Scale, status};

/// The name it is kept under.
pub(crate) const PLAN: &str = "plan";

/// The largest: the file, `.env` and the environment, and those of earlier ones of which something is left.
const SIZE_MAX: usize = 16 << 20;

/// What is in force.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    /// What the plan is made from.
    pub(crate) sources: Arc<Sources>,
    /// When it was read: milliseconds since the Unix epoch.
    pub(crate) loaded_at_ms: u64,
    /// The number of each listener's sockets, by what the configuration calls it: each time they are bound anew this is another one.
    pub(crate) listeners: BTreeMap<String, u64>,
    /// The largest that there was.
    pub(crate) last_listener: u64,
    /// Each service's own address in the mesh.
    pub(crate) addresses: BTreeMap<ServiceId, Ipv4Addr>,
    /// What operators changed of its limits.
    pub(crate) limits: Changes,
    /// Services of earlier configurations that have not gone yet.
    pub(crate) leaving: Vec<Left>,
    /// Runs up to these numbers are of an earlier configuration.
    pub(crate) renewal: Renewal,
    /// The configuration before, which comes back if the workers of this one fail.
    pub(crate) before: Option<Before>,
    /// Runs that are of this configuration although later ones are not, because it has come back.
    pub(crate) spared: Spared,
}

/// Services of an earlier configuration that have not gone yet.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub(crate) services: BTreeSet<ServiceId>,
    /// Those that may still need them.
    pub(crate) after: BTreeSet<ServiceId>,
    /// That configuration.
    pub(crate) sources: Arc<Sources>,
}

/// Its JSON form, which begins like that of the sources alone, as earlier versions kept them.
#[derive(Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    sources: Sources,
    #[serde(default)]
    loaded_at_ms: u64,
    /// The number of that of `server`, which was the only one once.
    #[serde(default)]
    gateway: u64,
    /// Those of the others.
    #[serde(default)]
    listeners: BTreeMap<String, u64>,
    #[serde(default)]
    last_listener: u64,
    #[serde(default)]
    addresses: BTreeMap<String, Ipv4Addr>,
    #[serde(default)]
    limits: Changes,
    #[serde(default)]
    leaving: Vec<LeftNote>,
    #[serde(default)]
    renewal: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<BeforeNote>,
    #[serde(default)]
    spared: BTreeMap<String, (u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct BeforeNote {
    sources: Sources,
    renewal: BTreeMap<String, u64>,
    last_run: u64,
    #[serde(default)]
    limits: Changes,
    #[serde(default)]
    scales: BTreeMap<String, Scale>,
    is_due: bool,
}

#[derive(Serialize, Deserialize)]
struct LeftNote {
    services: Vec<String>,
    after: Vec<String>,
    sources: Sources,
}

impl InForce {
    /// A configuration that was read now.
    pub(crate) fn new(sources: Sources) -> InForce {
        InForce {
            sources: Arc::new(sources),
            loaded_at_ms: status::now_ms(),
            listeners: BTreeMap::new(),
            last_listener: 0,
            addresses: BTreeMap::new(),
            limits: Changes::default(),
            leaving: Vec::new(),
            renewal: Renewal::new(),
            before: None,
            spared: Spared::new(),
        }
    }

    /// The one that a predecessor kept. `None` when it cannot be read.
    pub(crate) fn read(kept: &OwnedFd) -> Option<InForce> {
        let bytes = memfd::read_sealed(kept.as_fd(), SIZE_MAX).ok()?;
        let note: Note = serde_json::from_slice(&bytes).ok()?;
        let left = note.leaving.into_iter().map(|left| Left {
            services: ids(left.services).collect(),
            after: ids(left.after).collect(),
            sources: Arc::new(left.sources),
        });
        Some(InForce {
            sources: Arc::new(note.sources),
            loaded_at_ms: note.loaded_at_ms,
            last_listener: note
                .listeners
                .values()
                .copied()
                .chain([note.last_listener, note.gateway])
                .max()
                .unwrap_or(0),
            listeners: note
                .listeners
                .into_iter()
                .chain([(Listener::SERVER.to_owned(), note.gateway)])
                .collect(),
            addresses: by_id(note.addresses).collect(),
            limits: note.limits,
            leaving: left.collect(),
            renewal: runs(note.renewal),
            before: note.before.map(|before| Before {
                sources: Arc::new(before.sources),
                renewal: runs(before.renewal),
                last_run: RunId(before.last_run),
                limits: before.limits,
                scales: by_id(before.scales).collect(),
                is_due: before.is_due,
            }),
            spared: by_id(note.spared).map(|(id, (a, b))| (id, (RunId(a), RunId(b)))).collect(),
        })
    }

    /// The memfd to be kept.
    ///
    /// # Errors
    /// EFBIG when it is larger than a successor would read.
    pub(crate) fn sealed(&self) -> io::Result<OwnedFd> {
        let left = self.leaving.iter().map(|left| LeftNote {
            services: left.services.iter().map(ToString::to_string).collect(),
            after: left.after.iter().map(ToString::to_string).collect(),
            sources: Sources::clone(&left.sources),
        });
        let others = self.listeners.iter().filter(|(name, _)| *name != Listener::SERVER);
        let note = Note {
            sources: Sources::clone(&self.sources),
            loaded_at_ms: self.loaded_at_ms,
            gateway: self.listeners.get(Listener::SERVER).copied().unwrap_or(0),
            listeners: others.map(|(name, number)| (name.clone(), *number)).collect(),
            last_listener: self.last_listener,
            addresses: self.addresses.iter().map(|(id, address)| (id.to_string(), *address)).collect(),
            limits: self.limits.clone(),
            leaving: left.collect(),
            renewal: numbers(&self.renewal),
            before: self.before.as_ref().map(|before| BeforeNote {
                sources: Sources::clone(&before.sources),
                renewal: numbers(&before.renewal),
                last_run: before.last_run.0,
                limits: before.limits.clone(),
                scales: before.scales.iter().map(|(id, scale)| (id.to_string(), scale.clone())).collect(),
                is_due: before.is_due,
            }),
            spared: self.spared.iter().map(|(id, (a, b))| (id.to_string(), (a.0, b.0))).collect(),
        };
        let bytes = serde_json::to_vec(&note)?;
        if bytes.len() > SIZE_MAX {
            return Err(nix::errno::Errno::EFBIG.into());
        }
        memfd::sealed(c"watt-plan", &bytes)
    }

    /// The plan: of the configuration, with the changes of limits and with the services that have not gone yet.
    pub(crate) fn plan(&self, app: &AppName) -> Result<Plan, Report> {
        let mut plan = Plan { name: app.clone(), ..watt_config::plan(&self.sources)? };
        for left in &self.leaving {
            let mut earlier = watt_config::plan(&left.sources)?;
            for id in &left.services {
                if let (false, Some(service)) = (plan.services.contains_key(id), earlier.services.remove(id))
                {
                    plan.services.insert(id.clone(), service);
                }
            }
        }
        Ok(self.limits.apply(plan))
    }

    /// What leaves, for `watt-core`.
    pub(crate) fn leaving(&self) -> BTreeMap<ServiceId, Leaving> {
        let each = self.leaving.iter().flat_map(|left| {
            left.services.iter().map(|id| (id.clone(), Leaving { after: left.after.clone() }))
        });
        each.collect()
    }

    /// The numbers of the listeners that are bound from now on.
    pub(crate) fn bound(&mut self, bound: &AllBound) {
        self.listeners = bound.iter().map(|(name, bound)| (name.clone(), bound.number)).collect();
        self.last_listener = self.listeners.values().copied().chain([self.last_listener]).max().unwrap_or(0);
    }

    /// Gives every service of the plan an address.
    pub(crate) fn address(&mut self, plan: &Plan) {
        self.addresses = addresses::of_services(plan, &self.addresses);
    }

    /// Whether a run is of a configuration before this one.
    pub(crate) fn is_earlier(&self, service: &ServiceId, run: RunId) -> bool {
        let is_spared = fleet::is_spared(&self.spared, service, run);
        !is_spared && self.renewal.get(service).is_some_and(|last| run <= *last)
    }

    /// A service has gone.
    pub(crate) fn forget(&mut self, service: &ServiceId) {
        for left in &mut self.leaving {
            left.services.remove(service);
        }
        self.leaving.retain(|left| !left.services.is_empty());
        self.addresses.remove(service);
        self.renewal.remove(service);
        self.spared.remove(service);
    }

    /// Tells configuration files apart. What else goes into a plan may be secret, and is left out.
    pub(crate) fn digest(&self) -> String {
        format!("{:016x}", addresses::fnv1a(self.sources.text.as_bytes()))
    }
}

fn ids(names: Vec<String>) -> impl Iterator<Item = ServiceId> {
    names.into_iter().filter_map(|name| ServiceId::new(&name).ok())
}

fn runs(note: BTreeMap<String, u64>) -> Renewal {
    by_id(note).map(|(id, run)| (id, RunId(run))).collect()
}

fn numbers(renewal: &Renewal) -> BTreeMap<String, u64> {
    renewal.iter().map(|(id, run)| (id.to_string(), run.0)).collect()
}

fn by_id<T>(values: BTreeMap<String, T>) -> impl Iterator<Item = (ServiceId, T)> {
    values.into_iter().filter_map(|(name, value)| Some((ServiceId::new(&name).ok()?, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        Sources { file: "/srv/watt.yaml".into(), text: text.into(), ..Sources::default() }
    }

    fn id(name: &str) -> ServiceId {
        ServiceId::new(name).unwrap()
    }

    #[test]
    fn it_is_read_back_with_what_leaves() {
        let app = AppName::new("shop").unwrap();
        let mut in_force = InForce::new(sources("services: { api: { command: new } }"));
        in_force.leaving.push(Left {
            services: [id("old")].into(),
            after: [id("api")].into(),
            sources: Arc::new(sources("services: { api: { command: old }, old: { command: old } }")),
        });
        in_force.renewal.insert(id("api"), RunId(7));
        in_force.spared.insert(id("api"), (RunId(2), RunId(5)));
        in_force.before = Some(Before {
            sources: Arc::new(sources("services: { api: { command: before } }")),
            renewal: [(id("api"), RunId(2))].into(),
            last_run: RunId(5),
            limits: Changes::default(),
            scales: BTreeMap::new(),
            is_due: true,
        });
        let plan = in_force.plan(&app).unwrap();
        in_force.address(&plan);
        in_force.listeners = [(Listener::SERVER.to_owned(), 3), ("admin".to_owned(), 5)].into();
        in_force.last_listener = 9;
        let read = InForce::read(&in_force.sealed().unwrap()).unwrap();
        assert_eq!(read.plan(&app).unwrap(), plan);
        assert_eq!(plan.services[&id("api")].command, ["new"]);
        assert_eq!(plan.services[&id("old")].command, ["old"]);
        assert_eq!(
            (&read.addresses, &read.renewal, &read.listeners, read.last_listener),
            (&in_force.addresses, &in_force.renewal, &in_force.listeners, 9)
        );
        let before = read.before.as_ref().unwrap();
        assert_eq!(before.sources.text, "services: { api: { command: before } }");
        assert_eq!((before.renewal[&id("api")], before.last_run, before.is_due), (RunId(2), RunId(5), true));
        assert_eq!(read.spared[&id("api")], (RunId(2), RunId(5)));
        assert_eq!(read.leaving()[&id("old")].after, [id("api")].into());
        in_force.forget(&id("old"));
        assert!(
            in_force.leaving.is_empty() && !in_force.plan(&app).unwrap().services.contains_key(&id("old"))
        );
    }

    /// Runs 3 to 5 were left alone when the configuration they are of came back; 6 and 7 were of the one that failed.
    #[test]
    fn runs_that_were_left_alone_are_none_of_an_earlier_configuration() {
        let mut in_force = InForce::new(sources("services: { api: { command: x } }"));
        in_force.renewal.insert(id("api"), RunId(7));
        in_force.spared.insert(id("api"), (RunId(2), RunId(5)));
        let earlier = (1..=9).filter(|run| in_force.is_earlier(&id("api"), RunId(*run)));
        assert_eq!(earlier.collect::<Vec<_>>(), [1, 2, 6, 7]);
        assert!(!in_force.is_earlier(&id("web"), RunId(1)));
    }

    #[test]
    fn what_an_earlier_version_kept_is_read() {
        let bytes = serde_json::to_vec(&sources("services: { api: { command: x } }")).unwrap();
        let read = InForce::read(&memfd::sealed(c"test", &bytes).unwrap()).unwrap();
        assert_eq!(read.sources.text, "services: { api: { command: x } }");
        assert!(read.addresses.is_empty() && read.leaving.is_empty());
        // It had one listener, and its number alone.
        assert_eq!(read.listeners, [(Listener::SERVER.to_owned(), 0)].into());
    }
}

//! A snapshot, compiled for one thread's request path.

use std::{
    borrow::Cow, cell::Cell, collections::HashMap, num::NonZeroU64, os::fd::OwnedFd, rc::Rc, sync::Arc,
    time::Duration,
};

use watt_api::mesh::{self, Believed, Outlook, Protocol, Snapshot};

use crate::{
    auth::Auths,
    balance::Balance,
    cache,
    caller::UNKNOWN_CALLER,
    ejection::{Ejection, Wards},
    entrances::{Asked, Met, Terms},
    gate::{Gate, Gates},
    guards::Guard,
    pages::Document,
    respond::{Failure, Reason},
    retries::Retries,
    route::Router,
    timer::Ticks,
    to_https::ToHttps,
    worker::{Tally, Worker},
};

/// The names of services end with this.
const SUFFIX: &[u8] = b".plt.local";

/// How many letters may be wrong in a name that is suggested.
const SUGGESTION_DISTANCE_MAX: usize = 3;

/// What a request is decided with.
#[derive(Default)]
pub(crate) struct Table {
    /// The Via field that requests get, as a line.
    pub(crate) via: Box<[u8]>,
    services: HashMap<Box<str>, Rc<Service>>,
    router: Router,
    listeners: Listeners,
    /// How it is known who asks.
    pub(crate) auths: Rc<Auths>,
    /// Of bodies of clients, in bytes a second.
    pub(crate) body_rate_min: Option<NonZeroU64>,
    /// For requests that may change what is stored along another way, where anything is.
    pub(crate) invalidating: Option<Rc<cache::Rules>>,
}

/// A service that can be called.
pub(crate) struct Service {
    pub(crate) name: Rc<str>,
    pub(crate) tally: Rc<Tally>,
    /// Those that take new requests.
    pub(crate) workers: Vec<Rc<Worker>>,
    pub(crate) outlook: Outlook,
    /// Whether it was said that somebody waits for it although it sleeps.
    pub(crate) is_wanted: Cell<bool>,
    callers: Option<Vec<String>>,
    /// What requests have to pass, whoever calls.
    pub(crate) guard: Option<Box<Guard>>,
    pub(crate) reserved_ports: Vec<u16>,
    pub(crate) protocol: Protocol,
    /// Whether it is a server outside of the application.
    pub(crate) is_upstream: bool,
    /// What requests to it have in `Host`, if that is not what they came with.
    pub(crate) host: Option<Box<[u8]>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) first_byte_timeout: Ticks,
    pub(crate) idle_timeout: Ticks,
    /// Of one try, and of the whole request.
    pub(crate) try_timeout: Option<Duration>,
    pub(crate) total_timeout: Option<Duration>,
    pub(crate) retries: Retries,
    /// How they are spread over its workers.
    pub(crate) balance: Balance,
    /// When one of those is left out, if ever.
    pub(crate) ejection: Option<Ejection>,
    /// What its requests pass, where it has limits of its own.
    pub(crate) gate: Option<Arc<Gate>>,
    /// Whose word counts there on how urgent a request is.
    pub(crate) believes: Believed,
    pub(crate) hold_timeout: Duration,
    /// On this thread.
    pub(crate) hold_requests_max: usize,
    /// Which of its responses are stored.
    pub(crate) cache: Option<Rc<cache::Rules>>,
    /// Its name, for what other threads see.
    pub(crate) shared_name: Arc<str>,
}

/// What a thread keeps from one table to the next.
pub(crate) struct Kept<'k> {
    /// None of one that no request is sent to.
    pub(crate) worker: &'k dyn Fn(&mesh::Worker) -> Option<Rc<Worker>>,
    /// By the name of an upstream.
    pub(crate) outside: &'k dyn Fn(&str) -> Rc<Worker>,
    /// By the number of a route's files.
    pub(crate) folder: &'k dyn Fn(&str) -> Option<Arc<OwnedFd>>,
    /// By what the daemon calls it.
    pub(crate) document: &'k dyn Fn(&str) -> Option<Arc<Document>>,
    /// By the name of a service.
    pub(crate) tally: &'k dyn Fn(&str) -> Rc<Tally>,
    pub(crate) gates: &'k Gates,
    pub(crate) wards: &'k Wards,
}

impl Table {
    /// The table after `before`.
    pub(crate) fn new(before: &Table, snapshot: &Snapshot, threads: usize, kept: &Kept<'_>) -> Table {
        let compile = |(name, service): (&String, &mesh::Service)| {
            let workers = service.workers.iter().filter_map(kept.worker).filter(|worker| worker.is_ready());
            let upstream = service.upstream.as_ref();
            let workers: Vec<_> = workers.chain(upstream.map(|_| (kept.outside)(name))).collect();
            let ward = kept.wards.get(name);
            for (worker, ward) in workers.iter().flat_map(|worker| Some((worker, ward?))) {
                worker.standing.get_or_init(|| ward.standing(worker.run));
            }
            let tally = (kept.tally)(name);
            tally.meter.switch(service.measured);
            let service = Service {
                name: name.as_str().into(),
                tally,
                workers,
                outlook: service.outlook.clone(),
                is_wanted: Cell::new(false),
                callers: service.callers.clone(),
                guard: Guard::new(&service.guard).map(Box::new),
                reserved_ports: service.reserved_ports.clone(),
                protocol: service.protocol,
                is_upstream: upstream.is_some(),
                host: upstream.and_then(|upstream| Some(upstream.host.as_deref()?.as_bytes().into())),
                connect_timeout: Duration::from_millis(service.connect_timeout_ms),
                first_byte_timeout: Ticks::from_ms(service.first_byte_timeout_ms),
                idle_timeout: Ticks::from_ms(service.idle_timeout_ms),
                try_timeout: some_ms(service.traffic.try_timeout_ms),
                total_timeout: some_ms(service.traffic.total_timeout_ms),
                retries: Retries::new(&service.traffic.retries),
                balance: Balance::from(&service.traffic.balance),
                ejection: service
                    .traffic
                    .ejection
                    .as_ref()
                    .zip(ward)
                    .map(|(rules, ward)| Ejection::new(rules, ward)),
                gate: kept.gates.get(name).cloned(),
                believes: service.traffic.bulkhead.as_ref().map(|rules| rules.believes).unwrap_or_default(),
                hold_timeout: Duration::from_millis(service.hold_timeout_ms),
                hold_requests_max: service.hold_requests_max.div_ceil(threads),
                cache: service.cache.as_ref().map(|rules| Rc::new(cache::Rules::new(rules))),
                shared_name: name.as_str().into(),
            };
            (name.as_str().into(), Rc::new(service))
        };
        let services = snapshot.services.iter().map(compile).collect();
        Table {
            via: via(&snapshot.app),
            auths: Auths::renewed(&before.auths, &snapshot.auths),
            router: before.router.renewed(&snapshot.routes, &services, kept.folder, kept.document),
            listeners: Listeners::renewed(&before.listeners, snapshot, &services, kept),
            body_rate_min: NonZeroU64::new(snapshot.body_rate_min),
            invalidating: cache::is_used(snapshot)
                .then(|| Rc::new(cache::Rules::new(&mesh::Cache::default()))),
            services,
        }
    }

    /// Where requests may go that came in on these terms. `None` when the listener is gone and nobody else's ways are right for them.
    pub(crate) fn ways(&self, terms: &Terms) -> Option<Ways<'_>> {
        let common = Ways { router: &self.router, to_https: None };
        let Some(met) = terms.met() else { return Some(common) };
        if !self.listeners.has_own && !met.has_own_routes {
            return Some(common);
        }
        let own = match self.listeners.find(met) {
            // Another listener is where it came in, and its ways are for those who came as that one asks.
            Some(own) if own.asked.name != met.asked.name && !own.asked.is_as(&met.asked) => return None,
            Some(own) => own,
            None => return (!met.has_own_routes).then_some(common),
        };
        Some(own.routes.as_ref().map_or(common, |router| Ways { router, to_https: own.to_https.as_ref() }))
    }

    pub(crate) fn service(&self, name: &str) -> Option<&Rc<Service>> {
        self.services.get(name)
    }

    /// The service that an authority names: `users.plt.local`, with or without port.
    pub(crate) fn service_of_authority(&self, authority: &[u8]) -> Result<&Rc<Service>, Failure> {
        let host = crate::route::host_of(authority);
        let lower = lower_case(host);
        let name = lower.strip_suffix(SUFFIX).and_then(|name| std::str::from_utf8(name).ok());
        name.and_then(|name| self.services.get(name)).ok_or_else(|| self.unknown(&lower, name))
    }

    fn unknown(&self, host: &[u8], name: Option<&str>) -> Failure {
        let host = String::from_utf8_lossy(host);
        let Some(name) = name else {
            let message = format!("`{host}` is no name of the mesh; those are `<service>.plt.local`.");
            return Failure::new(Reason::UnknownHost, None, message);
        };
        let message = match self.nearest(name) {
            Some(nearest) => format!("There is no service `{name}`. Did you mean `{nearest}`?"),
            None => format!("There is no service `{name}`."),
        };
        Failure::new(Reason::UnknownService, Some(name.into()), message)
    }

    fn nearest(&self, name: &str) -> Option<&str> {
        let distance = |other: &str| strsim::damerau_levenshtein(name, other);
        let candidates = self.services.keys().map(|other| (distance(other), &**other));
        candidates.filter(|(distance, _)| *distance <= SUGGESTION_DISTANCE_MAX).min().map(|(_, other)| other)
    }
}

/// Where requests of a listener may go.
pub(crate) struct Ways<'t> {
    pub(crate) router: &'t Router,
    /// What no route takes is sent there.
    pub(crate) to_https: Option<&'t ToHttps>,
}

/// What listeners have for themselves.
#[derive(Default)]
struct Listeners {
    all: Vec<Own>,
    /// Whether any of them has something.
    has_own: bool,
}

struct Own {
    number: Box<str>,
    asked: Asked,
    routes: Option<Router>,
    to_https: Option<ToHttps>,
}

impl Listeners {
    fn renewed(
        before: &Listeners,
        snapshot: &Snapshot,
        services: &HashMap<Box<str>, Rc<Service>>,
        kept: &Kept<'_>,
    ) -> Listeners {
        let own = |(number, listener): (&String, &mesh::Listener)| {
            let known = before.all.iter().find(|own| own.asked.name == listener.name);
            let known = known.and_then(|own| own.routes.as_ref());
            let renewed = |routes: &Vec<mesh::Route>| {
                known.unwrap_or(&Router::default()).renewed(routes, services, kept.folder, kept.document)
            };
            Own {
                number: number.as_str().into(),
                asked: Asked::by(listener),
                routes: listener.routes.as_ref().map(renewed),
                to_https: listener.to_https.map(ToHttps::new),
            }
        };
        let all: Vec<Own> = snapshot.listeners.iter().map(own).collect();
        Listeners { has_own: all.iter().any(|own| own.routes.is_some()), all }
    }

    /// By its name, wherever it is by now; else by its sockets, for one that is called otherwise by now.
    fn find(&self, met: &Met) -> Option<&Own> {
        let is_named = |own: &&Own| !met.asked.name.is_empty() && own.asked.name == met.asked.name;
        let by_name = self.all.iter().find(is_named);
        by_name.or_else(|| self.all.iter().find(|own| own.number == met.number))
    }
}

impl Service {
    /// Whether this service lets itself be called by `caller`. `None` is an operator, who could change the policies as
    /// well; a caller that the kernel does not let us name is [`UNKNOWN_CALLER`].
    pub(crate) fn admits(&self, caller: Option<&str>) -> Result<(), Failure> {
        let (Some(callers), Some(caller)) = (&self.callers, caller) else { return Ok(()) };
        if callers.iter().any(|other| other == caller) {
            return Ok(());
        }
        let who = if caller == UNKNOWN_CALLER {
            "The caller, which is no known service,".to_owned()
        } else {
            format!("`{caller}`")
        };
        let rule =
            if callers.is_empty() { "no service".to_owned() } else { format!("`{}`", callers.join("`, `")) };
        let message = format!("{who} may not call `{}`: the policies let only {rule} call it.", self.name);
        Err(Failure::new(Reason::PolicyDenied, Some(self.name.clone()), message))
    }
}

/// A length of time of which 0 is none.
fn some_ms(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

/// Nearly all names come in lower case already.
pub(crate) fn lower_case(name: &[u8]) -> Cow<'_, [u8]> {
    if name.iter().any(u8::is_ascii_uppercase) { name.to_ascii_lowercase().into() } else { name.into() }
}

/// `Via: 1.1 <app>`. A pseudonym is a token (RFC 9110 §7.6.3).
fn via(app: &str) -> Box<[u8]> {
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || "-._".contains(letter) { letter } else { '-' };
    let app: String = app.chars().map(plain).collect();
    format!("Via: 1.1 {}\r\n", if app.is_empty() { "watt" } else { &app }).into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first table of a thread.
    fn nothing_kept(snapshot: &Snapshot, threads: usize) -> Table {
        let kept = Kept {
            worker: &|_| unreachable!("no workers"),
            outside: &|_| unreachable!("nobody outside"),
            folder: &|_| None,
            document: &|_| None,
            tally: &|_| Rc::default(),
            gates: &Gates::new(),
            wards: &Wards::new(),
        };
        Table::new(&Table::default(), snapshot, threads, &kept)
    }

    fn table(names: &[&str]) -> Table {
        let services = names.iter().map(|name| ((*name).to_owned(), mesh::Service::default())).collect();
        let snapshot = Snapshot { app: "my shop".into(), services, ..Snapshot::default() };
        nothing_kept(&snapshot, 2)
    }

    #[test]
    fn names_of_the_mesh() {
        let table = table(&["users", "orders"]);
        assert_eq!(&*table.via, b"Via: 1.1 my-shop\r\n");
        for authority in
            ["users.plt.local", "USERS.plt.LOCAL:80", "users.plt.local.", "users.plt.local.:3000"]
        {
            assert_eq!(
                &*table.service_of_authority(authority.as_bytes()).unwrap_or_else(|_| panic!()).name,
                "users"
            );
        }
        let message = |authority: &str| match table.service_of_authority(authority.as_bytes()) {
            Ok(service) => panic!("{}", service.name),
            Err(failure) => (failure.reason, failure.message),
        };
        let (reason, text) = message("user.plt.local");
        assert_eq!(
            (reason, &*text),
            (Reason::UnknownService, "There is no service `user`. Did you mean `users`?")
        );
        assert_eq!(message("completely.plt.local").1, "There is no service `completely`.");
        assert_eq!(message("users").0, Reason::UnknownHost);
        assert_eq!(message("").0, Reason::UnknownHost);
    }

    #[test]
    fn a_policy_names_who_may_call() {
        let mut snapshot = Snapshot::default();
        let callers = Some(vec!["web".to_owned(), "jobs".to_owned()]);
        snapshot.services.insert("api".into(), mesh::Service { callers, ..mesh::Service::default() });
        let table = nothing_kept(&snapshot, 1);
        let api = table.service("api").unwrap();
        assert!(api.admits(Some("web")).is_ok());
        let failure = api.admits(Some("orders")).unwrap_err();
        assert_eq!(
            failure.message,
            "`orders` may not call `api`: the policies let only `web`, `jobs` call it."
        );
        let failure = api.admits(Some(UNKNOWN_CALLER)).unwrap_err();
        assert!(failure.message.starts_with("The caller, which is no known service, may not"));
        assert!(api.admits(None).is_ok(), "operators may");
    }

    /// A client that came in by plain text never gets the routes of those who show a certificate, whoever has which port by now.
    #[test]
    fn connections_have_the_routes_of_their_own_listener_when_two_change_places() {
        let listener = |name: &str, is_secure: bool| {
            let tls = mesh::Tls { client_required: true, ..mesh::Tls::default() };
            mesh::Listener {
                name: name.into(),
                tls: is_secure.then_some(tls),
                routes: Some(Vec::new()),
                ..mesh::Listener::default()
            }
        };
        let snapshot = |listeners: &[(&str, mesh::Listener)]| {
            let listeners = listeners.iter().map(|(number, one)| ((*number).to_owned(), one.clone()));
            Snapshot { listeners: listeners.collect(), ..Snapshot::default() }
        };
        let terms = |snapshot: &Snapshot| {
            crate::entrances::Entrances::default().next(&snapshot.listeners).get("1").terms
        };
        let (open, strict) = (listener("open", false), listener("strict", true));
        let terms = terms(&snapshot(&[("1", open.clone()), ("2", strict.clone())]));
        let of = |listeners: &[(&str, mesh::Listener)]| {
            let table = nothing_kept(&snapshot(listeners), 1);
            let ways = table.ways(&terms)?;
            let is_own = |own: &&Own| own.routes.as_ref().is_some_and(|own| std::ptr::eq(own, ways.router));
            table.listeners.all.iter().find(is_own).map(|own| own.asked.name.clone())
        };
        assert_eq!(of(&[("1", open.clone()), ("2", strict.clone())]).as_deref(), Some("open"));
        assert_eq!(of(&[("2", open.clone()), ("1", strict.clone())]).as_deref(), Some("open"));
        assert_eq!(of(&[("1", strict)]), None, "it is gone, and its place is another one's");
        assert_eq!(of(&[("1", listener("renamed", false))]).as_deref(), Some("renamed"));
    }
}

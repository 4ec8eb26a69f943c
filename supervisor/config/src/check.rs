//! Services looked at together: names that do not exist, circles, collisions.

mod groups;
mod listeners;
mod routes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use watt_core::{
    ServiceId,
    plan::{Listen, ListenAt, Network, RestartPolicy, Secret, Work},
};

use crate::{
    decode::{GroupDraft, JobDraft, ListenerDraft, PolicyDraft, RouteDraft, ServiceDraft},
    report::{Problem, Problems, did_you_mean},
    scalar::quote,
    source::Span,
};

pub(crate) use self::{groups::groups, listeners::listeners, routes::routes};

/// What services do to each other.
pub(crate) fn services(services: &[ServiceDraft], listeners: &[ListenerDraft], problems: &mut Problems) {
    duplicates(services, problems);
    circles(services, problems);
    completions(services, problems);
    ports(services, listeners, problems);
}

/// No header is written to a log in which keys come.
pub(crate) fn logged_headers(logged: &[(String, Span)], routes: &[&RouteDraft], problems: &mut Problems) {
    let of_keys = |name: &String| {
        let mut auths = routes.iter().filter_map(|draft| draft.route.guard.auth.as_ref());
        auths.any(|auth| (!auth.keys.is_empty() || auth.key_file.is_some()) && auth.key_header == *name)
    };
    for (name, span) in logged.iter().filter(|(name, _)| of_keys(name)) {
        let message = format!("keys come in {}, and are not written to a log", quote(name));
        problems.push(Problem::new(*span, message).hint("remove it"));
    }
}

/// What names services.
pub(crate) struct Naming<'a> {
    pub(crate) services: &'a [ServiceDraft],
    pub(crate) groups: &'a [GroupDraft],
    pub(crate) routes: &'a [&'a RouteDraft],
    pub(crate) policies: &'a [PolicyDraft],
    pub(crate) jobs: &'a [JobDraft],
    /// Those that an operator took out of the application.
    pub(crate) removed: BTreeSet<&'a ServiceId>,
}

/// Names that are used have to exist.
pub(crate) fn references(naming: &Naming<'_>, problems: &mut Problems) {
    let Naming { services, groups, routes, policies, jobs, removed } = naming;
    let known: BTreeSet<&ServiceId> = services.iter().map(|draft| &draft.service.id).collect();
    let mut check = |id: &ServiceId, at: Span, by: Option<&ServiceId>| {
        if known.contains(id) || problems.is_full() {
            return;
        }
        let name = quote(id.as_str());
        if removed.contains(id) {
            let why =
                by.map_or("it is named here".to_owned(), |by| format!("{} needs it", quote(by.as_str())));
            let problem = Problem::new(at, format!("{name} is taken out of the application, and {why}"));
            return problems.push(problem.hint("change first what names it"));
        }
        let names = || known.iter().map(|id| id.as_str());
        let hint = did_you_mean(id.as_str(), names()).unwrap_or_else(|| {
            let shown: Vec<_> = names().take(10).map(quote).collect();
            format!("the services are {}{}", shown.join(", "), if known.len() > 10 { ", …" } else { "" })
        });
        problems.push(Problem::new(at, format!("there is no service {name}")).hint(hint));
    };
    for draft in *services {
        let by = Some(&draft.service.id);
        draft.dependencies.iter().for_each(|(id, _, at)| check(id, *at, by));
    }
    for draft in *services {
        let by = Some(&draft.service.id);
        draft.receivers.iter().chain(&draft.callers).for_each(|(id, at)| check(id, *at, by));
    }
    for (id, at) in groups.iter().flat_map(|draft| &draft.services) {
        check(id, *at, None);
    }
    for (id, at) in routes.iter().flat_map(|draft| &draft.services) {
        check(id, *at, None);
    }
    for draft in *policies {
        check(&draft.policy.from, draft.from_at, None);
        check(&draft.policy.to, draft.to_at, None);
    }
    for draft in *jobs {
        check(&draft.job.service, draft.service_at, None);
    }
}

/// Calls of jobs and webhooks that nobody would take.
pub(crate) fn calls(services: &[ServiceDraft], jobs: &[JobDraft], problems: &mut Problems) {
    let calls = jobs.iter().filter(|draft| matches!(draft.job.work, Work::Call(_)));
    let calls = calls.map(|draft| (&draft.job.service, draft.work_at));
    let webhooks = services.iter().flat_map(|draft| &draft.receivers).map(|(id, at)| (id, *at));
    for (id, at) in webhooks.chain(calls) {
        let target = services.iter().find(|service| service.service.id == *id);
        let deaf = target.filter(|target| target.service.listen == Listen::None && !problems.is_full());
        if let Some(target) = deaf {
            let name = quote(id.as_str());
            let message = format!("{name} accepts no connections, so no request can be sent to it");
            let problem = Problem::new(at, message);
            problems.push(problem.related(target.listen_at.unwrap_or(target.at), "its `listen` is `none`"));
        }
    }
}

/// Secrets that services name have to exist.
pub(crate) fn secrets(
    services: &[ServiceDraft],
    secrets: &BTreeMap<String, Secret>,
    problems: &mut Problems,
) {
    let names = || secrets.keys().map(String::as_str);
    for (name, at) in services.iter().flat_map(|draft| &draft.secrets) {
        if !secrets.contains_key(name) && !problems.is_full() {
            let hint = did_you_mean(name, names()).unwrap_or_else(|| {
                format!("write it at the top of the file: `secrets: {{ {name}: {{ file: … }} }}`")
            });
            problems.push(Problem::new(*at, format!("there is no secret {}", quote(name))).hint(hint));
        }
    }
}

/// Only the list form can have two services of one name; in a table the second is a duplicate key.
fn duplicates(services: &[ServiceDraft], problems: &mut Problems) {
    let mut first: BTreeMap<&ServiceId, Span> = BTreeMap::new();
    for draft in services {
        match first.get(&draft.service.id) {
            Some(place) => problems.push(
                Problem::new(
                    draft.at,
                    format!("two services are called {}", quote(draft.service.id.as_str())),
                )
                .related(*place, "the first one is here")
                .hint("give one of them another name"),
            ),
            None => {
                first.insert(&draft.service.id, draft.at);
            }
        }
    }
}

/// Where the walk along dependencies has been.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    /// On the way from the start to where the walk is.
    OnPath,
    Done,
}

/// Notes each circle of dependencies once, with its path. Walks with a stack of its own: a chain may be as long as
/// there are services.
fn circles(services: &[ServiceDraft], problems: &mut Problems) {
    let index: HashMap<&ServiceId, usize> =
        services.iter().enumerate().map(|(index, draft)| (&draft.service.id, index)).collect();
    let mut marks = vec![Mark::New; services.len()];
    for start in 0..services.len() {
        if marks[start] != Mark::New || problems.is_full() {
            continue;
        }
        // Each service on the path, and which of its dependencies is looked at next.
        let mut path = vec![(start, 0)];
        marks[start] = Mark::OnPath;
        while let Some((at, next)) = path.last_mut() {
            let at = *at;
            let Some((id, _, span)) = services[at].dependencies.get(*next) else {
                marks[at] = Mark::Done;
                path.pop();
                continue;
            };
            *next += 1;
            let Some(&to) = index.get(id) else { continue };
            match marks[to] {
                Mark::Done => {}
                Mark::New => {
                    marks[to] = Mark::OnPath;
                    path.push((to, 0));
                }
                Mark::OnPath if problems.is_full() => return,
                Mark::OnPath => {
                    let members = path.iter().map(|(member, _)| *member).skip_while(|member| *member != to);
                    problems.push(circle(services, &members.collect::<Vec<_>>(), *span));
                }
            }
        }
    }
}

fn circle(services: &[ServiceDraft], members: &[usize], at: Span) -> Problem {
    const SHOWN_MAX: usize = 20;
    let name = |member: &usize| services[*member].service.id.as_str();
    let mut names: Vec<&str> = members.iter().take(SHOWN_MAX).map(name).collect();
    if members.len() > SHOWN_MAX {
        names.push("…");
    }
    names.extend(members.first().map(name));
    let message = match members {
        [_] => format!("{} depends on itself", quote(names[0])),
        _ => format!("services depend on each other in a circle: {}", names.join(" -> ")),
    };
    Problem::new(at, message).hint("none of them could ever start; remove one of the dependencies")
}

/// Who waits for the completion of a service that is started again whenever it ends waits for ever.
fn completions(services: &[ServiceDraft], problems: &mut Problems) {
    let by_name: HashMap<&ServiceId, &ServiceDraft> =
        services.iter().map(|draft| (&draft.service.id, draft)).collect();
    for (id, dependency, at) in services.iter().flat_map(|draft| &draft.dependencies) {
        let Some(target) = by_name.get(id) else { continue };
        if dependency.condition.is_end() && target.service.restart.policy == RestartPolicy::Always {
            let problem = Problem::new(
                *at,
                format!("{} never completes: it is restarted after every exit", quote(id.as_str())),
            );
            problems.push(
                problem
                    .related(target.restart_at.unwrap_or(target.at), "its restart policy is `always`")
                    .hint(format!("give {} `restart: on-failure` or `restart: never`", quote(id.as_str()))),
            );
        }
    }
}

/// On the host's network a port can be listened on once.
fn ports(services: &[ServiceDraft], listeners: &[ListenerDraft], problems: &mut Problems) {
    let mut first: HashMap<u16, (&ServiceId, Span)> = HashMap::new();
    for draft in services.iter().filter(|draft| draft.service.network == Network::Host) {
        let Listen::Port(Some(port)) = draft.service.listen else { continue };
        let at = draft.listen_at.unwrap_or(draft.at);
        if draft.service.workers.most().get() > 1 {
            let message = format!(
                "{} workers cannot all listen on port {port} of the host",
                draft.service.workers.most()
            );
            problems.push(
                Problem::new(at, message).hint("write `network: private`, `listen: port`, or `workers: 1`"),
            );
        }
        if let Some((other, place)) = first.get(&port.get()) {
            let problem =
                Problem::new(at, format!("port {port} of the host is taken by {}", quote(other.as_str())));
            problems.push(
                problem.related(*place, "it listens there").hint("write `network: private` or another port"),
            );
        } else {
            first.insert(port.get(), (&draft.service.id, at));
        }
        let takes_it = |draft: &&ListenerDraft| match draft.listen_at() {
            ListenAt::Tcp { hostname, port: taken } => *taken == port.get() && meets_localhost(*hostname),
            ListenAt::Unix { .. } => false,
        };
        if let Some(listener) = listeners.iter().find(takes_it) {
            let problem = Problem::new(at, format!("port {port} of the host is taken by the gateway"));
            let place = listener.place_at.or(listener.at);
            let problem = match place {
                Some(place) => problem.related(place, "it listens there"),
                None => problem,
            };
            problems.push(problem.hint("write `network: private` or another port"));
        }
    }
}

/// Whether a listener here is in the way of a program that listens on localhost or on all addresses.
fn meets_localhost(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

//! One service.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU16,
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use watt_core::{
    ServiceId,
    plan::{Condition, Dependency, Listen, Protocol, Restart, Service, Stop},
};

use super::{
    Decoder, Text,
    app::suggest_name,
    cache, command, egress, environment,
    fields::{Field, Fields, Written, show_word, word_of},
    guard,
    hooks::{self, Hooks},
    limits, openapi, pressure,
    probes::{self, Probes},
    roll,
    sandbox::{self, Base},
    scheduling, secrets, traffic, workers,
};
use crate::{
    keys::{
        BACKOFF, CONDITION, DEPENDENCY, GIVE_UP, LISTEN, ListenWord, NETWORK, ORDER, POLICY, PROTOCOL,
        RESTART, ROLE, SERVICE, STOP,
    },
    placeholder::PER_WORKER,
    report::Problem,
    scalar::{Bad, Scalar, Signal, Whole, quote},
    show::Shown,
    source::Span,
    tree::{Node, Value},
};

/// A service with the places that looking at all services together needs.
#[derive(Debug)]
pub(crate) struct ServiceDraft {
    pub(crate) service: Service,
    /// Where its name is.
    pub(crate) at: Span,
    /// Each dependency's place.
    pub(crate) dependencies: Vec<(ServiceId, Dependency, Span)>,
    /// Where `listen` was written.
    pub(crate) listen_at: Option<Span>,
    /// Where `restart` was written.
    pub(crate) restart_at: Option<Span>,
    /// Each service that gets a webhook, with its place.
    pub(crate) receivers: Vec<(ServiceId, Span)>,
    /// The services that its rules name, and where.
    pub(crate) callers: Vec<(ServiceId, Span)>,
    /// Each secret's name with its place.
    pub(crate) secrets: Vec<(String, Span)>,
    /// The ceiling of all its workers, with its places.
    pub(crate) total: limits::CgroupDraft,
}

/// What every service of the application starts from.
pub(super) struct Common {
    /// Its environment.
    pub(super) env: BTreeMap<String, Text>,
    /// What it may see and do.
    pub(super) sandbox: Base,
}

/// Reads a service's name.
pub(super) fn id(d: &mut Decoder<'_>, text: &str, span: Span) -> Option<ServiceId> {
    match ServiceId::new(text) {
        Ok(id) => Some(id),
        Err(error) => {
            let hint = suggest_name(text).map(|name| format!("did you mean {}?", quote(&name)));
            let message = format!("{} cannot be a service's name: {error}", quote(text));
            d.problem(Problem::new(span, message).maybe_hint(hint));
            None
        }
    }
}

/// A service of a list: its name is in `id`.
pub(super) fn listed<'n>(d: &mut Decoder<'_>, node: &'n Node) -> Option<(ServiceId, Field<'n>)> {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::Null | Value::Scalar { .. } | Value::List(_) => {
            let problem =
                Problem::new(node.span, format!("a service is a table of keys, and this is {}", node.kind()));
            d.problem(problem.hint("for example `- { id: web, command: ./web }`"));
            return None;
        }
    };
    let Some(entry) = entries.iter().find(|entry| entry.key.text == "id") else {
        let at = entries.first().map_or(node.span, |entry| entry.key.span);
        d.problem(Problem::new(at, "a service in a list needs an `id`").hint("for example `id: web`"));
        return None;
    };
    let field = Field::from(entry);
    let text = d.scalar(field.node, field.at(), "id", "a name", &[])?;
    let id = id(d, &text.text, text.span)?;
    Some((id, Field { key_span: text.span, node }))
}

/// Decodes a service.
pub(super) fn decode(
    d: &mut Decoder<'_>,
    id: ServiceId,
    field: Field<'_>,
    common: &Common,
) -> (ServiceDraft, Shown) {
    let mut f = Fields::open(d, &SERVICE, Some(field), None);
    check_id(&mut f, &id);
    let path = f.path("path").map(|written| written.value).unwrap_or_default();
    let command = match f.field("command") {
        Some(field) => command::decode(&mut f, "command", field, PER_WORKER),
        None => {
            f.missing("command");
            Vec::new()
        }
    };
    let listen = listen(&mut f);
    let env_field = f.field("env");
    let env = environment::decode(&mut f, env_field, &common.env, listen.value);
    let unset_env = environment::unset(&mut f);
    let stdin = f.path("stdin").map(|written| written.value);
    let workers = workers::decode(&mut f, listen.value);
    let slow_start =
        f.scalar::<Duration>("slow_start").map(|written| written.value).filter(|time| !time.is_zero());
    let protocol = protocol(&mut f, listen.value);
    let network = f.word_or_default("network", &NETWORK).value;
    let sandbox_field = f.field("sandbox");
    let sandbox = sandbox::decode(f.d, sandbox_field, &common.sandbox);
    f.show("sandbox", sandbox.shown().clone());
    let egress = egress::decode(&mut f, network, sandbox.sandbox().profile);
    let dependencies = dependencies(&mut f);
    let Probes { startup, ready, health } = probes::decode(&mut f, listen.value);
    let restart_field = f.field("restart");
    let restart = restart(&mut f, restart_field);
    let roll = roll::decode(&mut f);
    let stop = stop(&mut f);
    let Hooks { hooks, receivers } = hooks::decode(&mut f);
    let limits_field = f.field("limits");
    let (limits, each, shown_limits) = limits::decode(f.d, limits_field);
    f.show("limits", shown_limits);
    let total_field = f.field("limits_total");
    let (total, shown_total) = limits::ceiling(f.d, total_field);
    f.show("limits_total", shown_total);
    limits::within(f.d, ("a worker", &each), ("the whole service", &total));
    let pressure = pressure::decode(&mut f, &limits.cgroup);
    let scheduling = scheduling::decode(&mut f);
    let secrets = secrets::of_service(&mut f);
    let management = f.word("management", &ROLE).map(|written| written.value);
    let fd_store: Written<Whole<0, 128>> = f.value("fd_store");
    let fd_store = u16::try_from(fd_store.value.0).unwrap_or(0);
    probes::leaves_room(&mut f, &ready, listen.value, fd_store);
    let timeouts = traffic::timeouts(&mut f);
    let traffic = traffic::decode(&mut f, id.as_str());
    let (guard, callers) = guard::of_service(&mut f, id.as_str());
    let cache = cache::of_service(&mut f);
    let openapi = openapi::of_service(&mut f, listen.value);
    let shown = f.close();

    let service = Service {
        id,
        path,
        command,
        env,
        unset_env,
        stdin,
        workers,
        slow_start,
        listen: listen.value,
        protocol,
        network,
        egress,
        depends_on: dependencies.iter().map(|(id, dependency, _)| (id.clone(), *dependency)).collect(),
        startup,
        ready: ready.into(),
        health,
        restart: restart.into(),
        roll,
        stop,
        hooks,
        limits: limits.into(),
        limits_total: total.limits.clone().into(),
        pressure: pressure.into(),
        scheduling,
        sandbox: Arc::clone(sandbox.sandbox()),
        secrets: secrets.iter().map(|(file, name, _)| (file.clone(), name.clone())).collect(),
        management,
        fd_store,
        timeouts: timeouts.into(),
        traffic: traffic.into(),
        guard: guard.into(),
        cache,
        openapi,
    };
    (
        ServiceDraft {
            service,
            at: field.key_span,
            dependencies,
            listen_at: listen.span,
            restart_at: restart_field.map(|field| field.key_span),
            receivers,
            callers,
            secrets: secrets.into_iter().map(|(_, name, at)| (name, at)).collect(),
            total,
        },
        shown,
    )
}

/// `id` inside a service is for lists. In a table it could only repeat the key.
fn check_id(f: &mut Fields<'_, '_, '_>, id: &ServiceId) {
    if let Some(field) = f.field("id")
        && let Value::Scalar { text, .. } = &field.node.value
        && ServiceId::new(text).is_ok_and(|written| written != *id)
        && !text.contains('{')
    {
        let message =
            format!("this service is called {} by its key and {} here", quote(id.as_str()), quote(text));
        f.d.problem(Problem::new(field.node.span, message).hint("remove `id`"));
    }
}

fn listen(f: &mut Fields<'_, '_, '_>) -> Written<Listen> {
    let parse = |text: &str| match Whole::<1, 65535>::parse(text) {
        Ok(Whole(number)) => Ok(Listen::Port(u16::try_from(number).ok().and_then(NonZeroU16::new))),
        Err(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => Err(Bad {
            message: format!("{} is not a port", quote(text)),
            hint: Some("between 1 and 65535".into()),
        }),
        Err(_) => word_of(text, &LISTEN).map(|word| match word {
            ListenWord::Auto => Listen::Auto,
            ListenWord::Unix => Listen::Unix,
            ListenWord::Fd => Listen::Fd,
            ListenWord::Port => Listen::Port(None),
            ListenWord::None => Listen::None,
        }),
    };
    let show = |listen: &Listen| match listen {
        Listen::Auto => show_word(ListenWord::Auto, &LISTEN),
        Listen::Unix => show_word(ListenWord::Unix, &LISTEN),
        Listen::Fd => show_word(ListenWord::Fd, &LISTEN),
        Listen::Port(None) => show_word(ListenWord::Port, &LISTEN),
        Listen::Port(Some(port)) => json!(port.get()),
        Listen::None => show_word(ListenWord::None, &LISTEN),
    };
    f.parsed("listen", parse, show).unwrap_or(Written { value: Listen::Auto, span: None })
}

fn protocol(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Protocol {
    let written = f.word_or_default("protocol", &PROTOCOL);
    if let (Listen::None, Protocol::H2c, Some(span)) = (listen, written.value, written.span) {
        let message = "this service accepts no connections: its `listen` is `none`";
        f.d.problem(Problem::new(span, message).hint("remove `protocol`, or `listen: none`"));
    }
    written.value
}

fn dependencies(f: &mut Fields<'_, '_, '_>) -> Vec<(ServiceId, Dependency, Span)> {
    let Some(field) = f.field("depends_on") else { return Vec::new() };
    let mut found: Vec<(ServiceId, Dependency, Span)> = Vec::new();
    let mut shown = Vec::new();
    match &field.node.value {
        Value::Null => {}
        Value::List(items) => {
            let mut seen = HashMap::new();
            for item in items {
                if f.d.problems.is_full() {
                    break;
                }
                let Some(text) = f.d.scalar(item, item.span, "depends_on", "a service's name", &[]) else {
                    continue;
                };
                let Some(id) = id(f.d, &text.text, text.span) else { continue };
                if let Some(first) = seen.insert(id.clone(), text.span) {
                    let problem = Problem::new(text.span, format!("{} is written twice", quote(id.as_str())));
                    f.d.problem(problem.related(first, "it was first written here").hint("keep one of them"));
                }
                let leaf = Shown::Leaf { value: json!("ready"), from: text.from, span: Some(text.span) };
                shown.push((id.as_str().to_owned(), leaf));
                found.push((id, Condition::Ready.into(), text.span));
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                if f.d.problems.is_full() {
                    break;
                }
                let Some(id) = id(f.d, &entry.key.text, entry.key.span) else { continue };
                let mut inner = Fields::open(f.d, &DEPENDENCY, Some(Field::from(entry)), Some("condition"));
                let condition = inner.word_or_default("condition", &CONDITION).value;
                let is_short = !inner.is_written("required") && !inner.is_written("restart");
                let required = inner.value("required").value;
                let restart = inner.value("restart").value;
                match inner.close() {
                    Shown::Map(parts) if is_short => {
                        let condition = parts.into_iter().filter(|(key, _)| key == "condition");
                        shown.extend(condition.map(|(_, leaf)| (id.as_str().to_owned(), leaf)));
                    }
                    parts => shown.push((id.as_str().to_owned(), parts)),
                }
                found.push((id, Dependency { condition, required, restart }, entry.key.span));
            }
        }
        Value::Scalar { .. } => {
            let message =
                format!("`depends_on` is a list or a table of services, and this is {}", field.node.kind());
            f.d.problem(Problem::new(field.node.span, message).hint("for example `depends_on: [db]`"));
        }
    }
    f.show("depends_on", Shown::Map(shown));
    found
}

fn restart(f: &mut Fields<'_, '_, '_>, field: Option<Field<'_>>) -> Restart {
    let mut inner = Fields::open(f.d, &RESTART, field, Some("policy"));
    let policy = inner.word_or_default("policy", &POLICY).value;

    let backoff_field = inner.field("backoff");
    let mut backoff = Fields::open(inner.d, &BACKOFF, backoff_field, None);
    let first: Written<Duration> = backoff.value("first");
    let max: Written<Duration> = backoff.value("max");
    if let (true, Some(span)) = (first.value > max.value, first.span.or(max.span)) {
        let message = format!(
            "the first wait, {}, is longer than the longest, {}",
            plain(&first.value),
            plain(&max.value)
        );
        backoff.d.problem(Problem::new(span, message).hint("`first` is at most `max`"));
    }
    let shown = backoff.close();
    inner.show("backoff", shown);

    let give_up_field = inner.field("give_up");
    let mut give_up = Fields::open(inner.d, &GIVE_UP, give_up_field, None);
    let failures: Written<Whole<1, 1000>> = give_up.value("failures");
    let within: Written<Duration> = give_up.value("within");
    let shown = give_up.close();
    inner.show("give_up", shown);

    let healthy_after: Written<Duration> = inner.value("healthy_after");
    let retry = inner.duration_or_never("retry_failed_after");
    let order = inner.word_or_default("order", &ORDER).value;
    let shown = inner.close();
    f.show("restart", shown);
    Restart {
        policy,
        backoff_first: first.value,
        backoff_max: max.value,
        healthy_after: healthy_after.value,
        give_up_failures: u32::try_from(failures.value.0).unwrap_or(u32::MAX),
        give_up_within: within.value,
        retry_failed_after: retry.and_then(|written| written.value),
        order,
    }
}

/// A value as it would be written.
fn plain(value: &impl Scalar) -> String {
    match value.show() {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn stop(f: &mut Fields<'_, '_, '_>) -> Stop {
    let field = f.field("stop");
    let mut inner = Fields::open(f.d, &STOP, field, None);
    let signal: Written<Signal> = inner.value("signal");
    let drain: Written<Duration> = inner.value("drain");
    let grace: Written<Duration> = inner.value("grace");
    let shown = inner.close();
    f.show("stop", shown);
    Stop { signal: signal.value.0, drain: drain.value, grace: grace.value }
}

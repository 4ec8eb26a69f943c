//! What is looked at in a worker: that it has come up, that it is ready, that it is healthy.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use watt_core::plan::{Check, GrpcCheck, Health, HttpCheck, Listen, Ready, ReadyWhen, Rhythm, Startup};

use super::{
    command,
    fields::{Field, Fields, Written, show_word, word_of},
};
use crate::{
    keys::{
        EXEC_TIMEOUT, FAILURES, GRPC_CHECK, HEALTH, HTTP_CHECK, INTERVAL, READINESS, READY, ReadyWord,
        STARTUP, TIMEOUT,
    },
    placeholder::PER_WORKER,
    report::Problem,
    scalar::{Bad, Pattern, Scalar, Status, UrlPath, Whole, quote},
    show::Shown,
    source::Span,
    tree::Value,
};

/// The longest that one check of a ready worker may take.
const CHECK_TIME_MAX: Duration = Duration::from_secs(10);

/// The shortest time between two looks of the same kind.
const OFTEN: Duration = Duration::from_millis(100);

/// Fields of a request that say where it ends and what becomes of the connection (RFC 9112).
const FRAMING: [&str; 4] = ["connection", "content-length", "transfer-encoding", "upgrade"];

/// All of a service.
pub(super) struct Probes {
    pub(super) startup: Option<Startup>,
    pub(super) ready: Ready,
    pub(super) health: Option<Health>,
}

/// What was written as a sign of something, and where.
type Signs<T> = Vec<(T, Option<Span>)>;

/// Decodes `startup`, `ready` and `health` of a service that accepts connections in this way.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Probes {
    Probes { startup: startup(f, listen), ready: ready(f, listen), health: health(f, listen) }
}

fn startup(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Option<Startup> {
    let field = f.field("startup")?;
    let mut inner = Fields::open(f.d, &STARTUP, Some(field), None);
    let signs = checks(&mut inner);
    let timeout = inner.value("timeout").value;
    let (check, span) =
        only(&mut inner, signs, "checks").unwrap_or_else(|| by_default(&mut inner, Check::Tcp));
    if check.needs_listener() {
        needs_listener(&mut inner, listen, Some(span.unwrap_or(field.key_span)));
    }
    let shown = inner.close();
    f.show("startup", shown);
    Some(Startup { check, timeout })
}

fn ready(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Ready {
    let field = f.field("ready");
    // A word alone is a sign with the default timeout.
    let (word, table) = match field {
        Some(field) if matches!(field.node.value, Value::Scalar { .. }) => (Some(field), None),
        other => (None, other),
    };
    let by_default = if listen == Listen::None { ReadyWhen::Started } else { ReadyWhen::Listening };
    let mut inner = Fields::open(f.d, &READINESS, table, None);
    let mut signs: Signs<ReadyWhen> =
        checks(&mut inner).into_iter().map(|(check, span)| (ReadyWhen::Check(check), span)).collect();
    if let Some(log) = inner.scalar::<Pattern>("log") {
        signs.push((ReadyWhen::Log { pattern: log.value.0 }, log.span));
    }
    signs.extend(notification_fd(&mut inner, listen));
    for (key, when) in
        [("notify", ReadyWhen::Notify), ("listening", ReadyWhen::Listening), ("started", ReadyWhen::Started)]
    {
        if let Some(Written { value: true, span }) = inner.scalar::<bool>(key) {
            signs.push((when, span));
        }
    }
    signs.extend(word.and_then(|field| ready_word(&mut inner, field)));
    let timeout: Duration = inner.value("timeout").value;
    let (when, span) = only(&mut inner, signs, "signs of readiness").unwrap_or_else(|| {
        let key = if by_default == ReadyWhen::Started { "started" } else { "listening" };
        inner.show(key, Shown::default_value(json!(true)));
        (by_default, None)
    });
    match &when {
        ReadyWhen::Listening => needs_listener(&mut inner, listen, span),
        ReadyWhen::Check(check) if check.needs_listener() => needs_listener(&mut inner, listen, span),
        ReadyWhen::Check(_)
        | ReadyWhen::Started
        | ReadyWhen::Log { .. }
        | ReadyWhen::Notify
        | ReadyWhen::NotificationFd(_) => {}
    }
    let upkeep = upkeep(&mut inner, &when);
    let shown = inner.close();
    f.show("ready", shown);
    Ready { when, timeout, upkeep }
}

/// Notes a notification descriptor with a number of those that are stored, which come after the listener.
pub(super) fn leaves_room(f: &mut Fields<'_, '_, '_>, ready: &Ready, listen: Listen, stored: u16) {
    let ReadyWhen::NotificationFd(number) = ready.when else { return };
    let first_free = 3 + u16::from(listen == Listen::Fd) + stored;
    if let (true, Some(field)) = (stored > 0 && number < first_free, f.written("fd_store")) {
        let message = format!("descriptor {number} of `notification_fd` may be one of those that are kept");
        let hint = format!("take {first_free} or a larger number for `notification_fd`");
        f.d.problem(Problem::new(field.at(), message).hint(hint));
    }
}

/// A descriptor to be written to, which must not be another one's.
fn notification_fd(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Option<(ReadyWhen, Option<Span>)> {
    /// Where a program finds its listener (sd_listen_fds(3)).
    const LISTENER: u64 = 3;
    let Written { value: Whole(number), span } = f.scalar::<Whole<3, 1023>>("notification_fd")?;
    if let (LISTENER, Listen::Fd, Some(span)) = (number, listen, span) {
        let message = "descriptor 3 is the listener, as `listen` is `fd`";
        f.d.problem(Problem::new(span, message).hint("take another number, such as 4"));
    }
    Some((ReadyWhen::NotificationFd(u16::try_from(number).unwrap_or(u16::MAX)), span))
}

/// A sign of readiness by its word alone.
fn ready_word(f: &mut Fields<'_, '_, '_>, field: Field<'_>) -> Option<(ReadyWhen, Option<Span>)> {
    let parse = |text: &str| {
        if text.starts_with('/') {
            let hint = format!("did you mean `ready: {{ http: {text} }}`?");
            return Err(Bad { message: format!("{} is not understood here", quote(text)), hint: Some(hint) });
        }
        word_of(text, &READY)
    };
    let text = f.d.scalar(field.node, field.at(), "ready", "a word or a table", &[])?;
    let word = f.d.parse(&text, parse)?;
    let key = show_word(word, &READY);
    let leaf = Shown::Leaf { value: json!(true), from: text.from, span: Some(text.span) };
    f.show(key.as_str().unwrap_or_default(), leaf);
    let when = match word {
        ReadyWord::Started => ReadyWhen::Started,
        ReadyWord::Listening => ReadyWhen::Listening,
        ReadyWord::Tcp => ReadyWhen::Check(Check::Tcp),
        ReadyWord::Notify => ReadyWhen::Notify,
    };
    Some((when, Some(text.span)))
}

/// How a sign of readiness is repeated that can be.
fn upkeep(f: &mut Fields<'_, '_, '_>, when: &ReadyWhen) -> Option<Rhythm> {
    let interval = f.duration_or_never("interval");
    let failures: Option<Written<Whole<1, 1000>>> = f.scalar("failures");
    if !matches!(when, ReadyWhen::Check(_)) {
        no_repetition(f, &["interval", "failures"], "this sign is seen once");
        return None;
    }
    let interval = match interval {
        Some(Written { value, span }) => not_too_often(f, value?, span),
        None => default(f, "interval", INTERVAL),
    };
    let failures = failures.map_or_else(|| default(f, "failures", FAILURES), |written| written.value);
    Some(Rhythm { interval, timeout: interval.min(CHECK_TIME_MAX), failures: count(failures) })
}

fn health(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Option<Health> {
    let field = f.field("health")?;
    let mut inner = Fields::open(f.d, &HEALTH, Some(field), None);
    let mut signs: Signs<Option<Check>> =
        checks(&mut inner).into_iter().map(|(check, span)| (Some(check), span)).collect();
    let watchdog = inner.scalar::<Duration>("watchdog");
    signs.extend(watchdog.map(|written| (None, written.span)));
    let [interval, timeout] = ["interval", "timeout"].map(|key| inner.scalar::<Duration>(key));
    let failures = inner.scalar::<Whole<1, 1000>>("failures");
    let sign = only(&mut inner, signs, "signs of health");
    let (check, span) = sign.unwrap_or_else(|| by_default(&mut inner, Some(Check::Tcp)));
    let health = match (check, watchdog) {
        (Some(check), _) => {
            if check.needs_listener() {
                needs_listener(&mut inner, listen, Some(span.unwrap_or(field.key_span)));
            }
            let mut given = |written: Option<Written<Duration>>, key, standard| match written {
                Some(Written { value, span }) => not_too_often(&mut inner, value, span),
                None => default(&mut inner, key, standard),
            };
            let interval = given(interval, "interval", INTERVAL);
            let standard = if matches!(check, Check::Exec(_)) { EXEC_TIMEOUT } else { TIMEOUT };
            let timeout = given(timeout, "timeout", standard);
            let failures =
                failures.map_or_else(|| default(&mut inner, "failures", FAILURES), |written| written.value);
            Health::Check(check, Rhythm { interval, timeout, failures: count(failures) })
        }
        (None, watchdog) => {
            no_repetition(&mut inner, &["interval", "timeout", "failures"], "the worker speaks by itself");
            let every = watchdog.map(|Written { value, span }| not_too_often(&mut inner, value, span));
            Health::Watchdog(every.unwrap_or(Duration::MAX))
        }
    };
    let shown = inner.close();
    f.show("health", shown);
    Some(health)
}

/// What can be tried at a worker: `http`, `tcp`, `grpc` and `exec`.
fn checks(f: &mut Fields<'_, '_, '_>) -> Signs<Check> {
    let mut checks = Signs::new();
    if let Some(field) = f.field("http") {
        checks.push((Check::Http(http(f, field)), Some(field.at())));
    }
    if let Some(Written { value: true, span }) = f.scalar::<bool>("tcp") {
        checks.push((Check::Tcp, span));
    }
    if let Some((check, span)) = grpc(f) {
        checks.push((Check::Grpc(check), span));
    }
    if let Some(field) = f.field("exec") {
        checks.push((Check::Exec(command::decode(f, "exec", field, PER_WORKER)), Some(field.at())));
    }
    checks
}

/// `grpc: true`, or a table.
fn grpc(f: &mut Fields<'_, '_, '_>) -> Option<(GrpcCheck, Option<Span>)> {
    if f.is_scalar("grpc") {
        let parse = |text: &str| {
            let hint = format!("for one service of the server: `grpc: {{ service: {text} }}`");
            bool::parse(text).map_err(|bad| Bad { hint: Some(hint), ..bad })
        };
        let written = f.parsed("grpc", parse, bool::show)?;
        return written.value.then(|| (GrpcCheck::default(), written.span));
    }
    let field = f.field("grpc")?;
    let mut inner = Fields::open(f.d, &GRPC_CHECK, Some(field), None);
    let text = |text: &str| Ok(text.to_owned());
    let show = |text: &String| json!(text);
    let service = inner.parsed("service", text, show).map(|written| written.value).unwrap_or_default();
    let authority = inner.parsed("authority", authority, show).map(|written| written.value);
    let shown = inner.close();
    f.show("grpc", shown);
    Some((GrpcCheck { service, authority }, Some(field.at())))
}

/// A host, with a port where one is wanted (RFC 9110 §7.2).
fn authority(text: &str) -> Result<String, Bad> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._~:[]%".contains(c);
    match text {
        "" => Err(Bad { message: "an empty authority".into(), hint: Some("remove it".into()) }),
        _ if text.chars().all(is_part) => Ok(text.to_owned()),
        _ => Err(Bad {
            message: format!("{} is not an authority", quote(text)),
            hint: Some("a host such as `cart.example.org`, or `cart.example.org:443`".into()),
        }),
    }
}

fn http(f: &mut Fields<'_, '_, '_>, field: Field<'_>) -> HttpCheck {
    let mut inner = Fields::open(f.d, &HTTP_CHECK, Some(field), Some("path"));
    let UrlPath::<true>(path) = inner.value("path").value;
    let Status(low, high) = inner.value("status").value;
    let headers = headers(&mut inner);
    let body = inner.scalar::<Pattern>("body").map(|written| written.value.0);
    let shown = inner.close();
    f.show("http", shown);
    HttpCheck { path, status: (low, high), headers, body }
}

pub(super) fn headers(f: &mut Fields<'_, '_, '_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    let mut shown = Vec::new();
    for entry in f.entries("headers", "name") {
        let (name, field) = (&entry.key.text, Field::from(entry));
        let Some(text) = f.d.scalar(field.node, field.at(), name, "text", &[]) else { continue };
        if let Some(problem) = refused_header(name, &text.text) {
            f.d.problem(Problem::new(entry.key.span, problem));
        }
        shown.push((
            name.clone(),
            Shown::Leaf { value: json!(text.text), from: text.from, span: Some(text.span) },
        ));
        headers.insert(name.clone(), text.text);
    }
    f.show("headers", Shown::Map(shown));
    headers
}

/// What is wrong with a field of a request (RFC 9110 §5).
fn refused_header(name: &str, value: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Some(format!("{} is not the name of a header", quote(name)));
    }
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return Some(format!("{} is the connection's, which watt makes", quote(name)));
    }
    let is_text = |c: char| c == '\t' || (' '..='~').contains(&c);
    (!value.chars().all(is_text))
        .then(|| format!("the value of {} has characters that no header has", quote(name)))
}

/// The one sign, if there is one. More are an error.
fn only<T>(f: &mut Fields<'_, '_, '_>, signs: Signs<T>, what: &str) -> Option<(T, Option<Span>)> {
    if let [(_, first), (_, Some(second)), ..] = &signs[..] {
        let problem = Problem::new(*second, format!("two {what}")).hint("keep one of them");
        f.d.problem(match first {
            Some(first) => problem.related(*first, "this is the first one"),
            None => problem,
        });
    }
    signs.into_iter().next()
}

/// What is tried where nothing was written: a connection.
fn by_default<T>(f: &mut Fields<'_, '_, '_>, check: T) -> (T, Option<Span>) {
    if !f.is_shown("tcp") {
        f.show("tcp", Shown::default_value(json!(true)));
    }
    (check, None)
}

fn needs_listener(f: &mut Fields<'_, '_, '_>, listen: Listen, span: Option<Span>) {
    if let (Listen::None, Some(span)) = (listen, span) {
        let message = "this sign needs a service that accepts connections, and its `listen` is `none`";
        let hint = "wait for `started`, `notify` or a `log` line, run a command with `exec`, or remove `listen: none`";
        f.d.problem(Problem::new(span, message).hint(hint));
    }
}

/// Notes a time that is so short that watt and the worker would do little else.
fn not_too_often(f: &mut Fields<'_, '_, '_>, time: Duration, span: Option<Span>) -> Duration {
    if let (true, Some(span)) = (time < OFTEN, span) {
        f.d.problem(Problem::new(span, "too short").hint("at least 100ms"));
    }
    time
}

/// Notes keys of repetition that were written where nothing is repeated.
fn no_repetition(f: &mut Fields<'_, '_, '_>, keys: &[&'static str], why: &str) {
    for key in keys {
        if let Some(field) = f.written(key) {
            let message = format!("{} has no effect: {why}", quote(key));
            f.d.problem(
                Problem::new(field.key_span, message)
                    .hint("remove it, or write `http`, `tcp`, `grpc` or `exec`"),
            );
        }
    }
}

/// The default of a key that depends on others.
pub(super) fn default<T: Scalar>(f: &mut Fields<'_, '_, '_>, key: &'static str, text: &str) -> T {
    let value = T::parse(text).expect("the default of a key is of its kind");
    if !f.is_written(key) {
        f.show(key, Shown::default_value(value.show()));
    }
    value
}

fn count(number: Whole<1, 1000>) -> u32 {
    u32::try_from(number.0).unwrap_or(u32::MAX)
}

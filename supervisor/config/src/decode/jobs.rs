//! What is done at certain times: `jobs`, and Platformatic's `scheduler`.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use serde_json::json;
use watt_core::{
    JobId,
    jobs::Schedule,
    plan::{Call, CatchUp, Job, Overlap, Work},
};

use super::{
    Decoder,
    app::suggest_name,
    command,
    fields::{Field, Fields, Written, show_word},
    gateway::{service_name, start_of},
    probes,
};
use crate::{
    keys::{
        CALL, CALL_TIMEOUT, CATCH_UP, CATCHING_UP, CatchUpWord, HISTORY_MAX, JOB, METHOD, OVERLAP,
        RETRIES_MAX, SCHEDULED,
    },
    report::Problem,
    scalar::{Bad, MeshUrl, Scalar, TimeZoneName, UrlPath, Whole, quote},
    show::Shown,
    source::Span,
    tree::{Node, Value},
};

/// How many jobs an application may have.
const JOBS_MAX: usize = 1000;

/// How much the body of a call may have.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How long ago is made up for where nothing is said.
const WITHIN: &str = "1d";

/// A job with its places.
#[derive(Debug)]
pub(crate) struct JobDraft {
    pub(crate) job: Job,
    /// Where its service is named.
    pub(crate) service_at: Span,
    /// Where it says what is done.
    pub(crate) work_at: Span,
}

/// Decodes `jobs` and `scheduler`.
pub(super) fn decode(fields: &mut Fields<'_, '_, '_>) -> Vec<JobDraft> {
    let mut drafts = Vec::new();
    let mut shown = Vec::new();
    let mut places: BTreeMap<JobId, Span> = BTreeMap::new();
    for entry in fields.entries("jobs", "job") {
        if fields.d.problems.is_full() {
            break;
        }
        let Some(id) = name(fields.d, &entry.key.text, entry.key.span) else { continue };
        places.insert(id.clone(), entry.key.span);
        let (draft, shown_job) = job(fields.d, id.clone(), Field::from(entry));
        shown.push((id.as_str().to_owned(), shown_job));
        drafts.extend(draft);
    }
    for item in fields.list("scheduler") {
        if fields.d.problems.is_full() {
            break;
        }
        let Some((id, at, found)) = scheduled(fields.d, item) else { continue };
        if let Some(first) = places.insert(id.clone(), at) {
            let problem = Problem::new(at, format!("two jobs are called {}", quote(id.as_str())));
            fields.d.problem(
                problem.related(first, "the first one is here").hint("give one of them another name"),
            );
        }
        let (draft, shown_job) = found;
        shown.push((id.as_str().to_owned(), shown_job));
        drafts.extend(draft);
    }
    if let (true, Some((_, at))) = (places.len() > JOBS_MAX, places.pop_last()) {
        fields.d.problem(Problem::new(at, format!("more than {JOBS_MAX} jobs")));
    }
    fields.show("jobs", Shown::Map(shown));
    drafts
}

fn name(d: &mut Decoder<'_>, text: &str, at: Span) -> Option<JobId> {
    match JobId::new(text) {
        Ok(id) => Some(id),
        Err(error) => {
            let hint = suggest_name(text).map(|name| format!("did you mean {}?", quote(&name)));
            let message = format!("{} cannot be a job's name: {error}", quote(text));
            d.problem(Problem::new(at, message).maybe_hint(hint));
            None
        }
    }
}

fn job(d: &mut Decoder<'_>, id: JobId, field: Field<'_>) -> (Option<JobDraft>, Shown) {
    d.name = Some(id.as_str().to_owned());
    let mut f = Fields::open(d, &JOB, Some(field), None);
    let service = service_name(&mut f, "service");
    let work = work(&mut f);
    let schedule: Option<Written<Schedule>> = f.scalar("schedule");
    let timezone: Written<TimeZoneName> = f.value("timezone");
    let jitter = jitter(&mut f, schedule.as_ref().map(|written| &written.value));
    let overlap = f.word_or_default("overlap", &OVERLAP).value;
    let catch_up = catch_up(&mut f);
    let is_call = work.as_ref().is_none_or(|(work, _)| matches!(work, Work::Call(_)));
    let timeout = timeout(&mut f, is_call);
    let history: Written<Whole<1, HISTORY_MAX>> = f.value("history");
    let enabled: Written<bool> = f.value("enabled");
    let shown = f.close();
    d.name = None;
    let draft = match (service, work, schedule) {
        (Some((service, service_at)), Some((work, work_at)), Some(schedule)) if enabled.value => {
            Some(JobDraft {
                job: Job {
                    id,
                    service,
                    work,
                    schedule: schedule.value,
                    timezone: timezone.value.0,
                    jitter,
                    overlap,
                    catch_up,
                    timeout,
                    history: count(history.value),
                },
                service_at,
                work_at,
            })
        }
        _ => None,
    };
    (draft, shown)
}

/// What is done, and where that was written.
fn work(f: &mut Fields<'_, '_, '_>) -> Option<(Work, Span)> {
    let retries: Written<Whole<0, RETRIES_MAX>> = f.value("retries");
    match (f.field("command"), f.field("http")) {
        (None, None) => {
            f.missing("http");
            None
        }
        (Some(command), Some(http)) => {
            let problem = Problem::new(http.key_span, "`command` and `http` in one job");
            let problem = problem.related(command.key_span, "`command` is here");
            f.d.problem(problem.hint("write two jobs"));
            None
        }
        (None, Some(http)) => {
            let call = call(f, http, count(retries.value));
            Some((Work::Call(call), http.key_span))
        }
        (Some(command), None) => {
            if let Some(span) = retries.span {
                let problem = Problem::new(span, "`retries` has no effect: a command is run once");
                f.d.problem(problem.hint("remove it; what is to be tried again is the command's own"));
            }
            let argv = command::decode(f, "command", command, &[]);
            (!argv.is_empty()).then_some((Work::Command(argv), command.key_span))
        }
    }
}

fn call(f: &mut Fields<'_, '_, '_>, field: Field<'_>, retries: u32) -> Call {
    let mut inner = Fields::open(f.d, &CALL, Some(field), Some("path"));
    let method = inner.word_or_default("method", &METHOD).value;
    let UrlPath::<true>(path) = inner.value("path").value;
    let headers = probes::headers(&mut inner);
    let body = inner.scalar::<String>("body");
    if let Some(Written { value, span: Some(span) }) = &body {
        bounded(inner.d, value, *span);
    }
    let shown = inner.close();
    f.show("http", shown);
    Call { method: method.to_owned(), path, headers, body: body.map(|written| written.value), retries }
}

fn bounded(d: &mut Decoder<'_>, body: &str, at: Span) {
    if body.len() > BODY_BYTES_MAX {
        d.problem(Problem::new(at, format!("a body of more than {} KiB", BODY_BYTES_MAX >> 10)));
    }
}

fn jitter(f: &mut Fields<'_, '_, '_>, schedule: Option<&Schedule>) -> Duration {
    let Written { value, span } = f.value::<Duration>("jitter");
    let shortest = schedule.map(Schedule::shortest_gap);
    if let (Some(span), Some(shortest)) = (span, shortest)
        && value >= Duration::from_secs(shortest.into())
    {
        let between = Duration::from_secs(shortest.into()).show();
        let message = format!(
            "as long as the time between two firings, or longer: {}",
            between.as_str().unwrap_or_default()
        );
        f.d.problem(
            Problem::new(span, message).hint("firings would overtake each other; write a shorter one"),
        );
    }
    value
}

fn catch_up(f: &mut Fields<'_, '_, '_>) -> CatchUp {
    let field = f.field("catch_up");
    let mut inner = Fields::open(f.d, &CATCHING_UP, field, Some("mode"));
    let mode = inner.word_or_default("mode", &CATCH_UP).value;
    let within = inner.scalar::<Duration>("within");
    if let (CatchUpWord::Skip, Some(Written { span: Some(span), .. })) = (mode, &within) {
        let problem = Problem::new(*span, "`within` has no effect: nothing is made up for");
        inner.d.problem(problem.hint("remove it, or write `mode: one` or `mode: all`"));
    }
    let mut of = |make: fn(Duration) -> CatchUp| match &within {
        Some(written) => make(written.value),
        None => make(probes::default(&mut inner, "within", WITHIN)),
    };
    let catch_up = match mode {
        CatchUpWord::Skip => CatchUp::Skip,
        CatchUpWord::One => of(CatchUp::One),
        CatchUpWord::All => of(CatchUp::All),
    };
    let shown = inner.close();
    // In its short form where that says it all.
    let shown = match shown {
        Shown::Map(mut parts) if parts.len() == 1 => parts.remove(0).1,
        shown => shown,
    };
    f.show("catch_up", shown);
    catch_up
}

fn timeout(f: &mut Fields<'_, '_, '_>, is_call: bool) -> Option<Duration> {
    match f.duration_or_never("timeout") {
        Some(Written { value: Some(Duration::ZERO), span }) => {
            if let Some(span) = span {
                f.d.problem(
                    Problem::new(span, "no time at all").hint("write a time such as `1m`, or `never`"),
                );
            }
            None
        }
        Some(written) => written.value,
        None if is_call => Some(probes::default(f, "timeout", CALL_TIMEOUT)),
        None => {
            f.show("timeout", Shown::default_value(json!("never")));
            None
        }
    }
}

/// One job of `scheduler`: its name, where that is, and the job as `jobs` would have it.
fn scheduled(d: &mut Decoder<'_>, node: &Rc<Node>) -> Option<(JobId, Span, (Option<JobDraft>, Shown))> {
    let at = start_of(node);
    let mut f = Fields::open(d, &SCHEDULED, Some(Field { key_span: at, node }), None);
    let parse = |text: &str| match suggest_name(text).and_then(|name| JobId::new(&name).ok()) {
        Some(id) => Ok(id),
        None => Err(Bad { message: format!("{} has nothing of a name", quote(text)), hint: None }),
    };
    let name = f.parsed("name", parse, |id| json!(id.as_str()));
    let schedule: Option<Written<Schedule>> = f.scalar("cron");
    let url: Option<Written<MeshUrl>> = f.scalar("callbackUrl");
    let method = f.word_or_default("method", &METHOD).value;
    let headers = probes::headers(&mut f);
    let body = body(&mut f);
    let retries: Written<Whole<0, RETRIES_MAX>> = f.value("maxRetries");
    let enabled: Written<bool> = f.value("enabled");
    f.close();
    let (name, schedule, url) = (name?, schedule?, url?);
    let service_at = url.span.unwrap_or(at);
    let MeshUrl { service, path } = url.value;
    let call = Call { method: method.to_owned(), path, headers, body, retries: count(retries.value) };
    let timeout = Duration::parse(CALL_TIMEOUT).ok();
    let job = Job {
        id: name.value.clone(),
        service,
        work: Work::Call(call),
        schedule: schedule.value,
        timezone: "UTC".to_owned(),
        jitter: Duration::ZERO,
        overlap: Overlap::Forbid,
        catch_up: CatchUp::Skip,
        timeout,
        history: 20,
    };
    let shown = shown(&job, &d.files.short(at), enabled.value);
    let draft = JobDraft { job, service_at, work_at: service_at };
    Some((name.value, name.span.unwrap_or(at), (enabled.value.then_some(draft), shown)))
}

/// The body of a call: text, or a table that is JSON.
fn body(f: &mut Fields<'_, '_, '_>) -> Option<String> {
    let field = f.field("body")?;
    let text = match &field.node.value {
        Value::Scalar { .. } => f.d.scalar(field.node, field.at(), "body", "text or a table", &[])?.text,
        Value::Null => return None,
        Value::List(_) | Value::Map(_) => as_json(f.d, field.node)?.to_string(),
    };
    bounded(f.d, &text, field.at());
    Some(text)
}

/// A part of the file as JSON.
fn as_json(d: &mut Decoder<'_>, node: &Node) -> Option<serde_json::Value> {
    Some(match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Scalar { quoted: true, .. } => d.scalar(node, node.span, "body", "text", &[])?.text.into(),
        Value::Scalar { text, .. } => match serde_json::from_str(text) {
            Ok(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => value,
            Ok(_) | Err(_) => d.scalar(node, node.span, "body", "text", &[])?.text.into(),
        },
        Value::List(items) => {
            let items = items.iter().map(|item| as_json(d, item)).collect::<Option<Vec<_>>>();
            serde_json::Value::Array(items?)
        }
        Value::Map(entries) => {
            let each = entries.iter().map(|entry| Some((entry.key.text.clone(), as_json(d, &entry.node)?)));
            serde_json::Value::Object(each.collect::<Option<serde_json::Map<_, _>>>()?)
        }
    })
}

/// A job of `scheduler` as `jobs` has it.
fn shown(job: &Job, from: &str, enabled: bool) -> Shown {
    let leaf = |value: serde_json::Value| Shown::Leaf { value, from: from.to_owned(), span: None };
    let mut parts = vec![("service", leaf(json!(job.service.as_str())))];
    if let Work::Call(call) = &job.work {
        let headers = call.headers.iter().map(|(name, value)| (name.clone(), leaf(json!(value))));
        let mut http = vec![
            ("method".to_owned(), leaf(json!(call.method))),
            ("path".to_owned(), leaf(json!(call.path))),
            ("headers".to_owned(), Shown::Map(headers.collect())),
        ];
        http.extend(call.body.as_ref().map(|body| ("body".to_owned(), leaf(json!(body)))));
        parts.push(("http", Shown::Map(http)));
        parts.push(("retries", leaf(json!(call.retries))));
    }
    parts.push(("schedule", leaf(json!(job.schedule.as_str()))));
    parts.push(("timezone", Shown::default_value(json!(job.timezone))));
    parts.push(("overlap", Shown::default_value(show_word(job.overlap, &OVERLAP))));
    parts.push(("enabled", leaf(json!(enabled))));
    Shown::Map(parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect())
}

fn count<const MIN: u64, const MAX: u64>(number: Whole<MIN, MAX>) -> u32 {
    u32::try_from(number.0).unwrap_or(u32::MAX)
}

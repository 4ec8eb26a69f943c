//! Errors of the control API, and the one place where they become replies.

use hyper::{Method, Response, StatusCode, header};
use watt_api::control::Problem;
use watt_core::{ServiceId, plan::Role};

use super::{
    Refusal,
    body::{self, Reply},
    roles::Who,
};
use crate::words;

/// How much a name may differ from the one that is suggested: Jaro-Winkler, as clap measures it.
const SIMILARITY_MIN: f64 = 0.7;
/// How many names are suggested.
const SUGGESTIONS_MAX: usize = 3;

/// Why a request is not answered as it asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The caller's role is not enough.
    Forbidden { who: Who, has: Option<Role>, needed: Role },
    /// No such path.
    NoPath(String),
    /// The path has no such method.
    NoMethod { method: Method, allowed: Vec<&'static str> },
    /// The request's form is wrong.
    BadRequest { message: String, hint: Option<String> },
    /// The body is larger than any request needs.
    TooLarge { size_max: usize },
    /// The body did not come in time.
    BodyTimeout,
    /// No such service.
    UnknownService { name: String, known: Vec<ServiceId> },
    /// No such job.
    UnknownJob { name: String, known: Vec<String> },
    /// No such task.
    UnknownTask { name: String, known: Vec<String> },
    /// The job is at it already.
    JobBusy(String),
    /// The configuration has errors: in words, and all of them with their places.
    Config { text: String, report: serde_json::Value },
    /// The configuration, or the program, is none that could take the place of the present one.
    NotDone { code: &'static str, message: String, hint: Option<String> },
    /// A process could not be started.
    NotStarted(String),
    /// Not now: too many do the same.
    Busy,
    /// Not any more: the application ends.
    Ending,
    /// Our own fault.
    Internal(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        match refusal {
            Refusal::UnknownService { name, known } => Failure::UnknownService { name, known },
            Refusal::UnknownJob { name, known } => Failure::UnknownJob { name, known },
            Refusal::UnknownTask { name, known } => Failure::UnknownTask { name, known },
            Refusal::JobBusy(name) => Failure::JobBusy(name),
            Refusal::BadLimits(message) => Failure::BadRequest { message, hint: None },
            Refusal::BadScale { message, hint } => Failure::BadRequest { message, hint },
            Refusal::Config { text, report } => Failure::Config { text, report },
            Refusal::NotReloaded { code, message, hint } | Refusal::NotUpgraded { code, message, hint } => {
                Failure::NotDone { code, message, hint }
            }
            Refusal::NotStarted(message) => Failure::NotStarted(message),
            Refusal::ShuttingDown => Failure::Ending,
        }
    }
}

impl Failure {
    pub(super) fn into_response(self) -> Response<Reply> {
        let (status, problem) = self.describe();
        let bytes = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = body::response(status, "application/json", Reply::Whole(bytes.into()));
        let (name, value) = match &self {
            Failure::NoMethod { allowed, .. } => (header::ALLOW, allowed.join(", ")),
            Failure::Busy => (header::RETRY_AFTER, "1".to_owned()),
            _ => return response,
        };
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
        response
    }

    fn describe(&self) -> (StatusCode, Problem) {
        let (status, code, message, hint) = match self {
            Failure::Forbidden { who, has, needed } => (
                StatusCode::FORBIDDEN,
                "forbidden",
                forbidden(who, *has, *needed),
                Some(forbidden_hint(who, *needed)),
            ),
            Failure::NoPath(path) => (
                StatusCode::NOT_FOUND,
                "unknown_path",
                format!("there is no {path}"),
                Some("GET /v1/openapi.json lists what there is".to_owned()),
            ),
            Failure::NoMethod { method, allowed } => (
                StatusCode::METHOD_NOT_ALLOWED,
                "bad_method",
                format!("{method} is not possible here"),
                Some(format!("use {}", allowed.join(" or "))),
            ),
            Failure::BadRequest { message, hint } => {
                (StatusCode::BAD_REQUEST, "bad_request", message.clone(), hint.clone())
            }
            Failure::TooLarge { size_max } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("a request has at most {size_max} bytes"),
                None,
            ),
            Failure::BodyTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "bad_request", "the body did not come in time".to_owned(), None)
            }
            Failure::UnknownService { name, known } => (
                StatusCode::NOT_FOUND,
                "unknown_service",
                format!("there is no service {name:?}"),
                Some(name_hint("services", name, known.iter().map(ServiceId::as_str))),
            ),
            Failure::UnknownJob { name, known } => (
                StatusCode::NOT_FOUND,
                "unknown_job",
                format!("there is no job {name:?}"),
                Some(name_hint("jobs", name, known.iter().map(String::as_str))),
            ),
            Failure::UnknownTask { name, known } => (
                StatusCode::NOT_FOUND,
                "unknown_task",
                format!("there is no task {name:?}"),
                Some(name_hint("tasks", name, known.iter().map(String::as_str))),
            ),
            Failure::JobBusy(name) => (
                StatusCode::CONFLICT,
                "job_busy",
                format!("an earlier firing of {name} is under way"),
                Some("its `overlap` is `forbid`; try again when it has ended".to_owned()),
            ),
            Failure::Config { text, .. } => (StatusCode::CONFLICT, "config", text.clone(), None),
            Failure::NotDone { code: code @ "no_upgrade", message, hint } => {
                (StatusCode::NOT_FOUND, *code, message.clone(), hint.clone())
            }
            Failure::NotDone { code, message, hint } => {
                (StatusCode::CONFLICT, *code, message.clone(), hint.clone())
            }
            Failure::NotStarted(message) => (StatusCode::CONFLICT, "not_started", message.clone(), None),
            Failure::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "the supervisor has too much to do".to_owned(),
                Some("try again".to_owned()),
            ),
            Failure::Ending => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ending",
                "the application is being shut down".to_owned(),
                None,
            ),
            Failure::Internal(message) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", message.clone(), None)
            }
        };
        let report = match self {
            Failure::Config { report, .. } => Some(Box::new(report.clone())),
            _ => None,
        };
        (status, Problem { code: code.to_owned(), message, hint, report })
    }
}

fn forbidden(who: &Who, has: Option<Role>, needed: Role) -> String {
    let needed = words::role(needed);
    match has {
        Some(role) => {
            format!("{who} may not do this: it takes the role {needed}, and {who} has {}", words::role(role))
        }
        None => format!("{who} may not control this application: it takes the role {needed}"),
    }
}

fn forbidden_hint(who: &Who, needed: Role) -> String {
    let needed = words::role(needed);
    match who {
        Who::User(_) => format!(
            "use wattctl as the user who started it, as root, or as a member of a group with `{needed}` in control.groups"
        ),
        Who::Service(_) => format!(
            "use wattctl in a shell that no service started, or give the service `management: {needed}`"
        ),
    }
}

fn name_hint<'a>(things: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = nearest(name, known.clone());
    match near[..] {
        [] if known.clone().next().is_none() => format!("it has no {things}"),
        [] => {
            let names: Vec<&str> = known.take(20).collect();
            format!("its {things} are {}", names.join(", "))
        }
        _ => format!("did you mean {}?", near.join(" or ")),
    }
}

/// The names that look most like this one.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<(f64, &str)> = known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(SUGGESTIONS_MAX).map(|(_, name)| name).collect()
}

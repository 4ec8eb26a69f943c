//! Everything the control API can do: one table, from which requests are dispatched and the OpenAPI document is made.

use hyper::{Method, Request, Response, body::Incoming};
use schemars::{Schema, SchemaGenerator};
use watt_api::control::{
    Analysis, Audit, Cache, CachePurged, Event, Exec, Graph, Inspect, Job, JobDetail, JobInstants,
    JobRequest, JobRun, Jobs, Limits, LimitsChange, LimitsChanged, LogLine, OfTask, Outcome, Reload,
    Reloaded, Routes, Run, Scale, Scaled, Selection, Shutdown, Status, TaskEnd, TaskStarted, TaskStop, Tasks,
    Upgrade, UpgradeState,
};
use watt_api::mesh::CachePurge;
use watt_core::plan::Role;

use super::{
    Control, audit,
    body::Reply,
    cache, events, gateway, graph, jobs, limits, logs, metrics, openapi,
    operations::{self, Order},
    problem::Failure,
    request::{Query, decoded},
    roles::Caller,
    services, status, tasks, upgrade,
};

/// What a route does. Closed: the server matches it exhaustively.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Status,
    Inspect,
    Graph,
    Routes,
    Cache,
    PurgeCache,
    Analyze,
    Apply,
    Remove,
    Limits,
    Audit,
    ChangeLimits,
    Order(Order),
    Scale,
    Jobs,
    Job,
    JobInstants,
    RunJob,
    OrderJob(jobs::Order),
    Reload,
    Run,
    Exec,
    Tasks,
    StopTask,
    Attach,
    Upgrade,
    UpgradeState,
    Shutdown,
    Events,
    Logs,
    Metrics,
    OpenApi,
}

/// One method of one path.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: &'static str,
    /// `{name}` stands for one segment.
    pub(super) path: &'static str,
    pub(super) action: Action,
    /// What somebody has to be to do it.
    pub(super) role: Role,
    /// Names it in generated clients.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) query: &'static [Parameter],
    pub(super) body: Option<fn(&mut SchemaGenerator) -> Schema>,
    pub(super) reply: Content,
}

/// A query parameter.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) text: &'static str,
}

/// What a query parameter holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Number,
    Flag,
    Time,
    Text,
    /// It may be there several times.
    Names,
}

/// What a reply holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    One(fn(&mut SchemaGenerator) -> Schema),
    Lines(fn(&mut SchemaGenerator) -> Schema),
    Document,
    Text,
}

const fn parameter(name: &'static str, kind: Kind, text: &'static str) -> Parameter {
    Parameter { name, kind, text }
}

const FOLLOW: Parameter = parameter("follow", Kind::Flag, "Go on with what is to come");

const PLAN: Parameter = parameter("plan", Kind::Flag, "Only say what would change");
const WAIT: Parameter = parameter(
    "wait",
    Kind::Flag,
    "Answer when new workers have taken over and what was removed has gone, or when they are not going to",
);
const FOLDER: Parameter =
    parameter("folder", Kind::Text, "The folder that paths in messages are relative to");

/// The table.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/v1/status",
        action: Action::Status,
        role: Role::View,
        id: "status",
        summary: "The whole application",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Status>),
    },
    Route {
        method: "GET",
        path: "/v1/services/{service}",
        action: Action::Inspect,
        role: Role::View,
        id: "inspect",
        summary: "One service, with its effective configuration",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Inspect>),
    },
    Route {
        method: "PUT",
        path: "/v1/services/{service}",
        action: Action::Apply,
        role: Role::Admin,
        id: "applyService",
        summary: "Apply one service, new or in place of what it is, until the configuration is read again",
        query: &[
            PLAN,
            WAIT,
            FOLDER,
            parameter(
                "file",
                Kind::Text,
                "Where the document came from, for messages; with .toml at its end it is in TOML",
            ),
        ],
        body: Some(services::document),
        reply: Content::One(SchemaGenerator::subschema_for::<Reloaded>),
    },
    Route {
        method: "DELETE",
        path: "/v1/services/{service}",
        action: Action::Remove,
        role: Role::Admin,
        id: "removeService",
        summary: "Take one service out of the application, until the configuration is read again",
        query: &[PLAN, WAIT, FOLDER],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Reloaded>),
    },
    Route {
        method: "GET",
        path: "/v1/graph",
        action: Action::Graph,
        role: Role::View,
        id: "graph",
        summary: "Which services wait for which",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Graph>),
    },
    Route {
        method: "GET",
        path: "/v1/routes",
        action: Action::Routes,
        role: Role::View,
        id: "routes",
        summary: "Which requests of clients go where",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Routes>),
    },
    Route {
        method: "GET",
        path: "/v1/cache",
        action: Action::Cache,
        role: Role::View,
        id: "cache",
        summary: "What the proxy has stored of responses",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Cache>),
    },
    Route {
        method: "POST",
        path: "/v1/cache/purge",
        action: Action::PurgeCache,
        role: Role::Operate,
        id: "purgeCache",
        summary: "Remove stored responses: all of them, or those that all that is said holds for",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<CachePurge>),
        reply: Content::One(SchemaGenerator::subschema_for::<CachePurged>),
    },
    Route {
        method: "GET",
        path: "/v1/analyze",
        action: Action::Analyze,
        role: Role::View,
        id: "analyze",
        summary: "What the application's start waited for, or the last one of a service",
        query: &[parameter("service", Kind::Text, "Of this service, in place of the application")],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Analysis>),
    },
    Route {
        method: "GET",
        path: "/v1/limits",
        action: Action::Limits,
        role: Role::View,
        id: "limits",
        summary: "Limits, with what they bound and did",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Limits>),
    },
    Route {
        method: "GET",
        path: "/v1/audit",
        action: Action::Audit,
        role: Role::View,
        id: "audit",
        summary: "How exposed each service leaves everything else, and what would lower that",
        query: &[
            parameter(
                "service",
                Kind::Names,
                "Of this service; may be given several times. All, when left out",
            ),
            parameter("full", Kind::Flag, "With every check, and what each service can and cannot do"),
        ],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Audit>),
    },
    Route {
        method: "POST",
        path: "/v1/limits/{service}",
        action: Action::ChangeLimits,
        role: Role::Admin,
        id: "changeLimits",
        summary: "Change limits of a service in place, until the application is started anew",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<LimitsChange>),
        reply: Content::One(SchemaGenerator::subschema_for::<LimitsChanged>),
    },
    Route {
        method: "GET",
        path: "/v1/jobs",
        action: Action::Jobs,
        role: Role::View,
        id: "jobs",
        summary: "Every job, with the next instant and what came of the last one",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Jobs>),
    },
    Route {
        method: "GET",
        path: "/v1/jobs/{job}",
        action: Action::Job,
        role: Role::View,
        id: "job",
        summary: "One job, with its history and what it said last",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<JobDetail>),
    },
    Route {
        method: "GET",
        path: "/v1/jobs/{job}/next",
        action: Action::JobInstants,
        role: Role::View,
        id: "jobNext",
        summary: "The next instants of a job",
        query: &[parameter("count", Kind::Number, "How many; 10 when it is left out, 1000 at most")],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<JobInstants>),
    },
    Route {
        method: "POST",
        path: "/v1/jobs/{job}/run",
        action: Action::RunJob,
        role: Role::Operate,
        id: "runJob",
        summary: "Have a job fire now; answers when it has begun, or ended if that is asked for",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<JobRequest>),
        reply: Content::One(SchemaGenerator::subschema_for::<JobRun>),
    },
    order_job("/v1/jobs/{job}/pause", jobs::Order::Pause, "pauseJob", "Have a job fire no more by itself"),
    order_job("/v1/jobs/{job}/resume", jobs::Order::Resume, "resumeJob", "Have a job go on"),
    order(
        "/v1/await",
        Order::Await,
        Role::View,
        "await",
        "Answers when services are ready, or are not going to be",
    ),
    order(
        "/v1/start",
        Order::Start,
        Role::Operate,
        "start",
        "Start services; answers when they are ready, or are not going to be",
    ),
    order("/v1/stop", Order::Stop, Role::Operate, "stop", "Stop services; answers when they have ended"),
    order(
        "/v1/restart",
        Order::Restart,
        Role::Operate,
        "restart",
        "Restart services; answers when the new runs are ready",
    ),
    Route {
        method: "POST",
        path: "/v1/scale",
        action: Action::Scale,
        role: Role::Operate,
        id: "scale",
        summary: "Give services other numbers of workers; answers when those are ready, or are not going to be",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<Scale>),
        reply: Content::One(SchemaGenerator::subschema_for::<Scaled>),
    },
    Route {
        method: "POST",
        path: "/v1/reload",
        action: Action::Reload,
        role: Role::Admin,
        id: "reload",
        summary: "Read the configuration again and apply what differs, all of it or nothing",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<Reload>),
        reply: Content::One(SchemaGenerator::subschema_for::<Reloaded>),
    },
    Route {
        method: "POST",
        path: "/v1/run",
        action: Action::Run,
        role: Role::Admin,
        id: "run",
        summary: "Run a process once in a new sandbox of a service; answers when it is started, or with an upgrade to its streams",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<Run>),
        reply: Content::One(SchemaGenerator::subschema_for::<TaskStarted>),
    },
    Route {
        method: "POST",
        path: "/v1/exec",
        action: Action::Exec,
        role: Role::Admin,
        id: "exec",
        summary: "Run a command inside a worker's sandbox; an upgrade (101) to a connection about it, with its streams as descriptors",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<Exec>),
        reply: Content::Lines(SchemaGenerator::subschema_for::<OfTask>),
    },
    Route {
        method: "GET",
        path: "/v1/tasks",
        action: Action::Tasks,
        // Arguments may have secrets in them.
        role: Role::Operate,
        id: "tasks",
        summary: "Every task that has not ended: commands of exec, run, jobs and hooks",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Tasks>),
    },
    Route {
        method: "POST",
        path: "/v1/tasks/{task}/stop",
        action: Action::StopTask,
        role: Role::Operate,
        id: "stopTask",
        summary: "End a task; answers when nothing of it is left",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<TaskStop>),
        reply: Content::One(SchemaGenerator::subschema_for::<TaskEnd>),
    },
    Route {
        method: "POST",
        path: "/v1/tasks/{task}",
        action: Action::Attach,
        role: Role::Admin,
        id: "attach",
        summary: "Go on with a task that somebody is attached to after its daemon was replaced; an upgrade (101) as for exec",
        query: &[],
        body: None,
        reply: Content::Lines(SchemaGenerator::subschema_for::<OfTask>),
    },
    Route {
        method: "POST",
        path: "/v1/upgrade",
        action: Action::Upgrade,
        role: Role::Admin,
        id: "upgrade",
        summary: "Have another version of watt take over; answers when it is about to",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<Upgrade>),
        reply: Content::One(SchemaGenerator::subschema_for::<UpgradeState>),
    },
    Route {
        method: "GET",
        path: "/v1/upgrade",
        action: Action::UpgradeState,
        role: Role::View,
        id: "upgradeState",
        summary: "The last upgrade of watt, or the one that is under way",
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<UpgradeState>),
    },
    Route {
        method: "POST",
        path: "/v1/shutdown",
        action: Action::Shutdown,
        role: Role::Admin,
        id: "shutdown",
        summary: "End the application; answers when everything but the supervisor has ended",
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<Shutdown>),
        reply: Content::One(SchemaGenerator::subschema_for::<Outcome>),
    },
    Route {
        method: "GET",
        path: "/v1/events",
        action: Action::Events,
        role: Role::View,
        id: "events",
        summary: "What happened, one JSON object a line",
        query: &[parameter("since", Kind::Number, "Leave out those up to this seq"), FOLLOW],
        body: None,
        reply: Content::Lines(SchemaGenerator::subschema_for::<Event>),
    },
    Route {
        method: "GET",
        path: "/v1/logs",
        action: Action::Logs,
        role: Role::View,
        id: "logs",
        summary: "What the workers wrote, one JSON object a line",
        query: &[
            parameter(
                "service",
                Kind::Names,
                "Of this service; may be given several times. All, when left out",
            ),
            parameter("since", Kind::Time, "Leave out those before this time"),
            parameter("after", Kind::Number, "Leave out those up to this seq"),
            parameter(
                "tail",
                Kind::Number,
                "Of the past, the last lines only; 10000 at most. All that is kept, when left out",
            ),
            FOLLOW,
        ],
        body: None,
        reply: Content::Lines(SchemaGenerator::subschema_for::<LogLine>),
    },
    Route {
        method: "GET",
        path: "/v1/metrics",
        action: Action::Metrics,
        role: Role::View,
        id: "metrics",
        summary: "Figures in the text format of Prometheus, or in OpenMetrics where that is accepted",
        query: &[parameter("openmetrics", Kind::Flag, "OpenMetrics in any case")],
        body: None,
        reply: Content::Text,
    },
    Route {
        method: "GET",
        path: "/v1/openapi.json",
        action: Action::OpenApi,
        role: Role::View,
        id: "openapi",
        summary: "This document",
        query: &[],
        body: None,
        reply: Content::Document,
    },
];

const fn order(
    path: &'static str,
    order: Order,
    role: Role,
    id: &'static str,
    summary: &'static str,
) -> Route {
    Route {
        method: "POST",
        path,
        action: Action::Order(order),
        role,
        id,
        summary,
        query: &[],
        body: Some(SchemaGenerator::subschema_for::<Selection>),
        reply: Content::One(SchemaGenerator::subschema_for::<Outcome>),
    }
}

const fn order_job(path: &'static str, order: jobs::Order, id: &'static str, summary: &'static str) -> Route {
    Route {
        method: "POST",
        path,
        action: Action::OrderJob(order),
        role: Role::Operate,
        id,
        summary,
        query: &[],
        body: None,
        reply: Content::One(SchemaGenerator::subschema_for::<Job>),
    }
}

/// Answers a request, if the caller may have an answer.
pub(super) async fn answer(
    control: &Control,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    // Who has no role at all does not hear which paths there are.
    caller.may(Role::View)?;
    let (route, segment) = find(request.method(), request.uri().path())?;
    caller.may(route.role)?;
    let query = Query::parse(request.uri().query().unwrap_or_default(), route.query)?;
    match route.action {
        Action::Status => status::get(control).await,
        Action::Inspect => services::get(control, &segment.unwrap_or_default()).await,
        Action::Graph => graph::get(control).await,
        Action::Routes => gateway::routes(control).await,
        Action::Cache => cache::get(control).await,
        Action::PurgeCache => cache::purge(control, request.into_body()).await,
        Action::Analyze => graph::analyze(control, &query).await,
        Action::Apply => {
            services::apply(control, caller, &segment.unwrap_or_default(), &query, request.into_body()).await
        }
        Action::Remove => services::remove(control, caller, &segment.unwrap_or_default(), &query).await,
        Action::Limits => limits::get(control).await,
        Action::Audit => audit::get(control, &query).await,
        Action::ChangeLimits => {
            limits::change(control, &segment.unwrap_or_default(), request.into_body()).await
        }
        Action::Order(order) => operations::order(control, order, request.into_body()).await,
        Action::Scale => operations::scale(control, request.into_body()).await,
        Action::Jobs => jobs::list(control).await,
        Action::Job => jobs::get(control, segment.unwrap_or_default()).await,
        Action::JobInstants => jobs::next(control, segment.unwrap_or_default(), &query).await,
        Action::RunJob => jobs::run(control, segment.unwrap_or_default(), request.into_body()).await,
        Action::OrderJob(order) => jobs::order(control, segment.unwrap_or_default(), order).await,
        Action::Reload => operations::reload(control, request.into_body()).await,
        Action::Run => tasks::run(control, caller, request).await,
        Action::Exec => tasks::exec(control, caller, request).await,
        Action::Tasks => tasks::list(control).await,
        Action::StopTask => tasks::stop(control, &segment.unwrap_or_default(), request.into_body()).await,
        Action::Attach => tasks::attach(control, &segment.unwrap_or_default(), request).await,
        Action::Upgrade => upgrade::begin(control, caller, request.into_body()).await,
        Action::UpgradeState => upgrade::get(control).await,
        Action::Shutdown => operations::shutdown(control, request.into_body()).await,
        Action::Events => events::get(control, &query),
        Action::Logs => logs::get(control, &query).await,
        Action::Metrics => metrics::get(control, &query, &request).await,
        Action::OpenApi => openapi::get(),
    }
}

/// The route of a request, and the segment that stands in the place of its `{name}`.
fn find(method: &Method, path: &str) -> Result<(&'static Route, Option<String>), Failure> {
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(segment) = matched(route.path, path) else { continue };
        if route.method == method.as_str() {
            return Ok((route, segment.map(decoded).transpose()?));
        }
        allowed.push(route.method);
    }
    Err(match allowed[..] {
        [] => Failure::NoPath(path.to_owned()),
        _ => Failure::NoMethod { method: method.clone(), allowed },
    })
}

/// Whether a path fits, and with which segment.
fn matched<'a>(pattern: &str, path: &'a str) -> Option<Option<&'a str>> {
    let Some((before, rest)) = pattern.split_once('{') else { return (pattern == path).then_some(None) };
    let (_, after) = rest.split_once('}')?;
    let segment = path.strip_prefix(before)?.strip_suffix(after)?;
    (!segment.is_empty() && !segment.contains('/')).then_some(Some(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_one_whole_segment() {
        assert_eq!(matched("/v1/status", "/v1/status"), Some(None));
        assert_eq!(matched("/v1/status", "/v1/status/"), None);
        assert_eq!(matched("/v1/services/{service}", "/v1/services/api"), Some(Some("api")));
        assert_eq!(matched("/v1/services/{service}", "/v1/services/"), None);
        assert_eq!(matched("/v1/services/{service}", "/v1/services/a/b"), None);
        assert_eq!(matched("/v1/jobs/{job}/run", "/v1/jobs/a/run"), Some(Some("a")));
        assert_eq!(matched("/v1/jobs/{job}/run", "/v1/jobs//run"), None);
        assert_eq!(matched("/v1/jobs/{job}/run", "/v1/jobs/run"), None);
        assert_eq!(matched("/v1/jobs/{job}/run", "/v1/jobs/a/b/run"), None);
    }
}

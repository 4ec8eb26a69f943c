//! The server over a real socket, through the one client, with a loop that answers from a script.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::oneshot,
    task::JoinHandle,
};
use watt_api::{
    client::{Client, Error, EventsQuery, LogsQuery},
    control::{
        Analysis, Audit, AuditBasis, Cache, CachePurged, Graph, Inspect, Limits, LimitsChanged, Outcome,
        Problem, Reload, Reloaded, Requests, Routes, Scaled, ScaledService, Service, Shutdown, Status,
        Supervisor, WorkerState,
    },
    mesh::{CachePurge, CacheStatus, Route},
};
use watt_core::{RunId, ServiceId, WorkerId};

use super::{routes::ROUTES, *};
use crate::{
    events::happenings::AppReady,
    logs::{RunInfo, Settings, Source},
    tasks,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// The services of the scripted application.
const SERVICES: [&str; 3] = ["api", "orders", "web"];

struct Fixture {
    dir: TempDir,
    socket: PathBuf,
    client: Client,
    events: Events,
    logs: Logs,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    /// What the loop was asked for, in words.
    asked: mpsc::UnboundedReceiver<String>,
}

impl Fixture {
    async fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let events = Events::new();
        let settings =
            Settings::new(dir.path().join("logs"), dir.path().join("bookmarks"), &Default::default());
        let logs = Logs::start(settings, events.clone()).unwrap();
        let (commands, receiver) = mpsc::channel(4);
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(scripted_loop(receiver, tell));
        let server = Server::new(listener.into(), roles(), commands, events.clone(), logs.clone()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server.run(async { stopped.await.unwrap_or(()) }));
        let client = Client::connect(&socket).await.unwrap();
        Fixture { dir, socket, client, events, logs, stop: Some(stop), server, asked }
    }

    /// Sends bytes as they are and reads all that comes back.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        // The server may have answered and closed before everything is written.
        let _ = stream.write_all(request).await;
        let mut reply = Vec::new();
        let _ = soon(stream.read_to_end(&mut reply)).await;
        String::from_utf8(reply).unwrap()
    }

    /// The status and the problem of a request that is refused.
    async fn problem(&self, method: &str, path: &str, body: &str) -> (u16, Problem) {
        let reply = self.raw(&request(method, path, body)).await;
        let (head, body) = reply.split_once("\r\n\r\n").expect("a response");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("a problem, not {reply}")))
    }
}

fn roles() -> Roles {
    Roles::of_plan(&crate::testing::plan(&SERVICES), nix::unistd::geteuid().as_raw())
}

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: watt\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes")
}

/// Answers as a loop would, and says what it was asked. Starting `orders` takes for ever, and so does its audit; of that it says
/// when nobody waits for it any more.
async fn scripted_loop(mut commands: mpsc::Receiver<Command>, tell: mpsc::UnboundedSender<String>) {
    let known = || SERVICES.map(|name| ServiceId::new(name).unwrap()).to_vec();
    let done = |services: &Services| {
        let names = match services {
            Services::All => known(),
            Services::Named(names) => names.clone(),
        };
        Ok(Outcome {
            ok: true,
            services: names.iter().map(|name| (name.to_string(), "ready".into())).collect(),
        })
    };
    let mut never_answered = Vec::new();
    while let Some(command) = commands.recv().await {
        let _ = tell.send(format!("{command:?}").split(" reply").next().unwrap_or_default().to_owned());
        match command {
            Command::ServiceOf { reply, .. } => drop(reply.send(Ok(None))),
            Command::Names { reply } => drop(reply.send(Ok(known()))),
            Command::Status { reply } => drop(reply.send(Ok(Box::new(status())))),
            Command::Edges { reply } => drop(reply.send(Ok(None))),
            Command::Graph { reply } => {
                let graph = Graph {
                    app: "shop".into(),
                    file: "/srv/shop/watt.yaml".into(),
                    services: Vec::new(),
                    groups: Vec::new(),
                };
                drop(reply.send(Ok(Box::new(graph))));
            }
            Command::Cache { reply } => {
                let store = CacheStatus { entries: 3, ..CacheStatus::default() };
                drop(reply.send(Ok(Box::new(Cache { store, services: Default::default() }))));
            }
            Command::PurgeCache { purge, reply } => {
                let removed = if purge == CachePurge::default() { 3 } else { 1 };
                drop(reply.send(Ok(CachePurged { removed })));
            }
            Command::Routes { reply } => {
                let routes = Routes {
                    app: "shop".into(),
                    file: "/srv/shop/watt.yaml".into(),
                    gateway: None,
                    listeners: Vec::new(),
                    routes: vec![Route { path: "/".into(), service: "web".into(), ..Route::default() }],
                    upstreams: std::collections::BTreeMap::new(),
                };
                drop(reply.send(Ok(Box::new(routes))));
            }
            Command::Analyze { service, reply } => {
                let service = service.map(|service| service.to_string());
                drop(reply.send(Ok(Box::new(Analysis { service, ..Analysis::default() }))));
            }
            Command::Limits { reply } => drop(reply.send(Ok(Limits { groups: Vec::new() }))),
            Command::Audit { services: Services::Named(names), mut reply, turn, .. }
                if names[0].as_str() == "orders" =>
            {
                let tell = tell.clone();
                tokio::spawn(async move {
                    reply.closed().await;
                    let _ = tell.send("nobody waits".to_owned());
                    std::future::pending::<()>().await;
                    drop(turn);
                });
            }
            Command::Audit { reply, .. } => drop(reply.send(Ok(Box::new(audit())))),
            Command::ChangeLimits { change, reply, .. } if change.limits.is_empty() => {
                let _ = reply.send(Ok(LimitsChanged::default()));
            }
            Command::ChangeLimits { reply, .. } => {
                let _ = reply.send(Err(Refusal::BadLimits("`memory` of less than 1M".into())));
            }
            Command::Inspect { service, reply } if known().contains(&service) => {
                let _ = reply.send(Ok(Box::new(inspect(service.as_str()))));
            }
            Command::Inspect { service, reply } => {
                let _ =
                    reply.send(Err(Refusal::UnknownService { name: service.to_string(), known: known() }));
            }
            Command::Start { services: Services::Named(names), reply } if names[0].as_str() == "orders" => {
                never_answered.push(reply);
            }
            Command::Await { services, reply }
            | Command::Start { services, reply }
            | Command::Stop { services, reply } => {
                let _ = reply.send(done(&services));
            }
            Command::Scale { services, reply } if services.values().all(Option::is_some) => {
                let one = |(id, to): (ServiceId, Option<u16>)| {
                    let result = "ready".to_owned();
                    (id.to_string(), ScaledService { from: 2, to: to.unwrap_or(2), result })
                };
                let _ =
                    reply.send(Ok(Scaled { ok: true, services: services.into_iter().map(one).collect() }));
            }
            Command::Scale { reply, .. } => {
                let (message, hint) = ("no number".to_owned(), Some("write one".to_owned()));
                let _ = reply.send(Err(Refusal::BadScale { message, hint }));
            }
            Command::Upgrade { reply, .. } | Command::UpgradeState { reply } => {
                let (code, message) = ("no_upgrade", "not upgraded".to_owned());
                let _ = reply.send(Err(Refusal::NotUpgraded { code, message, hint: None }));
            }
            Command::Restart { reply, .. } => drop(reply.send(Err(Refusal::ShuttingDown))),
            Command::Reload { request, reply } if request.plan => {
                let (changes, services) = (Vec::new(), Default::default());
                let _ = reply.send(Ok(Box::new(Reloaded {
                    ok: true,
                    applied: false,
                    changes,
                    stay: Vec::new(),
                    taken_back: Vec::new(),
                    services,
                })));
            }
            Command::Apply { reply, .. } | Command::Reload { reply, .. } => {
                let report = serde_json::json!({ "errors": [{ "line": 3 }] });
                let _ = reply.send(Err(Refusal::Config { text: "error: no such service".into(), report }));
            }
            Command::Jobs { reply } => drop(reply.send(Ok(watt_api::control::Jobs { jobs: Vec::new() }))),
            Command::Job { job, reply } => {
                let known = vec!["nightly".to_owned()];
                let _ = reply.send(Err(Refusal::UnknownJob { name: job, known }));
            }
            Command::JobInstants { reply, .. } => {
                let _ = reply.send(Ok(watt_api::control::JobInstants { instants: Vec::new() }));
            }
            Command::OrderJob { job, reply, .. } => {
                let _ = reply.send(Err(Refusal::UnknownJob { name: job, known: Vec::new() }));
            }
            Command::RunJob { job, reply, .. } => drop(reply.send(Err(Refusal::JobBusy(job)))),
            Command::Task(TaskCommand(tasks::Request::Run { reply, .. })) => {
                drop(reply.send(Err(Refusal::NotStarted("cgroup: Permission denied".into()))));
            }
            Command::Task(TaskCommand(tasks::Request::List { reply })) => {
                drop(reply.send(Ok(watt_api::control::Tasks { tasks: Vec::new() })));
            }
            Command::Task(TaskCommand(tasks::Request::Exec { attachment, reply, .. })) => {
                let told = attachment.told.expect("somebody is attached");
                let _ = told.send(tasks::Told::Executed { terminal: None });
                let _ = told.send(tasks::Told::Ended(tasks::ended_for_tests()));
                let _ = reply.send(Ok(watt_api::control::TaskStarted { task: "api/t7".into() }));
            }
            Command::Task(TaskCommand(tasks::Request::Stop { task, reply, .. })) => {
                let known = vec!["api/t8".to_owned()];
                drop(reply.send(Err(Refusal::UnknownTask { name: task.to_string(), known })));
            }
            Command::Task(_) => {}
            Command::Shutdown { reply, .. } => drop(reply.send(done(&Services::All))),
        }
    }
}

fn status() -> Status {
    Status {
        app: "shop".into(),
        file: "/srv/shop/watt.yaml".into(),
        version: "0.1.0".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        loaded_at: "2026-01-01T00:00:00.000Z".into(),
        digest: "00".into(),
        gateway: None,
        listeners: Vec::new(),
        tls: None,
        supervisor: Supervisor {
            spawner_pid: 1,
            daemon_pid: 2,
            proxy_pid: None,
            daemon_restarts: 0,
            proxy_restarts: 0,
            memory: 0,
            program: "/usr/bin/wattctl".into(),
            proxies: Vec::new(),
        },
        services: SERVICES.map(service).to_vec(),
        taken_out: Default::default(),
        warnings: Vec::new(),
    }
}

fn service(name: &str) -> Service {
    Service {
        id: name.into(),
        state: WorkerState::Ready,
        waiting_for: Vec::new(),
        ready: 1,
        wanted: 1,
        scaling: None,
        workers: Vec::new(),
        requests: Requests::default(),
        sandbox: "standard".to_owned(),
        unenforced: Vec::new(),
        applied: None,
    }
}

fn audit() -> Audit {
    let basis = AuditBasis::Running;
    Audit { app: "shop".into(), file: "/w.yaml".into(), basis, started_by_root: true, services: Vec::new() }
}

fn inspect(name: &str) -> Inspect {
    let config = serde_json::json!({});
    let (cgroups, outside) = (Vec::new(), Vec::new());
    Inspect { service: service(name), config, log_dir: "/var/log".into(), cgroups, outside }
}

#[tokio::test]
async fn every_call_reaches_the_loop_and_comes_back() {
    let mut fixture = Fixture::new().await;
    let client = fixture.client.clone();
    assert_eq!(client.status().await.unwrap(), status());
    assert_eq!(client.graph().await.unwrap().app, "shop");
    assert_eq!(client.routes().await.unwrap().routes[0].service, "web");
    assert_eq!(client.cache().await.unwrap().store.entries, 3);
    let purge = CachePurge { tag: Some("a".into()), ..CachePurge::default() };
    assert_eq!(client.purge_cache(&purge).await.unwrap().removed, 1);
    assert_eq!(client.analyze(None).await.unwrap().service, None);
    assert_eq!(client.analyze(Some("orders")).await.unwrap().service, Some("orders".into()));
    assert_eq!(client.inspect("web").await.unwrap(), inspect("web"));
    assert_eq!(
        client.start(&["api".into()]).await.unwrap().services,
        BTreeMap::from([("api".into(), "ready".into())])
    );
    assert_eq!(client.stop(&[]).await.unwrap().services.len(), SERVICES.len());
    assert!(client.reload(&Reload { plan: true, ..Reload::default() }).await.unwrap().ok);
    assert!(client.shutdown(Shutdown { now: true }).await.unwrap().ok);
    let error = client.restart(&["api".into(), "web".into()]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused { status: 503, problem } if problem.code == "ending"),
        "{error:?}"
    );
    let asked: Vec<String> = std::iter::from_fn(|| fixture.asked.try_recv().ok()).collect();
    assert_eq!(
        asked,
        [
            "Status {",
            "Graph {",
            "Routes {",
            "Cache {",
            "PurgeCache { purge: CachePurge { service: None, uri: None, prefix: None, tag: Some(\"a\") },",
            "Analyze { service: None,",
            "Analyze { service: Some(orders),",
            "Inspect { service: web,",
            "Start { services: Named([api]),",
            "Stop { services: All,",
            "Reload { request: Reload { plan: true, wait: false, folder: None },",
            "Shutdown { now: true,",
            "Restart { services: Named([api, web]),",
        ]
    );
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let fixture = Fixture::new().await;
    let check = async |method: &str, path: &str, body: &str, status: u16, code: &str, text: &str| {
        let (got, problem) = fixture.problem(method, path, body).await;
        let words = format!("{} {}", problem.message, problem.hint.unwrap_or_default());
        assert_eq!((got, problem.code.as_str()), (status, code), "{method} {path}: {words}");
        assert!(words.contains(text), "{method} {path}: {words:?} does not say {text:?}");
    };
    check("GET", "/", "", 404, "unknown_path", "there is no /").await;
    let limits = r#"{"limits":{"memory":"1"}}"#;
    check("POST", "/v1/limits/api", limits, 400, "bad_request", "less than 1M").await;
    check("POST", "/v1/cache/purge", r#"{"uri":"x"}"#, 400, "bad_request", "is no URI").await;
    check("POST", "/v1/cache/purge", r#"{"service":"wbe"}"#, 404, "unknown_service", "web").await;
    check("POST", "/v1/cache/purge", r#"{"tags":["x"]}"#, 400, "bad_request", "unknown field").await;
    check("POST", "/v1/scale", r#"{"services":{"api":null}}"#, 400, "bad_request", "write one").await;
    check("POST", "/v1/scale", r#"{"services":{"api":-1}}"#, 400, "bad_request", "invalid value").await;
    check("POST", "/v1/reload", "{}", 409, "config", "no such service").await;
    check("PUT", "/v1/services/new", "command: x", 409, "config", "no such service").await;
    check("PUT", "/v1/services/New", "command: x", 400, "bad_request", "cannot be a service's name").await;
    check("PUT", "/v1/services/new?file=a%1bb", "", 400, "bad_request", "no path that could be shown").await;
    check("PUT", "/v1/services/new?plan=maybe", "", 400, "bad_request", "neither true nor false").await;
    check("DELETE", "/v1/services/new", "", 409, "config", "no such service").await;
    check("DELETE", "/v1/services/a%20b", "", 404, "unknown_service", "a b").await;
    check("DELETE", "/v1/services/new?file=x", "", 400, "bad_request", "no parameter \"file\"").await;
    check("POST", "/v1/tasks/t7/stop", "", 404, "unknown_task", "there is no task \"t7\"").await;
    check("POST", "/v1/tasks/api/stop", "", 400, "bad_request", "api is no task").await;
    check("POST", "/v1/tasks/t7/stop", "{\"nwo\":true}", 400, "bad_request", "unknown field `nwo`").await;
    check("GET", "/v1/nothing", "", 404, "unknown_path", "/v1/openapi.json").await;
    check("POST", "/v1/status", "", 405, "bad_method", "use GET").await;
    check("BREW", "/v1/stop", "", 405, "bad_method", "use POST").await;
    check("GET", "/v1/services/ordrs", "", 404, "unknown_service", "did you mean orders?").await;
    check("GET", "/v1/services/Web", "", 404, "unknown_service", "\"Web\"").await;
    check("GET", "/v1/jobs/nightli", "", 404, "unknown_job", "did you mean nightly?").await;
    check("POST", "/v1/jobs/nightly/pause", "", 404, "unknown_job", "it has no jobs").await;
    check("POST", "/v1/jobs/nightly/run", "", 409, "job_busy", "nightly is under way").await;
    check("POST", "/v1/jobs/nightly/run", "{\"wiat\":true}", 400, "bad_request", "unknown field `wiat`")
        .await;
    check("GET", "/v1/jobs/nightly/run", "", 405, "bad_method", "use POST").await;
    check("GET", "/v1/jobs/nightly/next?count=all", "", 400, "bad_request", "count=all").await;
    check("GET", "/v1/services/%ff", "", 400, "bad_request", "percent-encoded").await;
    check("GET", "/v1/logs?service=zzz", "", 404, "unknown_service", "api, orders, web").await;
    check("GET", "/v1/logs?tail=many", "", 400, "bad_request", "tail=many").await;
    check("GET", "/v1/logs?tail=1&tail=2", "", 400, "bad_request", "tail is given twice").await;
    check("GET", "/v1/logs?since=yesterday", "", 400, "bad_request", "2026-01-31T12:00:00Z").await;
    check("GET", "/v1/logs?folow=true", "", 400, "bad_request", "did you mean follow?").await;
    check("GET", "/v1/events?follow=maybe", "", 400, "bad_request", "neither true nor false").await;
    check("GET", "/v1/events?since=-1", "", 400, "bad_request", "not a number").await;
    check("POST", "/v1/stop", "{\"services\":", 400, "bad_request", "line 1 column 12").await;
    check("POST", "/v1/stop", "{\"service\":[]}", 400, "bad_request", "unknown field `service`").await;
    check("POST", "/v1/stop", "{\"services\":[\"a b\"]}", 404, "unknown_service", "a b").await;
    check("POST", "/v1/shutdown", "[1]", 400, "bad_request", "line 1").await;
    check("POST", "/v1/stop", &" ".repeat(300 << 10), 413, "too_large", "bytes").await;
}

#[tokio::test]
async fn garbage_does_not_disturb_the_server() {
    let fixture = Fixture::new().await;
    let mut garbage: Vec<Vec<u8>> = vec![b"\0\xff\xfe\r\n\r\n".to_vec(), b"GET\r\n\r\n".to_vec(), Vec::new()];
    garbage.push(format!("GET /v1/status HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(10_000)).into());
    garbage.push(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).into());
    // One field alone, which is larger than a head may be.
    garbage.push(format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(40_000)).into());
    garbage.push(
        b"POST /v1/stop HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n".to_vec(),
    );
    for bytes in garbage {
        let mut stream = UnixStream::connect(&fixture.socket).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut reply = Vec::new();
        let _ = soon(stream.read_to_end(&mut reply)).await;
        assert!(!reply.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply));
    }
    assert_eq!(fixture.client.status().await.unwrap(), status());
}

/// A place at the socket is held for as long as it takes to say what one wants, and no longer. The clock is the runtime's, which goes on
/// when there is nothing to do.
#[tokio::test]
async fn who_does_not_say_what_he_wants_is_not_waited_for() {
    let fixture = Fixture::new().await;
    tokio::time::pause();
    let check = async |said: &str, expected: &str| {
        let before = tokio::time::Instant::now();
        let reply = fixture.raw(said.as_bytes()).await;
        assert!(reply.starts_with(expected), "{said:?}: {reply}");
        let waited = before.elapsed();
        assert!((Duration::from_secs(10)..Duration::from_secs(20)).contains(&waited), "{said:?}: {waited:?}");
    };
    check("", "").await;
    check("GET /v1/status HT", "").await;
    check("POST /v1/stop HTTP/1.1\r\nHost: watt\r\nContent-Length: 5\r\n\r\n{", "HTTP/1.1 408").await;
}

/// Twice as many as there are long calls: the next one waits in the kernel's queue until one of them ends.
#[tokio::test]
async fn no_more_connections_are_served_at_a_time_than_there_are_places() {
    let fixture = Fixture::new().await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let mut idle = Vec::new();
    for _ in 0..2 * LONG_CALLS_MAX {
        idle.push(UnixStream::connect(&fixture.socket).await.unwrap());
    }
    assert_eq!(fixture.client.status().await.unwrap(), status());
    assert!(before.elapsed() >= Duration::from_secs(10), "{:?}", before.elapsed());
    // With one place less taken there is one.
    let before = tokio::time::Instant::now();
    let mut idle = Vec::new();
    for _ in 1..2 * LONG_CALLS_MAX {
        idle.push(UnixStream::connect(&fixture.socket).await.unwrap());
    }
    assert_eq!(fixture.client.status().await.unwrap(), status());
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing() {
    let mut fixture = Fixture::new().await;
    let client = fixture.client.clone();
    let waiting = tokio::spawn(async move { client.start(&["orders".into()]).await });
    assert_eq!(soon(fixture.asked.recv()).await.unwrap(), "Start { services: Named([orders]),");
    waiting.abort();
    // The loop still holds the command, and the server goes on.
    assert_eq!(fixture.client.status().await.unwrap(), status());
}

/// Audits compute on threads that kills need as well, also those whose client has gone.
#[tokio::test]
async fn one_audit_is_under_way_at_a_time_until_it_is_done() {
    let mut fixture = Fixture::new().await;
    assert_eq!(fixture.client.audit(&[], false).await.unwrap(), audit());
    assert_eq!(fixture.client.audit(&[], false).await.unwrap(), audit(), "the first one is done");
    let mut stream = UnixStream::connect(&fixture.socket).await.unwrap();
    stream.write_all(&request("GET", "/v1/audit?service=orders", "")).await.unwrap();
    while !soon(fixture.asked.recv()).await.unwrap().contains("orders") {}
    drop(stream);
    assert_eq!(soon(fixture.asked.recv()).await.unwrap(), "nobody waits");
    let error = fixture.client.audit(&["api".into()], false).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { status: 503, problem } if problem.code == "busy"), "{error:?}");
}

#[tokio::test]
async fn waiting_calls_are_bounded_and_the_end_is_always_possible() {
    let mut fixture = Fixture::new().await;
    let mut streams = Vec::new();
    let query = EventsQuery { since: None, follow: true };
    let error = loop {
        match fixture.client.events(query).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Refused { status: 503, problem } if problem.code == "busy"), "{error:?}");
    assert_eq!(streams.len(), LONG_CALLS_MAX);
    assert_eq!(fixture.client.status().await.unwrap(), status());
    assert!(fixture.client.shutdown(Shutdown::default()).await.unwrap().ok);
    drop(fixture.stop.take());
    soon(&mut fixture.server).await.unwrap();
    for mut stream in streams {
        assert!(soon(stream.next()).await.is_none(), "a stream ends with the server");
    }
}

#[tokio::test]
async fn events_are_replayed_and_followed() {
    let fixture = Fixture::new().await;
    fixture.events.emit(AppReady { services: 1 });
    let mut past = fixture.client.events(EventsQuery::default()).await.unwrap();
    let first = soon(past.next()).await.unwrap().unwrap();
    assert_eq!((first.kind.as_str(), first.text.as_str()), ("app_ready", "1 service ready"));
    assert!(soon(past.next()).await.is_none());
    let query = EventsQuery { since: Some(first.seq), follow: true };
    let mut coming = fixture.client.events(query).await.unwrap();
    fixture.events.emit(AppReady { services: 2 });
    assert_eq!(soon(coming.next()).await.unwrap().unwrap().seq, first.seq + 1);
}

#[tokio::test]
async fn logs_are_read_and_followed() {
    let fixture = Fixture::new().await;
    let mut stdout = attach(&fixture, "api", 1);
    stdout.write_all(b"one\ntwo\n").unwrap();
    let query = LogsQuery { services: vec!["api".into()], follow: true, ..LogsQuery::default() };
    let mut lines = fixture.client.logs(&query).await.unwrap();
    let one = soon(lines.next()).await.unwrap().unwrap();
    let two = soon(lines.next()).await.unwrap().unwrap();
    assert_eq!((one.text.as_deref(), two.text.as_deref()), (Some("one"), Some("two")));
    stdout.write_all(b"three\n").unwrap();
    assert_eq!(soon(lines.next()).await.unwrap().unwrap().text.as_deref(), Some("three"));

    let check = async |query: LogsQuery, expected: &[&str]| {
        let mut lines = fixture.client.logs(&query).await.unwrap();
        let mut texts = Vec::new();
        while let Some(line) = soon(lines.next()).await {
            texts.push(line.unwrap().text.unwrap());
        }
        assert_eq!(texts, expected, "{query:?}");
    };
    check(LogsQuery::default(), &["one", "two", "three"]).await;
    check(LogsQuery { tail: Some(1), ..LogsQuery::default() }, &["three"]).await;
    check(LogsQuery { after: Some(one.seq), ..LogsQuery::default() }, &["two", "three"]).await;
    check(
        LogsQuery { since: Some("2000-01-01T00:00:00+02:00".into()), ..LogsQuery::default() },
        &["one", "two", "three"],
    )
    .await;
    check(LogsQuery { since: Some("2100-01-01T00:00:00Z".into()), ..LogsQuery::default() }, &[]).await;
    check(LogsQuery { services: vec!["web".into(), "web".into()], ..LogsQuery::default() }, &[]).await;
}

/// Who has read what there is, and waits for more that does not come, is not cut off.
#[tokio::test]
async fn the_end_of_the_server_is_the_end_of_a_quiet_log() {
    let mut fixture = Fixture::new().await;
    let mut stdout = attach(&fixture, "api", 1);
    stdout.write_all(b"one\n").unwrap();
    let query = LogsQuery { follow: true, ..LogsQuery::default() };
    let mut lines = fixture.client.logs(&query).await.unwrap();
    assert_eq!(soon(lines.next()).await.unwrap().unwrap().text.as_deref(), Some("one"));
    drop(fixture.stop.take());
    assert!(soon(lines.next()).await.is_none(), "it ends, and does not break");
}

#[tokio::test]
async fn a_slow_client_holds_nobody_up() {
    let fixture = Fixture::new().await;
    let mut stdout = attach(&fixture, "api", 1);
    let query = LogsQuery { follow: true, ..LogsQuery::default() };
    let mut lines = fixture.client.logs(&query).await.unwrap();
    for _ in 0..2 {
        // The second one is read by a reader of what comes; the first one may be the past.
        writeln!(stdout, "first").unwrap();
        soon(lines.next()).await.unwrap().unwrap();
    }
    let count = 60_000;
    let writing = crate::beside::now(move || {
        (0..count).for_each(|number| writeln!(stdout, "{number} {}", "x".repeat(100)).unwrap());
    });
    // The worker gets rid of all of it although the client reads nothing.
    soon(writing).await.unwrap();
    soon(fixture.logs.ended(RunId(1))).await;
    let (mut read, mut skipped) = (0, 0);
    while read + skipped < count {
        match soon(lines.next()).await.unwrap().unwrap().skipped {
            Some(missing) => skipped += missing,
            None => read += 1,
        }
    }
    assert_eq!(read + skipped, count);
    assert!(skipped > 0, "more was written than is held for a client");
}

fn attach(fixture: &Fixture, service: &str, run: u64) -> io::PipeWriter {
    let (stdout_reader, stdout) = io::pipe().unwrap();
    let (stderr_reader, _stderr) = io::pipe().unwrap();
    let worker = WorkerId::new(ServiceId::new(service).unwrap(), 0);
    let info = RunInfo { run: RunId(run), source: Source::Worker(worker), adopted_since: None };
    fixture.logs.attach(info, stdout_reader.into(), stderr_reader.into());
    stdout
}

/// Runs python as another user who can reach the socket: `connect()` does, and `ask(s)` gives the reply. `None` for an ordinary
/// user, who cannot be somebody else.
async fn as_stranger(fixture: &Fixture, script: &str) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let open = |path: &std::path::Path, mode: u32| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    open(fixture.dir.path(), 0o755);
    open(&fixture.socket, 0o666);
    let script = format!(
        "import socket\ndef connect():\n s = socket.socket(socket.AF_UNIX); s.connect({:?}); return s\n\
         def ask(s): s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: watt\\r\\n\\r\\n'); return s.makefile().read()\n{script}",
        fixture.socket.to_str().unwrap()
    );
    let output = crate::beside::now(move || {
        use std::os::unix::process::CommandExt as _;
        std::process::Command::new("python3").args(["-c", &script]).uid(65534).gid(65534).output().unwrap()
    });
    Some(String::from_utf8(soon(output).await.unwrap().stdout).unwrap())
}

#[tokio::test]
async fn another_user_is_refused_and_told_of_once_a_second() {
    let fixture = Fixture::new().await;
    let Some(output) = as_stranger(&fixture, "for _ in range(20): print(ask(connect()))").await else {
        return;
    };
    assert_eq!(output.matches("HTTP/1.1 403").count(), 20, "{output}");
    assert!(output.contains("it takes the role view"), "{output}");
    let events = fixture.events.read(None).batch();
    let event: watt_api::control::Event = serde_json::from_str(&events[0]).unwrap();
    assert_eq!((event.kind.as_str(), event.data["uid"].as_u64()), ("control_refused", Some(65534)));
    assert!(events.len() < 20, "{events:?}");
}

#[tokio::test]
async fn strangers_do_not_keep_others_out() {
    let fixture = Fixture::new().await;
    // Those that say nothing keep their places; the next ones are sent away.
    let script = "idle = [connect() for _ in range(20)]
try: print(ask(idle[-1]) or 'sent away')
except OSError: print('sent away')
print(ask(idle[0]))";
    if let Some(output) = as_stranger(&fixture, script).await {
        assert!(output.starts_with("sent away\nHTTP/1.1 403"), "{output}");
    }
}

#[tokio::test]
async fn a_client_says_why_it_cannot_connect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    assert!(matches!(Client::connect(&path).await, Err(Error::NotRunning { .. })));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::connect(&path).await, Err(Error::NotRunning { .. })));
}

/// The application may end as soon as the task has: who has not read that yet has a moment for it.
#[tokio::test]
async fn the_end_of_a_task_is_told_before_the_server_ends() {
    let mut fixture = Fixture::new().await;
    let mut stream = UnixStream::connect(&fixture.socket).await.unwrap();
    let body = r#"{"service":"api","command":["true"]}"#;
    let head = "POST /v1/exec HTTP/1.1\r\nHost: watt\r\nConnection: upgrade\r\nUpgrade: watt-task\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        heard.push(soon(stream.read_u8()).await.unwrap());
    }
    assert!(heard.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&heard));
    drop(fixture.stop.take());
    // All that it has to do has its turn many times.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!fixture.server.is_finished(), "it has left with something to say");
    stream.write_all(b"\"take\"\n").await.unwrap();
    let mut said = String::new();
    soon(stream.read_to_string(&mut said)).await.unwrap();
    assert!(said.contains("\"ended\""), "{said}");
    soon(&mut fixture.server).await.unwrap();
}

/// Every route of the table is there, and takes what the table says.
#[tokio::test]
async fn the_server_keeps_to_its_table() {
    let fixture = Fixture::new().await;
    for route in ROUTES {
        let path = route.path.replace("{service}", "api").replace("{task}", "t7").replace("{job}", "tick");
        let body = match route.id {
            "run" | "exec" => r#"{"service":"api","command":["true"]}"#,
            _ if route.body.is_some() => "{}",
            _ => "",
        };
        let reply = fixture.raw(&request(route.method, &path, body)).await;
        // The script refuses restarts, reloads and runs, and knows no job and no upgrade.
        let expected = match route.id {
            "restart" => "HTTP/1.1 503",
            "reload" | "applyService" | "removeService" | "run" | "runJob" => "HTTP/1.1 409",
            "job" | "pauseJob" | "resumeJob" | "stopTask" => "HTTP/1.1 404",
            // They need an upgrade.
            "exec" | "attach" => "HTTP/1.1 400",
            "upgrade" | "upgradeState" => "HTTP/1.1 404",
            _ => "HTTP/1.1 200",
        };
        assert!(reply.starts_with(expected), "{} {path}: {reply}", route.method);
        let (status, problem) = fixture.problem(route.method, &format!("{path}?no_such=1"), body).await;
        assert_eq!((status, problem.code.as_str()), (400, "bad_request"), "{} {path}", route.method);
    }
}

#[tokio::test]
async fn the_document_is_served_and_complete() {
    let fixture = Fixture::new().await;
    let document = fixture.client.openapi().await.unwrap();
    assert_eq!(document, openapi::document());
    let operations: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    let table: BTreeSet<String> =
        ROUTES.iter().map(|route| format!("{} {}", route.method.to_lowercase(), route.path)).collect();
    assert_eq!(operations, table);
    let mut references = Vec::new();
    find_references(&document, &mut references);
    assert!(references.len() > 10);
    for reference in references {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }
}

fn find_references(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(|reference| reference.as_str()).map(str::to_owned));
            fields.values().for_each(|value| find_references(value, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|value| find_references(value, found)),
        _ => {}
    }
}

/// docs/openapi.json is what the server says. `WATT_BLESS=1` writes it anew.
#[test]
fn the_document_in_docs_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let current = serde_json::to_string_pretty(&openapi::document()).unwrap() + "\n";
    if env::var_os("WATT_BLESS").is_some() {
        fs::write(path, &current).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(kept == current, "docs/openapi.json is not current; run this test with WATT_BLESS=1");
}

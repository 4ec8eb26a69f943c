//! The one client of the control socket.
//!
//! Each call makes a connection of its own: a Unix connect costs some 7 µs, and a connection that is never reused can
//! never turn out to be dead. The spawner holds the listener, so a call made while the daemon is being replaced waits
//! in the kernel's queue and is answered by the new one.

pub mod tasks;

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::net::UnixStream;

use crate::{
    control::{
        Analysis, Apply, Audit, Cache, CachePurged, Event, Graph, Inspect, Job, JobDetail, JobInstants,
        JobRequest, JobRun, Jobs, Limits, LimitsChange, LimitsChanged, LogLine, Outcome, Problem, Reload,
        Reloaded, Routes, Scale, Scaled, Selection, Shutdown, Status, Upgrade, UpgradeState,
    },
    mesh::CachePurge,
};

/// The largest reply that is read, in bytes: the status of ten thousand workers has room.
const REPLY_SIZE_MAX: usize = 64 << 20;
/// The longest line of a stream, in bytes. A log line is at most 8 KiB, each byte of which JSON may make six.
const STREAM_LINE_SIZE_MAX: usize = 1 << 20;
/// How often a question is asked when its daemon goes away before it answers.
const ATTEMPTS_MAX: usize = 5;
/// How long a question may take. A daemon that is replaced is back in well under a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a call failed.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no socket, or nobody holds it.
    #[error("no application is running at {}", path.display())]
    NotRunning {
        /// The control socket.
        path: PathBuf,
        /// What connect(2) said.
        source: io::Error,
    },
    /// The socket is another user's.
    #[error("no permission to use {}", path.display())]
    Permission {
        /// The control socket.
        path: PathBuf,
        /// What connect(2) said.
        source: io::Error,
    },
    /// The socket could not be reached for another reason.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The control socket.
        path: PathBuf,
        /// What connect(2) said.
        source: io::Error,
    },
    /// The connection ended, or what came was not HTTP: the daemon has gone, and its successor can be asked.
    #[error("{call}: the connection to the supervisor failed")]
    Interrupted {
        /// Method and path.
        call: String,
        /// What failed.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("{call}: the supervisor did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut {
        /// Method and path.
        call: String,
    },
    /// The reply is not what this version of the API says.
    #[error("{call}: the supervisor's answer is not understood: {detail}")]
    Protocol {
        /// Method and path.
        call: String,
        /// What was wrong with it.
        detail: String,
    },
    /// The supervisor refused.
    #[error("{}", problem.message)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        problem: Problem,
    },
}

/// Which events to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventsQuery {
    /// Leave out those up to this number.
    pub since: Option<u64>,
    /// Go on with those to come.
    pub follow: bool,
}

/// Which lines of output to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogsQuery {
    /// By service; empty is all of them.
    pub services: Vec<String>,
    /// Leave out those before this time, RFC 3339.
    pub since: Option<String>,
    /// Leave out those up to this [`LogLine::seq`].
    pub after: Option<u64>,
    /// Of the past, only so many lines, the last ones; all that is kept when it is `None`.
    pub tail: Option<usize>,
    /// Go on with those to come.
    pub follow: bool,
}

/// A running application's control socket.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Finds out whether somebody listens at `path`.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Client, Error> {
        let client = Client { path: path.as_ref().to_path_buf() };
        client.dial().await?;
        Ok(client)
    }

    /// The whole application.
    pub async fn status(&self) -> Result<Status, Error> {
        self.ask("/v1/status").await
    }

    /// One service.
    pub async fn inspect(&self, service: &str) -> Result<Inspect, Error> {
        self.ask(&format!("/v1/services/{}", encoded(service))).await
    }

    /// Which services wait for which.
    pub async fn graph(&self) -> Result<Graph, Error> {
        self.ask("/v1/graph").await
    }

    /// Which requests of clients go where.
    pub async fn routes(&self) -> Result<Routes, Error> {
        self.ask("/v1/routes").await
    }

    /// Figures for Prometheus, in its text format or in OpenMetrics.
    pub async fn metrics(&self, openmetrics: bool) -> Result<String, Error> {
        let path = format!("/v1/metrics?openmetrics={openmetrics}");
        let call = format!("GET {path}");
        let text = self.text(&call, &path).await?;
        String::from_utf8(text.into()).map_err(|error| Error::Protocol { call, detail: error.to_string() })
    }

    /// What the application's start waited for, or the last one of a service.
    pub async fn analyze(&self, service: Option<&str>) -> Result<Analysis, Error> {
        let mut parameters = Parameters::default();
        parameters.add("service", service);
        self.ask(&format!("/v1/analyze{}", parameters.0)).await
    }

    /// Limits, with what they bound and did.
    pub async fn limits(&self) -> Result<Limits, Error> {
        self.ask("/v1/limits").await
    }

    /// How exposed services leave everything else: these, or all. `full` is every check and fact.
    pub async fn audit(&self, services: &[String], full: bool) -> Result<Audit, Error> {
        let mut parameters = Parameters::default();
        for service in services {
            parameters.add("service", Some(service));
        }
        parameters.add("full", full.then_some(true));
        self.ask(&format!("/v1/audit{}", parameters.0)).await
    }

    /// Changes limits of a service, in place.
    pub async fn change_limits(&self, service: &str, change: &LimitsChange) -> Result<LimitsChanged, Error> {
        // Doing it twice is doing it once.
        let path = format!("/v1/limits/{}", encoded(service));
        persistently(|| self.order(&path, change)).await
    }

    /// What the proxy has stored of responses.
    pub async fn cache(&self) -> Result<Cache, Error> {
        self.ask("/v1/cache").await
    }

    /// Removes some of it.
    pub async fn purge_cache(&self, purge: &CachePurge) -> Result<CachePurged, Error> {
        // Doing it twice is doing it once.
        persistently(|| self.order("/v1/cache/purge", purge)).await
    }

    /// Gives services other numbers of workers, and returns when those are ready, or not going to be.
    pub async fn scale(&self, scale: &Scale) -> Result<Scaled, Error> {
        // Doing it twice is doing it once.
        persistently(|| self.order("/v1/scale", scale)).await
    }

    /// Every job.
    pub async fn jobs(&self) -> Result<Jobs, Error> {
        self.ask("/v1/jobs").await
    }

    /// One job.
    pub async fn job(&self, job: &str) -> Result<JobDetail, Error> {
        self.ask(&format!("/v1/jobs/{}", encoded(job))).await
    }

    /// The next instants of a job.
    pub async fn job_next(&self, job: &str, count: u64) -> Result<JobInstants, Error> {
        self.ask(&format!("/v1/jobs/{}/next?count={count}", encoded(job))).await
    }

    /// Has a job fire now, and returns when that has begun; with `wait`, when it has ended. Not repeated by itself.
    pub async fn job_run(&self, job: &str, request: &JobRequest) -> Result<JobRun, Error> {
        self.order(&format!("/v1/jobs/{}/run", encoded(job)), request).await
    }

    /// Pauses a job.
    pub async fn job_pause(&self, job: &str) -> Result<Job, Error> {
        // Doing it twice is doing it once.
        let path = format!("/v1/jobs/{}/pause", encoded(job));
        persistently(|| self.order(&path, &())).await
    }

    /// Has a job go on.
    pub async fn job_resume(&self, job: &str) -> Result<Job, Error> {
        let path = format!("/v1/jobs/{}/resume", encoded(job));
        persistently(|| self.order(&path, &())).await
    }

    /// Returns when services are ready, or not going to be. Starts nothing.
    pub async fn wait_for(&self, services: &[String]) -> Result<Outcome, Error> {
        let services = Selection { services: services.to_vec() };
        persistently(|| self.order("/v1/await", &services)).await
    }

    /// Starts services and returns when they are ready, or not going to be.
    pub async fn start(&self, services: &[String]) -> Result<Outcome, Error> {
        self.order("/v1/start", &Selection { services: services.to_vec() }).await
    }

    /// Stops services and returns when they have ended.
    pub async fn stop(&self, services: &[String]) -> Result<Outcome, Error> {
        self.order("/v1/stop", &Selection { services: services.to_vec() }).await
    }

    /// Restarts services and returns when the new runs are ready, or not going to be.
    pub async fn restart(&self, services: &[String]) -> Result<Outcome, Error> {
        self.order("/v1/restart", &Selection { services: services.to_vec() }).await
    }

    /// Has the configuration read again, and returns when what differs is applied.
    pub async fn reload(&self, reload: &Reload) -> Result<Reloaded, Error> {
        // Doing it twice is doing it once.
        persistently(|| self.order("/v1/reload", reload)).await
    }

    /// Applies one service, as this document has it, and returns when that holds.
    pub async fn apply(&self, service: &str, document: &str, how: &Apply) -> Result<Reloaded, Error> {
        let document = Bytes::copy_from_slice(document.as_bytes());
        self.change_service(Method::PUT, service, document, how).await
    }

    /// Takes one service out of the application, and returns when it is about to go.
    pub async fn remove(&self, service: &str, how: &Apply) -> Result<Reloaded, Error> {
        self.change_service(Method::DELETE, service, Bytes::new(), how).await
    }

    async fn change_service(
        &self,
        method: Method,
        service: &str,
        document: Bytes,
        how: &Apply,
    ) -> Result<Reloaded, Error> {
        let mut parameters = Parameters::default();
        parameters.add("plan", how.plan.then_some(true));
        parameters.add("wait", how.wait.then_some(true));
        parameters.add("folder", how.folder.as_ref().map(|path| path.to_string_lossy()));
        parameters.add("file", how.file.as_ref().map(|path| path.to_string_lossy()));
        let path = format!("/v1/services/{}{}", encoded(service), parameters.0);
        let call = format!("{method} {path}");
        // Doing it twice is doing it once.
        let reply = persistently(async || {
            let response = self.send_as(method.clone(), &path, "application/yaml", document.clone()).await?;
            whole(&call, response).await
        });
        parsed(&call, &reply.await?)
    }

    /// Has another version of watt take over, and returns when it is about to.
    pub async fn upgrade(&self, upgrade: &Upgrade) -> Result<UpgradeState, Error> {
        self.order("/v1/upgrade", upgrade).await
    }

    /// The last upgrade, or the one that is under way.
    pub async fn upgrade_state(&self) -> Result<UpgradeState, Error> {
        self.ask("/v1/upgrade").await
    }

    /// Ends the application and returns when everything but the supervisor has ended.
    pub async fn shutdown(&self, shutdown: Shutdown) -> Result<Outcome, Error> {
        // Asking for it twice is asking for it once.
        persistently(|| self.order("/v1/shutdown", &shutdown)).await
    }

    /// The API's own description.
    pub async fn openapi(&self) -> Result<serde_json::Value, Error> {
        self.ask("/v1/openapi.json").await
    }

    /// What happened.
    pub async fn events(&self, query: EventsQuery) -> Result<Lines<Event>, Error> {
        let mut parameters = Parameters::default();
        parameters.add("since", query.since);
        parameters.add("follow", query.follow.then_some(true));
        self.stream(&format!("/v1/events{}", parameters.0)).await
    }

    /// What the workers wrote.
    pub async fn logs(&self, query: &LogsQuery) -> Result<Lines<LogLine>, Error> {
        let mut parameters = Parameters::default();
        for service in &query.services {
            parameters.add("service", Some(service));
        }
        parameters.add("since", query.since.as_ref());
        parameters.add("after", query.after);
        parameters.add("tail", query.tail);
        parameters.add("follow", query.follow.then_some(true));
        self.stream(&format!("/v1/logs{}", parameters.0)).await
    }

    /// A GET that is answered at once.
    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let call = format!("GET {path}");
        parsed(&call, &self.text(&call, path).await?)
    }

    /// A whole reply as it came.
    async fn text(&self, call: &str, path: &str) -> Result<Bytes, Error> {
        let reply = async || {
            let response = self.send(Method::GET, path, Bytes::new()).await?;
            whole(call, response).await
        };
        let reply = tokio::time::timeout(ANSWER_TIMEOUT, persistently(reply)).await;
        reply.map_err(|_| Error::TimedOut { call: call.to_owned() })?
    }

    /// A POST that is answered when the work is done, which takes as long as it takes.
    async fn order<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Error> {
        let call = format!("POST {path}");
        let body = serde_json::to_vec(body)
            .map_err(|error| Error::Protocol { call: call.clone(), detail: error.to_string() })?;
        let response = self.send(Method::POST, path, Bytes::from(body)).await?;
        let reply = whole(&call, response).await?;
        parsed(&call, &reply)
    }

    async fn stream<T>(&self, path: &str) -> Result<Lines<T>, Error> {
        let call = format!("GET {path}");
        let response = persistently(|| self.send(Method::GET, path, Bytes::new()));
        let response = tokio::time::timeout(ANSWER_TIMEOUT, response).await;
        let response = response.map_err(|_| Error::TimedOut { call: call.clone() })??;
        if response.status() != StatusCode::OK {
            return Err(refusal(&call, response).await);
        }
        let items = std::marker::PhantomData;
        Ok(Lines { call, body: response.into_body(), rest: BytesMut::new(), whole: VecDeque::new(), items })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Error> {
        self.send_as(method, path, "application/json", body).await
    }

    async fn send_as(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let call = format!("{method} {path}");
        let stream = self.dial().await?;
        let interrupted = |source| Error::Interrupted { call: call.clone(), source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(interrupted)?;
        // Ends with the connection; what fails there fails in the reply as well.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "watt")
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(body))
            .map_err(|error| Error::Protocol { call: call.clone(), detail: error.to_string() })?;
        sender.send_request(request).await.map_err(interrupted)
    }

    async fn dial(&self) -> Result<UnixStream, Error> {
        let path = || self.path.clone();
        UnixStream::connect(&self.path).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NotRunning { path: path(), source }
            }
            io::ErrorKind::PermissionDenied => Error::Permission { path: path(), source },
            _ => Error::Connect { path: path(), source },
        })
    }
}

/// Makes a call that may be made twice until a daemon answers it.
async fn persistently<T>(call: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..ATTEMPTS_MAX {
        match call().await {
            Err(Error::Interrupted { .. }) => {}
            answer => return answer,
        }
    }
    call().await
}

/// A stream of JSON objects, one a line.
#[derive(Debug)]
pub struct Lines<T> {
    call: String,
    body: Incoming,
    /// The start of a line whose end has not come yet.
    rest: BytesMut,
    /// Lines that have come and were not asked for yet: at most one frame's.
    whole: VecDeque<Bytes>,
    items: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next one; `None` at the end of the stream, which is the application's when it is followed. A daemon that is
    /// killed leaves it with [`Error::Interrupted`]; its successor can be asked for the rest. May be dropped and called again
    /// without losing one.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        loop {
            if let Some(line) = self.whole.pop_front() {
                return Some(parsed(&self.call, &line));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Err(error) = self.take(&data) {
                        return Some(Err(error));
                    }
                }
                Err(source) => return Some(Err(Error::Interrupted { call: self.call.clone(), source })),
            }
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Error> {
        self.rest.extend_from_slice(data);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(end + 1).freeze();
            if !line.trim_ascii().is_empty() {
                self.whole.push_back(line);
            }
        }
        if self.rest.len() > STREAM_LINE_SIZE_MAX {
            self.rest.clear();
            return Err(Error::Protocol { call: self.call.clone(), detail: "a line without an end".into() });
        }
        Ok(())
    }
}

async fn whole(call: &str, response: Response<Incoming>) -> Result<Bytes, Error> {
    if response.status() != StatusCode::OK {
        return Err(refusal(call, response).await);
    }
    body(call, response.into_body()).await
}

async fn body(call: &str, body: Incoming) -> Result<Bytes, Error> {
    match Limited::new(body, REPLY_SIZE_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(source) => Error::Interrupted { call: call.into(), source: *source },
            Err(error) => Error::Protocol { call: call.into(), detail: error.to_string() },
        }),
    }
}

async fn refusal(call: &str, response: Response<Incoming>) -> Error {
    let status = response.status().as_u16();
    match body(call, response.into_body()).await {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(problem) => Error::Refused { status, problem },
            Err(_) => Error::Protocol { call: call.into(), detail: format!("HTTP status {status}") },
        },
        Err(error) => error,
    }
}

fn parsed<T: DeserializeOwned>(call: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Protocol { call: call.into(), detail: error.to_string() })
}

/// A query string under construction.
#[derive(Default)]
struct Parameters(String);

impl Parameters {
    fn add(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&encoded(&value.to_string()));
        }
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded() {
        let mut parameters = Parameters::default();
        parameters.add("service", Some("a&b"));
        parameters.add("since", Some("2026-01-01T00:00:00+01:00"));
        parameters.add("tail", None::<u64>);
        assert_eq!(parameters.0, "?service=a%26b&since=2026-01-01T00%3A00%3A00%2B01%3A00");
    }
}

//! `/v1/run`, `/v1/exec`, `/v1/tasks` and what is below it: processes that run once, and whoever is attached to one.
//!
//! The streams of a task are pipes or a terminal whose other ends the client gets as descriptors. None of their bytes comes
//! this way: what the client does not read holds the task up and nobody else, and both go on without a daemon.

use std::{io, os::fd::OwnedFd, time::Duration};

use hyper::{Request, Response, StatusCode, body::Incoming, header, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use nix::{fcntl::OFlag, unistd::pipe2};
use serde::Serialize;
use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    sync::{OwnedSemaphorePermit, mpsc},
};
use watt_api::control::{Exec, OfTask, Run, TaskStarted, TaskStop, Terminal, ToTask, UPGRADE};
use watt_core::ServiceId;
use watt_os::fdpass;

use super::{
    Command, Control, TaskCommand,
    body::{self, Reply},
    problem::Failure,
    request,
    roles::Caller,
    services::unknown,
};
use crate::tasks::{Attachment, Request as TaskRequest, Streams, TaskId, Told, wire};

/// The longest line that a client sends.
const LINE_SIZE_MAX: usize = 4096;

/// Starts a task in a sandbox of its own. Without an upgrade it goes on by itself: its output goes to the service's log,
/// and its end is an event.
pub(super) async fn run(
    control: &Control,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    let (upgrade, body) = taken_apart(request);
    let Run { service, command, timeout_ms, terminal } = request::json(body).await?;
    let service = named(control, &service).await?;
    let time_max = timeout_ms.map(Duration::from_millis);
    let ask = |attachment| {
        control.ask(|reply| task(TaskRequest::Run { service, command, time_max, attachment, reply }))
    };
    let by = caller.who.to_string();
    let Some(upgrade) = upgrade else {
        return body::json(&ask(Attachment { by: Some(by), ..Attachment::default() }).await?);
    };
    let (attachment, prepared) = prepare(control, by, terminal)?;
    let started = ask(attachment).await?;
    prepared.go_on(control, upgrade, started)
}

/// Starts a command inside a worker's sandbox.
pub(super) async fn exec(
    control: &Control,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    let (upgrade, body) = taken_apart(request);
    let Exec { service, worker, command, terminal } = request::json(body).await?;
    let service = named(control, &service).await?;
    if command.is_empty() {
        return Err(request::bad("there is no command".to_owned(), None));
    }
    let upgrade = upgrade.ok_or_else(no_upgrade)?;
    let (attachment, prepared) = prepare(control, caller.who.to_string(), terminal)?;
    let started =
        control.ask(|reply| task(TaskRequest::Exec { service, worker, command, attachment, reply })).await?;
    prepared.go_on(control, upgrade, started)
}

/// All that have not ended.
pub(super) async fn list(control: &Control) -> Result<Response<Reply>, Failure> {
    body::json(&control.ask(|reply| task(TaskRequest::List { reply })).await?)
}

/// Ends one.
pub(super) async fn stop(control: &Control, name: &str, body: Incoming) -> Result<Response<Reply>, Failure> {
    let TaskStop { now } = request::json(body).await?;
    let id = TaskId::of_name(name).ok_or_else(|| request::bad(format!("{name} is no task"), None))?;
    let _permit = permit(control)?;
    body::json(&control.ask(|reply| task(TaskRequest::Stop { task: id, now, reply })).await?)
}

/// Goes on with a task whose client another daemon had.
pub(super) async fn attach(
    control: &Control,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    let (upgrade, _) = taken_apart(request);
    let id = TaskId::of_name(name).ok_or_else(|| request::bad(format!("{name} is no task"), None))?;
    let upgrade = upgrade.ok_or_else(no_upgrade)?;
    let permit = permit(control)?;
    let (sender, told) = mpsc::unbounded_channel();
    control.ask(|reply| task(TaskRequest::Attach { task: id, told: sender, reply })).await?;
    let prepared = Prepared { told, streams: Vec::new(), permit };
    prepared.go_on(control, upgrade, TaskStarted { task: name.to_owned() })
}

fn task(request: TaskRequest) -> Command {
    Command::Task(TaskCommand(request))
}

/// The way to the connection, if one is asked for, and the body.
fn taken_apart(mut request: Request<Incoming>) -> (Option<OnUpgrade>, Incoming) {
    let is_asked = request.headers().get(header::UPGRADE).is_some_and(|value| value == UPGRADE);
    let upgrade = is_asked.then(|| hyper::upgrade::on(&mut request));
    (upgrade, request.into_body())
}

fn no_upgrade() -> Failure {
    request::bad(
        "its streams need a connection of their own".to_owned(),
        Some(format!("send `Upgrade: {UPGRADE}`")),
    )
}

async fn named(control: &Control, name: &str) -> Result<ServiceId, Failure> {
    match request::service(name) {
        Ok(service) => Ok(service),
        Err(name) => Err(unknown(control, name).await),
    }
}

fn permit(control: &Control) -> Result<OwnedSemaphorePermit, Failure> {
    control.long_calls.clone().try_acquire_owned().map_err(|_| Failure::Busy)
}

/// What a conversation about a task needs.
struct Prepared {
    told: mpsc::UnboundedReceiver<Told>,
    /// The client's ends of pipes.
    streams: Vec<OwnedFd>,
    permit: OwnedSemaphorePermit,
}

/// Makes the streams of a task.
fn prepare(
    control: &Control,
    by: String,
    terminal: Option<Terminal>,
) -> Result<(Attachment, Prepared), Failure> {
    let permit = permit(control)?;
    let (sender, told) = mpsc::unbounded_channel();
    let (streams, ends) = match terminal {
        Some(Terminal { rows, columns, kind }) => (Streams::Terminal { rows, columns, kind }, Vec::new()),
        None => pipes().map_err(|error| Failure::Internal(format!("no pipes can be made: {error}")))?,
    };
    let attachment = Attachment { inside: None, streams, told: Some(sender), by: Some(by) };
    Ok((attachment, Prepared { told, streams: ends, permit }))
}

fn pipes() -> io::Result<(Streams, Vec<OwnedFd>)> {
    let pipe = || pipe2(OFlag::O_CLOEXEC);
    let ((input, to_input), (from_output, output), (from_error, error)) = (pipe()?, pipe()?, pipe()?);
    Ok((Streams::Given([input, output, error]), vec![to_input, from_output, from_error]))
}

impl Prepared {
    /// Changes to the connection's other use.
    fn go_on(
        self,
        control: &Control,
        upgrade: OnUpgrade,
        started: TaskStarted,
    ) -> Result<Response<Reply>, Failure> {
        let name = started.task.rsplit('/').next().unwrap_or_default();
        let task = TaskId::of_name(name).ok_or_else(|| Failure::Internal(format!("{name} is no task")))?;
        let control = control.clone();
        tokio::spawn(async move {
            let stream =
                upgrade.await.ok().and_then(|upgraded| upgraded.downcast::<TokioIo<UnixStream>>().ok());
            let is_over = match stream {
                Some(parts) => {
                    let conversation = Conversation {
                        stream: parts.io.into_inner(),
                        started,
                        said: parts.read_buf.to_vec(),
                    };
                    conversation.hold(self, &control, task).await.is_ok()
                }
                None => false,
            };
            if !is_over {
                // Fails when the loop has ended, and with it everything else.
                let _ = control.commands.send(self::task(TaskRequest::Leave { task })).await;
            }
        });
        let mut response =
            body::response(StatusCode::SWITCHING_PROTOCOLS, "", Reply::Whole(Default::default()));
        let headers = response.headers_mut();
        headers.clear();
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, header::HeaderValue::from_static(UPGRADE));
        Ok(response)
    }
}

/// The connection of somebody who is attached to a task.
struct Conversation {
    stream: UnixStream,
    started: TaskStarted,
    /// What has come of a line.
    said: Vec<u8>,
}

impl Conversation {
    /// Tells what happens to the task, until it is over.
    ///
    /// # Errors
    /// When the client has gone before, or says what makes no sense.
    async fn hold(mut self, prepared: Prepared, control: &Control, task: TaskId) -> io::Result<()> {
        let Prepared { mut told, mut streams, permit: _permit } = prepared;
        let (mut may_take, mut to_take, mut end) = (false, None, None);
        loop {
            for line in self.lines() {
                match line? {
                    ToTask::Take => may_take = true,
                    ToTask::Signal(signal) => {
                        let signal = self::task(TaskRequest::Signal { task, signal });
                        control.commands.send(signal).await.map_err(io::Error::other)?;
                    }
                }
            }
            if may_take && let Some(streams) = to_take.take() {
                self.say(&OfTask::Started(self.started.clone()), streams).await?;
            }
            if to_take.is_none()
                && let Some(end) = end.take()
            {
                return self.say(&OfTask::Ended(end), Vec::new()).await;
            }
            tokio::select! {
                news = told.recv(), if end.is_none() => match news {
                    Some(Told::Executed { terminal }) => {
                        let all = terminal.into_iter().chain(std::mem::take(&mut streams));
                        to_take = Some(all.collect());
                    }
                    Some(Told::Ended(told)) => end = Some(wire(&told)),
                    None => return Ok(()),
                },
                read = self.stream.read_buf(&mut self.said) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    /// The whole lines that have come.
    fn lines(&mut self) -> Vec<io::Result<ToTask>> {
        let mut lines = Vec::new();
        while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.said.drain(..=end).collect();
            lines.push(serde_json::from_slice(&line).map_err(io::Error::other));
        }
        if self.said.len() > LINE_SIZE_MAX {
            lines.push(Err(io::ErrorKind::InvalidData.into()));
        }
        lines
    }

    async fn say<T: Serialize>(&self, message: &T, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let borrowed: Vec<_> = descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();
        loop {
            self.stream.writable().await?;
            // It is short, and goes as a whole or not at all.
            let sent = self.stream.try_io(tokio::io::Interest::WRITABLE, || {
                fdpass::send(std::os::fd::AsFd::as_fd(&self.stream), &line, &borrowed)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

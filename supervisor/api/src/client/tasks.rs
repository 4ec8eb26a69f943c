//! Processes that run once: starting them, and being attached to one.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, client::conn::http1, header, http::HeaderValue};
use hyper_util::rt::TokioIo;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::UnixStream,
};

use super::{Client, Error, persistently, refusal};
use crate::control::{Exec, OfTask, Run, TaskEnd, TaskStarted, TaskStop, Tasks, ToTask, UPGRADE};

/// The longest message, in bytes. What a program could not be started for is a few hundred.
const LINE_SIZE_MAX: usize = 64 << 10;

impl Client {
    /// Starts a process in a sandbox of a service and lets it run.
    pub async fn run(&self, run: &Run) -> Result<TaskStarted, Error> {
        self.order("/v1/run", run).await
    }

    /// Starts a process in a sandbox of a service, attached to it.
    pub async fn run_attached(&self, run: &Run) -> Result<Attached, Error> {
        self.attached("/v1/run", run).await
    }

    /// Starts a command inside a worker's sandbox, attached to it.
    pub async fn exec(&self, exec: &Exec) -> Result<Attached, Error> {
        self.attached("/v1/exec", exec).await
    }

    /// Every task that has not ended.
    pub async fn tasks(&self) -> Result<Tasks, Error> {
        self.ask("/v1/tasks").await
    }

    /// Ends a task, and returns how it ended when nothing of it is left.
    pub async fn stop_task(&self, task: &str, how: TaskStop) -> Result<TaskEnd, Error> {
        let name = task.rsplit('/').next().unwrap_or(task);
        self.order(&format!("/v1/tasks/{}/stop", super::encoded(name)), &how).await
    }

    /// Goes on with a task whose daemon was replaced.
    pub async fn attach(&self, task: &str) -> Result<Attached, Error> {
        let name = task.rsplit('/').next().unwrap_or(task);
        let path = format!("/v1/tasks/{name}");
        persistently(|| self.attached(&path, &())).await
    }

    async fn attached<B: Serialize>(&self, path: &str, body: &B) -> Result<Attached, Error> {
        let call = format!("POST {path}");
        let not_understood = |detail: String| Error::Protocol { call: call.clone(), detail };
        let interrupted = |source| Error::Interrupted { call: call.clone(), source };
        let body = serde_json::to_vec(body).map_err(|error| not_understood(error.to_string()))?;
        let stream = self.dial().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(interrupted)?;
        // Ends with the connection, or with its other use.
        tokio::spawn(connection.with_upgrades());
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "watt")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, HeaderValue::from_static("upgrade"))
            .header(header::UPGRADE, HeaderValue::from_static(UPGRADE))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| not_understood(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(interrupted)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(&call, response).await);
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(interrupted)?;
        let parts = upgraded
            .downcast::<TokioIo<UnixStream>>()
            .map_err(|_| not_understood("another kind of connection".to_owned()))?;
        let mut attached = Attached {
            call,
            stream: parts.io.into_inner(),
            heard: parts.read_buf.to_vec(),
            descriptors: Vec::new(),
        };
        attached.say(ToTask::Take).await?;
        Ok(attached)
    }
}

/// A connection about a task. When it is dropped before the task has ended, that is hung up, and killed if it does not end.
#[derive(Debug)]
pub struct Attached {
    call: String,
    stream: UnixStream,
    /// What has come of a message.
    heard: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Attached {
    /// The next message, with the streams that came with it; `None` when the daemon has gone.
    pub async fn next(&mut self) -> Result<Option<(OfTask, Vec<OwnedFd>)>, Error> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                let message = super::parsed(&self.call, &line)?;
                return Ok(Some((message, std::mem::take(&mut self.descriptors))));
            }
            match self.receive().await {
                Ok(0) => return Ok(None),
                Ok(_) if self.heard.len() <= LINE_SIZE_MAX => {}
                Ok(_) => return Err(self.failed(&io::ErrorKind::InvalidData.into())),
                // The daemon was killed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Says something to it.
    pub async fn say(&mut self, message: ToTask) -> Result<(), Error> {
        // An enum of our own always has a JSON form.
        let mut line = serde_json::to_vec(&message).unwrap_or_default();
        line.push(b'\n');
        match self.stream.write_all(&line).await {
            // What became of the daemon shows when it is listened to.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn receive(&mut self) -> io::Result<usize> {
        let Attached { stream, heard, descriptors, .. } = self;
        loop {
            stream.readable().await?;
            let received = stream.try_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut bytes = [0; 4096];
                let message = recvmsg(
                    &*stream,
                    &mut [IoSliceMut::new(&mut bytes)],
                    &mut control,
                    RecvFlags::CMSG_CLOEXEC,
                )?;
                heard.extend(bytes.iter().take(message.bytes));
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = message {
                        descriptors.extend(received);
                    }
                }
                Ok(message.bytes)
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::Protocol { call: self.call.clone(), detail: error.to_string() }
    }
}

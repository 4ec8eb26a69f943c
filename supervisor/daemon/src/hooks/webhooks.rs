//! Webhooks: hooks that are a POST with what has happened in JSON.
//!
//! Each is a task beside the loop, which sends the request, again where it has to, and tells the loop what came of it. Before anything is
//! sent, the spawner has a value with what has happened; it goes when that has been told or the time is over. So a successor of the
//! daemon sends what its predecessor may not have got told, and waits where that one did.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::AbortHandle, time::Instant};
use watt_core::{
    RunId, WorkerId,
    plan::{Hook, HookAct, HookPoint, Receiver, Webhook},
};

use super::{FAREWELL, Hooked};
use crate::{
    app::App,
    call::{self, Answer, Request, Way},
    events::hooks::WebhookEnded,
};

/// Under `hook/RUN/POINT` the spawner keeps a [`Note`] of each that is not over.
const KEY: &str = "hook/";

/// How many requests of those that something waits for, and of the others, are under way at a time. More wait for their turn within
/// their time: a receiver that hangs takes turns, and no descriptors.
const TURNS: usize = 64;
static AWAITED: Semaphore = Semaphore::const_new(TURNS);
static UNATTENDED: Semaphore = Semaphore::const_new(TURNS);

/// What comes from beside the loop.
#[derive(Debug)]
pub(crate) enum News {
    /// One is over.
    Ended { run: RunId, point: HookPoint, answer: Answer, attempts: u32 },
    /// The end of the application has waited long enough for those that nobody else waits for.
    Farewell,
}

/// One that is not over.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) worker: WorkerId,
    /// The receiver's name. The rest of its URL may be a secret.
    host: String,
    since: Instant,
    sending: AbortHandle,
}

/// What a successor has to know of one. Where it goes is in the configuration.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    hook: Hooked,
    event: String,
}

impl App {
    /// Sends one. What has happened is `event`, in JSON.
    pub(super) fn send_webhook(
        &mut self,
        worker: &WorkerId,
        (run, point): (RunId, HookPoint),
        webhook: &Webhook,
        time_max: Duration,
        event: String,
    ) {
        let note = Note { hook: Hooked::new(worker, run, point), event };
        // A note is strings and numbers, which always have a JSON form.
        self.put(&key(run, point), serde_json::to_vec(&note).unwrap_or_default());
        let request = self.request(webhook, point, note.event);
        let host = request.host.clone();
        let sending = Sending {
            request,
            retries: webhook.retries,
            time_max,
            turns: if point.is_awaited() { &AWAITED } else { &UNATTENDED },
        };
        let sender = self.senders.hooks.clone();
        let sending = tokio::spawn(async move {
            let (answer, attempts) = sending.send().await;
            // Fails when the loop has ended, and with it everything else.
            let _ = sender.send(News::Ended { run, point, answer, attempts }).await;
        });
        let call =
            Call { worker: worker.clone(), host, since: Instant::now(), sending: sending.abort_handle() };
        self.hooks.calls.insert((run, point), call);
    }

    fn request(&self, webhook: &Webhook, point: HookPoint, event: String) -> Request {
        let (way, host) = match &webhook.receiver {
            Receiver::Service(service) => {
                (Way::Mesh(self.places.mesh_socket()), format!("{service}.plt.local"))
            }
            Receiver::Host { name, port } => {
                let written = if name.contains(':') { format!("[{name}]") } else { name.clone() };
                let host = if *port == 80 { written } else { format!("{written}:{port}") };
                (Way::Outside { name: name.clone(), port: *port }, host)
            }
        };
        Request {
            way,
            host,
            method: "POST".to_owned(),
            path: webhook.path.clone(),
            own: vec![
                ("Content-Type", "application/json".to_owned()),
                ("X-Watt-Hook", point.name().to_owned()),
            ],
            headers: webhook.headers.clone(),
            body: Some(event),
            wants_body: false,
        }
    }

    /// News from beside the loop.
    pub(crate) fn hook_news(&mut self, news: News) {
        match news {
            News::Ended { run, point, answer, attempts } => {
                self.webhook_answered(run, point, answer, attempts)
            }
            News::Farewell => {
                for (run, point) in self.hooks.unattended_calls() {
                    let answer = Answer::Failed("the application ended".to_owned());
                    if let Some(call) = self.hooks.calls.get(&(run, point)) {
                        call.sending.abort();
                    }
                    self.webhook_answered(run, point, answer, 0);
                }
            }
        }
    }

    fn webhook_answered(&mut self, run: RunId, point: HookPoint, answer: Answer, attempts: u32) {
        // It may have been given up in the meantime.
        let Some(call) = self.hooks.calls.remove(&(run, point)) else { return };
        let result = if answer.is_ok() { Ok(()) } else { Err(answer.text()) };
        self.events.emit(WebhookEnded {
            worker: call.worker.clone(),
            run,
            hook: point.name(),
            host: call.host,
            is_ok: result.is_ok(),
            text: answer.text(),
            attempts,
            took: call.since.elapsed(),
        });
        self.hook_over(&call.worker, run, point, result);
        // Last: a successor of a daemon that ends before this sends it once more.
        self.put(&key(run, point), Vec::new());
        self.unsettle();
    }

    /// Gives one up. Says whether there was one.
    pub(super) fn give_up_webhook(&mut self, run: RunId, point: HookPoint) -> bool {
        let Some(call) = self.hooks.calls.remove(&(run, point)) else { return false };
        call.sending.abort();
        self.put(&key(run, point), Vec::new());
        self.unsettle();
        true
    }

    /// The application ends: those that something waits for go on, unless everything is killed, and the others have little time left.
    pub(crate) fn close_webhooks(&mut self, now: bool) {
        if now {
            let all = self.hooks.calls.iter();
            let all: Vec<_> = all.map(|((run, point), call)| (*run, *point, call.worker.clone())).collect();
            for (run, point, worker) in all {
                self.give_up_webhook(run, point);
                self.hook_over(&worker, run, point, Err("stopped".to_owned()));
            }
            return;
        }
        let sender = self.senders.hooks.clone();
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            // Fails when the loop has ended before.
            let _ = sender.send(News::Farewell).await;
        });
    }

    /// Sends what a predecessor had not got told.
    pub(crate) fn adopt_webhooks(&mut self, values: &[(String, Vec<u8>)]) {
        for (key, value) in values.iter().filter(|(key, _)| key.starts_with(KEY)) {
            if self.adopt_webhook(value).is_none() {
                // Its service has another hook now, or none.
                self.put(key, Vec::new());
            }
        }
    }

    fn adopt_webhook(&mut self, note: &[u8]) -> Option<()> {
        let Note { hook, event } = serde_json::from_slice(note).ok()?;
        let (worker, point, run) = (hook.worker()?, hook.point()?, RunId(hook.run));
        let service = self.plan.services.get(&worker.service)?;
        let Hook { act: HookAct::Webhook(webhook), .. } = service.hooks.get(&point)? else { return None };
        let (webhook, time_max) = (webhook.clone(), super::time_max(service, point)?);
        self.send_webhook(&worker, (run, point), &webhook, time_max, event);
        Some(())
    }
}

fn key(run: RunId, point: HookPoint) -> String {
    format!("{KEY}{run}/{}", point.name())
}

/// A webhook on its way.
struct Sending {
    request: Request,
    retries: u32,
    time_max: Duration,
    turns: &'static Semaphore,
}

impl Sending {
    /// Sends it until it succeeds, as often and as long as it may. Every attempt has an equal part of the time that is left, so that one
    /// which hangs does not take that of the others. Gives back the last answer, and how often it was sent.
    async fn send(self) -> (Answer, u32) {
        let Sending { request, retries, time_max, turns } = self;
        let end = Instant::now() + time_max;
        let mut attempts = 1;
        loop {
            let parts_left = retries.saturating_sub(attempts - 1).saturating_add(1);
            let part = end.saturating_duration_since(Instant::now()) / parts_left;
            let attempt = async {
                // It is never closed.
                let _turn = turns.acquire().await;
                call::send(&request, attempts, None).await
            };
            let answer = tokio::time::timeout(part, attempt).await.unwrap_or(Answer::TimedOut(part));
            let pause = call::pause(attempts);
            if answer.is_ok() || attempts > retries || Instant::now() + pause >= end {
                return (answer, attempts);
            }
            tokio::time::sleep(pause).await;
            attempts += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;

    fn sending(socket: std::path::PathBuf, retries: u32, turns: &'static Semaphore) -> Sending {
        let request = Request {
            way: Way::Mesh(socket),
            host: "alerts.plt.local".into(),
            method: "POST".into(),
            path: "/".into(),
            own: Vec::new(),
            headers: BTreeMap::new(),
            body: Some("{}".into()),
            wants_body: false,
        };
        Sending { request, retries, time_max: Duration::from_secs(40), turns }
    }

    fn turns(count: usize) -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(count)))
    }

    /// Answers with these, one after the other, and hangs after the last one. It leaves its connections open.
    fn receiver(answers: &'static [&'static str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("mesh.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let mut hanging = Vec::new();
            for answer in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut read = [0; 4096];
                assert!(connection.read(&mut read).await.unwrap() > 0);
                connection.write_all(format!("HTTP/1.1 {answer} X\r\n\r\n").as_bytes()).await.unwrap();
                hanging.push(connection);
            }
            while let Ok((connection, _)) = listener.accept().await {
                hanging.push(connection);
            }
        });
        (folder, socket)
    }

    #[tokio::test]
    async fn it_is_sent_until_it_succeeds_or_was_sent_often_enough() {
        let (_folder, socket) = receiver(&["500", "404", "204"]);
        let (answer, attempts) = sending(socket, 3, turns(1)).send().await;
        assert_eq!((answer, attempts), (Answer::Status(204, Vec::new()), 3));
        let (_folder, socket) = receiver(&["500", "503", "204"]);
        let (answer, attempts) = sending(socket, 1, turns(1)).send().await;
        assert_eq!((answer, attempts), (Answer::Status(503, Vec::new()), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_share_the_time() {
        let (_folder, socket) = receiver(&[]);
        let begin = Instant::now();
        let (answer, attempts) = sending(socket, 3, turns(1)).send().await;
        assert!(matches!(answer, Answer::TimedOut(_)), "{answer:?}");
        assert_eq!(attempts, 4);
        assert!(begin.elapsed() <= Duration::from_secs(41), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_without_a_turn_has_an_end_as_well() {
        let (_folder, socket) = receiver(&["200"]);
        let (answer, attempts) = sending(socket, 0, turns(0)).send().await;
        assert_eq!((answer, attempts), (Answer::TimedOut(Duration::from_secs(40)), 1));
    }
}

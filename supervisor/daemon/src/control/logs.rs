//! `/v1/logs`: what the workers wrote, and what they write.

use bytes::Bytes;
use hyper::Response;
use tokio::sync::{mpsc, watch};
use watt_core::ServiceId;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
    request::{self, Query},
    services::unknown,
};
use crate::{
    logs::{Entry, Question, Reader, TAIL_MAX},
    timestamp,
};

/// How many lines of the past are sent in one piece.
const PIECE_LINES: usize = 256;

pub(super) async fn get(control: &Control, query: &Query) -> Result<Response<Reply>, Failure> {
    let question = question(control, query).await?;
    let permit = control.long_calls.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
    let (past, reader) = control.logs.ask(question).await;
    let mut stopping = control.stopping.clone();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        for piece in past.chunks(PIECE_LINES) {
            if sender.send(joined(piece)).await.is_err() {
                return;
            }
        }
        drop(past);
        if let Some(reader) = reader {
            follow(reader, &sender, &mut stopping).await;
        }
    });
    Ok(body::lines(receiver))
}

async fn follow(mut reader: Reader, sender: &mpsc::Sender<Bytes>, stopping: &mut watch::Receiver<bool>) {
    loop {
        let batch = tokio::select! {
            batch = reader.next() => batch,
            () = sender.closed() => return,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let Some(batch) = batch else { return };
        if sender.send(joined(&batch)).await.is_err() {
            return;
        }
    }
}

async fn question(control: &Control, query: &Query) -> Result<Question, Failure> {
    let known = control.ask(|reply| Command::Names { reply }).await?;
    let mut services: Vec<ServiceId> = Vec::new();
    for name in query.all("service") {
        match request::service(name) {
            Ok(service) if known.contains(&service) => services.push(service),
            Ok(_) | Err(_) => return Err(unknown(control, name.to_owned()).await),
        }
    }
    // Named twice is wanted once.
    services.sort();
    services.dedup();
    if services.is_empty() {
        services = known;
    }
    let since = query.one("since")?.map(since).transpose()?.unwrap_or(0);
    let after = query.number("after")?.unwrap_or(0);
    let count = query.number("tail")?.unwrap_or(TAIL_MAX);
    Ok(Question { services, run: None, after: after.max(since), count, follow: query.flag("follow")? })
}

/// The `seq` before the first line that this time lets in.
fn since(text: &str) -> Result<u64, Failure> {
    let hint = || Some("times look like 2026-01-31T12:00:00Z".to_owned());
    let us =
        timestamp::parse_us(text).map_err(|error| request::bad(format!("since={text}: {error}"), hint()))?;
    Ok(us.saturating_sub(1))
}

fn joined(entries: &[Entry]) -> Bytes {
    body::joined(entries.iter().map(|entry| &*entry.json))
}

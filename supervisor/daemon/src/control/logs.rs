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
    logs::{Entry, Output, Question},
    timestamp,
};

/// How many lines are sent in one piece.
const PIECE_LINES: usize = 256;

pub(super) async fn get(control: &Control, query: &Query) -> Result<Response<Reply>, Failure> {
    let question = question(control, query).await?;
    let permit = control.long_calls.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
    let output = control.logs.read(question);
    let mut stopping = control.stopping.clone();
    // One piece on its way: the next one is read when this one has gone.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        tokio::select! {
            () = copy(output, &sender, &mut stopping) => {}
            () = sender.closed() => {}
        }
    });
    Ok(body::lines(receiver))
}

async fn copy(mut output: Output, sender: &mpsc::Sender<Bytes>, stopping: &mut watch::Receiver<bool>) {
    loop {
        let lines = tokio::select! {
            lines = output.next() => lines,
            // The last words of the services are the end of the stream.
            _ = stopping.wait_for(|stopping| *stopping), if output.is_live() => {
                output.end_here();
                continue;
            }
        };
        let Some(lines) = lines else { return };
        for piece in lines.chunks(PIECE_LINES) {
            if sender.send(joined(piece)).await.is_err() {
                return;
            }
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
    let (tail, follow) = (query.number("tail")?, query.flag("follow")?);
    Ok(Question { services, run: None, after: after.max(since), tail, follow })
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

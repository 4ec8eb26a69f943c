//! `/v1/events`: what happened, and what happens.

use hyper::Response;
use tokio::sync::mpsc;

use super::{
    Control,
    body::{self, Reply},
    problem::Failure,
    request::Query,
};

pub(super) fn get(control: &Control, query: &Query) -> Result<Response<Reply>, Failure> {
    let mut reader = control.events.read(query.number("since")?);
    let follow = query.flag("follow")?;
    let permit = control.long_calls.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
    let mut stopping = control.stopping.clone();
    // One batch on its way: the next one is taken when this one has gone.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        loop {
            let batch = reader.batch();
            if batch.is_empty() {
                if !follow {
                    return;
                }
                tokio::select! {
                    () = reader.ready() => continue,
                    () = sender.closed() => return,
                    _ = stopping.wait_for(|stopping| *stopping) => return,
                }
            }
            if sender.send(body::joined(batch.iter().map(AsRef::as_ref))).await.is_err() {
                return;
            }
        }
    });
    Ok(body::lines(receiver))
}

//! `/v1/cache` and `/v1/cache/purge`: what the proxy has stored, and how it is removed.

use std::time::Duration;

use hyper::{Response, body::Incoming};
use watt_api::mesh::CachePurge;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
    request,
    services::unknown,
};

/// How long the proxy may take. It looks at all that is stored, which takes milliseconds.
const PURGE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn get(control: &Control) -> Result<Response<Reply>, Failure> {
    let cache = control.ask(|reply| Command::Cache { reply }).await?;
    body::json(&*cache)
}

/// A client that did not hear that it was done asks again: what is gone cannot be removed twice.
pub(super) async fn purge(control: &Control, body: Incoming) -> Result<Response<Reply>, Failure> {
    let purge: CachePurge = request::json(body).await?;
    if let Some(service) = &purge.service {
        let names = control.ask(|reply| Command::Names { reply }).await?;
        if names.iter().all(|name| name.as_str() != service) {
            return Err(unknown(control, service.clone()).await);
        }
    }
    for text in [&purge.uri, &purge.prefix].into_iter().flatten() {
        if !text.starts_with('/') && !text.contains("://") {
            let message = format!("`{text}` is no URI");
            let hint = Some("for example `https://example.org/a`, or `/a` for any host".to_owned());
            return Err(Failure::BadRequest { message, hint });
        }
    }
    let _permit = control.long_calls.try_acquire().map_err(|_| Failure::Busy)?;
    let asked = control.ask(|reply| Command::PurgeCache { purge, reply });
    let purged = tokio::time::timeout(PURGE_TIMEOUT, asked).await;
    body::json(&purged.map_err(|_| Failure::NotDone {
        code: "no_answer",
        message: "the proxy did not say that it was done".to_owned(),
        hint: Some("ask again: a proxy that was replaced has nothing stored".to_owned()),
    })??)
}

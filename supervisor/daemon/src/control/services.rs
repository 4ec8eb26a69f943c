//! `/v1/services/{service}`: one service in full, and one that is applied by itself.

use std::path::PathBuf;

use hyper::{Response, body::Incoming};
use schemars::{Schema, SchemaGenerator, json_schema};
use watt_api::control::Reload;
use watt_config::{Applied, Document};
use watt_core::ServiceId;

use super::{
    Command, Control, Single,
    body::{self, Reply},
    problem::Failure,
    request::{self, Query},
    roles::Caller,
};
use crate::{reload, status::now_ms};

/// The longest path: PATH_MAX of Linux.
const PATH_SIZE_MAX: usize = 4096;

pub(super) async fn get(control: &Control, name: &str) -> Result<Response<Reply>, Failure> {
    let service = match request::service(name) {
        Ok(service) => service,
        Err(name) => return Err(unknown(control, name).await),
    };
    let inspect = control.ask(|reply| Command::Inspect { service, reply }).await?;
    body::json(&*inspect)
}

/// Applies one service: what the body says of it takes the place of what the file does.
pub(super) async fn apply(
    control: &Control,
    caller: &Caller,
    name: &str,
    query: &Query,
    body: Incoming,
) -> Result<Response<Reply>, Failure> {
    let service = ServiceId::new(name)
        .map_err(|error| request::bad(format!("{name:?} cannot be a service's name: {error}"), None))?;
    let file = path(query, "file")?.unwrap_or_else(|| PathBuf::from(format!("{name} (applied)")));
    let document = Document { file, text: request::text(body).await? };
    change(control, caller, service, Some(document), query).await
}

/// Takes one service out of the application.
pub(super) async fn remove(
    control: &Control,
    caller: &Caller,
    name: &str,
    query: &Query,
) -> Result<Response<Reply>, Failure> {
    match request::service(name) {
        Ok(service) => change(control, caller, service, None, query).await,
        Err(name) => Err(unknown(control, name).await),
    }
}

async fn change(
    control: &Control,
    caller: &Caller,
    service: ServiceId,
    document: Option<Document>,
    query: &Query,
) -> Result<Response<Reply>, Failure> {
    let request =
        Reload { plan: query.flag("plan")?, wait: query.flag("wait")?, folder: path(query, "folder")? };
    let applied = Applied { document, at_ms: now_ms(), by: caller.who.to_string() };
    let single = Single(reload::Single { service, applied });
    let _permit = control.long_calls.try_acquire().map_err(|_| Failure::Busy)?;
    let reloaded = control.ask(|reply| Command::Apply { single, request, reply }).await?;
    body::json(&*reloaded)
}

/// A path for messages.
fn path(query: &Query, name: &str) -> Result<Option<PathBuf>, Failure> {
    match query.one(name)? {
        Some(path) if path.len() > PATH_SIZE_MAX || path.chars().any(char::is_control) => {
            Err(request::bad(format!("{name} is no path that could be shown"), None))
        }
        path => Ok(path.map(PathBuf::from)),
    }
}

/// One entry of `services`, whose keys are the configuration's and described there.
pub(super) fn document(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "One entry of `services`, in JSON or YAML. Its keys are those of the configuration: `wattctl config schema`",
    })
}

/// That no service has this name, with the names there are.
pub(super) async fn unknown(control: &Control, name: String) -> Failure {
    match control.ask(|reply| Command::Names { reply }).await {
        Ok(known) => Failure::UnknownService { name, known },
        Err(failure) => failure,
    }
}

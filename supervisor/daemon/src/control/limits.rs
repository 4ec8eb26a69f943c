//! `/v1/limits` and `/v1/limits/{service}`: what is bounded, and changes of it in place.

use hyper::{Response, body::Incoming};
use watt_api::control::LimitsChange;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
    request,
    services::unknown,
};

pub(super) async fn get(control: &Control) -> Result<Response<Reply>, Failure> {
    let limits = control.ask(|reply| Command::Limits { reply }).await?;
    body::json(&limits)
}

pub(super) async fn change(
    control: &Control,
    name: &str,
    body: Incoming,
) -> Result<Response<Reply>, Failure> {
    let service = match request::service(name) {
        Ok(service) => service,
        Err(name) => return Err(unknown(control, name).await),
    };
    let change: LimitsChange = request::json(body).await?;
    let changed = control.ask(|reply| Command::ChangeLimits { service, change, reply }).await?;
    body::json(&changed)
}

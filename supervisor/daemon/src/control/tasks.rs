//! `/v1/run`: processes that run once, in a new sandbox of a service.

use hyper::{Response, body::Incoming};
use watt_api::control::Run;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
    request,
    services::unknown,
};

/// Starts one that goes on by itself. Its output goes to the service's log, and its end is an event.
pub(super) async fn run(control: &Control, body: Incoming) -> Result<Response<Reply>, Failure> {
    let Run { service, command, timeout_ms } = request::json(body).await?;
    let service = match request::service(&service) {
        Ok(service) => service,
        Err(name) => return Err(unknown(control, name).await),
    };
    let time_max = timeout_ms.map(std::time::Duration::from_millis);
    let started = control.ask(|reply| Command::Run { service, command, time_max, reply }).await?;
    body::json(&started)
}

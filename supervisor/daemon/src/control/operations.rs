//! `/v1/start`, `/v1/stop`, `/v1/restart`, `/v1/scale`, `/v1/reload` and `/v1/shutdown`: they answer when it is done. A client that does not wait for
//! that stops nothing.

use std::collections::BTreeMap;

use hyper::{Response, body::Incoming};
use watt_api::control::{Reload, Scale, Selection, Shutdown};

use super::{
    Command, Control, Services,
    body::{self, Reply},
    problem::Failure,
    request,
    services::unknown,
};

/// What may be done to services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Await,
    Start,
    Stop,
    Restart,
}

pub(super) async fn order(
    control: &Control,
    order: Order,
    body: Incoming,
) -> Result<Response<Reply>, Failure> {
    let selection: Selection = request::json(body).await?;
    let services = match selected(&selection.services) {
        Ok(services) => services,
        Err(name) => return Err(unknown(control, name).await),
    };
    let _permit = control.long_calls.try_acquire().map_err(|_| Failure::Busy)?;
    let outcome = control
        .ask(|reply| match order {
            Order::Await => Command::Await { services, reply },
            Order::Start => Command::Start { services, reply },
            Order::Stop => Command::Stop { services, reply },
            Order::Restart => Command::Restart { services, reply },
        })
        .await?;
    body::json(&outcome)
}

pub(super) async fn scale(control: &Control, body: Incoming) -> Result<Response<Reply>, Failure> {
    let scale: Scale = request::json(body).await?;
    let mut services = BTreeMap::new();
    for (name, count) in scale.services {
        match request::service(&name) {
            Ok(service) => drop(services.insert(service, count)),
            Err(name) => return Err(unknown(control, name).await),
        }
    }
    let _permit = control.long_calls.try_acquire().map_err(|_| Failure::Busy)?;
    let scaled = control.ask(|reply| Command::Scale { services, reply }).await?;
    body::json(&scaled)
}

pub(super) async fn reload(control: &Control, body: Incoming) -> Result<Response<Reply>, Failure> {
    let request: Reload = request::json(body).await?;
    let _permit = control.long_calls.try_acquire().map_err(|_| Failure::Busy)?;
    let reloaded = control.ask(|reply| Command::Reload { request, reply }).await?;
    body::json(&reloaded)
}

/// Not counted among the long calls: the end must be possible however many wait.
pub(super) async fn shutdown(control: &Control, body: Incoming) -> Result<Response<Reply>, Failure> {
    let Shutdown { now } = request::json(body).await?;
    let outcome = control.ask(|reply| Command::Shutdown { now, reply }).await?;
    body::json(&outcome)
}

fn selected(names: &[String]) -> Result<Services, String> {
    if names.is_empty() {
        return Ok(Services::All);
    }
    names.iter().map(|name| request::service(name)).collect::<Result<_, _>>().map(Services::Named)
}

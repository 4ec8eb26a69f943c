//! `/v1/graph` and `/v1/analyze`: who waits for whom, and what a start waited for.

use hyper::Response;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
    request::{self, Query},
    services::unknown,
};

pub(super) async fn get(control: &Control) -> Result<Response<Reply>, Failure> {
    let graph = control.ask(|reply| Command::Graph { reply }).await?;
    body::json(&*graph)
}

pub(super) async fn analyze(control: &Control, query: &Query) -> Result<Response<Reply>, Failure> {
    let service = match query.one("service")?.map(request::service) {
        None => None,
        Some(Ok(service)) => Some(service),
        Some(Err(name)) => return Err(unknown(control, name).await),
    };
    let analysis = control.ask(|reply| Command::Analyze { service, reply }).await?;
    body::json(&*analysis)
}

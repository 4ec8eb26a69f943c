//! `/v1/metrics`: figures for Prometheus and its like.

use hyper::{Request, Response, StatusCode, body::Incoming, header};

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
    request::Query,
};
use crate::metrics::{self, Format};

pub(super) async fn get(
    control: &Control,
    query: &Query,
    request: &Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = if query.flag("openmetrics")? { Format::OpenMetrics } else { Format::accepted(accept) };
    let text = text(control, format).await?;
    Ok(body::response(StatusCode::OK, format.content_type(), Reply::Whole(text.into())))
}

/// All figures as they are now.
pub(super) async fn text(control: &Control, format: Format) -> Result<String, Failure> {
    let status = control.ask(|reply| Command::Status { reply }).await?;
    let limits = control.ask(|reply| Command::Limits { reply }).await?;
    let edges = control.ask(|reply| Command::Edges { reply }).await?;
    let text = metrics::render(metrics::families(&status, &limits, edges.as_ref()), format);
    text.map_err(|error| Failure::Internal(error.to_string()))
}

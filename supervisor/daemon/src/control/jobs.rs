//! `/v1/jobs` and what is below it.

use hyper::{Response, body::Incoming};
use watt_api::control::JobRequest;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
    request::{self, Query},
};

pub(super) use crate::jobs::Order;

/// How many instants are told when nobody says it.
const INSTANTS: u64 = 10;

pub(super) async fn list(control: &Control) -> Result<Response<Reply>, Failure> {
    body::json(&control.ask(|reply| Command::Jobs { reply }).await?)
}

pub(super) async fn get(control: &Control, job: String) -> Result<Response<Reply>, Failure> {
    body::json(&control.ask(|reply| Command::Job { job, reply }).await?)
}

pub(super) async fn next(control: &Control, job: String, query: &Query) -> Result<Response<Reply>, Failure> {
    let count = query.number("count")?.unwrap_or(INSTANTS);
    body::json(&control.ask(|reply| Command::JobInstants { job, count, reply }).await?)
}

pub(super) async fn order(control: &Control, job: String, order: Order) -> Result<Response<Reply>, Failure> {
    body::json(&control.ask(|reply| Command::OrderJob { job, order, reply }).await?)
}

pub(super) async fn run(control: &Control, job: String, body: Incoming) -> Result<Response<Reply>, Failure> {
    let JobRequest { wait } = request::json(body).await?;
    let _permit = control.long_calls.try_acquire().map_err(|_| Failure::Busy)?;
    body::json(&control.ask(|reply| Command::RunJob { job, wait, reply }).await?)
}

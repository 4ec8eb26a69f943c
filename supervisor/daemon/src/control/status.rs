//! `/v1/status`: the whole application.

use hyper::Response;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
};

pub(super) async fn get(control: &Control) -> Result<Response<Reply>, Failure> {
    let status = control.ask(|reply| Command::Status { reply }).await?;
    body::json(&*status)
}

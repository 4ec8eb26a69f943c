//! `/v1/routes`: which requests of clients go where.

use hyper::Response;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
};

pub(super) async fn routes(control: &Control) -> Result<Response<Reply>, Failure> {
    let routes = control.ask(|reply| Command::Routes { reply }).await?;
    body::json(&*routes)
}

//! `/v1/services/{service}`: one service in full.

use hyper::Response;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
    request,
};

pub(super) async fn get(control: &Control, name: &str) -> Result<Response<Reply>, Failure> {
    let service = match request::service(name) {
        Ok(service) => service,
        Err(name) => return Err(unknown(control, name).await),
    };
    let inspect = control.ask(|reply| Command::Inspect { service, reply }).await?;
    body::json(&*inspect)
}

/// That no service has this name, with the names there are.
pub(super) async fn unknown(control: &Control, name: String) -> Failure {
    match control.ask(|reply| Command::Names { reply }).await {
        Ok(known) => Failure::UnknownService { name, known },
        Err(failure) => failure,
    }
}

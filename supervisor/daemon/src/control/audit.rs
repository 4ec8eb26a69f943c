//! `/v1/audit`: how exposed services leave everything else.

use hyper::Response;

use super::{
    Command, Control, Services,
    body::{self, Reply},
    problem::Failure,
    request::{self, Query},
    services::unknown,
};

pub(super) async fn get(control: &Control, query: &Query) -> Result<Response<Reply>, Failure> {
    let full = query.flag("full")?;
    let named: Result<Vec<_>, String> = query.all("service").map(request::service).collect();
    let services = match named {
        Ok(named) if named.is_empty() => Services::All,
        Ok(named) => Services::Named(named),
        Err(name) => return Err(unknown(control, name).await),
    };
    // Each switch of each service is tried for it.
    let turn = control.audits.clone().try_acquire_owned().map_err(|_| Failure::Busy)?;
    let audit = control.ask(|reply| Command::Audit { services, full, turn, reply }).await?;
    body::json(&*audit)
}

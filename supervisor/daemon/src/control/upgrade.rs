//! `/v1/upgrade`: another program takes over.

use hyper::{Response, body::Incoming};
use watt_api::control::Upgrade;
use watt_core::plan::Role;

use super::{
    Command, Control,
    body::{self, Reply},
    problem::Failure,
    request,
    roles::{Caller, Who},
};

pub(super) async fn get(control: &Control) -> Result<Response<Reply>, Failure> {
    let state = control.ask(|reply| Command::UpgradeState { reply }).await?;
    body::json(&state)
}

/// Which program is executed with the supervisor's rights is for those alone who have them. Others may have it replaced by what was
/// installed in its place.
pub(super) async fn begin(
    control: &Control,
    caller: &Caller,
    body: Incoming,
) -> Result<Response<Reply>, Failure> {
    let request: Upgrade = request::json(body).await?;
    let is_owner = matches!(caller.who, Who::User(uid) if uid == 0 || uid == crate::start::own_uid());
    if request.program.is_some() && !is_owner {
        return Err(Failure::Forbidden { who: caller.who.clone(), has: caller.role, needed: Role::Admin });
    }
    let _permit = control.long_calls.try_acquire().map_err(|_| Failure::Busy)?;
    let state = control.ask(|reply| Command::Upgrade { request, reply }).await?;
    body::json(&state)
}

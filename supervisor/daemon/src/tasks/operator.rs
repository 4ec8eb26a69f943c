//! Tasks that operators want.

use std::{collections::BTreeMap, time::Duration};

use watt_api::control::TaskStarted;
use watt_core::ServiceId;

use super::{NotStarted, Order, Owner};
use crate::{
    app::App,
    control::{Refusal, Reply},
    operate::answer,
};

impl App {
    /// Starts one, and answers with its name.
    pub(crate) fn run_for_operator(
        &mut self,
        service: ServiceId,
        command: Vec<String>,
        time_max: Option<Duration>,
        reply: Reply<TaskStarted>,
    ) {
        let command = Some(command).filter(|command| !command.is_empty());
        let order = Order {
            service: service.clone(),
            command,
            env: BTreeMap::new(),
            time_max,
            owner: Owner::Operator,
        };
        let started = match self.start_task(order) {
            Ok(task) => Ok(TaskStarted { task: format!("{service}/{task}") }),
            Err(NotStarted::Refused(refusal)) => Err(refusal),
            Err(NotStarted::Failed(failure)) => Err(Refusal::NotStarted(failure.to_string())),
        };
        answer(reply, started);
    }
}

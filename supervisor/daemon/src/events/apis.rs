//! Events of services' descriptions of their APIs.

use watt_api::control::Event;

use super::{Happening, Level};

/// The description of a service's API cannot be had, or something in it is wrong. Told once as long as it stays so.
#[derive(Debug)]
pub(crate) struct OpenapiProblem {
    /// Whose description it is.
    pub(crate) service: String,
    /// What is wrong.
    pub(crate) text: String,
}

impl Happening for OpenapiProblem {
    const KIND: &'static str = "openapi_problem";

    fn level(&self) -> Level {
        Level::Warn
    }

    fn describe(self, event: &mut Event) {
        let OpenapiProblem { service, text } = self;
        event.text = format!("its openapi: {text}");
        event.service = Some(service);
    }
}

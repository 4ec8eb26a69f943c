//! Schedules, and the places whose clocks they are about.

use serde_json::{Value, json};
use watt_core::jobs::{Schedule, ScheduleError};

use super::{Bad, Scalar, quote};
use crate::report::did_you_mean;

/// Words for whole schedules, for suggestions.
const WORDS: [&str; 7] = ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"];

impl Scalar for Schedule {
    fn parse(text: &str) -> Result<Self, Bad> {
        Schedule::parse(text).map_err(|error| {
            let hint = match &error {
                ScheduleError::Fields(_) => "for example `0 3 * * *`: at 3:00 each day".to_owned(),
                ScheduleError::Word(word) => match word.to_ascii_lowercase().as_str() {
                    "@reboot" => "a service with `restart: never` runs once at each start".to_owned(),
                    "@every" => "write fields, such as `*/5 * * * *`: every five minutes".to_owned(),
                    lower => {
                        let near = did_you_mean(lower, WORDS);
                        near.unwrap_or_else(|| format!("one of {}, or fields", WORDS.map(quote).join(", ")))
                    }
                },
                ScheduleError::Part { .. } => {
                    "numbers and names, ranges `1-5`, steps `*/10`, with commas between".to_owned()
                }
                ScheduleError::Never => "the job would never fire; write a day that the month has".to_owned(),
            };
            let message = match &error {
                ScheduleError::Fields(_) | ScheduleError::Part { .. } | ScheduleError::Never => {
                    error.to_string()
                }
                ScheduleError::Word(word) => format!("{} is no schedule", quote(word)),
            };
            Bad::new(message).hint(hint)
        })
    }

    fn show(&self) -> Value {
        json!(self.as_str())
    }
}

/// The name of a time zone by its form. Whether there is one of that name, the host's database says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeZoneName(pub(crate) String);

impl Scalar for TimeZoneName {
    fn parse(text: &str) -> Result<Self, Bad> {
        let is_part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_".contains(&byte))
                && !part.starts_with('-')
        };
        match text.len() <= 64 && text.split('/').all(is_part) {
            true => Ok(TimeZoneName(text.to_owned())),
            false => Err(Bad::new(format!("{} is not the name of a time zone", quote(text)))
                .hint("write one such as `Europe/Berlin`, or `UTC`")),
        }
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

//! Schedules, the places whose clocks they are about, and where calls go.

use serde_json::{Value, json};
use watt_core::{
    ServiceId,
    jobs::{Schedule, ScheduleError},
};

use super::{Bad, Scalar, UrlPath, quote};
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

/// A URL of a service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MeshUrl {
    pub(crate) service: ServiceId,
    /// Path and query.
    pub(crate) path: String,
}

impl Scalar for MeshUrl {
    fn parse(text: &str) -> Result<Self, Bad> {
        let bad = || {
            Bad::new(format!("{} is not the URL of a service", quote(text)))
                .hint("calls go to services: `http://NAME.plt.local/path`")
        };
        let rest = text.strip_prefix("http://").ok_or_else(bad)?;
        let (host, path) = match rest.find(['/', '?']) {
            Some(index) if rest[index..].starts_with('/') => (&rest[..index], rest[index..].to_owned()),
            Some(index) => (&rest[..index], format!("/{}", &rest[index..])),
            None => (rest, "/".to_owned()),
        };
        let host = host.strip_suffix(":80").unwrap_or(host);
        let name = host.strip_suffix(".plt.local").ok_or_else(bad)?;
        let service = ServiceId::new(name).map_err(|_| bad())?;
        let UrlPath::<true>(path) = UrlPath::parse(&path)?;
        Ok(MeshUrl { service, path })
    }

    fn show(&self) -> Value {
        json!(format!("http://{}.plt.local{}", self.service, self.path))
    }
}

//! A number of workers, or a part of them.

use serde_json::{Value, json};
use watt_core::plan::Share;

use super::{Bad, Scalar, quote};
use crate::keys::WORKERS_MAX;

impl Scalar for Share {
    fn parse(text: &str) -> Result<Self, Bad> {
        let bad = || {
            Bad::new(format!("{} is not a number of workers", quote(text)))
                .hint("write `2`, or `25%` for a part of them")
        };
        let out_of_range = |most: &str| {
            Bad::new(format!("{} is out of range", quote(text))).hint(format!("it is at most {most}"))
        };
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim_end().parse::<u64>().map_err(|_| bad())? {
                percent @ 0..=100 => Ok(Share::Percent(percent as u8)),
                _ => Err(out_of_range("100%")),
            },
            None => match text.parse::<u64>().map_err(|_| bad())? {
                count if count <= WORKERS_MAX.into() => Ok(Share::Count(count as u16)),
                _ => Err(out_of_range(&WORKERS_MAX.to_string())),
            },
        }
    }

    fn show(&self) -> Value {
        match self {
            Share::Count(count) => json!(count),
            Share::Percent(percent) => json!(format!("{percent}%")),
        }
    }
}

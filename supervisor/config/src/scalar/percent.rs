//! A part of something.

use serde_json::{Value, json};

use super::{Bad, Scalar, quote};

/// Percent, from 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Percent(pub(crate) u32);

impl Scalar for Percent {
    fn parse(text: &str) -> Result<Self, Bad> {
        let number = text.strip_suffix('%').map_or(text, str::trim_end);
        match number.parse() {
            Ok(percent @ 1..=100) => Ok(Percent(percent)),
            _ => Err(Bad::new(format!("{} is not a part of the whole", quote(text)))
                .hint("write a whole number from `1%` to `100%`")),
        }
    }

    fn show(&self) -> Value {
        json!(format!("{}%", self.0))
    }
}

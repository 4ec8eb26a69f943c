//! Regular expressions of whole texts, as routes have them.

use serde_json::{Value, json};

use super::{Bad, Scalar, not_an_expression};

/// A regular expression that the proxy will take: compiled as it compiles it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expression {
    pub(crate) text: String,
    /// The names of its groups.
    pub(crate) groups: Vec<String>,
}

impl Scalar for Expression {
    fn parse(text: &str) -> Result<Self, Bad> {
        /// As in the proxy's `route/pattern.rs`. Each of its threads has one.
        const COMPILED_BYTES_MAX: usize = 256 << 10;
        let build = |text: &str| {
            regex::bytes::RegexBuilder::new(text)
                .unicode(false)
                .dot_matches_new_line(true)
                .size_limit(COMPILED_BYTES_MAX)
                .build()
        };
        // By itself first: `a)|(b` would close what is around it, and no longer be about the whole text.
        match build(text).and_then(|_| build(&format!("^(?:{text})$"))) {
            Ok(regex) => {
                let groups = regex.capture_names().flatten().map(str::to_owned).collect();
                Ok(Expression { text: text.to_owned(), groups })
            }
            Err(error) => Err(not_an_expression(text, &error)),
        }
    }

    fn show(&self) -> Value {
        json!(self.text)
    }
}

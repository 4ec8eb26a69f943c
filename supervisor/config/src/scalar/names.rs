//! Names that the kernel, the host or its files give: accounts, files, variables, capabilities, address families.

use serde_json::{Value, json};
use watt_core::sandbox::{AddressFamily, Capability};

use super::{Bad, Scalar, quote};
use crate::report::did_you_mean;

/// A user or group of the host, by name or number. Whether it exists is found out where it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account(pub(crate) String);

impl Scalar for Account {
    fn parse(text: &str) -> Result<Self, Bad> {
        // The last number means "no change" to chown(2) and setuid(2).
        let is_number = text.parse::<u32>().is_ok_and(|number| number != u32::MAX);
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        // utmp(5) has room for 31 characters.
        let is_name = text.starts_with(first) && text.chars().all(rest) && text.len() <= 31;
        match is_number || is_name {
            true => Ok(Account(text.to_owned())),
            false => Err(Bad::new(format!("{} is not the name or number of an account", quote(text)))
                .hint("write a name such as `www-data`, or a number such as 33")),
        }
    }

    fn show(&self) -> Value {
        self.0.parse::<u32>().map_or_else(|_| json!(self.0), |number| json!(number))
    }
}

/// The name of a file in a folder that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName(pub(crate) String);

impl Scalar for FileName {
    fn parse(text: &str) -> Result<Self, Bad> {
        let bad = |hint: &str| Err(Bad::new(format!("{} is not a file's name", quote(text))).hint(hint));
        match text {
            "" | "." | ".." => bad("write a name such as `db_password`"),
            _ if text.contains('/') => bad("a name has no `/`"),
            // NAME_MAX of limits.h.
            _ if text.len() > 255 => bad("a name has at most 255 bytes"),
            _ if text.chars().any(char::is_control) => bad("a name has no control characters"),
            _ => Ok(FileName(text.to_owned())),
        }
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VariableName(pub(crate) String);

impl Scalar for VariableName {
    fn parse(text: &str) -> Result<Self, Bad> {
        match crate::dotenv::is_name(text) {
            true => Ok(VariableName(text.to_owned())),
            false => Err(Bad::new(format!("{} is not a variable's name", quote(text)))
                .hint("write a name such as `DB_PASSWORD`, without braces and `$`")),
        }
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

/// A file mode creation mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Umask(pub(crate) u32);

impl Scalar for Umask {
    fn parse(text: &str) -> Result<Self, Bad> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(mask) if mask <= 0o777 && !digits.starts_with('+') => Ok(Umask(mask)),
            Ok(_) | Err(_) => Err(Bad::new(format!("{} is not a mask of mode bits", quote(text)))
                .hint("write octal digits from `000` to `777`, such as `027`")),
        }
    }

    fn show(&self) -> Value {
        json!(format!("{:03o}", self.0))
    }
}

impl Scalar for Capability {
    fn parse(text: &str) -> Result<Self, Bad> {
        prefixed(text, "CAP_", "a capability", Capability::ALL, Capability::from_name, Capability::name)
    }

    fn show(&self) -> Value {
        json!(self.name())
    }
}

impl Scalar for AddressFamily {
    fn parse(text: &str) -> Result<Self, Bad> {
        let (all, from_name) = (AddressFamily::ALL, AddressFamily::from_name);
        prefixed(text, "AF_", "an address family", all, from_name, AddressFamily::name)
    }

    fn show(&self) -> Value {
        json!(self.name())
    }
}

/// A constant of the kernel, with or without what all of its kind begin with, in any case.
fn prefixed<T: Copy>(
    text: &str,
    prefix: &str,
    noun: &str,
    all: &[T],
    from_name: impl Fn(&str) -> Option<T>,
    name: impl Fn(T) -> &'static str,
) -> Result<T, Bad> {
    let upper = text.to_ascii_uppercase().replace('-', "_");
    let full = if upper.starts_with(prefix) { upper } else { format!("{prefix}{upper}") };
    from_name(&full).ok_or_else(|| {
        let names = || all.iter().map(|one| name(*one));
        let begun = names().find(|name| name.starts_with(&full));
        let near = begun.map(|name| format!("did you mean {}?", quote(name)));
        let near = near.or_else(|| did_you_mean(&full, names()));
        Bad::new(format!("{} is not {noun}", quote(text)))
            .hint(near.unwrap_or_else(|| format!("{noun} has a name such as {}", quote(name(all[10])))))
    })
}

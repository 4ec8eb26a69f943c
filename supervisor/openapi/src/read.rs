//! Reading a description, within bounds.

use std::{cell::Cell, error, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// The longest description, in bytes.
pub const TEXT_MAX: usize = 4 << 20;

/// How deep values lie within each other.
pub const DEPTH_MAX: usize = 100;

/// How many values there are. Each takes some tens of bytes when it is read, and may be written in two.
pub const VALUES_MAX: usize = 250_000;

/// Why a text is no description that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// It is longer than [`TEXT_MAX`].
    TooLong,
    /// It has more than [`VALUES_MAX`] values.
    TooMany,
    /// They lie deeper than [`DEPTH_MAX`].
    TooDeep,
    /// It is no JSON.
    NotJson(String),
    /// It is JSON, and no description of this version.
    Version(String),
    /// It is a description of an earlier kind.
    Swagger,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "its description has more than {} MB", TEXT_MAX >> 20),
            Self::TooMany => write!(f, "its description has more than {VALUES_MAX} values"),
            Self::TooDeep => write!(f, "its description is nested more than {DEPTH_MAX} deep"),
            Self::NotJson(why) => write!(f, "its description is no JSON: {why}"),
            Self::Version(version) => {
                write!(
                    f,
                    "its description is of no version that is understood: `openapi` is {version}, and has to be 3.0, 3.1 or 3.2"
                )
            }
            Self::Swagger => f.write_str("its description is Swagger 2.0: convert it to OpenAPI 3"),
        }
    }
}

impl error::Error for Unreadable {}

/// The minor version of OpenAPI 3 that a text says it is of. The rest of it is looked at as far as it takes to find that.
pub(crate) fn minor_version(text: &[u8]) -> Result<u8, Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        openapi: Option<Text>,
        swagger: Option<IgnoredAny>,
    }
    let text = bounded(text)?;
    let Head { openapi, swagger } = serde_json::from_slice(text).map_err(not_json)?;
    let Some(Text(version)) = openapi else {
        return Err(if swagger.is_some() {
            Unreadable::Swagger
        } else {
            Unreadable::Version("missing".to_owned())
        });
    };
    let rest = version.strip_prefix("3.").and_then(|rest| rest.split('.').next());
    match rest {
        Some("0") => Ok(0),
        Some("1") => Ok(1),
        Some("2") => Ok(2),
        _ => Err(Unreadable::Version(format!("`{}`", version.chars().take(20).collect::<String>()))),
    }
}

/// A text, or something else as if it were an empty one.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfText;
        impl<'de> Visitor<'de> for OfText {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version in quotes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_str(OfText)
    }
}

/// Whether a text is a description that can be used.
pub fn check(text: &[u8]) -> Result<(), Unreadable> {
    minor_version(text)?;
    read(text).map(drop)
}

/// Reads all of it.
pub(crate) fn read(text: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    let left = Left { values: Cell::new(VALUES_MAX), why: Cell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_slice(bounded(text)?);
    let read = Bounded { left: &left, depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    match (read, left.why.take()) {
        (_, Some(why)) => Err(why),
        (Ok(Value::Object(root)), None) => Ok(root),
        (Ok(_), None) => Err(Unreadable::NotJson("it is not an object".to_owned())),
        (Err(error), None) => Err(not_json(error)),
    }
}

fn bounded(text: &[u8]) -> Result<&[u8], Unreadable> {
    if text.len() > TEXT_MAX {
        return Err(Unreadable::TooLong);
    }
    // A mark that some editors write in front of UTF-8.
    Ok(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text))
}

fn not_json(error: serde_json::Error) -> Unreadable {
    let text = error.to_string();
    match text.starts_with("recursion limit exceeded") {
        true => Unreadable::TooDeep,
        false => Unreadable::NotJson(text),
    }
}

/// What may still be read.
struct Left {
    values: Cell<usize>,
    /// Why no more is: the JSON's own errors are about texts.
    why: Cell<Option<Unreadable>>,
}

/// A value, counted.
#[derive(Clone, Copy)]
struct Bounded<'l> {
    left: &'l Left,
    depth: usize,
}

impl Bounded<'_> {
    fn take<E: de::Error>(&self) -> Result<(), E> {
        let why = match self.left.values.get().checked_sub(1) {
            _ if self.depth > DEPTH_MAX => Unreadable::TooDeep,
            None => Unreadable::TooMany,
            Some(left) => {
                self.left.values.set(left);
                return Ok(());
            }
        };
        self.left.why.set(Some(why));
        Err(E::custom("too much"))
    }

    fn inner(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.take()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner())? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.inner())?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), Unreadable>) {
        assert_eq!(read(text.as_bytes()).map(drop), expected, "{:.60}", text);
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        check(r#"{"a": [1, -1, 1.5, true, null, "x"]}"#, Ok(()));
        check("\u{feff}{}", Ok(()));
        let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        check(&deep(DEPTH_MAX), Ok(()));
        check(&deep(DEPTH_MAX + 1), Err(Unreadable::TooDeep));
        check(&deep(1 << 20), Err(Unreadable::TooDeep));
        let wide = |count: usize| format!(r#"{{"a":[{}0]}}"#, "0,".repeat(count - 1));
        check(&wide(VALUES_MAX - 2), Ok(()));
        check(&wide(VALUES_MAX - 1), Err(Unreadable::TooMany));
        check(&format!(r#"{{"a":"{}"}}"#, "x".repeat(TEXT_MAX)), Err(Unreadable::TooLong));
        assert!(matches!(read(b"[]"), Err(Unreadable::NotJson(_))));
        assert!(matches!(read(b"{} {}"), Err(Unreadable::NotJson(_))));
        assert!(matches!(read(b"openapi: 3.0.0"), Err(Unreadable::NotJson(_))));
        assert!(matches!(read(b"{\"a\": \"\xff\"}"), Err(Unreadable::NotJson(_))));
    }

    #[test]
    fn a_description_is_known_by_its_version() {
        for (text, expected) in [
            (r#"{"openapi": "3.0.3"}"#, Ok(0)),
            (r#"{"info": {"a": [1]}, "openapi": "3.1.0"}"#, Ok(1)),
            (r#"{"openapi": "3.2.0"}"#, Ok(2)),
            (r#"{"swagger": "2.0"}"#, Err(Unreadable::Swagger)),
            (r#"{"openapi": "4.0.0"}"#, Err(Unreadable::Version("`4.0.0`".to_owned()))),
            (r#"{"openapi": "3.10.0"}"#, Err(Unreadable::Version("`3.10.0`".to_owned()))),
            ("{}", Err(Unreadable::Version("missing".to_owned()))),
        ] {
            assert_eq!(minor_version(text.as_bytes()), expected, "{text}");
        }
        assert!(matches!(minor_version(br#"{"openapi": 3.1}"#), Err(Unreadable::NotJson(_))));
    }
}

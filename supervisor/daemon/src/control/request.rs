//! What came in: query parameters and JSON bodies, checked for form.

use std::{str::FromStr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use watt_core::ServiceId;

use super::{
    problem::{Failure, nearest},
    routes::Parameter,
};

/// The largest body: names of a thousand services have room.
const BODY_SIZE_MAX: usize = 256 << 10;
/// How long a body may take to come from a process of the same host.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The parameters of a request, as many as it has and in their order.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query string apart. Only these parameters may be there.
    pub(super) fn parse(query: &str, known: &[Parameter]) -> Result<Query, Failure> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if !known.iter().any(|parameter| parameter.name == name) {
                return Err(unknown_parameter(&name, known));
            }
            pairs.push((name, value));
        }
        Ok(Query(pairs))
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |pair| pair.0 == name).map(|pair| pair.1.as_str())
    }

    /// A parameter that may be there once.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(bad(format!("{name} is given twice"), None)),
            (value, None) => Ok(value),
        }
    }

    /// A number that may be there.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let parse =
            |value: &str| value.parse().map_err(|_| bad(format!("{name}={value} is not a number"), None));
        self.one(name)?.map(parse).transpose()
    }

    /// Yes or no; no when it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.one(name)? {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(value) => Err(bad(format!("{name}={value} is neither true nor false"), None)),
        }
    }
}

/// Reads a JSON body. An empty one stands for every default.
pub(super) async fn json<T: DeserializeOwned + Default>(body: Incoming) -> Result<T, Failure> {
    let bytes = bytes(body).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    // The message ends with the line and column.
    serde_json::from_slice(&bytes).map_err(|error| bad(format!("the body is not understood: {error}"), None))
}

/// Reads a body of text.
pub(super) async fn text(body: Incoming) -> Result<String, Failure> {
    let bytes = bytes(body).await?;
    String::from_utf8(bytes.into()).map_err(|error| bad(format!("the body is not UTF-8: {error}"), None))
}

async fn bytes(body: Incoming) -> Result<Bytes, Failure> {
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_SIZE_MAX).collect()).await;
    match body {
        Err(_) => Err(Failure::BodyTimeout),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Failure::TooLarge { size_max: BODY_SIZE_MAX })
        }
        Ok(Err(error)) => Err(bad(format!("the body is broken: {error}"), None)),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// A service's name. One that cannot be a name is not the name of any service, and is told as such.
pub(super) fn service(name: &str) -> Result<ServiceId, String> {
    ServiceId::new(name).map_err(|_| name.to_owned())
}

/// Undoes percent-encoding (RFC 3986 §2.1). A `+` stays one: spaces are `%20` here.
pub(super) fn decoded(text: &str) -> Result<String, Failure> {
    let broken = || bad(format!("{text:?} is not percent-encoded UTF-8"), None);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = after else { return Err(broken()) };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(broken()) };
        bytes.push(high << 4 | low);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

pub(super) fn bad(message: String, hint: Option<String>) -> Failure {
    Failure::BadRequest { message, hint }
}

fn unknown_parameter(name: &str, known: &[Parameter]) -> Failure {
    let near = nearest(name, known.iter().map(|parameter| parameter.name));
    let hint = near.first().map(|near| format!("did you mean {near}?"));
    bad(format!("there is no parameter {name:?} here"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(decoded(text).ok().as_deref(), expected, "{text}")
        };
        check("a%20b+c", Some("a b+c"));
        check("%C3%a9", Some("é"));
        check("%", None);
        check("%4", None);
        check("%zz", None);
        check("%+1", None);
        check("%ff", None);
    }
}

//! The one place where the proxy's own answers come from.
//!
//! A body says which service, what happened and why, as JSON or as text by `Accept`:
//! `{"error":{"status":502,"service":"api","reason":"connection_refused","message":"…"}}`.

use std::{io::Write, rc::Rc};

use serde::Serialize;

use crate::http::{DocumentAsked, FileAsked, Refusal};

/// A request that a worker did not answer, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub reason: Reason,
    /// The service that was to answer, when that was known.
    pub service: Option<Rc<str>>,
    /// One sentence for people.
    pub message: String,
    /// Seconds until another try may do better.
    pub retry_after_s: Option<u64>,
    /// The methods that are taken, where this one is not.
    pub allow: Option<Box<str>>,
    /// More fields of the answer, each with its end.
    pub lines: Vec<u8>,
}

/// An answer in place of a service's that is no failure.
#[derive(Debug, Clone)]
pub(crate) struct OwnAnswer {
    pub(crate) status: u16,
    /// Its fields but for the framing, each with its end.
    pub(crate) lines: Vec<u8>,
    pub(crate) body: Rc<[u8]>,
}

/// What the proxy answers by itself.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Failure(Failure),
    Own(OwnAnswer),
    File(Box<FileAsked>),
    Document(Box<DocumentAsked>),
}

impl Reply {
    /// With these fields as well, each of which has its end.
    pub(crate) fn with(mut self, more: &[u8]) -> Reply {
        match &mut self {
            Reply::Failure(failure) => failure.lines.extend_from_slice(more),
            Reply::Own(own) => own.lines.extend_from_slice(more),
            Reply::File(asked) => asked.lines.extend_from_slice(more),
            Reply::Document(asked) => asked.lines.extend_from_slice(more),
        }
        self
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Reply::Failure(failure)
    }
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client's request is refused as it is.
    Refused(Refusal),
    /// The client took too long to send it.
    RequestTimeout,
    /// No route matches.
    NoRoute,
    /// The listener that the connection came in by is gone, and its routes with it.
    Misdirected,
    /// Routes match, for other methods.
    MethodNotAllowed,
    /// The host is no name of the mesh.
    UnknownHost,
    /// No service has this name.
    UnknownService,
    /// A policy forbids the call.
    PolicyDenied,
    /// The client's address may not come.
    AddressDenied,
    /// A page of another origin may not, or not that.
    CorsDenied,
    /// The request's body is larger than may be.
    BodyTooLarge,
    /// Requests come too often.
    RateLimited,
    /// Nobody that is known asks.
    CredentialsMissing,
    /// Whoever asks is not who he says.
    CredentialsWrong,
    /// Whoever asks has none of the roles that are needed.
    RoleMissing,
    /// A rule says that it may not be.
    RuleDenied,
    /// Who says who may says nothing.
    AuthorityUnavailable,
    /// A filter failed.
    FilterFailed,
    /// The keys that tokens are signed with could not be fetched.
    KeysUnavailable,
    /// Too much is looked at already to find out who asks.
    AuthBusy,
    /// A route leads to files, and to none of this path.
    NoFile,
    /// The disk or the folder of a route's files cannot be used.
    FilesUnavailable,
    /// The description of the APIs has not been made yet.
    NoDocument,
    /// The service does not listen.
    NotListening,
    /// No worker could be connected to.
    ConnectionRefused,
    /// TLS with the server did not come to be.
    TlsFailed,
    /// The worker went away before it answered.
    ConnectionLost,
    /// The worker's answer cannot be passed on.
    BadResponse,
    /// The service failed and is not running.
    ServiceFailed,
    /// The operator stopped the service.
    ServiceStopped,
    /// No worker became ready while the request waited.
    NoWorker,
    /// Too many requests wait already.
    TooManyWaiting,
    /// No worker accepted the connection in time.
    ConnectTimeout,
    /// No answer began in time.
    FirstByteTimeout,
    /// No worker that was asked began to answer in the time that each has.
    TryTimeout,
    /// The time of the whole request is over.
    DeadlineExceeded,
    /// A route has a fault for tests, with this status.
    Injected(u16),
    /// The service fails, and is not asked for a while.
    BreakerOpen,
    /// As many requests are at the service and wait as may.
    BulkheadFull,
    /// The request waited for its turn for as long as it may.
    QueueTimeout,
    /// More urgent requests came.
    Shed,
    /// Only what is stored was asked for, and nothing is.
    NotCached,
}

impl Reason {
    /// A word for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Reason::Refused(refusal) => refusal.code(),
            Reason::RequestTimeout => "request_timeout",
            Reason::NoRoute => "no_route",
            Reason::Misdirected => "misdirected",
            Reason::MethodNotAllowed => "method_not_allowed",
            Reason::UnknownHost => "unknown_host",
            Reason::UnknownService => "unknown_service",
            Reason::PolicyDenied => "policy_denied",
            Reason::AddressDenied => "address_denied",
            Reason::CorsDenied => "cors_denied",
            Reason::BodyTooLarge => "body_too_large",
            Reason::RateLimited => "rate_limited",
            Reason::CredentialsMissing => "credentials_missing",
            Reason::CredentialsWrong => "credentials_wrong",
            Reason::RoleMissing => "role_missing",
            Reason::RuleDenied => "rule_denied",
            Reason::AuthorityUnavailable => "authority_unavailable",
            Reason::FilterFailed => "filter_failed",
            Reason::KeysUnavailable => "keys_unavailable",
            Reason::AuthBusy => "auth_busy",
            Reason::NoFile => "no_file",
            Reason::FilesUnavailable => "files_unavailable",
            Reason::NoDocument => "no_document",
            Reason::NotListening => "not_listening",
            Reason::ConnectionRefused => "connection_refused",
            Reason::TlsFailed => "tls_failed",
            Reason::ConnectionLost => "connection_lost",
            Reason::BadResponse => "bad_response",
            Reason::ServiceFailed => "service_failed",
            Reason::ServiceStopped => "service_stopped",
            Reason::NoWorker => "no_worker_ready",
            Reason::TooManyWaiting => "too_many_waiting",
            Reason::ConnectTimeout => "connect_timeout",
            Reason::FirstByteTimeout => "first_byte_timeout",
            Reason::TryTimeout => "try_timeout",
            Reason::DeadlineExceeded => "deadline_exceeded",
            Reason::Injected(_) => "fault_injected",
            Reason::BreakerOpen => "breaker_open",
            Reason::BulkheadFull => "bulkhead_full",
            Reason::QueueTimeout => "queue_timeout",
            Reason::Shed => "shed",
            Reason::NotCached => "not_cached",
        }
    }

    /// The status it is answered with.
    pub const fn status(self) -> u16 {
        match self {
            Reason::Refused(refusal) => refusal.status(),
            Reason::RequestTimeout => 408,
            Reason::NoRoute | Reason::UnknownService | Reason::NoFile => 404,
            Reason::Misdirected => 421,
            Reason::MethodNotAllowed => 405,
            Reason::PolicyDenied
            | Reason::AddressDenied
            | Reason::CorsDenied
            | Reason::RoleMissing
            | Reason::RuleDenied => 403,
            Reason::CredentialsMissing | Reason::CredentialsWrong => 401,
            Reason::BodyTooLarge => 413,
            Reason::RateLimited => 429,
            Reason::UnknownHost
            | Reason::NotListening
            | Reason::ConnectionRefused
            | Reason::TlsFailed
            | Reason::ConnectionLost
            | Reason::BadResponse => 502,
            Reason::ServiceFailed
            | Reason::ServiceStopped
            | Reason::NoWorker
            | Reason::TooManyWaiting
            | Reason::BreakerOpen
            | Reason::BulkheadFull
            | Reason::QueueTimeout
            | Reason::Shed
            | Reason::AuthorityUnavailable
            | Reason::FilterFailed
            | Reason::KeysUnavailable
            | Reason::AuthBusy
            | Reason::FilesUnavailable
            | Reason::NoDocument => 503,
            Reason::ConnectTimeout
            | Reason::FirstByteTimeout
            | Reason::TryTimeout
            | Reason::DeadlineExceeded
            | Reason::NotCached => 504,
            Reason::Injected(status) => status,
        }
    }

    /// The status of gRPC it is answered with.
    const fn grpc_status(self) -> u8 {
        match self {
            Reason::DeadlineExceeded => 4,
            // RESOURCE_EXHAUSTED, where clients would take the status of HTTP for UNAVAILABLE.
            Reason::BodyTooLarge | Reason::RateLimited => 8,
            other => grpc_status(other.status()),
        }
    }
}

impl Failure {
    pub(crate) fn new(reason: Reason, service: Option<Rc<str>>, message: String) -> Failure {
        Failure { reason, service, message, retry_after_s: None, allow: None, lines: Vec::new() }
    }

    pub(crate) fn retry_after(self, seconds: Option<u64>) -> Failure {
        Failure { retry_after_s: seconds, ..self }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::new(Reason::Refused(refusal), None, refusal.message().to_owned())
    }
}

/// How a client wants to read errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    #[default]
    Json,
    Text,
    /// As gRPC's clients do: a response without a body, with the status among its fields ("Trailers-Only" of gRPC's
    /// PROTOCOL-HTTP2.md).
    Grpc,
}

impl Format {
    /// gRPC, by the Content-Type of the request. Not gRPC-Web, whose statuses are in bodies.
    pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
        let rest = content_type.strip_prefix(b"application/grpc");
        matches!(rest, Some([] | [b'+' | b';' | b' ', ..]))
    }

    /// Text for those who ask for text and not for JSON; browsers and terminals among them.
    pub(crate) fn by_accept(accept: &[u8]) -> Format {
        let accept = accept.to_ascii_lowercase();
        let has = |kind: &[u8]| memchr::memmem::find(&accept, kind).is_some();
        if has(b"text/") && !has(b"json") { Format::Text } else { Format::Json }
    }
}

/// How an answer goes out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    pub(crate) format: Format,
    /// The request was HEAD.
    pub(crate) without_body: bool,
    /// The connection ends after it.
    pub(crate) close: bool,
    /// The client must be told that it does not end.
    pub(crate) keep_alive: bool,
}

#[derive(Serialize)]
struct Body<'f> {
    error: Error<'f>,
}

#[derive(Serialize)]
struct Error<'f> {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'f str>,
    reason: &'static str,
    message: &'f str,
}

/// Appends the whole response to `out`.
pub(crate) fn write(failure: &Failure, manner: Manner, out: &mut Vec<u8>) {
    let status = failure.reason.status();
    let (sent, kind, body) = match manner.format {
        Format::Json => (status, "application/json", json(failure, status)),
        Format::Text => (status, "text/plain; charset=utf-8", text(failure, status)),
        Format::Grpc => (200, "application/grpc", Vec::new()),
    };
    // Writing to memory does not fail.
    let mut line = |text: std::fmt::Arguments<'_>| drop(out.write_fmt(text));
    line(format_args!("HTTP/1.1 {sent} {}\r\n", phrase(sent)));
    line(format_args!(
        "Content-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n",
        body.len()
    ));
    if manner.format == Format::Grpc {
        let message = percent_encoded(&failure.message);
        line(format_args!("grpc-status: {}\r\ngrpc-message: {message}\r\n", failure.reason.grpc_status()));
    }
    if let Some(seconds) = failure.retry_after_s {
        line(format_args!("Retry-After: {seconds}\r\n"));
    }
    if let Some(allow) = &failure.allow {
        line(format_args!("Allow: {allow}\r\n"));
    }
    out.extend_from_slice(&failure.lines);
    end(manner, &body, out);
}

/// Appends the whole of an answer that is no failure.
pub(crate) fn write_own(own: &OwnAnswer, manner: Manner, out: &mut Vec<u8>) {
    let OwnAnswer { status, lines, body } = own;
    // Writing to memory does not fail.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", phrase(*status));
    out.extend_from_slice(lines);
    // These two have none, whatever anybody wants: it would be taken for the next response.
    if matches!(status, 204 | 304) {
        return end(manner, &[], out);
    }
    let _ = write!(out, "Content-Length: {}\r\n", body.len());
    end(manner, body, out);
}

/// What becomes of the connection, and the body.
fn end(manner: Manner, body: &[u8], out: &mut Vec<u8>) {
    if manner.close {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if manner.keep_alive {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if !manner.without_body {
        out.extend_from_slice(body);
    }
}

fn json(failure: &Failure, status: u16) -> Vec<u8> {
    let error = Error {
        status,
        service: failure.service.as_deref(),
        reason: failure.reason.code(),
        message: &failure.message,
    };
    // Strings and a number are always serializable.
    let mut body = serde_json::to_vec(&Body { error }).unwrap_or_default();
    body.push(b'\n');
    body
}

fn text(failure: &Failure, status: u16) -> Vec<u8> {
    let service =
        failure.service.as_deref().map(|service| format!(", service {service}")).unwrap_or_default();
    let reason = failure.reason.code();
    format!("{status} {}{service} ({reason})\n{}\n", phrase(status), failure.message).into_bytes()
}

/// What gRPC's clients take a status of HTTP for (gRPC's http-grpc-status-mapping.md).
const fn grpc_status(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 | 501 => 12,
        408 | 429 | 502..=504 => 14,
        _ => 2,
    }
}

/// The status of HTTP that says what a status of gRPC does, as google.rpc.Code has them, for rules that know statuses of HTTP
/// alone.
pub(crate) const fn status_of_grpc(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// As `grpc-message` is written.
fn percent_encoded(message: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'%' | 0..=0x1f | 0x7f.. => format!("%{byte:02X}"),
        plain => char::from(plain).to_string(),
    };
    message.bytes().map(encoded).collect()
}

pub(crate) fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ if status < 400 => "Other",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(manner: Manner) -> String {
        let failure = Failure::new(Reason::ConnectionRefused, Some("api".into()), "Why \"so\".".into());
        let mut out = Vec::new();
        write(&failure.retry_after(Some(3)), manner, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_error_says_which_service_what_and_why() {
        let json = written(Manner::default());
        let (head, body) = json.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && head.contains("\r\nRetry-After: 3"),
            "{head}"
        );
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())) && !head.contains("Connection")
        );
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        let expected = serde_json::json!({"error": {
            "status": 502, "service": "api", "reason": "connection_refused", "message": "Why \"so\".",
        }});
        assert_eq!(value, expected);
        let text = written(Manner { format: Format::Text, close: true, ..Manner::default() });
        assert!(
            text.ends_with("\r\n\r\n502 Bad Gateway, service api (connection_refused)\nWhy \"so\".\n"),
            "{text}"
        );
        assert!(text.contains("\r\nConnection: close\r\n"));
        let head_only = written(Manner { without_body: true, ..Manner::default() });
        assert!(
            head_only.ends_with("\r\n\r\n")
                && head_only.contains(&format!("Content-Length: {}\r\n", body.len()))
        );
    }

    #[test]
    fn text_only_for_those_who_want_text() {
        for (accept, format) in [
            ("*/*", Format::Json),
            ("", Format::Json),
            ("application/json", Format::Json),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("Text/Plain", Format::Text),
            ("application/json, text/plain, */*", Format::Json),
        ] {
            assert_eq!(Format::by_accept(accept.as_bytes()), format, "{accept}");
        }
    }

    #[test]
    fn grpc_has_errors_of_its_own() {
        let grpc = written(Manner { format: Format::Grpc, ..Manner::default() });
        assert!(
            grpc.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n")
        );
        assert!(grpc.contains("\r\ngrpc-status: 14\r\ngrpc-message: Why \"so\".\r\n"), "{grpc}");
        assert_eq!(percent_encoded("10 % é\n"), "10 %25 %C3%A9%0A");
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; x", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            assert_eq!(Format::is_grpc(kind.as_bytes()), expected, "{kind}");
        }
    }

    #[test]
    fn every_status_has_its_phrase() {
        for status in Refusal::ALL.map(Refusal::status) {
            assert_ne!(phrase(status), "Error", "{status}");
        }
    }
}

//! A job's request to its service. It goes over the mesh, as an operator's `wattctl inject` does: the proxy finds a worker, waits for one
//! that starts, and keeps HTTP's framing. Of what comes back the status is read here, and the beginning is kept as it came, within
//! the bounds that checks of workers have.

use std::{io, path::PathBuf, time::Duration};

use tokio::net::UnixStream;
use watt_core::plan::Call;

use crate::{
    readiness::http::{exchange, rest},
    words,
};

/// How much of an answer is kept.
const OUTPUT_SIZE_MAX: usize = 16 << 10;

/// The first wait before a call is sent again; it doubles up to the last one.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// What is sent, and where.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) socket: PathBuf,
    pub(super) service: String,
    pub(super) job: String,
    /// The time that it is for.
    pub(super) instant: String,
    pub(super) call: Call,
    pub(super) timeout: Option<Duration>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Status(u16, Vec<u8>),
    TimedOut(Duration),
    Failed(String),
}

impl Answer {
    pub(super) fn is_ok(&self) -> bool {
        matches!(self, Answer::Status(200..=299, _))
    }

    pub(super) fn text(&self) -> String {
        match self {
            Answer::Status(status, _) => format!("status {status}"),
            Answer::TimedOut(after) => format!("no answer after {}", words::duration(*after)),
            Answer::Failed(reason) => reason.clone(),
        }
    }
}

/// How long to wait after so many attempts.
pub(super) fn pause(attempts: u32) -> Duration {
    let factor = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    RETRY_FIRST.saturating_mul(factor).min(RETRY_LAST)
}

/// Sends it once. `attempts` counts from 1.
pub(super) async fn send(request: &Request, attempts: u32) -> Answer {
    let answer = async {
        match once(request, attempts).await {
            Ok((status, body)) => Answer::Status(status, body),
            Err(error) => Answer::Failed(failure(&error)),
        }
    };
    match request.timeout {
        None => answer.await,
        Some(time) => tokio::time::timeout(time, answer).await.unwrap_or(Answer::TimedOut(time)),
    }
}

async fn once(request: &Request, attempts: u32) -> io::Result<(u16, Vec<u8>)> {
    let mut connection = UnixStream::connect(&request.socket).await?;
    let (status, mut body) = exchange(&mut connection, &bytes(request, attempts)).await?;
    body.truncate(OUTPUT_SIZE_MAX);
    // A service that is cut off in the middle of its answer may well call that a failure.
    tokio::spawn(rest(connection));
    Ok((status, body))
}

fn bytes(request: &Request, attempts: u32) -> Vec<u8> {
    let Request { service, job, instant, call, .. } = request;
    let mut text = format!("{} {} HTTP/1.1\r\n", call.method, call.path);
    let host = format!("{service}.plt.local");
    let retries = attempts.saturating_sub(1).to_string();
    let own = [
        ("Host", host.as_str()),
        ("User-Agent", "watt"),
        ("Accept", "*/*"),
        ("X-Watt-Job", job),
        ("X-Watt-Instant", instant),
        ("X-Retry-Attempt", &retries),
    ];
    let is_other = |name: &str| call.headers.keys().any(|other| other.eq_ignore_ascii_case(name));
    for (name, value) in own.iter().filter(|(name, _)| !is_other(name)) {
        text += &format!("{name}: {value}\r\n");
    }
    for (name, value) in &call.headers {
        text += &format!("{name}: {value}\r\n");
    }
    // RFC 9110 §8.6: a method that usually has a body says so when there is none.
    let body = call.body.as_deref().unwrap_or_default();
    if call.body.is_some() || matches!(call.method.as_str(), "POST" | "PUT" | "PATCH") {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text += "Connection: close\r\n\r\n";
    text += body;
    text.into_bytes()
}

fn failure(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection ended before an answer came".to_owned(),
        _ => format!("no answer: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;

    fn request(socket: PathBuf) -> Request {
        let call = Call {
            method: "POST".into(),
            path: "/tick?x=1".into(),
            headers: [("x-watt-job".to_owned(), "mine".to_owned())].into(),
            body: Some("a=1".into()),
            retries: 0,
        };
        let instant = "2026-11-26T03:00:00.000Z".to_owned();
        let timeout = Some(Duration::from_secs(600));
        Request { socket, service: "api".into(), job: "tick".into(), instant, call, timeout }
    }

    #[test]
    fn what_is_sent() {
        let expected = "POST /tick?x=1 HTTP/1.1\r\nHost: api.plt.local\r\nUser-Agent: watt\r\nAccept: */*\r\n\
                        X-Watt-Instant: 2026-11-26T03:00:00.000Z\r\nX-Retry-Attempt: 2\r\nx-watt-job: mine\r\n\
                        Content-Length: 3\r\nConnection: close\r\n\r\na=1";
        assert_eq!(String::from_utf8(bytes(&request(PathBuf::new()), 3)).unwrap(), expected);
    }

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let waits = [1, 2, 3, 9, 10, 100].map(|attempts| pause(attempts).as_millis());
        assert_eq!(waits, [100, 200, 400, 25_600, 30_000, 30_000]);
    }

    async fn answered(answer: &'static [u8]) -> Answer {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("mesh.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut read = [0; 4096];
            assert!(connection.read(&mut read).await.unwrap() > 0);
            // It may be cut off.
            let _ = connection.write_all(answer).await;
        });
        send(&request(socket), 1).await
    }

    #[tokio::test]
    async fn what_comes_back() {
        let answer = answered(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(answer, Answer::Status(204, Vec::new()));
        assert!(answer.is_ok());
        let answer = answered(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno").await;
        assert_eq!((answer.is_ok(), answer.text().as_str()), (false, "status 500"));
        assert_eq!(answer, Answer::Status(500, b"no".to_vec()));
        let answer = answered(b"HTTP/1.1 302 Found\r\n\r\n").await;
        assert!(!answer.is_ok());
        assert_eq!(answered(b"").await.text(), "the connection ended before an answer came");
        assert!(answered(b"SSH-2.0-OpenSSH_9.2\r\n").await.text().contains("not HTTP/1"));
        static LONG: [u8; 1 << 20] = [b'x'; 1 << 20];
        static ENDLESS: std::sync::LazyLock<Vec<u8>> =
            std::sync::LazyLock::new(|| [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &LONG].concat());
        match answered(&ENDLESS).await {
            Answer::Status(200, body) => assert_eq!(body.len(), OUTPUT_SIZE_MAX),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_answered_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("mesh.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let answer = send(&request(socket), 1).await;
        assert_eq!(answer.text(), "no answer after 10m");
        let nobody = send(&request(dir.path().join("nobody.sock")), 1).await;
        assert!(nobody.text().starts_with("no answer: "), "{}", nobody.text());
    }
}

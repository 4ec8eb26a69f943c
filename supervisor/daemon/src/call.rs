//! Requests of our own: those of jobs, and webhooks. To a service they go over the mesh, as an operator's `wattctl inject` does: the proxy
//! finds a worker, waits for one that starts, and keeps HTTP's framing. Others go out from here. Of what comes back the status is read, and the
//! beginning is kept as it came, within the bounds that checks of workers have.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use crate::{
    beside,
    readiness::http::{ask_status, exchange, rest},
    words,
};

/// How much of an answer is kept.
const OUTPUT_SIZE_MAX: usize = 16 << 10;

/// The first wait before a call is sent again; it doubles up to the last one.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// What is sent, and where. All of it was checked: nothing here can end a line.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) way: Way,
    /// The field of that name.
    pub(crate) host: String,
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Fields that it has unless the user wrote others.
    pub(crate) own: Vec<(&'static str, String)>,
    /// Those that the user wrote.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Option<String>,
    /// Whether the beginning of the answer's body is wanted. If not, the status is the answer: the end of a body may be long in coming.
    pub(crate) wants_body: bool,
}

/// How to get there.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// By the socket of the mesh.
    Mesh(PathBuf),
    /// To a host outside.
    Outside {
        /// A name or an address.
        name: String,
        port: u16,
    },
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Status(u16, Vec<u8>),
    TimedOut(Duration),
    Failed(String),
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Answer::Status(200..=299, _))
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Answer::Status(status, _) => format!("status {status}"),
            Answer::TimedOut(after) => format!("no answer after {}", words::duration(*after)),
            Answer::Failed(reason) => reason.clone(),
        }
    }
}

/// How long to wait after so many attempts.
pub(crate) fn pause(attempts: u32) -> Duration {
    let factor = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    RETRY_FIRST.saturating_mul(factor).min(RETRY_LAST)
}

/// Sends it once. `attempts` counts from 1.
pub(crate) async fn send(request: &Request, attempts: u32, timeout: Option<Duration>) -> Answer {
    let answer = async {
        match once(request, attempts).await {
            Ok((status, body)) => Answer::Status(status, body),
            Err(error) => Answer::Failed(failure(&error)),
        }
    };
    match timeout {
        None => answer.await,
        Some(time) => tokio::time::timeout(time, answer).await.unwrap_or(Answer::TimedOut(time)),
    }
}

async fn once(request: &Request, attempts: u32) -> io::Result<(u16, Vec<u8>)> {
    let bytes = bytes(request, attempts);
    match &request.way {
        Way::Mesh(socket) => converse(UnixStream::connect(socket).await?, &bytes, request).await,
        Way::Outside { name, port } => converse(connect(name, *port).await?, &bytes, request).await,
    }
}

async fn converse<C>(mut connection: C, bytes: &[u8], request: &Request) -> io::Result<(u16, Vec<u8>)>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (status, mut body) = match request.wants_body {
        true => exchange(&mut connection, bytes).await?,
        false => (ask_status(&mut connection, bytes).await?, Vec::new()),
    };
    body.truncate(OUTPUT_SIZE_MAX);
    // A service that is cut off in the middle of its answer may well call that a failure.
    tokio::spawn(rest(connection));
    Ok((status, body))
}

/// Connects to a host outside. The C library, which alone knows all that a host may look its names up with, makes whoever calls it wait.
async fn connect(name: &str, port: u16) -> io::Result<TcpStream> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return TcpStream::connect((address, port)).await;
    }
    let name = name.to_owned();
    let look_up = move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>);
    let addresses = beside::NAMES.run(look_up).await.unwrap_or_else(|| Ok(Vec::new()))?;
    TcpStream::connect(&addresses[..]).await
}

fn bytes(request: &Request, attempts: u32) -> Vec<u8> {
    let Request { host, method, path, headers, .. } = request;
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    let retries = attempts.saturating_sub(1).to_string();
    let first = [("Host", host.as_str()), ("User-Agent", "watt"), ("Accept", "*/*")];
    let own = request.own.iter().map(|(name, value)| (*name, value.as_str()));
    let own = first.into_iter().chain(own).chain([("X-Retry-Attempt", retries.as_str())]);
    let is_other = |name: &str| headers.keys().any(|other| other.eq_ignore_ascii_case(name));
    for (name, value) in own.filter(|(name, _)| !is_other(name)) {
        text += &format!("{name}: {value}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    // RFC 9110 §8.6: a method that usually has a body says so when there is none.
    let body = request.body.as_deref().unwrap_or_default();
    if request.body.is_some() || matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
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
        net::{TcpListener, UnixListener},
    };

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(600);

    fn request(way: Way) -> Request {
        Request {
            way,
            host: "api.plt.local".into(),
            method: "POST".into(),
            path: "/tick?x=1".into(),
            own: vec![("X-Watt-Job", "tick".into()), ("X-Watt-Instant", "2026-11-26T03:00:00.000Z".into())],
            headers: [("x-watt-job".to_owned(), "mine".to_owned())].into(),
            body: Some("a=1".into()),
            wants_body: true,
        }
    }

    fn mesh(socket: PathBuf) -> Request {
        request(Way::Mesh(socket))
    }

    #[test]
    fn what_is_sent() {
        let expected = "POST /tick?x=1 HTTP/1.1\r\nHost: api.plt.local\r\nUser-Agent: watt\r\nAccept: */*\r\n\
                        X-Watt-Instant: 2026-11-26T03:00:00.000Z\r\nX-Retry-Attempt: 2\r\nx-watt-job: mine\r\n\
                        Content-Length: 3\r\nConnection: close\r\n\r\na=1";
        assert_eq!(String::from_utf8(bytes(&mesh(PathBuf::new()), 3)).unwrap(), expected);
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
        send(&mesh(socket), 1, Some(TIMEOUT)).await
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
        let answer = send(&mesh(socket), 1, Some(TIMEOUT)).await;
        assert_eq!(answer.text(), "no answer after 10m");
        let nobody = send(&mesh(dir.path().join("nobody.sock")), 1, Some(TIMEOUT)).await;
        assert!(nobody.text().starts_with("no answer: "), "{}", nobody.text());
    }
    #[tokio::test]
    async fn hosts_outside_are_found_by_name_and_by_address() {
        for name in ["127.0.0.1", "localhost"] {
            let listener = TcpListener::bind((name, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut read = [0; 4096];
                let length = connection.read(&mut read).await.unwrap();
                connection.write_all(b"HTTP/1.1 202 Accepted\r\n\r\n").await.unwrap();
                String::from_utf8_lossy(&read[..length]).into_owned()
            });
            let way = Way::Outside { name: name.to_owned(), port };
            assert_eq!(send(&request(way), 1, Some(TIMEOUT)).await, Answer::Status(202, Vec::new()));
            assert!(server.await.unwrap().starts_with("POST /tick?x=1 HTTP/1.1\r\n"));
        }
        let nobody = Way::Outside { name: "a..b".into(), port: 80 };
        let answer = send(&request(nobody), 1, Some(TIMEOUT)).await;
        assert!(answer.text().starts_with("no answer: "), "{}", answer.text());
    }
}

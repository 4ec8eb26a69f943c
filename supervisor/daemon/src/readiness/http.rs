//! The least of HTTP/1.1 that a probe needs: a request, the status of its answer, and the beginning of its body where that is asked for.
//! What a service answers is not trusted: see the bounds.

use std::{io, time::Duration};

use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use watt_core::plan::HttpCheck;

/// How much of an answer's heads is read, interim responses included.
const HEAD_SIZE_MAX: usize = 8 << 10;

/// How much of a body is looked at.
const BODY_SIZE_MAX: usize = 64 << 10;

/// In how many pieces it may come.
const BODY_READS_MAX: usize = 64;

/// How much of what follows is read, and for how long.
const REST_SIZE_MAX: u64 = 1 << 20;
const REST_TIME_MAX: Duration = Duration::from_secs(1);

/// The bytes of a status line up to and including the status: `HTTP/1.1 200`.
const STATUS_LEN: usize = 12;

/// A GET and what has to come back.
pub(super) struct Question {
    request: Vec<u8>,
    path: String,
    status: (u16, u16),
    body: Option<Regex>,
}

impl Question {
    /// What a plan's check asks. `host` is the service's name, unless the check has another one.
    pub(super) fn new(check: &HttpCheck, host: &str) -> Question {
        // Patterns of a plan were compiled before. One that cannot be would match nothing.
        let body = check.body.as_ref().map(|pattern| Regex::new(pattern).unwrap_or_else(|_| never()));
        Question { request: request(host, check), path: check.path.clone(), status: check.status, body }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Asks, and says what is wrong with the answer.
    ///
    /// # Errors
    /// Those of the connection; InvalidData for anything that is not HTTP/1, UnexpectedEof for an answer that ends early.
    pub(super) async fn ask<C>(&self, connection: &mut C) -> io::Result<Result<(), String>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let (status, mut answer) = status_of(connection, &self.request).await?;
        let (low, high) = self.status;
        if !(low..=high).contains(&status) {
            return Ok(Err(format!("status {status}")));
        }
        let Some(pattern) = &self.body else { return Ok(Ok(())) };
        // One that comes drop by drop does not match.
        read_body(connection, &mut answer).await?;
        let matches = body(&answer).is_some_and(|(body, _)| pattern.is_match(&body));
        Ok(if matches { Ok(()) } else { Err("its body does not match".to_owned()) })
    }
}

/// Sends a request, and gives back the status of its answer and the beginning of its body.
///
/// # Errors
/// As [`Question::ask`].
pub(crate) async fn exchange<C>(connection: &mut C, request: &[u8]) -> io::Result<(u16, Vec<u8>)>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (status, mut answer) = status_of(connection, request).await?;
    // What has come is kept, however it ends.
    let _ = read_body(connection, &mut answer).await;
    Ok((status, body(&answer).map(|(body, _)| body).unwrap_or_default()))
}

/// Sends a request, and gives back the status of its answer, whatever comes after that or does not.
///
/// # Errors
/// As [`Question::ask`].
pub(crate) async fn ask_status<C>(connection: &mut C, request: &[u8]) -> io::Result<u16>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    Ok(status_of(connection, request).await?.0)
}

/// Sends a request, and reads as far as the status of its answer.
async fn status_of<C>(connection: &mut C, request: &[u8]) -> io::Result<(u16, Vec<u8>)>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    connection.write_all(request).await?;
    let mut answer = Vec::new();
    loop {
        if let Some(status) = final_status(&answer)? {
            return Ok((status, answer));
        }
        if answer.len() >= HEAD_SIZE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many interim responses"));
        }
        let mut part = (&mut *connection).take((HEAD_SIZE_MAX - answer.len()) as u64);
        if part.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads on until the body is whole, or as much of it is there as is looked at.
async fn read_body<C: AsyncRead + Unpin>(connection: &mut C, answer: &mut Vec<u8>) -> io::Result<()> {
    for _ in 0..BODY_READS_MAX {
        if body(answer).is_some_and(|(_, is_whole)| is_whole) {
            break;
        }
        let mut part = (&mut *connection).take((HEAD_SIZE_MAX + BODY_SIZE_MAX - answer.len()) as u64);
        if part.limit() == 0 || part.read_buf(answer).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// A pattern that matches nothing.
fn never() -> Regex {
    Regex::new("[^\\s\\S]").expect("a valid pattern")
}

/// A GET. Bytes that would end the request line are percent-encoded.
fn request(host: &str, check: &HttpCheck) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut text = String::from("GET ");
    for byte in check.path.bytes() {
        match byte {
            b'!'..=b'~' => text.push(char::from(byte)),
            // Writing into a String cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text += " HTTP/1.1\r\n";
    let own = [("Host", host), ("User-Agent", "watt"), ("Accept", "*/*")];
    let is_other = |name: &&str| check.headers.keys().any(|other| other.eq_ignore_ascii_case(name));
    let own = own.into_iter().filter(|(name, _)| !is_other(name));
    let theirs = check.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.chain(theirs).chain([("Connection", "close")]) {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text.into_bytes()
}

/// The body after the last head of an answer, as far as it has come and without the sizes of chunks, and whether that is all of it.
fn body(answer: &[u8]) -> Option<(Vec<u8>, bool)> {
    let (head, body) = last_head(answer)?;
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
    if field("transfer-encoding:").is_some_and(|value| value.ends_with("chunked")) {
        return Some(unchunked(body));
    }
    let length = field("content-length:").and_then(|value| value.parse::<usize>().ok());
    // Without a length, its end is that of the connection.
    let length = length.unwrap_or(usize::MAX);
    Some((body[..length.min(body.len())].to_owned(), body.len() >= length))
}

/// Chunks put together (RFC 9112 §7.1), as far as they have come and can be read, and whether the last one is there.
fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]).into_owned();
        match usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16) {
            Ok(0) => return (whole, true),
            Ok(size) => {
                let chunk = &rest[end + 2..];
                whole.extend_from_slice(&chunk[..size.min(chunk.len())]);
                rest = chunk.get(size.saturating_add(2)..).unwrap_or_default();
            }
            Err(_) => break,
        }
    }
    (whole, false)
}

/// Reads what follows the status, for nothing: a connection that is closed with bytes in it is reset, and many programs
/// write a page of errors when that happens to them.
pub(crate) async fn rest<C: AsyncRead + Unpin>(connection: C) {
    let mut rest = connection.take(REST_SIZE_MAX);
    let _ = tokio::time::timeout(REST_TIME_MAX, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// The status of the first response that is not an interim one (RFC 9110 §15.2); `None` while it is not there.
fn final_status(mut answer: &[u8]) -> io::Result<Option<u16>> {
    loop {
        let Some(line) = answer.get(..STATUS_LEN) else { return Ok(None) };
        let status = parse_status(line)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1"))?;
        if !(100..200).contains(&status) {
            return Ok(Some(status));
        }
        let Some((_, rest)) = split_head(answer) else { return Ok(None) };
        answer = rest;
    }
}

/// The head of the response that is not an interim one, and what follows it.
fn last_head(mut answer: &[u8]) -> Option<(&[u8], &[u8])> {
    loop {
        let (head, rest) = split_head(answer)?;
        if !matches!(parse_status(head.get(..STATUS_LEN)?)?, 100..200) {
            return Some((head, rest));
        }
        answer = rest;
    }
}

/// A head and what follows it.
fn split_head(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    Some((&answer[..end], &answer[end + 4..]))
}

/// RFC 9112 §4: `HTTP/1.` digit, space, three digits.
fn parse_status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    match *rest {
        [b'0'..=b'9', b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Some(100 * digit(a) + 10 * digit(b) + digit(c))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_from_whole_and_from_cut_answers() {
        let check = |answer: &[u8], expected: Option<u16>| {
            assert_eq!(final_status(answer).unwrap(), expected, "{}", answer.escape_ascii());
        };
        check(b"HTTP/1.1 200 OK\r\n", Some(200));
        check(b"HTTP/1.0 404", Some(404));
        check(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Some(204));
        check(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1", None);
        check(b"HTTP/1.1 100 Continue\r\n", None);
        check(b"", None);
        check(b"HTTP/1.1 20", None);
    }

    #[test]
    fn anything_else_is_refused() {
        let nonsense: [&[u8]; 6] = [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/2.0 200 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 2x0 OK",
            b"HTTP/1.1 000 OK",
            &[0xff; 64],
        ];
        for answer in nonsense {
            assert!(final_status(answer).is_err(), "{}", answer.escape_ascii());
        }
    }

    #[test]
    fn a_path_cannot_end_the_request_line() {
        let request = request("api.plt.local", &HttpCheck::of("/a b\r\nX: y?q=é"));
        let text = String::from_utf8(request).unwrap();
        assert!(
            text.starts_with("GET /a%20b%0D%0AX:%20y?q=%C3%A9 HTTP/1.1\r\nHost: api.plt.local\r\n"),
            "{text}"
        );
    }

    fn question(change: impl Fn(&mut HttpCheck)) -> Question {
        let mut check = HttpCheck::of("/healthz");
        change(&mut check);
        Question::new(&check, "api.plt.local")
    }

    async fn asked(question: Question, answer: &'static [u8]) -> Result<(), String> {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        question.ask(&mut near).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_has_to_have_the_status_and_the_body() {
        const CHUNKS: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"o\r\n4;x=y\r\nk\":1\r\n0\r\n\r\n";
        let of = |low, high, body: Option<&str>| {
            let body = body.map(str::to_owned);
            question(move |check| (check.status, check.body) = ((low, high), body.clone()))
        };
        let plain = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\nX-State: ok\r\n\r\nbusy";
        assert_eq!(asked(of(200, 204, None), plain).await, Ok(()));
        assert_eq!(asked(of(200, 203, None), plain).await, Err("status 204".into()));
        assert_eq!(asked(of(200, 299, Some("^busy$")), plain).await, Ok(()));
        // A head is no body.
        assert_eq!(asked(of(200, 299, Some("ok")), plain).await, Err("its body does not match".into()));
        assert_eq!(asked(of(200, 299, Some("\"ok\":1$")), CHUNKS).await, Ok(()));
        assert_eq!(asked(of(200, 299, Some("4;")), CHUNKS).await, Err("its body does not match".into()));
        // No more than the length says.
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\noknot";
        assert_eq!(asked(of(200, 299, Some("^ok$")), cut).await, Ok(()));
    }

    /// A body that is whole is not waited on: many servers keep the connection all the same.
    #[tokio::test]
    async fn a_body_is_read_to_its_end_and_no_further() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        let question = question(|check| check.body = Some("^ok$".into()));
        assert_eq!(question.ask(&mut near).await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_body_in_too_many_pieces_does_not_match() {
        let (mut near, far) = tokio::io::duplex(1);
        let (mut asked, mut answers) = tokio::io::split(far);
        tokio::spawn(async move { tokio::io::copy(&mut asked, &mut tokio::io::sink()).await });
        let drops = tokio::spawn(async move {
            answers.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            answers.write_all(&[b'x'; 1000]).await?;
            answers.write_all(b"ok").await
        });
        let answer = question(|check| check.body = Some("ok".into())).ask(&mut near).await.unwrap();
        assert_eq!(answer, Err("its body does not match".into()));
        drop(near);
        assert!(drops.await.unwrap().is_err());
    }

    #[test]
    fn a_check_has_headers_of_its_own() {
        let mut check = HttpCheck::of("/");
        check.headers = [("host".to_owned(), "shop".to_owned()), ("X-Key".into(), "1".into())].into();
        let text = String::from_utf8(request("api.plt.local", &check)).unwrap();
        let expected = "GET / HTTP/1.1\r\nUser-Agent: watt\r\nAccept: */*\r\nX-Key: 1\r\nhost: shop\r\nConnection: close\r\n\r\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn an_endless_body_is_looked_at_up_to_its_bound() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let flood = tokio::spawn(async move {
            let mut sent = 0;
            far.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while far.write_all(&[b'x'; 1024]).await.is_ok() {
                sent += 1024;
            }
            sent
        });
        let answer = question(|check| check.body = Some("y".into())).ask(&mut near).await.unwrap();
        assert_eq!(answer, Err("its body does not match".into()));
        drop(near);
        assert!(flood.await.unwrap() < 2 * BODY_SIZE_MAX);
    }

    #[tokio::test]
    async fn a_program_can_write_its_whole_answer() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let program = tokio::spawn(async move {
            far.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            far.write_all(&[b'x'; 4096]).await
        });
        let answer = question(|_| ()).ask(&mut near).await;
        rest(near).await;
        program.await.unwrap().unwrap();
        assert_eq!(answer.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn an_endless_answer_is_read_up_to_its_bound() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let flood = tokio::spawn(async move {
            let mut sent = 0;
            while far.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {
                sent += 25;
            }
            sent
        });
        let error = question(|_| ()).ask(&mut near).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(near);
        assert!(flood.await.unwrap() < 2 * HEAD_SIZE_MAX);
    }
}

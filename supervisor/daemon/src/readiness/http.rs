//! The least of HTTP/1.1 that a probe needs: a request, and the status of its answer. What a service answers is not
//! looked at any further, and not trusted this far: see the bounds.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much of an answer is read, interim responses included.
const ANSWER_SIZE_MAX: usize = 8 << 10;

/// How much of what follows the status is read, and for how long.
const REST_SIZE_MAX: u64 = 1 << 20;
const REST_TIME_MAX: Duration = Duration::from_secs(1);

/// The bytes of a status line up to and including the status: `HTTP/1.1 200`.
const STATUS_LEN: usize = 12;

/// A GET. Bytes that would end the request line are percent-encoded.
pub(super) fn request(host: &str, path: &str) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut target = String::new();
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' => target.push(char::from(byte)),
            // Writing into a String cannot fail.
            _ => drop(write!(target, "%{byte:02X}")),
        }
    }
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: watt\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// Asks and reads the status of the final response.
///
/// # Errors
/// Those of the connection; InvalidData for anything that is not HTTP/1, UnexpectedEof for an answer that ends early.
pub(super) async fn status<C>(connection: &mut C, request: &[u8]) -> io::Result<u16>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    connection.write_all(request).await?;
    let mut answer = Vec::new();
    loop {
        if let Some(status) = final_status(&answer)? {
            return Ok(status);
        }
        if answer.len() >= ANSWER_SIZE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many interim responses"));
        }
        let mut part = connection.take((ANSWER_SIZE_MAX - answer.len()) as u64);
        if part.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads what follows the status, for nothing: a connection that is closed with bytes in it is reset, and many programs
/// write a page of errors when that happens to them.
pub(super) async fn rest<C: AsyncRead + Unpin>(connection: C) {
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
        let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
        answer = &answer[end + 4..];
    }
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
        let request = request("api.plt.local", "/a b\r\nX: y?q=é");
        let text = String::from_utf8(request).unwrap();
        assert!(
            text.starts_with("GET /a%20b%0D%0AX:%20y?q=%C3%A9 HTTP/1.1\r\nHost: api.plt.local\r\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_program_can_write_its_whole_answer() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let program = tokio::spawn(async move {
            far.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            far.write_all(&[b'x'; 4096]).await
        });
        let status = status(&mut near, b"GET").await;
        rest(near).await;
        program.await.unwrap().unwrap();
        assert_eq!(status.unwrap(), 200);
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
        assert_eq!(status(&mut near, b"GET").await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(near);
        assert!(flood.await.unwrap() < 2 * ANSWER_SIZE_MAX);
    }
}

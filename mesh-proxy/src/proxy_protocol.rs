//! The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): a proxy before the gateway says who its client is, ahead of everything
//! that the client says itself.
//!
//! Only the proxies that are named are asked, and those have to say it: who may choose could choose who it is. No byte behind the header is
//! read here.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    str::FromStr,
    task::{Poll, ready},
};

use crate::{room::Pool, thread::Thread, timer::Ticks};
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
};

/// How long a proxy has for its header.
const TIMEOUT: Ticks = Ticks::from_ms(10_000);

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, with its end.
const LINE_MAX: usize = 107;

/// The longest rest of a header of version 2. It may have more in it than addresses, which is not looked at.
const REST_MAX: usize = 4096;

/// Who is at the other end of a proxy, and where it came in there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// Why there is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("it did not come in time")]
    Timeout,
    #[error("the connection ended before it")]
    Gone,
    #[error("what came is none")]
    Malformed,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Failure::Gone
    }
}

/// Reads the header. `None` when the proxy speaks for itself, to see whether anybody is there, or does not know.
pub(crate) async fn read(thread: &Thread, socket: &mut TcpStream) -> Result<Option<Ends>, Failure> {
    let alarm = thread.clock.alarm();
    alarm.wait_to_begin(Pool::Gateway, TIMEOUT);
    // In memory of its own, which the connection does not have to hold afterwards.
    let mut reading = Box::pin(header(socket));
    poll_fn(|cx| match reading.as_mut().poll(cx) {
        Poll::Ready(read) => Poll::Ready(read),
        Poll::Pending if thread.is_hurrying() => Poll::Ready(Err(Failure::Timeout)),
        Poll::Pending => alarm.poll(cx).map(|()| Err(Failure::Timeout)),
    })
    .await
}

async fn header(socket: &mut TcpStream) -> Result<Option<Ends>, Failure> {
    // A header of either version has more.
    let mut begin = [0; SIGNATURE.len()];
    fill(socket, &mut begin).await?;
    if begin != SIGNATURE {
        return line(socket, begin).await;
    }
    let mut more = [0; 4];
    fill(socket, &mut more).await?;
    let [version_and_command, family, length @ ..] = more;
    let length = usize::from(u16::from_be_bytes(length));
    if version_and_command >> 4 != 2 || length > REST_MAX {
        return Err(Failure::Malformed);
    }
    let mut rest = vec![0; length];
    fill(socket, &mut rest).await?;
    match version_and_command & 0xf {
        // Of the proxy itself.
        0 => Ok(None),
        1 => addresses(family, &rest),
        _ => Err(Failure::Malformed),
    }
}

/// The addresses of version 2. Those of other families are known to the proxy alone.
fn addresses(family: u8, rest: &[u8]) -> Result<Option<Ends>, Failure> {
    const TCP_OVER_V4: u8 = 0x11;
    const TCP_OVER_V6: u8 = 0x21;
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(rest.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(rest.get(at..at + 16)?).ok()?));
    let ends = |peer: Option<IpAddr>, local: Option<IpAddr>, ports: usize| {
        let peer = SocketAddr::new(peer?, port(ports)?);
        Some(Ends { peer, local: SocketAddr::new(local?, port(ports + 2)?) })
    };
    match family {
        TCP_OVER_V4 => ends(v4(0), v4(4), 8).ok_or(Failure::Malformed).map(Some),
        TCP_OVER_V6 => ends(v6(0), v6(16), 32).ok_or(Failure::Malformed).map(Some),
        _ => Ok(None),
    }
}

/// The rest of a line of version 1, which is looked for before it is read: what is behind it is the client's.
async fn line(socket: &mut TcpStream, begin: [u8; SIGNATURE.len()]) -> Result<Option<Ends>, Failure> {
    let mut line = [0; LINE_MAX];
    line[..begin.len()].copy_from_slice(&begin);
    let mut len = begin.len();
    if !begin.starts_with(b"PROXY ") {
        return Err(Failure::Malformed);
    }
    while !line[..len].ends_with(b"\n") {
        if len == LINE_MAX {
            return Err(Failure::Malformed);
        }
        let seen = socket.peek(&mut line[len..]).await?;
        let end = line[len..len + seen].iter().position(|byte| *byte == b'\n');
        let take = end.map_or(seen, |end| end + 1);
        if take == 0 {
            return Err(Failure::Gone);
        }
        fill(socket, &mut line[len..len + take]).await?;
        len += take;
    }
    let text = line[..len].strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    parse_line(text.ok_or(Failure::Malformed)?)
}

/// `PROXY TCP4 192.0.2.7 192.0.2.1 56324 443`.
fn parse_line(line: &str) -> Result<Option<Ends>, Failure> {
    let mut words = line.split(' ').skip(1);
    let is_v4 = match words.next() {
        Some("TCP4") => true,
        Some("TCP6") => false,
        Some("UNKNOWN") => return Ok(None),
        _ => return Err(Failure::Malformed),
    };
    let mut address = || {
        let word = words.next()?;
        if is_v4 {
            word.parse().ok().map(|address: Ipv4Addr| address.into())
        } else {
            word.parse().ok().map(|address: Ipv6Addr| address.into())
        }
    };
    let (peer, local): (Option<IpAddr>, Option<IpAddr>) = (address(), address());
    let (peer_port, local_port) = (number(words.next()), number(words.next()));
    match (peer, local, peer_port, local_port, words.next()) {
        (Some(peer), Some(local), Some(peer_port), Some(local_port), None) => Ok(Some(Ends {
            peer: SocketAddr::new(peer, peer_port),
            local: SocketAddr::new(local, local_port),
        })),
        _ => Err(Failure::Malformed),
    }
}

/// Digits alone: a sign is none.
fn number(word: Option<&str>) -> Option<u16> {
    word.filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|word| u16::from_str(word).ok())
}

/// Reads exactly as much.
async fn fill(socket: &mut TcpStream, bytes: &mut [u8]) -> Result<(), Failure> {
    let mut buf = ReadBuf::new(bytes);
    poll_fn(|cx| {
        while buf.remaining() > 0 {
            let before = buf.filled().len();
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Err(Failure::Gone));
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::LocalSet,
    };

    use super::*;

    fn ends(peer: &str, local: &str) -> Result<Option<Ends>, Failure> {
        Ok(Some(Ends { peer: peer.parse().unwrap(), local: local.parse().unwrap() }))
    }

    /// What a header is read as, sent as a whole and byte by byte, and that what is behind it is still there.
    async fn check(header: &[u8], expected: Result<Option<Ends>, Failure>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let test = async {
            let thread = Thread::new(NonZeroUsize::MIN, |_| {});
            for is_slow in [false, true] {
                let mut client = TcpStream::connect(at).await.unwrap();
                client.set_nodelay(true).unwrap();
                let (mut server, _) = listener.accept().await.unwrap();
                let whole = [header, b"GET /"].concat();
                let sending = async {
                    if is_slow {
                        for byte in &whole {
                            // Which may have been refused before its end.
                            let _ = client.write_all(&[*byte]).await;
                            tokio::task::yield_now().await;
                        }
                    } else {
                        client.write_all(&whole).await.unwrap();
                    }
                    let _ = client.shutdown().await;
                };
                let (found, ()) = tokio::join!(read(&thread, &mut server), sending);
                assert_eq!(found, expected, "{}", String::from_utf8_lossy(header));
                if found.is_ok() {
                    let mut rest = Vec::new();
                    server.read_to_end(&mut rest).await.unwrap();
                    assert_eq!(rest, b"GET /");
                }
            }
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn lines_of_version_1() {
        let v4 = ends("192.0.2.7:56324", "192.0.2.1:443");
        check(b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n", v4).await;
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", ends("[2001:db8::7]:1", "[2001:db8::1]:2"))
            .await;
        check(b"PROXY UNKNOWN\r\n", Ok(None)).await;
        check(b"PROXY UNKNOWN whatever it says\r\n", Ok(None)).await;
        let wrong: [&[u8]; 9] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 56324\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443 1\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 +1 443\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n",
            b"PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n",
            &[&b"PROXY UNKNOWN "[..], &[b'x'; LINE_MAX]].concat(),
        ];
        for line in wrong {
            check(line, Err(Failure::Malformed)).await;
        }
        check(b"PROXY", Err(Failure::Gone)).await;
    }

    fn second(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_and_command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn headers_of_version_2() {
        let v4 = [192, 0, 2, 7, 192, 0, 2, 1, 0, 80, 1, 187];
        check(&second(0x21, 0x11, &v4), ends("192.0.2.7:80", "192.0.2.1:443")).await;
        let with_more = [&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        check(&second(0x21, 0x11, &with_more), ends("192.0.2.7:80", "192.0.2.1:443")).await;
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (7, 1, 80, 81);
        check(&second(0x21, 0x21, &v6), ends("[::7]:80", "[::1]:81")).await;
        check(&second(0x20, 0, &[]), Ok(None)).await;
        check(&second(0x21, 0x31, &[0; 216]), Ok(None)).await;
        for wrong in [
            second(0x11, 0x11, &v4),
            second(0x22, 0x11, &v4),
            second(0x21, 0x11, &v4[..11]),
            second(0x21, 0x11, &[0; REST_MAX + 1]),
        ] {
            check(&wrong, Err(Failure::Malformed)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_come_is_not_waited_for_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let test = async {
            let thread = Thread::new(NonZeroUsize::MIN, |_| {});
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(b"PROXY TCP4 1").await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            assert_eq!(read(&thread, &mut server).await, Err(Failure::Timeout));
        };
        LocalSet::new().run_until(test).await;
    }
}

//! HTTP/1.1 and WebSockets as a strict client has them: nothing is forgiven, and nothing is tried twice.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use crate::PATIENCE;

/// A connection to the gateway, and what was read from it and belongs to no answer yet.
pub(super) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// Whether the last answer said that none follows on this connection: to ask once more there would be the client's fault (RFC 9112 §9.6).
    is_over: bool,
}

impl Connection {
    pub(super) fn open(address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, input: Vec::new(), is_over: false })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(super) fn send_head(&mut self, method: &str, path: &str, length: usize) -> io::Result<()> {
        let length = if length > 0 { format!("Content-Length: {length}\r\n") } else { String::new() };
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: traffic\r\n{length}\r\n").as_bytes())
    }

    /// Status and body of the next answer. Its end has to be where its framing says.
    pub(super) fn answer(&mut self) -> io::Result<(u16, String)> {
        let (status, head) = self.head()?;
        self.is_over = head.lines().any(|line| line == "connection: close");
        let field = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
        };
        let body = match (field("content-length:"), field("transfer-encoding:")) {
            (Some(length), None) => {
                let length =
                    length.parse().map_err(|_| io::Error::other(format!("a length of {length:?}")))?;
                self.take(length)?
            }
            (None, Some(coding)) if coding == "chunked" => self.chunks()?,
            other => return Err(io::Error::other(format!("an answer {status} with {other:?}"))),
        };
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Whether it may be asked once more here.
    pub(super) fn may_be_kept(&self) -> bool {
        !self.is_over
    }

    /// Status and head, in lower case.
    fn head(&mut self) -> io::Result<(u16, String)> {
        let head = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or_else(|| io::Error::other(format!("not a head: {head}")))?, head))
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let size = String::from_utf8_lossy(&line).trim().to_owned();
            let size = usize::from_str_radix(&size, 16)
                .map_err(|_| io::Error::other(format!("a chunk of {size:?}")))?;
            let chunk = self.take(size)?;
            self.take(2)?;
            if size == 0 {
                return Ok(body);
            }
            body.extend(chunk);
        }
    }

    /// Everything up to and with `end`.
    fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.input.windows(end.len()).position(|window| window == end) {
                return Ok(self.input.drain(..at + end.len()).collect());
            }
            self.fill()?;
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.input.len() < count {
            self.fill()?;
        }
        Ok(self.input.drain(..count).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut part = [0; 16 << 10];
        loop {
            match self.stream.read(&mut part) {
                // Who is stopped and goes on reads again (signal(7), of sockets with a timeout).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(0) => return Err(io::Error::other("the connection was closed in the middle")),
                Ok(count) => {
                    self.input.extend_from_slice(&part[..count]);
                    return Ok(());
                }
            }
        }
    }

    /// Whether the other side ends the connection, and sends nothing more before it does.
    fn expect_end(mut self) -> io::Result<()> {
        match self.fill() {
            Ok(()) => Err(io::Error::other("bytes after a Close")),
            Err(error) if error.kind() == io::ErrorKind::Other => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// How a WebSocket ended that its client closed.
pub(super) enum Close {
    /// Its Close was answered, and the connection ended.
    Answered,
    /// The other side had closed it at the same time, with this code.
    Asked(u16),
}

/// A WebSocket (RFC 6455) with short messages.
pub(super) struct WebSocket(Connection);

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

impl WebSocket {
    pub(super) fn open(mut connection: Connection, path: &str) -> io::Result<WebSocket> {
        // The key of RFC 6455 §1.3, and what it has to be answered with.
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: traffic\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        connection.send(head.as_bytes())?;
        let (status, head) = connection.head()?;
        if status != 101 || !head.contains("s3pplmbitxaq9kygzzhzrbk+xoo=") {
            return Err(io::Error::other(format!("no WebSocket: {head}")));
        }
        Ok(WebSocket(connection))
    }

    /// Sends a message and waits for it to come back. The code, when the other side closes instead.
    pub(super) fn echo(&mut self, message: &str) -> io::Result<Option<u16>> {
        self.send(TEXT, message.as_bytes())?;
        match self.receive()? {
            (TEXT, payload) if payload == message.as_bytes() => Ok(None),
            (CLOSE, payload) => Ok(Some(code(&payload)?)),
            other => Err(io::Error::other(format!("{message:?} was answered with {other:?}"))),
        }
    }

    /// Closes it and waits for the answer, and for the end.
    pub(super) fn close(&mut self) -> io::Result<Close> {
        self.send(CLOSE, &1000u16.to_be_bytes())?;
        match self.receive()? {
            (CLOSE, payload) if code(&payload)? == 1000 => Ok(Close::Answered),
            (CLOSE, payload) => Ok(Close::Asked(code(&payload)?)),
            other => Err(io::Error::other(format!("a Close was answered with {other:?}"))),
        }
    }

    /// Answers the other side's Close and waits for the end.
    pub(super) fn answer_close(mut self, code: u16) -> io::Result<()> {
        self.send(CLOSE, &code.to_be_bytes())?;
        self.0.expect_end()
    }

    /// One frame, masked as a client's have to be.
    fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        const MASK: [u8; 4] = [7, 77, 177, 17];
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).expect("short");
        let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let frame: Vec<u8> = [0x80 | opcode, 0x80 | length].into_iter().chain(MASK).chain(masked).collect();
        self.0.send(&frame)
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.0.take(2)?;
        let (first, length) = (head[0], head[1]);
        if first & 0xf0 != 0x80 || length > 125 {
            return Err(io::Error::other(format!("a frame that begins with {first:#x} {length:#x}")));
        }
        Ok((first & 0x0f, self.0.take(length.into())?))
    }
}

fn code(payload: &[u8]) -> io::Result<u16> {
    match payload {
        [high, low, ..] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(io::Error::other("a Close without a code")),
    }
}

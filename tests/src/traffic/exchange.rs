//! What a client of each kind does, and what it takes for an answer.

use std::{io, time::Duration};

use super::{
    Kind, Outcome, SERVICES,
    wire::{Close, Connection, WebSocket},
};

/// What the services send as a stream.
const EVENTS: usize = 60;
/// An upload is this many pieces of so many bytes.
const PIECES: usize = 60;
const PIECE_SIZE: usize = 200;
/// Between two pieces of an upload, and two messages of a WebSocket.
const EVERY: Duration = Duration::from_millis(20);
/// How often a WebSocket is answered before its client ends it.
const MESSAGES: usize = 60;
/// Small enough to be sent again with its head.
const SMALL: [u8; 512] = [b'x'; 512];

/// One client of the gateway. It keeps its connection from one exchange to the next where its kind says so.
pub(super) struct Client {
    gateway: String,
    service: &'static str,
    kind: Kind,
    kept: Option<Connection>,
}

impl Client {
    pub(super) fn new(gateway: &str, service: &'static str, kind: Kind) -> Client {
        Client { gateway: gateway.to_owned(), service, kind, kept: None }
    }

    /// Asks once, and checks the answer.
    pub(super) fn exchange(&mut self, number: u64, is_over: &dyn Fn() -> bool) -> io::Result<Outcome> {
        let service = self.service;
        match self.kind {
            Kind::Get => self.ask("GET", &format!("/get/{number}"), &[]),
            Kind::GetNew => {
                self.kept = None;
                self.ask("GET", &format!("/get/{number}"), &[])
            }
            Kind::Put => self.ask("PUT", &format!("/put/{number}"), &SMALL),
            Kind::Post => self.ask("POST", &format!("/post/{number}"), &SMALL),
            Kind::MeshGet => self.ask_other("GET", &format!("/get/{number}"), &[]),
            Kind::MeshPost => self.ask_other("POST", &format!("/post/{number}"), &SMALL),
            Kind::Upload => self.upload(&format!("/upload/{number}")),
            Kind::Events => self.events(&format!("/{service}/events/{number}")),
            Kind::WebSocket => self.websocket(&format!("/{service}/ws/{number}"), MESSAGES, is_over),
            Kind::Kept => self.websocket(&format!("/{service}/ws/{number}"), usize::MAX, is_over),
        }
    }

    /// A request whose answer says again what was asked.
    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Outcome> {
        self.ask_for(method, path, &format!("{path} {}", body.len()), body)
    }

    /// The same, and the service passes it on to the other one.
    fn ask_other(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Outcome> {
        let other = SERVICES.into_iter().find(|other| *other != self.service).expect("there are two");
        self.ask_for(method, &format!("/mesh/{other}{path}"), &format!("{path} {}", body.len()), body)
    }

    fn ask_for(&mut self, method: &str, path: &str, expected: &str, body: &[u8]) -> io::Result<Outcome> {
        let mut connection = self.connection()?;
        connection.send_head(method, &format!("/{}{path}", self.service), body.len())?;
        connection.send(body)?;
        let answered = answered(&mut connection, expected)?;
        self.kept = Some(connection).filter(Connection::may_be_kept);
        Ok(answered)
    }

    fn upload(&mut self, path: &str) -> io::Result<Outcome> {
        let mut connection = self.connection()?;
        let length = PIECES * PIECE_SIZE;
        connection.send_head("POST", &format!("/{}{path}", self.service), length)?;
        for _ in 0..PIECES {
            connection.send(&[b'u'; PIECE_SIZE])?;
            std::thread::park_timeout(EVERY);
        }
        answered(&mut connection, &format!("{path} {length}"))
    }

    fn events(&mut self, path: &str) -> io::Result<Outcome> {
        let mut connection = self.connection()?;
        connection.send_head("GET", path, 0)?;
        let (status, body) = connection.answer()?;
        let expected: String = (1..=EVENTS).map(|nth| format!("data: {nth}\n\n")).collect();
        if status == 200 && body == expected {
            return Ok(Outcome::Answered);
        }
        Err(io::Error::other(format!("{status}, {} of {} bytes", body.len(), expected.len())))
    }

    /// A WebSocket that ends by itself after a while.
    fn websocket(&mut self, path: &str, messages: usize, is_over: &dyn Fn() -> bool) -> io::Result<Outcome> {
        let mut socket = WebSocket::open(self.connection()?, path)?;
        for nth in 0..messages {
            if is_over() {
                break;
            }
            match socket.echo(&format!("message {nth}"))? {
                None => std::thread::park_timeout(EVERY),
                Some(close) => return told_to_return(socket, close),
            }
        }
        match socket.close()? {
            Close::Answered => Ok(Outcome::Answered),
            Close::Asked(code) => told_to_return(socket, code),
        }
    }

    fn connection(&mut self) -> io::Result<Connection> {
        match self.kept.take() {
            Some(kept) => Ok(kept),
            None => Connection::open(&self.gateway),
        }
    }
}

fn answered(connection: &mut Connection, expected: &str) -> io::Result<Outcome> {
    match connection.answer()? {
        (200, body) if body == expected => Ok(Outcome::Answered),
        (status, body) => Err(io::Error::other(format!("{status} {body}"))),
    }
}

/// The other side closes. The one orderly way is 1012 (RFC 6455 §7.4.1 with IANA's registry: service restart), answered, and then
/// the end of the connection.
fn told_to_return(socket: WebSocket, code: u16) -> io::Result<Outcome> {
    if code != 1012 {
        return Err(io::Error::other(format!("closed with {code}")));
    }
    socket.answer_close(code)?;
    Ok(Outcome::ToldToReturn)
}

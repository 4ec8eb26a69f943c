//! Requests of the proxy's own, to a service or a server outside: who may do something, and with which keys tokens are signed. They go the way of
//! other requests, by the table, the balancer, the pool and the gate; of the answer all is read, up to a bound.

use std::{cell::RefCell, future::poll_fn, io, rc::Rc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    again::Loss,
    body::Peer,
    chunked::{Chunked, Piece},
    head::{Framing, storage},
    pipe::Break,
    response,
};
use crate::{
    breaker::Change,
    dispatch::{Dispatch, Reached},
    failures::Outcome,
    gate::{Entry, Ticket, URGENCY},
    pool,
    respond::{Failure, Reason},
    table::Service,
    thread::Thread,
    troubles,
    worker::Worker,
};

/// The most interim responses.
const INTERIM_MAX: u32 = 16;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Its fields but for those of the connection and the framing, each a whole line.
    pub(crate) lines: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    /// The fields, by name and value.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.lines.split(|byte| *byte == b'\n');
        lines.filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }
}

/// Sends a request, and reads the answer. Says in words why there is none. What is asked so changes nothing, and may be asked twice.
pub(crate) async fn ask(
    thread: &Rc<Thread>,
    to: &Rc<Service>,
    request: &[u8],
    body_max: usize,
    time: Duration,
) -> Result<Answered, String> {
    send(thread, to, Question { request, body_max, time, may_repeat: true }).await
}

/// The same of what is not to be asked twice.
pub(crate) async fn ask_once(
    thread: &Rc<Thread>,
    to: &Rc<Service>,
    request: &[u8],
    body_max: usize,
    time: Duration,
) -> Result<Answered, String> {
    send(thread, to, Question { request, body_max, time, may_repeat: false }).await
}

/// A request of the proxy's own.
#[derive(Clone, Copy)]
struct Question<'q> {
    /// All of it.
    request: &'q [u8],
    /// The longest body of an answer.
    body_max: usize,
    /// How long it may take.
    time: Duration,
    may_repeat: bool,
}

async fn send(thread: &Rc<Thread>, to: &Rc<Service>, question: Question<'_>) -> Result<Answered, String> {
    let until = Instant::now() + question.time;
    let late = |_| "it did not answer in time".to_owned();
    let mut ticket = timeout_at(until, enter(to)).await.map_err(late)??;
    let at = RefCell::new(None);
    let asked = timeout_at(until, exchange(thread, to, question, &at)).await;
    let (answered, outcome) = asked.unwrap_or_else(|elapsed| {
        // Waiting for a worker is no worker's failure.
        (Err(late(elapsed)), at.borrow().as_ref().map(|_| Outcome::Timeout))
    });
    if !matches!(outcome, Some(Outcome::Status(..500))) {
        to.tally.count_failure();
    }
    let Some(outcome) = outcome else { return answered };
    if let Some((worker, era)) = at.take() {
        to.judge(thread, &worker, era, outcome);
    }
    if let Some(ticket) = &mut ticket {
        tell(thread, to, ticket, outcome);
    }
    answered
}

async fn enter(to: &Service) -> Result<Option<Ticket>, String> {
    let Some(gate) = &to.gate else { return Ok(None) };
    let passed = match gate.enter(URGENCY) {
        Ok(Entry::Passes(ticket)) => Ok(ticket),
        Ok(Entry::Waits(waiting)) => waiting.pass().await,
        Err(refused) => Err(refused),
    };
    passed.map(Some).map_err(|refused| {
        let count = &to.tally.refused[refused.number()];
        count.set(count.get() + 1);
        gate.refused(refused);
        refused.words().to_owned()
    })
}

fn tell(thread: &Thread, to: &Service, ticket: &mut Ticket, outcome: Outcome) {
    let Some(change) = ticket.tell(outcome) else { return };
    if matches!(change, Change::Opened { .. }) {
        to.tally.breaker_opened.set(to.tally.breaker_opened.get() + 1);
    }
    thread.tell(troubles::breaker(&to.name, change));
}

/// The worker that has a request, and its era then.
type At = RefCell<Option<(Rc<Worker>, u32)>>;

/// The answer, and what that says of the service.
async fn exchange(
    thread: &Rc<Thread>,
    to: &Rc<Service>,
    question: Question<'_>,
    at: &At,
) -> (Result<Answered, String>, Option<Outcome>) {
    let mut dispatch = Dispatch::new(thread, to.clone());
    let Question { request, body_max, may_repeat, time: _ } = question;
    // A kept connection may have ended, and then it may be sent again only if it may be at all.
    let (mut fresh, mut counted) = (!may_repeat, false);
    loop {
        at.take();
        let Reached { stream, flight, reused } = match dispatch.connection(fresh).await {
            Ok(reached) => reached,
            Err(failure) => {
                return (Err(failure.message), (!dispatch.is_ours).then_some(Outcome::Connect));
            }
        };
        at.replace(Some((Rc::clone(flight.worker()), flight.worker().era())));
        dispatch.sends();
        if !std::mem::replace(&mut counted, true) {
            to.tally.count_request();
        }
        let mut worker = Peer::new(stream);
        let error = match pass(thread, &mut worker, request, body_max).await {
            Ok((answered, keeps)) => {
                let outcome = Outcome::Status(answered.status);
                if keeps && worker.input.is_empty() {
                    worker.input.release(&thread.stock);
                    pool::put(thread, flight.worker(), worker.stream);
                }
                return (Ok(answered), Some(outcome));
            }
            Err(Broken::Lost(error)) => error,
            Err(Broken::Wrong(what)) => return (Err(what), Some(Outcome::Status(502))),
        };
        let loss = Loss {
            delivered: !Break::is_unprocessed(&error),
            refused: Break::is_refused(&error),
            waited: reused && !Break::is_of_one_stream(&error),
        };
        let message = format!("the connection broke: {error}");
        let failure = Failure::new(Reason::ConnectionLost, Some(to.name.clone()), message.clone());
        if loss.delivered && !may_repeat || !dispatch.lost(flight.worker(), &loss, failure) {
            return (Err(message), Some(Outcome::Reset));
        }
        fresh = true;
    }
}

/// Why an answer did not come.
enum Broken {
    Lost(io::Error),
    /// It did, and is none.
    Wrong(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Broken::Lost(error)
    }
}

/// What is left of a body.
enum Left {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

async fn pass(
    thread: &Rc<Thread>,
    worker: &mut Peer,
    request: &[u8],
    body_max: usize,
) -> Result<(Answered, bool), Broken> {
    let mut written = 0;
    poll_fn(|cx| worker.poll_write_all(request, &mut written, cx)).await?;
    let (mut answered, mut left, keeps) = head(thread, worker).await?;
    loop {
        let is_whole = take(&mut left, worker, &mut answered.body)?;
        if answered.body.len() > body_max {
            return Err(Broken::Wrong(format!("its body is larger than {body_max} bytes")));
        }
        if is_whole {
            return Ok((answered, keeps));
        }
        match poll_fn(|cx| worker.poll_read(&thread.stock, cx)).await? {
            0 if matches!(left, Left::UntilClose) => return Ok((answered, false)),
            0 => return Err(Broken::Wrong("its body breaks off".to_owned())),
            _ => {}
        }
    }
}

/// The last head, what is to follow, and whether the connection may be kept then.
async fn head(thread: &Rc<Thread>, worker: &mut Peer) -> Result<(Answered, Left, bool), Broken> {
    let mut interims = 0;
    loop {
        let mut room = storage();
        let parsed = response::parse(worker.input.bytes(), &mut room);
        let parsed = parsed.map_err(|error| Broken::Wrong(error.to_string()))?;
        let Some(response) = parsed else {
            match poll_fn(|cx| worker.poll_read(&thread.stock, cx)).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                _ => continue,
            }
        };
        let len = response.fields.bytes.len();
        if matches!(response.status, 100 | 102..=199) && interims < INTERIM_MAX {
            interims += 1;
            worker.input.consume(len);
            continue;
        }
        if response.status < 200 {
            return Err(Broken::Wrong("it does not come to an answer".to_owned()));
        }
        let mut drop = response.hop_by_hop;
        drop |= response.length_lines;
        drop |= response.coding_lines;
        let mut lines = Vec::new();
        response.fields.copy_lines(response.fields.start_of(0), drop, &mut lines);
        let left = match response.framing {
            _ if response.is_bodiless() => Left::Length(0),
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunked::new()),
            Framing::Unspecified => Left::UntilClose,
        };
        let keeps = response.keeps_alive() && !matches!(left, Left::UntilClose);
        let answered = Answered { status: response.status, lines, body: Vec::new() };
        worker.input.consume(len);
        return Ok((answered, left, keeps));
    }
}

/// Takes what is there of a body. Whether that is all of it.
fn take(left: &mut Left, worker: &mut Peer, body: &mut Vec<u8>) -> Result<bool, Broken> {
    let input = worker.input.bytes();
    let used = match left {
        Left::Length(length) => {
            let len = usize::try_from(*length).unwrap_or(usize::MAX).min(input.len());
            body.extend_from_slice(&input[..len]);
            *length -= len as u64;
            len
        }
        Left::UntilClose => {
            body.extend_from_slice(input);
            input.len()
        }
        Left::Chunked(chunked) => {
            let mut used = 0;
            loop {
                match chunked.next(&input[used..]).map_err(|error| Broken::Wrong(error.to_string()))? {
                    Piece::Framing(len) => used += len,
                    Piece::Data(len) => {
                        body.extend_from_slice(&input[used..used + len]);
                        used += len;
                    }
                    Piece::More => break used,
                }
            }
        }
    };
    worker.input.consume(used);
    Ok(match left {
        Left::Length(length) => *length == 0,
        Left::Chunked(chunked) => chunked.is_done(),
        Left::UntilClose => false,
    })
}

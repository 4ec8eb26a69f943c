//! What a client may do that leads to nothing: streams that it takes back, and bytes that are no part of a request.
//!
//! HTTP/2 lets a client cause work at nearly no cost to itself: a stream and its end in 22 bytes (CVE-2023-44487), pings and settings that
//! want an answer (CVE-2019-9512, -9515), empty frames (-9518). Each is legitimate now and then. So there is an allowance of
//! them, which grows with time and with what is done in earnest; a connection that has used it up is ended.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PREFACE;
use crate::{http::Stream, timer::Ticks};

/// Streams that may be taken back at a time, and each second. A page that is left takes back all that it asked for.
pub(super) const CANCELS_MAX: u64 = 200;
const CANCELS_PER_SECOND: u64 = 20;

/// Bytes of frames that are no part of a request, at a time and each second: pings, settings, windows, priorities, empty ones.
const IDLE_BYTES_MAX: u64 = 128 << 10;
const IDLE_BYTES_PER_SECOND: u64 = 2 << 10;

/// What a request and a piece of a body to the client earn of them.
const REQUEST_EARNS: u64 = 1 << 10;
const PIECE_EARNS: u64 = 64;

/// How much is read of a connection before others have their turn, in bytes. Frames that lead to nothing are 9 bytes each.
const TURN_MAX: usize = 32 << 10;

/// The kinds of frames that are parts of requests (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// A number that is spent and grows back.
#[derive(Debug)]
struct Allowance {
    left: Cell<u64>,
    since: Cell<Ticks>,
    max: u64,
    per_second: u64,
}

impl Allowance {
    fn new(max: u64, per_second: u64, now: Ticks) -> Allowance {
        Allowance { left: Cell::new(max), since: Cell::new(now), max, per_second }
    }

    fn earn(&self, much: u64) {
        self.left.set(self.left.get().saturating_add(much).min(self.max));
    }

    /// Takes so much. False when there was less.
    fn spend(&self, much: u64, now: Ticks) -> bool {
        let ms = now.since(self.since.get()).as_ms();
        if ms > 0 {
            self.since.set(now);
            self.earn(ms.saturating_mul(self.per_second) / 1_000);
        }
        let left = self.left.get().checked_sub(much);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }
}

/// What one client's connection may still do.
#[derive(Debug)]
pub(super) struct Ledger {
    cancels: Allowance,
    bytes: Allowance,
    frames: RefCell<Frames>,
    /// Bytes of such frames that came since somebody looked.
    came: Cell<u64>,
    /// Bytes that were read in this turn.
    turn: Cell<usize>,
    overdrawn: Cell<bool>,
}

impl Ledger {
    pub(super) fn new(now: Ticks) -> Ledger {
        Ledger {
            cancels: Allowance::new(CANCELS_MAX, CANCELS_PER_SECOND, now),
            bytes: Allowance::new(IDLE_BYTES_MAX, IDLE_BYTES_PER_SECOND, now),
            frames: RefCell::default(),
            came: Cell::new(0),
            turn: Cell::new(0),
            overdrawn: Cell::new(false),
        }
    }

    /// The connection has its turn.
    pub(super) fn begin_turn(&self) {
        self.turn.set(0);
    }

    /// The client asked for something.
    pub(super) fn asked(&self) {
        self.bytes.earn(REQUEST_EARNS);
    }

    /// It took back what it had asked for.
    pub(super) fn took_back(&self, now: Ticks) {
        if !self.cancels.spend(1, now) {
            self.overdrawn.set(true);
        }
    }

    /// It got what it had asked for.
    pub(super) fn was_answered(&self) {
        self.cancels.earn(1);
    }

    /// These bytes came from it.
    fn came(&self, bytes: &[u8]) {
        self.came.set(self.came.get() + self.frames.borrow_mut().idle_bytes(bytes));
    }

    /// So much of a body went to it. It answers with windows.
    pub(super) fn sent(&self, len: usize) {
        self.bytes.earn(len as u64 / 4 + PIECE_EARNS);
    }

    /// Whether it did too much that leads to nothing.
    pub(super) fn is_overdrawn(&self, now: Ticks) -> bool {
        if !self.bytes.spend(self.came.take(), now) {
            self.overdrawn.set(true);
        }
        self.overdrawn.get()
    }
}

/// Where frames begin in what comes.
#[derive(Debug, Default)]
struct Frames {
    /// So much of a frame's head.
    head: [u8; 9],
    have: usize,
    /// So much is to come of its payload.
    left: usize,
}

impl Frames {
    /// How many bytes the frames have, with payloads, that begin here and are no part of a request.
    fn idle_bytes(&mut self, mut bytes: &[u8]) -> u64 {
        let mut idle = 0;
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let len = (self.head.len() - self.have).min(bytes.len());
            if len == 0 {
                return idle;
            }
            self.head[self.have..self.have + len].copy_from_slice(&bytes[..len]);
            self.have += len;
            bytes = &bytes[len..];
            if self.have == self.head.len() {
                self.have = 0;
                let [a, b, c, kind, ..] = self.head;
                let payload = u32::from_be_bytes([0, a, b, c]);
                self.left = payload as usize;
                if !(kind == DATA && payload > 0 || kind == HEADERS || kind == CONTINUATION) {
                    idle += self.head.len() as u64 + u64::from(payload);
                }
            }
        }
    }
}

/// A client's socket, of which the first bytes were read already.
pub(super) struct Wire {
    begin: Bytes,
    stream: Stream,
    ledger: Rc<Ledger>,
}

impl Wire {
    /// `begin` starts with the preface.
    pub(super) fn new(begin: Bytes, stream: Stream, ledger: Rc<Ledger>) -> Wire {
        ledger.came(begin.get(PREFACE.len()..).unwrap_or_default());
        Wire { begin, stream, ledger }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Wire { begin, stream, ledger } = self.get_mut();
        if !begin.is_empty() {
            let len = begin.len().min(buf.remaining());
            buf.put_slice(&begin[..len]);
            begin.advance(len);
            return Poll::Ready(Ok(()));
        }
        if ledger.turn.get() >= TURN_MAX {
            // Others are served meanwhile, those among them whose bytes nobody has looked for yet, and what came is looked at.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(stream).poll_read(cx, buf);
        let came = &buf.filled()[before..];
        ledger.turn.set(ledger.turn.get() + came.len());
        ledger.came(came);
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_nothing_is_allowed_now_and_then() {
        let ledger = Ledger::new(Ticks::START);
        let second = |count: u64| Ticks::from_ms(count * 1_000);
        for _ in 0..CANCELS_MAX {
            ledger.took_back(Ticks::START);
        }
        assert!(!ledger.is_overdrawn(Ticks::START));
        for _ in 0..CANCELS_PER_SECOND {
            ledger.took_back(second(1));
        }
        ledger.was_answered();
        ledger.took_back(second(1));
        assert!(!ledger.is_overdrawn(second(1)));
        ledger.took_back(second(1));
        assert!(ledger.is_overdrawn(second(1)));
    }

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let len = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = [&len[1..], &[kind, 0, 0, 0, 0, 1]].concat();
        frame.resize(9 + payload, 7);
        frame
    }

    #[test]
    fn frames_are_told_apart_however_they_come() {
        let all =
            [frame(HEADERS, 100), frame(6, 8), frame(DATA, 16_384), frame(DATA, 0), frame(4, 0)].concat();
        for cut in [1, 5, 9, 100, all.len()] {
            let mut frames = Frames::default();
            let idle: u64 = all.chunks(cut).map(|part| frames.idle_bytes(part)).sum();
            assert_eq!(idle, 17 + 9 + 9, "{cut}");
        }
    }

    #[test]
    fn requests_and_bodies_are_free_and_other_frames_are_not() {
        let ledger = Ledger::new(Ticks::START);
        for _ in 0..10_000 {
            ledger.came(&frame(DATA, 1_000));
        }
        assert!(!ledger.is_overdrawn(Ticks::START), "however much comes before it is looked at");
        let mut pings = 0;
        while !ledger.is_overdrawn(Ticks::START) {
            ledger.came(&frame(6, 8));
            pings += 1;
        }
        assert!((7_000..8_000).contains(&pings), "{pings} pings");
        let ledger = Ledger::new(Ticks::START);
        for _ in 0..100_000 {
            // Two windows for each piece, as some clients have it.
            ledger.sent(1_000);
            ledger.came(&frame(8, 4).repeat(2));
            assert!(!ledger.is_overdrawn(Ticks::START));
        }
    }
}

//! What a client may do that leads to nothing: streams that it takes back, and bytes that are no part of a request.
//!
//! HTTP/2 lets a client cause work at nearly no cost to itself: a stream and its end in 22 bytes (CVE-2023-44487), pings and settings that
//! want an answer (CVE-2019-9512, -9515), empty frames (-9518). Each is legitimate now and then. So there is an allowance of
//! them, which grows with time and with what is done in earnest; a connection that has used it up is ended.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{http::Stream, timer::Ticks};

/// Streams that may be taken back at a time, and each second. A page that is left takes back all that it asked for.
const CANCELS_MAX: u64 = 200;
const CANCELS_PER_SECOND: u64 = 20;

/// Bytes of frames that are no part of a request, at a time and each second: pings, settings, windows, priorities.
const IDLE_BYTES_MAX: u64 = 128 << 10;
const IDLE_BYTES_PER_SECOND: u64 = 2 << 10;

/// What a request, a piece of a body from the client and one to it may cost in frames, besides their bytes.
const REQUEST_COSTS: u64 = 16 << 10;
const PIECE_COSTS: u64 = 320;
const PIECE_BACK_COSTS: u64 = 64;

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
    /// Bytes that came since somebody looked.
    came: Cell<u64>,
    overdrawn: Cell<bool>,
}

impl Ledger {
    pub(super) fn new(now: Ticks) -> Ledger {
        Ledger {
            cancels: Allowance::new(CANCELS_MAX, CANCELS_PER_SECOND, now),
            bytes: Allowance::new(IDLE_BYTES_MAX, IDLE_BYTES_PER_SECOND, now),
            came: Cell::new(0),
            overdrawn: Cell::new(false),
        }
    }

    /// The client asked for something.
    pub(super) fn asked(&self) {
        self.bytes.earn(REQUEST_COSTS);
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

    /// So much of a body came from it. Nothing is no piece.
    pub(super) fn received(&self, len: usize) {
        if len > 0 {
            self.bytes.earn(len as u64 + PIECE_COSTS);
        }
    }

    /// So much of a body went to it. It answers with windows.
    pub(super) fn sent(&self, len: usize) {
        self.bytes.earn(len as u64 / 4 + PIECE_BACK_COSTS);
    }

    /// Whether it did too much that leads to nothing.
    pub(super) fn is_overdrawn(&self, now: Ticks) -> bool {
        if !self.bytes.spend(self.came.take(), now) {
            self.overdrawn.set(true);
        }
        self.overdrawn.get()
    }
}

/// A client's socket, of which the first bytes were read already.
pub(super) struct Wire {
    begin: Bytes,
    stream: Stream,
    ledger: Rc<Ledger>,
}

impl Wire {
    pub(super) fn new(begin: Bytes, stream: Stream, ledger: Rc<Ledger>) -> Wire {
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
        let before = buf.filled().len();
        let read = Pin::new(stream).poll_read(cx, buf);
        ledger.came.set(ledger.came.get() + (buf.filled().len() - before) as u64);
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

    #[test]
    fn bytes_of_requests_and_bodies_cost_nothing() {
        let ledger = Ledger::new(Ticks::START);
        let came = |bytes: u64| ledger.came.set(bytes);
        for _ in 0..1_000 {
            ledger.asked();
            ledger.received(16 << 10);
            came(17 << 10);
            assert!(!ledger.is_overdrawn(Ticks::START));
        }
        let mut frames = 0;
        while !ledger.is_overdrawn(Ticks::START) {
            ledger.received(0);
            came(9);
            frames += 1;
        }
        assert!((10_000..16_000).contains(&frames), "{frames} empty frames");
    }
}

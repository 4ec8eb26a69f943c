//! Moves a message's body from one connection to the other, in bounded memory.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{
    Stream,
    buffer::{Buffer, Stock},
    chunked::{ChunkError, Chunked, Piece},
    compress::{Encoder, PIECE_MAX},
    tap::Tap,
};

/// Up to this much of a body is copied behind its head and goes out with one `write`; more goes with a `writev`, whose
/// set-up costs more than a small copy. Measured: 6 % of a small request one way, 12 % of 64 KB the other.
const COALESCE_MAX: usize = 4 << 10;

/// The longest body that is kept to be sent again, as linkerd has it.
const REPEAT_MAX: usize = 64 << 10;

/// How much of a body is moved before others have their turn, in bytes: in chunks of a byte each that is some 20,000 of them.
const TURN_MAX: usize = 128 << 10;

/// One end of an exchange: a socket, and what was read from it and not used yet.
pub(crate) struct Peer {
    pub(crate) stream: Stream,
    pub(crate) input: Buffer,
}

impl Peer {
    pub(crate) fn new(stream: Stream) -> Peer {
        Peer { stream, input: Buffer::default() }
    }

    /// Reads once, with memory from the stock only when there is something to read. `Ok(0)` is the end.
    pub(crate) fn poll_read(&mut self, stock: &Stock, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_read_ready(cx))?;
        self.input.make_room(stock);
        let read = self.input.poll_fill(&mut self.stream, cx);
        if read.is_pending() {
            self.input.release(stock);
        }
        read
    }

    /// Writes all of `bytes`.
    pub(crate) fn poll_write_all(
        &mut self,
        bytes: &[u8],
        written: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while *written < bytes.len() {
            *written += ready!(poll_write(&mut self.stream, &bytes[*written..], cx))?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

fn poll_write(stream: &mut Stream, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    non_zero(ready!(Pin::new(stream).poll_write(cx, bytes)))
}

fn non_zero(written: io::Result<usize>) -> Poll<io::Result<usize>> {
    Poll::Ready(match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    })
}

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// Nothing.
    Done,
    /// So many bytes.
    Length(u64),
    Chunked(Chunked),
    /// Everything until the sender closes.
    UntilClose,
}

/// How a body goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Byte by byte, with its framing.
    AsIs,
    /// Chunked comes, plain goes: for HTTP/1.0 clients.
    Unwrap,
    /// Plain until close comes, chunked goes, so that the client can tell the end from an accident.
    Wrap,
    /// In whatever framing it comes, compressed and chunked it goes.
    Squeeze,
}

/// Why a body could not be moved to its end.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// The sender failed, or ended too early.
    Source(io::Error),
    /// The sender's framing is malformed.
    Chunk(ChunkError),
    /// The receiver failed.
    Sink,
}

/// One direction of an exchange: a head, which its user put in `out`, and the body behind it.
pub(crate) struct Pump {
    body: Body,
    coding: Coding,
    /// How much of `out` is written.
    written: usize,
    /// All that was written is sent. TLS takes a piece before the socket does.
    flushed: bool,
    /// So many bytes at the start of the input may go on as they are.
    ready: usize,
    /// How much of a body is to be had again, and how much of it is in `out`.
    keep_max: usize,
    kept: usize,
    /// The receiver took a byte.
    begun: bool,
    /// Bytes went from the input to the receiver and are gone.
    moved: bool,
    progressed: bool,
    /// Bytes that were read since somebody asked.
    received: u64,
    /// Bytes that the receiver took.
    sent: u64,
    /// The sender is waited for, and not the receiver.
    starved: bool,
    /// The receiver is waited for.
    choked: bool,
    /// How much data a chunked body may yet have.
    data_left: u64,
    /// Who keeps a copy.
    tap: Option<Box<Tap>>,
    /// Who compresses it, and how much of it since others had their turn.
    encoder: Option<Box<Encoder>>,
    squeezed: usize,
}

impl Pump {
    pub(crate) fn new(body: Body, coding: Coding) -> Pump {
        Pump {
            body,
            coding,
            written: 0,
            flushed: true,
            ready: 0,
            keep_max: 0,
            kept: 0,
            begun: false,
            moved: false,
            progressed: false,
            received: 0,
            sent: 0,
            starved: false,
            choked: false,
            data_left: u64::MAX,
            tap: None,
            encoder: None,
            squeezed: 0,
        }
    }

    /// One whose body is compressed by this.
    pub(super) fn squeezed_by(self, encoder: Option<Encoder>) -> Pump {
        Pump { encoder: encoder.map(Box::new), ..self }
    }

    /// One whose body, if it is chunked, has no more data than this. That of others is known beforehand.
    pub(crate) fn of_at_most(self, max: Option<u64>) -> Pump {
        Pump { data_left: max.unwrap_or(u64::MAX), ..self }
    }

    /// One whose body is kept by this as well.
    pub(super) fn tapped(self, tap: Option<Box<Tap>>) -> Pump {
        Pump { tap, ..self }
    }

    /// Who kept a copy.
    pub(super) fn take_tap(&mut self) -> Option<Box<Tap>> {
        self.tap.take()
    }

    /// One of which a body can be sent again: a short one, which costs nothing, and where it may be `repeated` one of up to
    /// [`REPEAT_MAX`]. Of one that is longer nothing is kept beyond what is short: it would be of no use.
    pub(crate) fn keeping(self, repeated: bool) -> Pump {
        let fits = match self.body {
            Body::Length(length) => length <= REPEAT_MAX as u64,
            Body::Done | Body::Chunked(_) | Body::UntilClose => true,
        };
        Pump { keep_max: if repeated && fits { REPEAT_MAX } else { COALESCE_MAX }, ..self }
    }

    /// Takes in what is there of the body already, and puts it behind the head when it is short.
    pub(crate) fn start(&mut self, input: &mut Buffer, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        if self.body == Body::Done || input.is_empty() {
            return Ok(());
        }
        match self.coding {
            Coding::AsIs => {}
            Coding::Squeeze => {
                let used = self.squeeze(input.bytes(), out)?;
                input.consume(used);
                return Ok(());
            }
            Coding::Unwrap | Coding::Wrap => return Ok(()),
        }
        self.accept(input.bytes())?;
        if self.ready <= COALESCE_MAX.max(self.keep_max) {
            self.kept = self.ready;
            out.extend_from_slice(&input.bytes()[..self.ready]);
            input.consume(std::mem::take(&mut self.ready));
        }
        Ok(())
    }

    /// Whether everything was written, as far as `out` goes, and sent: as long as it is not, this has to be polled.
    pub(crate) fn is_done(&self, out: &[u8]) -> bool {
        self.body == Body::Done && self.ready == 0 && self.written == out.len() && self.flushed
    }

    /// Whether the receiver was handed anything.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Starts over with another receiver, if nothing is gone that would have to be sent again.
    pub(crate) fn rewind(&mut self) -> bool {
        self.written = 0;
        self.begun = false;
        !self.moved
    }

    /// Lets go of a long body that was kept, once it is written and nobody wants it again: a response may last for hours.
    pub(crate) fn forget(&mut self, out: &mut Vec<u8>) {
        if self.kept > COALESCE_MAX && self.is_done(out) {
            out.truncate(out.len() - std::mem::take(&mut self.kept));
            out.shrink_to_fit();
            self.written = out.len();
        }
    }

    /// Whether all that went out is still at hand.
    pub(crate) fn is_whole(&self) -> bool {
        !self.moved
    }

    /// Whether a byte was read or written since the last call.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// How many bytes were read since the last call.
    pub(crate) fn take_received(&mut self) -> u64 {
        std::mem::take(&mut self.received)
    }

    /// How many bytes the receiver took, those of heads and framing included.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the sender is what is waited for.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether the receiver is what is waited for.
    pub(crate) fn is_choked(&self) -> bool {
        self.choked
    }

    /// Moves as much as can be moved now. Ready when the body is at its end and written.
    pub(crate) fn poll(
        &mut self,
        from: &mut Peer,
        to: &mut Stream,
        out: &mut Vec<u8>,
        stock: &Stock,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        self.starved = false;
        self.squeezed = 0;
        let mut turn = 0;
        loop {
            self.choked = true;
            while self.ready > 0 || self.written < out.len() {
                ready!(self.poll_write(&mut from.input, to, out, cx)).map_err(|_| PumpError::Sink)?;
            }
            ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(|_| PumpError::Sink)?;
            self.flushed = true;
            self.choked = false;
            if self.body == Body::Done {
                return Poll::Ready(Ok(()));
            }
            if self.squeezed >= PIECE_MAX || turn >= TURN_MAX {
                // A thread has others to serve, those among them whose bytes it has not looked for yet.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
                return Poll::Pending;
            }
            if self.take_buffered(&mut from.input, out).map_err(PumpError::Chunk)? {
                continue;
            }
            from.input.make_room(stock);
            let filled = from.input.poll_fill(&mut from.stream, cx);
            self.starved = filled.is_pending();
            let len = ready!(filled).map_err(PumpError::Source)?;
            self.progressed = true;
            self.received += len as u64;
            turn += len;
            if len == 0 {
                self.end(out)?;
            } else {
                from.input.enlarge_if_filled(stock);
            }
        }
    }

    /// One write of what is ready: of `out`, of the input, or of both.
    fn poll_write(
        &mut self,
        input: &mut Buffer,
        to: &mut Stream,
        out: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let (head, body) = (&out[self.written..], &input.bytes()[..self.ready]);
        let len = if body.is_empty() {
            ready!(poll_write(to, head, cx))?
        } else if head.is_empty() {
            ready!(poll_write(to, body, cx))?
        } else {
            let both = [io::IoSlice::new(head), io::IoSlice::new(body)];
            ready!(non_zero(ready!(Pin::new(to).poll_write_vectored(cx, &both))))?
        };
        self.begun = true;
        self.flushed = false;
        self.sent += len as u64;
        let of_head = len.min(head.len());
        let of_body = len - of_head;
        self.written += of_head;
        if of_body > 0 {
            input.consume(of_body);
            self.ready -= of_body;
            self.moved = true;
        }
        self.progressed = true;
        Poll::Ready(Ok(()))
    }

    /// Makes bytes of the input ready. False when more have to be read first.
    fn take_buffered(&mut self, input: &mut Buffer, out: &mut Vec<u8>) -> Result<bool, ChunkError> {
        if input.is_empty() {
            return Ok(false);
        }
        match self.coding {
            Coding::AsIs => {
                self.accept(input.bytes())?;
                let some = self.ready > 0 || self.body == Body::Done;
                self.keep(input, out);
                Ok(some)
            }
            Coding::Unwrap => {
                self.clear(out);
                let used = self.unwrap(input.bytes(), out)?;
                input.consume(used);
                Ok(used > 0)
            }
            Coding::Squeeze => {
                self.clear(out);
                let used = self.squeeze(input.bytes(), out)?;
                input.consume(used);
                Ok(used > 0)
            }
            Coding::Wrap => {
                self.clear(out);
                out.extend_from_slice(format!("{:x}\r\n", input.bytes().len()).as_bytes());
                out.extend_from_slice(input.bytes());
                out.extend_from_slice(b"\r\n");
                input.consume(input.bytes().len());
                Ok(true)
            }
        }
    }

    /// Puts the beginning of a body behind the head as long as it is short, wherever it came from: many programs send a head and then
    /// its body, and what is there can be sent again.
    fn keep(&mut self, input: &mut Buffer, out: &mut Vec<u8>) {
        if !self.moved && self.kept + self.ready <= self.keep_max {
            out.extend_from_slice(&input.bytes()[..self.ready]);
            self.kept += self.ready;
            input.consume(std::mem::take(&mut self.ready));
        }
    }

    fn clear(&mut self, out: &mut Vec<u8>) {
        out.clear();
        self.written = 0;
    }

    /// Sees how much of `input` belongs to the body and is fit to go on.
    fn accept(&mut self, input: &[u8]) -> Result<(), ChunkError> {
        match &mut self.body {
            Body::Done => {}
            Body::UntilClose => self.ready = input.len(),
            Body::Length(left) => {
                self.ready = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                if let Some(tap) = &mut self.tap {
                    tap.keep(&input[..self.ready]);
                }
                *left -= self.ready as u64;
                if *left == 0 {
                    self.body = Body::Done;
                }
            }
            Body::Chunked(chunked) => {
                loop {
                    match chunked.next(&input[self.ready..])? {
                        Piece::Framing(len) => self.ready += len,
                        Piece::Data(len) => {
                            let left = self.data_left.checked_sub(len as u64);
                            self.data_left = left.ok_or(ChunkError::TooMuch)?;
                            if let Some(tap) = &mut self.tap {
                                tap.keep(&input[self.ready..self.ready + len]);
                            }
                            self.ready += len;
                        }
                        Piece::More => break,
                    }
                }
                if chunked.is_done() {
                    self.body = Body::Done;
                }
            }
        }
        Ok(())
    }

    /// Appends the data of chunks. Returns how many bytes of `input` were used up.
    fn unwrap(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, ChunkError> {
        let Body::Chunked(chunked) = &mut self.body else { return Ok(0) };
        let mut used = 0;
        loop {
            match chunked.next(&input[used..])? {
                Piece::Framing(len) => used += len,
                Piece::Data(len) => {
                    out.extend_from_slice(&input[used..used + len]);
                    if let Some(tap) = &mut self.tap {
                        tap.keep(&input[used..used + len]);
                    }
                    used += len;
                }
                Piece::More => break,
            }
        }
        if chunked.is_done() {
            self.body = Body::Done;
        }
        Ok(used)
    }

    /// Compresses some of the data that is there, and appends what comes of it. Returns how many bytes of `input` were used up.
    fn squeeze(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, ChunkError> {
        let Some(encoder) = &mut self.encoder else { return Ok(0) };
        let mut take = |data: &[u8]| {
            if let Some(tap) = &mut self.tap {
                tap.keep(data);
            }
            // Writing to memory does not fail.
            let _ = encoder.write(data);
        };
        let mut used = 0;
        match &mut self.body {
            Body::Done => {}
            Body::UntilClose => {
                used = input.len().min(PIECE_MAX);
                take(&input[..used]);
            }
            Body::Length(left) => {
                used = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len()).min(PIECE_MAX);
                take(&input[..used]);
                *left -= used as u64;
                if *left == 0 {
                    self.body = Body::Done;
                }
            }
            Body::Chunked(chunked) => {
                while used < PIECE_MAX {
                    let end = input.len().min(PIECE_MAX);
                    match chunked.next(&input[used..end])? {
                        Piece::Framing(len) => used += len,
                        Piece::Data(len) => {
                            take(&input[used..used + len]);
                            used += len;
                        }
                        Piece::More => break,
                    }
                }
                if chunked.is_done() {
                    self.body = Body::Done;
                }
            }
        }
        self.squeezed += used;
        let _ = match self.body {
            Body::Done => encoder.finish(out),
            _ => encoder.take(used == input.len(), out),
        };
        Ok(used)
    }

    /// The sender closed.
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), PumpError> {
        if self.body != Body::UntilClose {
            return Err(PumpError::Source(io::ErrorKind::UnexpectedEof.into()));
        }
        self.body = Body::Done;
        if self.coding == Coding::Wrap {
            self.clear(out);
            out.extend_from_slice(b"0\r\n\r\n");
        }
        if let Some(mut encoder) = self.encoder.take() {
            self.clear(out);
            // Writing to memory does not fail.
            let _ = encoder.finish(out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_kept_until_it_is_written_and_wanted_no_more() {
        let head = 100;
        for (kept, written, left) in [(5_000, 5_099, 5_100), (5_000, 5_100, head), (4_096, 4_196, 4_196)] {
            let mut out = vec![b'x'; head + kept];
            let mut pump = Pump { kept, written, ..Pump::new(Body::Done, Coding::AsIs) };
            let was_done = pump.is_done(&out);
            pump.forget(&mut out);
            assert_eq!((out.len(), pump.is_done(&out)), (left, was_done));
            assert!(out.capacity() < 2 * left, "{kept}");
        }
    }
}

//! A body on its way from HTTP/2 to the engine: it gets the framing that its head announced, and its sender gets room for more as the
//! engine takes it.

use std::{
    io::Write,
    task::{Context, Poll, ready},
};

use h2::RecvStream;

use super::{
    STREAM_WINDOW, broken,
    heads::{Framing, write_trailers},
};
use crate::http::{Break, Far};

/// One body.
pub(super) struct Receiving {
    from: RecvStream,
    framing: Framing,
    /// So many bytes of it came, for which the sender got no new room.
    unreleased: usize,
    /// So much of it is still to come, where that was said.
    left: Option<u64>,
    ended: bool,
    out: Vec<u8>,
    /// What came while the engine had enough. In `h2` each piece takes some 200 bytes more than it has, and a window is full of pieces of a
    /// byte each if somebody wants that.
    waiting: Vec<u8>,
}

impl Receiving {
    pub(super) fn new(from: RecvStream, framing: Framing) -> Receiving {
        Receiving {
            from,
            framing,
            unreleased: 0,
            left: None,
            ended: false,
            out: Vec::new(),
            waiting: Vec::new(),
        }
    }

    pub(super) fn of_length(self, length: Option<u64>) -> Receiving {
        Receiving { left: length, ..self }
    }

    /// Whether all of it is there, but perhaps for its end.
    pub(super) fn is_complete(&self) -> bool {
        self.left == Some(0) && self.waiting.is_empty()
    }

    /// Hands over what has come. Ready at the end of the body, and when it broke off.
    pub(super) fn poll(&mut self, far: &Far, cx: &mut Context<'_>) -> Poll<Result<(), Break>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let untaken = far.untaken(cx);
            self.release(untaken + self.waiting.len());
            // Framing counts: around pieces of a byte each it is most of what waits.
            let has_enough = untaken > STREAM_WINDOW as usize;
            if !has_enough && !self.waiting.is_empty() {
                let waiting = std::mem::take(&mut self.waiting);
                self.push(&waiting, far);
                continue;
            }
            match ready!(self.from.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.unreleased += data.len();
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    match has_enough {
                        // No more than a window.
                        true => self.waiting.extend_from_slice(&data),
                        false => self.push(&data, far),
                    }
                }
                // The end is told behind what came before it.
                None | Some(Err(_)) if has_enough => return Poll::Pending,
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => {
                    let trailers = ready!(self.from.poll_trailers(cx)).map_err(|error| broken(&error))?;
                    self.ended = true;
                    if self.framing == Framing::Chunked {
                        self.out.clear();
                        write_trailers(trailers.as_ref(), &mut self.out);
                        far.push(&self.out);
                    }
                }
            }
        }
    }

    fn push(&mut self, data: &[u8], far: &Far) {
        match self.framing {
            Framing::Plain => far.push(data),
            // An empty chunk would be the last one.
            Framing::Chunked if data.is_empty() => {}
            Framing::Chunked => {
                self.out.clear();
                // Writing to memory does not fail.
                let _ = write!(self.out, "{:x}\r\n", data.len());
                far.push(&self.out);
                far.push(data);
                far.push(b"\r\n");
            }
        }
    }

    /// Gives the sender room for what the engine has taken. The framing that stands between is counted as if it were body.
    fn release(&mut self, untaken: usize) {
        let taken = self.unreleased.saturating_sub(untaken);
        if taken > 0 {
            self.unreleased -= taken;
            // It fails when more is released than came.
            let _ = self.from.flow_control().release_capacity(taken);
        }
    }
}

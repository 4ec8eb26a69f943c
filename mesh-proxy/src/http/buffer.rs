//! Read buffers, and the thread's stock of them.
//!
//! A connection has a buffer only while bytes are in it. Who waits has none, be it for a request, a response or traffic in
//! a tunnel. So a thread under load uses the same few buffers over and over, and they stay in the cache.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::Stream;

/// What a buffer starts with: heads and most bodies fit.
pub(crate) const SMALL: usize = 16 << 10;

/// What it grows to for a long head or a long body. Also the limit of a head.
pub(crate) const LARGE: usize = 64 << 10;

/// Spare buffers of each size that a thread keeps; those beyond are freed. 4 MB and 2 MB.
const SPARE_SMALL_MAX: usize = 256;
const SPARE_LARGE_MAX: usize = 32;

/// A thread's spare buffers. They are kept because a new one has to be zeroed before it can be read into.
#[derive(Default)]
pub(crate) struct Stock {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
}

impl Stock {
    fn take(&self, size: usize) -> Box<[u8]> {
        self.shelf(size).borrow_mut().pop().unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    fn give(&self, data: Box<[u8]>) {
        if data.is_empty() {
            return;
        }
        let spare_max = if data.len() == SMALL { SPARE_SMALL_MAX } else { SPARE_LARGE_MAX };
        let mut shelf = self.shelf(data.len()).borrow_mut();
        if shelf.len() < spare_max {
            shelf.push(data);
        }
    }

    fn shelf(&self, size: usize) -> &RefCell<Vec<Box<[u8]>>> {
        if size == SMALL { &self.small } else { &self.large }
    }
}

/// Bytes that were read and not yet used. Without any it may be without memory, see [`Buffer::release`].
#[derive(Default)]
pub(crate) struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// The bytes that wait.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `len` bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Whether not one byte more fits, whatever [`Buffer::make_room`] does.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start == LARGE
    }

    /// Whether what came behind the first `before` bytes may complete a head. So a head that comes letter by letter is not
    /// parsed again with each letter, but with each line at most.
    pub(crate) fn may_end_head(&self, before: usize) -> bool {
        before == 0 || self.is_full() || memchr::memchr(b'\n', &self.bytes()[before..]).is_some()
    }

    /// Makes sure that a read has room: takes memory from the stock, moves the bytes to the front, or grows.
    pub(crate) fn make_room(&mut self, stock: &Stock) {
        if self.end < self.data.len() {
            return;
        }
        let len = self.end - self.start;
        if self.data.is_empty() {
            self.data = stock.take(SMALL);
        } else if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
        } else if self.data.len() < LARGE {
            let mut large = stock.take(LARGE);
            large[..len].copy_from_slice(&self.data[..len]);
            stock.give(std::mem::replace(&mut self.data, large));
        }
        (self.start, self.end) = (0, len);
    }

    /// Reads once. `Ok(0)` is the end of the stream. There must be room.
    pub(crate) fn poll_fill(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert!(self.end < self.data.len());
        let mut room = ReadBuf::new(&mut self.data[self.end..]);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let len = room.filled().len();
        self.end += len;
        Poll::Ready(Ok(len))
    }

    /// Gives the memory back when no byte waits in it.
    pub(crate) fn release(&mut self, stock: &Stock) {
        if self.is_empty() {
            stock.give(std::mem::take(&mut self.data));
        }
    }

    /// Takes a large buffer for a long body, once a read filled the small one.
    pub(crate) fn enlarge_if_filled(&mut self, stock: &Stock) {
        if self.end == self.data.len() && self.data.len() == SMALL {
            let len = self.end - self.start;
            let mut large = stock.take(LARGE);
            large[..len].copy_from_slice(&self.data[self.start..self.end]);
            stock.give(std::mem::replace(&mut self.data, large));
            (self.start, self.end) = (0, len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_once_and_keeps_its_bytes() {
        let stock = Stock::default();
        let mut buffer = Buffer::default();
        buffer.make_room(&stock);
        assert_eq!(buffer.data.len(), SMALL);
        buffer.data.fill(7);
        buffer.end = SMALL;
        buffer.consume(10);
        buffer.make_room(&stock);
        assert_eq!(
            (buffer.start, buffer.end, buffer.data.len()),
            (0, SMALL - 10, SMALL),
            "moved to the front"
        );
        buffer.end = SMALL;
        buffer.make_room(&stock);
        assert_eq!((buffer.bytes().len(), buffer.data.len()), (SMALL, LARGE), "grown");
        assert!(buffer.bytes()[..SMALL - 10].iter().all(|byte| *byte == 7));
        assert!(!buffer.may_end_head(SMALL) && buffer.may_end_head(0));
        buffer.data[SMALL - 1] = b'\n';
        assert!(!buffer.may_end_head(SMALL) && buffer.may_end_head(SMALL - 1));
        buffer.end = LARGE;
        assert!(buffer.is_full() && buffer.may_end_head(SMALL));
        buffer.consume(LARGE);
        buffer.release(&stock);
        assert_eq!((stock.small.borrow().len(), stock.large.borrow().len()), (1, 1));
        assert!(buffer.data.is_empty());
    }
}

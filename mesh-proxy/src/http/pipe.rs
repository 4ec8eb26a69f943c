//! A connection within the proxy. The engine reads and writes it like a socket; at the other end stands a stream of HTTP/2.
//!
//! Each direction is a stretch of bytes with an end. What the engine writes is bounded here, and it waits as it would for a
//! socket. What comes for it is bounded by the stream's window: the other end gives room only for what was taken.

use std::{
    cell::RefCell,
    error, fmt, io,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::ReadBuf;

/// How much the engine may write that nobody has taken.
const WRITTEN_MAX: usize = 16 << 10;

/// An empty direction keeps no more memory than this: most streams that are open for long are silent.
const KEPT_MAX: usize = 2 << 10;

/// Why a stream broke off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Break {
    /// As HTTP/2 says it.
    pub(crate) reason: h2::Reason,
    /// Whether the peer certainly did nothing with the request (RFC 9113 §8.7).
    pub(crate) unprocessed: bool,
    /// Whether the connection below ended, and not this stream of it alone.
    pub(crate) closed: bool,
    /// In words.
    pub(crate) what: String,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl error::Error for Break {}

impl Break {
    /// What an error says about a stream, if it is one of a pipe.
    pub(crate) fn of(error: &io::Error) -> Option<&Break> {
        error.get_ref()?.downcast_ref()
    }

    /// Whether an error says that the worker refused a request, and lives.
    pub(crate) fn is_refused(error: &io::Error) -> bool {
        let refused = |broken: &Break| broken.unprocessed && broken.reason == h2::Reason::REFUSED_STREAM;
        Break::of(error).is_some_and(refused)
    }

    /// Whether an error is about one stream of a connection that goes on.
    pub(crate) fn is_of_one_stream(error: &io::Error) -> bool {
        Break::of(error).is_some_and(|broken| !broken.closed)
    }

    /// Whether an error says that the worker never looked at a request, as if it had not been delivered.
    pub(crate) fn is_unprocessed(error: &io::Error) -> bool {
        Break::of(error).is_some_and(|broken| broken.unprocessed)
    }
}

/// How the sender of a direction left it.
#[derive(Debug, Clone)]
enum End {
    Whole,
    Broken(Break),
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    bytes: BytesMut,
    end: Option<End>,
    /// Nobody reads it any longer.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// Something was taken out.
    fn taken(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_MAX {
            self.bytes = BytesMut::new();
        }
        self.wake_writer();
    }

    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake_reader();
    }

    fn abandon(&mut self) {
        self.abandoned = true;
        self.bytes = BytesMut::new();
        self.wake_writer();
    }
}

/// The engine's end.
#[derive(Debug)]
pub struct Pipe {
    inward: Rc<RefCell<Lane>>,
    outward: Rc<RefCell<Lane>>,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Far {
    inward: Rc<RefCell<Lane>>,
    outward: Rc<RefCell<Lane>>,
}

/// Both ends of a new one.
pub(crate) fn pipe() -> (Pipe, Far) {
    let (inward, outward) = (Rc::default(), Rc::default());
    (Pipe { inward: Rc::clone(&inward), outward: Rc::clone(&outward) }, Far { inward, outward })
}

impl Pipe {
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut lane = self.inward.borrow_mut();
        if lane.bytes.is_empty() && lane.end.is_none() {
            lane.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut lane = self.inward.borrow_mut();
        if lane.bytes.is_empty() {
            return match &lane.end {
                Some(End::Whole) => Poll::Ready(Ok(())),
                Some(End::Broken(broken)) => {
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, broken.clone())))
                }
                None => {
                    lane.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let len = buf.remaining().min(lane.bytes.len());
        buf.put_slice(&lane.bytes[..len]);
        lane.bytes.advance(len);
        lane.taken();
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut lane = self.outward.borrow_mut();
        if lane.abandoned || lane.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = WRITTEN_MAX.saturating_sub(lane.bytes.len()).min(bytes.len());
        if len == 0 {
            lane.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        lane.bytes.extend_from_slice(&bytes[..len]);
        lane.wake_reader();
        Poll::Ready(Ok(len))
    }

    /// Ends this direction in good order.
    pub(super) fn shut(&self) {
        self.outward.borrow_mut().end(End::Whole);
    }

    /// Ends this direction as the stream ended that its bytes come from.
    pub(super) fn break_off(&self, why: Break) {
        self.outward.borrow_mut().end(End::Broken(why));
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.shut();
        self.inward.borrow_mut().abandon();
    }
}

impl Far {
    /// Hands bytes to the engine. Whoever does sees to it that they are not too many.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut lane = self.inward.borrow_mut();
        if !lane.abandoned && lane.end.is_none() {
            lane.bytes.extend_from_slice(bytes);
            lane.wake_reader();
        }
    }

    /// How many bytes the engine has not taken yet. This task is woken when it takes some.
    pub(crate) fn untaken(&self, cx: &mut Context<'_>) -> usize {
        let mut lane = self.inward.borrow_mut();
        if !lane.bytes.is_empty() {
            lane.writer = Some(cx.waker().clone());
        }
        lane.bytes.len()
    }

    /// Ends the direction to the engine in good order.
    pub(crate) fn shut(&self) {
        self.inward.borrow_mut().end(End::Whole);
    }

    pub(crate) fn break_off(&self, why: Break) {
        self.inward.borrow_mut().end(End::Broken(why));
    }

    /// Waits until the engine has written more than the `seen` bytes that wait. False at the end.
    pub(crate) fn poll_more(&self, seen: usize, cx: &mut Context<'_>) -> Poll<Result<bool, Break>> {
        let mut lane = self.outward.borrow_mut();
        if lane.bytes.len() > seen {
            return Poll::Ready(Ok(true));
        }
        match &lane.end {
            Some(End::Whole) => Poll::Ready(Ok(false)),
            Some(End::Broken(broken)) => Poll::Ready(Err(broken.clone())),
            None => {
                lane.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Ready when the engine wants no more of what is pushed.
    pub(crate) fn poll_abandoned(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut lane = self.inward.borrow_mut();
        if lane.abandoned {
            return Poll::Ready(());
        }
        lane.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Looks at the bytes that the engine wrote.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.outward.borrow().bytes)
    }

    /// Throws the first `len` of them away.
    pub(crate) fn skip(&self, len: usize) {
        let mut lane = self.outward.borrow_mut();
        lane.bytes.advance(len);
        lane.taken();
    }

    /// Takes the first `len` of them.
    pub(crate) fn take(&self, len: usize) -> Bytes {
        let mut lane = self.outward.borrow_mut();
        let bytes = lane.bytes.split_to(len).freeze();
        lane.taken();
        bytes
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.shut();
        self.outward.borrow_mut().abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn read(pipe: &Pipe) -> Poll<io::Result<Vec<u8>>> {
        let mut room = [0; 64];
        let mut buf = ReadBuf::new(&mut room);
        pipe.poll_read(&mut cx(), &mut buf).map_ok(|()| buf.filled().to_vec())
    }

    #[test]
    fn what_is_written_is_bounded_and_comes_out_in_order() {
        let (pipe, far) = pipe();
        let block = [7; WRITTEN_MAX + 1];
        assert!(matches!(pipe.poll_write(&mut cx(), &block), Poll::Ready(Ok(WRITTEN_MAX))));
        assert!(pipe.poll_write(&mut cx(), b"x").is_pending());
        assert_eq!(far.take(10).len(), 10);
        assert!(matches!(pipe.poll_write(&mut cx(), b"end"), Poll::Ready(Ok(3))));
        drop(pipe);
        assert!(far.look(|bytes| bytes.ends_with(b"end")));
        assert_eq!(far.poll_more(WRITTEN_MAX - 7, &mut cx()), Poll::Ready(Ok(false)));
    }

    #[test]
    fn an_end_comes_after_the_bytes_and_says_how_it_came() {
        let broken = Break {
            reason: h2::Reason::REFUSED_STREAM,
            unprocessed: true,
            closed: false,
            what: "it refused".to_owned(),
        };
        let (pipe, far) = pipe();
        assert!(read(&pipe).is_pending());
        far.push(b"ab");
        far.break_off(broken.clone());
        far.shut();
        assert!(matches!(read(&pipe), Poll::Ready(Ok(bytes)) if bytes == b"ab"));
        let Poll::Ready(Err(error)) = read(&pipe) else { panic!("it ended well") };
        assert_eq!(Break::of(&error), Some(&broken));
        pipe.break_off(broken.clone());
        assert_eq!(far.poll_more(0, &mut cx()), Poll::Ready(Err(broken)));
    }

    #[test]
    fn who_has_gone_gets_nothing_more() {
        let (pipe, far) = pipe();
        drop(far);
        assert!(matches!(pipe.poll_write(&mut cx(), b"x"), Poll::Ready(Err(_))));
        assert!(matches!(read(&pipe), Poll::Ready(Ok(bytes)) if bytes.is_empty()));
    }
}

//! After 101: bytes both ways, whatever they mean.
//!
//! A direction has a buffer only while bytes are on their way, so a WebSocket without traffic costs none. When one
//! side ends its direction the other one goes on (half-close). There is no time limit: WebSockets may be silent for
//! hours. Clients that vanished are found out by the kernel's keep-alive.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::AsyncWrite;

use super::{Stream, body::Peer, buffer::Stock};

/// A connection without a byte for this long is asked whether it still exists.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Runs until both directions ended or one of the peers failed.
pub(crate) async fn run(client: &mut Peer, worker: &mut Peer, stock: &Stock) {
    for stream in [&client.stream, &worker.stream] {
        if !stream.is_unix() {
            let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
            // Without it a client that vanished is noticed at the next byte that is sent to it.
            let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
        }
    }
    let (mut up, mut down) = (Direction::Open, Direction::Open);
    let ended = poll_fn(|cx| {
        let sent = up.poll(client, &mut worker.stream, stock, cx)?;
        let received = down.poll(worker, &mut client.stream, stock, cx)?;
        if sent.is_ready() && received.is_ready() { Poll::Ready(io::Result::Ok(())) } else { Poll::Pending }
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a tunnel broke");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    /// The sender ended; what is buffered goes out, and then the end of it.
    Ending,
    Ended,
}

impl Direction {
    fn poll(
        &mut self,
        from: &mut Peer,
        to: &mut Stream,
        stock: &Stock,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !from.input.is_empty() {
                let len = ready!(Pin::new(&mut *to).poll_write(cx, from.input.bytes()))?;
                if len == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                from.input.consume(len);
            }
            match self {
                Direction::Ended => return Poll::Ready(Ok(())),
                Direction::Ending => {
                    from.input.release(stock);
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    *self = Direction::Ended;
                }
                Direction::Open => {
                    from.input.release(stock);
                    match ready!(from.poll_read(stock, cx))? {
                        0 => *self = Direction::Ending,
                        _ => from.input.enlarge_if_filled(stock),
                    }
                }
            }
        }
    }
}

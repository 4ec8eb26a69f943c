//! After 101: bytes both ways, whatever they mean.
//!
//! A direction has a buffer only while bytes are on their way, so a WebSocket without traffic costs none. When one
//! side ends its direction the other one goes on (half-close). There is no time limit while both are open: WebSockets may
//! be silent for hours. Clients that vanished are found out by the kernel's keep-alive.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::AsyncWrite;

use super::{Stream, body::Peer, buffer::Stock};
use crate::timer::{Alarm, Ticks};

/// A connection without a byte for this long is asked whether it still exists.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long one direction may be silent after the other has ended, as in other tunnels: over a Unix socket a peer that
/// forgot the connection is never found out.
pub(super) const HALF_CLOSED_IDLE_TIMEOUT: Ticks = Ticks::from_ms(600_000);

/// Runs until both directions ended or one of the peers failed.
pub(crate) async fn run(client: &mut Peer, worker: &mut Peer, stock: &Stock, alarm: &Alarm) {
    keep_alive(client, worker);
    let (mut up, mut down) = (Direction::Open, Direction::Open);
    let mut half_closed = false;
    let ended = poll_fn(|cx| {
        let mut moved = false;
        let sent = up.poll(client, &mut worker.stream, stock, &mut moved, cx)?.is_ready();
        let received = down.poll(worker, &mut client.stream, stock, &mut moved, cx)?.is_ready();
        if sent && received {
            return Poll::Ready(io::Result::Ok(()));
        }
        if !sent && !received {
            return Poll::Pending;
        }
        if moved || !std::mem::replace(&mut half_closed, true) {
            alarm.set(HALF_CLOSED_IDLE_TIMEOUT);
        }
        alarm.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a tunnel broke");
        client.stream.breaks_off();
    }
}

/// Has the kernel ask now and then whether the ends still exist.
pub(super) fn keep_alive(client: &Peer, worker: &Peer) {
    [client, worker].into_iter().for_each(|peer| ask_now_and_then(&peer.stream));
}

/// Has the kernel ask now and then whether the other end still exists.
pub(crate) fn ask_now_and_then(stream: &Stream) {
    if let Stream::Tcp(_) | Stream::Tls(_) = stream
        && let Some(socket) = stream.socket()
    {
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        // Without it a client that vanished is noticed at the next byte that is sent to it.
        let _ = socket.set_tcp_keepalive(&keepalive);
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
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            while !from.input.is_empty() {
                let len = ready!(Pin::new(&mut *to).poll_write(cx, from.input.bytes()))?;
                if len == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                from.input.consume(len);
                *moved = true;
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

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::UnixStream, task::LocalSet};

    use super::*;
    use crate::timer::Clock;

    #[tokio::test(start_paused = true)]
    async fn a_half_that_stays_silent_ends() {
        let (mut browser, client) = UnixStream::pair().unwrap();
        let (_server, worker) = UnixStream::pair().unwrap();
        let test = async {
            let alarm = Clock::new().alarm();
            let (mut client, mut worker) = (Peer::new(client.into()), Peer::new(worker.into()));
            let stock = Stock::default();
            let mut tunnel = std::pin::pin!(run(&mut client, &mut worker, &stock, &alarm));
            let open = tokio::time::timeout(Duration::from_secs(3_600), &mut tunnel).await;
            assert!(open.is_err(), "both directions are open");
            browser.shutdown().await.unwrap();
            let half = tokio::time::timeout(Duration::from_secs(700), &mut tunnel).await;
            assert!(half.is_ok(), "still there");
        };
        LocalSet::new().run_until(test).await;
    }
}

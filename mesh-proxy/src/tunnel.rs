//! Bytes both ways between two TCP connections, without a look at them.
//!
//! Each side may end its half, and the other half goes on. A side that breaks is passed on as a reset, so that
//! "cut off" never looks like "finished". Memory is taken only for what the slower side has not taken yet.

use std::{
    cell::{Cell, RefCell},
    io,
    net::Shutdown,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use socket2::SockRef;
use tokio::{net::TcpStream, task, time::timeout};

/// Bytes that are read at a time, and so the most that one direction of one tunnel holds.
const PIECE_SIZE: usize = 64 << 10;
/// How long one half may be silent after the other has ended. A peer that ended and then vanished would otherwise
/// hold the tunnel for ever.
const HALF_CLOSED_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

thread_local! {
    /// One for all tunnels of a thread: what is in it is written, or copied out, before anybody else reads.
    static PIECE: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE_SIZE].into());
}

/// Bytes that were passed on, by one tunnel or several.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// From one to the other.
    pub(crate) there: AtomicU64,
    /// From the other to the one.
    pub(crate) back: AtomicU64,
}

/// Passes bytes on until both sides have ended or one breaks.
pub(crate) async fn run(one: TcpStream, other: TcpStream) {
    run_counted(one, other, &Traffic::default()).await;
}

/// The same, and counts the bytes.
pub(crate) async fn run_counted(one: TcpStream, other: TcpStream, traffic: &Traffic) {
    // Without it, small messages of a protocol we do not know would wait for one another. It is a hint.
    let _ = (one.set_nodelay(true), other.set_nodelay(true));
    if let Err(error) = pass_on(&one, &other, traffic).await {
        tracing::debug!(%error, "a tunnel broke");
        reset(one);
        reset(other);
    }
}

/// Closes with a reset (socket(7), SO_LINGER).
pub(crate) fn reset(stream: TcpStream) {
    // On an error it is an ordinary close.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

async fn pass_on(one: &TcpStream, other: &TcpStream, traffic: &Traffic) -> io::Result<()> {
    let pieces = Cell::new(0);
    let mut there = pin!(copy(one, other, &pieces, &traffic.there));
    let mut back = pin!(copy(other, one, &pieces, &traffic.back));
    // One direction is done, and the other is left.
    tokio::select! {
        done = &mut there => {
            done?;
            end(back, &pieces).await
        }
        done = &mut back => {
            done?;
            end(there, &pieces).await
        }
    }
}

async fn end(mut rest: impl Future<Output = io::Result<()>> + Unpin, pieces: &Cell<u64>) -> io::Result<()> {
    loop {
        let before = pieces.get();
        match timeout(HALF_CLOSED_IDLE_TIMEOUT, &mut rest).await {
            Ok(done) => return done,
            Err(_) if pieces.get() == before => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {}
        }
    }
}

/// Copies until `from` ends, and then ends that half of `to`.
async fn copy(from: &TcpStream, to: &TcpStream, pieces: &Cell<u64>, bytes: &AtomicU64) -> io::Result<()> {
    loop {
        from.readable().await?;
        match PIECE.with_borrow_mut(|piece| forward(from, to, piece)) {
            Ok(Forwarded::All(size)) => drop(bytes.fetch_add(size, Relaxed)),
            Ok(Forwarded::Partly(size, rest)) => {
                bytes.fetch_add(size, Relaxed);
                write_all(to, &rest).await?;
            }
            Ok(Forwarded::End) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        pieces.set(pieces.get().wrapping_add(1));
        // Two fast peers must not keep the thread to themselves.
        task::consume_budget().await;
    }
    match SockRef::from(to).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}

enum Forwarded {
    /// So many bytes were read, and are written.
    All(u64),
    /// Of so many this is left to be written.
    Partly(u64, Vec<u8>),
    /// There is nothing more to read.
    End,
}

fn forward(from: &TcpStream, to: &TcpStream, piece: &mut [u8]) -> io::Result<Forwarded> {
    let size = from.try_read(piece)?;
    if size == 0 {
        return Ok(Forwarded::End);
    }
    let written = match to.try_write(&piece[..size]) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    let read = size as u64;
    Ok(match written == size {
        true => Forwarded::All(read),
        false => Forwarded::Partly(read, piece[written..size].to_vec()),
    })
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinHandle,
    };

    use super::*;
    use crate::testing::local;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    /// Both outer ends of a tunnel, and the tunnel.
    async fn tunnel() -> (TcpStream, TcpStream, JoinHandle<()>) {
        let (client, near) = pair().await;
        let (far, server) = pair().await;
        (client, server, task::spawn_local(run(near, far)))
    }

    #[test]
    fn a_half_may_end_before_the_other() {
        local(async {
            let (mut client, mut server, tunnel) = tunnel().await;
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut received = String::new();
            server.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, "question");

            server.write_all(b"answer").await.unwrap();
            server.shutdown().await.unwrap();
            received.clear();
            client.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, "answer");
            tunnel.await.unwrap();
        });
    }

    #[test]
    fn a_reset_is_passed_on() {
        local(async {
            let (client, mut server, tunnel) = tunnel().await;
            reset(client);
            assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            tunnel.await.unwrap();
        });
    }

    #[test]
    fn much_passes_a_slow_reader() {
        local(async {
            let (mut client, server, tunnel) = tunnel().await;
            let sent: Vec<u8> =
                (0..16u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let expected = sent.clone();
            let sender = tokio::spawn(async move {
                client.write_all(&sent).await.unwrap();
                client
            });
            let mut received = Vec::new();
            let mut server = tokio::io::BufReader::with_capacity(1000, server);
            while received.len() < expected.len() {
                assert_ne!(server.read_buf(&mut received).await.unwrap(), 0);
            }
            assert!(received == expected);
            drop((sender.await.unwrap(), server));
            tunnel.await.unwrap();
        });
    }

    #[test]
    fn bytes_are_counted_each_way_also_those_that_wait() {
        local(async {
            let ((mut client, near), (far, mut server)) = (pair().await, pair().await);
            let traffic = Rc::new(Traffic::default());
            let counted = Rc::clone(&traffic);
            let tunnel = task::spawn_local(async move { run_counted(near, far, &counted).await });
            let there = 8 << 20;
            let sender = tokio::spawn(async move {
                client.write_all(&vec![1; there]).await.unwrap();
                client.shutdown().await.unwrap();
                client.read_to_end(&mut Vec::new()).await.unwrap()
            });
            assert_eq!(server.read_to_end(&mut Vec::new()).await.unwrap(), there);
            server.write_all(b"answer").await.unwrap();
            drop(server);
            assert_eq!(sender.await.unwrap(), 6);
            tunnel.await.unwrap();
            assert_eq!((traffic.there.load(Relaxed), traffic.back.load(Relaxed)), (there as u64, 6));
        });
    }

    #[test]
    fn a_half_that_stays_silent_is_ended() {
        local(async {
            let (client, mut server, tunnel) = tunnel().await;
            tokio::time::pause();
            server.shutdown().await.unwrap();
            tunnel.await.unwrap();
            drop(client);
        });
    }
}

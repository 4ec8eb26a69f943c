//! Connections to workers: ready ones that were used before, and new ones.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use watt_api::mesh::{Endpoint, Protocol, WorkerState};

use crate::{
    http::Stream,
    names::Name,
    thread::{Report, Thread},
    timer::Ticks,
    worker::{Idle, Place, Worker},
};

/// A connection that waited this long is not used again. Node closes them after 5 s; a connection closed at the very
/// moment it is used costs a retry, or an error where none is allowed.
const IDLE_MAX: Ticks = Ticks::from_ms(4_000);

/// How often idle connections are looked through.
const SWEEP_INTERVAL: Ticks = Ticks::from_ms(1_000);

/// The most idle connections per worker and thread.
const IDLE_COUNT_MAX: usize = 256;

/// With fewer unconnected sockets than this in stock, more are asked for.
const SOCKETS_LOW: usize = 8;

/// Between two tries to connect to a Unix socket whose queue is full, which the kernel does not let us wait for.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// Why a worker could not be connected to.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The kernel said no.
    Refused(io::Error),
    /// This process lacks something, descriptors for example, which says nothing about the worker.
    Ours(io::Error),
    /// As many wait to be accepted as may. Only for those who have somewhere else to go.
    Full,
    /// The worker is on the host's network, where another port is somebody else's.
    OtherPort,
    /// Nobody accepted in time.
    Timeout,
    /// No unconnected socket of the worker's network came in time.
    NoSocket,
    /// TLS did not come to be, for this reason.
    Tls(String),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => {
                ConnectError::Ours(error)
            }
            _ => ConnectError::Refused(error),
        }
    }
}

/// The ready connection that was used last, if there is one that lives.
pub(crate) fn take(worker: &Worker, now: Ticks) -> Option<Stream> {
    loop {
        let Idle { stream, since } = worker.idle.borrow_mut().pop()?;
        let age = now.since(since);
        if age > IDLE_MAX {
            // Those below it are older still.
            worker.idle.borrow_mut().clear();
            return None;
        }
        if lives(&stream) && !stream.has_more() {
            return Some(stream);
        }
    }
}

/// Whether a connection is still open and silent. The runtime knows only what happened until its last look at the
/// kernel, and what came since would be taken for the next response: so the kernel is asked each time.
fn lives(stream: &Stream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let peeked = stream.socket().map(|socket| socket.peek(&mut byte));
    matches!(peeked, Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Keeps a connection for the next request.
pub(crate) fn put(thread: &Rc<Thread>, worker: &Worker, stream: Stream) {
    if stream.is_pipe() || worker.state.get() == WorkerState::Draining || thread.is_closing() {
        return;
    }
    let mut idle = worker.idle.borrow_mut();
    if idle.len() < IDLE_COUNT_MAX {
        idle.push(Idle { stream, since: thread.clock.now() });
        begin_to_sweep(thread);
    }
}

/// Sees to it that connections that wait are looked through.
pub(crate) fn begin_to_sweep(thread: &Rc<Thread>) {
    if !thread.sweeping.replace(true) {
        tokio::task::spawn_local(sweep(thread.clone()));
    }
}

/// Closes connections that waited too long; ends when there are none.
async fn sweep(thread: Rc<Thread>) {
    let alarm = thread.clock.alarm();
    loop {
        alarm.set(SWEEP_INTERVAL);
        std::future::poll_fn(|cx| alarm.poll(cx)).await;
        let now = thread.clock.now();
        let mut left = 0;
        for worker in thread.workers.borrow().values().chain(thread.upstreams.borrow().values()) {
            let mut idle = worker.idle.borrow_mut();
            let old = idle.partition_point(|idle| now.since(idle.since) > IDLE_MAX);
            idle.drain(..old);
            left += idle.len() + worker.links.sweep(now);
        }
        if left == 0 {
            thread.sweeping.set(false);
            return;
        }
    }
}

/// A new connection to a worker, on which this protocol is to be spoken. `port` is another one in the worker's own network. Whether a full queue is waited for
/// is up to `patient`.
pub(crate) async fn connect(
    worker: &Worker,
    port: Option<u16>,
    patient: bool,
    protocol: Protocol,
    timeout: Duration,
) -> Result<Stream, ConnectError> {
    let Some(place) = worker.place.borrow().clone() else {
        return Err(ConnectError::Refused(io::ErrorKind::NotFound.into()));
    };
    // A timeout of 0 is none.
    let timeout = if timeout.is_zero() { Duration::MAX } else { timeout };
    let connector = worker.connector.borrow().clone();
    let connecting = async {
        let stream = connect_to(worker, &place, port, patient, timeout).await?;
        match (connector, stream) {
            (Some(connector), Stream::Tcp(stream)) => {
                let _ = stream.set_nodelay(true);
                // In memory of its own, which requests to others do not have to hold.
                let begun = Box::pin(connector.begin(stream, protocol)).await;
                begun.map(Stream::from).map_err(ConnectError::Tls)
            }
            (_, stream) => Ok(stream),
        }
    };
    let stream = match tokio::time::timeout(timeout, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error),
        Err(_) if worker.sockets_wanted.get() => return Err(ConnectError::NoSocket),
        Err(_) => return Err(ConnectError::Timeout),
    };
    if let Stream::Tcp(stream) = &stream {
        // Without it a small body could wait for the peer's delayed acknowledgement. A socket that does not know the
        // option works all the same.
        let _ = stream.set_nodelay(true);
    }
    Ok(stream)
}

async fn connect_to(
    worker: &Worker,
    place: &Place,
    port: Option<u16>,
    patient: bool,
    timeout: Duration,
) -> Result<Stream, ConnectError> {
    let endpoint = match place {
        Place::Of(endpoint) => endpoint,
        Place::Named { name, port } => {
            return connect_by_name(name, *port, timeout).await.map(Stream::Tcp);
        }
    };
    match endpoint {
        Endpoint::Unix { path } => connect_unix(path, patient).await.map(Stream::Unix),
        Endpoint::Tcp { address } => {
            if port.is_some_and(|port| port != address.port()) {
                return Err(ConnectError::OtherPort);
            }
            Ok(Stream::Tcp(TcpStream::connect(address).await?))
        }
        Endpoint::PrivateTcp { address } => {
            let address = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
            Ok(Stream::Tcp(connect_private(worker, address).await?))
        }
    }
}

async fn connect_unix(path: &std::path::Path, patient: bool) -> Result<UnixStream, ConnectError> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && patient => {
                tokio::time::sleep(QUEUE_FULL_PAUSE).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(ConnectError::Full),
            other => return Ok(other?),
        }
    }
}

/// To the first of a name's addresses that accepts. Each has its part of the time, so that one which says nothing does not take it from
/// the others.
async fn connect_by_name(name: &Rc<Name>, port: u16, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let addresses = name.addresses().await?;
    let part = timeout / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut failure = ConnectError::Refused(io::ErrorKind::NotFound.into());
    for address in addresses.iter() {
        failure = match tokio::time::timeout(part, TcpStream::connect((*address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.into(),
            Err(_) => ConnectError::Timeout,
        };
    }
    Err(failure)
}

async fn connect_private(worker: &Worker, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = loop {
        // Before looking, so that sockets that come in between are noticed.
        let came = worker.sockets_came.notified();
        let socket = worker.sockets.borrow_mut().pop();
        ask_for_sockets(worker);
        match socket {
            Some(socket) => break socket,
            None => came.await,
        }
    };
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    let address = match (address.ip(), socket.local_addr()?) {
        // An IPv6 socket reaches IPv4 by mapped addresses (ipv6(7)).
        (IpAddr::V4(ip), SocketAddr::V6(_)) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => address,
    };
    TcpSocket::from_std_stream(socket).connect(address).await
}

fn ask_for_sockets(worker: &Worker) {
    if worker.sockets.borrow().len() < SOCKETS_LOW && !worker.sockets_wanted.replace(true) {
        worker.report(Report::NeedSockets { run: worker.run });
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn what_this_process_lacks_is_no_fault_of_a_worker() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
            assert!(matches!(io::Error::from(error).into(), ConnectError::Ours(_)), "{error}");
        }
        assert!(matches!(io::Error::from(Errno::CONNREFUSED).into(), ConnectError::Refused(_)));
    }

    /// A thread, a worker, and both ends of a connection between them.
    async fn with_connection<F: Future<Output = ()>>(
        test: impl FnOnce(Rc<Thread>, Rc<Worker>, Stream, UnixStream) -> F,
    ) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let worker = Rc::new(Worker::new(1, Rc::new(|_| {})));
        let test = async { test(Thread::new(NonZeroUsize::MIN, |_| {}), worker, ours.into(), theirs).await };
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_draining_workers_connection_is_not_kept() {
        with_connection(async |thread, worker, ours, _theirs| {
            worker.state.set(WorkerState::Draining);
            put(&thread, &worker, ours);
            assert!(worker.idle.borrow().is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn a_proxy_that_ends_keeps_no_connection() {
        with_connection(async |thread, worker, ours, _theirs| {
            thread.shut_down();
            put(&thread, &worker, ours);
            assert!(worker.idle.borrow().is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn an_old_connection_is_not_used() {
        with_connection(async |thread, worker, ours, _theirs| {
            put(&thread, &worker, ours);
            let young = thread.clock.now().plus(IDLE_MAX);
            let Some(ours) = take(&worker, young) else { panic!("it is not old") };
            put(&thread, &worker, ours);
            assert!(take(&worker, young.plus(Ticks::from_ms(1))).is_none());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_connection_is_closed() {
        with_connection(async |thread, worker, ours, mut theirs| {
            thread.workers.borrow_mut().insert(1, worker.clone());
            put(&thread, &worker, ours);
            let end = tokio::time::timeout(Duration::from_secs(60), theirs.read_u8()).await;
            assert!(end.is_ok_and(|read| read.is_err()), "it is still open");
            assert!(!thread.sweeping.get());
        })
        .await;
    }
}

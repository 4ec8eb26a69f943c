//! The proxy's end of the link to the daemon (`watt_api::mesh`): frames with descriptors over a Unix stream socket.
//!
//! Nothing is believed. A connection of a foreign user, or of a service, which may be the same user, is closed at once.
//! What the daemon sends is read in small pieces, so that a length alone takes no memory; a frame without its
//! descriptors, or descriptors that belong to no frame, end the link. What the daemon does not read piles up to a limit
//! and then ends the link as well: the next connection begins with everything anew, so nothing is lost but the news.

use std::{cell::Cell, collections::VecDeque, io, mem::MaybeUninit, os::fd::OwnedFd, time::Duration};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    time::Instant,
};
use watt_api::mesh::{
    CachePurge, CodecError, FromProxy, ListenerId, ListenerKind, MESSAGE_DESCRIPTORS_MAX, Snapshot, ToProxy,
    decode, encode, is_readable,
};

use crate::process;

/// Bytes that are read at a time.
const READ_SIZE: usize = 64 << 10;
/// Bytes that wait for the daemon to read them. A second of counts for a thousand services takes some 100 kB.
const UNSENT_SIZE_MAX: usize = 8 << 20;

/// How often it is told that somebody was turned away.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A message of the daemon with the descriptors that came with it.
#[derive(Debug)]
pub(crate) enum Order {
    /// [`ToProxy::Hello`].
    Hello,
    /// [`ToProxy::AddListener`].
    AddListener { id: ListenerId, kind: ListenerKind, listener: OwnedFd },
    /// [`ToProxy::AddFolder`].
    AddFolder { id: String, folder: OwnedFd },
    /// [`ToProxy::AddDocument`].
    AddDocument { id: String, body: String },
    /// [`ToProxy::RemoveListener`].
    RemoveListener { id: ListenerId },
    /// [`ToProxy::Sockets`].
    Sockets { run: u64, sockets: Vec<OwnedFd> },
    /// [`ToProxy::Snapshot`].
    Snapshot(Box<Snapshot>),
    /// [`ToProxy::PurgeCache`].
    Purge { number: u64, purge: CachePurge },
    /// [`ToProxy::Retire`].
    Retire { within: Duration },
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("cannot read what the daemon sends")]
    Read(#[source] io::Error),
    #[error("cannot send to the daemon")]
    Write(#[source] io::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the daemon speaks form {0}, which this version does not understand")]
    Format(u32),
    #[error("descriptors were lost on the way; are there too many open files?")]
    DescriptorsCut,
    #[error("a message names {named} descriptors and {came} came with it")]
    DescriptorsMissing { named: &'static str, came: usize },
    #[error("descriptors came with no message that names them")]
    DescriptorsUnnamed,
    #[error("the daemon does not read what it is sent")]
    Stalled,
}

/// Where daemons come in.
pub(crate) struct Door {
    listener: UnixListener,
    told: Cell<Option<Instant>>,
}

impl Door {
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self { listener, told: Cell::new(None) }
    }

    /// Waits for the next connection by a daemon. Others are turned away in here.
    pub(crate) async fn accept(&self) -> io::Result<Link> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?;
            // The daemon runs as the proxy's own user, or as root when it gave the proxy another one.
            let may = peer.uid() == rustix::process::geteuid().as_raw() || peer.uid() == 0;
            let is_daemon = |pid| Some(process::is_in_spawners_session(pid));
            if may && process::ask_about_peer(&stream, is_daemon) == Some(true) {
                return Ok(Link::new(stream, peer.uid()));
            }
            if self.is_news() {
                let (uid, pid) = (peer.uid(), peer.pid());
                tracing::warn!(uid, pid, "who is not the daemon tried to command the proxy");
            }
        }
    }

    /// A service that tries in a loop does not fill the log.
    fn is_news(&self) -> bool {
        let now = Instant::now();
        let is_news = self.told.get().is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
        if is_news {
            self.told.set(Some(now));
        }
        is_news
    }
}

/// One connection.
pub(crate) struct Link {
    stream: UnixStream,
    peer_uid: u32,
    /// Received and not yet understood.
    incoming: Vec<u8>,
    /// What came with it. The kernel never joins the descriptors of two messages in one read (unix(7)), so that
    /// each element belongs to one message, in the same order.
    descriptors: VecDeque<Vec<OwnedFd>>,
    /// To be sent.
    outgoing: Vec<u8>,
}

impl Link {
    fn new(stream: UnixStream, peer_uid: u32) -> Self {
        Self { stream, peer_uid, incoming: Vec::new(), descriptors: VecDeque::new(), outgoing: Vec::new() }
    }

    /// The user at the other end.
    pub(crate) fn peer_uid(&self) -> u32 {
        self.peer_uid
    }

    /// Puts a message into the queue; [`Link::next`] sends it.
    pub(crate) fn send(&mut self, message: &FromProxy) -> Result<(), LinkError> {
        encode(message, &mut self.outgoing)?;
        if self.outgoing.len() > UNSENT_SIZE_MAX { Err(LinkError::Stalled) } else { Ok(()) }
    }

    /// Sends what is queued and waits for the next order; `None` when the daemon ended the link. Nothing is lost
    /// when the future is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Result<Option<Order>, LinkError> {
        loop {
            if let Some(order) = self.take_order()? {
                return Ok(Some(order));
            }
            let unsent = !self.outgoing.is_empty();
            let interest = if unsent { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            let ready = self.stream.ready(interest).await.map_err(LinkError::Read)?;
            if unsent && ready.is_writable() {
                self.flush()?;
            }
            if ready.is_readable() && !self.receive()? {
                return Ok(None);
            }
        }
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        let sent = self.stream.try_io(Interest::WRITABLE, || {
            // As std does: no SIGPIPE when the daemon is gone.
            let mut no_descriptors = SendAncillaryBuffer::default();
            let slices = [io::IoSlice::new(&self.outgoing)];
            Ok(rustix::net::sendmsg(&self.stream, &slices, &mut no_descriptors, SendFlags::NOSIGNAL)?)
        });
        match sent {
            Ok(size) => {
                self.outgoing.drain(..size);
                if self.outgoing.is_empty() {
                    // As with what comes in.
                    self.outgoing = Vec::new();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(LinkError::Write(error)),
        }
        Ok(())
    }

    /// Reads once. `false` at the end.
    fn receive(&mut self) -> Result<bool, LinkError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let start = self.incoming.len();
        self.incoming.resize(start + READ_SIZE, 0);
        let received = self.stream.try_io(Interest::READABLE, || {
            let mut slices = [io::IoSliceMut::new(&mut self.incoming[start..])];
            Ok(rustix::net::recvmsg(&self.stream, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?)
        });
        self.incoming.truncate(start + received.as_ref().map_or(0, |message| message.bytes));

        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.push_back(descriptors.collect());
            }
        }
        match received {
            Ok(message) if message.flags.contains(ReturnFlags::CTRUNC) => Err(LinkError::DescriptorsCut),
            Ok(message) => Ok(message.bytes > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(LinkError::Read(error)),
        }
    }

    fn take_order(&mut self) -> Result<Option<Order>, LinkError> {
        let Some((message, size)) = decode(&self.incoming)? else {
            // At most the message of which a part is here may have brought some.
            let expected = usize::from(!self.incoming.is_empty());
            let unnamed = self.descriptors.len() > expected;
            return if unnamed { Err(LinkError::DescriptorsUnnamed) } else { Ok(None) };
        };
        self.incoming.drain(..size);
        if self.incoming.is_empty() {
            // A snapshot may be large, and the next one is far away.
            self.incoming = Vec::new();
        }
        let order = match message {
            ToProxy::Hello { format } if !is_readable(format) => return Err(LinkError::Format(format)),
            ToProxy::Hello { .. } => Order::Hello,
            ToProxy::Retire { within_ms } => Order::Retire { within: Duration::from_millis(within_ms) },
            ToProxy::RemoveListener { id } => Order::RemoveListener { id },
            ToProxy::PurgeCache { number, purge } => Order::Purge { number, purge },
            ToProxy::AddDocument { id, body } => Order::AddDocument { id, body },
            ToProxy::Snapshot(mut snapshot) => {
                snapshot.join_routes();
                snapshot.shrink();
                Order::Snapshot(snapshot)
            }
            ToProxy::AddFolder { id } => {
                let [folder] = <[OwnedFd; 1]>::try_from(self.take_descriptors())
                    .map_err(|came| LinkError::DescriptorsMissing { named: "1", came: came.len() })?;
                Order::AddFolder { id, folder }
            }
            ToProxy::AddListener { id, kind } => {
                let [listener] = <[OwnedFd; 1]>::try_from(self.take_descriptors())
                    .map_err(|came| LinkError::DescriptorsMissing { named: "1", came: came.len() })?;
                Order::AddListener { id, kind, listener }
            }
            ToProxy::Sockets { run } => {
                let sockets = self.take_descriptors();
                if sockets.is_empty() {
                    return Err(LinkError::DescriptorsMissing { named: "some", came: 0 });
                }
                Order::Sockets { run, sockets }
            }
        };
        Ok(Some(order))
    }

    fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        self.descriptors.pop_front().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::fd::{AsFd, BorrowedFd},
        os::unix::net::UnixStream as StdUnixStream,
    };

    use rustix::net::SendAncillaryMessage;
    use watt_api::mesh::Route;

    use super::*;

    fn pair() -> (Link, StdUnixStream) {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Link::new(UnixStream::from_std(ours).unwrap(), 0), theirs)
    }

    fn frame(message: &ToProxy) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(message, &mut bytes).unwrap();
        bytes
    }

    fn send_with(stream: &StdUnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        let sent =
            rustix::net::sendmsg(stream, &[io::IoSlice::new(bytes)], &mut ancillary, SendFlags::empty());
        assert_eq!(sent.unwrap(), bytes.len());
    }

    fn add(id: &str) -> Vec<u8> {
        frame(&ToProxy::AddListener { id: id.to_owned(), kind: ListenerKind::MeshHost })
    }

    #[tokio::test]
    async fn descriptors_reach_the_message_that_names_them() {
        let (mut link, daemon) = pair();
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        send_with(&daemon, &frame(&ToProxy::HELLO)[..3], &[]);
        io::Write::write_all(&mut &daemon, &frame(&ToProxy::HELLO)[3..]).unwrap();
        for listener in &listeners {
            let bytes = add("x");
            send_with(&daemon, &bytes[..1], &[listener.as_fd()]);
            io::Write::write_all(&mut &daemon, &bytes[1..]).unwrap();
        }
        let two = [listeners[0].as_fd(), listeners[1].as_fd()];
        send_with(&daemon, &frame(&ToProxy::Sockets { run: 7 }), &two);
        drop(daemon);

        assert!(matches!(link.next().await, Ok(Some(Order::Hello))));
        for ours in &listeners {
            let Ok(Some(Order::AddListener { listener, .. })) = link.next().await else { panic!() };
            let theirs = TcpListener::from(listener);
            assert_eq!(theirs.local_addr().unwrap(), ours.local_addr().unwrap());
        }
        let Ok(Some(Order::Sockets { run: 7, sockets })) = link.next().await else { panic!() };
        assert_eq!(sockets.len(), 2);
        assert!(matches!(link.next().await, Ok(None)));
    }

    #[tokio::test]
    async fn a_large_snapshot_comes_in_pieces() {
        let (mut link, mut daemon) = pair();
        let snapshot = Snapshot { app: "x".repeat(3 << 20), ..Snapshot::default() };
        let bytes = frame(&ToProxy::Snapshot(Box::new(snapshot.clone())));
        let writer = std::thread::spawn(move || io::Write::write_all(&mut daemon, &bytes).unwrap());
        let Ok(Some(Order::Snapshot(received))) = link.next().await else { panic!() };
        assert_eq!(*received, snapshot);
        writer.join().unwrap();
        assert_eq!(link.incoming.capacity(), 0, "the memory is given back");
    }

    #[tokio::test]
    async fn what_is_kept_of_a_snapshot_has_no_room_to_spare() {
        let (mut link, mut daemon) = pair();
        let state = watt_api::mesh::WorkerState::Ready;
        let (endpoint, drain_ms, cgroup, pid) = (None, None, None, None);
        let worker = watt_api::mesh::Worker { run: 1, index: 0, endpoint, state, drain_ms, cgroup, pid };
        let api = watt_api::mesh::Service { workers: vec![worker], ..Default::default() };
        let snapshot = Snapshot { services: [("api".to_owned(), api)].into(), ..Snapshot::default() };
        io::Write::write_all(&mut daemon, &frame(&ToProxy::Snapshot(Box::new(snapshot)))).unwrap();
        let Ok(Some(Order::Snapshot(received))) = link.next().await else { panic!() };
        assert_eq!(received.services["api"].workers.capacity(), 1);
    }

    #[tokio::test]
    async fn routes_of_both_lists_are_routes() {
        let (mut link, mut daemon) = pair();
        let named = |service: &str| Route { path: "/".into(), service: service.into(), ..Route::default() };
        let snapshot =
            Snapshot { routes: vec![named("a")], narrow_routes: vec![named("b")], ..Snapshot::default() };
        io::Write::write_all(&mut daemon, &frame(&ToProxy::Snapshot(Box::new(snapshot)))).unwrap();
        let Ok(Some(Order::Snapshot(received))) = link.next().await else { panic!() };
        assert_eq!(received.routes, [named("a"), named("b")]);
    }

    #[tokio::test]
    async fn hostile_frames_end_the_link() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = listener.as_fd();
        let cases: [(&str, Vec<u8>, &[BorrowedFd<'_>]); 8] = [
            ("a form of a later version", frame(&ToProxy::Hello { format: 2 }), &[]),
            ("a length that is too large", u32::MAX.to_le_bytes().to_vec(), &[]),
            ("no JSON", [&4u32.to_le_bytes()[..], b"\xff\xff\xff\xff"].concat(), &[]),
            ("an unknown type", [&12u32.to_le_bytes()[..], br#"{"type":"x"}"#].concat(), &[]),
            ("no descriptor", add("x"), &[]),
            ("two descriptors", add("x"), &[fd, fd]),
            ("no socket", frame(&ToProxy::Sockets { run: 1 }), &[]),
            ("a descriptor with nothing", frame(&ToProxy::HELLO), &[fd]),
        ];
        for (case, bytes, descriptors) in cases {
            let (mut link, daemon) = pair();
            send_with(&daemon, &bytes, descriptors);
            let error = loop {
                match link.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{case}: accepted"),
                    Err(error) => break error,
                }
            };
            assert!(!error.to_string().is_empty(), "{case}");
        }
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_read_is_left() {
        let (mut link, _daemon) = pair();
        let news = FromProxy::Refused { caller: None, target: "x".repeat(1 << 20), reason: String::new() };
        let error = (0..32).find_map(|_| link.send(&news).err());
        assert!(matches!(error, Some(LinkError::Stalled)));
    }

    #[tokio::test]
    async fn news_reaches_the_daemon() {
        let (mut link, mut daemon) = pair();
        // More than a socket holds, so that it takes several writes.
        let news = FromProxy::Refused { caller: None, target: "x".repeat(4 << 20), reason: String::new() };
        link.send(&news).unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            loop {
                if let Some((message, _)) = decode::<FromProxy>(&bytes).unwrap() {
                    return message;
                }
                let mut piece = [0; 65536];
                let size = io::Read::read(&mut daemon, &mut piece).unwrap();
                bytes.extend(&piece[..size]);
            }
        });
        assert!(matches!(link.next().await, Ok(None)), "the daemon closes when it has read everything");
        assert_eq!(reader.join().unwrap(), news);
    }

    #[tokio::test]
    async fn the_own_user_may_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let _daemon = StdUnixStream::connect(&path).unwrap();
        let door = Door::new(listener);
        assert!(door.accept().await.is_ok());
        assert!(door.is_news() && !door.is_news());
    }
}

//! The daemon's end of the connection to the spawner: requests out, messages in, without ever waiting for room.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use tokio::io::{Interest, Ready, unix::AsyncFd};
use watt_spawner::{
    Handle,
    protocol::{Message, Request},
};

use crate::app::until;

/// A message with the descriptors that came with it.
pub(crate) type News = (Message, Vec<OwnedFd>);

/// So many requests that wait are enough for now: the spawner has as many again in its socket.
const WAITING_ENOUGH: usize = 64;

/// How long to wait before the list is asked for after a loss, at first and at most. It has a message for each run, and
/// the cause may stay for ever.
const LIST_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long to wait between attempts to send the last words.
const RETRY: Duration = Duration::from_millis(5);

/// The connection. Requests that do not fit into the socket wait here: the fleet's size bounds them, because each
/// run has one spawn under way.
#[derive(Debug)]
pub(crate) struct SpawnerLink {
    handle: AsyncFd<Socket>,
    waiting: VecDeque<(Request, Vec<OwnedFd>)>,
    /// When the list is asked for, because a message was lost.
    list_at: Option<Instant>,
    /// How long the next wait for the list is. Grows until one comes without a loss.
    list_after: Duration,
}

/// The handle as the runtime wants it.
#[derive(Debug)]
struct Socket(Handle);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl SpawnerLink {
    /// Takes over the socket this process was started with. Needs a runtime.
    pub(crate) fn from_env() -> io::Result<SpawnerLink> {
        let socket = Socket(Handle::from_env()?);
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the handle owns its descriptor until it is dropped"
        )]
        let handle = AsyncFd::with_interest(socket, Interest::READABLE | Interest::WRITABLE)?;
        Ok(SpawnerLink { handle, waiting: VecDeque::new(), list_at: None, list_after: LIST_AFTER.0 })
    }

    /// Sends a request, now or as soon as there is room. A connection that has failed shows in [`next`](Self::next).
    pub(crate) fn request(&mut self, request: Request, descriptors: Vec<OwnedFd>) {
        self.waiting.push_back((request, descriptors));
        self.flush();
    }

    /// Whether any request waits for the spawner.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether enough requests wait for the spawner. Others are still taken; [`next`](Self::next) tells when it is over.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_ENOUGH
    }

    /// Waits for the next message, and sends meanwhile what has to wait; `None` when that is no longer too much. Dropping
    /// the future loses nothing.
    pub(crate) async fn next(&mut self) -> io::Result<Option<News>> {
        loop {
            let was_full = self.is_full();
            self.flush();
            if was_full && !self.is_full() {
                return Ok(None);
            }
            let interest = match self.waiting.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let mut guard = tokio::select! {
                guard = self.handle.ready(interest) => guard?,
                () = until(self.list_at) => {
                    self.list_at = None;
                    self.waiting.push_back((Request::List, Vec::new()));
                    continue;
                }
            };
            if guard.ready().is_writable() && !self.waiting.is_empty() {
                // Whatever did not fit before is tried again above, and waits here when it still does not fit.
                guard.clear_ready_matching(Ready::WRITABLE);
            }
            match guard.get_inner().0.recv() {
                Ok(Some(news)) => {
                    if let (Message::ListEnd, None) = (&news.0, self.list_at) {
                        self.list_after = LIST_AFTER.0;
                    }
                    return Ok(Some(news));
                }
                Ok(None) => guard.clear_ready_matching(Ready::READABLE),
                // A message was lost for want of descriptors. A successor would have as few, so that nothing is won by
                // ending here. The list tells what it was about, if there are descriptors by then.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    if self.list_at.is_none() {
                        if self.list_after == LIST_AFTER.0 {
                            tracing::error!(
                                "too few open files are allowed (ulimit -n): a process's are asked for again"
                            );
                        }
                        self.list_at = Some(Instant::now() + self.list_after);
                        self.list_after = (self.list_after * 2).min(LIST_AFTER.1);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until everything that was asked for is sent. Messages that come meanwhile are dropped: this is the end.
    pub(crate) async fn sent(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            tokio::select! {
                news = self.next() => drop(news?),
                () = tokio::time::sleep(RETRY) => {}
            }
            self.flush();
        }
        Ok(())
    }

    /// Sends what waits, until the socket is full.
    fn flush(&mut self) {
        while let Some((request, descriptors)) = self.waiting.front() {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match self.handle.get_ref().0.send(request, &borrowed) {
                Ok(()) => {}
                Err(error) if must_wait(&error) => return,
                // A request that cannot be sent at all: said, and left out, so that the others are not stuck behind it.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    tracing::error!("a request to the spawner is too large and was left out: {request:?}");
                }
                // The spawner has gone. The next receive says so, and this process ends.
                Err(_) => return,
            }
            self.waiting.pop_front();
        }
    }
}

/// No room at the moment. Descriptors under way are limited too (ETOOMANYREFS, unix(7)), which passes when the
/// spawner reads.
fn must_wait(error: &io::Error) -> bool {
    /// ETOOMANYREFS of errno(3) on Linux.
    const TOO_MANY_REFERENCES: i32 = 109;
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(TOO_MANY_REFERENCES)
}

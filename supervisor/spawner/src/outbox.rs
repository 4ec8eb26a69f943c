//! What the daemon is still to be told.
//!
//! A list of thousands of runs would be a large queue, so it is one entry that makes its messages as they can
//! be sent. What happens to a run meanwhile is queued behind it, unless the list has not come to that run:
//! then it will tell.

use std::{
    collections::VecDeque,
    io,
    ops::Bound,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use watt_os::fdpass;

use crate::{notes::note, protocol::Message, runs::Holdings, wire};

/// Requests are not read while so many messages wait.
const LONG: usize = 64;

/// When to try again after a refusal that no readiness event ends: too many descriptors under way, no memory.
const RETRY: Duration = Duration::from_millis(5);

/// A message with its descriptors.
pub(crate) type Told = (Message, Vec<Rc<OwnedFd>>);

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Whether the daemon has sent a request. Before, it knows nothing that news could be about.
    open: bool,
    queue: VecDeque<Entry>,
    blocked: Option<Blocked>,
}

#[derive(Debug)]
enum Entry {
    Message { bytes: Vec<u8>, descriptors: Vec<Rc<OwnedFd>> },
    List(Cursor),
}

/// The next thing a list tells. A key is the last one told.
#[derive(Debug)]
enum Cursor {
    Info(Box<Message>),
    Runs(Bound<u64>),
    Listeners(Bound<String>),
    Values(Bound<String>),
    Kept(Bound<String>),
    End,
}

#[derive(Debug, Clone, Copy)]
struct Blocked {
    since: Instant,
    retry_at: Option<Instant>,
}

/// What is to be waited for before more can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// All is sent.
    Empty,
    /// The daemon has to read first.
    Blocked,
    /// The daemon is gone.
    Gone,
}

impl Outbox {
    /// Drops everything: a new daemon asks for the list.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether no more requests should be read now. A list is always followed through first, so that its
    /// picture stays true.
    pub(crate) fn is_long(&self) -> bool {
        self.queue.len() >= LONG || self.queue.iter().any(|entry| matches!(entry, Entry::List(_)))
    }

    /// Since when the daemon has read nothing although something waits. What the kernel refuses is no fault of the daemon's: another
    /// process of its user can have so many descriptors under way that ours get ETOOMANYREFS (unix(7)).
    pub(crate) fn blocked_since(&self) -> Option<Instant> {
        self.blocked.filter(|blocked| blocked.retry_at.is_none()).map(|blocked| blocked.since)
    }

    /// When to flush again without a readiness event.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.blocked.and_then(|blocked| blocked.retry_at)
    }

    /// Queues a message.
    pub(crate) fn push(&mut self, (message, descriptors): Told) {
        match wire::encode(&message) {
            Ok(bytes) => self.queue.push_back(Entry::Message { bytes, descriptors }),
            // What goes into messages is bounded where it comes in, so this is a bug of ours and not worth
            // dying for.
            Err(error) => note(format_args!("cannot encode a message: {error}")),
        }
    }

    /// The daemon has sent a request.
    pub(crate) fn open(&mut self) {
        self.open = true;
    }

    /// Queues what happened to a run, unless a list that waits, or the first one of a new daemon, will tell
    /// it.
    pub(crate) fn push_about(&mut self, run: u64, told: Told) {
        let told_later = self.queue.iter().any(|entry| match entry {
            Entry::Message { .. } => false,
            Entry::List(cursor) => cursor.will_tell(run),
        });
        if self.open && !told_later {
            self.push(told);
        }
    }

    /// Queues the list, with what it says of the spawner itself.
    pub(crate) fn push_list(&mut self, info: Message) {
        self.queue.push_back(Entry::List(Cursor::Info(Box::new(info))));
    }

    /// Sends as much as the daemon takes.
    pub(crate) fn flush(&mut self, socket: BorrowedFd<'_>, holdings: &Holdings) -> Flushed {
        while let Some(entry) = self.queue.front_mut() {
            let sent = match entry {
                Entry::Message { bytes, descriptors } => send(socket, bytes, descriptors),
                Entry::List(cursor) => cursor.send(socket, holdings),
            };
            match sent {
                Ok(Sent::More) => self.blocked = None,
                Ok(Sent::Done) => {
                    self.blocked = None;
                    self.queue.pop_front();
                }
                Err(error) => return self.refused(&error),
            }
        }
        // After a burst, what it took is given back.
        if self.queue.capacity() > 4 * LONG {
            self.queue.shrink_to(LONG);
        }
        Flushed::Empty
    }

    fn refused(&mut self, error: &io::Error) -> Flushed {
        let now = Instant::now();
        // The daemon is not blamed for the time in which it was the kernel that refused.
        let since = self.blocked_since().unwrap_or(now);
        let retry_at = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN) => None,
            Some(Errno::ETOOMANYREFS | Errno::ENOBUFS | Errno::ENOMEM | Errno::EINTR) => Some(now + RETRY),
            _ => return Flushed::Gone,
        };
        self.blocked = Some(Blocked { since, retry_at });
        Flushed::Blocked
    }
}

/// Whether an entry has more to send.
enum Sent {
    More,
    Done,
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[Rc<OwnedFd>]) -> io::Result<Sent> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(|fd| fd.as_fd()).collect();
    fdpass::send(socket, bytes, &borrowed)?;
    Ok(Sent::Done)
}

impl Cursor {
    fn will_tell(&self, run: u64) -> bool {
        match self {
            Self::Info(_) | Self::Runs(Bound::Unbounded) => true,
            Self::Runs(Bound::Excluded(last) | Bound::Included(last)) => run > *last,
            Self::Listeners(_) | Self::Values(_) | Self::Kept(_) | Self::End => false,
        }
    }

    /// Sends the next message of the list and moves on, or only moves on to the next kind of thing.
    fn send(&mut self, socket: BorrowedFd<'_>, holdings: &Holdings) -> io::Result<Sent> {
        let ((message, descriptors), next) = match self.next(holdings) {
            Ok(message) => message,
            Err(next_kind) => {
                *self = next_kind;
                return Ok(Sent::More);
            }
        };
        send(socket, &wire::encode(&message)?, &descriptors)?;
        match next {
            Some(next) => {
                *self = next;
                Ok(Sent::More)
            }
            None => Ok(Sent::Done),
        }
    }

    /// The next message and the cursor after it (none: it was the last), or, where there is no more of a
    /// kind, the cursor of the next kind.
    fn next(&self, holdings: &Holdings) -> Result<(Told, Option<Self>), Self> {
        match self {
            Self::Info(info) => Ok((((**info).clone(), Vec::new()), Some(Self::Runs(Bound::Unbounded)))),
            Self::Runs(last) => match holdings.runs.range((*last, Bound::Unbounded)).next() {
                None => Err(Self::Listeners(Bound::Unbounded)),
                Some((id, run)) => Ok((run.describe(*id), Some(Self::Runs(Bound::Excluded(*id))))),
            },
            Self::Listeners(last) => {
                match holdings.listeners.range((last.clone(), Bound::Unbounded)).next() {
                    None => Err(Self::Values(Bound::Unbounded)),
                    Some((name, listener)) => {
                        let message =
                            Message::Listener { name: name.clone(), address: listener.address.clone() };
                        let next = Self::Listeners(Bound::Excluded(name.clone()));
                        Ok(((message, vec![listener.socket.clone()]), Some(next)))
                    }
                }
            }
            Self::Values(last) => match holdings.values.range((last.clone(), Bound::Unbounded)).next() {
                None => Err(Self::Kept(Bound::Unbounded)),
                Some((key, value)) => {
                    let message = Message::Value { key: key.clone(), value: value.clone() };
                    Ok(((message, Vec::new()), Some(Self::Values(Bound::Excluded(key.clone())))))
                }
            },
            Self::Kept(last) => match holdings.kept.range((last.clone(), Bound::Unbounded)).next() {
                None => Err(Self::End),
                Some((name, fd)) => {
                    let message = Message::Kept { name: name.clone() };
                    Ok(((message, vec![fd.clone()]), Some(Self::Kept(Bound::Excluded(name.clone())))))
                }
            },
            Self::End => Ok(((Message::ListEnd, Vec::new()), None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses_to_pass_is_not_held_against_the_daemon() {
        let refuse = |outbox: &mut Outbox, errno: Errno| outbox.refused(&io::Error::from(errno));
        let mut outbox = Outbox::default();
        assert_eq!(refuse(&mut outbox, Errno::ETOOMANYREFS), Flushed::Blocked);
        assert_eq!(outbox.blocked_since(), None);
        assert!(outbox.retry_at().is_some(), "it has to be tried again");
        let later = Instant::now();
        assert_eq!(refuse(&mut outbox, Errno::EAGAIN), Flushed::Blocked);
        let since = outbox.blocked_since();
        assert!(since >= Some(later), "its own time begins when it is its turn to read");
        assert_eq!(outbox.retry_at(), None);
        refuse(&mut outbox, Errno::EAGAIN);
        assert_eq!(outbox.blocked_since(), since, "and goes on from there");
        assert_eq!(refuse(&mut outbox, Errno::EPIPE), Flushed::Gone);
    }
}

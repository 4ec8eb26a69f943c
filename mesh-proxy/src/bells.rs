//! Who has come to which of a thread's listeners, told by one epoll(7) for all of them.
//!
//! The problem: there are several listeners for each worker, and hardly anybody comes to most. A task that waits at each, and
//! the runtime's own notes on what it waits for, take a kilobyte. Here a listener is a number with the kernel until somebody comes.
//!
//! A bell rings once (EPOLLONESHOT). Whoever answers it winds it up again when nobody is left at the door; it rings at once for
//! who came in between.

use std::{io, os::fd::OwnedFd};

use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Bells that are taken note of at a time.
const RINGS_MAX: usize = 64;

const ONCE: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

/// The bells of one thread.
#[derive(Debug)]
pub(crate) struct Bells {
    epoll: AsyncFd<OwnedFd>,
}

impl Bells {
    /// None yet. To be called in the thread's runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; what owns a descriptor does not close it earlier"
        )]
        let epoll = AsyncFd::with_interest(epoll, Interest::READABLE)?;
        Ok(Self { epoll })
    }

    /// Rings this number when somebody has come there, until the bell is taken down.
    pub(crate) fn hang(&self, number: u64, listener: &OwnedFd) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, listener, EventData::new_u64(number), ONCE)?)
    }

    /// Rings once more when somebody comes, or has come already.
    pub(crate) fn wind_up(&self, number: u64, listener: &OwnedFd) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, listener, EventData::new_u64(number), ONCE)?)
    }

    /// Takes a bell away. To be done before the listener is closed: others have copies of it, which would keep the bell.
    pub(crate) fn take_down(&self, listener: &OwnedFd) {
        // Fails for one that has gone already.
        let _ = epoll::delete(&self.epoll, listener);
    }

    /// Waits until bells ring, and gives their numbers. Nothing is lost when it is dropped.
    pub(crate) async fn rung(&self) -> io::Result<Vec<u64>> {
        loop {
            let mut ready = self.epoll.readable().await?;
            let mut rings = Vec::with_capacity(RINGS_MAX);
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            let taken = ready.try_io(|epoll| {
                match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut rings), Some(&at_once))? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(()),
                }
            });
            if let Ok(taken) = taken {
                taken?;
                return Ok(rings.iter().map(|ring: &Event| ring.data.u64()).collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;

    fn door() -> (OwnedFd, impl Fn() -> TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener.into(), move || TcpStream::connect(address).unwrap())
    }

    async fn is_silent(bells: &Bells) -> bool {
        tokio::time::timeout(Duration::from_millis(50), bells.rung()).await.is_err()
    }

    #[tokio::test]
    async fn a_bell_rings_once_until_it_is_wound_up() {
        let bells = Bells::new().unwrap();
        let (door, knock) = door();
        bells.hang(7, &door).unwrap();
        assert!(is_silent(&bells).await, "nobody has come");
        let _first = knock();
        assert_eq!(bells.rung().await.unwrap(), [7]);
        let _second = knock();
        assert!(is_silent(&bells).await, "it was answered already");
        bells.wind_up(7, &door).unwrap();
        assert_eq!(bells.rung().await.unwrap(), [7], "they are still there");
    }

    #[tokio::test]
    async fn a_bell_that_was_taken_down_is_silent() {
        let bells = Bells::new().unwrap();
        let (door, knock) = door();
        bells.hang(7, &door).unwrap();
        let _copy = door.try_clone().unwrap();
        bells.take_down(&door);
        let _client = knock();
        assert!(is_silent(&bells).await);
        assert!(bells.wind_up(7, &door).is_err(), "there is none");
    }

    /// More than are taken note of at a time.
    #[tokio::test]
    async fn no_bell_is_forgotten() {
        let bells = Bells::new().unwrap();
        let doors: Vec<_> = (0..2 * RINGS_MAX as u64 + 1).map(|number| (number, door())).collect();
        for (number, (door, _)) in &doors {
            bells.hang(*number, door).unwrap();
        }
        let _clients: Vec<_> = doors.iter().map(|(_, (_, knock))| knock()).collect();
        let mut rung = Vec::new();
        while rung.len() < doors.len() {
            rung.extend(bells.rung().await.unwrap());
        }
        rung.sort_unstable();
        assert_eq!(rung, doors.iter().map(|(number, _)| *number).collect::<Vec<_>>());
    }
}

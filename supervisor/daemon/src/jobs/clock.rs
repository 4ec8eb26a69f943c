//! The wall clock: it wakes the loop when an instant comes, and when it is set (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). It goes on
//! while the host sleeps, which the clock of other timers does not.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, watch},
};
use watt_core::jobs::Wall;

use super::News;

/// Without a timer of the kernel's the clock is looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// When the loop is to be woken.
#[derive(Debug)]
pub(super) struct Clock {
    wanted: watch::Sender<Option<Wall>>,
}

impl Clock {
    pub(super) fn start(news: mpsc::Sender<News>) -> Clock {
        let (wanted, receiver) = watch::channel(None);
        tokio::spawn(async move {
            if let Err(error) = wake(receiver.clone(), &news).await {
                tracing::warn!("the wall clock is looked at every second, there is no timer for it: {error}");
                look(receiver, &news).await;
            }
        });
        Clock { wanted }
    }

    /// Asks to be woken then, also when it is the same as before.
    pub(super) fn wake_at(&self, at: Option<Wall>) {
        self.wanted.send_replace(at);
    }
}

/// What tokio can wait for.
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

async fn wake(mut wanted: watch::Receiver<Option<Wall>>, news: &mpsc::Sender<News>) -> io::Result<()> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the timer owns its descriptor until it is dropped"
    )]
    let timer = AsyncFd::with_interest(Timer(timer), Interest::READABLE)?;
    loop {
        let at = *wanted.borrow_and_update();
        set(&timer.get_ref().0, at)?;
        loop {
            tokio::select! {
                changed = wanted.changed() => match changed {
                    Ok(()) => break,
                    // The loop has ended.
                    Err(_) => return Ok(()),
                },
                ready = timer.readable() => {
                    let mut ready = ready?;
                    match timer.get_ref().0.wait() {
                        // It has come, or the clock was set.
                        Ok(()) | Err(Errno::ECANCELED) => {}
                        Err(Errno::EAGAIN) => {
                            ready.clear_ready();
                            continue;
                        }
                        Err(error) => return Err(error.into()),
                    }
                    ready.clear_ready();
                    if news.send(News::Clock).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Sets the timer. One that is for nothing is woken by changes of the clock alone.
fn set(timer: &TimerFd, at: Option<Wall>) -> io::Result<()> {
    // A time of 0 would turn it off, and the kernel's own times end in 2262.
    let ms = at.map_or(i64::MAX, |at| at.0).clamp(1, 9_000_000_000_000);
    let time = TimeSpec::new(ms / 1000, ms % 1000 * 1_000_000);
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(time), flags)?;
    Ok(())
}

/// The same without a timer of the kernel's.
async fn look(mut wanted: watch::Receiver<Option<Wall>>, news: &mpsc::Sender<News>) {
    loop {
        let at = *wanted.borrow_and_update();
        let wait = at.map_or(LOOK, |at| at.since(super::now())).min(LOOK);
        match tokio::time::timeout(wait, wanted.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) if news.send(News::Clock).await.is_err() => return,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_wakes_at_the_time_and_again_when_it_is_asked_to() {
        let (sender, mut news) = mpsc::channel(1);
        let clock = Clock::start(sender);
        for _ in 0..3 {
            let at = Wall(super::super::now().0 + 20);
            clock.wake_at(Some(at));
            assert!(matches!(news.recv().await, Some(News::Clock)));
            assert!(super::super::now() >= at);
        }
        // One that has passed wakes at once.
        clock.wake_at(Some(Wall(0)));
        assert!(matches!(news.recv().await, Some(News::Clock)));
        clock.wake_at(None);
        drop(clock);
        assert!(news.recv().await.is_none());
    }

    #[tokio::test]
    async fn it_wakes_without_a_timer_as_well() {
        let (sender, mut news) = mpsc::channel(1);
        let (wanted, receiver) = watch::channel(Some(Wall(super::super::now().0 + 20)));
        tokio::spawn(async move { look(receiver, &sender).await });
        assert!(matches!(news.recv().await, Some(News::Clock)));
        drop(wanted);
        while news.recv().await.is_some() {}
    }
}

//! Deadlines by a coarse clock.
//!
//! A request sets several deadlines and nearly all of them are moved before they pass. With the runtime's timers
//! each move would lock and re-queue; measured 0.3 µs per request. Here a deadline is a number in a cell: setting it
//! is one store. One task per thread ticks, looks at every connection's number, and wakes those whose time is over.
//! Looking at 10,000 connections ten times a second costs less than a thousandth of a core.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use crate::room::Pool;

/// How coarse: a deadline passes up to this much late, never early.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// A time or a length of time, in [`TICK`]s. As a time it counts from the clock's start; 32 bits last 13 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(u32);

impl Ticks {
    /// When the clock started.
    pub(crate) const START: Ticks = Ticks(0);

    /// Never, as a deadline; without end, as a length.
    pub(crate) const NEVER: Ticks = Ticks(u32::MAX);

    /// Rounded up; zero is none at all, which is what a timeout of 0 means in the snapshot.
    pub(crate) const fn from_ms(ms: u64) -> Ticks {
        let ticks = ms.div_ceil(TICK.as_millis() as u64);
        if ticks == 0 || ticks >= u32::MAX as u64 { Ticks::NEVER } else { Ticks(ticks as u32) }
    }

    /// This time moved by a length.
    pub(crate) const fn plus(self, length: Ticks) -> Ticks {
        Ticks(self.0.saturating_add(length.0))
    }

    /// In milliseconds.
    pub(crate) const fn as_ms(self) -> u64 {
        self.0 as u64 * TICK.as_millis() as u64
    }

    /// The length since an earlier time.
    pub(crate) const fn since(self, earlier: Ticks) -> Ticks {
        Ticks(self.0.saturating_sub(earlier.0))
    }
}

/// What a connection waits for that could do without: the next request, or the rest of a request's head. Who waits for
/// nothing yet goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spare {
    Idle,
    Head,
}

/// The part of the spare connections that is let go at once. To look for them takes a look at all.
const LET_GO_PART: usize = 64;

/// One thread's clock.
pub(crate) struct Clock {
    start: Instant,
    now: Cell<Ticks>,
    alarms: RefCell<Vec<Rc<AlarmState>>>,
    ticking: Cell<bool>,
}

impl Clock {
    pub(crate) fn new() -> Rc<Clock> {
        Rc::new(Clock {
            start: Instant::now(),
            now: Cell::new(Ticks(0)),
            alarms: RefCell::default(),
            ticking: Cell::new(false),
        })
    }

    /// The time of the last tick. True only while an alarm exists, which is so wherever a request is.
    pub(crate) fn now(&self) -> Ticks {
        self.now.get()
    }

    /// An alarm for one connection. The first one makes the clock tick, after the last one it rests.
    pub(crate) fn alarm(self: &Rc<Self>) -> Alarm {
        let state = Rc::new(AlarmState {
            deadline: Cell::new(Ticks::NEVER),
            spare: Cell::new(None),
            waker: RefCell::new(None),
        });
        self.alarms.borrow_mut().push(state.clone());
        if !self.ticking.replace(true) {
            self.read();
            tokio::task::spawn_local(self.clone().tick());
        }
        Alarm { clock: self.clone(), state }
    }

    /// Wakes the task of every alarm, for news that concerns them all.
    pub(crate) fn wake_all(&self) {
        for state in self.alarms.borrow().iter() {
            state.wake();
        }
    }

    /// Has the alarms pass at once that would pass next among the spare ones of a pool, a few of them. Returns how many.
    pub(crate) fn let_go(&self, pool: Pool) -> usize {
        let alarms = self.alarms.borrow();
        let now = self.now();
        let is_spare = |state: &&Rc<AlarmState>| {
            let in_pool = state.spare.get().is_some_and(|(other, _)| other == pool);
            in_pool && state.deadline.get() > now && Rc::strong_count(state) > 1
        };
        let mut spare: Vec<_> = alarms.iter().filter(is_spare).collect();
        let count = spare.len().div_ceil(LET_GO_PART);
        if let Some(last) = count.checked_sub(1) {
            spare.select_nth_unstable_by_key(last, |state| (state.spare.get(), state.deadline.get()));
        }
        for state in &spare[..count] {
            state.deadline.set(Ticks::START);
            state.wake();
        }
        count
    }

    fn read(&self) {
        let elapsed = self.start.elapsed().as_millis() / TICK.as_millis();
        self.now.set(Ticks(u32::try_from(elapsed).unwrap_or(u32::MAX - 1)));
    }

    async fn tick(self: Rc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            self.read();
            let now = self.now.get();
            let mut alarms = self.alarms.borrow_mut();
            alarms.retain(|state| {
                if state.deadline.get() <= now {
                    state.wake();
                }
                // The other owner is the connection; without it the alarm is over.
                Rc::strong_count(state) > 1
            });
            if alarms.is_empty() {
                self.ticking.set(false);
                return;
            }
        }
    }
}

struct AlarmState {
    deadline: Cell<Ticks>,
    spare: Cell<Option<(Pool, Spare)>>,
    waker: RefCell<Option<Waker>>,
}

impl AlarmState {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// The one deadline of a connection's task.
pub(crate) struct Alarm {
    clock: Rc<Clock>,
    state: Rc<AlarmState>,
}

impl Alarm {
    /// Passes this long from now. One tick is added, because the present one is partly over.
    pub(crate) fn set(&self, after: Ticks) {
        self.state.deadline.set(self.clock.now().plus(after).plus(Ticks(1)));
    }

    /// Passes no more.
    pub(crate) fn clear(&self) {
        self.state.deadline.set(Ticks::NEVER);
    }

    /// From now on the connection is spare, or not any more.
    pub(crate) fn mark(&self, spare: Option<(Pool, Spare)>) {
        self.state.spare.set(spare);
    }

    /// Whether it passed by [`Clock::let_go`].
    pub(crate) fn is_let_go(&self) -> bool {
        self.state.deadline.get() == Ticks::START
    }

    /// Ready once the deadline passed. Otherwise this task is woken then.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.deadline.get() <= self.clock.now() {
            return Poll::Ready(());
        }
        let mut waker = self.state.waker.borrow_mut();
        match &mut *waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            other => *other = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn with_clock<F: Future<Output = ()>>(test: impl FnOnce(Rc<Clock>) -> F) {
        tokio::task::LocalSet::new().run_until(test(Clock::new())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_passes_late_by_a_tick_at_most_and_never_early() {
        with_clock(async |clock| {
            let alarm = clock.alarm();
            let start = Instant::now();
            alarm.set(Ticks::from_ms(1_000));
            poll_fn(|cx| alarm.poll(cx)).await;
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(1_000) && took <= Duration::from_millis(1_250), "{took:?}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_moved_deadline_is_the_later_one() {
        with_clock(async |clock| {
            let alarm = clock.alarm();
            let start = Instant::now();
            alarm.set(Ticks::from_ms(500));
            tokio::time::sleep(Duration::from_millis(400)).await;
            alarm.set(Ticks::from_ms(500));
            poll_fn(|cx| alarm.poll(cx)).await;
            assert!(start.elapsed() >= Duration::from_millis(900));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_rests_without_alarms_and_is_right_after_it() {
        with_clock(async |clock| {
            drop(clock.alarm());
            tokio::time::sleep(TICK * 3).await;
            assert!(!clock.ticking.get());
            tokio::time::sleep(Duration::from_secs(60)).await;
            let alarm = clock.alarm();
            assert!(clock.now() >= Ticks::from_ms(60_000));
            alarm.set(Ticks::from_ms(200));
            poll_fn(|cx| alarm.poll(cx)).await;
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_is_let_go_first() {
        with_clock(async |clock| {
            let alarm = |pool, spare: Option<Spare>, ms| {
                let alarm = clock.alarm();
                alarm.set(Ticks::from_ms(ms));
                alarm.mark(spare.map(|spare| (pool, spare)));
                alarm
            };
            let alarms = [
                alarm(Pool::Outside, None, 1_000),
                alarm(Pool::Inside, Some(Spare::Idle), 1_000),
                alarm(Pool::Outside, Some(Spare::Head), 1_000),
                alarm(Pool::Outside, Some(Spare::Idle), 3_000),
                alarm(Pool::Outside, Some(Spare::Idle), 2_000),
            ];
            let let_go = || {
                let count = clock.let_go(Pool::Outside);
                (count, alarms.each_ref().map(Alarm::is_let_go))
            };
            assert_eq!(let_go(), (1, [false, false, false, false, true]));
            assert_eq!(let_go(), (1, [false, false, false, true, true]));
            assert_eq!(let_go(), (1, [false, false, true, true, true]));
            assert_eq!(
                let_go(),
                (0, [false, false, true, true, true]),
                "the others are not spare, or another pool's"
            );
            let many: Vec<Alarm> =
                (0..LET_GO_PART as u64 + 1).map(|_| alarm(Pool::Outside, Some(Spare::Idle), 9)).collect();
            assert_eq!(clock.let_go(Pool::Outside), 2);
            drop(many);
            assert_eq!(clock.let_go(Pool::Outside), 0, "those that ended are no more");
        })
        .await;
    }

    #[test]
    fn zero_is_no_timeout() {
        assert_eq!(Ticks::from_ms(0), Ticks::NEVER);
        assert_eq!(Ticks::from_ms(1), Ticks(1));
        assert_eq!(Ticks::from_ms(u64::MAX), Ticks::NEVER);
    }
}

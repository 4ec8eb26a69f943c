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

    /// No time at all, as a length.
    pub(crate) const NONE: Ticks = Ticks(0);

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

/// Whether a connection could do without. Busy → waits: for a request, or for a response that its client may not want
/// any longer. Waits → let go: there is no room. Both → busy: its request is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Busy,
    /// Since before all that have a higher turn, or it is needed less than they are.
    Waits {
        pool: Pool,
        turn: u64,
    },
    LetGo {
        pool: Pool,
    },
}

/// Added to the turn of all but those that are needed least.
const WAS_OF_USE: u64 = 1 << 62;

/// Added to the turn of those whose request is under way, and whose client is what is waited for: room is made there when there is none
/// to be made anywhere else.
const LAGS: u64 = 1 << 63;

/// The part of the spare connections that is let go at once. To look for them takes a look at all.
const LET_GO_PART: usize = 64;

/// One thread's clock.
pub(crate) struct Clock {
    start: Instant,
    now: Cell<Ticks>,
    /// How often a connection began to wait.
    turns: Cell<u64>,
    alarms: RefCell<Vec<Rc<AlarmState>>>,
    ticking: Cell<bool>,
}

impl Clock {
    pub(crate) fn new() -> Rc<Clock> {
        Rc::new(Clock {
            start: Instant::now(),
            now: Cell::new(Ticks(0)),
            turns: Cell::new(0),
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
            need: Cell::new(Need::Busy),
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

    /// Has the alarms pass at once of those of a pool that have waited longest, a few of them. None while some that
    /// were told so have yet to go. Returns how many.
    pub(crate) fn let_go(&self, pool: Pool) -> usize {
        let alarms = self.alarms.borrow();
        let mut waiting = Vec::new();
        for state in alarms.iter().filter(|state| state.is_used()) {
            match state.need.get() {
                Need::Waits { pool: of, turn } if of == pool => waiting.push((turn, state)),
                Need::LetGo { pool: of } if of == pool => return 0,
                Need::Busy | Need::Waits { .. } | Need::LetGo { .. } => {}
            }
        }
        // With a request under way no more go than have to.
        let count = match waiting.iter().filter(|(turn, _)| *turn < LAGS).count() {
            0 => waiting.len().min(1),
            spare => spare.div_ceil(LET_GO_PART),
        };
        if let Some(last) = count.checked_sub(1) {
            waiting.select_nth_unstable_by_key(last, |(turn, _)| *turn);
        }
        for (_, state) in &waiting[..count] {
            state.need.set(Need::LetGo { pool });
            state.wake();
        }
        count
    }

    /// The time now, also where no alarm exists.
    pub(crate) fn look(&self) -> Ticks {
        self.read();
        self.now.get()
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
                state.is_used()
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
    need: Cell<Need>,
    waker: RefCell<Option<Waker>>,
}

impl AlarmState {
    /// The other owner is the connection; without it the alarm is over.
    fn is_used(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1
    }

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

    /// A wait for a client of this pool begins. It may take this long, or less when there is no room.
    pub(crate) fn wait(&self, pool: Pool, timeout: Ticks) {
        self.set(timeout);
        self.may_let_go(pool);
    }

    /// The same for a connection that has been of no use to anybody yet: room is made here before it is made anywhere else.
    pub(crate) fn wait_to_begin(&self, pool: Pool, timeout: Ticks) {
        self.set(timeout);
        let turn = self.next_turn();
        self.state.need.set(Need::Waits { pool, turn });
    }

    /// From now on room may be made here.
    pub(crate) fn may_let_go(&self, pool: Pool) {
        let turn = WAS_OF_USE + self.next_turn();
        self.state.need.set(Need::Waits { pool, turn });
    }

    /// A request is under way here and its client is what is waited for, since the turn that is noted there. That somebody was told to go is
    /// not taken back by it.
    pub(crate) fn lags(&self, pool: Pool, since: &mut Option<u64>) {
        if !self.is_let_go() {
            let turn = LAGS + *since.get_or_insert_with(|| self.next_turn());
            self.state.need.set(Need::Waits { pool, turn });
        }
    }

    fn next_turn(&self) -> u64 {
        let turn = self.clock.turns.get();
        self.clock.turns.set(turn + 1);
        turn
    }

    /// From now on it may not.
    pub(crate) fn busy(&self) {
        self.state.need.set(Need::Busy);
    }

    /// Whether this connection is to go because there is no room.
    pub(crate) fn is_let_go(&self) -> bool {
        matches!(self.state.need.get(), Need::LetGo { .. })
    }

    /// Ready once the deadline passed, or when the connection is let go. Otherwise this task is woken then.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.deadline.get() <= self.clock.now() {
            return Poll::Ready(());
        }
        self.poll_let_go(cx)
    }

    /// Ready when the connection is let go. Otherwise this task is woken then, and when the deadline passes.
    pub(crate) fn poll_let_go(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_let_go() {
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
            let waits = |pool| {
                let alarm = clock.alarm();
                alarm.wait(pool, Ticks::from_ms(1_000));
                alarm
            };
            let busy = clock.alarm();
            let service = waits(Pool::Services);
            let [first, second] = [waits(Pool::Gateway), waits(Pool::Gateway)];
            // A later deadline, as when a head has begun to come, is no later turn.
            first.set(Ticks::from_ms(30_000));
            assert_eq!(clock.let_go(Pool::Gateway), 1);
            assert_eq!([&first, &second].map(Alarm::is_let_go), [true, false]);
            assert_eq!(clock.let_go(Pool::Gateway), 0, "one is on its way out");
            drop(first);
            let begins = clock.alarm();
            begins.wait_to_begin(Pool::Gateway, Ticks::from_ms(1_000));
            assert_eq!(clock.let_go(Pool::Gateway), 1, "one that has only begun");
            assert_eq!([&begins, &second].map(Alarm::is_let_go), [true, false]);
            drop(begins);
            let third = waits(Pool::Gateway);
            second.wait(Pool::Gateway, Ticks::from_ms(1_000));
            assert_eq!(clock.let_go(Pool::Gateway), 1);
            assert_eq!([&second, &third].map(Alarm::is_let_go), [false, true], "a new wait is a new turn");
            third.busy();
            assert_eq!(clock.let_go(Pool::Gateway), 1, "its request came just in time");
            let (lags, mut since) = (clock.alarm(), None);
            lags.lags(Pool::Gateway, &mut since);
            drop(second);
            let idle = waits(Pool::Gateway);
            assert_eq!(clock.let_go(Pool::Gateway), 1, "one without a request goes before one with");
            assert_eq!([&idle, &lags].map(Alarm::is_let_go), [true, false]);
            drop(idle);
            let (later, mut later_since) = (clock.alarm(), None);
            later.lags(Pool::Gateway, &mut later_since);
            lags.busy();
            lags.lags(Pool::Gateway, &mut since);
            assert_eq!(clock.let_go(Pool::Gateway), 1, "a byte now and then is no new turn");
            lags.lags(Pool::Gateway, &mut since);
            assert_eq!([&lags, &later].map(Alarm::is_let_go), [true, false]);
            lags.busy();
            later.busy();
            assert_eq!(clock.let_go(Pool::Gateway), 0, "the others are busy, or another pool's");
            assert!(![busy, service, third].iter().any(Alarm::is_let_go));
            let many: Vec<Alarm> = (0..=LET_GO_PART).map(|_| waits(Pool::Gateway)).collect();
            lags.lags(Pool::Gateway, &mut since);
            assert_eq!(clock.let_go(Pool::Gateway), 2, "of {LET_GO_PART} and one that wait");
            drop(many);
            let mut slow: Vec<Alarm> = (0..LET_GO_PART * 2).map(|_| clock.alarm()).collect();
            for alarm in &slow {
                alarm.lags(Pool::Gateway, &mut None);
            }
            assert_eq!(clock.let_go(Pool::Gateway), 1, "one alone with a request under way");
            slow.clear();
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

//! How many connections there may be, and who makes room when there are as many.
//!
//! Every connection takes a descriptor, and mostly a second one at a worker. So each thread has places for
//! connections from outside, of services, of operators and of strangers, which can not take each other's. When all
//! are taken and one more comes, the connection goes that has waited longest for a request. Clients that hold
//! connections without asking for anything, or let a head trickle in, do not keep others out: they lose theirs to
//! whoever comes. A service has a share of its pool's places, whichever of its listeners its connections come by.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::timer::{Clock, Ticks};

/// How long those who are to go are waited for before the next ones are told to.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How often it is told that there is no room.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Whose places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Clients of the gateway.
    Gateway,
    /// Services, and who comes to a listener of theirs until it is known who that is.
    Services,
    /// Operators.
    Operators,
    /// Programs on the host's network that are none of the application's.
    Strangers,
}

/// How many connections there may be at a time on one thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionsMax {
    /// Of the gateway's clients, and as many of services.
    many: usize,
    /// Of operators, and as many of strangers.
    few: usize,
    /// Of one service.
    share: usize,
}

impl ConnectionsMax {
    /// Shares of the descriptors this process may open: four fifths for connections, of which half lead to workers,
    /// and a fifth for listeners and all else. A service may have a quarter of its pool, so that one alone never
    /// fills it.
    pub(crate) fn new(descriptors_max: u64, threads: usize) -> Self {
        let descriptors_max = usize::try_from(descriptors_max).unwrap_or(usize::MAX);
        // Fewer than six could not be divided.
        let all = (descriptors_max / 5 * 2 / threads.max(1)).clamp(6, 1 << 21);
        let few = (all / 16).max(1);
        let many = all / 2 - few;
        Self { many, few, share: (many / 4).clamp(1, 4096) }
    }

    fn of(self, pool: Pool) -> usize {
        match pool {
            Pool::Gateway | Pool::Services => self.many,
            Pool::Operators | Pool::Strangers => self.few,
        }
    }
}

/// The places of one thread.
pub(crate) struct Rooms {
    clock: Rc<Clock>,
    max: ConnectionsMax,
    rooms: [Room; 4],
    /// By service. As many as there ever were.
    shares: RefCell<HashMap<Rc<str>, Arc<Semaphore>>>,
}

struct Room {
    pool: Pool,
    places: Arc<Semaphore>,
    /// Who has it may let others go. Each of several at once would let as many go as all of them need.
    turn: Semaphore,
    let_go: Cell<usize>,
    /// When others were let go for a stream. To look for them takes a look at all, and streams that find no room cost their client next to
    /// nothing.
    let_go_for_stream: Cell<Option<Ticks>>,
    told: Cell<Option<Instant>>,
}

/// Taken by one connection until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pool: Pool,
    place: OwnedSemaphorePermit,
    _share: Option<OwnedSemaphorePermit>,
}

impl Rooms {
    pub(crate) fn new(clock: Rc<Clock>, max: ConnectionsMax) -> Self {
        let room = |pool| Room {
            pool,
            places: Arc::new(Semaphore::new(max.of(pool))),
            turn: Semaphore::new(1),
            let_go: Cell::new(0),
            let_go_for_stream: Cell::new(None),
            told: Cell::new(None),
        };
        let rooms = [Pool::Gateway, Pool::Services, Pool::Operators, Pool::Strangers].map(room);
        Self { clock, max, rooms, shares: RefCell::default() }
    }

    /// Whether a newcomer would have to wait, for a place or for one of its service's share.
    pub(crate) fn is_full(&self, pool: Pool, service: Option<&Rc<str>>) -> bool {
        let share_is_full = service.is_some_and(|service| self.share(service).available_permits() == 0);
        share_is_full || self.room(pool).places.available_permits() == 0
    }

    /// A place for a connection that comes. Lets others go while there is none. Who has all of its service's share
    /// waits until one of those ends.
    pub(crate) async fn enter(&self, pool: Pool, service: Option<&Rc<str>>) -> Place {
        let share = match service {
            // The semaphore is never closed.
            Some(service) => self.share(service).acquire_owned().await.ok(),
            None => None,
        };
        Place { pool, place: self.room(pool).enter(&self.clock).await, _share: share }
    }

    /// A place for one more stream of a connection: it may need a worker's connection for itself. None when there is none.
    pub(crate) fn one_more(&self, pool: Pool, service: Option<&Rc<str>>) -> Option<Place> {
        let share = match service {
            Some(service) => Some(self.share(service).try_acquire_owned().ok()?),
            None => None,
        };
        Some(Place { pool, place: self.room(pool).try_one_more(&self.clock)?, _share: share })
    }

    /// The place for somebody who has come in by another's and turned out to be of this pool, or this service. None
    /// when there is none: to wait would keep the door shut for the others.
    pub(crate) fn exchange(&self, door: Place, pool: Pool, service: Option<&Rc<str>>) -> Option<Place> {
        let share = match service {
            Some(service) => Some(self.share(service).try_acquire_owned().ok()?),
            None => None,
        };
        let place = if door.pool == pool { door.place } else { self.room(pool).try_enter(&self.clock)? };
        Some(Place { pool, place, _share: share })
    }

    fn room(&self, pool: Pool) -> &Room {
        &self.rooms[pool as usize]
    }

    fn share(&self, service: &Rc<str>) -> Arc<Semaphore> {
        let mut shares = self.shares.borrow_mut();
        let new = || Arc::new(Semaphore::new(self.max.share));
        Arc::clone(shares.entry(Rc::clone(service)).or_insert_with(new))
    }
}

impl Room {
    async fn enter(&self, clock: &Clock) -> OwnedSemaphorePermit {
        let _turn = self.turn.acquire().await;
        loop {
            if let Some(place) = self.try_enter(clock) {
                return place;
            }
            // The semaphore is never closed.
            if let Ok(Ok(place)) = timeout(LOOK_AGAIN_AFTER, Arc::clone(&self.places).acquire_owned()).await {
                return place;
            }
        }
    }

    /// Makes room for the next one when there is none.
    fn try_enter(&self, clock: &Clock) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        self.let_go.set(self.let_go.get() + clock.let_go(self.pool));
        self.tell();
        None
    }

    /// The same, but room is made once in a tick only.
    fn try_one_more(&self, clock: &Clock) -> Option<OwnedSemaphorePermit> {
        if self.let_go_for_stream.get() == Some(clock.now()) {
            return Arc::clone(&self.places).try_acquire_owned().ok();
        }
        let place = self.try_enter(clock);
        if place.is_none() {
            self.let_go_for_stream.set(Some(clock.now()));
        }
        place
    }

    fn tell(&self) {
        let now = Instant::now();
        if self.told.get().is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told.set(Some(now));
            let (pool, closed) = (self.pool, self.let_go.replace(0));
            tracing::warn!(
                ?pool,
                closed,
                "there are as many connections as may be; those that wait for a request make room"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pools_leave_room_for_the_rest() {
        for (descriptors, threads) in
            [(1 << 20, 1), (1 << 20, 64), (65_536, 4), (4_096, 64), (1_024, 64), (1_024, 2), (1_024, 1)]
        {
            let max = ConnectionsMax::new(descriptors, threads);
            let used = 2 * 2 * (max.many + max.few) * threads;
            assert!(used as u64 <= descriptors * 4 / 5, "{descriptors} for {threads} threads: {max:?}");
            assert!(max.share < max.many && max.few > 0, "{descriptors} for {threads} threads: {max:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_has_one_share_and_others_have_places_left() {
        let rooms = Rooms::new(Clock::new(), ConnectionsMax { many: 8, few: 1, share: 2 });
        let [one, other] = ["one", "other"].map(Rc::<str>::from);
        let mut taken = Vec::new();
        for _ in 0..2 {
            taken.push(rooms.enter(Pool::Services, Some(&one)).await);
        }
        assert!(rooms.is_full(Pool::Services, Some(&one)) && !rooms.is_full(Pool::Services, Some(&other)));
        let wait = timeout(Duration::from_secs(9), rooms.enter(Pool::Services, Some(&one)));
        assert!(wait.await.is_err(), "its share is taken");
        taken.push(rooms.enter(Pool::Services, Some(&other)).await);

        let door = rooms.enter(Pool::Services, None).await;
        assert!(rooms.exchange(door, Pool::Services, Some(&one)).is_none());
        let door = rooms.enter(Pool::Services, None).await;
        let stranger = rooms.exchange(door, Pool::Strangers, None).expect("there is one place");
        let door = rooms.enter(Pool::Services, None).await;
        assert!(rooms.exchange(door, Pool::Strangers, None).is_none(), "and no other");
        assert_eq!(rooms.room(Pool::Services).places.available_permits(), 5, "doors stay open");
        drop((stranger, taken));
        assert!(!rooms.is_full(Pool::Strangers, None) && !rooms.is_full(Pool::Services, Some(&one)));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_without_a_place_let_others_go_now_and_then_only() {
        let clock = Clock::new();
        let rooms = Rooms::new(Rc::clone(&clock), ConnectionsMax { many: 1, few: 1, share: 1 });
        let test = async {
            let waits = || {
                let alarm = clock.alarm();
                alarm.wait(Pool::Gateway, Ticks::from_ms(1_000_000));
                alarm
            };
            let _place = rooms.enter(Pool::Gateway, None).await;
            let (first, second) = (waits(), waits());
            assert!(rooms.one_more(Pool::Gateway, None).is_none() && first.is_let_go());
            drop(first);
            assert!(rooms.one_more(Pool::Gateway, None).is_none() && !second.is_let_go());
            tokio::time::sleep(LOOK_AGAIN_AFTER * 2).await;
            assert!(rooms.one_more(Pool::Gateway, None).is_none() && second.is_let_go());
        };
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn streams_have_places_as_connections_have() {
        let rooms = Rooms::new(Clock::new(), ConnectionsMax { many: 3, few: 1, share: 2 });
        let one: Rc<str> = "one".into();
        let connection = rooms.enter(Pool::Services, Some(&one)).await;
        let stream = rooms.one_more(Pool::Services, Some(&one));
        assert!(
            stream.is_some() && rooms.one_more(Pool::Services, Some(&one)).is_none(),
            "its share is taken"
        );
        let others = rooms.one_more(Pool::Services, None);
        assert!(others.is_some() && rooms.one_more(Pool::Services, None).is_none(), "all are taken");
        drop((connection, stream));
        assert!(rooms.one_more(Pool::Services, Some(&one)).is_some());
    }
}

//! Queues, and what becomes of those in them.

use std::future::Future;

use super::*;

fn gate(in_flight_max: usize, queue_max: usize) -> (Gates, Arc<Gate>) {
    let mut gates = Gates::new();
    let gate = ruled(&mut gates, rules(in_flight_max, queue_max)).unwrap();
    (gates, gate)
}

/// With these rules in the next snapshot.
fn ruled(gates: &mut Gates, traffic: mesh::Traffic) -> Option<Arc<Gate>> {
    let service = mesh::Service { traffic: traffic.into(), ..mesh::Service::default() };
    let services = BTreeMap::from([("api".to_owned(), service)]);
    renew(gates, &Snapshot { services, ..Snapshot::default() });
    gates.get("api").cloned()
}

fn rules(in_flight_max: usize, queue_max: usize) -> mesh::Traffic {
    let bulkhead =
        mesh::Bulkhead { in_flight_max, queue_max, queue_timeout_ms: 1_000, ..mesh::Bulkhead::default() };
    mesh::Traffic { bulkhead: Some(bulkhead), ..mesh::Traffic::default() }
}

#[track_caller]
fn passes(gate: &Arc<Gate>) -> Ticket {
    match gate.enter(URGENCY) {
        Ok(Entry::Passes(ticket)) => ticket,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn waits(gate: &Arc<Gate>, urgency: u8) -> Waiting {
    match gate.enter(urgency) {
        Ok(Entry::Waits(waiting)) => waiting,
        other => panic!("{other:?}"),
    }
}

fn is_full(gate: &Arc<Gate>, urgency: u8) -> bool {
    matches!(gate.enter(urgency), Err(Refused::Full))
}

/// How many wait, and how many are in flight.
fn numbers(gate: &Gate) -> (usize, usize) {
    let state = gate.state();
    (state.waiting.len(), state.in_flight)
}

async fn now<T>(doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::ZERO, doing).await.expect("at once")
}

#[tokio::test(start_paused = true)]
async fn as_many_are_in_flight_as_may_and_the_first_that_waits_is_next() {
    let (_gates, gate) = gate(2, 2);
    let (one, other) = (passes(&gate), passes(&gate));
    let (first, second) = (waits(&gate, URGENCY), waits(&gate, URGENCY));
    assert!(is_full(&gate, URGENCY));
    drop(one);
    assert_eq!(numbers(&gate), (1, 2), "the first has its turn");
    let first = now(first.pass()).await.unwrap();
    drop(other);
    let second = now(second.pass()).await.unwrap();
    assert_eq!(gate.state().in_flight, 2);
    drop((first, second));
    assert_eq!(gate.state().in_flight, 0);
    drop(passes(&gate));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_or_goes_leaves_no_trace() {
    let (_gates, gate) = gate(1, 2);
    let one = passes(&gate);
    let (late, gone) = (waits(&gate, URGENCY), waits(&gate, URGENCY));
    drop(gone);
    let start = Instant::now();
    assert_eq!(late.pass().await.unwrap_err(), Refused::Late);
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    assert!(gate.state().waiting.is_empty());
    // One that goes at the moment when its turn has come gives it to the next.
    let (gone, next) = (waits(&gate, URGENCY), waits(&gate, URGENCY));
    drop(one);
    drop(gone);
    let next = now(next.pass()).await.unwrap();
    assert_eq!(gate.state().in_flight, 1);
    drop(next);
    assert_eq!(gate.state().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn the_least_urgent_make_room_in_a_full_queue_and_the_most_urgent_are_next() {
    let (_gates, gate) = gate(1, 2);
    let one = passes(&gate);
    let (low, lower) = (waits(&gate, 5), waits(&gate, 6));
    assert!(is_full(&gate, 6), "it is as urgent as the last one");
    let high = waits(&gate, 1);
    assert_eq!(now(lower.pass()).await.unwrap_err(), Refused::Shed);
    let higher = waits(&gate, 0);
    assert_eq!(now(low.pass()).await.unwrap_err(), Refused::Shed);
    assert!(is_full(&gate, 1));
    drop(one);
    let higher = now(higher.pass()).await.unwrap();
    drop(higher);
    now(high.pass()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_limit_holds_at_once() {
    let (mut gates, gate) = gate(1, 5);
    let one = passes(&gate);
    let (first, second) = (waits(&gate, URGENCY), waits(&gate, URGENCY));
    assert!(Arc::ptr_eq(&gate, &ruled(&mut gates, rules(2, 5)).unwrap()));
    let first = now(first.pass()).await.unwrap();
    assert_eq!(gate.state().waiting.len(), 1);
    ruled(&mut gates, rules(1, 5));
    drop(one);
    assert_eq!(numbers(&gate), (1, 1), "one more than may");
    drop(first);
    let second = now(second.pass()).await.unwrap();
    let third = waits(&gate, URGENCY);
    assert!(ruled(&mut gates, mesh::Traffic::default()).is_none());
    let third = now(third.pass()).await.expect("there is no limit any longer");
    drop((second, third));
    assert_eq!(numbers(&gate), (0, 0));
}

/// A limit for all threads together, however they meet.
#[test]
fn threads_share_the_limit() {
    let (_gates, gate) = gate(3, 1_000);
    let running = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..200 {
                        let _ticket = match gate.enter(URGENCY).unwrap() {
                            Entry::Passes(ticket) => ticket,
                            Entry::Waits(waiting) => match waiting.pass().await {
                                Ok(ticket) => ticket,
                                // The machine is slow.
                                Err(_) => continue,
                            },
                        };
                        let now = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                        assert!(now <= 3, "{now} at a time");
                        tokio::task::yield_now().await;
                        running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            });
        }
    });
    assert_eq!(numbers(&gate), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_refusals_is_told_now_and_then_with_its_number() {
    let (_gates, gate) = gate(1, 0);
    let _one = passes(&gate);
    let told = || gate.refusals("api").into_iter().map(|trouble| trouble.count).collect::<Vec<_>>();
    assert_eq!(told(), [0; 0]);
    (0..100).for_each(|_| gate.refused(Refused::Full));
    assert_eq!(told(), [100]);
    (0..7).for_each(|_| gate.refused(Refused::Full));
    gate.refused(Refused::Late);
    assert_eq!(told(), [1], "each reason by itself");
    tokio::time::advance(TELL_EVERY).await;
    assert_eq!(told(), [7], "the last ones are told, too");
    assert_eq!(told(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opens_sends_away_those_that_wait() {
    let mut gates = Gates::new();
    let breaker = mesh::Breaker { failures: 1, open_ms: 7_000, ..mesh::Breaker::default() };
    let gate = ruled(&mut gates, mesh::Traffic { breaker: Some(breaker), ..rules(1, 5) }).unwrap();
    let mut one = passes(&gate);
    let waiting = [waits(&gate, URGENCY), waits(&gate, 0)];
    assert!(one.tell(Outcome::Timeout).is_some());
    for waiting in waiting {
        let refused = now(waiting.pass()).await.unwrap_err();
        assert_eq!(refused, Refused::Open(Duration::from_secs(7)));
    }
    assert_eq!(numbers(&gate), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_lets_nobody_into_the_queue() {
    let mut gates = Gates::new();
    let breaker = mesh::Breaker { failures: 1, ..mesh::Breaker::default() };
    let gate = ruled(&mut gates, mesh::Traffic { breaker: Some(breaker), ..rules(1, 1) }).unwrap();
    let mut one = passes(&gate);
    assert!(matches!(one.tell(Outcome::Reset), Some(Change::Opened { .. })));
    assert_eq!(one.tell(Outcome::Reset), None, "only the first word counts");
    assert!(gate.is_open() && matches!(gate.enter(URGENCY), Err(Refused::Open(_))));
    drop(one);
    tokio::time::advance(Duration::from_secs(60)).await;
    let probe = passes(&gate);
    assert!(matches!(gate.enter(URGENCY), Err(Refused::Open(_))));
    drop(probe);
    let mut probe = passes(&gate);
    assert_eq!(probe.tell(Outcome::Status(200)), Some(Change::Closed));
    assert!(!gate.is_open());
}

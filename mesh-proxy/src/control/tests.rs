//! Orders that go out to the threads, and what their news comes to.

use super::*;

thread_local!(static GIVEN_BACK: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });

fn control(threads: usize) -> (Control, Vec<mpsc::Receiver<ThreadOrder>>) {
    let (orders, queues) = (0..threads).map(|_| mpsc::channel(8)).unzip();
    (Control::new(orders, Arc::default(), || GIVEN_BACK.set(GIVEN_BACK.get() + 1)), queues)
}

#[tokio::test]
async fn a_thread_that_dies_ends_the_process() {
    let (mut control, _queues) = control(2);
    assert_eq!(control.hear(1, ThreadEvent::Ended).await, Some(End::ThreadDied(1)));
}

#[tokio::test]
async fn finished_is_when_every_thread_is() {
    let (mut control, mut queues) = control(2);
    control.finish(Instant::now() + Duration::from_secs(1)).await;
    for queue in &mut queues {
        assert!(matches!(queue.try_recv(), Ok(ThreadOrder::Finish)));
    }
    assert_eq!(control.hear(0, ThreadEvent::Ended).await, None);
    assert_eq!(control.hear(0, ThreadEvent::Ended).await, None, "the same thread again");
    assert_eq!(control.hear(1, ThreadEvent::Ended).await, Some(End::Finished));
}

#[tokio::test]
async fn a_snapshot_is_applied_when_every_thread_uses_it() {
    let (mut control, mut queues) = control(2);
    control.apply(Snapshot { version: 9, ..Snapshot::default() }).await;
    control.apply(Snapshot { version: 9, ..Snapshot::default() }).await;
    let numbers: Vec<u64> = std::iter::from_fn(|| match queues[0].try_recv() {
        Ok(ThreadOrder::Apply { number, .. }) => Some(number),
        _ => None,
    })
    .collect();
    assert_eq!(numbers, [1, 2], "numbers differ where versions do not");
    control.hear(0, ThreadEvent::Applied { number: 1 }).await;
    control.hear(0, ThreadEvent::Applied { number: 2 }).await;
    assert_eq!(control.applying.left, 1, "what was overtaken does not count");
    control.hear(1, ThreadEvent::Applied { number: 2 }).await;
    assert_eq!(control.applying.left, 0);
}

#[tokio::test]
async fn a_listener_of_one_thread_takes_no_descriptor_more_and_one_that_ended_may_be_named_again() {
    let (mut control, mut queues) = control(1);
    control.apply(Snapshot::default()).await;
    let mut name = async || {
        let listener = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let number = std::os::fd::AsRawFd::as_raw_fd(&listener);
        control.add_listener("mesh_host".to_owned(), ListenerKind::MeshHost, listener).await;
        control.hear(0, ThreadEvent::ListenerEnded { id: "mesh_host".to_owned() }).await;
        number
    };
    for number in [name().await, name().await] {
        let added = std::iter::from_fn(|| queues[0].try_recv().ok()).find_map(|order| match order {
            ThreadOrder::Add { listener, .. } => Some(std::os::fd::AsRawFd::as_raw_fd(&listener)),
            _ => None,
        });
        assert_eq!(added, Some(number));
    }
}

#[tokio::test]
async fn a_listener_that_a_thread_could_not_use_is_tried_again_unless_nobody_wants_it() {
    let (mut control, mut queues) = control(1);
    control.apply(Snapshot::default()).await;
    let id = "mesh_host".to_owned();
    let mut added = || {
        std::iter::from_fn(|| queues[0].try_recv().ok()).find_map(|order| match order {
            ThreadOrder::Add { id, kind, listener } => {
                Some(ThreadEvent::ListenerUnused { id, kind, listener })
            }
            _ => None,
        })
    };
    let listener = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    control.add_listener(id.clone(), ListenerKind::MeshHost, listener).await;
    for _ in 0..2 {
        let unused = added().expect("the thread is told to accept");
        control.hear(0, unused).await;
        assert!(added().is_none(), "not before some time is over");
        control.add_waiting().await;
    }
    let unused = added().expect("and again");
    control.obey(Ok(Some(Order::RemoveListener { id }))).await;
    control.hear(0, unused).await;
    control.add_waiting().await;
    assert!(added().is_none(), "it was removed meanwhile");
}

#[tokio::test]
async fn memory_is_given_back_once_after_a_rush_of_snapshots() {
    let (mut control, _queues) = control(1);
    let look = |control: &mut Control| {
        control.tidy();
        GIVEN_BACK.get()
    };
    assert_eq!(look(&mut control), 0, "there was no snapshot");
    control.apply(Snapshot::default()).await;
    assert_eq!(look(&mut control), 0, "a thread has still to take it");
    control.hear(0, ThreadEvent::Applied { number: 1 }).await;
    assert_eq!(look(&mut control), 1);
    assert_eq!(look(&mut control), 1, "nothing has come since");
    control.apply(Snapshot::default()).await;
    control.hear(0, ThreadEvent::Applied { number: 2 }).await;
    assert_eq!(look(&mut control), 1, "more may be coming");
    assert_eq!(look(&mut control), 2);
}

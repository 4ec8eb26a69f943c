use super::*;

fn main_process() -> Main {
    let own = nix::unistd::Pid::this();
    let pidfd = std::fs::File::open("/dev/null").unwrap().into();
    Main::new(u32::try_from(own.as_raw()).unwrap(), pidfd)
}

/// The own program is 1, and another one's proxy, 0, is there.
fn two(is_trial: bool) -> (Proxies, mpsc::Receiver<(u64, LinkEvent)>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (sender, receiver) = mpsc::channel(64);
    let mut proxies = Proxies::new(1, folder.path().join("one"), is_trial, sender);
    proxies.adopt(0, folder.path().join("none"), 7, main_process(), "/old".to_owned());
    (proxies, receiver, folder)
}

fn says(proxies: &mut Proxies, program: u64, message: FromProxy) -> Option<RunId> {
    proxies.hear(program, &LinkEvent::Message(message))
}

fn parts(proxies: &Proxies) -> Vec<Part> {
    proxies.view().iter().map(|view| view.part).collect()
}

#[tokio::test]
async fn a_new_proxy_serves_and_the_old_one_leaves_when_the_upgrade_is_settled() {
    let (mut proxies, _events, _folder) = two(true);
    let now = Instant::now();
    proxies.step(now, true);
    assert_eq!(parts(&proxies), [Part::Serves, Part::Tried]);
    says(&mut proxies, 1, FromProxy::Applied { version: 1 });
    assert!(proxies.own_is_well());
    proxies.step(now, true);
    assert_eq!(parts(&proxies), [Part::Serves, Part::Tried], "it is well, and that is not all");
    proxies.step(now, false);
    assert_eq!(parts(&proxies), [Part::Leaves, Part::Serves]);
    assert_eq!(proxies.deadline(), Some(now + SILENCE_MAX), "it has not even said hello");
    says(&mut proxies, 0, FromProxy::Hello { format: 1, version: "1".to_owned() });
    assert!(proxies.deadline() >= Some(now + RETIRE_MAX + KILL_AFTER));
}

#[tokio::test]
async fn a_new_proxy_serves_at_once_when_the_old_one_has_died() {
    let (mut proxies, _events, _folder) = two(true);
    assert_eq!(proxies.other_ended(8), None, "that is not it");
    assert_eq!(proxies.other_ended(7), Some((0, Vec::new())));
    proxies.step(Instant::now(), true);
    assert_eq!(parts(&proxies), [Part::Serves]);
}

#[tokio::test]
async fn after_a_way_back_the_tried_one_leaves_only_when_the_own_one_is_well() {
    let (mut proxies, _events, _folder) = two(false);
    let now = Instant::now();
    proxies.step(now, false);
    assert_eq!(parts(&proxies), [Part::Serves, Part::Serves]);
    says(&mut proxies, 1, FromProxy::Applied { version: 1 });
    proxies.hear(1, &LinkEvent::Lost { error: None });
    proxies.step(now, false);
    assert_eq!(parts(&proxies), [Part::Serves, Part::Serves], "it has gone since");
    says(&mut proxies, 1, FromProxy::Applied { version: 1 });
    proxies.step(now, false);
    assert_eq!(parts(&proxies), [Part::Leaves, Part::Serves]);
}

#[tokio::test]
async fn a_run_is_drained_when_no_proxy_has_a_request_of_it() {
    let (mut proxies, _events, _folder) = two(false);
    assert_eq!(says(&mut proxies, 1, FromProxy::Drained { run: 5 }), None, "the other one may have some");
    assert_eq!(says(&mut proxies, 0, FromProxy::Drained { run: 5 }), Some(RunId(5)));
    assert_eq!(says(&mut proxies, 1, FromProxy::Drained { run: 6 }), None);
    assert_eq!(proxies.other_ended(7), Some((0, vec![RunId(5), RunId(6)])), "nobody else could have any now");
    assert_eq!(says(&mut proxies, 1, FromProxy::Drained { run: 8 }), Some(RunId(8)));
}

#[tokio::test]
async fn counts_are_those_of_both_and_of_the_one_that_left() {
    let (mut proxies, _events, _folder) = two(false);
    let counts = |requests, in_flight| Counts { requests, in_flight, ..Counts::default() };
    let said = |requests, in_flight| FromProxy::Counts {
        handshakes: Handshakes::default(),
        cache: Default::default(),
        services: [("api".to_owned(), counts(requests, in_flight))].into(),
        troubles: Vec::new(),
    };
    says(&mut proxies, 0, said(10, 2));
    says(&mut proxies, 1, said(3, 1));
    assert_eq!(proxies.counts()["api"], counts(13, 3));
    proxies.other_ended(7);
    assert_eq!(proxies.counts()["api"], counts(13, 1));
    proxies.forget("api");
    assert!(proxies.counts().is_empty());
    let outgoing = |open| Outgoing {
        to: "db:1".to_owned(),
        counts: OutgoingCounts { open, ..OutgoingCounts::default() },
    };
    let (mut proxies, _events, _folder) = two(false);
    for (program, open) in [(0, 4), (1, 5)] {
        let destinations = vec![outgoing(open)];
        says(&mut proxies, program, FromProxy::Outside { service: "api".to_owned(), destinations });
    }
    assert_eq!(proxies.outside("api"), [outgoing(9)]);
}

#[tokio::test]
async fn what_is_used_is_what_everybody_who_is_served_is_served_by() {
    let (mut proxies, _events, _folder) = two(false);
    let used = proxies.used();
    let oldest = || *used.borrow();
    assert_eq!(oldest(), 0, "the one that was there serves by what another daemon has sent");
    says(&mut proxies, 0, FromProxy::Applied { version: 3 });
    assert_eq!(oldest(), 3, "whoever comes to the new one waits until it has the last");
    says(&mut proxies, 1, FromProxy::Applied { version: 4 });
    assert_eq!(oldest(), 3);
    says(&mut proxies, 0, FromProxy::Applied { version: 5 });
    assert_eq!(oldest(), 4);
    proxies.step(Instant::now(), false);
    says(&mut proxies, 1, FromProxy::Applied { version: 6 });
    assert_eq!(oldest(), 6, "nobody comes to one that leaves");
    proxies.hear(1, &LinkEvent::Lost { error: None });
    assert_eq!(oldest(), 0, "it may be there, and serves by what it had");
    proxies.hear(1, &LinkEvent::Connected);
    assert_eq!(oldest(), 0);
    proxies.own_ended();
    proxies.hear(1, &LinkEvent::Lost { error: None });
    proxies.hear(1, &LinkEvent::Connected);
    assert_eq!(oldest(), u64::MAX, "another process has none yet");
}

/// A successor that answers before the proxy has heard of it would tell of what the next request does not find.
#[tokio::test]
async fn a_proxy_that_is_taken_over_serves_by_what_the_daemon_before_has_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut proxies = Proxies::new(0, folder.path().join("one"), false, mpsc::channel(64).0);
    let used = proxies.used();
    assert_eq!(*used.borrow(), u64::MAX, "nobody is served by any");
    proxies.adopt_own();
    for event in
        [LinkEvent::Connected, LinkEvent::Message(FromProxy::Hello { format: 1, version: "1".to_owned() })]
    {
        assert_eq!(*used.borrow(), 0);
        proxies.hear(0, &event);
    }
    assert_eq!(*used.borrow(), 0);
    says(&mut proxies, 0, FromProxy::Applied { version: 1 });
    assert_eq!(*used.borrow(), 1);
}

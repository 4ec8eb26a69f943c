//! Which of several workers gets a request, by the words that a service may have for that.

use std::collections::{BTreeMap, BTreeSet};

use tokio::{
    task::spawn_local,
    time::{Duration, sleep},
};
use watt_api::mesh::{Balance, HashKey};

use crate::bed::*;

const ZERO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0";
const ONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1";
const TWO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 1\r\n\r\n0";

impl Bed {
    /// Three workers that say their indices.
    fn of_three(balance: Balance) -> Bed {
        let bed = Bed::new();
        for (run, answer) in [(10, ZERO), (11, ONE), (12, TWO)] {
            bed.worker("api", run).answer(answer);
        }
        bed.change_api(|api| {
            api.traffic.balance = balance;
            for (index, worker) in (0..).zip(&mut api.workers) {
                worker.index = index;
            }
        });
        bed
    }

    /// Who answers a request with these lines, and the cookie that the client gets.
    async fn met(&self, lines: &str) -> (String, Option<String>) {
        met(&mut self.client(), "/", lines).await
    }
}

async fn met(client: &mut Wire, path: &str, lines: &str) -> (String, Option<String>) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n{lines}\r\n")).await;
    let head = client.head().await;
    let cookie = field(&head, "set-cookie").map(str::to_owned);
    (client.rest_of(&head).await, cookie)
}

#[test]
fn in_turn_each_worker_gets_the_same() {
    local(async {
        let bed = Bed::of_three(Balance::RoundRobin);
        let mut found: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..30 {
            *found.entry(bed.met("").await.0).or_default() += 1;
        }
        assert_eq!(found.into_values().collect::<Vec<_>>(), [10, 10, 10]);
    });
}

#[test]
fn a_client_comes_back_to_the_worker_that_its_cookie_names() {
    local(async {
        let bed = Bed::of_three(Balance::Sticky { cookie: "home".into() });
        let mut homes = BTreeSet::new();
        for _ in 0..30 {
            let (worker, cookie) = bed.met("").await;
            assert_eq!(cookie, Some(format!("home={worker}; Path=/; HttpOnly; SameSite=Lax")));
            homes.insert(worker);
        }
        assert_eq!(homes.len(), 3, "new clients go to all");
        for _ in 0..10 {
            // Others of this name may come first.
            assert_eq!(bed.met("Cookie: home=x; home=1\r\n").await, ("1".into(), None));
        }
        assert!(bed.met("Cookie: home=7\r\n").await.1.is_some(), "there is none of this number");

        let gone = bed.snapshot.borrow_mut().services.get_mut("api").unwrap().workers.remove(1);
        bed.apply();
        let (worker, cookie) = bed.met("Cookie: home=1\r\n").await;
        assert!(worker != "1" && cookie.unwrap().starts_with(&format!("home={worker};")));
        bed.change_api(|api| api.workers.push(gone));
        assert_eq!(bed.met("Cookie: home=1\r\n").await, ("1".into(), None));
    });
}

#[test]
fn the_cookie_names_who_answered_after_all() {
    local(async {
        let bed = Bed::new();
        bed.worker("api", 10).answer("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        bed.worker("api", 11).answer(ONE);
        bed.change_api(|api| {
            api.traffic.balance = Balance::Sticky { cookie: "home".into() };
            api.traffic.retries.on.statuses = vec![(503, 503)];
            api.workers[1].index = 1;
        });
        for _ in 0..5 {
            let (worker, cookie) = bed.met("Cookie: home=0\r\n").await;
            assert_eq!((&*worker, &cookie.unwrap()[..7]), ("1", "home=1;"));
        }
    });
}

#[test]
fn requests_with_the_same_of_something_go_to_the_same_worker() {
    local(async {
        let named = |name: &str| name.to_owned();
        let lines = |key: u32| {
            let key = key.to_string();
            [format!("X-Tenant: {key}\r\n"), format!("Cookie: cart={key}\r\n"), String::new()]
        };
        for (place, key) in [
            HashKey::Header { name: named("x-tenant") },
            HashKey::Cookie { name: named("cart") },
            HashKey::Path,
        ]
        .into_iter()
        .enumerate()
        {
            let bed = Bed::of_three(Balance::Hash { key });
            let mut homes = BTreeSet::new();
            for key in 0..30 {
                let path = if place == 2 { format!("/{key}?{key}") } else { "/".to_owned() };
                let line = &lines(key)[place];
                let home = met(&mut bed.client(), &path, line).await.0;
                for _ in 0..3 {
                    assert_eq!(
                        met(&mut bed.client(), &path, line).await,
                        (home.clone(), None),
                        "{path} {line}"
                    );
                }
                homes.insert(home);
            }
            assert_eq!(homes.len(), 3);
        }
        let bed = Bed::of_three(Balance::Hash { key: HashKey::Address });
        let (mut homes, mut others) = (BTreeSet::new(), BTreeSet::new());
        for host in 1..30 {
            let address = format!("192.0.2.{host}");
            let home = met(&mut bed.client_from(&address), "/", "").await.0;
            // The same, of another family.
            let again = met(&mut bed.client_from(&format!("::ffff:{address}")), "/", "").await.0;
            assert_eq!(home, again);
            homes.insert(home);
            others.insert(bed.met("").await.0);
        }
        assert_eq!((homes.len(), others.len()), (3, 3), "who has no address goes anywhere");
    });
}

#[test]
fn who_answers_sooner_is_asked_more_often_and_who_fails_at_once_does_not() {
    at_once(async {
        for slow in [BROKEN, ZERO] {
            let bed = Bed::new();
            let worker = bed.worker("api", 10);
            spawn_local(async move {
                loop {
                    let mut wire = worker.accept().await;
                    spawn_local(async move {
                        while wire.try_head().await.is_some() {
                            let wait = if slow == ZERO { 200 } else { 0 };
                            sleep(Duration::from_millis(wait)).await;
                            wire.send(slow).await;
                        }
                    });
                }
            });
            let worker = bed.worker("api", 11);
            spawn_local(async move {
                loop {
                    let mut wire = worker.accept().await;
                    spawn_local(async move {
                        while wire.try_head().await.is_some() {
                            sleep(Duration::from_millis(20)).await;
                            wire.send(ONE).await;
                        }
                    });
                }
            });
            bed.change_api(|api| {
                api.traffic.balance = Balance::LeastLatency;
                api.workers[1].index = 1;
            });
            let mut client = bed.client();
            let mut sooner = 0;
            for _ in 0..100 {
                sooner += u32::from(met(&mut client, "/", "").await.0 == "1");
            }
            assert!(sooner >= 90, "{sooner} of 100 requests went to the better one");
        }
    });
}

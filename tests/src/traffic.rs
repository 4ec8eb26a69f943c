//! Everything that clients do, all at the same time, while something is done to the application: the proof that no request is
//! lost.
//!
//! [`Traffic`] is at the gateway of an application that has the two services of `cases/traffic`, one in Node and one in Python, and
//! asks each of them, from clients that take no notice of each other:
//!
//! | kind | what | may be sent again by the proxy |
//! |---|---|---|
//! | `get` | GETs over a connection that is kept | yes |
//! | `get new` | GETs, each over a connection of its own | yes |
//! | `put` | PUTs with a small body | yes |
//! | `mesh get` | GETs that the service passes on to the other one by its name | yes |
//! | `post` | POSTs that take a moment | no |
//! | `mesh post` | POSTs that are passed on likewise | no |
//! | `upload` | a POST whose body comes bit by bit for a second and a half; one is always on its way | no |
//! | `events` | a stream of events for about as long, with its proper end; likewise | no, once it has begun |
//! | `websocket` | an echo, asked for again and again | no |
//! | `kept` | a WebSocket that stays until it is told to come back, for those who ask for it | no |
//!
//! No client tries anything again: what it sees is what counts. Each request has a number, which is in its path, and the services
//! write down the POSTs that they act upon. So it can be told which requests were lost, and that none was acted upon twice.

mod exchange;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;

use crate::{App, User, wait};
use exchange::Client;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the table above is their documentation")]
pub enum Kind {
    Get,
    GetNew,
    Put,
    MeshGet,
    Post,
    MeshPost,
    Upload,
    Events,
    WebSocket,
    Kept,
}

impl Kind {
    /// Those that every traffic has. A kept WebSocket holds each drain up to its end.
    pub const ALL: [Kind; 9] = [
        Kind::Get,
        Kind::GetNew,
        Kind::Put,
        Kind::MeshGet,
        Kind::Post,
        Kind::MeshPost,
        Kind::Upload,
        Kind::Events,
        Kind::WebSocket,
    ];

    /// As the table above calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::GetNew => "get new",
            Kind::Put => "put",
            Kind::MeshGet => "mesh get",
            Kind::Post => "post",
            Kind::MeshPost => "mesh post",
            Kind::Upload => "upload",
            Kind::Events => "events",
            Kind::WebSocket => "websocket",
            Kind::Kept => "kept",
        }
    }

    /// Whether the proxy may send it again when its worker is lost, so that nothing excuses its failure but the death of the proxy.
    pub fn is_safe(self) -> bool {
        match self {
            Kind::Get | Kind::GetNew | Kind::Put | Kind::MeshGet => true,
            Kind::Post | Kind::MeshPost | Kind::Upload | Kind::Events | Kind::WebSocket | Kind::Kept => false,
        }
    }
}

/// What one exchange came to, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered,
    /// A WebSocket that was told that its service restarts, in the way of RFC 6455.
    ToldToReturn,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it was.
    pub kind: Kind,
    /// Its number, with which its path ends.
    pub number: u64,
    /// The service that it was for.
    pub service: &'static str,
    /// What the client saw.
    pub why: String,
}

/// What was counted of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Begun.
    pub sent: u64,
    /// Answered as they should be.
    pub answered: u64,
    /// WebSockets that were told to come back later.
    pub told_to_return: u64,
    /// Lost, whatever for.
    pub failed: u64,
}

/// What came of the traffic so far.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// By kind, of all services together.
    pub kinds: BTreeMap<Kind, Count>,
    /// Every request that failed.
    pub failures: Vec<Failure>,
    /// The numbers of the POSTs that were answered.
    posted: BTreeSet<u64>,
}

impl Counts {
    /// Prints them as a table, under a title.
    pub fn print(&self, title: &str) {
        let mut text = format!(
            "\n{title}\n{:<10} {:>7} {:>9} {:>9} {:>7}\n",
            "", "sent", "answered", "told 1012", "failed"
        );
        for (kind, count) in &self.kinds {
            let Count { sent, answered, told_to_return, failed } = count;
            // Writing to a String does not fail.
            let _ =
                writeln!(text, "{:<10} {sent:>7} {answered:>9} {told_to_return:>9} {failed:>7}", kind.name());
        }
        for failure in &self.failures {
            let _ = writeln!(
                text,
                "  {} {} {}: {}",
                failure.kind.name(),
                failure.service,
                failure.number,
                failure.why
            );
        }
        println!("{text}");
    }

    /// Nothing failed at all.
    pub fn assert_no_failure(&self, title: &str) {
        self.print(title);
        assert!(self.failures.is_empty(), "{title}: {} failed: {:?}", self.failures.len(), self.failures);
    }

    /// Nothing failed that could be sent again, and what failed is named by an event of the application. For what kills workers.
    pub fn assert_only_named_failures(&self, title: &str, app: &App) {
        self.print(title);
        let safe: Vec<&Failure> = self.failures.iter().filter(|failure| failure.kind.is_safe()).collect();
        assert!(safe.is_empty(), "{title}: {safe:?}");
        let lost = lost_requests(app);
        for Failure { kind, number, service, why } in &self.failures {
            let named = lost.iter().any(|path| path.ends_with(&format!("/{number}")));
            assert!(
                named,
                "{title}: {} {number} of {service} ({why}) is not among those that were named: {lost:?}",
                kind.name()
            );
        }
    }

    /// At most one request of each client failed, the one that it had under way. For what kills the proxy once.
    pub fn assert_one_failure_per_client(&self, title: &str) {
        self.print(title);
        for service in SERVICES {
            for kind in Kind::ALL {
                let of = |failure: &&Failure| failure.kind == kind && failure.service == service;
                let failed: Vec<&Failure> = self.failures.iter().filter(of).collect();
                assert!(failed.len() <= 1, "{title}: {failed:?}");
            }
        }
    }

    /// No POST was acted upon twice, and every one that was answered once.
    pub fn assert_posts(&self, title: &str, app: &App) {
        let mut acted: BTreeMap<u64, u32> = BTreeMap::new();
        for service in SERVICES {
            let file = app.home.path().join("state/app/services").join(service).join("posts");
            let text =
                fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            for line in text.lines() {
                *acted
                    .entry(line.parse().unwrap_or_else(|_| panic!("{title}: {line:?} was posted")))
                    .or_default() += 1;
            }
        }
        let twice: Vec<_> = acted.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{title}: acted upon more than once: {twice:?}");
        let never: Vec<_> = self.posted.iter().filter(|number| !acted.contains_key(number)).collect();
        assert!(never.is_empty(), "{title}: answered and never acted upon: {never:?}");
    }
}

/// The paths of the requests that the proxy says were lost with a worker.
fn lost_requests(app: &App) -> Vec<String> {
    let told = app.ok(&["events", "--json"]);
    let events = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lost = events.filter(|event| event["kind"] == "request_lost");
    lost.filter_map(|event| event["data"]["path"].as_str().map(str::to_owned)).collect()
}

/// The services of `cases/traffic`, which are called by these names there.
pub const SERVICES: [&str; 2] = ["node", "python"];

/// The application that the traffic is for: both services, two workers each. What is to be different a test replaces.
pub const APPLICATION: &str = r#"
services:
  node:
    command: node traffic/node.js
    workers: 2
    restart: { backoff: { first: 50ms } }
    stop: { drain: 20s }
  python:
    command: python3 traffic/python.py
    workers: 2
    restart: { backoff: { first: 50ms } }
    stop: { drain: 20s }
server: { port: 0 }
gateway:
  routes:
    - { path: /node, service: node, strip: true }
    - { path: /python, service: python, strip: true }
"#;

/// Starts the application with this configuration.
pub fn application(user: User, yaml: &str) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", yaml);
    app.up();
    app
}

/// Between two exchanges of one client, so that eighteen of them leave the machine something for what is tested.
const PAUSE: Duration = Duration::from_millis(5);

/// What the clients share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    numbers: AtomicU64,
    counts: Mutex<Counts>,
    /// How many exchanges each client has ended.
    rounds: Mutex<BTreeMap<(&'static str, Kind), u64>>,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.load(Relaxed)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no client panics while it counts")
    }

    fn rounds(&self) -> MutexGuard<'_, BTreeMap<(&'static str, Kind), u64>> {
        self.rounds.lock().expect("no client panics while it counts")
    }
}

/// The clients. They go on until [`Traffic::stop`].
pub struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts one client of each kind for each service, and waits until each has had an answer.
    pub fn start(app: &App) -> Traffic {
        Traffic::of(app, &Kind::ALL)
    }

    /// The same, and WebSockets that stay.
    pub fn with_kept_websockets(app: &App) -> Traffic {
        Traffic::of(app, &[&Kind::ALL[..], &[Kind::Kept]].concat())
    }

    fn of(app: &App, kinds: &[Kind]) -> Traffic {
        let gateway = app.gateway();
        let shared = Arc::new(Shared::default());
        let mut clients = Vec::new();
        for service in SERVICES {
            for kind in kinds.iter().copied() {
                shared.rounds().insert((service, kind), 0);
                let (shared, gateway) = (Arc::clone(&shared), gateway.clone());
                clients.push(std::thread::spawn(move || run(&shared, &gateway, service, kind)));
            }
        }
        let traffic = Traffic { shared, clients };
        traffic.go_around();
        traffic
    }

    /// Waits until each client has begun and ended an exchange from now on.
    pub fn go_around(&self) {
        let before = self.shared.rounds().clone();
        wait("each client has had an answer", || {
            // The first one that ends may have begun before.
            let behind: Vec<_> = self
                .shared
                .rounds()
                .iter()
                .filter(|(client, now)| **now < before[client] + 2)
                .map(|(client, _)| *client)
                .collect();
            if behind.is_empty() { Ok(()) } else { Err(format!("{behind:?}: {:?}", self.counts().failures)) }
        });
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts().clone()
    }

    /// Goes around once more, so that what comes after the last thing that was done is in the counts, and ends. What is under way is
    /// ended properly.
    pub fn stop(self) -> Counts {
        self.go_around();
        self.shared.stop.store(true, Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        self.shared.counts().clone()
    }
}

/// One client's life.
fn run(shared: &Shared, gateway: &str, service: &'static str, kind: Kind) {
    let mut client = Client::new(gateway, service, kind);
    while !shared.is_over() {
        let number = shared.numbers.fetch_add(1, Relaxed) + 1;
        shared.counts().kinds.entry(kind).or_default().sent += 1;
        let outcome = client.exchange(number, &|| {
            // What never ends by itself shows here that it goes on.
            if kind == Kind::Kept {
                *shared.rounds().entry((service, kind)).or_default() += 1;
            }
            shared.is_over()
        });
        let mut counts = shared.counts();
        let count = counts.kinds.entry(kind).or_default();
        match outcome {
            Ok(Outcome::Answered) => count.answered += 1,
            Ok(Outcome::ToldToReturn) => count.told_to_return += 1,
            Err(_) => count.failed += 1,
        }
        match outcome {
            Ok(_) if matches!(kind, Kind::Post | Kind::MeshPost) => drop(counts.posted.insert(number)),
            Ok(_) => {}
            Err(why) => counts.failures.push(Failure { kind, number, service, why: why.to_string() }),
        }
        drop(counts);
        *shared.rounds().entry((service, kind)).or_default() += 1;
        std::thread::park_timeout(PAUSE);
    }
}

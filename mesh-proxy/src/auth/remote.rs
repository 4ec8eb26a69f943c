//! Keys of those who sign, from where they publish them.
//!
//! A thread fetches them by the way of its requests: when a token comes first, when a token names a key that is not among them, and again after a
//! while, beside the requests, which go on with those that are there. Who signs may be away for long: the last keys hold until others come. Tokens with
//! keys that nobody has must not have them fetched each time, so that a miss leads to the next one after a growing time. A fetch is no request's own:
//! it goes on when the client goes that it was begun for.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use watt_api::mesh;
use watt_policies::jwt::KeySet;

use crate::{http, table::Table, thread::Thread};

/// The longest set of keys.
const SET_MAX: usize = 256 << 10;

/// How long a fetch may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// How long after a fetch another one follows at the earliest, and after a row of those that brought nothing new.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The same while there are no keys at all: nobody gets in meanwhile.
const FIRST_PAUSE_MIN: Duration = Duration::from_secs(1);
const FIRST_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Why they are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A token names a key that is not there.
    Miss,
    /// It is time.
    Old,
}

/// Keys somewhere else.
pub(crate) struct Remote {
    pub(super) source: mesh::RemoteKeys,
    keys: RefCell<Rc<KeySet>>,
    /// What they were read from.
    text: RefCell<Vec<u8>>,
    /// Grows with each other set.
    version: Cell<u64>,
    fetched: Cell<Option<Instant>>,
    /// When the last fetch ended, and how many in a row were in vain.
    tried: Cell<Option<Instant>>,
    in_vain: Cell<u32>,
    is_fetching: Cell<bool>,
    done: Notify,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Remote {
    pub(super) fn new(source: &mesh::RemoteKeys) -> Remote {
        Remote {
            source: source.clone(),
            keys: RefCell::default(),
            text: RefCell::default(),
            version: Cell::new(0),
            fetched: Cell::new(None),
            tried: Cell::new(None),
            in_vain: Cell::new(0),
            is_fetching: Cell::new(false),
            done: Notify::new(),
        }
    }

    /// Those that are there, and which set it is.
    pub(super) fn keys(&self) -> (Rc<KeySet>, u64) {
        (Rc::clone(&self.keys.borrow()), self.version.get())
    }

    /// Whether there are any.
    pub(super) fn is_known(&self) -> bool {
        self.fetched.get().is_some()
    }

    /// Whether they are to be fetched again beside the requests.
    pub(super) fn is_old(&self) -> bool {
        let every = Duration::from_millis(self.source.every_ms);
        self.fetched.get().is_some_and(|at| at.elapsed() >= every) && self.may_fetch()
    }

    /// Whether it is time for another fetch, or one is under way.
    pub(super) fn may_fetch(&self) -> bool {
        let (min, max) = match self.is_known() {
            true => (PAUSE_MIN, PAUSE_MAX),
            false => (FIRST_PAUSE_MIN, FIRST_PAUSE_MAX),
        };
        let pause = min.saturating_mul(1 << self.in_vain.get().min(6)).min(max);
        self.is_fetching.get() || self.tried.get().is_none_or(|at| at.elapsed() >= pause)
    }

    /// Has them fetched, unless they are already, and waits for that.
    pub(crate) async fn fetch(self: &Rc<Self>, thread: &Rc<Thread>) {
        let done = self.done.notified();
        self.begin(thread, Why::Miss);
        done.await;
    }

    /// Has them fetched, unless they are already.
    pub(super) fn begin(self: &Rc<Self>, thread: &Rc<Thread>, why: Why) {
        if self.is_fetching.get() {
            return;
        }
        let (fetching, thread) = (Fetching::begin(self), Rc::clone(thread));
        // In a box, since it is asked for in the midst of a request, and is a request again.
        let fetch: std::pin::Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
            let table = thread.table();
            let got = fetching.0.get(&thread, &table).await;
            fetching.0.note(got, why);
        });
        tokio::task::spawn_local(fetch);
    }

    fn note(&self, got: Result<bool, String>, why: Why) {
        self.tried.set(Some(Instant::now()));
        let in_vain = self.in_vain.get();
        match got {
            Ok(is_new) => {
                self.fetched.set(self.tried.get());
                // That nothing is new is no surprise when it was only time to look.
                self.in_vain.set(match (is_new, why) {
                    (true, _) => 0,
                    (false, Why::Miss) => in_vain.saturating_add(1),
                    (false, Why::Old) => in_vain,
                });
            }
            Err(why) => {
                self.in_vain.set(in_vain.saturating_add(1));
                let mesh::RemoteKeys { service, path, .. } = &self.source;
                tracing::warn!(service, path, why, "the keys of tokens could not be fetched");
            }
        }
    }

    /// Whether there are others now.
    async fn get(&self, thread: &Rc<Thread>, table: &Table) -> Result<bool, String> {
        let mesh::RemoteKeys { service, path, host, every_ms: _ } = &self.source;
        let to = table.service(service).ok_or("there is no such service")?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nUser-Agent: watt\r\n\r\n"
        );
        let answered = http::ask(thread, to, request.as_bytes(), SET_MAX, TIME_MAX).await?;
        if answered.status != 200 {
            return Err(format!("it answered with {}", answered.status));
        }
        if self.is_known() && *self.text.borrow() == answered.body {
            return Ok(false);
        }
        let keys = KeySet::public(&answered.body).map_err(|error| error.to_string())?;
        self.keys.replace(Rc::new(keys));
        self.text.replace(answered.body);
        self.version.set(self.version.get() + 1);
        Ok(true)
    }
}

/// A fetch that is under way, until this is dropped.
struct Fetching(Rc<Remote>);

impl Fetching {
    fn begin(remote: &Rc<Remote>) -> Fetching {
        remote.is_fetching.set(true);
        Fetching(Rc::clone(remote))
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.is_fetching.set(false);
        self.0.done.notify_waiters();
    }
}

//! What one thread of the proxy knows and owns: table, pools, counters. Nothing here is shared with another thread.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    rc::Rc,
};

use watt_api::mesh::{Counts, Snapshot};

/// What a thread has to say to the process around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The stock of unconnected sockets to this run's worker runs low. Said once until sockets arrive.
    NeedSockets {
        /// Whose.
        run: u64,
    },
    /// This thread has no request at this draining run. Said once.
    Drained {
        /// Which.
        run: u64,
    },
    /// A call was refused by a policy.
    Refused {
        /// The calling service, when known.
        caller: Option<String>,
        /// The service it called.
        target: String,
        /// The rule, in words.
        reason: String,
    },
}

/// One thread's state. Make it inside the thread's `LocalSet`.
pub struct Thread {
    report: Box<dyn Fn(Report)>,
    threads: NonZeroUsize,
    closing: Cell<bool>,
    counts: RefCell<BTreeMap<String, Counts>>,
}

impl Thread {
    /// State for one of `threads` threads. `report` is called from the request path: it must not wait.
    pub fn new(threads: NonZeroUsize, report: impl Fn(Report) + 'static) -> Rc<Thread> {
        Rc::new(Thread {
            report: Box::new(report),
            threads,
            closing: Cell::new(false),
            counts: RefCell::default(),
        })
    }

    /// Uses this snapshot from the next request on. Requests that wait for a worker look again.
    pub fn apply(&self, _snapshot: &Snapshot) {}

    /// Adds unconnected, non-blocking TCP sockets made in the network namespace of this run.
    pub fn add_sockets(&self, _run: u64, _sockets: Vec<OwnedFd>) {}

    /// What this thread counted, by service.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        self.counts.borrow().clone()
    }

    /// Requests and tunnels at this run's worker now.
    pub fn in_flight(&self, _run: u64) -> u64 {
        0
    }

    /// Ends idle connections now and the others after their present request. Tunnels stay.
    pub fn shut_down(&self) {
        self.closing.set(true);
    }

    /// Waits until no connection is left.
    pub async fn connections_ended(&self) {
        let _ = (&self.report, self.threads);
    }
}

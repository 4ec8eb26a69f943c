//! The threads that serve: each has its own runtime, its own state, and a queue of orders.

use std::{io, num::NonZeroUsize, os::fd::OwnedFd, rc::Rc, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::Builder,
    sync::{Semaphore, mpsc},
    task::{self, LocalSet},
    time::{MissedTickBehavior, interval},
};
use watt_api::mesh::{EdgeCounts, EdgeOf, Handshakes, ListenerId, ListenerKind, Trouble};

use crate::{
    access::Queue,
    auth::Renewals,
    cache::Cached,
    context::Context,
    counts::{ByService, WorkByService},
    guards::Counted,
    listeners::{Listeners, Unused},
    lost::{LostRequest, Told},
    refusals::Refusal,
    room::ConnectionsMax,
    thread::{Report, Thread},
    view::View,
};

/// Orders that wait for a thread. It takes them between two requests, so there are hardly ever several.
const ORDERS_MAX: usize = 256;
/// How often counts are told.
const COUNTS_EVERY: Duration = Duration::from_secs(1);

/// To a thread.
#[derive(Debug)]
pub(crate) enum ThreadOrder {
    /// Accept there.
    Add { id: ListenerId, kind: ListenerKind, listener: OwnedFd },
    /// Accept there no longer.
    Remove { id: ListenerId },
    /// Use these to reach the run's worker.
    Sockets { run: u64, sockets: Vec<OwnedFd> },
    /// Use this snapshot, and say so with its number.
    Apply { number: u64, view: Arc<View> },
    /// Accept nothing more, and say so when nobody is connected any longer.
    Retire,
    /// Accept nothing more, finish what there is, and say so.
    Finish,
}

/// From a thread.
#[derive(Debug)]
pub(crate) enum ThreadEvent {
    /// It uses this snapshot.
    Applied { number: u64 },
    /// It has no request at this draining run.
    Drained { run: u64 },
    /// It wants sockets for this run.
    NeedSockets { run: u64 },
    /// What it counted, when that changed.
    Counts(ByService),
    /// Beginnings of TLS since it started, when that changed.
    Handshakes(Handshakes),
    /// A request waits for a service that sleeps.
    Wanted { service: String },
    /// What was measured since it started; of no service at all once, when none is any more.
    Work(WorkByService),
    /// What it counted of edges since it started, of those that changed.
    Edges(Vec<(EdgeOf, EdgeCounts)>),
    /// It refused something.
    Refused(Refusal),
    /// A worker was lost with this request.
    Lost(LostRequest),
    /// Something is wrong with a service as a whole.
    Trouble(Trouble),
    /// It accepts there no longer, without having been told to stop.
    ListenerEnded { id: ListenerId },
    /// It cannot accept there now.
    ListenerUnused { id: ListenerId, kind: ListenerKind, listener: OwnedFd },
    /// It has nothing to do any more, or it died.
    Ended,
}

/// Where threads report, with their number. What they report is bounded by what they are asked, by time, by
/// [`crate::refusals`] or [`crate::lost`], so the queue needs no limit of its own.
pub(crate) type Events = mpsc::UnboundedSender<(usize, ThreadEvent)>;

/// What all threads have in common.
pub(crate) struct Shared {
    /// What guards count.
    pub(crate) counted: Arc<Counted>,
    /// Turns at checks of passwords.
    pub(crate) check_turns: Arc<Semaphore>,
    /// Where lines of the access log wait.
    pub(crate) access_queue: Arc<Queue>,
    /// What is stored of responses.
    pub(crate) cached: Arc<Cached>,
    /// Sessions of browsers that are renewed.
    pub(crate) renewals: Arc<Renewals>,
}

/// Starts thread number `index` of `threads`. It ends when its orders do.
pub(crate) fn start(
    index: usize,
    threads: NonZeroUsize,
    connections_max: ConnectionsMax,
    shared: Shared,
    events: Events,
) -> io::Result<mpsc::Sender<ThreadOrder>> {
    let (orders, queue) = mpsc::channel(ORDERS_MAX);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let reporter = Reporter { index, events };
    thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
        // Dropped last, and also when this thread panics.
        let reporter = Rc::new(reporter);
        let context = context(threads, &reporter);
        context.thread.count_with(shared.counted);
        context.thread.check_with(shared.check_turns);
        context.thread.use_access_queue(shared.access_queue);
        context.thread.store_with(shared.cached);
        context.thread.renew_with(shared.renewals);
        let serving = serve(context, connections_max, queue, Rc::clone(&reporter));
        LocalSet::new().block_on(&runtime, serving);
    })?;
    Ok(orders)
}

/// Speaks for one thread, last when it ends.
struct Reporter {
    index: usize,
    events: Events,
}

impl Reporter {
    fn report(&self, event: ThreadEvent) {
        // Nobody listens any more when the process is about to end.
        let _ = self.events.send((self.index, event));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.report(ThreadEvent::Ended);
    }
}

async fn serve(
    context: Rc<Context>,
    connections_max: ConnectionsMax,
    mut orders: mpsc::Receiver<ThreadOrder>,
    reporter: Rc<Reporter>,
) {
    let mut listeners = match Listeners::new(Rc::clone(&context), connections_max) {
        Ok(listeners) => listeners,
        // The process ends with the thread, and the daemon starts another.
        Err(error) => return tracing::error!(%error, "a thread cannot wait for clients"),
    };
    let mut counted = ByService::new();
    let mut shaken = Handshakes::default();
    let mut measures = false;
    let mut tick = interval(COUNTS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(ThreadOrder::Add { id, kind, listener }) => {
                    if let Err(unused) = listeners.add(&id, kind.clone(), listener) {
                        let Unused { listener, error } = unused;
                        tracing::warn!(%id, %error, "a listener cannot be used for the moment");
                        reporter.report(ThreadEvent::ListenerUnused { id, kind, listener });
                    }
                }
                Some(ThreadOrder::Remove { id }) => listeners.remove(&id),
                Some(ThreadOrder::Sockets { run, sockets }) => context.thread.add_sockets(run, sockets),
                Some(ThreadOrder::Apply { number, view }) => {
                    context.apply(view);
                    reporter.report(ThreadEvent::Applied { number });
                }
                Some(ThreadOrder::Retire) => {
                    listeners.remove_all();
                    context.thread.retire();
                    task::spawn_local(ended(Rc::clone(&context), Rc::clone(&reporter)));
                }
                Some(ThreadOrder::Finish) => {
                    listeners.remove_all();
                    context.thread.shut_down();
                    task::spawn_local(ended(Rc::clone(&context), Rc::clone(&reporter)));
                }
            },
            id = listeners.ended() => reporter.report(ThreadEvent::ListenerEnded { id }),
            _ = tick.tick() => {
                let counts = context.thread.counts_of_some();
                if counts != counted {
                    counted.clone_from(&counts);
                    reporter.report(ThreadEvent::Counts(counts));
                }
                let handshakes = context.thread.handshakes.read();
                if handshakes != shaken {
                    shaken.clone_from(&handshakes);
                    reporter.report(ThreadEvent::Handshakes(handshakes));
                }
                let edges = context.thread.edges();
                if !edges.is_empty() {
                    reporter.report(ThreadEvent::Edges(edges));
                }
                let work = context.thread.work();
                if !work.is_empty() || measures {
                    measures = !work.is_empty();
                    reporter.report(ThreadEvent::Work(work));
                }
            }
        }
    }
}

/// Says when nobody is connected any longer.
async fn ended(context: Rc<Context>, reporter: Rc<Reporter>) {
    tokio::join!(context.thread.connections_ended(), context.tunnels_ended());
    reporter.report(ThreadEvent::Ended);
}

fn context(threads: NonZeroUsize, reporter: &Rc<Reporter>) -> Rc<Context> {
    // The context is reached from its own thread's reports, to have all refusals in one place.
    Rc::new_cyclic(|context: &std::rc::Weak<Context>| {
        let (context, from_thread) = (context.clone(), Rc::clone(reporter));
        let told = Told::default();
        let thread = Thread::new(threads, move |report| match report {
            Report::NeedSockets { run } => from_thread.report(ThreadEvent::NeedSockets { run }),
            Report::Drained { run } => from_thread.report(ThreadEvent::Drained { run }),
            Report::Lost(lost) => {
                if told.one_more() {
                    from_thread.report(ThreadEvent::Lost(lost));
                }
            }
            Report::Trouble(trouble) => from_thread.report(ThreadEvent::Trouble(trouble)),
            Report::Wanted { service } => from_thread.report(ThreadEvent::Wanted { service }),
            Report::Refused { caller, target, reason } => {
                if let Some(context) = context.upgrade() {
                    context.tell(Refusal { caller, target, reason });
                }
            }
        });
        let from_context = Rc::clone(reporter);
        Context::new(thread, move |refusal| from_context.report(ThreadEvent::Refused(refusal)))
    })
}

//! What the connections of one thread have in common, beside the request path's own state.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use tokio::sync::Notify;

use crate::{
    refusals::{Refusal, Refusals},
    thread::Thread,
    view::View,
};

/// One thread's.
pub(crate) struct Context {
    /// The request path's state.
    pub(crate) thread: Rc<Thread>,
    view: RefCell<Arc<View>>,
    refusals: Refusals,
    tell: Box<dyn Fn(Refusal)>,
    tunnels: Cell<usize>,
    tunnel_ended: Notify,
}

impl Context {
    /// `tell` takes refusals on to the daemon and must not wait.
    pub(crate) fn new(thread: Rc<Thread>, tell: impl Fn(Refusal) + 'static) -> Self {
        Self {
            thread,
            view: RefCell::default(),
            refusals: Refusals::default(),
            tell: Box::new(tell),
            tunnels: Cell::new(0),
            tunnel_ended: Notify::new(),
        }
    }

    /// The present snapshot.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Uses this snapshot from now on.
    pub(crate) fn apply(&self, view: Arc<View>) {
        self.thread.use_folders(&view.folders);
        self.thread.use_documents(&view.documents);
        self.thread.apply_with(&view.snapshot, &view.service_gates, &view.wards);
        if view.ends_connections() {
            // Those of HTTP/2 say GOAWAY, and need no answer for that.
            self.thread.clock.wake_all();
        }
        self.view.replace(view);
    }

    /// Tells the daemon of a refusal, unless it was told lately.
    pub(crate) fn refuse(&self, caller: Option<&str>, target: &str, reason: &str) {
        self.tell(Refusal {
            caller: caller.map(str::to_owned),
            target: target.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// The same for one that is made already.
    pub(crate) fn tell(&self, refusal: Refusal) {
        if self.refusals.is_news(&refusal) {
            tracing::info!(?refusal.caller, refusal.target, refusal.reason, "refused");
            (self.tell)(refusal);
        }
    }

    /// Counts a tunnel for as long as the result lives.
    pub(crate) fn tunnel(self: &Rc<Self>) -> Tunnel {
        self.tunnels.set(self.tunnels.get() + 1);
        Tunnel(Rc::clone(self))
    }

    /// Waits until no tunnel is left.
    pub(crate) async fn tunnels_ended(&self) {
        while self.tunnels.get() > 0 {
            // Only this thread notifies, so nothing happens between the look and the wait.
            self.tunnel_ended.notified().await;
        }
    }
}

/// A tunnel that is open.
pub(crate) struct Tunnel(Rc<Context>);

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.tunnels.set(self.0.tunnels.get() - 1);
        self.0.tunnel_ended.notify_one();
    }
}

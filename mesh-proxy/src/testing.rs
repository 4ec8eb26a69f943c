//! What tests share.

use tokio::{runtime::Builder, task::LocalSet};

/// Runs a test as the proxy's threads run: one thread, tasks that need not be `Send`.
pub(crate) fn local(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

//! How long a path is that of one cgroup. The next run of a worker has a group of the same path, and so has a service that comes back.

use std::sync::Arc;

use tokio::sync::Mutex;

/// The time of one cgroup. What is done to it beside the loop is done within that or not at all.
///
/// Whoever removes a cgroup waits in the kernel until nobody writes any of its files, and holds the lock of all cgroups meanwhile
/// (`kernfs_drain` in fs/kernfs/dir.c). A write that lowers a limit may take seconds. So the loop asks here before it removes one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tenure(Arc<Mutex<bool>>);

impl Tenure {
    /// Does something to the group unless its time is over, which does not end before that is done. Not for the loop.
    pub(crate) fn within<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let is_over = self.0.blocking_lock();
        (!*is_over).then(act)
    }

    /// Ends it, unless something is being done now.
    #[must_use]
    pub(crate) fn end(&self) -> bool {
        self.0.try_lock().map(|mut is_over| *is_over = true).is_ok()
    }

    /// Waits until that is done.
    pub(crate) async fn idle(self) {
        drop(self.0.lock().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_done_to_a_group_whose_time_is_over() {
        let tenure = Tenure::default();
        let is_ended_within = tenure.within(|| tenure.end());
        assert_eq!(is_ended_within, Some(false));
        assert!(tenure.end());
        assert!(tenure.clone().within(|| ()).is_none());
        assert!(tenure.end(), "it is and stays so");
    }
}

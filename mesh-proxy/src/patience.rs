//! How errors of accepting are borne.

use std::{io, time::Duration};

use nix::errno::Errno;

/// The wait after an error that means "not now", and what it grows to.
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Errors in a row, to wait longer each time and to be told once.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    wait: Option<Duration>,
}

impl Patience {
    /// How long to wait before the next try; `None` when there is no use in trying.
    pub(crate) fn after(&mut self, id: &str, error: &io::Error) -> Option<Duration> {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        match errno {
            Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP => {
                tracing::error!(%id, %error, "a listener is no longer of use");
                return None;
            }
            // The affair of one client, which is gone (accept(2)): the next one may be there already.
            Errno::ECONNABORTED | Errno::EPERM | Errno::ECONNREFUSED => return Some(Duration::ZERO),
            _ => {}
        }
        if self.wait.is_none() {
            tracing::warn!(%id, %error, "cannot accept for the moment");
        }
        let wait = self.wait.map_or(BACKOFF_FIRST, |wait| BACKOFF_MAX.min(wait * 2));
        self.wait = Some(wait);
        Some(wait)
    }
}

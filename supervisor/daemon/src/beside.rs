//! Work that waits for disks, the kernel or the processor, on threads beside the loop.
//!
//! Kills are such work, and must not wait for anything else: a disk that hangs, a reader who asks for a thousand figures, the kernel
//! that makes room for a lower limit. So every other kind has a share of the threads, whatever waits in it waits in line there, and
//! some threads are in nobody's share.

use tokio::{
    sync::Semaphore,
    task::{JoinHandle, spawn_blocking},
};

/// Reads of old log lines. They wait for the disk.
pub(crate) static LOG_READS: Share = Share::of(LOG_READS_MAX);
/// Figures for those who look: `status`, `limits`, `inspect`.
pub(crate) static VIEWS: Share = Share::of(VIEWS_MAX);
/// Limits of what runs. The kernel may reclaim memory for seconds, or move processes, before a write returns.
pub(crate) static LIMITS: Share = Share::of(LIMITS_MAX);
/// Secrets, which are read from disks of any kind.
pub(crate) static SECRETS: Share = Share::of(SECRETS_MAX);
/// Names of hosts outside, which the C library looks up.
pub(crate) static NAMES: Share = Share::of(NAMES_MAX);
/// What is noted of jobs, by one writer.
pub(crate) static JOBS: Share = Share::of(JOBS_MAX);

/// Looks at the configuration's files.
pub(crate) static FILES: Share = Share::of(FILES_MAX);

/// Descriptions of APIs: files of them, and what is made of all.
pub(crate) static APIS: Share = Share::of(APIS_MAX);

/// Folders that the proxy gets.
pub(crate) static FOLDERS: Share = Share::of(FOLDERS_MAX);

const LOG_READS_MAX: usize = 2;
const VIEWS_MAX: usize = 2;
const LIMITS_MAX: usize = 2;
const SECRETS_MAX: usize = 2;
const NAMES_MAX: usize = 2;
const JOBS_MAX: usize = 1;
const FILES_MAX: usize = 1;
const FOLDERS_MAX: usize = 1;
const APIS_MAX: usize = 1;

/// How many audits may be under way at a time. Who asks for one more is told that we are busy.
pub(crate) const AUDITS_MAX: usize = 1;

/// Left for what has no share: kills, the looks for processes that belong to those, and a reload, of which there is one at a time.
const OTHERS_MIN: usize = 4;

/// All threads. They come when they are needed and go when they are not. Bounded, so that a thousand kills at once do not make a
/// thousand of them.
pub(crate) const THREADS_MAX: usize = LOG_READS_MAX
    + VIEWS_MAX
    + LIMITS_MAX
    + SECRETS_MAX
    + NAMES_MAX
    + JOBS_MAX
    + FILES_MAX
    + FOLDERS_MAX
    + APIS_MAX
    + AUDITS_MAX
    + OTHERS_MIN;

/// A kind of work, and how many threads it may take.
#[derive(Debug)]
pub(crate) struct Share(Semaphore);

impl Share {
    const fn of(threads: usize) -> Share {
        Share(Semaphore::const_new(threads))
    }

    /// Does it in turn. `None` when it panics.
    pub(crate) async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // Held until the thread is free again, whether somebody still waits for it or not.
        let turn = self.0.acquire().await.ok()?;
        let work = now(move || {
            let _turn = turn;
            work()
        });
        work.await.ok()
    }
}

/// Does something that has no share and need not wait for one: it belongs to a kill, or is bounded in another way.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn now<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn_blocking(work)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, mpsc},
        time::Duration,
    };

    use super::*;

    #[test]
    fn whatever_hangs_leaves_threads_for_kills() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(THREADS_MAX)
            .build()
            .unwrap();
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        runtime.block_on(async {
            let hanging: Vec<_> = [&LOG_READS, &VIEWS, &LIMITS, &SECRETS, &JOBS, &FILES, &FOLDERS, &APIS]
                .into_iter()
                .flat_map(|share| (0..2 * THREADS_MAX).map(move |_| share))
                .map(|share| {
                    let hang = Arc::clone(&hang);
                    tokio::spawn(share.run(move || hang.lock().unwrap().recv().is_err()))
                })
                .collect();
            let kills = async {
                // Each lets the others go on as far as they come.
                for _ in 0..100 {
                    now(|| ()).await.unwrap();
                }
            };
            let kills = tokio::time::timeout(Duration::from_secs(20), kills).await;
            drop(release);
            for work in hanging {
                assert_eq!(work.await.unwrap(), Some(true));
            }
            assert!(kills.is_ok(), "no thread was left");
        });
    }
}

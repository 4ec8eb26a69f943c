//! What holds the processes of a run together, so that all of them can be ended and none is missed: its cgroup, or
//! where it has none, the marks its processes carry.
//!
//! Everything here reads and writes files of the kernel and may take a while: it runs beside the loop.

use std::{io, time::Duration};

use tokio::io::{Interest, unix::AsyncFd};
use watt_os::{
    cgroup::Group,
    descendants::{self, Marks},
};

use crate::beside;

/// How often one looks where the kernel does not tell.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The processes of a run.
#[derive(Debug, Clone)]
pub(crate) enum Containment {
    /// In a cgroup.
    Group(Group),
    /// Told by marks, some of which a process can shed (weak containment).
    Marks(Marks),
    /// None was started.
    Nothing,
}

impl Containment {
    /// Sends a signal to every process.
    pub(crate) async fn signal(self, signals: &'static [i32]) {
        let sent = beside::now(move || {
            for signal in signals {
                match &self {
                    Containment::Group(group) => group.signal(*signal),
                    Containment::Marks(marks) => descendants::signal(marks, *signal)?,
                    Containment::Nothing => {}
                }
            }
            io::Result::Ok(())
        });
        if let Ok(Err(error)) = sent.await {
            tracing::warn!("processes of a run cannot be signalled: {error}");
        }
    }

    /// Kills every process. They are gone when [`emptied`](Self::emptied) is done.
    pub(crate) async fn kill(self) {
        let killed = beside::now(move || match &self {
            Containment::Group(group) => group.kill(),
            Containment::Marks(marks) => descendants::kill(marks).map(drop),
            Containment::Nothing => Ok(()),
        });
        if let Ok(Err(error)) = killed.await {
            tracing::warn!("processes of a run cannot be killed: {error}");
        }
    }

    /// Waits until no process is left. The kernel tells of a v2 cgroup; elsewhere one has to look.
    pub(crate) async fn emptied(self) {
        match self {
            Containment::Group(group) => group_emptied(&group).await,
            Containment::Marks(marks) => marks_emptied(marks).await,
            Containment::Nothing => {}
        }
    }
}

async fn group_emptied(group: &Group) {
    let events = group.open_events().ok().flatten();
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the file owns its descriptor until it is dropped"
    )]
    let events = events.and_then(|file| AsyncFd::with_interest(file, Interest::PRIORITY).ok());
    while group.is_populated() {
        match &events {
            // Cleared first: what comes before the next look is seen by that look, and what comes after wakes us.
            Some(events) => match events.ready(Interest::PRIORITY).await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            },
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn marks_emptied(marks: Marks) {
    loop {
        let marks = marks.clone();
        let left = beside::now(move || descendants::find(&marks)).await;
        // Without /proc nobody can know. A run that is taken for over is no worse than one that never ends.
        if !matches!(left, Ok(Ok(left)) if !left.is_empty()) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

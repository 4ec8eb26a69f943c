//! Ending every process of a group, whatever it forks meanwhile and whichever session it moved to.

use std::{collections::BTreeSet, io};

use super::{
    Controller, Group, file,
    freeze::{freeze, thaw},
};
use crate::pidfd;

/// How often members are looked for and killed without a freezer. Each pass costs the forks of one pass; a tree
/// that outlives this many is left to the caller's next attempt.
const PASSES_MAX: usize = 100;

/// How many pidfds are held at a time, so that a large tree does not take all descriptors.
const PIDFDS_MAX: usize = 128;

impl Group {
    /// Kills every process in it and below. Returns when the signals are sent; the processes are gone when
    /// [`Group::is_populated`] says so.
    ///
    /// # Errors
    /// When processes are left that may not be signalled.
    pub fn kill(&self) -> io::Result<()> {
        if let Some(dir) = &self.unified {
            // Atomic in the kernel, since Linux 5.14. An older one does not have the file, and the rest does the work.
            match file::write(&dir.join("cgroup.kill"), "1") {
                Ok(()) if self.legacy.is_empty() => return Ok(()),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let freezer = self.legacy.get(&Controller::Freezer);
        freezer.into_iter().for_each(|dir| freeze(dir));
        let killed = self.kill_members();
        // Killing signals reach a process of a v1 freezer when it thaws.
        let thawed = freezer.map_or(Ok(()), |dir| thaw(dir));
        killed.and(thawed)
    }

    /// Sends a signal to every process in it and below, once. For a polite end; [`Group::kill`] is the other one.
    pub fn signal(&self, signal: i32) {
        // One that may not be signalled is the business of the kill that follows.
        let _ = self.signal_members(&self.members(), signal);
    }

    fn kill_members(&self) -> io::Result<()> {
        let mut signalled = BTreeSet::new();
        for _ in 0..PASSES_MAX {
            let new: BTreeSet<u32> = self.members().difference(&signalled).copied().collect();
            if new.is_empty() {
                return Ok(());
            }
            self.signal_members(&new, libc::SIGKILL)?;
            signalled.extend(new);
        }
        Ok(())
    }

    /// Signals those of these processes that are members. The numbers are looked at again when the pidfds are held:
    /// of one that is still listed then, either the pidfd's process is the member, or that has gone and the signal
    /// meets nobody.
    fn signal_members(&self, pids: &BTreeSet<u32>, signal: i32) -> io::Result<()> {
        let pids: Vec<u32> = pids.iter().copied().collect();
        for some in pids.chunks(PIDFDS_MAX) {
            let held: Vec<_> = some.iter().filter_map(|pid| Some((*pid, pidfd::open(*pid).ok()?))).collect();
            let still = self.members();
            for (_, process) in held.iter().filter(|(pid, _)| still.contains(pid)) {
                match pidfd::send_signal(process, signal) {
                    Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

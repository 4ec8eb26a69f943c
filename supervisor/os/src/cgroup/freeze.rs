//! Frozen groups: what is started in one does not run, not even as far as its program, until somebody thaws it.
//!
//! v2 (cgroup-v2.rst, `cgroup.freeze`) and the v1 freezer (cgroup-v1/freezer-subsystem.rst) both freeze a group for itself or with
//! one above it. Frozen processes can be killed on v2; on v1 the signal reaches them when they are thawed.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::poll::{PollTimeout, poll};

use super::{Controller, Group, file};

/// How many milliseconds a v1 freezer may take before a kill goes on without it.
const FREEZE_MS_MAX: usize = 100;

impl Group {
    /// Lifts what froze this group itself. Gives the nearest group above that still keeps it frozen: that is for whoever froze
    /// it to lift, because it holds others as well.
    ///
    /// # Errors
    /// When the group is frozen and may not be thawed.
    pub fn thaw(&self) -> io::Result<Option<PathBuf>> {
        let mut above = None;
        if let Some(dir) = &self.unified
            && is_frozen(dir)
        {
            file::write(&dir.join("cgroup.freeze"), "0")?;
            above = above_that(dir, "cgroup.freeze");
        }
        if let Some(dir) = self.legacy.get(&Controller::Freezer)
            && file::read(&dir.join("freezer.state")).is_ok_and(|state| state.trim() != "THAWED")
        {
            thaw(dir)?;
            above = above.or_else(|| above_that(dir, "freezer.self_freezing"));
        }
        Ok(above)
    }
}

/// Whether what starts in a v2 group is frozen, for itself or with one above. There are no such files in the root, which cannot be.
/// The events say so only when all of its processes are, and one that waits in the kernel may be long in coming.
fn is_frozen(dir: &Path) -> bool {
    file::number(&dir.join("cgroup.freeze")) == Some(1)
        || file::read(&dir.join("cgroup.events")).is_ok_and(|text| file::keyed(&text, "frozen") == Some(1))
}

fn above_that(dir: &Path, switch: &str) -> Option<PathBuf> {
    let is_on = |dir: &&Path| file::number(&dir.join(switch)) == Some(1);
    dir.ancestors().skip(1).find(is_on).map(Path::to_path_buf)
}

/// Stops everything in a v1 freezer cgroup, so that nothing forks while it is being killed. Gives up in silence: the
/// passes of the kill work without it, only slower.
pub(super) fn freeze(dir: &Path) {
    let state = dir.join("freezer.state");
    for _ in 0..FREEZE_MS_MAX {
        // Written again each time: a fork during the freeze may hold it in FREEZING (freezer-subsystem.rst).
        if file::write(&state, "FROZEN").is_err() {
            return;
        }
        if file::read(&state).is_ok_and(|text| text.trim() == "FROZEN") {
            return;
        }
        let _ = poll(&mut [], PollTimeout::from(1u8));
    }
}

/// Lets everything in a v1 freezer cgroup go on.
pub(super) fn thaw(dir: &Path) -> io::Result<()> {
    match file::write(&dir.join("freezer.state"), "THAWED") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What the kernel shows while a process of a group that is to be frozen waits for a disk.
    #[test]
    fn a_group_that_is_still_to_freeze_is_thawed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        let switch = dir.path().join("cgroup.freeze");
        fs::write(&switch, "1\n").unwrap();
        let group = Group { unified: Some(dir.path().to_owned()), ..Group::default() };
        assert_eq!(group.thaw().unwrap(), None);
        assert_eq!(file::number(&switch), Some(0));
    }
}

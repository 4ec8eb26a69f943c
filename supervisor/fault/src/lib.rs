//! Steps at which a test can have a role of watt killed, as `kill -9` at the worst moment would do it.
//!
//! A test names a folder in `WATT_FAULTS` and puts an empty file into it that is called like a step. The next process that comes to the
//! step takes the file away and dies there; that the file is gone tells the test that it did. One file is one death, whoever comes first.
//!
//! Only builds with debug assertions have any of it, which is what the tests run. In a release build a step is nothing at all.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

/// The environment variable with the folder.
pub const VARIABLE: &str = "WATT_FAULTS";

/// What a role that is started with an environment of its own has to be given of ours, for it to have faults as well.
pub fn variable() -> Option<String> {
    folder().map(|folder| format!("{VARIABLE}={}", folder.display()))
}

/// A step of this process: it ends here, if a test wants that.
#[inline]
pub fn step(name: &str) {
    if is_wanted(name) {
        // Nothing else is as sudden. When it cannot be, the test finds a process that goes on.
        let _ = signal::raise(Signal::SIGKILL);
    }
}

/// A step of a child: the child ends here, if a test wants that.
#[inline]
pub fn step_of(name: &str, pid: u32) {
    if is_wanted(name)
        && let Ok(pid) = i32::try_from(pid)
    {
        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn is_wanted(name: &str) -> bool {
    cfg!(debug_assertions) && folder().is_some_and(|folder| take(folder, name))
}

/// Whether the file was there; it is not any more.
fn take(folder: &Path, name: &str) -> bool {
    fs::remove_file(folder.join(name)).is_ok()
}

fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    if !cfg!(debug_assertions) {
        return None;
    }
    FOLDER.get_or_init(|| env::var_os(VARIABLE).map(PathBuf::from)).as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("daemon.exited"), "").unwrap();
        assert!(!take(folder.path(), "daemon.ready"));
        assert!(take(folder.path(), "daemon.exited"));
        assert!(!take(folder.path(), "daemon.exited"));
    }
}

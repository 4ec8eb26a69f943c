//! One spawner per application.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    process,
};

use crate::Error;

/// Holds the lock file's flock(2) until it is dropped, which the end of the process does too. The file's
/// content is the holder's pid.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock and writes this process's pid into the file.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Lock { path: path.to_path_buf(), source };
        loop {
            let file = open(path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(Error::Running { pid: read_pid(&file), lock: path.to_path_buf() });
                }
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            // The holder before us may have removed the file between our open and our lock: then the lock is
            // on nothing that others would find.
            if is_at(&file, path) {
                write_pid(&file).map_err(failed)?;
                return Ok(Self { file });
            }
        }
    }

    /// One that this process holds already, by this descriptor. A lock belongs to the open file, and so outlives execve(2).
    pub(crate) fn held(file: OwnedFd) -> Self {
        Self { file: file.into() }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

fn write_pid(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(format!("{}\n", process::id()).as_bytes(), 0)
}

/// `None` in the moment before the holder has written it.
fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use super::*;

    /// A spawner that ends removes the runtime folder, with the file in it, before it lets go of the lock.
    #[test]
    fn a_file_that_its_holder_removes_has_one_holder_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (holders, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 300 {
                        let Ok(lock) = Lock::take(&path) else {
                            thread::yield_now();
                            continue;
                        };
                        taken.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "another one has it");
                        thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        fs::remove_file(&path).unwrap();
                        drop(lock);
                    }
                });
            }
        });
    }
}

//! Reading and writing the one-value files of cgroup file systems.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

/// More than any file read here has; `cgroup.procs` of a worker with a hundred thousand processes fits.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// Writes a value in one write(2), which is what the kernel acts on. The file is never created.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Reads a file as text.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_SIZE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a file that holds one number. `max`, and what cannot be read, is `None`.
pub(super) fn number(path: &Path) -> Option<u64> {
    read(path).ok()?.trim().parse().ok()
}

/// The words of a file, such as `cgroup.controllers`; none when it cannot be read.
pub(super) fn words(path: &Path) -> impl Iterator<Item = String> + use<> {
    let text = read(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Finds `key value` in a flat keyed file.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The process numbers in `<dir>/cgroup.procs`; none when the directory has gone.
pub(super) fn processes(dir: &Path) -> Vec<u32> {
    let text = read(&dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect()
}

/// A process that has ended need not be moved.
pub(super) fn gone_is_fine(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Makes a directory that may be there already. Says whether it was not.
pub(super) fn make_dir(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        result => result.map(|()| true),
    }
}

/// Directories directly below, by name. A cgroup's other entries are files.
pub(super) fn subdirectories(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Removes a cgroup and those below it, from the leaves up. One that has gone already is a success.
///
/// # Errors
/// EBUSY while a process is left in one of them.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    for child in subdirectories(path) {
        remove_tree(&path.join(child))?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_words() {
        let text = "oom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "oom"), Some(3));
        assert_eq!(keyed(text, "high"), None);
        assert_eq!(keyed("oom_kill many", "oom_kill"), None);
    }
}

//! Attributes of this process (prctl(2)), and how it reads in `ps`.

use std::{
    ffi::CString,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
};

use nix::sys::{prctl, signal::Signal};

/// Forbids this process and all it becomes and starts to gain privileges by execve(2). Cannot be undone.
///
/// # Errors
/// None that the kernel documents.
pub fn set_no_new_privs() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// Asks for a signal when the *thread* that made this process ends. Forgotten at each change of credentials, so it has to
/// come after those.
///
/// # Errors
/// EINVAL for a number that is no signal.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::try_from(signal)?)?)
}

/// Keeps processes of the same user from tracing this one and from reading its memory and descriptors (PR_SET_DUMPABLE).
///
/// # Errors
/// None that the kernel documents.
pub fn set_untraceable() -> io::Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// Makes this process read as `title` in `ps`: the thread's name becomes its first 15 bytes, and the command
/// line all of it, as far as the original arguments leave room. Arguments have to be read before.
///
/// # Errors
/// When /proc is not there. The process runs on as well without a title.
pub fn set_title(title: &str) -> io::Result<()> {
    prctl::set_name(&CString::new(title)?)?;
    // The arguments are in this process's own memory, at a place only the kernel knows for sure. Writing through the file
    // needs no pointer into memory that Rust knows nothing about, and no CAP_SYS_RESOURCE as PR_SET_MM would.
    let (start, end) = arguments(&fs::read("/proc/self/stat")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/stat has no arguments"))?;
    let len = usize::try_from(end.saturating_sub(start)).unwrap_or(0).min(ARGUMENTS_LEN_MAX);
    let mut text = vec![0u8; len];
    // The last byte stays NUL: else the kernel takes the environment for a part of the arguments (proc_pid_cmdline(5)).
    let shown = title.len().min(len.saturating_sub(1));
    text[..shown].copy_from_slice(&title.as_bytes()[..shown]);
    OpenOptions::new().write(true).open("/proc/self/mem")?.write_all_at(&text, start)
}

/// No title is longer; what is left of longer arguments is cleared up to here.
const ARGUMENTS_LEN_MAX: usize = 64 << 10;

/// `arg_start` and `arg_end`, fields 48 and 49 of proc_pid_stat(5).
fn arguments(stat: &[u8]) -> Option<(u64, u64)> {
    // The name in field 2 may contain anything, so fields are counted from its end: the next one is 3.
    let after_name = stat.rsplitn(2, |byte| *byte == b')').next()?;
    let mut fields = std::str::from_utf8(after_name).ok()?.split_whitespace().skip(48 - 3);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_addresses_are_found_behind_any_name() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let stat = format!("77 (a) b) R) S {}\n", fields.join(" "));
        assert_eq!(arguments(stat.as_bytes()), Some((48, 49)));
        assert_eq!(arguments(b"77 (a) S 1 2"), None);
        assert_eq!(arguments(b""), None);
    }
}

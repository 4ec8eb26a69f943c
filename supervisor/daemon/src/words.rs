//! How facts are put into words, the same in `status`, in events, in logs and in error bodies of the mesh.

use std::{io, time::Duration};

use watt_core::worker::ExitCause;

/// An exit as people read it: `exit 3`, `signal 9 (KILL)`, `oom (limit 512M)`, `exec: cwd /srv/x: no such file or
/// directory`. `start_timeout` is the service's.
pub fn exit(cause: &ExitCause, start_timeout: Duration) -> String {
    match cause {
        ExitCause::Exited(status) => format!("exit {status}"),
        ExitCause::Signaled { signal, core_dumped } => {
            let core = if *core_dumped { ", core dumped" } else { "" };
            format!("{}{core}", signal_with_name(*signal))
        }
        ExitCause::OutOfMemory { limit: Some(limit) } => format!("oom (limit {})", size(*limit)),
        ExitCause::OutOfMemory { limit: None } => "oom (the host has no memory left)".to_owned(),
        ExitCause::Stopped => "stopped".to_owned(),
        ExitCause::StartTimeout => format!("start timeout ({})", duration(start_timeout)),
        ExitCause::ExecFailed(failure) => {
            let object = if failure.object.is_empty() { "" } else { " " };
            format!("exec: {}{object}{}: {}", failure.step, failure.object, errno(failure.errno))
        }
        ExitCause::Unknown => "unknown: it ended while nobody could see how".to_owned(),
    }
}

/// The cause in one word, for programs.
pub fn exit_cause(cause: &ExitCause) -> &'static str {
    match cause {
        ExitCause::Exited(_) => "exit",
        ExitCause::Signaled { .. } => "signal",
        ExitCause::OutOfMemory { .. } => "oom",
        ExitCause::Stopped => "stopped",
        ExitCause::StartTimeout => "start_timeout",
        ExitCause::ExecFailed(_) => "exec_failed",
        ExitCause::Unknown => "unknown",
    }
}

/// The number that belongs to the cause.
pub fn exit_code(cause: &ExitCause) -> Option<i32> {
    match cause {
        ExitCause::Exited(status) => Some(*status),
        ExitCause::Signaled { signal, .. } => Some(*signal),
        ExitCause::ExecFailed(failure) => Some(failure.errno),
        ExitCause::OutOfMemory { .. } | ExitCause::Stopped | ExitCause::StartTimeout | ExitCause::Unknown => None,
    }
}

/// An error number of errno(3) in words, lower case, without the number.
pub fn errno(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => format!("error {errno}"),
    }
}

/// `signal 9 (KILL)`.
pub fn signal_with_name(signal: i32) -> String {
    match signal_name(signal) {
        Some(name) => format!("signal {signal} ({name})"),
        None => format!("signal {signal}"),
    }
}

/// Names of signal(7), as kill(1) takes them.
fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    NAMES.get(usize::try_from(signal).ok()?.checked_sub(1)?).copied()
}

/// A number of bytes as configuration writes it: the largest unit that leaves no rest, `512M`.
pub fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, 'T'), (1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    let exact = units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match exact {
        Some((unit, letter)) => format!("{}{letter}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// A time span: `200 ms`, `30 s`, `1.5 s`.
pub fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{:.1} s", ms as f64 / 1000.0),
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use watt_core::worker::ExecFailure;

    #[test]
    fn exits_in_words() {
        let check = |cause: ExitCause, expected: &str| {
            assert_eq!(exit(&cause, Duration::from_secs(30)), expected);
        };
        check(ExitCause::Exited(3), "exit 3");
        check(ExitCause::Signaled { signal: 9, core_dumped: false }, "signal 9 (KILL)");
        check(ExitCause::Signaled { signal: 11, core_dumped: true }, "signal 11 (SEGV), core dumped");
        check(ExitCause::Signaled { signal: 40, core_dumped: false }, "signal 40");
        check(ExitCause::OutOfMemory { limit: Some(512 << 20) }, "oom (limit 512M)");
        check(ExitCause::OutOfMemory { limit: Some(1025) }, "oom (limit 1025)");
        check(ExitCause::StartTimeout, "start timeout (30 s)");
        let failure = ExecFailure { step: "cwd".into(), object: "/srv/x".into(), errno: 2 };
        check(ExitCause::ExecFailed(failure), "exec: cwd /srv/x: no such file or directory");
    }
}

//! How an end reads: `exit 3`, `signal 9 (KILL)`, `oom (limit 512M)`, `recycled: memory pressure 43 %`, `unhealthy: watchdog`,
//! `exec: cwd /srv/x: No such file or directory`.

use std::{fmt, io};

use super::{Complaint, ExecFailure, ExitCause, Stall};
use crate::plan::HookPoint;

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitCause::Exited(status) => write!(f, "exit {status}"),
            ExitCause::Signaled { signal, core_dumped } => {
                write!(f, "signal {signal}")?;
                let core = if *core_dumped { ", core dumped" } else { "" };
                match signal_name(*signal) {
                    Some(name) => write!(f, " ({name}{core})"),
                    None if *core_dumped => write!(f, " (core dumped)"),
                    None => Ok(()),
                }
            }
            ExitCause::OutOfMemory { limit: Some(limit) } => write!(f, "oom (limit {})", Bytes(*limit)),
            ExitCause::OutOfMemory { limit: None } => write!(f, "oom"),
            ExitCause::Stopped => write!(f, "stopped"),
            ExitCause::StartTimeout => write!(f, "start timeout"),
            ExitCause::Group => write!(f, "stopped, because another service of its group failed"),
            ExitCause::Recycled(stall) => write!(f, "recycled: {stall}"),
            ExitCause::Unhealthy(complaint) => write!(f, "unhealthy: {complaint}"),
            ExitCause::ExecFailed(failure) if failure.is_of_hook() => {
                write!(f, "{}: {}", failure.step, failure.object)
            }
            ExitCause::ExecFailed(failure) => write!(f, "exec: {failure}"),
            ExitCause::Unknown => write!(f, "unknown"),
        }
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pressure {} %", self.resource.name(), self.percent)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Complaint::Check { failures: 1 } => write!(f, "its check failed"),
            Complaint::Check { failures } => write!(f, "its check failed {failures} times in a row"),
            Complaint::Watchdog => write!(f, "watchdog"),
            Complaint::Itself => write!(f, "it said so"),
        }
    }
}

impl ExecFailure {
    /// A `pre_start` hook that ended in this way.
    pub fn of_hook(how: String) -> ExecFailure {
        ExecFailure { step: HookPoint::PreStart.name().to_owned(), object: how, errno: 0 }
    }

    /// Whether it was the `pre_start` hook and no step of the exec stage.
    pub fn is_of_hook(&self) -> bool {
        self.step == HookPoint::PreStart.name()
    }
}

impl fmt::Display for ExecFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.step)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        match self.errno {
            0 => Ok(()),
            errno => write!(f, ": {}", error_text(errno)),
        }
    }
}

/// A number of bytes in the largest unit that it is a whole number of, as the configuration writes it.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "G"), (20, "M"), (10, "K")];
        let whole = |&(shift, _): &(u32, _)| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match units.iter().find(|unit| whole(unit)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The text of an error number, without the number that std adds.
fn error_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rsplit_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// A signal's name without `SIG`: signal(7), numbered as on every architecture but alpha, sparc, mips and parisc.
pub fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let index = usize::try_from(signal).ok()?.checked_sub(1)?;
    NAMES.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_read_as_people_say_them() {
        let check = |cause: ExitCause, expected: &str| assert_eq!(cause.to_string(), expected);
        let exec = |object: &str| {
            ExitCause::ExecFailed(ExecFailure { step: "cwd".into(), object: object.into(), errno: 2 })
        };
        check(ExitCause::Exited(3), "exit 3");
        check(ExitCause::Signaled { signal: 9, core_dumped: false }, "signal 9 (KILL)");
        check(ExitCause::Signaled { signal: 11, core_dumped: true }, "signal 11 (SEGV, core dumped)");
        check(ExitCause::Signaled { signal: 40, core_dumped: false }, "signal 40");
        check(ExitCause::Signaled { signal: 40, core_dumped: true }, "signal 40 (core dumped)");
        check(ExitCause::Signaled { signal: i32::MIN, core_dumped: false }, "signal -2147483648");
        check(ExitCause::OutOfMemory { limit: Some(512 << 20) }, "oom (limit 512M)");
        check(ExitCause::OutOfMemory { limit: Some(1000) }, "oom (limit 1000)");
        check(ExitCause::OutOfMemory { limit: Some(0) }, "oom (limit 0)");
        check(ExitCause::OutOfMemory { limit: None }, "oom");
        check(ExitCause::Stopped, "stopped");
        check(ExitCause::StartTimeout, "start timeout");
        check(ExitCause::Group, "stopped, because another service of its group failed");
        let stall = Stall { resource: crate::plan::Resource::Memory, percent: 43 };
        check(ExitCause::Recycled(stall), "recycled: memory pressure 43 %");
        check(exec("/srv/x"), "exec: cwd /srv/x: No such file or directory");
        check(exec(""), "exec: cwd: No such file or directory");
        check(ExitCause::ExecFailed(ExecFailure::of_hook("exit 3".into())), "pre_start: exit 3");
        check(ExitCause::Unknown, "unknown");
    }
}

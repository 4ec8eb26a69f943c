//! How facts are put into words, the same in `status`, in events, in logs and in error bodies of the mesh.

use std::time::Duration;

use watt_core::{plan::Condition, sandbox::Profile, worker::ExitCause};

/// An exit as people read it: `exit 3`, `signal 9 (KILL)`, `oom (limit 512M)`, `start timeout (30 s)`. The timeout is
/// the service's.
pub fn exit(cause: &ExitCause, start_timeout: Duration) -> String {
    match cause {
        ExitCause::StartTimeout => format!("{cause} ({})", duration(start_timeout)),
        ExitCause::Exited(_)
        | ExitCause::Signaled { .. }
        | ExitCause::OutOfMemory { .. }
        | ExitCause::Stopped
        | ExitCause::ExecFailed(_)
        | ExitCause::Unknown => cause.to_string(),
    }
}

/// A sandbox's profile, as the configuration has it.
pub fn profile(profile: Profile) -> &'static str {
    match profile {
        Profile::Off => "off",
        Profile::Standard => "standard",
        Profile::Strict => "strict",
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
        ExitCause::OutOfMemory { .. } | ExitCause::Stopped | ExitCause::StartTimeout | ExitCause::Unknown => {
            None
        }
    }
}

/// What a dependency has to be.
pub fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "started",
        Condition::Ready => "ready",
        Condition::Completed => "completed",
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

    #[test]
    fn spans_of_time() {
        let check = |ms, expected: &str| assert_eq!(duration(Duration::from_millis(ms)), expected);
        check(0, "0 ms");
        check(200, "200 ms");
        check(30_000, "30 s");
        check(1_500, "1.5 s");
        assert_eq!(exit(&ExitCause::StartTimeout, Duration::from_secs(30)), "start timeout (30 s)");
    }
}

//! How facts are put into words, the same in `status`, in events, in logs and in error bodies of the mesh.

use std::time::Duration;

use watt_api::control::JobResult;
use watt_core::{
    fleet::WhyKept,
    plan::{Condition, GroupStrategy, ReadyWhen, Role, Service},
    sandbox::Profile,
    worker::ExitCause,
};
use watt_os::cgroup::{LimitName, Reason, Unenforced};

/// An exit as people read it: `exit 3`, `signal 9 (KILL)`, `oom (limit 512M)`, `start timeout (30s)`. The timeout is
/// the service's.
pub fn exit(cause: &ExitCause, start_timeout: Duration) -> String {
    match cause {
        ExitCause::StartTimeout => format!("{cause} ({})", duration(start_timeout)),
        ExitCause::Exited(_)
        | ExitCause::Signaled { .. }
        | ExitCause::OutOfMemory { .. }
        | ExitCause::Stopped
        | ExitCause::Group
        | ExitCause::Recycled(_)
        | ExitCause::Unhealthy(_)
        | ExitCause::ExecFailed(_)
        | ExitCause::Unknown => cause.to_string(),
    }
}

/// The same of a service's worker; a start timeout with what was waited for.
pub fn exit_of(cause: &ExitCause, plan: Option<&Service>) -> String {
    let text = exit(cause, plan.map(|plan| plan.ready.timeout).unwrap_or_default());
    match (cause, plan.and_then(missed)) {
        (ExitCause::StartTimeout, Some(missed)) => format!("{text}: {missed}"),
        _ => text,
    }
}

/// What one that was not ready in time has not done. A check that failed is an event, and one at the start came before.
fn missed(plan: &Service) -> Option<&'static str> {
    match plan.ready.when {
        _ if plan.startup.is_some() => None,
        ReadyWhen::Listening => Some("it accepts no connections; `listen: none` if it is not to"),
        ReadyWhen::Notify => Some("it has not said `READY=1`"),
        ReadyWhen::NotificationFd(_) => Some("it has written no line to its descriptor"),
        ReadyWhen::Started | ReadyWhen::Check(_) | ReadyWhen::Log { .. } => None,
    }
}

/// Why a service's old workers stay.
pub fn kept(why: &WhyKept, plan: Option<&Service>) -> String {
    format!("the old workers stay, because {}", roll_failed(why, plan))
}

/// Why the replacement of a service's workers failed.
pub fn roll_failed(why: &WhyKept, plan: Option<&Service>) -> String {
    match why {
        WhyKept::Ended(cause) => format!("a new one did not get ready: {}", exit_of(cause, plan)),
        WhyKept::Deadline => {
            let deadline = plan.and_then(|plan| plan.roll.deadline).unwrap_or_default();
            format!("the new ones were not there in time ({})", duration(deadline))
        }
        WhyKept::TooFew => "others are down, and none can be taken away".to_owned(),
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

/// A group's strategy, as the configuration has it.
pub fn strategy(strategy: GroupStrategy) -> &'static str {
    match strategy {
        GroupStrategy::OneForOne => "one_for_one",
        GroupStrategy::OneForAll => "one_for_all",
        GroupStrategy::RestForOne => "rest_for_one",
    }
}

/// A role, as the configuration has it.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::View => "view",
        Role::Operate => "operate",
        Role::Admin => "admin",
    }
}

/// What came of a job's firing, as the API has it.
pub fn job_result(result: JobResult) -> &'static str {
    match result {
        JobResult::Ok => "ok",
        JobResult::Failed => "failed",
        JobResult::TimedOut => "timed_out",
        JobResult::Stopped => "stopped",
        JobResult::Interrupted => "interrupted",
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
        ExitCause::Group => "group",
        ExitCause::Recycled(_) => "recycled",
        ExitCause::Unhealthy(_) => "unhealthy",
        ExitCause::ExecFailed(failure) if failure.is_of_hook() => "pre_start",
        ExitCause::ExecFailed(_) => "exec_failed",
        ExitCause::Unknown => "unknown",
    }
}

/// The number that belongs to the cause.
pub fn exit_code(cause: &ExitCause) -> Option<i32> {
    match cause {
        ExitCause::Exited(status) => Some(*status),
        ExitCause::Signaled { signal, .. } => Some(*signal),
        ExitCause::ExecFailed(failure) => Some(failure.errno).filter(|_| !failure.is_of_hook()),
        ExitCause::OutOfMemory { .. }
        | ExitCause::Stopped
        | ExitCause::StartTimeout
        | ExitCause::Group
        | ExitCause::Recycled(_)
        | ExitCause::Unhealthy(_)
        | ExitCause::Unknown => None,
    }
}

/// What a dependency has to be.
pub fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "started",
        Condition::Ready => "ready",
        Condition::Healthy => "healthy",
        Condition::Completed => "completed",
        Condition::CompletedSuccessfully => "completed successfully",
    }
}

/// A time span, rounded to its two largest units and written as a configuration may write it: `850ms`, `1.5s`, `30s`,
/// `3m20s`, `2h`, `5d4h`.
pub fn duration(duration: Duration) -> String {
    let tenths = duration.as_millis().saturating_add(50) / 100;
    let seconds = duration.as_millis().saturating_add(500) / 1000;
    let two = |large: u128, large_unit, small: u128, small_unit| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        _ if duration.as_millis() < 1000 => format!("{}ms", duration.as_millis()),
        _ if tenths < 100 && !tenths.is_multiple_of(10) => format!("{}.{}s", tenths / 10, tenths % 10),
        0..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// The error number below an error, if there is one.
pub fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(errno) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return Some(errno);
        }
        next = error.source();
    }
    None
}

/// A number of things: `1 service`, `3 services`.
pub fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// How often something failed: `once`, `5 times within 1m`.
pub fn times(failures: u32, within: Duration) -> String {
    match failures {
        1 => "once".to_owned(),
        failures => format!("{failures} times within {}", duration(within)),
    }
}

/// How a line begins that is about all workers of a service together.
pub(crate) const OF_TOTAL: &str = "limits_total: ";

/// The limits that are not enforced, a line for each reason: `memory, cpu (no cgroup can be made here)`.
pub(crate) fn unenforced(limits: &[Unenforced]) -> Vec<String> {
    let mut lines: Vec<(&Reason, String)> = Vec::new();
    for Unenforced { limit, reason } in limits {
        match lines.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push_str(&format!(", {limit}")),
            None => lines.push((reason, limit.to_string())),
        }
    }
    lines.into_iter().map(|(reason, names)| format!("{names} ({reason})")).collect()
}

/// Whether such a line is about this limit.
pub(crate) fn is_about(line: &str, limit: LimitName) -> bool {
    let names = line.split_once(" (").map_or("", |(names, _)| names);
    names.split(", ").any(|name| name == limit.to_string())
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
    fn limits_with_one_reason_are_one_line() {
        use watt_os::cgroup::LimitName::{Cpu, Memory, MemoryHigh};
        let missing = |limit, reason| Unenforced { limit, reason };
        let lines = unenforced(&[
            missing(Memory, Reason::NoCgroup),
            missing(MemoryHigh, Reason::OnlySoft),
            missing(Cpu, Reason::NoCgroup),
        ]);
        assert_eq!(
            lines,
            ["memory, cpu (no cgroup can be made here)", "memory_high (cgroup v1 has a soft limit only)"]
        );
    }

    #[test]
    fn spans_of_time() {
        let check = |ms, expected: &str| assert_eq!(duration(Duration::from_millis(ms)), expected);
        check(0, "0ms");
        check(850, "850ms");
        check(1_000, "1s");
        check(1_540, "1.5s");
        check(9_960, "10s");
        check(30_000, "30s");
        check(59_600, "1m");
        check(200_000, "3m20s");
        check(299_998, "5m");
        check(7_200_000, "2h");
        check(8_000_000, "2h13m");
        check(446_400_000, "5d4h");
        assert!(duration(Duration::MAX).ends_with('h'));
        assert_eq!(exit(&ExitCause::StartTimeout, Duration::from_secs(30)), "start timeout (30s)");
    }

    #[test]
    fn a_start_timeout_says_what_was_waited_for() {
        let plan = crate::testing::plan(&["api"]);
        let mut api = plan.services.into_values().next().expect("it is there");
        api.ready.when = ReadyWhen::Listening;
        let text = exit_of(&ExitCause::StartTimeout, Some(&api));
        assert!(text.ends_with("): it accepts no connections; `listen: none` if it is not to"), "{text}");
        assert_eq!(exit_of(&ExitCause::Exited(3), Some(&api)), "exit 3");
        api.ready.when = ReadyWhen::Log { pattern: "up".to_owned() };
        let text = exit_of(&ExitCause::StartTimeout, Some(&api));
        assert!(text.starts_with("start timeout (") && text.ends_with(')'), "{text}");
    }
}

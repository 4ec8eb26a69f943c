//! What follows an end that nobody asked for: at once, after a wait, never, or not until somebody looks.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::{Context, ExitCause, Record, State};
use crate::plan::RestartPolicy;

/// Failures that a record holds at most; a policy that gives up after more of them never gives up.
const FAILURES_KEPT_MAX: usize = 1024;

/// The part of a wait that jitter may add or take away.
const JITTER: f64 = 0.2;

/// The wait before retry number `failures` (1 is the first), before jitter: doubles from first to max.
pub fn backoff(first: Duration, max: Duration, failures: NonZeroU32) -> Duration {
    let doublings = failures.get().saturating_sub(1).min(31);
    first.checked_mul(1 << doublings).map_or(max, |wait| wait.min(max))
}

/// Whether the policy answers this end with a restart. Under `Always` exit status 0 counts as a failure like any
/// other: a service that is meant to run and has ended has failed to do so.
pub fn will_restart(policy: RestartPolicy, cause: &ExitCause) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => *cause != ExitCause::Exited(0),
        RestartPolicy::Never => false,
    }
}

impl Record {
    /// Forgets failures, as the operator's start and restart do. The history that `status` shows stays.
    pub(crate) fn forget_failures(&mut self) {
        self.recent_failures.clear();
        self.failures_in_row = 0;
    }

    /// Notes how a run ended that nobody asked to end; `ready_for` is how long it had been ready, if it ever was.
    ///
    /// Every end that is followed by a restart counts in the window, not only those of runs that never got ready, or
    /// a service that gets ready quickly and dies quickly would be restarted for ever. A run that was ready
    /// for `healthy_after` cleans the record, but not when that time is so short that such runs fill the window by themselves.
    pub(super) fn note_end(
        &mut self,
        now: Instant,
        cause: &ExitCause,
        ready_for: Option<Duration>,
        context: &Context<'_>,
    ) {
        let policy = &context.plan.restart;
        self.last_exit = Some(cause.clone());
        if !will_restart(policy.policy, cause) {
            return;
        }
        match ready_for {
            Some(ready_for) if ready_for >= policy.healthy_after => {
                self.failures_in_row = 0;
                if ready_for >= policy.give_up_within / policy.give_up_failures.max(1) {
                    self.recent_failures.clear();
                }
            }
            Some(_) | None => self.failures_in_row = self.failures_in_row.saturating_add(1),
        }
        let remembered = context.siblings.map_or(Duration::ZERO, |siblings| siblings.within);
        let remembered = remembered.max(policy.give_up_within);
        self.recent_failures.retain(|at| now.saturating_duration_since(*at) < remembered);
        if self.recent_failures.len() == FAILURES_KEPT_MAX {
            self.recent_failures.remove(0);
        }
        self.recent_failures.push(now);
    }

    /// What the policy does with a worker whose run has ended and was noted with [`Record::note_end`]. `Waiting` is a
    /// restart at once.
    pub(super) fn after_end(&self, cause: ExitCause, context: &Context<'_>) -> State {
        let (now, policy) = (context.now, &context.plan.restart);
        if !will_restart(policy.policy, &cause) {
            return State::Completed { exit: cause };
        }
        if let Some(failures) = self.too_many(context) {
            return State::Failed {
                failures,
                retry_at: policy.retry_failed_after.map(|wait| later(now, wait)),
            };
        }
        match NonZeroU32::new(self.failures_in_row) {
            None => State::Waiting,
            Some(failures) => {
                let wait = backoff(policy.backoff_first, policy.backoff_max, failures);
                State::Backoff { until: later(now, with_jitter(wait, context.jitter)), failures }
            }
        }
    }
}

impl Record {
    /// The failures of the worker within the window of its policy, or with those of its group within that of the group, when they are
    /// too many.
    fn too_many(&self, context: &Context<'_>) -> Option<NonZeroU32> {
        let policy = &context.plan.restart;
        let own = self.failures_within(context.now, policy.give_up_within);
        if policy.give_up_failures != 0 && own >= policy.give_up_failures {
            return NonZeroU32::new(own);
        }
        let siblings = context.siblings?;
        let all = self.failures_within(context.now, siblings.within).saturating_add(siblings.failures);
        NonZeroU32::new(all).filter(|all| all.get() >= siblings.failures_max)
    }

    /// How many failures there were within this time.
    pub(crate) fn failures_within(&self, now: Instant, within: Duration) -> u32 {
        let recent = self.recent_failures.iter().filter(|at| now.saturating_duration_since(**at) < within);
        u32::try_from(recent.count()).unwrap_or(u32::MAX)
    }
}

/// The time after `wait`. A wait too long for the clock, which a configuration may well hold, is a year.
pub(crate) fn later(now: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    now.checked_add(wait).unwrap_or_else(|| now + YEAR)
}

/// `wait`, changed by up to ±20 %: workers that failed together should not all come back together.
fn with_jitter(wait: Duration, jitter: f64) -> Duration {
    let factor = 1.0 - JITTER + 2.0 * JITTER * jitter.clamp(0.0, 1.0);
    Duration::try_from_secs_f64(wait.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

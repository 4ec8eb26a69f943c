//! The transitions of a worker: every state answers every event.
//!
//! Events that name another run than the current one are late news of a run that has gone; they change nothing. Each
//! transition is headed by `from => (possible next)` and its reason.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::{
    AfterStop, Complaint, Context, Effect, Event, ExitCause, Left, Part, Record, Recycled, Stall, State,
    Wanted, Worker, policy::later,
};
use crate::{
    RunId,
    plan::{self, Listen, ReadyWhen},
};

/// How long after a kill everything that is left is killed again. One kill is enough where the kernel kills a whole cgroup;
/// where processes are found one by one, a fork may have slipped through.
pub const KILL_AGAIN: Duration = Duration::from_secs(1);

/// How much time to get ready a run may ask for at once. One that needs more asks again.
const EXTENSION_MAX: Duration = Duration::from_secs(60 * 60);

/// SIGKILL and SIGTERM of signal(7): what a stop sends besides the service's own stop signal.
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

impl Worker {
    /// A worker that nobody has started yet.
    pub fn new() -> Worker {
        Worker { wanted: Wanted::Down, state: State::Down, record: Record::default(), part: Part::Stays }
    }

    /// The run whose processes may be there.
    pub fn run(&self) -> Option<RunId> {
        match self.state {
            State::Starting { run, .. }
            | State::Ready { run, .. }
            | State::Unready { run, .. }
            | State::Draining { run, .. }
            | State::Stopping { run, .. } => Some(run),
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => None,
        }
    }

    /// When [`Worker::tick`] has something to do, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Starting { ready_by, .. } => ready_by,
            State::Draining { until, .. } => Some(until),
            State::Stopping { kill_at, .. } => Some(kill_at),
            State::Backoff { until, .. } => Some(until),
            State::Failed { retry_at, .. } => retry_at,
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Completed { .. } => None,
        }
    }

    /// Takes an event: changes the state and says what has to be done.
    pub fn handle(&mut self, event: Event, context: &mut Context<'_>, effects: &mut Vec<Effect>) {
        match event {
            Event::Start => self.start(),
            Event::Stop => self.stop(context, effects),
            Event::Restart => self.restart(context, effects),
            Event::Kill => self.kill(context, effects),
            Event::Sleep => self.sleep(context, effects),
            Event::Wake => self.wake(),
            Event::Together => self.together(context, effects),
            Event::DependenciesMet => self.dependencies_met(context, effects),
            Event::Recycle(run, stall, nth) if self.run() == Some(run) => {
                self.recycle(stall, nth, context, effects);
            }
            Event::Requested(run) if self.run() == Some(run) => self.requested(context),
            Event::Executed(run) if self.run() == Some(run) => self.executed(context),
            Event::Started(run) if self.run() == Some(run) => self.started(context),
            Event::Extend(run, time) if self.run() == Some(run) => self.extend(time, context),
            Event::Ready(run) if self.run() == Some(run) => self.ready(context),
            // A matter of those that depend on it alone.
            Event::Healthy(run) if self.run() == Some(run) => self.record.healthy_run = Some(run),
            Event::Unready(run) if self.run() == Some(run) => self.unready(context),
            Event::Unhealthy(run, complaint) if self.run() == Some(run) => {
                self.unhealthy(complaint, context, effects);
            }
            Event::Drained(run) if self.run() == Some(run) => self.drained(context, effects),
            Event::Exited(run, cause) if self.run() == Some(run) => self.exited(cause, context, effects),
            Event::Emptied(run) if self.run() == Some(run) => self.emptied(context),
            Event::Recycle(..)
            | Event::Requested(_)
            | Event::Executed(_)
            | Event::Started(_)
            | Event::Extend(..)
            | Event::Ready(_)
            | Event::Healthy(_)
            | Event::Unready(_)
            | Event::Unhealthy(..)
            | Event::Drained(_)
            | Event::Exited(..)
            | Event::Emptied(_) => {}
        }
    }

    /// Acts on a deadline that has passed.
    pub fn tick(&mut self, context: &mut Context<'_>, effects: &mut Vec<Effect>) {
        if self.deadline().is_none_or(|deadline| context.now < deadline) {
            return;
        }
        match self.state {
            // Starting => (Stopping): it did not get ready in time. What follows is the restart policy's, as after
            // an exit.
            State::Starting { run, .. } => {
                let cause = ExitCause::StartTimeout;
                self.record.note_end(context.now, &cause, None, context);
                self.signal(run, AfterStop::Policy, cause, context, effects);
            }
            // Draining => (Stopping): the requests that are left had their time.
            State::Draining { run, then, .. } => {
                self.signal(run, then, then.cause(), context, effects);
            }
            // Stopping => (Stopping): the grace is over.
            State::Stopping { run, ref mut kill_at, .. } => {
                effects.push(Effect::Kill(run));
                *kill_at = later(context.now, KILL_AGAIN);
            }
            // Backoff => (Waiting): the next try.
            State::Backoff { .. } => {
                self.record.restarts += 1;
                self.state = State::Waiting;
            }
            // Failed => (Waiting): the slow retry. It gets as many tries as the first start had, or a worker that
            // gave up once would be tried for ever at the longest backoff without being `Failed` again.
            State::Failed { .. } => {
                self.record.restarts += 1;
                self.record.forget_failures();
                self.state = State::Waiting;
            }
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The operator wants it up.
    fn start(&mut self) {
        self.wanted = Wanted::Up;
        match self.state {
            // Down, Asleep, Backoff, Failed, Completed => (Waiting): the operator's word ends every wait and every verdict.
            State::Down
            | State::Asleep
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {
                self.record.forget_failures();
                self.state = State::Waiting;
            }
            // Draining, Stopping => (same): this run cannot be kept, its place in the table is gone. The next one follows
            // at once.
            State::Draining { ref mut then, .. } | State::Stopping { ref mut then, .. } => {
                self.record.forget_failures();
                *then = AfterStop::Restart;
            }
            State::Waiting | State::Starting { .. } | State::Ready { .. } | State::Unready { .. } => {}
        }
    }

    /// The operator wants it down.
    fn stop(&mut self, context: &Context<'_>, effects: &mut Vec<Effect>) {
        self.wanted = Wanted::Down;
        match self.state {
            // Asleep, Waiting, Backoff, Failed, Completed => (Down): nothing runs.
            State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {
                self.state = State::Down;
            }
            // Starting => (Stopping): it has no requests that could be drained.
            State::Starting { run, .. } => {
                self.signal(run, AfterStop::Down, ExitCause::Stopped, context, effects);
            }
            // Ready, Unready => (Draining, Stopping).
            State::Ready { run, .. } | State::Unready { run, .. } => {
                self.retire(run, AfterStop::Down, context, effects);
            }
            // Draining, Stopping => (same): only what follows changes.
            State::Draining { ref mut then, .. } | State::Stopping { ref mut then, .. } => {
                *then = AfterStop::Down;
            }
            State::Down => {}
        }
    }

    /// The operator wants a new run. It is no failure, and it cleans the record as a start does.
    fn restart(&mut self, context: &Context<'_>, effects: &mut Vec<Effect>) {
        self.wanted = Wanted::Up;
        self.record.forget_failures();
        match self.state {
            // Down, Backoff, Failed, Completed => (Waiting): there is nothing to stop first.
            State::Down | State::Backoff { .. } | State::Failed { .. } | State::Completed { .. } => {
                self.state = State::Waiting;
            }
            // Starting => (Stopping).
            State::Starting { run, .. } => {
                self.signal(run, AfterStop::Restart, ExitCause::Stopped, context, effects);
            }
            // Ready, Unready => (Draining, Stopping).
            State::Ready { run, .. } | State::Unready { run, .. } => {
                self.retire(run, AfterStop::Restart, context, effects);
            }
            // Draining, Stopping => (same): it is on its way out; a new run follows.
            State::Draining { ref mut then, .. } | State::Stopping { ref mut then, .. } => {
                *then = AfterStop::Restart;
            }
            // A new run is what it waits for, or will have when it is woken.
            State::Asleep | State::Waiting => {}
        }
    }

    /// The current run stalls and is to be replaced. It is no failure: the backoff of these is the fleet's.
    fn recycle(&mut self, stall: Stall, nth: NonZeroU32, context: &Context<'_>, effects: &mut Vec<Effect>) {
        match self.state {
            // Ready => (Draining, Stopping).
            State::Ready { run, .. } => {
                self.record.recycled = Some(Recycled { at: context.now, in_row: nth });
                self.retire(run, AfterStop::Recycle(stall), context, effects);
            }
            // A start has its own timeout, one that is not ready says so itself; the others are on their way out, or have no run.
            State::Starting { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. } => {}
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// It is not needed for the time being.
    fn sleep(&mut self, context: &Context<'_>, effects: &mut Vec<Effect>) {
        self.wanted = Wanted::Up;
        match self.state {
            // Down, Backoff, Failed, Completed => (Asleep): there is nothing to stop first.
            State::Down | State::Backoff { .. } | State::Failed { .. } | State::Completed { .. } => {
                self.record.forget_failures();
                self.state = State::Asleep;
            }
            // Ready, Unready => (Draining, Stopping).
            State::Ready { run, .. } | State::Unready { run, .. } => {
                self.retire(run, AfterStop::Sleep, context, effects);
            }
            // Draining, Stopping => (same): it was to be down, and is wanted again. What else was to follow does.
            State::Draining { ref mut then, .. } | State::Stopping { ref mut then, .. } => {
                if *then == AfterStop::Down {
                    *then = AfterStop::Sleep;
                }
            }
            State::Asleep | State::Waiting | State::Starting { .. } => {}
        }
    }

    /// Somebody wants something of its service.
    fn wake(&mut self) {
        match self.state {
            // Asleep => (Waiting).
            State::Asleep => self.state = State::Waiting,
            // Draining, Stopping => (same): a new run follows at once.
            State::Draining { ref mut then, .. } | State::Stopping { ref mut then, .. } => {
                if *then == AfterStop::Sleep {
                    *then = AfterStop::Restart;
                }
            }
            // It is on its way, or is not to be.
            State::Down
            | State::Waiting
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// Another of its group has failed. It is no failure of this one.
    fn together(&mut self, context: &Context<'_>, effects: &mut Vec<Effect>) {
        match self.state {
            // Starting => (Stopping).
            State::Starting { run, .. } => {
                self.signal(run, AfterStop::Together, ExitCause::Group, context, effects);
            }
            // Ready, Unready => (Draining, Stopping).
            State::Ready { run, .. } | State::Unready { run, .. } => {
                self.retire(run, AfterStop::Together, context, effects);
            }
            // On their way out already, or without a run.
            State::Draining { .. } | State::Stopping { .. } => {}
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The operator wants it down, now.
    fn kill(&mut self, context: &Context<'_>, effects: &mut Vec<Effect>) {
        self.wanted = Wanted::Down;
        match self.state {
            // Asleep, Waiting, Backoff, Failed, Completed => (Down): nothing runs.
            State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {
                self.state = State::Down;
            }
            // Starting, Ready, Unready, Draining => (Stopping), with the grace used up.
            State::Starting { run, .. }
            | State::Ready { run, .. }
            | State::Unready { run, .. }
            | State::Draining { run, .. } => {
                effects.push(Effect::Kill(run));
                self.state = State::Stopping {
                    run,
                    kill_at: later(context.now, KILL_AGAIN),
                    then: AfterStop::Down,
                    left: Left::All,
                    cause: ExitCause::Stopped,
                };
            }
            // Stopping => (Stopping): likewise; why it ends stays.
            State::Stopping { run, ref mut kill_at, ref mut then, .. } => {
                effects.push(Effect::Kill(run));
                *kill_at = later(context.now, KILL_AGAIN);
                *then = AfterStop::Down;
            }
            State::Down => {}
        }
    }

    /// Everything it depends on is there.
    fn dependencies_met(&mut self, context: &mut Context<'_>, effects: &mut Vec<Effect>) {
        match self.state {
            // Waiting => (Starting).
            State::Waiting => {
                let run = context.ids.next_id();
                effects.push(Effect::Spawn(run));
                self.record.last_run = Some(run);
                self.state = State::Starting { run, ready_by: None, executed: false };
            }
            // The others have a run or want none.
            State::Down
            | State::Asleep
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The current run's process was asked for.
    fn requested(&mut self, context: &Context<'_>) {
        match self.state {
            // Starting => (Starting): its time to get ready begins.
            State::Starting { ref mut ready_by, .. } => {
                let timeout = context
                    .plan
                    .startup
                    .as_ref()
                    .map_or(context.plan.ready.timeout, |startup| startup.timeout);
                ready_by.get_or_insert(later(context.now, timeout));
            }
            // It is there, or on its way out.
            State::Ready { .. } | State::Unready { .. } | State::Draining { .. } | State::Stopping { .. } => {
            }
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The current run's program was executed.
    fn executed(&mut self, context: &Context<'_>) {
        match self.state {
            // Starting => (Starting, Ready): where execution is the only sign, nothing else has to be seen.
            State::Starting { run, ref mut executed, .. } => match context.plan.ready.when {
                ReadyWhen::Started if context.plan.startup.is_none() => {
                    self.state = State::Ready { run, since: context.now };
                }
                ReadyWhen::Started
                | ReadyWhen::Listening
                | ReadyWhen::Check(_)
                | ReadyWhen::Log { .. }
                | ReadyWhen::Notify
                | ReadyWhen::NotificationFd(_) => *executed = true,
            },
            // A sign of readiness has come first, or the run is on its way out.
            State::Ready { .. } | State::Unready { .. } | State::Draining { .. } | State::Stopping { .. } => {
            }
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The current run passed its startup check.
    fn started(&mut self, context: &Context<'_>) {
        match self.state {
            // Starting => (Starting): now it has the time to get ready.
            State::Starting { ref mut ready_by, .. } => {
                *ready_by = Some(later(context.now, context.plan.ready.timeout));
            }
            // Too late to matter.
            State::Ready { .. } | State::Unready { .. } | State::Draining { .. } | State::Stopping { .. } => {
            }
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The current run asks for time to get ready. How long its stop may take is the operator's word alone.
    fn extend(&mut self, time: Duration, context: &Context<'_>) {
        match self.state {
            // Starting => (Starting): never earlier than it was.
            State::Starting { ready_by: Some(ref mut ready_by), .. } => {
                *ready_by = later(context.now, time.min(EXTENSION_MAX)).max(*ready_by);
            }
            State::Starting { ready_by: None, .. } => {}
            State::Ready { .. } | State::Unready { .. } | State::Draining { .. } | State::Stopping { .. } => {
            }
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The current run cannot take requests any more.
    fn unready(&mut self, context: &Context<'_>) {
        match self.state {
            // Ready => (Unready).
            State::Ready { run, .. } => self.state = State::Unready { run, since: context.now },
            // Known already, not ready yet, or on its way out.
            State::Starting { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. } => {}
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The current run is unhealthy. That is a failure, after which its last requests have their time as with every stop.
    fn unhealthy(&mut self, complaint: Complaint, context: &Context<'_>, effects: &mut Vec<Effect>) {
        let ready_for = match self.state {
            State::Ready { since, .. } => Some(context.now.saturating_duration_since(since)),
            State::Unready { .. } => None,
            // Health is a matter of those that were ready; the others are on their way out, or have no run.
            State::Starting { .. } | State::Draining { .. } | State::Stopping { .. } => return,
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => return,
        };
        let (State::Ready { run, .. } | State::Unready { run, .. }) = self.state else { return };
        // Ready, Unready => (Draining, Stopping).
        let cause = ExitCause::Unhealthy(complaint);
        self.record.note_end(context.now, &cause, ready_for, context);
        self.retire(run, AfterStop::Replace(complaint), context, effects);
    }

    /// The current run showed its sign of readiness.
    fn ready(&mut self, context: &Context<'_>) {
        match self.state {
            // Starting, Unready => (Ready).
            State::Starting { run, .. } | State::Unready { run, .. } => {
                self.state = State::Ready { run, since: context.now };
            }
            // Known already, or too late to matter.
            State::Ready { .. } | State::Draining { .. } | State::Stopping { .. } => {}
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The current run has no request left.
    fn drained(&mut self, context: &Context<'_>, effects: &mut Vec<Effect>) {
        match self.state {
            // Draining => (Stopping).
            State::Draining { run, then, .. } => {
                self.signal(run, then, then.cause(), context, effects);
            }
            // Not asked, or the drain had been given up.
            State::Starting { .. } | State::Ready { .. } | State::Unready { .. } | State::Stopping { .. } => {
            }
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// The current run's main process ended.
    fn exited(&mut self, cause: ExitCause, context: &Context<'_>, effects: &mut Vec<Effect>) {
        let now = context.now;
        match self.state {
            // Starting, Ready, Unready => (Stopping): nobody asked for it. Whatever else the run started goes too.
            State::Starting { run, .. } | State::Unready { run, .. } => {
                self.record.note_end(now, &cause, None, context);
                self.end_rest(run, AfterStop::Policy, cause, context, effects);
            }
            State::Ready { run, since } => {
                let ready_for = Some(now.saturating_duration_since(since));
                self.record.note_end(now, &cause, ready_for, context);
                self.end_rest(run, AfterStop::Policy, cause, context, effects);
            }
            // Draining => (Stopping): it went before it was told to. It was wanted to end, so it is no failure.
            State::Draining { run, then, .. } => {
                self.record.last_exit = Some(cause.clone());
                self.end_rest(run, then, cause, context, effects);
            }
            // Stopping => (Stopping): as it was told. The time until the kill goes on.
            State::Stopping { run, ref mut left, cause: ref mut known, .. } => match left {
                Left::All => {
                    if !explained_by_stop(&cause, context.plan) {
                        *known = cause;
                    }
                    *left = Left::Rest;
                    self.record.last_exit = Some(known.clone());
                    effects.extend([Effect::TerminateRest(run), Effect::Release(run)]);
                }
                // Said twice.
                Left::Rest => {}
            },
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// No process of the current run is left.
    fn emptied(&mut self, context: &Context<'_>) {
        let now = context.now;
        match self.state {
            // Starting, Ready, Unready => (Waiting, Backoff, Failed, Completed): its end was not seen. That happens to a run
            // taken over from a predecessor that did not pass the news on.
            State::Starting { .. } | State::Unready { .. } => {
                self.record.note_end(now, &ExitCause::Unknown, None, context);
                self.settle(AfterStop::Policy, ExitCause::Unknown, context);
            }
            State::Ready { since, .. } => {
                let ready_for = Some(now.saturating_duration_since(since));
                self.record.note_end(now, &ExitCause::Unknown, ready_for, context);
                self.settle(AfterStop::Policy, ExitCause::Unknown, context);
            }
            // Draining => (Down, Asleep, Waiting): likewise, but it was wanted to end.
            State::Draining { then, .. } => {
                self.record.last_exit = Some(ExitCause::Unknown);
                self.settle(then, ExitCause::Unknown, context);
            }
            // Stopping => (Down, Asleep, Waiting, Backoff, Failed, Completed).
            State::Stopping { then, ref cause, .. } => {
                let cause = cause.clone();
                self.record.last_exit = Some(cause.clone());
                self.settle(then, cause, context);
            }
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => {}
        }
    }

    /// Takes a ready run out: drained first when requests could be under way.
    fn retire(&mut self, run: RunId, then: AfterStop, context: &Context<'_>, effects: &mut Vec<Effect>) {
        let drain = context.plan.stop.drain;
        if context.plan.listen == Listen::None || drain.is_zero() {
            self.signal(run, then, then.cause(), context, effects);
        } else {
            effects.push(Effect::Drain(run));
            self.state = State::Draining { run, until: later(context.now, drain), then };
        }
    }

    /// Tells the main process to stop, and gives it its grace.
    fn signal(
        &mut self,
        run: RunId,
        then: AfterStop,
        cause: ExitCause,
        context: &Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Signal(run));
        let kill_at = later(context.now, context.plan.stop.grace);
        self.state = State::Stopping { run, kill_at, then, left: Left::All, cause };
    }

    /// The main process has gone: ends what it left behind.
    fn end_rest(
        &mut self,
        run: RunId,
        then: AfterStop,
        cause: ExitCause,
        context: &Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        effects.extend([Effect::TerminateRest(run), Effect::Release(run)]);
        let kill_at = later(context.now, context.plan.stop.grace);
        self.state = State::Stopping { run, kill_at, then, left: Left::Rest, cause };
    }

    /// Goes on after a run of which nothing is left.
    fn settle(&mut self, then: AfterStop, cause: ExitCause, context: &Context<'_>) {
        self.state = match then {
            AfterStop::Down => State::Down,
            AfterStop::Sleep => State::Asleep,
            AfterStop::Restart | AfterStop::Together | AfterStop::Recycle(_) => State::Waiting,
            AfterStop::Policy => self.record.after_end(cause, context),
            // However it ended then: it failed when it was found unhealthy.
            AfterStop::Replace(_) => self.record.after_end(then.cause(), context),
        };
        match then {
            AfterStop::Policy | AfterStop::Replace(_) | AfterStop::Recycle(_) | AfterStop::Together
                if self.state == State::Waiting =>
            {
                self.record.restarts += 1;
            }
            AfterStop::Policy
            | AfterStop::Replace(_)
            | AfterStop::Recycle(_)
            | AfterStop::Together
            | AfterStop::Down
            | AfterStop::Sleep
            | AfterStop::Restart => {}
        }
    }
}

impl Default for Worker {
    fn default() -> Worker {
        Worker::new()
    }
}

impl AfterStop {
    /// Why a run is stopped that this follows.
    fn cause(self) -> ExitCause {
        match self {
            AfterStop::Down | AfterStop::Sleep | AfterStop::Restart | AfterStop::Policy => ExitCause::Stopped,
            AfterStop::Together => ExitCause::Group,
            AfterStop::Recycle(stall) => ExitCause::Recycled(stall),
            AfterStop::Replace(complaint) => ExitCause::Unhealthy(complaint),
        }
    }
}

/// Whether an end during a stop is what the stop explains: any exit status, and the signals a stop sends. Others
/// (a crash on the way out, an out-of-memory kill, a failed exec stage) are news of their own.
fn explained_by_stop(cause: &ExitCause, plan: &plan::Service) -> bool {
    match cause {
        ExitCause::Exited(_)
        | ExitCause::Stopped
        | ExitCause::StartTimeout
        | ExitCause::Group
        | ExitCause::Recycled(_)
        | ExitCause::Unhealthy(_)
        | ExitCause::Unknown => true,
        ExitCause::Signaled { signal, .. } => [plan.stop.signal, SIGTERM, SIGKILL].contains(signal),
        ExitCause::OutOfMemory { .. } | ExitCause::ExecFailed(_) => false,
    }
}

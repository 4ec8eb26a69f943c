//! How a service's processes are scheduled.

use watt_core::plan::{IoPriority, Scheduling, SchedulingPolicy};

use super::fields::{Fields, Written};
use crate::{
    keys::{IO_CLASS, IoClassWord, SCHEDULER, SCHEDULING, SchedulerWord},
    report::Problem,
    scalar::{Cpus, Signed, Whole},
    source::Span,
};

/// The level of a class without one: the kernel's own (ioprio_set(2)).
const IO_LEVEL: u8 = 4;

/// Decodes `scheduling`.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> Scheduling {
    let field = f.field("scheduling");
    let mut inner = Fields::open(f.d, &SCHEDULING, field, None);
    let nice: Option<Written<Signed<-20, 19>>> = inner.scalar("nice");
    let policy = policy(&mut inner);
    let affinity: Option<Written<Cpus>> = inner.scalar("affinity");
    let io = io(&mut inner);
    let oom_score_adj: Option<Written<Signed<-1000, 1000>>> = inner.scalar("oom_score_adj");
    let shown = inner.close();
    f.show("scheduling", shown);
    Scheduling {
        nice: nice.and_then(|written| i8::try_from(written.value.0).ok()),
        policy,
        affinity: affinity.map(|written| written.value.0).unwrap_or_default(),
        io,
        oom_score_adj: oom_score_adj.and_then(|written| i16::try_from(written.value.0).ok()),
    }
}

fn policy(f: &mut Fields<'_, '_, '_>) -> Option<SchedulingPolicy> {
    let word = f.word("policy", &SCHEDULER);
    let priority: Option<Written<Whole<1, 99>>> = f.scalar("priority");
    let level = priority.and_then(|written| u8::try_from(written.value.0).ok()).unwrap_or(1);
    let (policy, has_priority) = match word.map(|written| written.value) {
        None => (None, false),
        Some(SchedulerWord::Other) => (Some(SchedulingPolicy::Other), false),
        Some(SchedulerWord::Batch) => (Some(SchedulingPolicy::Batch), false),
        Some(SchedulerWord::Idle) => (Some(SchedulingPolicy::Idle), false),
        Some(SchedulerWord::Fifo) => (Some(SchedulingPolicy::Fifo(level)), true),
        Some(SchedulerWord::RoundRobin) => (Some(SchedulingPolicy::RoundRobin(level)), true),
    };
    if let (false, Some(Written { span: Some(at), .. })) = (has_priority, priority) {
        let problem = Problem::new(at, "a priority is for the realtime policies alone");
        f.d.problem(
            with_word(problem, word.and_then(|word| word.span))
                .hint("write `policy: fifo` or `policy: round_robin`, or `nice` for the others"),
        );
    }
    policy
}

fn io(f: &mut Fields<'_, '_, '_>) -> Option<IoPriority> {
    let word = f.word("io", &IO_CLASS);
    let written: Option<Written<Whole<0, 7>>> = f.scalar("io_level");
    let level = written.and_then(|written| u8::try_from(written.value.0).ok()).unwrap_or(IO_LEVEL);
    let (class, has_level) = match word.map(|written| written.value) {
        // A level alone is one of the usual class.
        None => (written.map(|_| IoPriority::BestEffort(level)), true),
        Some(IoClassWord::BestEffort) => (Some(IoPriority::BestEffort(level)), true),
        Some(IoClassWord::Realtime) => (Some(IoPriority::Realtime(level)), true),
        Some(IoClassWord::Idle) => (Some(IoPriority::Idle), false),
    };
    if let (false, Some(Written { span: Some(at), .. })) = (has_level, written) {
        let problem = Problem::new(at, "the class `idle` has no levels");
        f.d.problem(with_word(problem, word.and_then(|word| word.span)).hint("remove `io_level`"));
    }
    class
}

fn with_word(problem: Problem, span: Option<Span>) -> Problem {
    match span {
        Some(span) => problem.related(span, "for this one"),
        None => problem,
    }
}

//! How a worker's processes are scheduled, in the kernel's numbers.

use watt_core::plan::{IoPriority, Scheduling, SchedulingPolicy};
use watt_exec::plan;

use super::Host;

/// The slice of what answers requests, in nanoseconds: the shortest that the kernel takes (sched(7), "The sched_runtime field"; kernel/sched/syscalls.c).
/// With the kernel's own of some 3 ms a program that computes keeps another that has just got a request from a CPU until the next tick of the clock,
/// which is 4 ms at 250 Hz.
pub(crate) const SLICE_NS: u64 = 100_000;

/// Policies of sched_setscheduler(2) (include/uapi/linux/sched.h).
const SCHED_OTHER: i32 = 0;
const SCHED_FIFO: i32 = 1;
const SCHED_RR: i32 = 2;
const SCHED_BATCH: i32 = 3;
const SCHED_IDLE: i32 = 5;

/// Classes of ioprio_set(2) (include/uapi/linux/ioprio.h).
const IOPRIO_CLASS_RT: u8 = 1;
const IOPRIO_CLASS_BE: u8 = 2;
const IOPRIO_CLASS_IDLE: u8 = 3;

/// What the kernel is asked for, and what only root may ask for and is left out.
pub(super) fn of(wanted: &Scheduling, host: &Host) -> (plan::Scheduling, Vec<&'static str>) {
    let mut refused = Vec::new();
    let mut allowed = |is_free: bool, name: &'static str| {
        let allowed = is_free || host.is_root;
        if !allowed {
            refused.push(name);
        }
        allowed
    };
    let Scheduling { nice, policy, affinity, io, oom_score_adj } = wanted;
    let nice = nice.map(i32::from).filter(|nice| allowed(*nice >= 0, "nice"));
    let policy = policy.map(policy_numbers).filter(|(_, priority)| allowed(*priority == 0, "policy"));
    let io = io.map(io_numbers).filter(|(class, _)| allowed(*class != IOPRIO_CLASS_RT, "io"));
    let oom_score_adj = oom_score_adj.map(i32::from).filter(|value| allowed(*value >= 0, "oom_score_adj"));
    let scheduling = plan::Scheduling {
        nice,
        policy,
        slice_ns: policy.is_none_or(|(number, _)| number == SCHED_OTHER).then_some(SLICE_NS),
        affinity: affinity.iter().copied().collect(),
        io,
        oom_score_adj: oom_score_adj.or(host.oom_score_adj),
    };
    (scheduling, refused)
}

fn policy_numbers(policy: SchedulingPolicy) -> (i32, i32) {
    match policy {
        SchedulingPolicy::Other => (SCHED_OTHER, 0),
        SchedulingPolicy::Batch => (SCHED_BATCH, 0),
        SchedulingPolicy::Idle => (SCHED_IDLE, 0),
        SchedulingPolicy::Fifo(priority) => (SCHED_FIFO, i32::from(priority)),
        SchedulingPolicy::RoundRobin(priority) => (SCHED_RR, i32::from(priority)),
    }
}

fn io_numbers(priority: IoPriority) -> (u8, u8) {
    match priority {
        IoPriority::Realtime(level) => (IOPRIO_CLASS_RT, level),
        IoPriority::BestEffort(level) => (IOPRIO_CLASS_BE, level),
        IoPriority::Idle => (IOPRIO_CLASS_IDLE, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_the_kernels_numbers() {
        let root = Host { is_root: true, ..Host::default() };
        let wanted = Scheduling {
            nice: Some(-5),
            policy: Some(SchedulingPolicy::RoundRobin(7)),
            affinity: [0, 3].into(),
            io: Some(IoPriority::Realtime(2)),
            oom_score_adj: Some(-100),
        };
        let expected = plan::Scheduling {
            nice: Some(-5),
            policy: Some((2, 7)),
            slice_ns: None,
            affinity: vec![0, 3],
            io: Some((1, 2)),
            oom_score_adj: Some(-100),
        };
        assert_eq!(of(&wanted, &root), (expected, Vec::new()));
    }

    #[test]
    fn an_ordinary_user_gets_what_it_may_ask_for() {
        let user = Host { oom_score_adj: Some(0), ..Host::default() };
        let wanted = Scheduling {
            nice: Some(-1),
            policy: Some(SchedulingPolicy::Fifo(1)),
            affinity: Default::default(),
            io: Some(IoPriority::Realtime(4)),
            oom_score_adj: Some(-1),
        };
        let slice_ns = Some(SLICE_NS);
        let nothing = plan::Scheduling { slice_ns, oom_score_adj: Some(0), ..plan::Scheduling::default() };
        assert_eq!(of(&wanted, &user), (nothing, vec!["nice", "policy", "io", "oom_score_adj"]));
        let modest = Scheduling {
            nice: Some(5),
            policy: Some(SchedulingPolicy::Idle),
            affinity: Default::default(),
            io: Some(IoPriority::Idle),
            oom_score_adj: Some(500),
        };
        let expected = plan::Scheduling {
            nice: Some(5),
            policy: Some((5, 0)),
            slice_ns: None,
            affinity: Vec::new(),
            io: Some((3, 0)),
            oom_score_adj: Some(500),
        };
        assert_eq!(of(&modest, &user), (expected, Vec::new()));
    }
}

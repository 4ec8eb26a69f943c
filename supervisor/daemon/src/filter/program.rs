//! Rules to a program of classic BPF for seccomp(2).
//!
//! The conditions on arguments are `seccompiler`'s. The way to a call's rules is ours: its filters compare one number after the
//! other, have one answer for all calls, and let the calls of x32 past a list of what is refused.

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, sock_filter};
use watt_core::syscalls::Action;

use super::{
    FilterError,
    numbers::Architecture,
    switches::{Outcome, Rules},
};

/// BPF_MAXINSNS of linux/bpf_common.h.
const INSTRUCTIONS_MAX: usize = 4096;

/// Where `struct seccomp_data` (linux/seccomp.h) has the call's number, and the table it is a number of.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

pub(super) const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
pub(super) const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
pub(super) const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
pub(super) const JUMP_IF_NOT_LESS: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
pub(super) const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Calls from a number up to the next range's, which all have the same outcome.
struct Range {
    first: u32,
    outcome: Outcome,
}

/// The program that holds these rules.
pub(super) fn assemble(architecture: Architecture, rules: &Rules) -> Result<BpfProgram, FilterError> {
    let mut program = vec![
        statement(LOAD, ARCHITECTURE_AT),
        branch(JUMP_IF_EQUAL, architecture.audit(), 1, 0),
        answer(Action::Kill),
        statement(LOAD, NUMBER_AT),
    ];
    if let Some(first) = architecture.second_table() {
        program.push(branch(JUMP_IF_NOT_LESS, first, 0, 1));
        program.push(answer(Action::ABSENT));
    }
    program.extend(tree(&ranges(architecture, rules)));
    match program.len() {
        0..=INSTRUCTIONS_MAX => Ok(program),
        length => Err(FilterError::TooLong(length)),
    }
}

/// As the kernel reads it (`struct sock_filter` of linux/filter.h).
pub(super) fn bytes(program: &[sock_filter]) -> Vec<u8> {
    program
        .iter()
        .flat_map(|one| {
            let mut bytes = [0; size_of::<sock_filter>()];
            bytes[..2].copy_from_slice(&one.code.to_ne_bytes());
            bytes[2] = one.jt;
            bytes[3] = one.jf;
            bytes[4..].copy_from_slice(&one.k.to_ne_bytes());
            bytes
        })
        .collect()
}

/// All numbers from 0 up.
fn ranges(architecture: Architecture, rules: &Rules) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut add = |first, outcome| {
        if ranges.last().is_none_or(|last| last.outcome != outcome) {
            ranges.push(Range { first, outcome });
        }
    };
    let mut next = 0;
    for (number, call) in architecture.calls() {
        if number > next {
            add(next, rules.outcome_of_unknown());
        }
        add(number, rules.outcome(call));
        next = number + 1;
    }
    add(next, rules.outcome_of_unknown());
    ranges
}

/// Leads from the number, which is loaded, to its range's outcome.
fn tree(ranges: &[Range]) -> BpfProgram {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let (false, [middle, ..]) = (lower.is_empty(), upper) else {
        return upper.first().map(|range| leaf(&range.outcome)).unwrap_or_default();
    };
    let lower = tree(lower);
    // A branch reaches 255 instructions, a plain jump all.
    let mut program = match u8::try_from(lower.len()) {
        Ok(length) => vec![branch(JUMP_IF_NOT_LESS, middle.first, length, 0)],
        Err(_) => {
            let length = u32::try_from(lower.len()).unwrap_or(u32::MAX);
            vec![branch(JUMP_IF_NOT_LESS, middle.first, 0, 1), statement(JUMP, length)]
        }
    };
    program.extend(lower);
    program.extend(tree(upper));
    program
}

fn leaf(outcome: &Outcome) -> BpfProgram {
    let check = match outcome {
        Outcome::Always(action) => return vec![answer(*action)],
        Outcome::Checked(check) => check,
    };
    let mut program = BpfProgram::new();
    for rule in &check.allowed {
        // What is compiled from a rule goes on here when the rule is kept, and one further when not.
        program.extend(BpfProgram::from(rule.clone()));
        program.push(answer(Action::Allow));
    }
    program.push(answer(check.otherwise));
    program
}

fn answer(action: Action) -> sock_filter {
    let action = match action {
        Action::Allow => SeccompAction::Allow,
        Action::Fail(number) => SeccompAction::Errno(number.unsigned_abs()),
        Action::Kill => SeccompAction::KillProcess,
    };
    statement(RETURN, action.into())
}

fn statement(code: u32, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // The parts of a code are below 2^8.
    sock_filter { code: code as u16, jt, jf, k }
}

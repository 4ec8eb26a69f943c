//! The kernel's machine for filters, as far as programs of ours use it (networking/filter.rst of the kernel's documentation,
//! seccomp_filter.rst). It runs the programs of other processors too.

use std::collections::BTreeMap;

use nix::libc;
use watt_core::{sandbox::Sandbox, syscalls::Action};

use super::super::{
    Architecture, Switches, make,
    program::{JUMP, JUMP_IF_EQUAL, JUMP_IF_NOT_LESS, LOAD, RETURN},
};

/// A machine with a program.
pub(super) struct Machine {
    program: Vec<Instruction>,
    architecture: Architecture,
    numbers: BTreeMap<&'static str, u32>,
}

struct Instruction {
    code: u32,
    jt: usize,
    jf: usize,
    k: u32,
}

impl Machine {
    pub(super) fn of(sandbox: &Sandbox, architecture: Architecture) -> Machine {
        let programs = make(&Switches::of(sandbox), Some(architecture)).expect("a program");
        let [program] = programs.as_ref() else { panic!("{} programs", programs.len()) };
        let program = program.chunks(8).map(Instruction::of).collect();
        let numbers = architecture.calls().into_iter().map(|(number, call)| (call, number)).collect();
        Machine { program, architecture, numbers }
    }

    /// The number of a call, when the processor has it.
    pub(super) fn number(&self, call: &str) -> Option<u32> {
        self.numbers.get(call).copied()
    }

    /// What happens at a call with these arguments, and zeros for the others.
    pub(super) fn run(&self, number: u32, arguments: &[u64]) -> Action {
        self.run_as(self.architecture.audit(), number, arguments)
    }

    /// The same through the table of another processor.
    pub(super) fn run_as(&self, audit: u32, number: u32, arguments: &[u64]) -> Action {
        // struct seccomp_data: number, architecture, instruction pointer, six arguments; both processors are little-endian.
        let mut data = vec![number, audit, 0, 0];
        for at in 0..6 {
            let argument = arguments.get(at).copied().unwrap_or(0);
            data.extend([argument as u32, (argument >> 32) as u32]);
        }
        answer(self.answer(&data))
    }

    fn answer(&self, data: &[u32]) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = self.program[at];
            at += 1;
            let branch = |condition| if condition { jt } else { jf };
            match code {
                LOAD => accumulator = data[k as usize / 4],
                AND => accumulator &= k,
                JUMP => at += k as usize,
                JUMP_IF_EQUAL => at += branch(accumulator == k),
                JUMP_IF_NOT_LESS => at += branch(accumulator >= k),
                RETURN => return k,
                code => panic!("instruction {code:#x}"),
            }
        }
    }
}

/// What a masked comparison adds to the instructions of [`super::super::program`].
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;

impl Instruction {
    fn of(bytes: &[u8]) -> Instruction {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = *bytes else { panic!("{} bytes", bytes.len()) };
        let (code, k) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes([k0, k1, k2, k3]));
        Instruction { code: code.into(), jt: jt.into(), jf: jf.into(), k }
    }
}

fn answer(value: u32) -> Action {
    match value & 0xffff_0000 {
        libc::SECCOMP_RET_ALLOW => Action::Allow,
        libc::SECCOMP_RET_ERRNO => Action::Fail((value & 0xffff) as i32),
        libc::SECCOMP_RET_KILL_PROCESS => Action::Kill,
        _ => panic!("answer {value:#x}"),
    }
}

//! The numbers of system calls on the processors that watt runs on.

use std::collections::BTreeMap;

use nix::libc;
use syscalls::{aarch64, x86_64};

/// A processor whose calls are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    Aarch64,
}

/// `__AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE` of linux/audit.h.
const AUDIT_64BIT_LE: u32 = 0x8000_0000 | 0x4000_0000;

impl Architecture {
    /// The one this program was built for.
    pub(super) fn native() -> Option<Architecture> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Architecture::X86_64),
            "aarch64" => Some(Architecture::Aarch64),
            _ => None,
        }
    }

    /// How the kernel names it to a filter (`AUDIT_ARCH_*` of linux/audit.h).
    pub(super) fn audit(self) -> u32 {
        let machine = match self {
            Architecture::X86_64 => libc::EM_X86_64,
            Architecture::Aarch64 => libc::EM_AARCH64,
        };
        u32::from(machine) | AUDIT_64BIT_LE
    }

    /// The least number of a second table that the kernel does not tell apart from this processor's own: x32
    /// (`__X32_SYSCALL_BIT` of asm/unistd.h).
    pub(super) fn second_table(self) -> Option<u32> {
        match self {
            Architecture::X86_64 => Some(0x4000_0000),
            Architecture::Aarch64 => None,
        }
    }

    /// Every call by its number.
    pub(super) fn calls(self) -> BTreeMap<u32, &'static str> {
        let named = |name| if name == "fstatat" { "newfstatat" } else { name };
        // `Sysno::iter` leaves out the last one.
        match self {
            Architecture::X86_64 => (0..=x86_64::Sysno::last().id().unsigned_abs())
                .filter_map(|number| Some((number, named(x86_64::Sysno::new(number as usize)?.name()))))
                .collect(),
            Architecture::Aarch64 => (0..=aarch64::Sysno::last().id().unsigned_abs())
                .filter_map(|number| Some((number, named(aarch64::Sysno::new(number as usize)?.name()))))
                .collect(),
        }
    }
}

//! A sandbox's rules about system calls, as programs for seccomp(2).
//!
//! There is one program for a sandbox, and none for one without such rules. It is installed as the last thing before a
//! service's program is executed, and holds for everything that comes from it.
//!
//! - Calls are found by number in a tree of comparisons, so a filter costs the same for all. Those that are allowed whatever
//!   their arguments are cost nothing here at all: the kernel works them out when the filter is installed (since 5.11).
//! - A call through another table than the processor's own ends the process: a 32-bit program could make none of its calls, and a
//!   64-bit program that makes one means to go around the filter. Calls of x32, which few kernels have, are answered as by a kernel
//!   without it.
//! - An argument that is a pointer cannot be looked at. Where such a call would be a way around a rule, the kernel "does not have
//!   it" (ENOSYS), and C libraries fall back on the older call: `clone3`, `openat2`, `sched_setattr`. The same goes for
//!   io_uring(7) where socket families or file modes are restricted.
//! - In a list of what is allowed, numbers without a name here are calls of newer kernels: also ENOSYS, because
//!   programs try new calls first.

mod numbers;
mod program;
mod switches;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use seccompiler::BackendError;
use watt_core::sandbox::Sandbox;

use numbers::Architecture;
use switches::Switches;

/// Why there is no filter for a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The numbers of this processor's system calls are not known here.
    #[error("system calls cannot be filtered on {}, only on x86_64 and aarch64", std::env::consts::ARCH)]
    Architecture,
    /// A rule about arguments that seccomp(2) cannot express: a bug of ours.
    #[error("cannot check the arguments of a system call")]
    Argument(#[source] BackendError),
    /// The kernel takes no program of this many instructions (BPF_MAXINSNS).
    #[error("the filter of system calls has {0} instructions, more than the kernel takes")]
    TooLong(usize),
}

/// How many different sandboxes keep their programs. An application has a handful.
const KEPT_MAX: usize = 64;

type Programs = Arc<[Vec<u8>]>;

/// A thousand workers with the same sandbox share one program.
static KEPT: LazyLock<Mutex<HashMap<Switches, Programs>>> = LazyLock::new(Mutex::default);

/// The programs that hold a sandbox's rules about system calls, each an array of `struct sock_filter` in this processor's byte
/// order. They need `no_new_privs`, or CAP_SYS_ADMIN where they are installed.
///
/// The exec stage makes two calls under them: execve(2), which every list allows that does not take it away, and sendmsg(2) to
/// report that it failed. Where a list leaves that out, such a program is seen to end without a reason.
///
/// # Errors
/// [`FilterError`]. A sandbox without such rules has none on any processor.
pub fn programs(sandbox: &Sandbox) -> Result<Arc<[Vec<u8>]>, FilterError> {
    let switches = Switches::of(sandbox);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(programs) = kept.get(&switches) {
        return Ok(Arc::clone(programs));
    }
    let programs = make(&switches, Architecture::native())?;
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(switches, Arc::clone(&programs));
    Ok(programs)
}

/// Whether there are programs for this processor.
pub fn is_possible() -> bool {
    Architecture::native().is_some()
}

fn make(switches: &Switches, architecture: Option<Architecture>) -> Result<Programs, FilterError> {
    if *switches == Switches::default() {
        return Ok(Arc::new([]));
    }
    let architecture = architecture.ok_or(FilterError::Architecture)?;
    let program = program::assemble(architecture, &switches.rules().map_err(FilterError::Argument)?)?;
    Ok(Arc::new([program::bytes(&program)]))
}

#[cfg(test)]
mod tests;

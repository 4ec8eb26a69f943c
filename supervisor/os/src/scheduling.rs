//! When and where this process runs (sched(7), ioprio_set(2)).

use std::io;

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// From -20, the most eager, to 19 (setpriority(2)).
///
/// # Errors
/// EACCES when it is more eager than before, without CAP_SYS_NICE.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: setpriority(2) takes three integers; 0 is this process.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The policy by its number in sched_setscheduler(2), and the priority, 0 for all that are not realtime.
///
/// # Errors
/// EPERM for realtime without CAP_SYS_NICE, EINVAL for a policy or priority that there is not.
pub fn set_policy(policy: i32, priority: i32) -> io::Result<()> {
    #[repr(C)]
    struct Parameters {
        priority: libc::c_int,
    }
    let parameters = Parameters { priority };
    // Not the C library's function: musl has none that works, as its threads are the kernel's processes.
    // SAFETY: sched_setscheduler(2) reads one `struct sched_param`, which outlives the call; 0 is this process.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs on these CPUs only.
///
/// # Errors
/// EINVAL when there is none of them, or a number is 1024 or more.
pub fn set_affinity(cpus: &[u16]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(usize::from(*cpu))?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// The class by its number in ioprio_set(2), and the level from 0, the first, to 7.
///
/// # Errors
/// EPERM for the realtime class without CAP_SYS_NICE, EINVAL for a class or level that there is not.
pub fn set_io_priority(class: u8, level: u8) -> io::Result<()> {
    /// `IOPRIO_WHO_PROCESS` and `IOPRIO_CLASS_SHIFT` of linux/ioprio.h.
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    /// Three bits for each; what is above them in the number means something else.
    const HIGHEST: u8 = 7;
    if class > HIGHEST || level > HIGHEST {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let priority = libc::c_int::from(class) << CLASS_SHIFT | libc::c_int::from(level);
    // SAFETY: ioprio_set(2) takes three integers; 0 is this process.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

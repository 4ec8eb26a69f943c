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

/// How long it runs before others of the normal policy have their turn, in nanoseconds: a wish that is about when, and takes nothing
/// off its share. Who asks for less is let in sooner when it wakes up. Kernels before 6.12 have one for all and leave it at that, and
/// another policy than the normal one stays as it is.
///
/// # Errors
/// EPERM where sched_setattr(2) is forbidden.
pub fn set_slice(slice_ns: u64) -> io::Result<()> {
    /// `struct sched_attr` of linux/sched/types.h in its first size, which every kernel takes.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    // SAFETY: sched_getscheduler(2) takes an integer; 0 is this process.
    if unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) } != libc::c_long::from(libc::SCHED_OTHER) {
        return Ok(());
    }
    // SAFETY: getpriority(2) takes two integers; 0 is this process. The call itself, and not the C library's function, gives 20 - nice.
    let eagerness = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: 0,
        flags: 0,
        nice: 20 - eagerness as i32,
        priority: 0,
        runtime: slice_ns,
        deadline: 0,
        period: 0,
    };
    // SAFETY: sched_setattr(2) reads one `struct sched_attr` of the size that is in it, which outlives the call; 0 is this process.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
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

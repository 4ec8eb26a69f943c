//! The two ways of making a child that shares our memory until it executes.

use std::{
    ffi::{c_int, c_void},
    os::fd::{FromRawFd, OwnedFd},
    ptr,
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, SigmaskHow},
};

use super::{Child, Job, child_main};

/// clone3(2) straight into the cgroup.
#[cfg(target_arch = "x86_64")]
pub(super) fn clone3(stack: &Stack, job: &Job<'_>) -> Result<Child, Errno> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: c_int = -1;
    let mut arguments = libc::clone_args {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | job.namespaces()) as u64,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.bottom.expose_provenance() as u64,
        stack_size: Stack::SIZE as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if job.shared_end.is_some() {
        arguments.flags |= libc::CLONE_FILES as u64;
    }
    if let Some(cgroup) = job.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(cgroup).map_err(|_| Errno::EBADF)?;
    }
    let result: isize;
    // SAFETY: the structure is complete and the stack is ours alone. The child comes out of the system call
    // with the registers of the parent but for rax and rsp; it has nothing on its new stack to return to, so
    // it calls child_main, which never returns. The parent is suspended until the child has executed or
    // exited, sees what the child wrote to memory (no `nomem`), and its own stack is untouched because the
    // child has another.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call {child_main}",
            "ud2",
            "2:",
            child_main = sym child_main,
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") &raw mut arguments,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") ptr::from_ref(job),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    if result < 0 {
        return Err(Errno::from_raw(i32::try_from(-result).unwrap_or(libc::EINVAL)));
    }
    Ok(Child { pid: result as u32, pidfd: own_pidfd(pidfd) })
}

/// Architectures whose entry sequence nobody has tested use clone(2).
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn clone3(_: &Stack, _: &Job<'_>) -> Result<Child, Errno> {
    Err(Errno::ENOSYS)
}

/// clone(2). It knows no cgroups.
pub(super) fn clone(stack: &Stack, job: &Job<'_>) -> Result<Child, Errno> {
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | job.namespaces();
    // SAFETY: the stack is ours alone, and child_main takes a pointer to a Job, which this call's suspension
    // keeps alive. With CLONE_PIDFD the argument after the child's says where the descriptor goes.
    let pid = unsafe {
        libc::clone(child_main, stack.top(), flags, ptr::from_ref(job).cast_mut().cast(), &raw mut pidfd)
    };
    let pid = u32::try_from(Errno::result(pid)?).map_err(|_| Errno::EINVAL)?;
    Ok(Child { pid, pidfd: own_pidfd(pidfd) })
}

fn own_pidfd(raw: c_int) -> OwnedFd {
    // SAFETY: CLONE_PIDFD made this descriptor for us (close-on-exec) and nothing else knows its number.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Runs `work` with every signal blocked: a handler in a child that shares our memory would be a disaster.
pub(super) fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> nix::Result<T> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let result = work();
    before.thread_set_mask()?;
    Ok(result)
}

/// The stack a child runs on until it executes. Only its touched pages cost memory, and only until it is
/// dropped.
pub(super) struct Stack {
    bottom: *mut c_void,
}

impl Stack {
    /// In bytes. The child's calls are two deep; the rest is room for unoptimised builds.
    const SIZE: usize = 64 << 10;

    pub(super) fn new() -> nix::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no memory of ours.
        let bottom = unsafe {
            libc::mmap(ptr::null_mut(), Self::SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if bottom == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(Self { bottom }) }
    }

    /// Stacks grow down. The mapping is page-aligned, so this is aligned as every ABI wants it.
    fn top(&self) -> *mut c_void {
        self.bottom.wrapping_byte_add(Self::SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and of this size. The child that used it has executed or exited.
        unsafe { libc::munmap(self.bottom, Self::SIZE) };
    }
}

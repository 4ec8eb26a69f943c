//! System call filters (seccomp(2)).

use std::io;

/// Installs a filter: an array of `struct sock_filter` in the kernel's own byte order. It holds for this thread, for all it
/// becomes and for all it starts, beside the filters that are there.
///
/// # Errors
/// EACCES without no_new_privs and without CAP_SYS_ADMIN; EINVAL for bytes that are no program of BPF, or one of more than
/// 4096 instructions; ENOSYS and EINVAL of kernels without filters.
pub fn install(filter: &[u8]) -> io::Result<()> {
    let (whole, rest) = filter.as_chunks::<8>();
    let instructions: Vec<libc::sock_filter> = whole.iter().map(|bytes| instruction(*bytes)).collect();
    let len = u16::try_from(instructions.len()).ok().filter(|_| rest.is_empty());
    let len = len.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: instructions.as_ptr().cast_mut() };
    // SAFETY: seccomp(2) reads the program and as many instructions as it says; both outlive the call, and the kernel
    // checks what they do.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct sock_filter` of linux/filter.h.
fn instruction([code0, code1, jt, jf, k0, k1, k2, k3]: [u8; 8]) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::from_ne_bytes([code0, code1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k0, k1, k2, k3]),
    }
}

//! The C library's heap, where it can be told to be smaller.

/// Keeps one heap for all threads, and gives large blocks back to the kernel as soon as they are free: for a process
/// that lives long, has few threads and seldom allocates. To be called before the first thread is started.
///
/// Without this each thread gets a heap of its own, and the first large block that is freed makes glibc keep blocks
/// of its size from then on (mallopt(3), "dynamic mmap threshold").
pub fn be_small() {
    #[cfg(target_env = "gnu")]
    {
        /// The value that mallopt(3) begins with.
        const LARGE: libc::c_int = 128 << 10;
        // SAFETY: mallopt(3) takes two numbers; no other thread allocates while it changes the settings, as the caller
        // promises by calling it first. A setting it refuses is left as it was.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        // SAFETY: as above.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// Gives the kernel back what lies unused between blocks in use (malloc_trim(3)). It visits the whole heap: some
/// milliseconds for tens of megabytes.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time by any thread (MT-Safe); it moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0)
    };
}

//! Starting, watching and reaping processes without fork(2).
//!
//! The problem: between fork and exec a child may only make async-signal-safe calls, and fork costs time in
//! proportion to the parent's memory. [`spawn`] therefore prepares everything in the parent. The child runs
//! on a stack of its own in the parent's memory while the parent is suspended (CLONE_VM|CLONE_VFORK of
//! clone(2)) and makes a fixed list of system calls that ends in execveat(2). It allocates nothing, takes no
//! lock and cannot panic.
//!
//! The program starts with every signal blocked and with ignored signals still ignored: no handler of the
//! parent may run in the child. Resetting both is the program's own first act (`watt-exec` does it).

mod clone;
mod fork;
mod reap;
mod slots;
#[cfg(test)]
mod tests;
mod user_map;

use std::{
    error::Error,
    ffi::{CString, c_char, c_int, c_uint, c_void},
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    sync::atomic::{AtomicI32, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl, openat},
    sys::stat::Mode,
    unistd::read,
};

use clone::{Stack, with_signals_blocked};
pub use fork::{Forked, fork};
pub use reap::{Reap, Reaped, become_subreaper, children, is_child, reap, reap_one};
use slots::Filled;
pub use slots::Slots;
use user_map::UserMap;

/// A program to start and what it starts with.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The open executable: a file or a memfd.
    pub program: BorrowedFd<'a>,
    /// Its arguments, its own name included.
    pub argv: &'a [CString],
    /// Its whole environment.
    pub env: &'a [CString],
    /// What becomes its descriptors 0, 1, 2 and so on. It gets no others.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// The directory of the cgroup v2 to start in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Soft and hard RLIMIT_NOFILE to set (setrlimit(2)).
    pub nofile: Option<(u64, u64)>,
    /// Namespaces of its own that a process cannot enter later.
    pub isolation: Isolation,
}

/// Namespaces that a process is born in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Its parent's.
    #[default]
    None,
    /// A PID namespace, of which it is the init (pid_namespaces(7)).
    Pids,
    /// The same in a user namespace, which gives an ordinary user the right to it (user_namespaces(7)). The user's ids are
    /// mapped to themselves. The program has every capability in it, handed on by the ambient set, which it should clear.
    PidsAndUser,
}

/// A started process.
#[derive(Debug)]
pub struct Child {
    /// Its number, which is ours until it is reaped.
    pub pid: u32,
    /// Becomes readable when it ends (pidfd_open(2)).
    pub pidfd: OwnedFd,
}

/// No program was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnError {
    /// What failed, by the name of its system call; `cgroup` for starting in the given one, `cgroup.freeze` when that is
    /// frozen, `namespaces` for the [`Isolation`].
    pub step: &'static str,
    /// Why.
    pub errno: Errno,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start a process: {} failed", self.step)
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.errno)
    }
}

/// Starts a program as a child of the calling thread's process, and returns when it was executed.
///
/// # Errors
/// When a system call of the parent or of the child before execveat(2), or that itself, fails. No process is
/// left then. A cgroup that refuses is an error, never passed over, and so is one that is frozen (EBUSY).
pub fn spawn(launch: &Launch<'_>) -> Result<Child, SpawnError> {
    spawn_or_else(Way::Clone3, launch)
}

/// As [`spawn`], at a cost that does not depend on how many descriptors this process has. Two at a time would put theirs
/// into the same slots.
///
/// # Errors
/// As there.
pub fn spawn_through(slots: &mut Slots, launch: &Launch<'_>) -> Result<Child, SpawnError> {
    spawn_or_else(Way::Slots(slots), launch)
}

/// Becomes the program that is open at this number (execveat(2)), which need not be a descriptor that the caller owns. Returns only
/// when that fails.
pub fn become_program(program: RawFd, argv: &[CString], env: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in null, and their strings live in the caller's. The kernel looks the number up; where it leads to no
    // program, that is an error.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn spawn_or_else(way: Way<'_>, launch: &Launch<'_>) -> Result<Child, SpawnError> {
    match spawn_by(way, launch) {
        // A container whose seccomp list does not know clone3, or an architecture without it here.
        Err(SpawnError { step: "clone", errno: Errno::ENOSYS | Errno::EPERM }) => {
            spawn_by(Way::Clone, launch)
        }
        result => result,
    }
}

/// How to make the child.
#[derive(Debug, Clone, Copy)]
enum Way<'a> {
    /// clone3(2), straight into the cgroup.
    Clone3,
    /// As before, with the descriptors taken through these. For more than there are it is as before altogether.
    Slots(&'a Slots),
    /// clone(2); the child joins the cgroup itself.
    Clone,
}

fn spawn_by(way: Way<'_>, launch: &Launch<'_>) -> Result<Child, SpawnError> {
    if launch.cgroup.is_some_and(is_frozen) {
        return Err(at("cgroup.freeze")(Errno::EBUSY));
    }
    let prepared = Prepared::new(way, launch)?;
    let stack = Stack::new().map_err(at("mmap"))?;
    let job = prepared.job(way, launch);
    let cloned = with_signals_blocked(|| match way {
        Way::Clone3 | Way::Slots(_) => clone::clone3(&stack, &job),
        Way::Clone => clone::clone(&stack, &job),
    });
    match cloned.map_err(at("rt_sigprocmask"))? {
        Ok(child) => job.outcome(child),
        // The errors of clone3(2) that only CLONE_INTO_CGROUP has.
        Err(errno @ (Errno::EACCES | Errno::EBADF | Errno::EBUSY | Errno::ENODEV | Errno::EOPNOTSUPP))
            if launch.cgroup.is_some() =>
        {
            Err(SpawnError { step: "cgroup", errno })
        }
        // Those of namespaces. ENOSYS and EPERM may as well be about clone3 itself.
        Err(errno @ (Errno::EINVAL | Errno::ENOSPC | Errno::EUSERS)) if job.isolation != Isolation::None => {
            Err(SpawnError { step: "namespaces", errno })
        }
        Err(errno @ Errno::EPERM) if job.isolation != Isolation::None && matches!(way, Way::Clone) => {
            Err(SpawnError { step: "namespaces", errno })
        }
        Err(errno) => Err(SpawnError { step: "clone", errno }),
    }
}

/// Whether a child in this cgroup would be frozen before it executes anything, and the parent wait for it as long. Where the
/// kernel does not say, it cannot freeze either (before Linux 5.2). One that is frozen between this look and the child's
/// execveat(2), some 0.1 ms later, ends the wait when it is thawed or killed.
///
/// The events know of a freeze above, and say it only when all processes here are frozen. The switch knows of the group's own at once.
fn is_frozen(cgroup: BorrowedFd<'_>) -> bool {
    has_line(cgroup, "cgroup.events", b"frozen 1") || has_line(cgroup, "cgroup.freeze", b"1")
}

fn has_line(cgroup: BorrowedFd<'_>, file: &str, line: &[u8]) -> bool {
    let mut text = [0; 256];
    let length = openat(cgroup, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .and_then(|file| read(&file, &mut text));
    let text = length.ok().and_then(|length| text.get(..length)).unwrap_or_default();
    text.split(|byte| *byte == b'\n').any(|present| present == line)
}

fn at(step: &'static str) -> impl Fn(Errno) -> SpawnError {
    move |errno| SpawnError { step, errno }
}

/// Everything the child needs, allocated before there is a child.
struct Prepared<'a> {
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    table: Table<'a>,
    cgroup: Option<Above<'a>>,
    program: RawFd,
    descriptors: Vec<RawFd>,
    user_map: Option<UserMap>,
}

/// Where the child finds the program and its descriptors. The child puts descriptors at 0 to count-1 in turn, so nothing it
/// still needs may be there.
enum Table<'a> {
    /// In a copy of our table, above those numbers.
    Copied { _open: Vec<Above<'a>> },
    /// In slots. What is from `end` on is left behind.
    Shared { _open: Filled<'a>, end: RawFd },
}

impl<'a> Prepared<'a> {
    fn new(way: Way<'a>, launch: &Launch<'a>) -> Result<Self, SpawnError> {
        let count =
            RawFd::try_from(launch.descriptors.len()).map_err(|_| at("descriptors")(Errno::EINVAL))?;
        let above = |fd| Above::new(fd, count).map_err(at("fcntl"));
        let all: Vec<BorrowedFd<'a>> = [&[launch.program], launch.descriptors].concat();
        let filled = match way {
            Way::Slots(slots) => slots.fill(&all).map(|filled| (filled, slots.end())),
            Way::Clone3 | Way::Clone => None,
        };
        let (table, mut descriptors) = if let Some((filled, end)) = filled {
            let filled = filled.map_err(at("dup3"))?;
            let numbers = filled.numbers();
            (Table::Shared { _open: filled, end }, numbers)
        } else {
            let open = all.into_iter().map(above).collect::<Result<Vec<_>, _>>()?;
            let numbers = open.iter().map(|fd| fd.as_fd().as_raw_fd()).collect();
            (Table::Copied { _open: open }, numbers)
        };
        Ok(Self {
            argv: pointers(launch.argv),
            env: pointers(launch.env),
            cgroup: launch.cgroup.map(above).transpose()?,
            program: descriptors.remove(0),
            descriptors,
            user_map: (launch.isolation == Isolation::PidsAndUser).then(UserMap::of_caller),
            table,
        })
    }

    fn job(&self, way: Way<'_>, launch: &Launch<'_>) -> Job<'_> {
        Job {
            argv: &self.argv,
            env: &self.env,
            program: self.program,
            cgroup: self.cgroup.as_ref().map(|fd| fd.as_fd().as_raw_fd()),
            join: matches!(way, Way::Clone),
            shared_end: match self.table {
                Table::Shared { end, .. } => Some(end),
                Table::Copied { .. } => None,
            },
            descriptors: &self.descriptors,
            isolation: launch.isolation,
            user_map: self.user_map.as_ref(),
            nofile: launch.nofile.map(|(soft, hard)| libc::rlimit64 { rlim_cur: soft, rlim_max: hard }),
            failed_step: AtomicI32::new(0),
            failed_errno: AtomicI32::new(0),
        }
    }
}

/// The null-terminated array that execveat(2) takes. Valid as long as the strings are.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// A descriptor with a number of at least a given one: itself, or a copy.
enum Above<'a> {
    Itself(BorrowedFd<'a>),
    Copy(OwnedFd),
}

impl<'a> Above<'a> {
    fn new(fd: BorrowedFd<'a>, least: RawFd) -> nix::Result<Self> {
        if fd.as_raw_fd() >= least {
            return Ok(Self::Itself(fd));
        }
        let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
        // SAFETY: fcntl just made this descriptor and nothing else knows its number.
        Ok(Self::Copy(unsafe { OwnedFd::from_raw_fd(raw) }))
    }
}

impl AsFd for Above<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Itself(fd) => *fd,
            Self::Copy(fd) => fd.as_fd(),
        }
    }
}

/// What the child does, and where it says what failed. Shared with the suspended parent.
struct Job<'a> {
    argv: &'a [*const c_char],
    env: &'a [*const c_char],
    program: RawFd,
    cgroup: Option<RawFd>,
    /// Whether the child has to join the cgroup itself.
    join: bool,
    /// Set when the child shares our table of descriptors: it goes on with those below.
    shared_end: Option<RawFd>,
    descriptors: &'a [RawFd],
    isolation: Isolation,
    user_map: Option<&'a UserMap>,
    nofile: Option<libc::rlimit64>,
    /// Index into [`STEPS`]; 0 while nothing failed.
    failed_step: AtomicI32,
    failed_errno: AtomicI32,
}

/// The child's system calls, in order.
const STEPS: [&str; 8] =
    ["", "cgroup", "dup3", "prlimit", "close_range", "execveat", "unshare", "namespaces"];

impl Job<'_> {
    /// The flags of clone(2) for the namespaces.
    fn namespaces(&self) -> c_int {
        match self.isolation {
            Isolation::None => 0,
            Isolation::Pids => libc::CLONE_NEWPID,
            Isolation::PidsAndUser => libc::CLONE_NEWPID | libc::CLONE_NEWUSER,
        }
    }

    /// What became of a cloned child, once the parent runs again: it has executed its program, or it is
    /// ending.
    fn outcome(&self, child: Child) -> Result<Child, SpawnError> {
        let step = self.failed_step.load(Ordering::Acquire);
        if step == 0 {
            return Ok(child);
        }
        reap::forget(child.pid);
        let step = usize::try_from(step).ok().and_then(|step| STEPS.get(step)).copied().unwrap_or("execveat");
        Err(SpawnError { step, errno: Errno::from_raw(self.failed_errno.load(Ordering::Acquire)) })
    }

    /// The child's part. Only system calls from here on.
    fn execute(&self) -> (c_int, Errno) {
        // Before anything is done to a descriptor: until here they are the parent's as well.
        if let Some(end) = self.shared_end
            && let Err(errno) = slots::leave_behind(end)
        {
            return (6, errno);
        }
        if self.join
            && let Some(cgroup) = self.cgroup
            && let Err(errno) = join_cgroup(cgroup)
        {
            return (1, errno);
        }
        if let Some(map) = self.user_map
            && let Err(errno) = map.apply()
        {
            return (7, errno);
        }
        let mut target = 0;
        for source in self.descriptors {
            // SAFETY: dup3 only replaces descriptors of the child, whose table is its own by now.
            // Every number still needed is above the targets.
            if unsafe { libc::dup3(*source, target, 0) } < 0 {
                return (2, Errno::last());
            }
            target += 1;
        }
        if let Some(limit) = &self.nofile {
            // SAFETY: prlimit64 reads the live structure and changes the child only (pid 0); no old value is
            // asked for.
            let result = unsafe { libc::prlimit64(0, libc::RLIMIT_NOFILE, limit, ptr::null_mut()) };
            if result < 0 {
                return (3, Errno::last());
            }
        }
        // SAFETY: marks descriptors of the child's own table close-on-exec; closes nothing.
        let result = unsafe {
            libc::syscall(libc::SYS_close_range, target as c_uint, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        // Where seccomp(2) forbids it: all descriptors of ours are close-on-exec anyway.
        if result < 0 && !matches!(Errno::last(), Errno::EPERM | Errno::ENOSYS) {
            return (4, Errno::last());
        }
        // SAFETY: both arrays end in null and their strings live in the suspended parent's frames.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.program,
                c"".as_ptr(),
                self.argv.as_ptr(),
                self.env.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        (5, Errno::last())
    }
}

/// Writes the caller into a cgroup, for kernels whose clone cannot. It has not executed anything yet, so
/// nothing of its program can escape.
fn join_cgroup(directory: RawFd) -> Result<(), Errno> {
    // SAFETY: openat reads a constant string and makes a new descriptor, which close-on-exec ends.
    let file = unsafe { libc::openat(directory, c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return Err(Errno::last());
    }
    // SAFETY: write reads one byte of a constant.
    if unsafe { libc::write(file, c"0".as_ptr().cast(), 1) } < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// Where a clone starts. Never returns; `job` is the parent's [`Job`].
extern "C" fn child_main(job: *mut c_void) -> c_int {
    // SAFETY: both ways of cloning pass a pointer to a live Job of the parent, which is suspended until we
    // are gone (CLONE_VFORK), so nothing else touches or frees it.
    let job = unsafe { &*job.cast::<Job<'_>>() };
    let (step, errno) = job.execute();
    job.failed_errno.store(errno as i32, Ordering::Release);
    job.failed_step.store(step, Ordering::Release);
    // SAFETY: _exit ends this process without running anything of the parent's (atexit handlers,
    // destructors).
    unsafe { libc::_exit(127) }
}

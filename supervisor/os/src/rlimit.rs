//! Resource limits (getrlimit(2)).

use std::{io, mem::MaybeUninit, os::fd::RawFd};

use crate::inherited;

/// No limit.
pub const INFINITY: u64 = libc::RLIM64_INFINITY;

/// A limited resource. The discriminant is the kernel's number of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "getrlimit(2) is their documentation")]
#[repr(u32)]
pub enum Resource {
    Cpu = 0,
    Fsize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    Rss = 5,
    Nproc = 6,
    Nofile = 7,
    Memlock = 8,
    As = 9,
    Locks = 10,
    Sigpending = 11,
    Msgqueue = 12,
    Nice = 13,
    Rtprio = 14,
    Rttime = 15,
}

impl Resource {
    /// All of them, by number.
    pub const ALL: [Resource; 16] = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];

    /// The kernel's number.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The name after `RLIMIT_`, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu",
            Resource::Fsize => "fsize",
            Resource::Data => "data",
            Resource::Stack => "stack",
            Resource::Core => "core",
            Resource::Rss => "rss",
            Resource::Nproc => "nproc",
            Resource::Nofile => "nofile",
            Resource::Memlock => "memlock",
            Resource::As => "as",
            Resource::Locks => "locks",
            Resource::Sigpending => "sigpending",
            Resource::Msgqueue => "msgqueue",
            Resource::Nice => "nice",
            Resource::Rtprio => "rtprio",
            Resource::Rttime => "rttime",
        }
    }

    /// The resource with this number.
    pub fn from_number(number: u32) -> Option<Resource> {
        Resource::ALL.into_iter().find(|resource| resource.number() == number)
    }
}

/// A soft and a hard limit; [`INFINITY`] is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is met.
    pub soft: u64,
    /// What the soft one may be raised to.
    pub hard: u64,
}

/// Sets a limit of a process; `None` is this one.
///
/// # Errors
/// EPERM to raise a hard limit without CAP_SYS_RESOURCE or for a foreign process, EINVAL when soft is above hard.
pub fn set(pid: Option<u32>, resource: Resource, limit: Limit) -> io::Result<()> {
    let new = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the kernel reads one rlimit64, which outlives the call, and is given no place to write to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            process(pid)?,
            resource.number(),
            &raw const new,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads a limit of a process; `None` is this one.
///
/// # Errors
/// EPERM for a foreign process, ESRCH for none.
pub fn get(pid: Option<u32>, resource: Resource) -> io::Result<Limit> {
    let mut old = MaybeUninit::<libc::rlimit64>::uninit();
    // SAFETY: the kernel is given nothing to read and writes one rlimit64 to `old`, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            process(pid)?,
            resource.number(),
            std::ptr::null::<libc::rlimit64>(),
            old.as_mut_ptr(),
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: prlimit64(2) succeeded, so all of it is written.
    let old = unsafe { old.assume_init() };
    Ok(Limit { soft: old.rlim_cur, hard: old.rlim_max })
}

/// Raises this process's soft limit of open files to the hard one and returns what it was before, which is what a child
/// should be given: programs that use select(2) or close every possible descriptor suffer from a high soft limit.
///
/// # Errors
/// When the limit cannot be read or set.
pub fn raise_nofile() -> io::Result<Limit> {
    let before = get(None, Resource::Nofile)?;
    set(None, Resource::Nofile, Limit { soft: before.hard, ..before })?;
    Ok(before)
}

/// Makes the table of descriptors large enough for so many, as far as the limit lets it. To be called before the first thread
/// is started: in a process with threads the kernel waits at each growth until no CPU uses the old table, 10 ms and more
/// (synchronize_rcu() in fs/file.c), and it grows by doubling.
pub fn make_room(descriptors: RawFd) {
    // Beyond the limit it fails, and the table grows when it has to.
    drop(inherited::duplicate_above(io::stdin(), descriptors - 1));
}

fn process(pid: Option<u32>) -> io::Result<libc::pid_t> {
    match pid {
        None => Ok(0),
        Some(pid) => match libc::pid_t::try_from(pid) {
            // 0 means "this process" to the kernel, which the caller did not ask for.
            Ok(pid) if pid > 0 => Ok(pid),
            _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        let listed = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert_eq!(listed.lines().count(), 1 + Resource::ALL.len());
        for resource in Resource::ALL {
            assert_eq!(Resource::from_number(resource.number()), Some(resource));
            get(None, resource).unwrap();
        }
        assert_eq!(Resource::from_number(16), None);
        let pairs = [
            (Resource::Nofile, libc::RLIMIT_NOFILE),
            (Resource::As, libc::RLIMIT_AS),
            (Resource::Rttime, libc::RLIMIT_RTTIME),
        ];
        for (ours, libcs) in pairs {
            assert_eq!(ours.number(), libcs);
        }
    }

    #[test]
    fn limits_of_another_process() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let limit = Limit { soft: 7, hard: 9 };
        set(Some(child.id()), Resource::Core, limit).unwrap();
        assert_eq!(get(Some(child.id()), Resource::Core).unwrap(), limit);
        let bad = set(Some(child.id()), Resource::Core, Limit { soft: 9, hard: 7 });
        assert_eq!(bad.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(get(Some(0), Resource::Core).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}

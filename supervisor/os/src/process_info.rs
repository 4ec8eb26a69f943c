//! Facts about any process, from /proc.

use std::{fs, io};

/// What /proc/PID/stat says of a process (proc_pid_stat(5)), as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// One letter: `R`, `S`, `Z` …
    pub state: u8,
    /// Its parent.
    pub parent: u32,
    /// Its session.
    pub session: u32,
    /// When it started, in clock ticks after boot. With the pid it means one process and no other.
    pub started: u64,
}

impl Stat {
    /// Reads it.
    ///
    /// # Errors
    /// ENOENT or ESRCH when there is no such process.
    pub fn of(pid: u32) -> io::Result<Stat> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        Stat::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown form of stat"))
    }

    /// Whether it has ended and only waits to be reaped.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    fn parse(text: &[u8]) -> Option<Stat> {
        // The name in field 2 may contain anything, parentheses included; field 3 follows its end.
        let after_name = text.rsplitn(2, |byte| *byte == b')').next()?;
        let fields: Vec<&str> = std::str::from_utf8(after_name).ok()?.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Stat {
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
        })
    }
}

/// The numbers of a process, from that by which it is known here to that in its own PID namespace (`NSpid` of
/// proc_pid_status(5)).
///
/// # Errors
/// ENOENT or ESRCH when there is no such process.
pub fn numbers(pid: u32) -> io::Result<Vec<u32>> {
    let text = fs::read(format!("/proc/{pid}/status"))?;
    Ok(parse_numbers(&text))
}

/// The name of the process, which it chooses itself, is in a line before and has its line breaks escaped.
fn parse_numbers(status: &[u8]) -> Vec<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"NSpid:")).unwrap_or_default();
    let words = std::str::from_utf8(line).unwrap_or_default().split_ascii_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// When a process started, in clock ticks after boot.
///
/// # Errors
/// ENOENT or ESRCH when there is no such process.
pub fn start_time(pid: u32) -> io::Result<u64> {
    Ok(Stat::of(pid)?.started)
}

/// Bytes of memory that only this process uses: what would be free if it had not been started. Costs the kernel a walk over
/// its page tables.
///
/// # Errors
/// EACCES for a foreign process, ENOENT or ESRCH for none.
pub fn private_memory(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(private_bytes(&text))
}

fn private_bytes(rollup: &str) -> u64 {
    let kilobytes = |line: &str| -> Option<u64> {
        let value = line.strip_prefix("Private_Clean:").or_else(|| line.strip_prefix("Private_Dirty:"))?;
        value.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    rollup.lines().filter_map(kilobytes).fold(0u64, |sum, kb| sum.saturating_add(kb.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let text = b"42 (x) S 9) R) S 7 42 41 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 1234 5678 9 0";
        let expected = Stat { state: b'S', parent: 7, session: 41, started: 1234 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse(b"42 (x) S 7"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn a_process_has_a_number_in_each_namespace() {
        let text = b"Name:\tx\\nNSpid:\t9\nPid:\t77\nNSpid:\t77\t5\t1\nNSsid:\t1\n";
        assert_eq!(parse_numbers(text), [77, 5, 1]);
        assert_eq!(parse_numbers(b"Name:\tx\n"), [0; 0]);
        assert_eq!(numbers(std::process::id()).unwrap().first(), Some(&std::process::id()));
    }

    #[test]
    fn this_process() {
        let stat = Stat::of(std::process::id()).unwrap();
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(!stat.has_ended());
        assert!(private_memory(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn private_memory_is_clean_and_dirty() {
        let text = "55d0-7ffc ---p 0 00:00 0 [rollup]\nRss: 100 kB\nPrivate_Clean:   4 kB\nPrivate_Dirty:  8 kB\nPrivate_Hugetlb: 9 kB\n";
        assert_eq!(private_bytes(text), 12 << 10);
    }
}

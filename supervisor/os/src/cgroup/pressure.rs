//! How much the processes of a group stall, and being told when it is much (the kernel's Documentation/accounting/psi.rst).
//!
//! The files are cgroup v2's and need no controller, so hybrid hosts have them as well. There are none before Linux 4.20,
//! without v2, and on a kernel that was booted with `psi=0` or that has it off by default (Debian's).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    time::Duration,
};

use super::{Group, file};

/// What processes wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PressureOf {
    /// Memory.
    Memory,
    /// A CPU.
    Cpu,
    /// A disk.
    Io,
}

impl PressureOf {
    fn file(self) -> &'static str {
        match self {
            PressureOf::Memory => "memory.pressure",
            PressureOf::Cpu => "cpu.pressure",
            PressureOf::Io => "io.pressure",
        }
    }
}

/// How much a group stalls.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// The share of the last ten seconds in which some process stalled, in percent.
    pub some_avg10: f64,
    /// The share in which all that were not idle did; a group's CPU has it since Linux 5.13.
    pub full_avg10: Option<f64>,
    /// For how long some process has stalled, since the group was made.
    pub some_total: Duration,
}

impl Pressure {
    fn parse(text: &str) -> Option<Pressure> {
        let line = |kind: &str| text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
        let value = |line: &'_ str, key: &str| {
            line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<f64>().ok())
        };
        let some = line("some")?;
        let total = some.split(' ').find_map(|word| word.strip_prefix("total=")?.parse().ok())?;
        Some(Pressure {
            some_avg10: value(some, "avg10")?,
            full_avg10: line("full").and_then(|full| value(full, "avg10")),
            some_total: Duration::from_micros(total),
        })
    }
}

/// Becomes ready for POLLPRI when a group stalls for as long as it was made for, at most once in a window; for POLLERR as
/// well when the group has gone.
#[derive(Debug)]
pub struct PressureTrigger(File);

impl AsFd for PressureTrigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PressureTrigger {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Group {
    /// How much it stalls now. `None` where the kernel does not say.
    pub fn pressure(&self, of: PressureOf) -> Option<Pressure> {
        Pressure::parse(&file::read(&self.unified.as_ref()?.join(of.file())).ok()?)
    }

    /// Asks the kernel to tell when some process stalled for so long within a window.
    ///
    /// # Errors
    /// ENOENT or EOPNOTSUPP where the kernel does not count it, ENOENT without v2; EINVAL for a time longer than the window,
    /// and for an ordinary user's window that is no multiple of two seconds.
    pub fn pressure_trigger(
        &self,
        of: PressureOf,
        stalled: Duration,
        window: Duration,
    ) -> io::Result<PressureTrigger> {
        let dir = self.unified.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(dir.join(of.file()))?;
        // The kernel takes the last byte for the text's end, whatever it is.
        file.write_all(format!("some {} {}\0", stalled.as_micros(), window.as_micros()).as_bytes())?;
        Ok(PressureTrigger(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pressure_file_is_read() {
        let text = "some avg10=12.50 avg60=3.14 avg300=0.65 total=2001028\nfull avg10=1.25 avg60=0.00 avg300=0.00 total=77\n";
        let expected = Pressure {
            some_avg10: 12.5,
            full_avg10: Some(1.25),
            some_total: Duration::from_micros(2_001_028),
        };
        assert_eq!(Pressure::parse(text), Some(expected));
        let (some, _) = text.split_once('\n').unwrap();
        assert_eq!(Pressure::parse(some), Some(Pressure { full_avg10: None, ..expected }));
        for text in ["", "some", "some avg10=x total=1", "some avg10=1.00", "full avg10=1.00 total=1"] {
            assert_eq!(Pressure::parse(text), None, "{text}");
        }
    }
}

//! Bounds and shares of disks.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use super::{LimitName, Limits, Place, Reason, Setting, cpu::WEIGHT, or_max, write};
use crate::cgroup::{Controller, file};

/// The largest weight that bfq takes (bfq-iosched.rst).
const BFQ_WEIGHT_MAX: u64 = 1000;
/// The largest of cgroup v2.
const WEIGHT_MAX: u64 = 10_000;

/// Bounds on one block device. `None` is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoLimits {
    /// Bytes a second that are read.
    pub read_bytes: Option<u64>,
    /// Bytes a second that are written.
    pub write_bytes: Option<u64>,
    /// Reads a second.
    pub read_ops: Option<u64>,
    /// Writes a second.
    pub write_ops: Option<u64>,
}

impl IoLimits {
    /// The four with their files of v1, in the order of `io.max`.
    fn by_file(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("blkio.throttle.read_bps_device", self.read_bytes),
            ("blkio.throttle.write_bps_device", self.write_bytes),
            ("blkio.throttle.read_iops_device", self.read_ops),
            ("blkio.throttle.write_iops_device", self.write_ops),
        ]
    }
}

pub(super) fn set(setting: &mut Setting<'_>, limits: &Limits) {
    let is_wanted = limits.io_weight.is_some();
    setting.apply(LimitName::IoWeight, Controller::Io, is_wanted, |place| {
        set_weight(place, limits.io_weight.unwrap_or(WEIGHT))?;
        if !is_wanted || gives_shares(place) { Ok(()) } else { Err(Reason::NoIoScheduler) }
    });
    setting.apply(LimitName::Io, Controller::Io, false, |place| {
        lift(place);
        Ok(())
    });
    for (path, bounds) in &limits.io {
        setting.apply(LimitName::Io, Controller::Io, true, |place| {
            bound(place, &device(path, Path::new("/sys/dev/block"))?, bounds)
        });
    }
}

/// Which of the two files a kernel has depends on how it was built; with both, the scheduler of the disk decides.
fn set_weight(place: Place<'_>, weight: u16) -> Result<(), Reason> {
    let of_bfq = bfq_weight(weight).to_string();
    match place {
        Place::V1(dir) => write(dir, "blkio.bfq.weight", &of_bfq),
        Place::V2(dir) => {
            let for_cost = write(dir, "io.weight", &format!("default {weight}"));
            write(dir, "io.bfq.weight", &of_bfq).or(for_cost)
        }
    }
}

/// 1 to 10,000 around 100 as 1 to 1,000 around 100: the way systemd converts it too.
fn bfq_weight(weight: u16) -> u64 {
    let (weight, usual) = (u64::from(weight), u64::from(WEIGHT));
    match weight.checked_sub(usual) {
        None => weight,
        Some(more) => usual + more * (BFQ_WEIGHT_MAX - usual) / (WEIGHT_MAX - usual),
    }
}

/// Whether some disk heeds weights.
fn gives_shares(place: Place<'_>) -> bool {
    let by_cost = || {
        let files = place.dir().ancestors().map(|dir| dir.join("io.cost.qos"));
        let text = files.map(|file| file::read(&file)).find_map(Result::ok).unwrap_or_default();
        text.split_whitespace().any(|word| word == "enable=1")
    };
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut schedulers = disks.map(|disk| file::read(&disk.path().join("queue/scheduler")));
    schedulers.any(|names| names.is_ok_and(|names| names.contains("[bfq]")))
        || (matches!(place, Place::V2(_)) && by_cost())
}

fn bound(place: Place<'_>, device: &str, bounds: &IoLimits) -> Result<(), Reason> {
    let [read_bytes, write_bytes, read_ops, write_ops] = bounds.by_file();
    match place {
        Place::V2(dir) => {
            let [read_bytes, write_bytes, read_ops, write_ops] =
                [read_bytes, write_bytes, read_ops, write_ops].map(|(_, value)| or_max(value));
            let line =
                format!("{device} rbps={read_bytes} wbps={write_bytes} riops={read_ops} wiops={write_ops}");
            write(dir, "io.max", &line)
        }
        Place::V1(dir) => {
            for (name, value) in bounds.by_file() {
                if let Some(value) = value {
                    write(dir, name, &format!("{device} {value}"))?;
                }
            }
            match (bounds.write_bytes, bounds.write_ops) {
                (None, None) => Ok(()),
                (Some(_), _) | (_, Some(_)) => Err(Reason::OnlyDirectWrites),
            }
        }
    }
}

/// Lifts what bounds there are. What cannot be lifted is said of the bound that comes in its place.
fn lift(place: Place<'_>) {
    let devices = |file: &Path| -> BTreeSet<String> {
        let text = file::read(file).unwrap_or_default();
        text.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
    };
    match place {
        Place::V2(dir) => {
            for device in devices(&dir.join("io.max")) {
                let _ = write(dir, "io.max", &format!("{device} rbps=max wbps=max riops=max wiops=max"));
            }
        }
        Place::V1(dir) => {
            for (name, _) in IoLimits::default().by_file() {
                for device in devices(&dir.join(name)) {
                    // 0 removes the rule (cgroup-v1/blkio-controller.rst).
                    let _ = write(dir, name, &format!("{device} 0"));
                }
            }
        }
    }
}

/// The disk that a path is on, or is, as `major:minor`. Bounds are for whole disks: a partition is its disk.
fn device(path: &Path, by_number: &Path) -> Result<String, Reason> {
    let found = fs::metadata(path)
        .map_err(|error| Reason::NoDevice(format!("cannot look at {}: {error}", path.display())))?;
    let number = if found.file_type().is_block_device() { found.rdev() } else { found.dev() };
    let number = format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let none = || Reason::NoDevice(format!("{} is not on a block device", path.display()));
    let folder = fs::canonicalize(by_number.join(&number)).map_err(|_| none())?;
    if !folder.join("partition").exists() {
        return Ok(number);
    }
    let disk = folder.parent().and_then(|disk| file::read(&disk.join("dev")).ok());
    disk.map(|text| text.trim().to_owned()).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn weights_of_bfq_keep_the_middle_and_the_ends() {
        assert_eq!([1, 50, 100, 200, 10_000].map(bfq_weight), [1, 50, 100, 109, 1000]);
    }

    #[test]
    fn a_partition_is_bounded_by_its_disk() {
        let sys = tempfile::tempdir().unwrap();
        let path = sys.path().join("file");
        fs::write(&path, "").unwrap();
        let own = fs::metadata(&path).unwrap().dev();
        let own = format!("{}:{}", nix::sys::stat::major(own), nix::sys::stat::minor(own));
        let (disk, part) = (sys.path().join("sda"), sys.path().join("sda/sda1"));
        fs::create_dir_all(&part).unwrap();
        fs::write(disk.join("dev"), "8:0\n").unwrap();
        symlink(&part, sys.path().join(&own)).unwrap();
        assert_eq!(device(&path, sys.path()), Ok(own));
        fs::write(part.join("partition"), "1\n").unwrap();
        assert_eq!(device(&path, sys.path()), Ok("8:0".to_owned()));
    }

    #[test]
    fn what_is_on_no_disk_is_named() {
        let sys = tempfile::tempdir().unwrap();
        let text = |path: &str| device(Path::new(path), sys.path()).unwrap_err().to_string();
        assert_eq!(text("/proc"), "/proc is not on a block device");
        assert_eq!(text("/nowhere"), "cannot look at /nowhere: No such file or directory (os error 2)");
    }
}

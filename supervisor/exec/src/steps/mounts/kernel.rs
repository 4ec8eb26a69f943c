//! The kernel's own file systems, as seen from the program's namespaces.

use std::{fs, path::Path};

use nix::errno::Errno;
use watt_os::mount::{self, Forbid, Tree};

use super::{
    read_only_below, show,
    view::{Point, View},
};
use crate::{
    error::{About, StepError},
    plan::HideProcesses,
};

const PROC: &str = "/proc";
const SYS: &str = "/sys";
const CGROUPS: &str = "/sys/fs/cgroup";
const MQUEUE: &str = "/dev/mqueue";
/// There is nothing to execute in any of them.
const FORBID: Forbid = Forbid { devices: true, executing: true, writing: false };

pub(super) fn proc(view: &mut View, hide: HideProcesses, processes_only: bool) -> Result<(), StepError> {
    // By number, which kernels before 5.8 know as well.
    let hide = match hide {
        HideProcesses::None => "hidepid=0",
        HideProcesses::NoAccess => "hidepid=1",
        HideProcesses::Invisible => "hidepid=2",
        HideProcesses::NotPtraceable => "hidepid=4",
    };
    let options = if processes_only { format!("{hide},subset=pid") } else { hide.to_owned() };
    mount::filesystem("proc", Path::new(PROC), &options, FORBID).about(PROC)?;
    view.mounted(Path::new(PROC));
    Ok(())
}

pub(super) fn sys(view: &mut View, cgroups: Option<Tree>) -> Result<(), StepError> {
    let forbid = Forbid { writing: true, ..FORBID };
    mount::filesystem("sysfs", Path::new(SYS), "", forbid).about(SYS)?;
    view.mounted(Path::new(SYS));
    match cgroups {
        Some(cgroups) => {
            let shown = show(view, cgroups, Path::new(CGROUPS), true)?;
            shown.map_or(Ok(()), |point| read_only_below(&point))
        }
        None => Ok(()),
    }
}

/// Mounts each hierarchy again, over itself: a mount shows the tree from the root of the namespace it was made in.
pub(super) fn cgroups() -> Result<(), StepError> {
    let forbid = Forbid { writing: true, ..FORBID };
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").about("/proc/self/mountinfo")?;
    for Hierarchy { point, kind, options } in mountinfo.lines().filter_map(hierarchy) {
        match mount::filesystem(kind, Path::new(point), &options, forbid) {
            // What is there shows the same root already.
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                mount::make_read_only(Path::new(point)).about(point)?;
            }
            result => result.about(point)?,
        }
    }
    Ok(())
}

/// A mounted hierarchy of cgroups.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy<'a> {
    point: &'a str,
    kind: &'a str,
    options: String,
}

/// Reads a line of proc_pid_mountinfo(5): `36 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu`.
fn hierarchy(line: &str) -> Option<Hierarchy<'_>> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4).filter(|point| Path::new(point).starts_with(CGROUPS))?;
    let mut words = filesystem.split(' ');
    let (kind, options) = (words.next()?, words.nth(1)?);
    match kind {
        "cgroup2" => Some(Hierarchy { point, kind, options: String::new() }),
        "cgroup" => Some(Hierarchy { point, kind, options: controllers(options) }),
        _ => None,
    }
}

/// What tells a v1 hierarchy from the others: its controllers, or its name where it has none (cgroups(7)).
fn controllers(options: &str) -> String {
    let is_setting = |option: &str| {
        matches!(
            option,
            "rw" | "ro" | "xattr" | "noprefix" | "clone_children" | "cpuset_v2_mode" | "seclabel"
        ) || option.starts_with("release_agent=")
    };
    let chosen: Vec<&str> = options.split(',').filter(|option| !is_setting(option)).collect();
    match chosen.as_slice() {
        [name] if name.starts_with("name=") => format!("none,{name}"),
        _ => chosen.join(","),
    }
}

pub(super) fn mqueue(view: &mut View) -> Result<(), StepError> {
    let Some(point) = view.point(Path::new(MQUEUE), Point::Folder, false)? else { return Ok(()) };
    mount::filesystem("mqueue", &point, "", FORBID).about(MQUEUE)?;
    view.mounted(&point);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_by_their_controllers() {
        let check = |line: &str, expected: Option<(&str, &str)>| {
            let found = hierarchy(line);
            let found = found.as_ref().map(|found| (found.point, found.options.as_str()));
            assert_eq!(found, expected, "{line}");
        };
        let at = |rest: &str| format!("32 31 0:29 / /sys/fs/cgroup/x rw shared:9 - {rest}");
        let point = "/sys/fs/cgroup/x";
        check(&at("cgroup cgroup rw,cpu,cpuacct"), Some((point, "cpu,cpuacct")));
        check(&at("cgroup cgroup rw,xattr,name=systemd"), Some((point, "none,name=systemd")));
        check(&at("cgroup cgroup rw,release_agent=/x,memory"), Some((point, "memory")));
        check(&at("cgroup2 cgroup2 rw,nsdelegate"), Some((point, "")));
        check(&at("tmpfs tmpfs rw"), None);
        check("1 2 0:1 / /elsewhere rw - cgroup2 cgroup2 rw", None);
        check("", None);
    }
}

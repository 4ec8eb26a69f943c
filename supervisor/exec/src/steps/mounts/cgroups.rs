//! The cgroups as the program's own namespace names them: its own is the root of each hierarchy.
//!
//! A mount made before the namespace goes on showing the tree from the host's root, and then `/proc/self/cgroup` says `/` of a
//! group that is elsewhere. Mounting every hierarchy anew would put that right and takes two milliseconds on a host with
//! the twelve of cgroup v1; the own folder is bound in the place of the whole tree instead, which looks the same.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use watt_os::mount::{self, Change};

use super::change_below;
use crate::error::{About, StepError};

/// Where cgroups are mounted.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";

/// Where this process is in a mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnGroup {
    point: PathBuf,
    folder: PathBuf,
}

/// Where it is in all of them. To be asked before the namespace is entered, in which both files below say something else.
pub(crate) fn own() -> Result<Vec<OwnGroup>, StepError> {
    let read = |path: &str| -> Result<String, StepError> { fs::read_to_string(path).about(path) };
    Ok(groups(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
}

/// Shows the own group in place of each hierarchy, and has nothing of it changed.
pub(super) fn show_own(groups: &[OwnGroup]) -> Result<(), StepError> {
    for OwnGroup { point, folder } in groups.iter().filter(|group| group.point != group.folder) {
        mount::bind(folder, point).about(folder.display())?;
    }
    match Path::new(CGROUPS).try_exists() {
        Ok(true) => change_below(Path::new(CGROUPS), Change::ReadOnly),
        // A host without cgroups has nothing to show.
        Ok(false) => Ok(()),
        Err(error) => Err(StepError::new(CGROUPS, &error)),
    }
}

/// From proc_pid_mountinfo(5) and /proc/self/cgroup of cgroups(7).
fn groups(mountinfo: &str, own: &str) -> Vec<OwnGroup> {
    // A place is listed once for each mount that covers another; the last one is seen.
    let mounted: BTreeMap<&str, (&str, String)> = mountinfo.lines().filter_map(hierarchy).collect();
    let paths: BTreeMap<&str, &str> = own.lines().filter_map(membership).collect();
    let group = |(point, (root, controllers)): (&str, (&str, String))| {
        let below = Path::new(paths.get(controllers.as_str())?).strip_prefix(root).ok()?;
        let point = PathBuf::from(point);
        let folder = if below.as_os_str().is_empty() { point.clone() } else { point.join(below) };
        Some(OwnGroup { point, folder })
    };
    mounted.into_iter().filter_map(group).collect()
}

/// Reads `4:cpu,cpuacct:/some/group`; cgroup v2 has no controllers there.
fn membership(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(':')
}

/// Reads `36 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu`: where it is mounted, which part of the hierarchy
/// that is, and its controllers as /proc/self/cgroup names them.
fn hierarchy(line: &str) -> Option<(&str, (&str, String))> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut words = mount.split(' ').skip(3);
    let (root, point) = (words.next()?, words.next()?);
    let mut words = filesystem.split(' ');
    let (kind, options) = (words.next()?, words.nth(1)?);
    let controllers = match kind {
        "cgroup2" => String::new(),
        "cgroup" => controllers(options),
        _ => return None,
    };
    Path::new(point).starts_with(CGROUPS).then_some((point, (root, controllers)))
}

/// What of a v1 hierarchy's options is no setting.
fn controllers(options: &str) -> String {
    let is_setting = |option: &str| {
        matches!(
            option,
            "rw" | "ro" | "xattr" | "noprefix" | "clone_children" | "cpuset_v2_mode" | "seclabel"
        ) || option.starts_with("release_agent=")
    };
    options.split(',').filter(|option| !is_setting(option)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_each_hierarchy() {
        let mountinfo = "22 27 0:21 / /proc rw - proc proc rw\n\
            31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,xattr,cpu,cpuacct\n\
            33 31 0:30 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory,release_agent=/x\n\
            34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            35 31 0:32 / /elsewhere rw - cgroup cgroup rw,pids\n\
            36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "9:cpu,cpuacct:/a/b\n8:memory:/box/c\n7:pids:/d\n1:name=systemd:/\n0::/e:f\n";
        let found: Vec<(String, String)> = groups(mountinfo, own)
            .iter()
            .map(|group| (group.point.display().to_string(), group.folder.display().to_string()))
            .collect();
        let expected =
            [("cpu", "cpu/a/b"), ("memory", "memory/c"), ("systemd", "systemd"), ("unified", "unified/e:f")];
        let expected =
            expected.map(|(point, folder)| (format!("{CGROUPS}/{point}"), format!("{CGROUPS}/{folder}")));
        assert_eq!(found, expected);
    }

    #[test]
    fn on_a_unified_host_the_one_hierarchy_is_the_place() {
        let mountinfo = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let [OwnGroup { point, folder }] = groups(mountinfo, "0::/watt/api\n").try_into().unwrap();
        assert_eq!((point, folder), (CGROUPS.into(), format!("{CGROUPS}/watt/api").into()));
        assert_eq!(groups("short\n\n", "0\n"), []);
    }
}

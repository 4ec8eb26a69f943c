//! One worker's cgroup: the directories it has in the hierarchies of the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use super::{Controller, file};

/// How often members are looked for that are to be moved. What is forked by one that was moved is born in its new place, so
/// that this ends soon.
pub(super) const MOVES_MAX: usize = 16;

/// What names of parts begin with.
const PART: &str = "part-";

/// The directories of one cgroup. It is a set of paths: dropping it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    pub(super) unified: Option<PathBuf>,
    pub(super) legacy: BTreeMap<Controller, PathBuf>,
}

impl Group {
    /// Whether any hierarchy holds it. Without one, members can only be found by [`crate::descendants`].
    pub fn is_usable(&self) -> bool {
        self.unified.is_some() || !self.legacy.is_empty()
    }

    /// The same group without the v1 hierarchies that it has no use for, when limits need these controllers: its own, and
    /// those of the groups above. Each costs every start five calls and a wait for the kernel's lock on all forks, and every
    /// stop the same again.
    ///
    /// With v2 for membership and kills, v1 is for limits alone. The memory hierarchy stays in any case, because it counts
    /// what is used and the kills of a host that runs out of memory. Without v2 all stay that count or end processes.
    pub fn only_for(mut self, needed: &BTreeSet<Controller>) -> Group {
        let by_v2 = self.unified.is_some();
        self.legacy.retain(|controller, _| {
            needed.contains(controller)
                || *controller == Controller::Memory
                || !(by_v2 || controller.is_for_limits_alone())
        });
        self
    }

    /// The v1 hierarchies in which it is there.
    pub fn present(&self) -> BTreeSet<Controller> {
        self.legacy.iter().filter(|(_, dir)| dir.exists()).map(|(controller, _)| *controller).collect()
    }

    /// The v2 directory, for `CLONE_INTO_CGROUP` of clone3(2). `None` without v2.
    pub fn open_unified(&self) -> io::Result<Option<OwnedFd>> {
        let Some(path) = &self.unified else { return Ok(None) };
        let open = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_PATH).open(path)?;
        Ok(Some(open.into()))
    }

    /// The files that a process with one thread joins by writing "0": one for each v1 hierarchy. They are those for threads,
    /// because for a whole process the kernel makes all forks of the host wait, some 10 ms each time
    /// (`cgroup_threadgroup_rwsem` in kernel/cgroup/cgroup.c), and holds up everything else that is done to cgroups.
    pub fn legacy_tasks(&self) -> Vec<PathBuf> {
        // Controllers that are mounted together share a directory.
        let dirs: BTreeSet<&PathBuf> = self.legacy.values().collect();
        dirs.into_iter().map(|dir| dir.join("tasks")).collect()
    }

    /// The kernel's number of the v2 cgroup, as sock_diag(7) gives it for a socket. `None` without v2.
    pub fn id(&self) -> Option<u64> {
        // The file handle of a cgroup2 directory is its inode number (kernfs).
        Some(fs::metadata(self.unified.as_ref()?).ok()?.ino())
    }

    /// Opens `cgroup.events`, which becomes ready for POLLPRI when the last process has gone (or the first come). It has
    /// to be read with [`Group::is_populated`] after each such event. `None` without v2: look at times.
    pub fn open_events(&self) -> io::Result<Option<File>> {
        let Some(path) = &self.unified else { return Ok(None) };
        File::open(path.join("cgroup.events")).map(Some)
    }

    /// Whether a process is left in it or below. A zombie does not count.
    pub fn is_populated(&self) -> bool {
        let by_kernel = self.unified.as_ref().is_some_and(|path| {
            file::read(&path.join("cgroup.events"))
                .is_ok_and(|text| file::keyed(&text, "populated") == Some(1))
        });
        // A service that runs as root may have moved itself out of one hierarchy, but hardly out of all.
        by_kernel || self.legacy.values().any(|dir| !members_below(dir).is_empty())
    }

    /// The processes in it and below, in any hierarchy.
    pub fn members(&self) -> BTreeSet<u32> {
        self.directories().flat_map(|dir| members_below(dir)).collect()
    }

    /// Whether it is there, in any hierarchy.
    pub fn exists(&self) -> bool {
        self.directories().any(|dir| dir.exists())
    }

    /// The same group in the hierarchies in which it has processes, and in v2's.
    pub fn where_populated(mut self) -> Group {
        self.legacy.retain(|_, dir| !members_below(dir).is_empty());
        self
    }

    /// Takes in the processes of a smaller group that is the same in fewer hierarchies, and those they fork meanwhile. Those that it
    /// has already cost nothing: for each that is moved the kernel makes all forks of the host wait.
    ///
    /// # Errors
    /// What the kernel says of a process that cannot be moved.
    pub fn take_over(&self, smaller: &Group) -> io::Result<()> {
        let known: BTreeSet<&PathBuf> = smaller.directories().collect();
        let added: Vec<&PathBuf> = self.directories().filter(|dir| !known.contains(dir)).collect();
        if added.is_empty() {
            return Ok(());
        }
        let mut moved = BTreeSet::new();
        for _ in 0..MOVES_MAX {
            let new: Vec<u32> = smaller.members().difference(&moved).copied().collect();
            if new.is_empty() {
                break;
            }
            for dir in &added {
                let there = members_below(dir);
                for pid in new.iter().filter(|pid| !there.contains(pid)) {
                    file::write(&dir.join("cgroup.procs"), &pid.to_string()).or_else(file::gone_is_fine)?;
                }
            }
            moved.extend(new);
        }
        Ok(())
    }

    /// Moves a process into it, in every hierarchy.
    ///
    /// # Errors
    /// What the first hierarchy that refuses says; the others are still tried.
    pub fn join(&self, pid: u32) -> io::Result<()> {
        let mut result = Ok(());
        for dir in self.directories() {
            let joined = file::write(&dir.join("cgroup.procs"), &pid.to_string());
            result = result.and(joined);
        }
        result
    }

    /// Removes it, with those the service made below, in every hierarchy. The service's directory above goes as
    /// well when this was its last worker.
    ///
    /// # Errors
    /// EBUSY while a process is left.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        for dir in self.directories() {
            result = result.and(file::remove_tree(dir));
            if let Some(service) = dir.parent() {
                // Refused as long as another worker is in it, which is right.
                let _ = fs::remove_dir(service);
            }
        }
        result
    }

    /// A group below it, in v2's hierarchy alone, which bounds nothing by itself and tells some of the processes of this one from the
    /// others. It is not made by this. `None` without v2.
    pub fn part(&self, name: &str) -> Option<Group> {
        let path = self.unified.as_ref()?.join(format!("{PART}{name}"));
        Some(Group { unified: Some(path), legacy: BTreeMap::new() })
    }

    /// Makes a [part](Group::part). Each is used once: Linux 6.18 kills as well what is cloned into a group that was killed before
    /// (`kill_seq` in kernel/cgroup/cgroup.c).
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn make_part(&self) -> io::Result<()> {
        self.unified.iter().try_for_each(fs::create_dir)
    }

    /// Removes a [part](Group::part). One that has gone already is a success.
    ///
    /// # Errors
    /// EBUSY while a process is left.
    pub fn remove_part(&self) -> io::Result<()> {
        self.unified.iter().try_for_each(|dir| file::remove_tree(dir))
    }

    /// Removes all [parts](Group::part) of it in which nothing is.
    pub fn remove_empty_parts(&self) {
        let Some(dir) = &self.unified else { return };
        for name in file::subdirectories(dir).iter().filter(|name| name.starts_with(PART)) {
            // Refused where there is something, which is right.
            let _ = file::remove_tree(&dir.join(name));
        }
    }

    /// Every directory with its v1 controller, v2's first. Controllers that are mounted together share one.
    pub(super) fn hierarchies(&self) -> impl Iterator<Item = (Option<Controller>, &PathBuf)> {
        let legacy = self.legacy.iter().map(|(controller, dir)| (Some(*controller), dir));
        self.unified.iter().map(|dir| (None, dir)).chain(legacy)
    }

    /// Every directory, each once.
    pub fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        let legacy: BTreeSet<&PathBuf> = self.legacy.values().collect();
        self.unified.iter().chain(legacy)
    }
}

/// The processes of a cgroup and of all below it.
fn members_below(dir: &Path) -> Vec<u32> {
    let mut members = file::processes(dir);
    for child in file::subdirectories(dir) {
        members.extend(members_below(&dir.join(child)));
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hierarchies_with_a_use_are_joined() {
        use Controller::{Cpu, Cpuacct, Cpuset, Freezer, Io, Memory, Pids};
        let legacy = [Cpu, Cpuacct, Freezer, Memory, Pids, Cpuset, Io];
        let legacy = legacy.map(|name| (name, PathBuf::from(name.name())));
        let check = |unified: Option<&str>, needed: &[Controller], expected: &[Controller]| {
            let group = Group { unified: unified.map(PathBuf::from), legacy: legacy.clone().into() };
            let needed = needed.iter().copied().collect();
            let kept: Vec<Controller> = group.only_for(&needed).legacy.into_keys().collect();
            assert_eq!(kept, expected);
        };
        check(Some("v2"), &[], &[Memory]);
        check(Some("v2"), &[Cpu, Pids], &[Memory, Cpu, Pids]);
        check(Some("v2"), &[Cpuset], &[Memory, Cpuset]);
        check(None, &[], &[Memory, Cpu, Cpuacct, Pids, Freezer]);
        check(None, &[Io], &[Memory, Cpu, Cpuacct, Pids, Freezer, Io]);
    }
}

//! What kind of cgroups this host has, and where this process is in them.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

use super::Group;

/// The kind of cgroups a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// cgroup v2 alone.
    Unified,
    /// v1 hierarchies with the controllers, and a v2 one without.
    Hybrid,
    /// v1 alone.
    Legacy,
    /// None that this process can see.
    None,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Unified => "v2",
            Mode::Hybrid => "hybrid (v1 limits, v2 membership)",
            Mode::Legacy => "v1",
            Mode::None => "none",
        })
    }
}

/// A controller that is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the kernel's names")]
pub enum Controller {
    Memory,
    Cpu,
    Cpuacct,
    Pids,
    Freezer,
    Cpuset,
    Io,
    Hugetlb,
}

impl Controller {
    const ALL: [Controller; 8] = [
        Controller::Memory,
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Pids,
        Controller::Freezer,
        Controller::Cpuset,
        Controller::Io,
        Controller::Hugetlb,
    ];

    /// The kernel's name in v2. The two that are no controllers there have their name of v1.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Pids => "pids",
            Controller::Freezer => "freezer",
            Controller::Cpuset => "cpuset",
            Controller::Io => "io",
            Controller::Hugetlb => "hugetlb",
        }
    }

    /// The kernel's name in v1.
    pub fn legacy_name(self) -> &'static str {
        match self {
            Controller::Io => "blkio",
            other => other.name(),
        }
    }

    /// Whether only some limits need it. Nobody else joins its v1 hierarchy or has it turned on in v2.
    pub(super) fn is_for_limits_alone(self) -> bool {
        match self {
            Controller::Cpuset | Controller::Io | Controller::Hugetlb => true,
            Controller::Memory
            | Controller::Cpu
            | Controller::Cpuacct
            | Controller::Pids
            | Controller::Freezer => false,
        }
    }
}

/// A mounted hierarchy, and this process's place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The directory of the cgroup this process is in.
    pub(super) own: PathBuf,
}

/// The cgroups of this host as this process sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub(super) unified: Option<Hierarchy>,
    pub(super) legacy: BTreeMap<Controller, Hierarchy>,
}

impl Host {
    /// Looks at mounts and at the own cgroups. `root` is `/`; a test gives a directory that stands for it.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn detect(root: &Path) -> io::Result<Host> {
        let mounts = fs::read(root.join("proc/self/mountinfo"))?;
        let own = fs::read(root.join("proc/self/cgroup"))?;
        let mounts: Vec<Mount> = mounts.split(|b| *b == b'\n').filter_map(Mount::parse).collect();
        let places: Vec<Place> = own.split(|b| *b == b'\n').filter_map(Place::parse).collect();

        let legacy = Controller::ALL.iter().filter_map(|controller| {
            let place = places.iter().find(|place| place.has(controller.legacy_name()))?;
            let found = mounts.iter().filter(|mount| mount.is_legacy_of(controller.legacy_name()));
            Some((*controller, hierarchy(root, found, &place.path)?))
        });
        let unified = places.iter().find(|place| place.is_unified()).and_then(|place| {
            hierarchy(root, mounts.iter().filter(|mount| mount.file_system == b"cgroup2"), &place.path)
        });
        Ok(Host { unified, legacy: legacy.collect() })
    }

    /// Where the kernel says that a group's memory is counted: from the root of its hierarchy, for who sees all of that.
    pub fn memory_path(&self, group: &Group) -> Option<String> {
        let legacy = self.legacy.get(&Controller::Memory).zip(group.legacy.get(&Controller::Memory));
        let (hierarchy, dir) = legacy.or_else(|| self.unified.as_ref().zip(group.unified.as_ref()))?;
        Some(format!("/{}", dir.strip_prefix(&hierarchy.mount).ok()?.to_str()?))
    }

    /// Which kind it is.
    pub fn mode(&self) -> Mode {
        // A host that moved nothing but, say, the freezer to v1 still enforces limits by v2.
        let limits_by_v1 = [Controller::Memory, Controller::Cpu, Controller::Pids];
        let limits_by_v1 = limits_by_v1.iter().any(|controller| self.legacy.contains_key(controller));
        match (&self.unified, limits_by_v1) {
            (Some(_), false) => Mode::Unified,
            (Some(_), true) => Mode::Hybrid,
            (None, true) => Mode::Legacy,
            (None, false) => Mode::None,
        }
    }
}

/// The first of these mounts that shows the cgroup at `path`.
fn hierarchy<'a>(root: &Path, mounts: impl Iterator<Item = &'a Mount>, path: &Path) -> Option<Hierarchy> {
    let mut mounts = mounts;
    mounts.find_map(|mount| {
        // A path with `..` is outside of the own cgroup namespace, and not below any mount.
        if path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let below = path.strip_prefix(&mount.root).ok()?;
        let mount = root.join(mount.target.strip_prefix("/").ok()?);
        let own = if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) };
        Some(Hierarchy { mount, own })
    })
}

/// A line of /proc/self/mountinfo (proc_pid_mountinfo(5)), as far as it matters here.
struct Mount {
    root: PathBuf,
    target: PathBuf,
    file_system: Vec<u8>,
    options: Vec<u8>,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|b| *b == b' ').skip(3);
        let (root, target) = (fields.next()?, fields.next()?);
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        let (file_system, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Mount {
            root: unescape(root),
            target: unescape(target),
            file_system: file_system.to_vec(),
            options: options.to_vec(),
        })
    }

    fn is_legacy_of(&self, controller: &str) -> bool {
        self.file_system == b"cgroup"
            && self.options.split(|b| *b == b',').any(|o| o == controller.as_bytes())
    }
}

/// A line of /proc/self/cgroup (cgroups(7)): `4:memory:/a`, or `0::/a` for v2.
struct Place {
    controllers: Vec<u8>,
    path: PathBuf,
}

impl Place {
    fn parse(line: &[u8]) -> Option<Place> {
        let mut fields = line.splitn(3, |b| *b == b':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
        Some(Place { controllers: controllers.to_vec(), path })
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.split(|b| *b == b',').any(|name| name == controller.as_bytes())
    }

    fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// Undoes the octal escapes (`\040`) of a mountinfo path.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits =
            tail.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits {
            Some(digits) => {
                let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                path.push(value.to_le_bytes()[0]);
                rest = &tail[3..];
            }
            None => {
                path.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Expected {
        mode: Mode,
        unified: Option<&'static str>,
        memory: Option<&'static str>,
    }

    fn check(mounts: &str, own: &str, expected: Expected) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/mountinfo"), mounts).unwrap();
        fs::write(root.path().join("proc/self/cgroup"), own).unwrap();
        let host = Host::detect(root.path()).unwrap();
        let below_root =
            |h: &Hierarchy| h.own.strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned();
        assert_eq!(host.mode(), expected.mode, "{mounts}");
        assert_eq!(host.unified.as_ref().map(below_root).as_deref(), expected.unified, "{mounts}");
        let memory = host.legacy.get(&Controller::Memory);
        assert_eq!(memory.map(below_root).as_deref(), expected.memory, "{mounts}");
    }

    const TMPFS: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n";

    #[test]
    fn pure_v2() {
        check(
            "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/system.slice/shop.service\n",
            Expected {
                mode: Mode::Unified,
                unified: Some("sys/fs/cgroup/system.slice/shop.service"),
                memory: None,
            },
        );
    }

    #[test]
    fn hybrid_with_a_different_place_in_each_hierarchy() {
        let mounts = format!(
            "{TMPFS}35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        );
        check(
            &mounts,
            "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n",
            Expected {
                mode: Mode::Hybrid,
                unified: Some("sys/fs/cgroup/unified"),
                memory: Some("sys/fs/cgroup/memory/a/b"),
            },
        );
    }

    #[test]
    fn v1_in_a_container_where_the_mount_shows_a_part() {
        let mounts =
            format!("{TMPFS}35 31 0:32 /docker/77 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
        check(
            &mounts,
            "4:memory:/docker/77/inner\n",
            Expected { mode: Mode::Legacy, unified: None, memory: Some("sys/fs/cgroup/memory/inner") },
        );
    }

    #[test]
    fn a_place_outside_of_the_namespace_is_unusable() {
        check(
            "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "0::/../other\n",
            Expected { mode: Mode::None, unified: None, memory: None },
        );
    }

    #[test]
    fn a_host_without_cgroups_and_lines_of_nonsense() {
        let expected = Expected { mode: Mode::None, unified: None, memory: None };
        check("", "", expected);
        let expected = Expected { mode: Mode::None, unified: None, memory: None };
        check("1 2 3\n- - - -\n\\\n", ":\n::::\nx\n", expected);
    }

    #[test]
    fn escaped_paths() {
        let of = |field: &str| unescape(field.as_bytes()).to_str().unwrap().to_owned();
        assert_eq!(of("/a\\040b"), "/a b");
        assert_eq!(of("/a\\04"), "/a\\04");
        assert_eq!(of("/a\\"), "/a\\");
    }

    #[test]
    fn this_host_can_be_read() {
        let host = Host::detect(Path::new("/")).unwrap();
        for hierarchy in host.legacy.values().chain(&host.unified) {
            assert!(hierarchy.own.join("cgroup.procs").exists(), "{hierarchy:?}");
        }
    }
}

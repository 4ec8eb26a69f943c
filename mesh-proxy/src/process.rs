//! Where a process belongs: its cgroup, its parents, and its session.
//!
//! Nothing is remembered between two questions: a pid that was looked up before may be another process by now.

use std::{
    fs,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    path::{Component, Path, PathBuf},
    sync::LazyLock,
};

use nix::{
    errno::Errno,
    sys::socket::{getsockopt, sockopt::PeerPidfd},
    unistd::{Pid, getsid},
};
use tokio::net::UnixStream;

/// How many cgroups or parents are looked at.
const DEPTH_MAX: usize = 64;

/// Answers `question` about the process at the other end of a Unix socket; `None` when it is gone. The process is
/// held by a pidfd meanwhile (unix(7), SO_PEERPIDFD, since Linux 6.5), so that the answer cannot be about a later
/// one with the same pid. Older kernels leave that gap.
pub(crate) fn ask_about_peer<T>(stream: &UnixStream, question: impl FnOnce(u32) -> Option<T>) -> Option<T> {
    match getsockopt(stream, PeerPidfd) {
        Ok(pidfd) => {
            let pid = pid_of(&pidfd)?;
            let answer = question(pid);
            // A process that is not reaped keeps its pid. If it was reaped, the answer may be another one's.
            answer.filter(|_| pid_of(&pidfd) == Some(pid))
        }
        Err(Errno::ENOPROTOOPT) => question(u32::try_from(stream.peer_cred().ok()?.pid()?).ok()?),
        // The process was reaped before we asked.
        Err(_) => None,
    }
}

/// The pid of a pidfd, `None` when the process was reaped (proc_pid_fdinfo(5)).
fn pid_of(pidfd: &impl AsFd) -> Option<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd())).ok()?;
    // -1 does not parse.
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// The ids of the process's cgroup and of those above it, innermost first: a service may make cgroups below its
/// own. Empty when there is no cgroup v2 or the process is gone.
pub(crate) fn cgroup_ids(pid: u32) -> Vec<u64> {
    let Some(root) = CGROUP_ROOT.as_deref() else { return Vec::new() };
    let Ok(cgroups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return Vec::new() };
    let Some(path) = cgroups.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    // A cgroup outside of our cgroup namespace is shown as /../x (cgroup_namespaces(7)) and is nobody's we know.
    let path = Path::new(path);
    if path.components().any(|component| component == Component::ParentDir) {
        return Vec::new();
    }
    path.ancestors()
        .take(DEPTH_MAX)
        .filter_map(|path| Some(fs::metadata(root.join(path)).ok()?.ino()))
        .collect()
}

/// The spawner, which is above all processes of the application, for it adopts what has lost its parent
/// (PR_SET_CHILD_SUBREAPER). `None` once it has died: from then on nothing tells a worker from an operator, and our
/// own end is on its way (PR_SET_PDEATHSIG).
fn spawner() -> Option<u32> {
    let parent = std::os::unix::process::parent_id();
    (parent == *FIRST_PARENT).then_some(parent)
}

/// Notes who the spawner is. The sooner after the start the better.
pub(crate) fn remember_spawner() {
    LazyLock::force(&FIRST_PARENT);
}

static FIRST_PARENT: LazyLock<u32> = LazyLock::new(std::os::unix::process::parent_id);

/// Whether a worker started this process, perhaps long ago. Each worker begins with a session of its own, and no
/// process can enter an existing one; so what is in the spawner's session is the daemon, or an operator's who started
/// the spawner in his. In doubt it is a worker's.
pub(crate) fn is_of_worker(pid: u32) -> bool {
    let Some(spawner) = spawner() else { return true };
    // What is outside of our PID namespace has number 0, and descends from nobody in here.
    pid != 0 && !is_in_spawners_session(pid) && is_below(pid, spawner)
}

/// Whether the process is in the session of the spawner, as of all processes that it starts the daemon alone is.
pub(crate) fn is_in_spawners_session(pid: u32) -> bool {
    // A session that began outside of our PID namespace, as `docker exec` begins one, is number 0 here. A worker's
    // session began inside and is never 0.
    let session = |pid: u32| getsid(Some(Pid::from_raw(pid.cast_signed()))).ok();
    // getsid(2) of 0 is the own session.
    let of_process = if pid == 0 { None } else { session(pid) };
    of_process.is_some() && of_process == spawner().and_then(session)
}

/// How often the way up is begun anew because a process on it ended.
const ATTEMPTS_MAX: usize = 8;

fn is_below(pid: u32, ancestor: u32) -> bool {
    (0..ATTEMPTS_MAX).find_map(|_| descends(pid, ancestor, parent, is_foreign)).unwrap_or(true)
}

/// Whether `ancestor` is above `pid`, or the way up is longer than any that nobody made on purpose. `None` when that
/// cannot be said: a process on the way ended meanwhile, or hides.
fn descends(
    pid: u32,
    ancestor: u32,
    parent: impl Fn(u32) -> Option<u32>,
    is_foreign: impl Fn(u32) -> bool,
) -> Option<bool> {
    let (mut child, mut above) = (pid, parent(pid)?);
    for _ in 0..DEPTH_MAX {
        if above == ancestor || above == 0 {
            return Some(above == ancestor);
        }
        let next = parent(above);
        // A parent that ends leaves its children to another one, and its number may be anybody's by now.
        if parent(child)? != above {
            return None;
        }
        // One that is there and not shown (hidepid of proc(5)) is another user's, or one of ours that hides
        // (PR_SET_DUMPABLE).
        let Some(next) = next else { return is_foreign(above).then_some(false) };
        (child, above) = (above, next);
    }
    Some(true)
}

/// Whether the process is another user's, which may not be sent a signal (kill(2)).
fn is_foreign(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::PERM))
}

/// The process and its parents, nearest first.
pub(crate) fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(pid), |pid| parent(*pid).filter(|parent| *parent > 0)).take(DEPTH_MAX)
}

/// A process's parent; 0 for those that have none in our PID namespace.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may itself hold spaces and parentheses (proc_pid_stat(5)).
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Where the whole v2 hierarchy is mounted. Mounts do not change under a proxy.
static CGROUP_ROOT: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| cgroup_root(&fs::read_to_string("/proc/self/mountinfo").ok()?));

/// Finds `ID PARENT DEVICE ROOT MOUNTPOINT OPTIONS … - TYPE …` of cgroup2 (proc_pid_mountinfo(5)).
fn cgroup_root(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (file_system.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_hierarchy_is_found_among_others() {
        let mountinfo = "\
            24 30 0:22 / /proc rw,relatime - proc proc rw\n\
            40 31 0:37 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
            41 31 0:38 /user.slice /mnt/part rw - cgroup2 cgroup2 rw\n\
            42 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup_root(mountinfo), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup_root("nonsense\n\n - \n"), None);
    }

    #[test]
    fn parents_lead_to_the_first_process() {
        let ours: Vec<u32> = ancestors(std::process::id()).collect();
        assert_eq!(ours[..2], [std::process::id(), std::os::unix::process::parent_id()]);
        assert!(ours.len() < DEPTH_MAX);
        assert_eq!(ancestors(u32::MAX).count(), 1);
    }

    #[test]
    fn a_way_up_that_changes_meanwhile_says_nothing() {
        let check = |expected: Option<bool>, parents: &[(u32, &[u32])]| {
            // A process has these parents one after the other, the last one for good; it is not shown when there are
            // none.
            let asked = std::cell::RefCell::new(std::collections::BTreeMap::<u32, usize>::new());
            let parent = |pid: u32| {
                let (_, parents) = parents.iter().find(|(child, _)| *child == pid)?;
                let mut asked = asked.borrow_mut();
                let count = asked.entry(pid).or_default();
                *count += 1;
                parents.get((*count).min(parents.len()).checked_sub(1)?).copied()
            };
            // 7 is another user's.
            assert_eq!(descends(9, 5, parent, |pid| pid == 7), expected, "{parents:?}");
        };
        check(Some(true), &[(9, &[5])]);
        check(Some(true), &[(9, &[8]), (8, &[5])]);
        check(Some(false), &[(9, &[8]), (8, &[1]), (1, &[0])]);
        check(None, &[]);
        // 8 ended before it was asked, or another process has its number by then.
        check(None, &[(9, &[8, 5])]);
        check(None, &[(9, &[8, 5]), (8, &[1]), (1, &[0])]);
        // They are not shown, and live.
        check(Some(false), &[(9, &[7])]);
        check(None, &[(9, &[8])]);
        // A way without an end is not gone twice.
        check(Some(true), &[(9, &[8]), (8, &[9])]);
    }

    #[test]
    fn own_processes_are_not_foreign() {
        assert!(!is_foreign(std::process::id()));
        assert!(!is_foreign(u32::MAX), "there is none");
        assert_eq!(is_foreign(1), !rustix::process::geteuid().is_root());
    }

    #[tokio::test]
    async fn a_peer_is_asked_about_while_it_lives() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(ask_about_peer(&here, Some), Some(std::process::id()));
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        // Python is everywhere the tests run, and exits with its connection in the queue.
        let connect = format!("import socket; socket.socket(socket.AF_UNIX).connect({path:?})");
        let status = std::process::Command::new("python3").args(["-c", &connect]).status().unwrap();
        assert!(status.success());
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(ask_about_peer(&stream, Some), None);
    }
}

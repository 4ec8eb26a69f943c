//! Is the process at the other end one of a service? Services are the same user as the supervisor to the kernel, so that
//! the mode of the control socket does not keep them out.
//!
//! Mostly they cannot even see the socket ([`watt_exec::plan::HiddenFolder`]). This is the second line, for hosts without mount
//! namespaces and for services that are root, who find a way around. It takes two things that no process can change:
//!
//! - Whatever a worker starts descends from the spawner, which adopts what loses its parent (PR_SET_CHILD_SUBREAPER).
//! - A worker begins with a session of its own (setsid(2)), and nobody can enter an existing one. In the spawner's is
//!   the daemon, and a shell that the spawner was started from as the leader of a process group.
//!
//! Who asks another program outside to start something for him (cron, sshd) is not found out.

use std::{fs, io, os::fd::AsRawFd};

use nix::{
    errno::Errno,
    sys::{
        signal::kill,
        socket::{getsockopt, sockopt::PeerPidfd},
    },
    unistd::Pid,
};
use tokio::net::UnixStream;
use watt_os::process_info::Stat;

/// How often the way up is begun anew because a process on it ended.
const ATTEMPTS_MAX: usize = 8;

/// How many parents are looked at. Nobody has more who did not make them on purpose.
const DEPTH_MAX: usize = 64;

/// Where a process comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Not from a service.
    Outside,
    /// From a service: the process and those above it, up to a child of the spawner. Nothing when that cannot be told.
    Service(Vec<u32>),
}

/// Where the process at the other end of this connection comes from. In doubt it is a service's, as when the process has
/// ended: who waits for an answer has not.
pub(super) fn origin(stream: &UnixStream, spawner: u32) -> Origin {
    let pid = stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok());
    let Some(pid) = pid else { return Origin::Service(Vec::new()) };
    // A process of another pid namespace that is not below ours has number 0, and descends from nobody here.
    let origin = if pid == 0 { Origin::Outside } else { of_process(pid, spawner) };
    // The answer was about a later process with the same number.
    if has_gone(stream) { Origin::Service(Vec::new()) } else { origin }
}

/// Whether the process that connected has ended.
pub(super) fn has_gone(stream: &UnixStream) -> bool {
    match getsockopt(stream, PeerPidfd) {
        Ok(pidfd) => has_ended(&pidfd),
        // Before Linux 6.5 that gap is open.
        Err(Errno::ENOPROTOOPT) => false,
        Err(_) => true,
    }
}

fn of_process(pid: u32, spawner: u32) -> Origin {
    let in_session_of_spawner = || Ok::<_, io::Error>(Stat::of(pid)?.session == Stat::of(spawner)?.session);
    let line = || line(pid, spawner, |pid| Ok(Stat::of(pid)?.parent), is_foreign);
    match (0..ATTEMPTS_MAX).find_map(|_| line().ok()) {
        Some(None) => Origin::Outside,
        Some(Some(_)) if in_session_of_spawner().unwrap_or(false) => Origin::Outside,
        Some(Some(line)) => Origin::Service(line),
        None => Origin::Service(Vec::new()),
    }
}

/// A process and those above it, up to a child of `ancestor`; nothing of it when the way up is too long. `None` when that is
/// not above it. An error when a process on the way ended meanwhile, or hides.
fn line(
    pid: u32,
    ancestor: u32,
    parent_of: impl Fn(u32) -> io::Result<u32>,
    is_foreign: impl Fn(u32) -> bool,
) -> io::Result<Option<Vec<u32>>> {
    let (mut child, mut parent) = (pid, parent_of(pid)?);
    let mut line = vec![pid];
    while line.len() <= DEPTH_MAX {
        if parent == ancestor || parent == 0 {
            return Ok((parent == ancestor).then_some(line));
        }
        line.push(parent);
        let grandparent = parent_of(parent);
        // A parent that ends leaves its children to another one, and its number may be anybody's by now.
        if parent_of(child)? != parent {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match grandparent {
            Ok(grandparent) => (child, parent) = (parent, grandparent),
            // A parent that is there and not shown (hidepid of proc(5)) is another user's, or one of ours that hides
            // (PR_SET_DUMPABLE).
            Err(_) if is_foreign(parent) => return Ok(None),
            Err(hidden) => return Err(hidden),
        }
    }
    Ok(Some(Vec::new()))
}

/// Whether the process is another user's, which may not be sent a signal (kill(2)).
fn is_foreign(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::EPERM))
}

/// Whether the process was reaped (proc_pid_fdinfo(5)).
fn has_ended(pidfd: &impl AsRawFd) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
    info.is_ok_and(|info| info.lines().any(|line| line == "Pid:\t-1"))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    use super::*;

    /// Starts a shell that starts `sleep` in its way, says whether that counts as a service's when this process is the spawner.
    #[track_caller]
    fn check(script: &str, expected: bool) {
        let mut shell =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("a pipe")).read_line(&mut line).expect("a pid");
        let pid: u32 = line.trim().parse().expect("a pid");
        let found = of_process(pid, std::process::id()) != Origin::Outside;
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        shell.wait().expect("the shell ends");
        assert_eq!(found, expected, "{script}");
    }

    #[test]
    fn who_descends_from_the_spawner_in_another_session_is_a_services() {
        check("exec setsid sh -c 'echo $$; exec sleep 60'", true);
        check("setsid sh -c 'sh -c \"echo \\$\\$; exec sleep 60\"; :'; :", true);
        check("echo $$; exec sleep 60", false);
    }

    #[test]
    fn others_are_not() {
        let own = std::process::id();
        assert_eq!(of_process(own, own), Origin::Outside, "the daemon's own parent is above it, not below");
        assert_eq!(of_process(1, own), Origin::Outside);
        let nobody = Origin::Service(Vec::new());
        assert_eq!(of_process(u32::MAX, own), nobody, "who has ended may have been anybody");
    }

    #[test]
    fn who_hides_is_a_services_and_another_user_is_not() {
        let check = |expected: Option<Option<&[u32]>>, parents: &[(u32, u32)]| {
            let parent_of = |pid: u32| {
                let found = parents.iter().find(|(child, _)| *child == pid);
                found.map(|(_, parent)| *parent).ok_or_else(|| io::ErrorKind::NotFound.into())
            };
            // 7 is another user's.
            let found = line(9, 5, parent_of, |pid| pid == 7).ok();
            assert_eq!(found.as_ref().map(Option::as_deref), expected, "{parents:?}");
        };
        check(Some(Some(&[9, 8])), &[(9, 8), (8, 5)]);
        check(Some(None), &[(9, 8), (8, 1), (1, 0)]);
        check(Some(None), &[(9, 7)]);
        check(None, &[(9, 8)]);
        check(Some(Some(&[])), &[(9, 8), (8, 9)]);
    }

    #[tokio::test]
    async fn a_connection_of_the_daemon_itself_is_not_a_services() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(origin(&here, std::os::unix::process::parent_id()), Origin::Outside);
    }
}

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

/// Whether a process of a service is at the other end of this connection. In doubt it is, as when the process has ended: who
/// waits for an answer has not.
pub(super) fn is_service(stream: &UnixStream, spawner: u32) -> bool {
    let pid = stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok());
    let Some(pid) = pid else { return true };
    let pidfd = getsockopt(stream, PeerPidfd);
    // A process of another pid namespace that is not below ours has number 0, and descends from nobody here.
    let verdict = pid != 0 && of_service(pid, spawner);
    verdict
        || match pidfd {
            // The answer was not about a later process with the same number.
            Ok(pidfd) => has_ended(&pidfd),
            // Before Linux 6.5 that gap is open.
            Err(Errno::ENOPROTOOPT) => false,
            Err(_) => true,
        }
}

fn of_service(pid: u32, spawner: u32) -> bool {
    let in_session_of_spawner = || Ok::<_, io::Error>(Stat::of(pid)?.session == Stat::of(spawner)?.session);
    (0..ATTEMPTS_MAX)
        .find_map(|_| descends(pid, spawner, |pid| Ok(Stat::of(pid)?.parent), is_foreign).ok())
        .is_none_or(|descends| descends && !in_session_of_spawner().unwrap_or(false))
}

/// Whether `ancestor` is above `pid`, or the way up is too long. An error when a process on it ended meanwhile, or hides.
fn descends(
    pid: u32,
    ancestor: u32,
    parent_of: impl Fn(u32) -> io::Result<u32>,
    is_foreign: impl Fn(u32) -> bool,
) -> io::Result<bool> {
    let (mut child, mut parent) = (pid, parent_of(pid)?);
    for _ in 0..DEPTH_MAX {
        if parent == ancestor || parent == 0 {
            return Ok(parent == ancestor);
        }
        let grandparent = parent_of(parent);
        // A parent that ends leaves its children to another one, and its number may be anybody's by now.
        if parent_of(child)? != parent {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match grandparent {
            Ok(grandparent) => (child, parent) = (parent, grandparent),
            // A parent that is there and not shown (hidepid of proc(5)) is another user's, or one of ours that hides
            // (PR_SET_DUMPABLE).
            Err(_) if is_foreign(parent) => return Ok(false),
            Err(hidden) => return Err(hidden),
        }
    }
    Ok(true)
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
        let found = of_service(pid, std::process::id());
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
        assert!(!of_service(own, own), "the daemon's own parent is above it, not below");
        assert!(!of_service(1, own));
        assert!(of_service(u32::MAX, own), "who has ended may have been anybody");
    }

    #[test]
    fn who_hides_is_a_services_and_another_user_is_not() {
        let check = |expected: Option<bool>, parents: &[(u32, u32)]| {
            let parent_of = |pid: u32| {
                let found = parents.iter().find(|(child, _)| *child == pid);
                found.map(|(_, parent)| *parent).ok_or_else(|| io::ErrorKind::NotFound.into())
            };
            // 7 is another user's.
            assert_eq!(descends(9, 5, parent_of, |pid| pid == 7).ok(), expected, "{parents:?}");
        };
        check(Some(true), &[(9, 8), (8, 5)]);
        check(Some(false), &[(9, 8), (8, 1), (1, 0)]);
        check(Some(false), &[(9, 7)]);
        check(None, &[(9, 8)]);
        check(Some(true), &[(9, 8), (8, 9)]);
    }

    #[tokio::test]
    async fn a_connection_of_the_daemon_itself_is_not_a_services() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert!(!is_service(&here, std::os::unix::process::parent_id()));
    }
}

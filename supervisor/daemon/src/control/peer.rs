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
    sys::socket::{getsockopt, sockopt::PeerPidfd},
};
use tokio::net::UnixStream;
use watt_os::process_info::Stat;

/// How often the way up is begun anew because a process on it ended.
const ATTEMPTS_MAX: usize = 8;

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
    match (0..ATTEMPTS_MAX).find_map(|_| line(pid, spawner).ok()) {
        Some(None) => Origin::Outside,
        Some(Some(_)) if in_session_of_spawner().unwrap_or(false) => Origin::Outside,
        Some(Some(line)) => Origin::Service(line),
        None => Origin::Service(Vec::new()),
    }
}

/// A process and those above it, up to a child of `ancestor`; `None` when that is not above it. An error when a process on the
/// way ended meanwhile.
fn line(pid: u32, ancestor: u32) -> io::Result<Option<Vec<u32>>> {
    let (mut child, mut parent) = (pid, Stat::of(pid)?.parent);
    let mut line = vec![pid];
    while parent != ancestor {
        if parent == 0 {
            return Ok(None);
        }
        line.push(parent);
        let grandparent = Stat::of(parent).map(|stat| stat.parent);
        // A parent that ends leaves its children to another one, and its number may be anybody's by now.
        if Stat::of(child)?.parent != parent {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // A parent that is there and not shown (hidepid of proc(5)) is another user's.
        let Ok(grandparent) = grandparent else { return Ok(None) };
        (child, parent) = (parent, grandparent);
    }
    Ok(Some(line))
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

    #[tokio::test]
    async fn a_connection_of_the_daemon_itself_is_not_a_services() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(origin(&here, std::os::unix::process::parent_id()), Origin::Outside);
    }
}

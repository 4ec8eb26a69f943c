//! The processes of a run, as far as one of them says something of another: `MAINPID=` of sd_notify(3).

use std::os::fd::{AsRawFd, OwnedFd};

use watt_os::{
    cgroup::Group,
    descendants::{self, Marks},
    pidfd,
    process_info::{self, Stat},
};

/// Of errno(3): there is no such process. Somebody else's may not be signalled, and is there.
const ESRCH: i32 = 3;

/// What the processes of a run are told by.
#[derive(Debug, Default)]
pub struct Kin {
    /// Its main process, and those that were it before.
    mains: Vec<u32>,
    /// Its cgroup; unusable where there is none.
    group: Group,
    marks: Marks,
    /// The number of its main process in a PID namespace of the run's own, if it has one: the main process here is the init of that.
    inside: Option<u32>,
}

/// Which process was named as the main one.
#[derive(Debug)]
pub enum Named {
    /// One of the run's, with a pidfd.
    Process {
        /// Its number.
        pid: u32,
        /// What tells it from a later one of that number.
        pidfd: OwnedFd,
    },
    /// One of the run's own PID namespace, by its number there. The init knows whether it is there.
    Inside {
        /// Its number.
        pid: u32,
    },
    /// None that is there any more.
    Gone {
        /// The number.
        pid: u32,
    },
}

/// For tests: two are the same that name the same by the same number.
impl PartialEq for Named {
    fn eq(&self, other: &Named) -> bool {
        let parts = |named: &Named| match named {
            Named::Process { pid, pidfd } => (0, *pid, pidfd.as_raw_fd()),
            Named::Inside { pid } => (1, *pid, 0),
            Named::Gone { pid } => (2, *pid, 0),
        };
        parts(self) == parts(other)
    }
}

impl Eq for Named {}

impl Kin {
    /// Those of the run with this main process, which in a PID namespace of the run's own is the init, with the main one `inside`.
    pub fn new(main: u32, inside: Option<u32>, group: Group, marks: Marks) -> Kin {
        // One that has named another may be there for long, and what it said may have been left by a predecessor.
        let started = |pid| process_info::start_time(pid).ok();
        let first =
            (marks.main != main && started(marks.main) == Some(marks.main_started)).then_some(marks.main);
        Kin { mains: first.into_iter().chain([main]).collect(), group, marks, inside }
    }

    /// Those that are or were the main process.
    pub(super) fn mains(&self) -> &[u32] {
        &self.mains
    }

    /// The process that one of them has named by this number, if it is another than the main one and may be that.
    pub(super) fn name_main(&mut self, sender: Option<u32>, number: u32) -> Option<Named> {
        let pid = self.as_known_here(sender, number)?;
        // It is that already, and may have ended since: its end is its own.
        if self.inside.as_ref().or(self.mains.last()) == Some(&pid) {
            return None;
        }
        if let Some(inside) = &mut self.inside {
            *inside = pid;
            return Some(Named::Inside { pid });
        }
        let Ok(pidfd) = pidfd::open(pid) else { return Some(Named::Gone { pid }) };
        let is_own = self.group.members().contains(&pid) || descendants::is_one(pid, &self.marks);
        let has_ended = Stat::of(pid).map_or(true, |stat| stat.has_ended());
        // If it is still there, the number was its own when it was looked at.
        let is_reaped = pidfd::send_signal(&pidfd, 0).is_err_and(|error| error.raw_os_error() == Some(ESRCH));
        if has_ended || is_reaped {
            return Some(Named::Gone { pid });
        }
        if !is_own {
            return None;
        }
        self.mains.retain(|main| *main != pid);
        self.mains.push(pid);
        Some(Named::Process { pid, pidfd })
    }

    /// A number as the run's own PID namespace has it, or the host where there is none. Who is in a namespace below that can name
    /// itself alone: the kernel translates only whom a message comes from.
    fn as_known_here(&self, sender: Option<u32>, number: u32) -> Option<u32> {
        let depth = if self.inside.is_some() { 2 } else { 1 };
        let numbers = sender.and_then(|sender| process_info::numbers(sender).ok()).unwrap_or_default();
        match numbers.len() {
            // It has gone.
            0 => Some(number),
            length if length == depth => Some(number),
            _ if numbers.last() == Some(&number) => numbers.get(depth - 1).copied(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Child, Command, Stdio, id},
    };

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn kin(main: u32) -> Kin {
        let main_started = process_info::start_time(main).unwrap();
        Kin::new(main, None, Group::default(), Marks { main, main_started, ..Marks::default() })
    }

    fn pid_of(named: Option<Named>) -> Option<u32> {
        match named {
            Some(Named::Process { pid, .. }) => Some(pid),
            Some(Named::Inside { .. } | Named::Gone { .. }) | None => None,
        }
    }

    #[test]
    fn only_a_process_of_the_run_becomes_its_main_one() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 1000 & echo $!; wait"]).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        let held = pidfd::open(child).unwrap();
        let stranger = sleeper();
        let mut kin = kin(shell.id());
        assert_eq!(kin.name_main(None, stranger.id()), None);
        assert_eq!(kin.name_main(None, id()), None);
        assert_eq!(kin.name_main(None, 1), None);
        assert_eq!(kin.name_main(None, shell.id()), None, "it is that already");
        assert_eq!(pid_of(kin.name_main(Some(shell.id()), child)), Some(child));
        assert_eq!(kin.name_main(Some(shell.id()), child), None, "it is that already");
        assert_eq!(pid_of(kin.name_main(None, shell.id())), Some(shell.id()), "and back");
        let gone = stranger.id();
        end(stranger);
        assert_eq!(kin.name_main(None, gone), Some(Named::Gone { pid: gone }));
        pidfd::send_signal(&held, 9).unwrap();
        end(shell);
    }

    #[test]
    fn a_number_in_another_namespace_is_not_taken_for_one_of_here() {
        let kin = |inside| Kin { inside, ..Kin::default() };
        // This process is in no namespace below the host's.
        assert_eq!(kin(None).as_known_here(Some(id()), 77), Some(77));
        assert_eq!(kin(Some(2)).as_known_here(Some(id()), 77), None);
        assert_eq!(kin(Some(2)).as_known_here(None, 77), Some(77));
    }

    /// An init that is asked to follow one that it follows already would have nothing to say, and the signal to stop would come twice.
    #[test]
    fn in_a_namespace_of_its_own_the_main_process_that_names_itself_is_no_news() {
        let mut kin = Kin { mains: vec![id()], inside: Some(2), ..Kin::default() };
        assert_eq!(kin.name_main(None, 2), None);
        assert_eq!(kin.name_main(None, 7), Some(Named::Inside { pid: 7 }));
        assert_eq!(kin.name_main(None, 7), None, "it is that by now");
        assert_eq!(kin.name_main(None, 2), Some(Named::Inside { pid: 2 }), "and back");
    }

    #[test]
    fn the_main_process_that_has_named_itself_and_ended_is_not_lost() {
        let main = sleeper();
        let pid = main.id();
        let mut kin = kin(pid);
        end(main);
        assert_eq!(kin.name_main(None, pid), None);
    }
}

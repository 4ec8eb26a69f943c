//! Another program takes this one's place, by execve(2) in the same process: the same number, the same children, the same descriptors,
//! and for a service manager nothing happens.
//!
//! ```text
//! None  ─ a daemon asks for it ─▶ Next  ─ that daemon has ended ─▶ the next program, in Trial
//! Trial ─ its daemon says that all is well ─▶ None
//! Trial ─ it says that it is not, it dies three times, or the time is over ─▶ Back ─ it has ended ─▶ the program before, in None
//! ```
//!
//! Whatever cannot be executed, or cannot use the table, leaves the program before where it was. What this cannot help is a program that
//! dies between execve(2) and its first look at the table: that is what the daemon's rehearsal is for, which starts the same role of
//! the same file with a copy of the table before.
//!
//! What the next program begins with is this process as it is, and so nothing of whoever asked: its environment, limits, mask,
//! session, cgroup and capabilities are those that were there at the start. Descriptors are the ones in the table.

use std::{
    ffi::{CString, OsString},
    fmt::Display,
    io,
    os::{
        fd::{OwnedFd, RawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    rc::Rc,
    time::{Duration, Instant},
};

use watt_os::{inherited, process};

use crate::{
    daemon::State,
    notes::note,
    protocol::{Message, PROGRAM},
    spawner::Spawner,
    table,
};

/// How long a daemon that asked for an upgrade may take to end by itself: as long as answers may take to leave.
const DAEMON_PATIENCE: Duration = Duration::from_secs(5);

/// A trial's daemon that dies so often will not get well.
const DEATHS_MAX: u32 = 3;

/// How long a trial may take.
const TRIAL_MAX: Duration = Duration::from_secs(3600);

/// A deadline that is noticed so late was slept through by ourselves: the trial gets its time once more.
const OVERSLEPT: Duration = Duration::from_secs(2);

/// The longest path and reason, in bytes.
const TEXT_SIZE_MAX: usize = 4 << 10;

/// Words of the command line that are the handover's.
const RESUME: &str = "--resume";
const OR_ELSE: &str = "--or-else";
const BECAUSE: &str = "--because";

/// A program that this process may become.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Each has its own: 0 at the start, and larger ones later.
    pub(crate) number: u64,
    /// Where it was found. By now another one may be there.
    pub(crate) path: String,
    pub(crate) file: Rc<OwnedFd>,
}

/// Whether another program is to take over.
#[derive(Debug)]
pub(crate) enum Upgrade {
    /// No.
    None,
    /// As soon as the daemon has ended.
    Next { program: Program, within: Duration, kill_at: Instant },
    /// One has, and has to show that all is well.
    Trial { before: Program, within: Duration, until: Instant, deaths: u32 },
    /// The one before, as soon as the daemon has ended.
    Back { before: Program, why: String },
}

/// How a program is told that it takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The table's descriptor.
    pub table: RawFd,
    /// The program that goes on when this one cannot, open for execution.
    pub or_else: Option<RawFd>,
    /// Why the program that was to take over did not. This one was there before it.
    pub because: Option<String>,
}

impl Resume {
    /// A command line without what an earlier handover put there.
    pub fn strip(command: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        let mut command: Vec<OsString> = command.into_iter().collect();
        let is_word = |word: &OsString| [RESUME, OR_ELSE, BECAUSE].iter().any(|own| word == own);
        while command.get(2).is_some_and(is_word) {
            command.drain(2..command.len().min(4));
        }
        command
    }

    /// The command line of the program that takes over. The words come after the role.
    pub(crate) fn command(&self, command: &[OsString]) -> io::Result<Vec<CString>> {
        let mut words: Vec<OsString> = command.iter().take(2).cloned().collect();
        words.extend([RESUME.into(), self.table.to_string().into()]);
        if let Some(number) = self.or_else {
            words.extend([OR_ELSE.into(), number.to_string().into()]);
        }
        if let Some(why) = &self.because {
            words.extend([BECAUSE.into(), why.replace('\0', " ").into()]);
        }
        words.extend(command.iter().skip(2).cloned());
        words.into_iter().map(|word| Ok(CString::new(word.into_vec())?)).collect()
    }
}

/// Executes a program with the environment that we were started with. Returns only when that fails.
pub(crate) fn become_program(program: RawFd, command: &[CString]) -> io::Error {
    let environment = std::env::vars_os().map(|(name, value)| {
        let mut variable = name.into_vec();
        variable.push(b'=');
        variable.extend(value.as_bytes());
        // None has a null byte: they come from the kernel's.
        CString::new(variable).unwrap_or_default()
    });
    let environment: Vec<CString> = environment.filter(|variable| !variable.is_empty()).collect();
    process::become_program(program, command, &environment)
}

impl Spawner {
    /// The daemon asks for another program. It ends when that is granted.
    pub(crate) fn ask_upgrade(
        &mut self,
        number: u64,
        path: String,
        within: Duration,
        descriptors: Vec<OwnedFd>,
    ) {
        let refusal = match (&self.upgrade, &self.program) {
            (_, None) => Some("this spawner's program is not its own"),
            (Upgrade::Next { .. } | Upgrade::Trial { .. } | Upgrade::Back { .. }, _) => {
                Some("another upgrade is under way")
            }
            (Upgrade::None, Some(own)) if number <= own.number => Some("its number is an earlier program's"),
            (Upgrade::None, Some(_)) => None,
        };
        let descriptor = <[OwnedFd; 1]>::try_from(descriptors);
        let (None, Ok([file])) = (refusal, descriptor) else {
            let why = refusal.unwrap_or("the program did not come with it").to_owned();
            return self.outbox.push((Message::UpgradeRefused { why }, Vec::new()));
        };
        self.went_back = None;
        self.upgrade = Upgrade::Next {
            program: Program { number, path: cut(path), file: Rc::new(file) },
            within: within.min(TRIAL_MAX),
            kill_at: Instant::now() + DAEMON_PATIENCE,
        };
    }

    /// All is well with the program that took over. Said again when it was said before.
    pub(crate) fn settle(&mut self) {
        match self.upgrade {
            Upgrade::Trial { .. } => self.upgrade = Upgrade::None,
            // Too late.
            Upgrade::Back { .. } => return,
            Upgrade::None | Upgrade::Next { .. } => {}
        }
        self.outbox.push((Message::Settled, Vec::new()));
    }

    /// Trial => Back.
    pub(crate) fn go_back(&mut self, why: String) {
        self.upgrade = match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::Trial { before, .. } => {
                note(format_args!("the program before goes on: {why}"));
                Upgrade::Back { before, why: cut(why) }
            }
            other @ (Upgrade::None | Upgrade::Next { .. } | Upgrade::Back { .. }) => {
                return self.upgrade = other;
            }
        };
        match self.daemon.state {
            State::Up(_) => self.daemon.kill("is ended for the program before"),
            State::Down { .. } => self.change_program(),
        }
    }

    /// The daemon has ended, which may be what was waited for. Says whether it did so because of an upgrade.
    pub(crate) fn daemon_ended_for_upgrade(&mut self) -> bool {
        match &mut self.upgrade {
            Upgrade::None => return false,
            Upgrade::Next { .. } | Upgrade::Back { .. } => {
                // It was to end.
                self.daemon.restarts = self.daemon.restarts.saturating_sub(1);
                self.change_program();
            }
            Upgrade::Trial { deaths, .. } => {
                *deaths += 1;
                if *deaths >= DEATHS_MAX {
                    self.go_back(format!("its daemon died {DEATHS_MAX} times"));
                }
            }
        }
        true
    }

    /// When [`Spawner::upgrade_turn`] has something to do.
    pub(crate) fn upgrade_deadline(&self) -> Option<Instant> {
        match &self.upgrade {
            Upgrade::None | Upgrade::Back { .. } => None,
            Upgrade::Next { kill_at, .. } => Some(*kill_at),
            Upgrade::Trial { until, .. } => Some(*until),
        }
    }

    /// Ends what takes too long.
    pub(crate) fn upgrade_turn(&mut self, now: Instant) {
        match &mut self.upgrade {
            Upgrade::None | Upgrade::Back { .. } => {}
            Upgrade::Next { kill_at, .. } => {
                if *kill_at <= now {
                    // Killed once; until it can be reaped there is nothing else to be done.
                    *kill_at = now + DAEMON_PATIENCE;
                    self.daemon.kill("does not end for the next program");
                }
            }
            Upgrade::Trial { until, within, .. } => {
                let Some(late) = now.checked_duration_since(*until) else { return };
                if late >= OVERSLEPT {
                    *until = now + *within;
                    return;
                }
                let within = within.as_secs();
                self.go_back(format!("its daemon did not say within {within} s that all is well"));
            }
        }
    }

    /// Becomes the program that is to take over; there is no daemon now. When that fails, this one goes on.
    fn change_program(&mut self) {
        let Some(own) = self.program.clone() else { return };
        let (next, trial, went_back) = match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::Next { program, within, .. } => (program, Some(within), None),
            Upgrade::Back { before, why } => (before, None, Some(why)),
            other @ (Upgrade::None | Upgrade::Trial { .. }) => return self.upgrade = other,
        };
        self.wait_for_inits();
        let error = self.execute(&next, &own, trial, went_back);
        note(format_args!("cannot become {}: {error}", next.path));
        self.went_back = Some(format!("it cannot be executed: {error}"));
        // Those that would have been left open for it.
        if let Err(error) = inherited::close_on_exec_from(3) {
            note(format_args!("descriptors stay open across execve: {error}"));
        }
        self.daemon.start_now();
    }

    /// Returns only when it fails.
    fn execute(
        &self,
        next: &Program,
        own: &Program,
        trial: Option<Duration>,
        went_back: Option<String>,
    ) -> io::Error {
        let table = self.table(next, own, trial, went_back);
        let execute = || -> io::Result<io::Error> {
            let file = table.seal()?;
            let resume = Resume {
                table: table::number(&file),
                or_else: Some(table::number(&own.file)),
                because: None,
            };
            let command = resume.command(&self.command)?;
            table::hand_down(&table.numbers(), &file)?;
            watt_fault::step("spawner.upgrading");
            Ok(become_program(table::number(&next.file), &command))
        };
        execute().unwrap_or_else(|error| error)
    }

    /// The program of daemons and proxies is this one.
    pub(crate) fn keep_program(&mut self) {
        if let Some(program) = &self.program {
            self.holdings.kept.insert(PROGRAM.to_owned(), Rc::clone(&program.file));
        }
    }

    /// What a list says of this process.
    pub(crate) fn info(&self) -> Message {
        let number = |program: &Program| program.number;
        Message::Info {
            daemon_restarts: self.daemon.restarts,
            started_at_ms: self.started_at_ms,
            managed: self.manager.is_there(),
            program: self.program.as_ref().map_or(0, number),
            path: self.program.as_ref().map(|program| program.path.clone()).unwrap_or_default(),
            trial: matches!(self.upgrade, Upgrade::Trial { .. } | Upgrade::Back { .. }),
            went_back: self.went_back.clone(),
        }
    }

    /// A copy of the table for a rehearsal.
    pub(crate) fn give_table(&mut self) {
        let Some(own) = self.program.clone() else {
            let why = "this spawner's program is not its own".to_owned();
            return self.outbox.push((Message::UpgradeRefused { why }, Vec::new()));
        };
        match self.table(&own, &own, None, None).seal() {
            Ok(table) => self.outbox.push((Message::Table, vec![Rc::new(table)])),
            Err(error) => {
                let why = format!("the spawner's table cannot be written: {error}");
                self.outbox.push((Message::UpgradeRefused { why }, Vec::new()));
            }
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_SIZE_MAX));
    text
}

/// An error with what led to it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| join(&text, cause))
}

fn join(text: &str, cause: &dyn Display) -> String {
    format!("{text}: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handover_adds_to_a_command_line_is_taken_away_by_the_next() {
        let command: Vec<OsString> =
            ["wattctl", "spawner", "--lock", "x", "--", "d", "--resume", "5"].map(OsString::from).into();
        let resume = Resume { table: 7, or_else: Some(8), because: Some("a b".to_owned()) };
        let words = resume.command(&command).unwrap();
        let words: Vec<OsString> =
            words.into_iter().map(|word| OsString::from_vec(word.into_bytes())).collect();
        let expected =
            ["wattctl", "spawner", "--resume", "7", "--or-else", "8", "--because", "a b", "--lock"];
        assert_eq!(words[..9], expected.map(OsString::from));
        assert_eq!(Resume::strip(words), command);
        assert_eq!(Resume::strip(command.clone()), command);
    }
}

//! System calls by name, in the groups that systemd.exec(5) documents under `SystemCallFilter=`, and lists of what a program may
//! call.

pub mod errors;
pub mod groups;

use std::collections::BTreeMap;

/// Which system calls a program may make.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// What happens at a call that is not in the list.
    pub otherwise: Action,
    /// What happens at these calls, by the kernel's name.
    pub calls: BTreeMap<&'static str, Action>,
}

/// What happens at a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is made.
    Allow,
    /// It fails with this number of errno(3).
    Fail(i32),
    /// The process ends by SIGSYS.
    Kill,
}

impl Action {
    /// The call is not permitted. What a refusal is unless something else is asked for: systemd ends the process, but a program
    /// that is told can say so in its log, or do without.
    pub const REFUSE: Action = Action::Fail(1);
    /// The kernel does not have the call. For calls that programs try and have a substitute for.
    pub const ABSENT: Action = Action::Fail(38);

    /// The answer of this name: an error's name or number, or `kill`.
    pub fn from_name(text: &str) -> Option<Action> {
        if text == "kill" {
            return Some(Action::Kill);
        }
        let number = text.parse().ok().filter(|number| (0..=ERROR_MAX).contains(number));
        number.or_else(|| errors::number(text)).map(Action::Fail)
    }
}

/// An entry of a list that means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// Which one, from 0.
    pub index: usize,
    /// Why.
    pub reason: EntryError,
}

/// Why an entry means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryError {
    /// It has no word.
    Empty,
    /// There is no call or group of this name. [`groups::words`] are those that could be meant.
    Unknown(String),
    /// What stands after the colon is no error's name, no number up to 4095, and not `kill`.
    /// [`errors::names`] are those that could be meant.
    Answer(String),
}

/// The greatest error number the kernel can return (MAX_ERRNO of linux/err.h).
const ERROR_MAX: i32 = 4095;

/// Calls that no service needs: they change the machine, look into other programs, or are ways into the kernel that have been
/// used to break out. All of them work in no ordinary container either, so programs know how to do without.
///
/// What stays, although systemd has it in one of these groups: `chroot`, which a browser's own sandbox uses.
const NEEDLESS: [&str; 19] = [
    "@clock",
    "@cpu-emulation",
    "@debug",
    // Not bound to a service: a user's keys are seen by all programs of that user.
    "@keyring",
    "@module",
    "@mount",
    "@raw-io",
    "@reboot",
    "@swap",
    "acct",
    "bpf",
    "nfsservctl",
    "open_by_handle_at",
    "process_vm_readv",
    "process_vm_writev",
    "quotactl",
    "quotactl_fd",
    "userfaultfd",
    "vhangup",
];

/// Calls that are answered as by a kernel without them. What io_uring(7) does for a program is seen by no filter; libraries that
/// use it (libuv, Netty, databases) ask at the start whether it is there.
const MISSING: [&str; 4] = ["@obsolete", "io_uring_setup", "io_uring_enter", "io_uring_register"];

impl Filter {
    /// Everything but what no service needs.
    pub fn standard() -> Filter {
        let mut filter = Filter { otherwise: Action::Allow, calls: BTreeMap::new() };
        filter.set_all(&NEEDLESS, Action::REFUSE);
        filter.set_all(&MISSING, Action::ABSENT);
        filter.set_all(&["chroot"], Action::Allow);
        filter
    }

    /// What services usually need, as systemd.exec(5) recommends it: `@system-service` without `@privileged` and `@resources`.
    /// Nothing that [`Filter::standard`] refuses.
    pub fn strict() -> Filter {
        let mut filter = Filter::allow_list(Action::REFUSE);
        filter.set_all(&["@system-service"], Action::Allow);
        filter.set_all(&["@privileged", "@resources"], Action::REFUSE);
        for (call, action) in Filter::standard().calls {
            filter.set(call, action);
        }
        filter
    }

    /// Reads a list as systemd reads the lines of `SystemCallFilter=`. The first entry makes it a list of what is allowed, to
    /// which `@default` always belongs, or with a `~` a list of what is refused. Later entries add words, and with
    /// `~` take words away. A refused word may have its own answer: `ptrace:EPERM`, `@debug:38`, `bpf:kill`.
    /// An entry may be several words with spaces between them, and its `~` is for all.
    ///
    /// `refusal` is the answer where none is written. No entries allow everything.
    ///
    /// # Errors
    /// Every entry that means nothing.
    pub fn parse<'a>(
        entries: impl IntoIterator<Item = &'a str>,
        refusal: Action,
    ) -> Result<Filter, Vec<BadEntry>> {
        let mut entries = entries.into_iter().enumerate().peekable();
        let mut filter = match entries.peek() {
            Some((_, first)) if !first.trim_start().starts_with('~') => Filter::allow_list(refusal),
            Some(_) | None => Filter { otherwise: Action::Allow, calls: BTreeMap::new() },
        };
        let mut bad = Vec::new();
        for (index, entry) in entries {
            if let Err(reason) = filter.amend(entry, refusal) {
                bad.push(BadEntry { index, reason });
            }
        }
        if bad.is_empty() { Ok(filter) } else { Err(bad) }
    }

    /// Applies one more entry of a list ([`Filter::parse`]).
    ///
    /// # Errors
    /// When it means nothing, and then nothing is changed.
    pub fn amend(&mut self, entry: &str, refusal: Action) -> Result<(), EntryError> {
        let (unanswered, words) = match entry.trim_start().strip_prefix('~') {
            Some(words) => (refusal, words),
            None => (Action::Allow, entry),
        };
        let words: Vec<_> = words.split_whitespace().collect();
        if words.is_empty() {
            return Err(EntryError::Empty);
        }
        let mut meant = Vec::new();
        for word in words {
            let (word, action) = match word.split_once(':') {
                Some((word, answer)) => {
                    let action = Action::from_name(answer);
                    (word, action.ok_or_else(|| EntryError::Answer(answer.into()))?)
                }
                None => (word, unanswered),
            };
            let calls = groups::members(word).ok_or_else(|| EntryError::Unknown(word.into()))?;
            meant.extend(calls.into_iter().map(|call| (call, action)));
        }
        for (call, action) in meant {
            self.set(call, action);
        }
        Ok(())
    }

    /// What happens at this call, by the kernel's name.
    pub fn action(&self, call: &str) -> Action {
        self.calls.get(call).copied().unwrap_or(self.otherwise)
    }

    fn allow_list(refusal: Action) -> Filter {
        let mut filter = Filter { otherwise: refusal, calls: BTreeMap::new() };
        filter.set_all(&["@default"], Action::Allow);
        filter
    }

    /// For words of our own, which a test looks up.
    fn set_all(&mut self, words: &[&str], action: Action) {
        for call in words.iter().filter_map(|word| groups::members(word)).flatten() {
            self.set(call, action);
        }
    }

    fn set(&mut self, call: &'static str, action: Action) {
        if action == self.otherwise {
            self.calls.remove(call);
        } else {
            self.calls.insert(call, action);
        }
    }
}

#[cfg(test)]
mod tests;

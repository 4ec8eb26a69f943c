//! System calls by name, in the groups that systemd.exec(5) documents under `SystemCallFilter=`.

use std::collections::BTreeMap;

/// Which system calls a program may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What happens at a call that is not in the list.
    pub otherwise: Action,
    /// What happens at these calls, by the kernel's name.
    pub calls: BTreeMap<&'static str, Action>,
}

/// What happens at a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Allow,
    /// It fails with this number of errno(3).
    Fail(i32),
    /// The process ends by SIGSYS.
    Kill,
}

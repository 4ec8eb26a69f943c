//! What a request may come to instead of an answer, and which of that a rule is about.

use watt_api::mesh;

/// How a try, or a whole request, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No worker took a byte of it.
    Connect,
    /// The worker went away before it answered.
    Reset,
    /// It did not answer in time.
    Timeout,
    /// An answer with this status, or with one of gRPC that stands for this.
    Status(u16),
}

/// The failures that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Failures {
    connect: bool,
    reset: bool,
    timeout: bool,
    statuses: Box<[(u16, u16)]>,
}

impl From<&mesh::Failures> for Failures {
    fn from(failures: &mesh::Failures) -> Self {
        let mesh::Failures { connect, reset, timeout, statuses } = failures;
        Failures { connect: *connect, reset: *reset, timeout: *timeout, statuses: statuses.as_slice().into() }
    }
}

impl Failures {
    /// Whether this is one of them.
    pub(crate) fn have(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Connect => self.connect,
            Outcome::Reset => self.reset,
            Outcome::Timeout => self.timeout,
            Outcome::Status(status) => {
                self.statuses.iter().any(|(low, high)| (*low..=*high).contains(&status))
            }
        }
    }
}

//! How far a service is on the way to what an operator asked for.

use crate::{ServiceId, plan::Condition, worker::ExitCause};

/// What an operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Ready or completed: `up`, `start`, `restart`.
    Up,
    /// Down: `stop`, `shutdown`.
    Down,
}

/// How far a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// On its way.
    Pending,
    /// Every worker is ready.
    Ready,
    /// Every worker ended with exit status 0.
    Completed,
    /// Every worker is down.
    Down,
    /// A worker ended otherwise than well and is not tried again before the operator hears of it.
    Failed {
        /// How the last run ended, when there was one.
        exit: Option<ExitCause>,
    },
    /// It waits for a dependency that will not get there by itself.
    Blocked {
        /// Which, and what is asked of it.
        on: (ServiceId, Condition),
    },
    /// Another request has come in between and wants the opposite.
    Overruled,
}

impl Verdict {
    /// Whether the goal was reached.
    pub fn is_ok(&self, goal: Goal) -> bool {
        match (goal, self) {
            (Goal::Up, Verdict::Ready | Verdict::Completed) | (Goal::Down, Verdict::Down) => true,
            (
                Goal::Up | Goal::Down,
                Verdict::Pending
                | Verdict::Ready
                | Verdict::Completed
                | Verdict::Down
                | Verdict::Failed { .. }
                | Verdict::Blocked { .. }
                | Verdict::Overruled,
            ) => false,
        }
    }
}

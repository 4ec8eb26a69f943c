//! Exit codes: documented constants, listed in docs/cli.md and in `wattctl --help`.

use std::process::ExitCode;

use crate::text::out;

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is so.
    Ok = 0,
    /// It was tried and did not come about: a service failed, a request got an error reply.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The configuration is missing or wrong; nothing was started.
    Config = 3,
    /// The application is not running.
    NotRunning = 4,
    /// The application is running already.
    AlreadyRunning = 5,
    /// The operating system or the supervisor refused.
    Denied = 6,
    /// The host stands in the way: a port is taken, a folder cannot be made, something ended unexpectedly.
    Host = 7,
}

/// Every exit code with its meaning.
pub const ALL: [(Exit, &str); 8] = [
    (Exit::Ok, "what was asked for is so"),
    (Exit::Failed, "it was tried and did not come about"),
    (Exit::Usage, "the command line makes no sense"),
    (Exit::Config, "the configuration is missing or wrong"),
    (Exit::NotRunning, "the application is not running"),
    (Exit::AlreadyRunning, "the application is running already"),
    (Exit::Denied, "permission denied"),
    (Exit::Host, "the host stands in the way: a port is taken, a folder cannot be made"),
];

impl Exit {
    /// In one word, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Exit::Ok => "ok",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Config => "config",
            Exit::NotRunning => "not_running",
            Exit::AlreadyRunning => "already_running",
            Exit::Denied => "denied",
            Exit::Host => "host",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command that did not succeed: what to print and how to exit.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What was wrong, without a final full stop. Empty when it was printed already.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into(), hint: None }
    }

    /// A failure that was printed already.
    pub fn silent(exit: Exit) -> Self {
        Failure::new(exit, "")
    }

    /// A command line that makes no sense, for programs: what clap says in paragraphs for people.
    pub fn usage(error: &clap::Error) -> Self {
        let text = error.to_string();
        let mut paragraphs =
            text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
        let message = paragraphs.next().unwrap_or_default();
        let hint = paragraphs.next().map(|hint| hint.trim_start_matches("tip: ").to_owned());
        let failure = Failure::new(Exit::Usage, message.trim_start_matches("error: "));
        Failure { hint, ..failure }
    }

    /// Adds advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it on standard error, as text or as one JSON object.
    pub fn print(&self, json: bool) {
        if self.message.is_empty() {
            return;
        }
        if json {
            let error =
                serde_json::json!({ "code": self.exit.code(), "message": self.message, "hint": self.hint });
            return out::fail(&format!("{}\n", serde_json::json!({ "error": error })));
        }
        let hint = self.hint.as_ref().map(|hint| format!(" hint: {hint}\n")).unwrap_or_default();
        out::fail(&format!("error: {}\n{hint}", self.message));
    }
}

/// What a command returns.
pub type Outcome = Result<Exit, Failure>;

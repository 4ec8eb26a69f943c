//! How a step fails: on what, and with which error number.

use std::{fmt, io};

use nix::errno::Errno;

use crate::plan::Failure;

/// The error number for what is wrong with the plan itself, and for errors the standard library makes up.
const EINVAL: i32 = 22;

/// A step that failed, before the list adds its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepError {
    /// What it was about.
    pub(crate) object: String,
    /// An error number of errno(3).
    pub(crate) errno: i32,
}

impl StepError {
    pub(crate) fn new(object: &str, error: &io::Error) -> StepError {
        StepError { object: object.to_owned(), errno: error.raw_os_error().unwrap_or(EINVAL) }
    }

    /// The plan asks for something that does not exist.
    pub(crate) fn invalid(object: String) -> StepError {
        StepError { object, errno: EINVAL }
    }
}

/// The failure of the whole stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) Failure);

impl Failed {
    pub(crate) fn new(step: &str, error: &StepError) -> Failed {
        Failed(Failure { step: step.to_owned(), object: error.object.clone(), errno: error.errno })
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { step, object, errno } = &self.0;
        write!(f, "{step}: {object}: {}", io::Error::from_raw_os_error(*errno))
    }
}

/// Says what an operation was about.
pub(crate) trait About<T> {
    /// Names the object of a failure.
    fn about(self, object: impl fmt::Display) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> About<T> for Result<T, E> {
    fn about(self, object: impl fmt::Display) -> Result<T, StepError> {
        self.map_err(|error| StepError::new(&object.to_string(), &error.into()))
    }
}

/// Whether there is nothing at a path that anybody here could get to: nothing at all, or folders above it that cannot be
/// entered. The program has no more rights than the stage, and so cannot enter them either.
pub(crate) fn is_out_of_reach(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    is_missing(error) || matches!(errno, Some(Errno::EACCES | Errno::ELOOP | Errno::ENAMETOOLONG))
}

/// Whether there is nothing at a path.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

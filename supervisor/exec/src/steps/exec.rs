//! Becoming the program.
//!
//! No shell is involved: a script needs a `#!` line, and one without is reported as such (ENOEXEC), where a shell
//! would quietly run it as its own.

use std::{
    ffi::{CStr, CString, OsStr},
    fs::{self, File},
    io::Read,
    os::{fd::RawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
    unistd::execve,
};
use watt_os::{inherited, signals};

use crate::{
    error::{About, StepError, is_missing},
    launch::Stage,
    plan::{LISTEN_FDS_START, LaunchPlan, Report},
    steps::notification,
};

/// Where programs are looked for when the plan's environment has no `PATH`: what execvp(3) of the C libraries uses.
const PATH_DEFAULT: &[u8] = b"/usr/local/bin:/bin:/usr/bin";

/// The kernel reads no more of a `#!` line (BINPRM_BUF_SIZE).
const SHEBANG_LEN_MAX: u64 = 256;

/// All that execve(2) takes.
#[derive(Debug)]
pub(crate) struct Execution {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// The files that may be meant and are there, in the order they are tried.
    candidates: Vec<CString>,
}

/// Does everything but the execution itself, so that nothing but that has to be allowed by what comes between.
pub(crate) fn prepare(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let plan = &stage.plan;
    let argv = strings(&plan.argv, "argument")?;
    let mut env = strings(&plan.env, "environment entry")?;
    if plan.listeners > 0 {
        env.push(text(format!("LISTEN_PID={}", std::process::id()).as_bytes(), "LISTEN_PID")?);
    }
    umask(Mode::from_bits_truncate(plan.umask));
    stage.execution = Some(Execution { argv, env, candidates: candidates(plan)? });

    let first_to_close = LISTEN_FDS_START + RawFd::from(plan.listeners);
    inherited::close_on_exec_from(first_to_close).about("descriptors")?;
    notification::hand_down(plan.notification_fd).about("notification descriptor")?;
    stage.report.send(&Report::Executing, &[]).about("report")?;
    // Last, because writing to the spawner's socket may raise SIGPIPE.
    signals::reset().about("signals")
}

pub(crate) fn exec(stage: &mut Stage<'_>) -> Result<(), StepError> {
    match stage.execution.take() {
        Some(execution) => Err(try_each(&stage.plan, &execution)),
        None => Err(StepError::invalid("program".to_owned())),
    }
}

/// Executes the first of these that can be. As execvp(3): one that is missing, or may not be executed, leaves it to the
/// next; what else goes wrong is the end.
fn try_each(plan: &LaunchPlan, Execution { argv, env, candidates }: &Execution) -> StepError {
    let mut denied = None;
    for candidate in candidates {
        let Err(errno) = execve(candidate, argv, env);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {
                if let Some(interpreter) = missing_interpreter(candidate) {
                    let object = format!("{}: interpreter {interpreter}", display(candidate));
                    return StepError { object, errno: Errno::ENOENT as i32 };
                }
            }
            Errno::EACCES => denied = denied.or(Some(candidate)),
            errno => return StepError { object: display(candidate), errno: errno as i32 },
        }
    }
    match denied {
        Some(candidate) => StepError { object: display(candidate), errno: Errno::EACCES as i32 },
        None => StepError { object: program(plan), errno: Errno::ENOENT as i32 },
    }
}

fn candidates(plan: &LaunchPlan) -> Result<Vec<CString>, StepError> {
    if let Some(path) = &plan.program {
        return Ok(vec![text(path.as_os_str().as_bytes(), "program")?]);
    }
    let name = plan.argv.first().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| StepError::invalid("empty command".to_owned()))?;
    if name.contains(&b'/') {
        return Ok(vec![text(name, "program")?]);
    }
    let path = plan.env.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH="));
    let folders = path.unwrap_or(PATH_DEFAULT).split(|byte| *byte == b':');
    // An empty element is the working directory (execvp(3)).
    let files = folders.map(|folder| Path::new(OsStr::from_bytes(folder)).join(OsStr::from_bytes(name)));
    // A look takes less than an execution that fails.
    let is_there = |file: &PathBuf| !fs::metadata(file).is_err_and(|error| is_missing(&error));
    files.filter(is_there).map(|file| text(file.as_os_str().as_bytes(), "program")).collect()
}

/// The interpreter in the `#!` line of a file that exists: when execve(2) says ENOENT of it, that is what is missing. A binary
/// whose dynamic loader is missing says the same, and has no such line.
fn missing_interpreter(file: &CStr) -> Option<String> {
    let mut head = Vec::new();
    let path = Path::new(OsStr::from_bytes(file.to_bytes()));
    File::open(path).ok()?.take(SHEBANG_LEN_MAX).read_to_end(&mut head).ok()?;
    let Some(line) = head.strip_prefix(b"#!") else { return Some("(dynamic loader)".to_owned()) };
    let line = line.split(|byte| *byte == b'\n').next()?;
    let word = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    Some(String::from_utf8_lossy(word).into_owned())
}

fn program(plan: &LaunchPlan) -> String {
    match (&plan.program, plan.argv.first()) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(name)) => String::from_utf8_lossy(name).into_owned(),
        (None, None) => String::new(),
    }
}

fn strings(list: &[Vec<u8>], what: &str) -> Result<Vec<CString>, StepError> {
    list.iter().enumerate().map(|(index, bytes)| text(bytes, &format!("{what} {index}"))).collect()
}

fn text(bytes: &[u8], what: &str) -> Result<CString, StepError> {
    CString::new(bytes).map_err(|_| StepError::invalid(format!("{what}: NUL byte")))
}

fn display(path: &CStr) -> String {
    String::from_utf8_lossy(path.to_bytes()).into_owned()
}

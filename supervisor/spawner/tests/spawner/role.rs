//! What this program is when the tests, or a spawner of theirs, start it again.

use std::{
    env,
    error::Error,
    ffi::OsString,
    os::fd::{AsFd, IntoRawFd, OwnedFd},
    path::PathBuf,
    process::{self, ExitCode},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
    },
};
use socket2::{Domain, SockAddr, Socket, Type};
use watt_os::{fdpass, inherited, memfd, signalfd::Signals};
use watt_spawner::{Handle, Resume, Settings};

/// Says which role: [`SPAWNER`] or [`DAEMON`].
pub(crate) const VARIABLE: &str = "WATT_TEST_ROLE";
/// The spawner. Its folder is in [`FOLDER`].
pub(crate) const SPAWNER: &str = "spawner";
/// The daemon.
pub(crate) const DAEMON: &str = "daemon";
/// The variable with the folder of one test's application: `lock` and the tests' socket `daemons` are in it.
pub(crate) const FOLDER: &str = "WATT_TEST_FOLDER";
/// The variable with the program that the spawner starts as its daemon, instead of this one.
pub(crate) const PROGRAM: &str = "WATT_TEST_PROGRAM";

/// The variable with the milliseconds after which a daemon that does not read is killed.
pub(crate) const STALL_MS: &str = "WATT_TEST_STALL_MS";

/// The variable with the milliseconds after which a daemon that says nothing is killed.
pub(crate) const SILENCE_MS: &str = "WATT_TEST_SILENCE_MS";
/// The variable with the largest size of a file in bytes.
pub(crate) const FILE_SIZE: &str = "WATT_TEST_FILE_SIZE";
/// The variable that says that there is a service manager.
pub(crate) const MANAGED: &str = "WATT_TEST_MANAGED";

/// The variable that says that daemons have the spawner's own program.
pub(crate) const OWN_PROGRAM: &str = "WATT_TEST_OWN_PROGRAM";
/// The variable with a soft limit of descriptors to begin with, and the one with a file to leave open across execve(2).
pub(crate) const SOFT_LIMIT: &str = "WATT_TEST_SOFT_LIMIT";
pub(crate) const LEFT_OPEN: &str = "WATT_TEST_LEFT_OPEN";
/// How the file of a program is called that reads no table but those of a later form.
pub(crate) const LATER: &str = "later";

/// Plays the role that the environment asks for, if it asks for one.
pub(crate) fn take() -> Option<ExitCode> {
    let is_daemon = env::args().nth(1).is_some_and(|role| role == DAEMON);
    let result = match env::var(VARIABLE).ok()?.as_str() {
        SPAWNER if !is_daemon => spawner(),
        _ => daemon(),
    };
    Some(result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(100)
    }))
}

fn folder() -> PathBuf {
    env::var_os(FOLDER).unwrap_or_default().into()
}

fn spawner() -> Result<ExitCode, Box<dyn Error>> {
    let daemon = match env::var_os(PROGRAM) {
        Some(program) => vec![program],
        None if env::var_os(OWN_PROGRAM).is_some() => vec!["own".into(), DAEMON.into()],
        None => {
            let variable = OsString::from(format!("{VARIABLE}={DAEMON}"));
            vec!["env".into(), variable, env::current_exe()?.into()]
        }
    };
    if let Ok(size) = env::var(FILE_SIZE) {
        let size = size.parse()?;
        setrlimit(Resource::RLIMIT_FSIZE, size, size)?;
    }
    let resume = resume()?;
    if resume.is_none() {
        begin()?;
    }
    let settings = Settings {
        lock: folder().join("lock"),
        daemon,
        stall_max: duration(STALL_MS, watt_spawner::STALL_MAX)?,
        silence_max: duration(SILENCE_MS, watt_spawner::SILENCE_MAX)?,
        managed: env::var_os(MANAGED).is_some(),
        journal: None,
        own_program: env::var_os(OWN_PROGRAM).is_some(),
        command: Resume::strip(env::args_os()),
        resume,
    };
    let status = watt_spawner::run(&settings)?;
    process::exit(status)
}

/// What whoever starts a spawner may leave it with. A program that takes over is not started by anybody.
fn begin() -> Result<(), Box<dyn Error>> {
    if let Ok(soft) = env::var(SOFT_LIMIT) {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, soft.parse()?, hard)?;
    }
    if let Some(path) = env::var_os(LEFT_OPEN) {
        let file = OwnedFd::from(std::fs::File::create(path)?);
        inherited::hand_down(&file)?;
        let _ = file.into_raw_fd();
    }
    Ok(())
}

/// What the command line says of a handover.
fn resume() -> Result<Option<Resume>, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let value = |word: &str| {
        arguments.iter().position(|argument| argument == word).and_then(|at| arguments.get(at + 1))
    };
    let Some(table) = value("--resume") else { return Ok(None) };
    let because = value("--because").cloned();
    let or_else = value("--or-else").map(|number| number.parse()).transpose()?;
    let mut table = table.parse()?;
    if env::current_exe()?.ends_with(LATER) {
        table = with_form(table, 1)?;
    } else if because.as_ref().is_some_and(|why| why.contains("form 257")) {
        // What the program before wrote is not touched by the later one.
        table = with_form(table, 0)?;
    }
    Ok(Some(Resume { table, or_else, because }))
}

/// A table with another second byte in the number of its form, open across execve(2).
fn with_form(table: i32, byte: u8) -> Result<i32, Box<dyn Error>> {
    let handed = inherited::Unclaimed::find(table)?;
    let mut bytes = memfd::read_sealed(handed.as_fd(), 1 << 20)?;
    bytes[9] = byte;
    let changed = memfd::sealed(c"table", &bytes)?;
    inherited::hand_down(&changed)?;
    Ok(changed.into_raw_fd())
}

fn duration(variable: &str, default: Duration) -> Result<Duration, Box<dyn Error>> {
    match env::var(variable) {
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds.parse()?)),
        Err(_) => Ok(default),
    }
}

/// Hands the socket to the tests, then passes signals on to them, and ends as they say: with a status, or by
/// closing the connection.
fn daemon() -> Result<ExitCode, Box<dyn Error>> {
    let signals = Signals::new(&[Signal::SIGTERM, Signal::SIGHUP])?;
    let control = connect()?;
    let handle = Handle::from_env()?;
    fdpass::send(control.as_fd(), &process::id().to_ne_bytes(), &[handle.as_fd()])?;
    drop(handle);
    loop {
        let mut fds = [
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::NONE)?;
        while let Some(signal) = signals.next()? {
            fdpass::send(control.as_fd(), &[signal as i32 as u8], &[])?;
        }
        let mut status = [0];
        match fdpass::receive(control.as_fd(), &mut status) {
            Ok(received) if received.length == 1 => return Ok(ExitCode::from(status[0])),
            Ok(_) => return Ok(ExitCode::SUCCESS),
            Err(_) => {}
        }
    }
}

fn connect() -> Result<OwnedFd, Box<dyn Error>> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.connect(&SockAddr::unix(folder().join("daemons"))?)?;
    Ok(socket.into())
}

//! What this program is when the tests, or a spawner of theirs, start it again.

use std::{
    env,
    error::Error,
    ffi::OsString,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::{self, ExitCode},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, setrlimit},
        signal::Signal,
    },
};
use socket2::{Domain, SockAddr, Socket, Type};
use watt_os::{fdpass, signalfd::Signals};
use watt_spawner::{Handle, Settings};

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

/// Plays the role that the environment asks for, if it asks for one.
pub(crate) fn take() -> Option<ExitCode> {
    let result = match env::var(VARIABLE).ok()?.as_str() {
        SPAWNER => spawner(),
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
        None => {
            let variable = OsString::from(format!("{VARIABLE}={DAEMON}"));
            vec!["env".into(), variable, env::current_exe()?.into()]
        }
    };
    if let Ok(size) = env::var(FILE_SIZE) {
        let size = size.parse()?;
        setrlimit(Resource::RLIMIT_FSIZE, size, size)?;
    }
    let settings = Settings {
        lock: folder().join("lock"),
        daemon,
        stall_max: duration(STALL_MS, watt_spawner::STALL_MAX)?,
        silence_max: duration(SILENCE_MS, watt_spawner::SILENCE_MAX)?,
        managed: env::var_os(MANAGED).is_some(),
        journal: None,
        own_program: false,
    };
    let status = watt_spawner::run(&settings)?;
    process::exit(status)
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

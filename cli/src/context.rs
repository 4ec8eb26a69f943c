//! Which application a command is for, and the way to it.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fd::OwnedFd,
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::de::DeserializeOwned;
use watt_api::client::{Client, Error, Lines};
use watt_supervisor::places::Places;

use crate::{
    args::Which,
    exit::{Exit, Failure},
    text::out,
};

/// An application that runs, or has a runtime folder that says so.
#[derive(Debug, Clone)]
pub struct Running {
    app: String,
    runtime: PathBuf,
    file: Option<PathBuf>,
    /// Not known to those who were given nothing but a socket.
    spawner_pid: Option<u32>,
}

/// The control socket of an application, in the environment of services that may use it; operators who are members of a group
/// set it, since the application is in another user's runtime folder.
const CONTROL_SOCKET: &str = "WATT_CONTROL_SOCKET";

impl Running {
    /// Finds the application: by name, by configuration file, by the socket in the environment, or because it is the only
    /// one.
    pub fn find(which: &Which) -> Result<Running, Failure> {
        let named = which.app.is_some() || which.file.is_some();
        if let Some(running) =
            std::env::var_os(CONTROL_SOCKET).filter(|_| !named).and_then(|path| Self::at(Path::new(&path)))
        {
            return Ok(running);
        }
        let all = Self::all();
        if let Some(app) = &which.app {
            return all
                .into_iter()
                .find(|running| running.app == *app)
                .ok_or_else(|| not_running(&format!("no application {app:?} is running"), &Self::all()));
        }
        let start = which.file.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_default();
        match watt_config::find(&start) {
            Ok(file) => {
                let file = fs::canonicalize(&file).unwrap_or(file);
                all.into_iter().find(|running| running.is_of(&file)).ok_or_else(|| {
                    not_running(
                        &format!("the application of {} is not running", file.display()),
                        &Self::all(),
                    )
                })
            }
            Err(error) if which.file.is_some() => {
                Err(Failure::new(Exit::Config, watt_supervisor::words::chain(&error)).hint(error.hint()))
            }
            Err(_) => match all.as_slice() {
                [only] => Ok(only.clone()),
                [] => Err(not_running("no application is running", &[])),
                _ => Err(not_running(
                    "there is no configuration file here, and several applications run",
                    &all,
                )),
            },
        }
    }

    /// Every application of this user that has a runtime folder.
    pub fn all() -> Vec<Running> {
        let base = Places::runtime_base(&|name| std::env::var_os(name), uid());
        let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
        let mut all: Vec<Running> = entries.flatten().filter_map(|entry| Self::read(&entry.path())).collect();
        all.sort_by(|one, other| one.app.cmp(&other.app));
        all
    }

    /// Whether this is its configuration file, all links followed. The running one's are followed now: a link that leads to
    /// another release by now still names the application.
    fn is_of(&self, file: &Path) -> bool {
        self.file
            .as_deref()
            .is_some_and(|own| own == file || fs::canonicalize(own).is_ok_and(|own| own == file))
    }

    /// The application of a runtime folder; `None` when it holds none.
    pub fn read(runtime: &Path) -> Option<Running> {
        let info: serde_json::Value =
            serde_json::from_slice(&fs::read(runtime.join("info.json")).ok()?).ok()?;
        Some(Running {
            app: info["app"].as_str().unwrap_or_default().to_owned(),
            runtime: runtime.to_owned(),
            file: info["file"].as_str().map(PathBuf::from),
            spawner_pid: Some(holder(&runtime.join("lock"))?),
        })
    }

    /// The application of a control socket, which is in a folder of the application's name.
    fn at(socket: &Path) -> Option<Running> {
        let runtime = socket.parent()?;
        let app = runtime.file_name()?.to_str()?.to_owned();
        Some(Running { app, runtime: runtime.to_owned(), file: None, spawner_pid: None })
    }

    /// One that is being started, before it has written anything.
    pub fn starting(app: &str, places: &Places, spawner_pid: u32) -> Running {
        Running {
            app: app.to_owned(),
            runtime: places.runtime.clone(),
            file: None,
            spawner_pid: Some(spawner_pid),
        }
    }

    /// Its name.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Its configuration file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Connects to its control socket.
    pub async fn client(&self) -> Result<Client, Failure> {
        Client::connect(self.runtime.join("control.sock")).await.map_err(|error| self.failure(error))
    }

    /// The socket for calls into its mesh.
    pub fn mesh_socket(&self) -> PathBuf {
        self.runtime.join("mesh.sock")
    }

    /// A failed call as what to tell the operator.
    pub fn failure(&self, error: Error) -> Failure {
        let message = watt_supervisor::words::chain(&error);
        match error {
            Error::NotRunning { .. } => {
                Failure::new(Exit::NotRunning, format!("{} is not running", self.app))
            }
            Error::Permission { .. } => Failure::new(Exit::Denied, message)
                .hint("run it as the user who started the application, or as root"),
            Error::Refused { problem, .. } => {
                let exit = if problem.code == "forbidden" { Exit::Denied } else { Exit::Failed };
                Failure { exit, message: problem.message, hint: problem.hint }
            }
            Error::Connect { .. }
            | Error::Interrupted { .. }
            | Error::TimedOut { .. }
            | Error::Protocol { .. } => Failure::new(Exit::Host, message),
        }
    }

    /// Reads a stream to its end and gives each item to `show`, which says its number. A daemon that is killed meanwhile
    /// has a successor, which is asked for what follows the last number.
    pub async fn read_on<T: DeserializeOwned>(
        &self,
        open: impl AsyncFn(Option<u64>) -> Result<Lines<T>, Error>,
        mut show: impl FnMut(T) -> u64,
    ) -> Result<(), Failure> {
        let mut last = None;
        loop {
            let mut items = open(last).await.map_err(|error| self.failure(error))?;
            loop {
                let item = tokio::select! {
                    item = items.next() => item,
                    never = out::while_read() => match never {},
                };
                match item {
                    None => return Ok(()),
                    Some(Ok(item)) => last = Some(show(item)),
                    // A spawner that was killed has no successor.
                    Some(Err(Error::Interrupted { .. })) if self.is_gone() => return Err(self.killed()),
                    Some(Err(Error::Interrupted { .. })) => break,
                    Some(Err(error)) => return Err(self.failure(error)),
                }
            }
        }
    }

    fn killed(&self) -> Failure {
        Failure::new(Exit::NotRunning, format!("{} has ended: its supervisor was killed", self.app))
            .hint("`wattctl up` removes what is left and starts it again")
    }

    /// Asks the spawner by a signal to end the application, when no daemon answers.
    pub fn terminate(&self) -> Result<(), Failure> {
        let silent = || format!("the supervisor of {} does not answer", self.app);
        // Once it is held, the lock tells whether it is the spawner's and not a later process of that number.
        let held = self.spawner_pid.and_then(|pid| Some((pid, open(pid)?)));
        let Some((pid, pidfd)) = held.filter(|(pid, _)| holder(&self.runtime.join("lock")) == Some(*pid))
        else {
            return match self.is_gone() {
                true => Ok(()),
                false => Err(Failure::new(Exit::Host, silent())
                    .hint("its daemon cannot start, and watt.log has why; who has started it can end it without one")),
            };
        };
        match pidfd_send_signal(pidfd, Signal::TERM) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => {
                let message =
                    format!("{}, and its spawner (pid {pid}) cannot be told to end: {error}", silent());
                Err(Failure::new(Exit::Denied, message)
                    .hint("run it as the user who started the application, or as root"))
            }
        }
    }

    /// Whether the supervisor is known to have gone.
    pub fn is_gone(&self) -> bool {
        self.spawner_pid.is_some_and(|pid| !is_alive(pid))
    }

    /// Waits until the supervisor has gone, which follows at once when everything else has ended.
    pub async fn gone(&self) -> Result<(), Failure> {
        let Some(pid) = self.spawner_pid else { return Ok(()) };
        let wait = async {
            let mut poll = tokio::time::interval(Duration::from_millis(5));
            while !self.is_gone() {
                poll.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.map_err(|_| {
            let app = &self.app;
            Failure::new(
                Exit::Host,
                format!("the services of {app} have ended, but its spawner (pid {pid}) has not"),
            )
        })
    }
}

fn not_running(message: &str, others: &[Running]) -> Failure {
    let failure = Failure::new(Exit::NotRunning, message);
    match others {
        [] => failure.hint("`wattctl up` starts one"),
        others => {
            let names: Vec<&str> = others.iter().map(Running::app).collect();
            failure.hint(format!("running: {}; name one with --app", names.join(", ")))
        }
    }
}

/// The pid of the spawner that holds a lock file. The file outlives a killed spawner, and its pid may be anybody's by now,
/// so it is the lock that is asked. That takes it for a moment, in which a spawner would be refused it: hence only where the
/// pid does not tell already that nobody has it.
pub fn holder(lock: &Path) -> Option<u32> {
    let pid = pid_in(lock).filter(|pid| is_alive(*pid))?;
    match File::open(lock).ok()?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(pid),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// The pid that the last spawner wrote into its lock file.
pub fn pid_in(lock: &Path) -> Option<u32> {
    fs::read_to_string(lock).ok()?.trim().parse().ok()
}

/// Whether a process exists. Its start is not compared: the caller goes on to the socket, which decides.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // A zombie has ended; its state stands behind the name's closing bracket (proc(5)).
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// The process with this number, as what cannot come to mean another one.
fn open(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid.try_into().ok()?)?, PidfdFlags::empty()).ok()
}

/// The effective user.
pub fn uid() -> u32 {
    // The owner of a process's /proc folder is its effective user (proc(5)).
    fs::metadata("/proc/self").map(|own| own.uid()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A runtime folder whose lock file names this process, which lives.
    fn runtime(file: &Path) -> tempfile::TempDir {
        let runtime = tempfile::tempdir().unwrap();
        let info = serde_json::json!({ "app": "shop", "file": file });
        fs::write(runtime.path().join("info.json"), info.to_string()).unwrap();
        fs::write(runtime.path().join("lock"), format!("{}\n", std::process::id())).unwrap();
        runtime
    }

    #[test]
    fn a_pid_that_is_somebody_elses_by_now_is_no_spawner() {
        let runtime = runtime("/srv/shop/watt.yaml".as_ref());
        assert!(Running::read(runtime.path()).is_none());
        let lock = File::options().write(true).open(runtime.path().join("lock")).unwrap();
        lock.try_lock().unwrap();
        let running = Running::read(runtime.path()).unwrap();
        assert_eq!(running.spawner_pid, Some(std::process::id()));
        lock.unlock().unwrap();
        assert!(Running::read(runtime.path()).is_none());
    }

    #[test]
    fn an_application_started_through_a_link_is_found_from_its_folder() {
        let home = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(home.path()).unwrap();
        let (release, current) = (home.join("release"), home.join("current"));
        fs::create_dir(&release).unwrap();
        fs::write(release.join("watt.yaml"), "").unwrap();
        std::os::unix::fs::symlink(&release, &current).unwrap();
        let runtime = runtime(&current.join("watt.yaml"));
        let lock = File::open(runtime.path().join("lock")).unwrap();
        lock.try_lock().unwrap();
        let running = Running::read(runtime.path()).unwrap();
        assert!(running.is_of(&release.join("watt.yaml")));
        assert!(!running.is_of(&home.join("watt.yaml")));
    }
}

//! Which application a command is for, and the way to it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;
use watt_api::client::{Client, Error, Lines};
use watt_supervisor::places::Places;

use crate::{
    args::Which,
    exit::{Exit, Failure},
};

/// An application that runs, or has a runtime folder that says so.
#[derive(Debug, Clone)]
pub struct Running {
    app: String,
    runtime: PathBuf,
    file: Option<PathBuf>,
    spawner_pid: u32,
}

impl Running {
    /// Finds the application: by name, by configuration file, or because it is the only one.
    pub fn find(which: &Which) -> Result<Running, Failure> {
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
                all.into_iter().find(|running| running.file.as_deref() == Some(&file)).ok_or_else(|| {
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
    fn all() -> Vec<Running> {
        let base = Places::runtime_base(&|name| std::env::var_os(name), uid());
        let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
        let mut all: Vec<Running> = entries.flatten().filter_map(|entry| Self::read(&entry.path())).collect();
        all.sort_by(|one, other| one.app.cmp(&other.app));
        all
    }

    /// The application of a runtime folder; `None` when it holds none.
    pub fn read(runtime: &Path) -> Option<Running> {
        let info: serde_json::Value =
            serde_json::from_slice(&fs::read(runtime.join("info.json")).ok()?).ok()?;
        let lock = fs::read_to_string(runtime.join("lock")).ok()?;
        let pid = lock.trim().parse().ok()?;
        is_alive(pid).then(|| Running {
            app: info["app"].as_str().unwrap_or_default().to_owned(),
            runtime: runtime.to_owned(),
            file: info["file"].as_str().map(PathBuf::from),
            spawner_pid: pid,
        })
    }

    /// One that is being started, before it has written anything.
    pub fn starting(app: &str, places: &Places, spawner_pid: u32) -> Running {
        Running { app: app.to_owned(), runtime: places.runtime.clone(), file: None, spawner_pid }
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
                match items.next().await {
                    None => return Ok(()),
                    Some(Ok(item)) => last = Some(show(item)),
                    // A spawner that was killed has no successor.
                    Some(Err(Error::Interrupted { .. })) if !self.is_gone() => break,
                    Some(Err(error)) => return Err(self.failure(error)),
                }
            }
        }
    }

    /// Whether the supervisor has gone.
    pub fn is_gone(&self) -> bool {
        !is_alive(self.spawner_pid)
    }

    /// Waits until the supervisor has gone, which follows at once when everything else has ended.
    pub async fn gone(&self) -> Result<(), Failure> {
        let wait = async {
            let mut poll = tokio::time::interval(Duration::from_millis(5));
            while !self.is_gone() {
                poll.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.map_err(|_| {
            let (app, pid) = (&self.app, self.spawner_pid);
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

/// Whether a process exists. Its start is not compared: the caller goes on to the socket, which decides.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // A zombie has ended; its state stands behind the name's closing bracket (proc(5)).
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// The effective user.
pub fn uid() -> u32 {
    // The owner of a process's /proc folder is its effective user (proc(5)).
    fs::metadata("/proc/self").map(|own| own.uid()).unwrap_or(u32::MAX)
}

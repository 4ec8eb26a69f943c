//! Where an application keeps its files: the runtime folder with its sockets and the state folder with its logs
//! (ARCHITECTURE.md, "Places").
//!
//! `wattctl` uses this before a daemon exists, to find one; the daemon uses it for everything it creates.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use watt_core::{AppName, ServiceId, WorkerId, plan::Plan};

use crate::seat::Seat;

/// The longest path of a Unix socket: `sun_path` of unix(7) has 108 bytes, the last one for the final zero.
pub const SOCKET_PATH_LEN_MAX: usize = 107;

/// Mode of the runtime folder: others may pass through to a socket they know and are allowed to use, not look.
const RUNTIME_MODE: u32 = 0o711;
/// Mode of the state folder: services that run as other users pass through to their own.
const STATE_MODE: u32 = 0o711;
/// Mode of the folder of logs, which may contain anything a service says.
const LOGS_MODE: u32 = 0o700;

/// The two folders of one application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Sockets and whatever else ends with the application.
    pub runtime: PathBuf,
    /// What outlives it.
    pub state: PathBuf,
}

/// The files of one worker, in a folder of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPlaces {
    /// The folder.
    pub dir: PathBuf,
    /// Where the worker accepts requests, with `listen: unix` and `listen: fd`.
    pub socket: PathBuf,
    /// Where it calls the mesh without TCP.
    pub mesh: PathBuf,
    /// Where it sends sd_notify(3) messages.
    pub notify: PathBuf,
}

/// A folder or path that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The path of a socket does not fit into `sun_path`.
    #[error("socket path {} has {} bytes; the kernel's limit is {SOCKET_PATH_LEN_MAX}", .path.display(), .path.as_os_str().len())]
    PathTooLong {
        /// The longest one the application needs.
        path: PathBuf,
    },
    /// A folder could not be created or looked at.
    #[error("cannot create folder {}", .path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder belongs to somebody else, who could replace our sockets by theirs.
    #[error("folder {} belongs to user {owner}, not to user {uid}", .path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        uid: u32,
    },
    /// There is something else than a folder, or others may write into it.
    #[error("{} is not a folder that only its owner can change", .path.display())]
    Unsafe {
        /// Which.
        path: PathBuf,
    },
}

impl PlaceError {
    /// Whether the operating system refused what another user may do.
    pub fn is_denied(&self) -> bool {
        match self {
            PlaceError::Create { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            PlaceError::Foreign { .. } | PlaceError::Unsafe { .. } => true,
            PlaceError::PathTooLong { .. } => false,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            PlaceError::PathTooLong { .. } => {
                "set WATT_RUNTIME_DIR to a shorter path, or shorten the names of the application and the service"
            }
            PlaceError::Create { .. } | PlaceError::Foreign { .. } | PlaceError::Unsafe { .. } => {
                "set WATT_RUNTIME_DIR and WATT_STATE_DIR to folders of your own"
            }
        }
    }
}

impl Places {
    /// The usual places of an application. `env` looks up an environment variable, `uid` is the effective user.
    pub fn for_app(app: &AppName, env: &dyn Fn(&str) -> Option<OsString>, uid: u32) -> Places {
        let runtime = Self::runtime_base(env, uid).join(app.as_str());
        let state = Self::state_base(env, uid).join(app.as_str());
        Places { runtime, state }
    }

    /// The folder that holds the runtime folders of all of this user's applications.
    pub fn runtime_base(env: &dyn Fn(&str) -> Option<OsString>, uid: u32) -> PathBuf {
        let folder = |name: &str| absolute(env(name));
        folder("WATT_RUNTIME_DIR").unwrap_or_else(|| match uid {
            0 => PathBuf::from("/run/watt"),
            _ => folder("XDG_RUNTIME_DIR")
                .map(|dir| dir.join("watt"))
                .unwrap_or_else(|| PathBuf::from(format!("/tmp/watt-{uid}"))),
        })
    }

    /// The folder that holds the state folders of all of this user's applications.
    pub fn state_base(env: &dyn Fn(&str) -> Option<OsString>, uid: u32) -> PathBuf {
        let folder = |name: &str| absolute(env(name));
        folder("WATT_STATE_DIR").unwrap_or_else(|| match uid {
            0 => PathBuf::from("/var/lib/watt"),
            _ => folder("XDG_STATE_HOME")
                .or_else(|| folder("HOME").map(|home| home.join(".local/state")))
                .map(|dir| dir.join("watt"))
                // A user without a home, such as `nobody`, gets no less than one with it.
                .unwrap_or_else(|| PathBuf::from(format!("/var/tmp/watt-{uid}"))),
        })
    }

    /// Locked by the spawner for as long as it lives; its content is the spawner's pid.
    pub fn lock(&self) -> PathBuf {
        self.runtime.join("lock")
    }

    /// The control API.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// Where the proxy gets what was counted.
    pub fn metrics_socket(&self) -> PathBuf {
        self.runtime.join("metrics.sock")
    }

    /// Between daemon and proxy: that of the program with this number, since there may be two of them.
    pub fn proxy_socket(&self, program: u64) -> PathBuf {
        self.runtime.join(crate::proxy::listener(program))
    }

    /// Operators' calls into the mesh.
    pub fn mesh_socket(&self) -> PathBuf {
        self.runtime.join("mesh.sock")
    }

    /// Facts about the running application, for tools and for the next start after a crash.
    pub fn info(&self) -> PathBuf {
        self.runtime.join("info.json")
    }

    /// Why the application did not start: a [`watt_api::control::Problem`], written by a daemon that gave up and
    /// printed by `wattctl up`.
    pub fn error(&self) -> PathBuf {
        self.runtime.join("error.json")
    }

    /// `/etc/hosts` of private workers.
    pub fn hosts(&self) -> PathBuf {
        self.runtime.join("hosts")
    }

    /// `/etc/hosts` of workers on the host's network.
    pub fn hosts_shared(&self) -> PathBuf {
        self.runtime.join("hosts.shared")
    }

    /// `/etc/resolv.conf` of private workers.
    pub fn resolv_conf(&self) -> PathBuf {
        self.runtime.join("resolv.conf")
    }

    /// `/etc/nsswitch.conf` of private workers.
    pub fn nsswitch_conf(&self) -> PathBuf {
        self.runtime.join("nsswitch.conf")
    }

    /// How far each pipe of output was read.
    pub fn bookmarks(&self) -> PathBuf {
        self.runtime.join("bookmarks")
    }

    /// The folder of all workers' folders.
    pub fn workers(&self) -> PathBuf {
        self.runtime.join("workers")
    }

    /// The files of one worker.
    pub fn worker(&self, worker: &WorkerId) -> WorkerPlaces {
        self.seat(&worker.into())
    }

    /// The files of a worker or a task.
    pub(crate) fn seat(&self, seat: &Seat) -> WorkerPlaces {
        let dir = self.workers().join(seat.service.as_str()).join(&seat.name);
        WorkerPlaces {
            socket: dir.join("worker.sock"),
            mesh: dir.join("mesh.sock"),
            notify: dir.join("notify.sock"),
            dir,
        }
    }

    /// The folder of the secrets of all workers, each of which sees its own alone.
    pub fn credentials(&self) -> PathBuf {
        self.runtime.join("credentials")
    }

    /// A worker's `$CREDENTIALS_DIRECTORY`.
    pub fn worker_credentials(&self, worker: &WorkerId) -> PathBuf {
        self.seat_credentials(&worker.into())
    }

    /// The `$CREDENTIALS_DIRECTORY` of a worker or a task.
    pub(crate) fn seat_credentials(&self, seat: &Seat) -> PathBuf {
        self.credentials().join(seat.service.as_str()).join(&seat.name)
    }

    /// The folder of all services' own folders.
    pub fn services_state(&self) -> PathBuf {
        self.state.join("services")
    }

    /// What a service keeps: its `$STATE_DIRECTORY`.
    pub fn service_state(&self, service: &ServiceId) -> PathBuf {
        self.services_state().join(service.as_str())
    }

    /// What became of jobs.
    pub fn jobs(&self) -> PathBuf {
        self.state.join("jobs")
    }

    /// The folder of log files: the plan's, else the usual place.
    pub fn logs(&self, plan: &Plan) -> PathBuf {
        plan.logs.dir.clone().unwrap_or_else(|| self.own_logs())
    }

    /// Where watt's own processes write: `watt.log` in this folder.
    pub fn own_logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Spawner's, daemon's and proxy's own messages.
    pub fn own_log(&self) -> PathBuf {
        self.own_logs().join("watt.log")
    }

    /// Whether every socket the plan needs has a path that the kernel accepts. To be asked before anything is
    /// started.
    pub fn check(&self, plan: &Plan) -> Result<(), PlaceError> {
        let of_workers = plan.services.values().map(|service| {
            let index = service.workers.most().get() - 1;
            self.worker(&WorkerId::new(service.id.clone(), index).beside()).socket
        });
        let longest = of_workers
            .chain([self.control_socket(), self.metrics_socket()])
            .max_by_key(|path| path.as_os_str().len());
        match longest {
            Some(path) if path.as_os_str().as_bytes().len() > SOCKET_PATH_LEN_MAX => {
                Err(PlaceError::PathTooLong { path })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Creates both folders, or makes sure that those that exist are safe to use.
    pub fn create(&self, uid: u32) -> Result<(), PlaceError> {
        private_folder(&self.runtime, RUNTIME_MODE, uid)?;
        private_folder(&self.state, STATE_MODE, uid)?;
        private_folder(&self.services_state(), STATE_MODE, uid)?;
        private_folder(&self.own_logs(), LOGS_MODE, uid)
    }
}

/// XDG Base Directory Specification: a path that is not absolute is to be ignored; an empty one counts as unset.
fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Creates a folder with the ones above it. In a place like `/tmp`, anybody may have been faster, so that the
/// folder and the one above it have to be ours or root's, and nobody else's to change.
fn private_folder(path: &Path, mode: u32, uid: u32) -> Result<(), PlaceError> {
    let failed = |source| PlaceError::Create { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
        check_folder(parent, uid, true)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    check_folder(path, uid, false)?;
    // The mode of mkdir(2) is cut by the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

/// Makes a folder of the daemon's, whose mask takes nothing away from `mode`; it may be there already.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn check_folder(path: &Path, uid: u32, above: bool) -> Result<(), PlaceError> {
    let found = fs::symlink_metadata(path)
        .and_then(|found| match above && found.is_symlink() {
            // `/var/run` and the like: what counts is where it leads.
            true => fs::metadata(path),
            false => Ok(found),
        })
        .map_err(|source| PlaceError::Create { path: path.to_owned(), source })?;
    let sticky = found.mode() & 0o1000 != 0;
    if !found.is_dir() || (found.mode() & 0o022 != 0 && !(above && sticky)) {
        return Err(PlaceError::Unsafe { path: path.to_owned() });
    }
    match found.uid() {
        owner if owner == uid || (above && owner == 0) => Ok(()),
        // An administrator may start an application in a folder that a user made.
        _ if uid == 0 && above => Ok(()),
        owner => Err(PlaceError::Foreign { path: path.to_owned(), owner, uid }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(env: &[(&str, &str)], uid: u32) -> (String, String) {
        let lookup =
            |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        let places = Places::for_app(&AppName::new("shop").unwrap(), &lookup, uid);
        (places.runtime.display().to_string(), places.state.display().to_string())
    }

    #[test]
    fn root_and_users_have_their_usual_places() {
        let check = |env: &[(&str, &str)], uid, runtime: &str, state: &str| {
            assert_eq!(places(env, uid), (runtime.to_owned(), state.to_owned()), "{env:?} as {uid}");
        };
        let home = ("HOME", "/home/ann");
        check(&[home], 0, "/run/watt/shop", "/var/lib/watt/shop");
        check(&[home], 1000, "/tmp/watt-1000/shop", "/home/ann/.local/state/watt/shop");
        check(
            &[home, ("XDG_RUNTIME_DIR", "/run/user/1000"), ("XDG_STATE_HOME", "/s")],
            1000,
            "/run/user/1000/watt/shop",
            "/s/watt/shop",
        );
        check(&[("XDG_RUNTIME_DIR", "relative")], 7, "/tmp/watt-7/shop", "/var/tmp/watt-7/shop");
        check(&[("WATT_RUNTIME_DIR", "/r"), ("WATT_STATE_DIR", "/t")], 0, "/r/shop", "/t/shop");
        check(&[("WATT_RUNTIME_DIR", ""), ("WATT_STATE_DIR", "")], 0, "/run/watt/shop", "/var/lib/watt/shop");
    }

    #[test]
    fn folders_of_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let uid = fs::metadata(dir.path()).unwrap().uid();
        let places = Places { runtime: dir.path().join("a/run"), state: dir.path().join("b/state") };
        places.create(uid).unwrap();
        places.create(uid).unwrap();
        assert_eq!(fs::metadata(&places.runtime).unwrap().mode() & 0o7777, RUNTIME_MODE);
        assert_eq!(fs::metadata(&places.state).unwrap().mode() & 0o7777, STATE_MODE);

        assert!(matches!(places.create(uid + 1), Err(PlaceError::Foreign { .. })));

        fs::set_permissions(&places.runtime, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(places.create(uid), Err(PlaceError::Unsafe { .. })));

        fs::remove_dir(&places.runtime).unwrap();
        std::os::unix::fs::symlink(dir.path(), &places.runtime).unwrap();
        assert!(matches!(places.create(uid), Err(PlaceError::Unsafe { .. })));
    }
}

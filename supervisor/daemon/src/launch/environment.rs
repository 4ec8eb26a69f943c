//! A worker's environment (docs/environment.md): a function of the plan and of the few variables that are passed on.

use std::{collections::BTreeMap, path::Path};

use watt_core::plan::{Plan, Service};

use super::{Accepts, sandbox::Walls};
use crate::{places::WorkerPlaces, seat::Seat};

/// The variables a worker has from the supervisor's own environment (docs/environment.md). Everything else comes
/// from the configuration, so that a service does not depend on the shell it was started from.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TERM", "TMPDIR"];

/// What a program finds in `PATH` when the supervisor has none: the default of systemd.exec(5).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a worker has of the supervisor's environment: what still holds for it. The home of another user is none of its own,
/// and a folder in `/tmp` is not there any more.
pub(super) fn inherit(
    inherited: &BTreeMap<String, String>,
    walls: &Walls,
    service: &Service,
    state: &Path,
) -> BTreeMap<String, String> {
    let kept = |name: &str| INHERITED.contains(&name) || name.starts_with("LC_");
    let mut env: BTreeMap<String, String> = inherited
        .iter()
        .filter(|(name, _)| kept(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    env.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    if walls.sandbox.private_tmp {
        env.remove("TMPDIR");
    }
    if let Some(account) = &walls.account {
        let home = account.home.as_deref().unwrap_or(state);
        let name = account.name.as_deref().unwrap_or(service.id.as_str());
        let own = [("HOME", home.display().to_string()), ("USER", name.into()), ("LOGNAME", name.into())];
        env.extend(own.map(|(name, value)| (name.to_owned(), value)));
    }
    env
}

/// watt's own variables, which win over the configuration's.
pub(super) fn own(
    plan: &Plan,
    service: &Service,
    seat: &Seat,
    own: &WorkerPlaces,
    state: &Path,
    control: &Path,
    accepts: &Accepts,
) -> BTreeMap<String, String> {
    let path = |path: &Path| path.display().to_string();
    let mut env = BTreeMap::from([
        ("WATT_APP".to_owned(), plan.name.to_string()),
        ("WATT_SERVICE".to_owned(), seat.service.to_string()),
        ("WATT_MESH_SOCKET".to_owned(), path(&own.mesh)),
        ("WATT_ROOT".to_owned(), path(&plan.root)),
        ("STATE_DIRECTORY".to_owned(), path(state)),
    ]);
    let own_name = match seat.index {
        Some(index) => ("WATT_WORKER", index.to_string()),
        None => ("WATT_TASK", seat.name.clone()),
    };
    env.insert(own_name.0.to_owned(), own_name.1);
    match accepts {
        Accepts::Unix(socket) => {
            env.insert("WATT_SOCKET".to_owned(), path(socket));
        }
        Accepts::Inherited(socket) => {
            env.insert("WATT_SOCKET".to_owned(), path(socket));
            env.insert("LISTEN_FDS".to_owned(), "1".to_owned());
            env.insert("LISTEN_FDNAMES".to_owned(), "http".to_owned());
        }
        Accepts::Port(port) | Accepts::Found(port) => {
            env.insert("PORT".to_owned(), port.to_string());
        }
        Accepts::Nowhere => {}
    }
    if service.management.is_some() {
        env.insert("WATT_CONTROL_SOCKET".to_owned(), path(control));
    }
    if service.notifies() {
        env.insert("NOTIFY_SOCKET".to_owned(), path(&own.notify));
    }
    if service.fd_store > 0 {
        env.insert("FDSTORE".to_owned(), service.fd_store.to_string());
    }
    // sd_watchdog_enabled(3). Its `WATCHDOG_PID` may be left out, and cannot be known before there is a process.
    if let Some(every) = service.watchdog() {
        env.insert("WATCHDOG_USEC".to_owned(), every.as_micros().to_string());
    }
    env
}

/// `{socket}` and `{port}` in arguments and values.
pub(super) fn substitute(text: &str, socket: &Path, accepts: &Accepts) -> String {
    match accepts {
        Accepts::Unix(_) | Accepts::Inherited(_) => text.replace("{socket}", &socket.display().to_string()),
        Accepts::Port(port) | Accepts::Found(port) => text.replace("{port}", &port.to_string()),
        Accepts::Nowhere => text.to_owned(),
    }
}

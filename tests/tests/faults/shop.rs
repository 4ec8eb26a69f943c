//! The application that is broken, and what must be true of it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Stdio},
};

use serde_json::Value;
use watt_tests::{App, Load, User, kill, printed, wait};

/// The workers of the two services together.
const WORKERS: usize = 3;
/// Spawner, daemon and proxy.
const ROLES: usize = 3;

/// One service that needs another.
fn configuration(edition: u32) -> String {
    format!(
        r#"
name: app
services:
  db:
    command: python3 -B services/web.py
    restart: {{ backoff: {{ first: 20ms, max: 100ms }}, give_up: {{ failures: 1000, within: 1s }} }}
  web:
    command: python3 -B services/web.py
    workers: 2
    env: {{ EDITION: "{edition}" }}
    depends_on: {{ db: ready }}
    restart: {{ backoff: {{ first: 20ms, max: 100ms }}, give_up: {{ failures: 1000, within: 1s }} }}
server: {{ port: 0 }}
gateway: {{ routes: [{{ path: /, service: web }}] }}
"#
    )
}

/// It, with a folder for faults.
pub(crate) struct Shop {
    pub(crate) app: App,
    edition: u32,
}

impl Shop {
    /// With its files, and not running.
    pub(crate) fn new(user: User) -> Shop {
        let app = App::case("", user);
        app.write("watt.yaml", &configuration(0));
        app.write("faults/.keep", "");
        // The proxy of root is nobody in particular, and takes faults all the same.
        app.pass_through();
        fs::set_permissions(app.dir.join("faults"), fs::Permissions::from_mode(0o777)).expect("it is ours");
        Shop { app, edition: 0 }
    }

    /// The next one to come to this step dies there.
    pub(crate) fn arm(&self, step: &str) {
        fs::write(self.fault(step), "").expect("the folder is there");
    }

    /// Whether it has not died yet.
    pub(crate) fn is_armed(&self, step: &str) -> bool {
        self.fault(step).exists()
    }

    /// Nobody dies there any more.
    pub(crate) fn disarm(&self, step: &str) {
        // It may have been taken.
        let _ = fs::remove_file(self.fault(step));
    }

    fn fault(&self, step: &str) -> PathBuf {
        self.app.dir.join("faults").join(step)
    }

    /// Writes the configuration so that `web` has to be replaced.
    pub(crate) fn edit(&mut self) {
        self.edition += 1;
        self.app.write("watt.yaml", &configuration(self.edition));
    }

    /// Begins a command, whose own end is no matter: what it asked the dead daemon for may never be answered.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.app.wattctl(arguments);
        command.env("WATT_FAULTS", self.app.dir.join("faults"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("wattctl runs")
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, arguments: &[&str]) -> bool {
        self.begin(arguments).wait().expect("it is ours").success()
    }

    /// Starts it, and waits until all is there.
    pub(crate) fn up(&self) {
        let output = self.app.wattctl(&["up", "-d"]).env("WATT_FAULTS", self.app.dir.join("faults")).output();
        let output = output.expect("wattctl runs");
        assert!(output.status.success(), "{}", printed(&output));
        self.whole();
    }

    /// Kills a worker of `web`.
    pub(crate) fn kill_worker(&self) {
        kill("KILL", self.app.pid("web", 0));
    }

    /// Requests to `web` from now on.
    pub(crate) fn load(&self) -> Load {
        Load::start(&self.app.gateway(), "/")
    }

    /// Waits until everything is as the configuration says, and nothing else is there.
    pub(crate) fn whole(&self) -> Value {
        let status = wait("the application is whole", || {
            let status = self.app.run(&["status", "--json"]);
            let status: Value = serde_json::from_slice(&status.stdout)
                .map_err(|_| format!("no status: {}", printed(&status)))?;
            let services = status["services"].as_array().cloned().unwrap_or_default();
            let workers: Vec<&Value> =
                services.iter().filter_map(|service| service["workers"].as_array()).flatten().collect();
            let are_ready = workers.iter().all(|worker| worker["state"] == "ready");
            let left = self.app.processes().len();
            match are_ready && workers.len() == WORKERS && left == WORKERS + ROLES {
                true => Ok(status),
                false => Err(format!("{left} processes: {:?}; {status}", self.app.processes())),
            }
        });
        let exits = status["services"].as_array().into_iter().flatten();
        for worker in exits.filter_map(|service| service["workers"].as_array()).flatten() {
            assert_ne!(worker["last_exit"]["cause"], "unknown", "an end whose cause nobody knows: {worker}");
        }
        status
    }
}

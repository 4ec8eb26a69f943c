//! The package and one of its units, as an operator handles them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use serde_json::Value;
use watt_tests::{get, printed, repository, wait};

/// Where a machine has the package.
const PACKAGE: &str = "WATT_TEST_PACKAGE";

pub(crate) fn ok(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", printed(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

pub(crate) fn install() {
    let package = std::env::var(PACKAGE).expect("this is a machine of the test `vm`");
    ok("dpkg", &["--install", &package]);
}

/// A unit, in whose application there is a web server behind a gateway.
pub(crate) struct Unit {
    name: String,
    pub(crate) port: u16,
    manager: Manager,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manager {
    System,
    /// Of the ordinary user of the machine.
    User,
}

impl Unit {
    /// Writes the configuration, with `more` in its only service.
    pub(crate) fn new(name: &str, port: u16, more: &str) -> Unit {
        Unit::of(Manager::System, name, port, more)
    }

    pub(crate) fn of(manager: Manager, name: &str, port: u16, more: &str) -> Unit {
        if !Path::new("/usr/bin/wattctl").exists() {
            install();
        }
        let unit = Unit { name: name.to_owned(), port, manager };
        fs::create_dir_all(unit.dir()).expect("root may make folders");
        fs::copy(repository().join("tests/cases/services/web.py"), unit.dir().join("web.py"))
            .expect("a copy");
        unit.configure(more);
        unit
    }

    pub(crate) fn configure(&self, more: &str) {
        self.configure_at("0.0.0.0", more);
    }

    pub(crate) fn configure_at(&self, hostname: &str, more: &str) {
        let text = format!(
            "server: {{ hostname: {hostname}, port: {} }}
gateway: {{ routes: [{{ path: /, service: web }}] }}
services:
  web:
    command: python3 -B web.py
{more}",
            self.port
        );
        fs::write(self.dir().join("watt.yaml"), text).expect("a file can be written");
        if self.manager == Manager::User {
            ok("chown", &["-R", "user:user", "/home/user/.config"]);
        }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        let folder = match self.manager {
            Manager::System => "/etc/watt",
            Manager::User => "/home/user/.config/watt",
        };
        Path::new(folder).join(&self.name)
    }

    pub(crate) fn unit(&self) -> String {
        format!("watt@{}.service", self.name)
    }

    /// A command of whose manager it is.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Output {
        match self.manager {
            Manager::System => run(program, arguments),
            Manager::User => {
                let words = format!("XDG_RUNTIME_DIR=/run/user/$(id -u) {program} {}", arguments.join(" "));
                run("runuser", &["--login", "user", "--command", &words])
            }
        }
    }

    pub(crate) fn systemctl(&self, arguments: &[&str]) -> Output {
        let scope = match self.manager {
            Manager::System => "--system",
            Manager::User => "--user",
        };
        let unit = self.unit();
        let arguments: Vec<&str> =
            [scope].into_iter().chain(arguments.iter().copied()).chain([&*unit]).collect();
        self.command("systemctl", &arguments)
    }

    /// A command of systemctl(1) on this unit, which must succeed. When not, the journal says why.
    pub(crate) fn order(&self, arguments: &[&str]) -> String {
        let output = self.systemctl(arguments);
        let journal = || ok("journalctl", &["--no-pager", "-n", "60"]);
        assert!(output.status.success(), "systemctl {arguments:?}: {}\n{}", printed(&output), journal());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn start(&self) -> &Unit {
        self.order(&["start"]);
        assert_eq!(self.property("ActiveState"), "active");
        assert_eq!(self.property("SubState"), "running");
        self
    }

    pub(crate) fn property(&self, name: &str) -> String {
        self.order(&["show", "--value", "--property", name])
    }

    /// Waits for a property.
    pub(crate) fn becomes(&self, name: &str, value: &str) {
        wait(&format!("{name} of {} is {value}", self.name), || match self.property(name) {
            found if found == value => Ok(()),
            found => Err(found),
        });
    }

    pub(crate) fn status(&self) -> Value {
        let output = self.command("wattctl", &["status", "--json", "--app", &self.name]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The web server, in the status.
    pub(crate) fn web(&self) -> Value {
        let status = self.status();
        let services = status["services"].as_array().into_iter().flatten();
        services.into_iter().find(|service| service["id"] == "web").cloned().unwrap_or_default()
    }

    /// The process of its worker.
    pub(crate) fn worker(&self) -> u32 {
        pid(&self.web()["workers"][0]["pid"]).expect("the worker runs")
    }

    pub(crate) fn role(&self, role: &str) -> u32 {
        let status = self.status();
        pid(&status["supervisor"][role]).unwrap_or_else(|| panic!("no {role} in {status}"))
    }

    /// Waits until it answers, and says the worker's process.
    pub(crate) fn serves(&self) -> u32 {
        let answer = wait("it answers", || match self.get("/") {
            Ok((200, body)) => Ok(body),
            other => Err(format!("{other:?}")),
        });
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["service"], "web", "{answer}");
        wait("its status says so", || match self.web()["workers"][0]["state"].clone() {
            state if state == "ready" => Ok(()),
            state => Err(state.to_string()),
        });
        self.worker()
    }

    pub(crate) fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        get(&format!("127.0.0.1:{}", self.port), path)
    }

    /// It has been stopped as it should, and nothing of it is left.
    pub(crate) fn is_gone(&self, cgroup: &str) {
        self.becomes("ActiveState", "inactive");
        assert_eq!(self.property("Result"), "success");
        let folder = Path::new("/sys/fs/cgroup").join(cgroup.trim_start_matches('/'));
        wait(
            "its cgroup has gone",
            || if folder.exists() { Err(folder.display().to_string()) } else { Ok(()) },
        );
        let web = self.dir().display().to_string();
        let left = watt_tests::processes().into_iter().filter(|(pid, line)| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            cwd.starts_with(&web) || line.contains(&format!("--app={}", self.name))
        });
        let left: Vec<_> = left.collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(self.get("/").is_err(), "somebody still listens");
    }

    /// A part of the unit for this application alone.
    pub(crate) fn drop_in(&self, text: &str) {
        let folder = PathBuf::from(format!("/etc/systemd/system/{}.d", self.unit()));
        fs::create_dir_all(&folder).expect("root may");
        fs::write(folder.join("test.conf"), text).expect("root may");
        ok("systemctl", &["daemon-reload"]);
    }

    /// Entries of the journal, by what they must match.
    pub(crate) fn journal(&self, matches: &[&str]) -> Vec<Value> {
        let unit = self.unit();
        let arguments: Vec<&str> =
            ["-o", "json", "--all", "-u", &unit].iter().chain(matches).copied().collect();
        let lines = ok("journalctl", &arguments);
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", printed(&run("journalctl", &["--no-pager", "-n", "60"])));
        }
        self.systemctl(&["disable", "--now"]);
        self.systemctl(&["reset-failed"]);
        let _ = fs::remove_dir_all(self.dir());
        let _ = fs::remove_dir_all(format!("/etc/systemd/system/{}.d", self.unit()));
    }
}

pub(crate) fn pid(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|pid| pid.try_into().ok())
}

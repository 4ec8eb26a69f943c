//! As systemd runs it: in a unit, and in the scope of a terminal. Where the user of the tests has no manager, there is
//! nothing to try; tests/vm has one, and says with `WATT_TEST_SYSTEMD` that there has to be one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use watt_tests::{App, User, is_root, kill, printed, wait, wattctl};

/// Without a sandbox, of which older kernels do not enforce everything.
const WEB: &str = r#"
sandbox: off
services:
  web:
    command: python3 services/web.py
    limits: { memory: 64M, cpu: 1, pids: 50 }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

/// The manager of the user who runs the tests, on pure cgroup v2.
struct Systemd {
    /// What chooses it, for systemd-run(1) and systemctl(1).
    scope: &'static str,
    runtime: PathBuf,
}

impl Systemd {
    fn here() -> Option<Systemd> {
        let (scope, runtime) = match is_root() {
            true => ("--system", Some(PathBuf::from("/run"))),
            false => ("--user", std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)),
        };
        let is_pure = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let found = runtime.filter(|runtime| is_pure && runtime.join("systemd/private").exists());
        let is_expected = std::env::var_os("WATT_TEST_SYSTEMD").is_some();
        assert!(found.is_some() || !is_expected, "there is no manager here");
        found.map(|runtime| Systemd { scope, runtime })
    }

    fn app(&self) -> App {
        let app = App::case("", if is_root() { User::Root } else { User::Ordinary });
        app.write("watt.yaml", WEB);
        app
    }

    /// A command that finds the manager, and `wattctl` by its name.
    fn command(&self, app: &App, program: &str) -> Command {
        let folder = wattctl().parent().expect("it is in a folder").display().to_string();
        let mut command = app.command(program);
        command.env("PATH", format!("{folder}:/usr/bin:/bin")).env("XDG_RUNTIME_DIR", &self.runtime);
        command
    }

    fn systemctl(&self, app: &App, arguments: &[&str]) -> String {
        ok(self.command(app, "systemctl").arg(self.scope).args(arguments))
    }

    /// Starts `wattctl up` as a unit. Returns the directory of its cgroup.
    fn start(&self, app: &App, unit: &str) -> PathBuf {
        let mut run = self.command(app, "systemd-run");
        run.args([
            self.scope,
            "--quiet",
            "--collect",
            "--unit",
            unit,
            "-p",
            "Delegate=yes",
            "-p",
            "KillMode=mixed",
        ]);
        run.arg("--working-directory").arg(&app.dir);
        run.args(
            ["PATH", "HOME", "WATT_RUNTIME_DIR", "WATT_STATE_DIR"].map(|name| format!("--setenv={name}")),
        );
        ok(run.args(["wattctl", "up"]));
        ready(app);
        let path = self.systemctl(app, &["show", "--property=ControlGroup", "--value", unit]);
        Path::new("/sys/fs/cgroup").join(path.trim().trim_start_matches('/'))
    }
}

fn ok(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", printed(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn ready(app: &App) {
    wait("it is ready", || {
        let output = app.run(&["status", "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("\"state\": \"ready\"") { Ok(()) } else { Err(printed(&output)) }
    });
}

fn spawner(app: &App) -> u32 {
    let pid = app.status()["supervisor"]["spawner_pid"].as_u64();
    pid.and_then(|pid| pid.try_into().ok()).expect("a pid")
}

fn gone(unit: &Path) {
    wait(
        "the unit's cgroup has gone",
        || if unit.exists() { Err(unit.display().to_string()) } else { Ok(()) },
    );
}

#[test]
fn a_unit_is_started_restarted_killed_and_stopped_and_leaves_nothing() {
    let Some(systemd) = Systemd::here() else { return };
    let app = systemd.app();
    let unit = format!("watt-test-{}.service", std::process::id());

    let cgroup = systemd.start(&app, &unit);
    let (first, worker) = (spawner(&app), app.pid("web", 0));
    let of_worker = fs::read_to_string(format!("/proc/{worker}/cgroup")).expect("it runs");
    assert!(of_worker.contains(&format!("{unit}/app-")) && of_worker.ends_with("/web/0\n"), "{of_worker}");
    assert_eq!(app.service("web")["unenforced"].as_array().map(Vec::len), Some(0));

    systemd.systemctl(&app, &["restart", &unit]);
    ready(&app);
    assert_ne!(spawner(&app), first);
    let workers: Vec<_> = app.processes().into_iter().filter(|(_, line)| line.contains("web.py")).collect();
    assert_eq!(workers.len(), 1, "{workers:?}");

    // The whole unit goes with the spawner, and another one finds its place free.
    kill("KILL", spawner(&app));
    gone(&cgroup);
    wait("every process has ended", || match app.processes() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    let cgroup = systemd.start(&app, &unit);
    systemd.systemctl(&app, &["stop", &unit]);
    app.assert_gone();
    gone(&cgroup);
}

#[test]
fn a_terminal_stays_in_its_scope_and_what_up_advises_turns_cgroups_on() {
    let Some(systemd) = Systemd::here().filter(|_| !is_root()) else { return };
    let app = systemd.app();
    let unenforced = || app.service("web")["unenforced"].to_string();

    let mut terminal = systemd.command(&app, "systemd-run");
    terminal.args(["--user", "--scope", "--quiet", "--collect", "sh", "-c"]);
    let up = output(
        terminal
            .arg("wattctl up -d; cat /proc/self/cgroup; ls /sys/fs/cgroup$(cut -d : -f 3 /proc/self/cgroup)"),
    );
    let (said, warned) = (String::from_utf8_lossy(&up.stdout), String::from_utf8_lossy(&up.stderr));
    assert!(up.status.success(), "{}", printed(&up));
    assert!(said.lines().any(|line| line.starts_with("0::/") && line.ends_with(".scope")), "{said}");
    assert!(!said.lines().any(|line| line == "supervisor"), "{said}");
    assert!(unenforced().contains("memory"), "{}", unenforced());
    app.down();

    let advice = warned.lines().find_map(|line| line.split("to turn on: ").nth(1));
    let advice = advice.unwrap_or_else(|| panic!("no advice in {warned}"));
    assert!(advice.starts_with("systemd-run --user --scope"), "{advice}");
    ok(systemd.command(&app, "sh").args(["-c", &format!("{advice} -d")]));
    assert_eq!(unenforced(), "[]");
    app.down();
}

//! What an operator reads when something is wrong: what it was, where, and what to do; with the documented exit code, as text
//! and as JSON.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command, Output, Stdio},
};

use insta::{Settings, assert_snapshot};
use watt_tests::{App, User, is_root};

const SLEEPER: &str = "services:\n  db: { command: sleep 1000, listen: none }\n";

/// The exit code and what was printed.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let mut said = format!("exit {}", output.status.code().unwrap_or(-1));
    for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            said.push_str(&format!("\n{stream}:\n{}", text(bytes)));
        }
    }
    said
}

/// Snapshots without what differs from run to run.
fn settings(app: &App) -> Settings {
    let mut settings = Settings::clone_current();
    let home = app.dir.parent().expect("an application's folder has one above it");
    settings.add_filter(&home.display().to_string(), "[HOME]");
    settings.add_filter(r"pid \d+", "pid [PID]");
    settings.add_filter(r"127\.0\.0\.1:\d{4,}", "127.0.0.1:[PORT]");
    settings.add_filter(r"PATH: [^ \n]+", "PATH: [PATH]");
    settings
}

macro_rules! check {
    ($app:expr, $arguments:expr, @$expected:literal) => {
        check_output!($app, $app.run(&$arguments), @$expected)
    };
}

macro_rules! check_output {
    ($app:expr, $output:expr, @$expected:literal) => {{
        let output = $output;
        settings(&$app).bind(|| assert_snapshot!(said(&output), @$expected));
    }};
}

#[test]
fn no_configuration() {
    let app = App::empty(User::Ordinary);
    check!(app, ["up", "-d"], @r#"
    exit 3
    stderr:
    error: no configuration file (watt.yaml, watt.yml, watt.json, watt.toml) in [HOME]/app or a folder above it
     hint: make a watt.yaml there, or name the folder or file of the application
    "#);
    check!(app, ["up", "-d", "--json"], @r#"
    exit 3
    stderr:
    {"error":{"code":"config","message":"no configuration file (watt.yaml, watt.yml, watt.json, watt.toml) in [HOME]/app or a folder above it","hint":"make a watt.yaml there, or name the folder or file of the application"}}
    "#);
    check!(app, ["up", "nowhere"], @r#"
    exit 3
    stderr:
    error: [HOME]/app/nowhere does not exist
     hint: name the folder or the configuration file of the application
    "#);
    app.write("watt.yaml", "");
    app.write("watt.json", "");
    check!(app, ["config", "check"], @r#"
    exit 3
    stderr:
    error: [HOME]/app has more than one configuration file: watt.yaml, watt.json
     hint: name one of them, or remove the others
    "#);
}

#[test]
fn a_wrong_configuration() {
    let app = App::yaml("services:\n  db: { comand: sleep 1, listen: none, wrokers: 2 }\n", User::Ordinary);
    check!(app, ["up", "-d"], @r#"
    exit 3
    stderr:
    error: unknown key `comand` in `services.db`
     --> watt.yaml:2:9
      |
    2 |   db: { comand: sleep 1, listen: none, wrokers: 2 }
      |         ^^^^^^
      = hint: did you mean `command`?

    error: unknown key `wrokers` in `services.db`
     --> watt.yaml:2:40
      |
    2 |   db: { comand: sleep 1, listen: none, wrokers: 2 }
      |                                        ^^^^^^^
      = hint: did you mean `workers`?
    "#);
    check!(app, ["up", "-d", "--json"], @r#"
    exit 3
    stderr:
    {"error":{"errors":[{"file":"[HOME]/app/watt.yaml","line":2,"column":9,"end_line":2,"end_column":15,"message":"unknown key `comand` in `services.db`","hint":"did you mean `command`?","related":null},{"file":"[HOME]/app/watt.yaml","line":2,"column":40,"end_line":2,"end_column":47,"message":"unknown key `wrokers` in `services.db`","hint":"did you mean `workers`?","related":null}],"omitted":0,"code":"config","message":"the configuration is wrong"}}
    "#);
    check!(app, ["config", "check", "--json"], @r#"
    exit 3
    stderr:
    {"error":{"errors":[{"file":"[HOME]/app/watt.yaml","line":2,"column":9,"end_line":2,"end_column":15,"message":"unknown key `comand` in `services.db`","hint":"did you mean `command`?","related":null},{"file":"[HOME]/app/watt.yaml","line":2,"column":40,"end_line":2,"end_column":47,"message":"unknown key `wrokers` in `services.db`","hint":"did you mean `workers`?","related":null}],"omitted":0,"code":"config","message":"the configuration is wrong"}}
    "#);
}

#[test]
fn a_service_that_is_only_text() {
    let app = App::yaml("services:\n  db: sleep 1000\n", User::Ordinary);
    check!(app, ["up", "-d"], @r#"
    exit 3
    stderr:
    error: `services.db` is a table of keys, and this is text
     --> watt.yaml:2:7
      |
    2 |   db: sleep 1000
      |       ^^^^^^^^^^
      = hint: for example `command: ["node", "server.js"]`
    "#);
}

#[test]
fn a_program_that_is_not_there() {
    let app = App::yaml("services:\n  db: { command: no-such-program, listen: none }\n", User::Ordinary);
    check!(app, ["up", "-d"], @r#"
    exit 3
    stderr:
    error: the program `no-such-program` is in no folder of PATH: [PATH]
     --> watt.yaml:2:18
      |
    2 |   db: { command: no-such-program, listen: none }
      |                  ^^^^^^^^^^^^^^^
      = hint: install it, or write its path: `./no-such-program` or `/…/no-such-program`
    "#);
}

#[test]
fn two_services_of_one_id() {
    let text = "services:\n  - { id: db, command: sleep 1 }\n  - { id: db, command: sleep 2 }\n";
    check!(App::yaml(text, User::Ordinary), ["up", "-d"], @r#"
    exit 3
    stderr:
    error: two services are called `db`
     --> watt.yaml:3:11
      |
    3 |   - { id: db, command: sleep 2 }
      |           ^^
      = note: the first one is here
     --> watt.yaml:2:11
      |
    2 |   - { id: db, command: sleep 1 }
      |           ^^
      = hint: give one of them another name
    "#);
}

#[test]
fn a_circle_of_dependencies() {
    let app = App::yaml(
        "services:
  a: { command: sleep 1, depends_on: [b] }
  b: { command: sleep 1, depends_on: [c] }
  c: { command: sleep 1, depends_on: [a] }
",
        User::Ordinary,
    );
    check!(app, ["up", "-d"], @r#"
    exit 3
    stderr:
    error: services depend on each other in a circle: a -> b -> c -> a
     --> watt.yaml:4:39
      |
    4 |   c: { command: sleep 1, depends_on: [a] }
      |                                       ^
      = hint: none of them could ever start; remove one of the dependencies
    "#);
}

#[test]
fn an_env_file_that_cannot_be_read() {
    let app = App::yaml(SLEEPER, User::Ordinary);
    app.write(".env", "A=1\n");
    fs::set_permissions(app.dir.join(".env"), fs::Permissions::from_mode(0o000)).expect("it is ours");
    check!(app, ["up", "-d"], @r#"
    exit 3
    stderr:
    error: cannot read [HOME]/app/.env: permission denied
     --> .env
      = hint: make it a file that the user who runs watt can read
    "#);
    fs::set_permissions(app.dir.join(".env"), fs::Permissions::from_mode(0o600)).expect("it is ours");
    app.write(".env", "A=1\nB=\"never closed\n");
    check!(app, ["up", "-d"], @r#"
    exit 3
    stderr:
    error: the quote " is never closed
     --> .env:2:3
      |
    2 | B="never closed
      |   ^
    "#);
}

#[test]
fn a_socket_path_the_kernel_would_not_take() {
    let app = App::yaml(SLEEPER, User::Ordinary);
    let long = format!("/tmp/{}", "x".repeat(100));
    check_output!(app, app.wattctl(&["up", "-d"]).env("WATT_RUNTIME_DIR", long).output().expect("it runs"), @r#"
    exit 7
    stderr:
    error: socket path /tmp/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/app/workers/db/0b/worker.sock has 135 bytes; the kernel's limit is 107
     hint: set WATT_RUNTIME_DIR to a shorter path, or shorten the names of the application and the service
    "#);
}

#[test]
fn a_folder_that_may_not_be_made() {
    let app = App::yaml(SLEEPER, User::Ordinary);
    let up = |arguments: &[&str]| {
        app.wattctl(arguments).env("WATT_RUNTIME_DIR", "/usr/watt-test").output().expect("it runs")
    };
    check_output!(app, up(&["up", "-d"]), @r#"
    exit 6
    stderr:
    error: cannot create folder /usr/watt-test/app: Permission denied (os error 13)
     hint: set WATT_RUNTIME_DIR and WATT_STATE_DIR to folders of your own
    "#);
    check_output!(app, up(&["up", "-d", "--json"]), @r#"
    exit 6
    stderr:
    {"error":{"code":"denied","message":"cannot create folder /usr/watt-test/app: Permission denied (os error 13)","hint":"set WATT_RUNTIME_DIR and WATT_STATE_DIR to folders of your own"}}
    "#);
}

/// A program of the application's user that listens on a port that was free.
struct Neighbour {
    process: Child,
    port: u16,
}

impl Neighbour {
    fn listen(app: &App) -> Neighbour {
        let program = "import socket, time\n\
            s = socket.create_server(('127.0.0.1', 0))\n\
            print(s.getsockname()[1], flush=True)\n\
            time.sleep(1000)";
        let mut process = app
            .command("python3")
            .args(["-c", program])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it says its port");
        Neighbour { process, port: line.trim().parse().expect("a port") }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn with_gateway(app: &App, port: u16) {
    app.write(
        "watt.yaml",
        &format!(
            "server: {{ hostname: 127.0.0.1, port: {port} }}
gateway: {{ routes: [{{ path: /, service: db }}] }}
services: {{ db: {{ command: sleep 1000 }} }}
"
        ),
    );
}

#[test]
fn a_port_that_is_taken() {
    let app = App::empty(User::Ordinary);
    let neighbour = Neighbour::listen(&app);
    with_gateway(&app, neighbour.port);
    check!(app, ["up", "-d"], @r#"
    exit 7
    stderr:
    error: cannot listen on 127.0.0.1:[PORT]: the port is taken by python3 (pid [PID])
     hint: stop that process, or set another `server.port`
    "#);
    check!(app, ["up", "-d", "--json"], @r#"
    exit 7
    stderr:
    {"error":{"code":"host","message":"cannot listen on 127.0.0.1:[PORT]: the port is taken by python3 (pid [PID])","hint":"stop that process, or set another `server.port`"}}
    "#);
}

#[test]
fn a_port_that_an_ordinary_user_may_not_have() {
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if start.trim().parse::<u16>().is_ok_and(|start| start <= 80) {
        return;
    }
    let app = App::empty(User::Ordinary);
    with_gateway(&app, 80);
    check!(app, ["up", "-d"], @r#"
    exit 6
    stderr:
    error: cannot listen on 127.0.0.1:80: Permission denied (os error 13)
     hint: ports below 1024 are for root, unless the sysctl net.ipv4.ip_unprivileged_port_start allows them
    "#);
}

#[test]
fn nothing_runs() {
    let app = App::yaml(SLEEPER, User::Ordinary);
    check!(app, ["status"], @r#"
    exit 4
    stderr:
    error: the application of [HOME]/app/watt.yaml is not running
     hint: `wattctl up` starts one
    "#);
    check!(app, ["down", "--json"], @r#"
    exit 4
    stderr:
    {"error":{"code":"not_running","message":"the application of [HOME]/app/watt.yaml is not running","hint":"`wattctl up` starts one"}}
    "#);
    check!(app, ["logs", "--app", "shop"], @r#"
    exit 4
    stderr:
    error: no application "shop" is running
     hint: `wattctl up` starts one
    "#);
}

#[test]
fn a_running_application() {
    let app = App::yaml(SLEEPER, User::Ordinary);
    app.up();
    check!(app, ["up", "-d"], @r#"
    exit 5
    stderr:
    error: app is running already from [HOME]/app/watt.yaml (pid [PID])
     hint: `wattctl status` shows it, `wattctl down` stops it; `name:` or --app runs another one beside it
    "#);
    check!(app, ["up", "-d", "--json"], @r#"
    exit 5
    stderr:
    {"error":{"code":"already_running","message":"app is running already from [HOME]/app/watt.yaml (pid [PID])","hint":"`wattctl status` shows it, `wattctl down` stops it; `name:` or --app runs another one beside it"}}
    "#);
    check!(app, ["restart", "dc"], @r#"
    exit 1
    stderr:
    error: there is no service "dc"
     hint: its services are db
    "#);
    check!(app, ["inspect", "dc", "--json"], @r#"
    exit 1
    stderr:
    {"error":{"code":"failed","message":"there is no service \"dc\"","hint":"its services are db"}}
    "#);
    check!(app, ["logs", "dc"], @r#"
    exit 1
    stderr:
    error: there is no service "dc"
     hint: its services are db
    "#);
    check!(app, ["inject", "dc", "/"], @r#"
    exit 1
    stdout:
    {"error":{"status":404,"service":"dc","reason":"unknown_service","message":"There is no service `dc`. Did you mean `db`?"}}
    "#);
    check!(app, ["logs", "--since", "yesterday"], @r#"
    exit 2
    stderr:
    error: "yesterday" is neither a time span nor a time
     hint: write 90s, 10m, 2h or 2026-11-26T08:00:00Z
    "#);
    check!(app, ["inject", "db", "-H", "no colon"], @r#"
    exit 2
    stderr:
    error: "no colon" is not a header
     hint: write 'name: value'
    "#);
    check!(app, ["status", "--app", "shop"], @r#"
    exit 4
    stderr:
    error: no application "shop" is running
     hint: running: app; name one with --app
    "#);
    app.down();
}

#[test]
fn a_command_line_that_makes_no_sense() {
    let app = App::empty(User::Ordinary);
    check!(app, ["statsu"], @r#"
    exit 2
    stderr:
    error: unrecognized subcommand 'statsu'

      tip: some similar subcommands exist: 'tasks', 'start', 'status'

    Usage: wattctl <COMMAND>

    For more information, try '--help'.
    "#);
    check!(app, ["status", "--wrokers"], @r#"
    exit 2
    stderr:
    error: unexpected argument '--wrokers' found

      tip: a similar argument exists: '--workers'

    Usage: wattctl status --workers

    For more information, try '--help'.
    "#);
    check!(app, ["inspect"], @r#"
    exit 2
    stderr:
    error: the following required arguments were not provided:
      <SERVICE>

    Usage: wattctl inspect <SERVICE>

    For more information, try '--help'.
    "#);
}

#[test]
fn a_wrong_command_line_for_programs() {
    let app = App::yaml(SLEEPER, User::Ordinary);
    check!(app, ["status", "--jsn", "--json"], @r#"
    exit 2
    stderr:
    {"error":{"code":"usage","message":"unexpected argument '--jsn' found","hint":"a similar argument exists: '--json'"}}
    "#);
    check!(app, ["logs", "--json", "--tail", "x"], @r#"
    exit 2
    stderr:
    {"error":{"code":"usage","message":"invalid value 'x' for '--tail <LINES>': invalid digit found in string","hint":"For more information, try '--help'."}}
    "#);
    check!(app, ["inspect", "--json"], @r#"
    exit 2
    stderr:
    {"error":{"code":"usage","message":"the following required arguments were not provided: <SERVICE>","hint":"Usage: wattctl inspect --json <SERVICE>"}}
    "#);
    check!(app, ["doctorr", "--json"], @r#"
    exit 2
    stderr:
    {"error":{"code":"usage","message":"unrecognized subcommand 'doctorr'","hint":"a similar subcommand exists: 'doctor'"}}
    "#);
}

#[test]
fn an_application_of_another_user() {
    if !is_root() {
        return;
    }
    let app = App::yaml(SLEEPER, User::Root);
    let home = app.dir.parent().expect("it has one");
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("it is ours");
    app.up();
    let as_nobody = |arguments: &[&str]| -> Output {
        let mut command: Command = app.wattctl(arguments);
        command.uid(65534).gid(65534).output().expect("it runs")
    };
    check_output!(app, as_nobody(&["status"]), @r#"
    exit 6
    stderr:
    error: no permission to use [HOME]/run/app/control.sock: Permission denied (os error 13)
     hint: run it as the user who started the application, or as root
    "#);
    check_output!(app, as_nobody(&["down", "--json"]), @r#"
    exit 6
    stderr:
    {"error":{"code":"denied","message":"no permission to use [HOME]/run/app/control.sock: Permission denied (os error 13)","hint":"run it as the user who started the application, or as root"}}
    "#);
    app.down();
}

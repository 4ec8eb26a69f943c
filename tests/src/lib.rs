//! The end-to-end harness: the real program, real processes, the real kernel.
//!
//! A test copies a folder of `cases/` to a place of its own, starts it with `wattctl up -d`, and asks questions through
//! `wattctl` and the gateway. Nothing is shared between tests and nothing sleeps: [`wait`] asks until the answer is
//! the wanted one, and says the last answer when it never was. When an [`App`] is dropped, everything it started must be
//! gone; what is left fails the test.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

mod load;
pub mod traffic;

pub use load::{Load, Tally};

/// How long [`wait`] asks. Generous, because a loaded machine is slow and a passed test does not wait.
const PATIENCE: Duration = Duration::from_secs(120);
/// The ordinary user of the tests: `nobody`.
const NOBODY: u32 = 65534;

/// Who runs `wattctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// The one who runs the tests, when that is root.
    Root,
    /// An ordinary user: `nobody`, or the one who runs the tests.
    Ordinary,
}

/// Whether the tests themselves run as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Runs a test for each kind of user there is.
pub fn for_each_user(test: impl Fn(User)) {
    if is_root() {
        test(User::Root);
    }
    test(User::Ordinary);
}

/// An application under test, in folders of its own.
pub struct App {
    /// Where its files are; `watt.yaml` is there.
    pub dir: PathBuf,
    /// Who runs it.
    pub user: User,
    home: tempfile::TempDir,
}

impl App {
    /// A copy of `cases/<case>`.
    pub fn case(case: &str, user: User) -> App {
        let app = App::empty(user);
        copy_dir(&repository().join("tests/cases").join(case), &app.dir);
        app.give_away();
        app
    }

    /// A copy of `examples/<example>`.
    pub fn example(example: &str, user: User) -> App {
        let app = App::empty(user);
        copy_dir(&repository().join("examples").join(example), &app.dir);
        app.give_away();
        app
    }

    /// An application of one file with this text.
    pub fn yaml(text: &str, user: User) -> App {
        let app = App::empty(user);
        app.write("watt.yaml", text);
        app
    }

    /// An application without files.
    pub fn empty(user: User) -> App {
        // Short, because the paths of sockets may have 107 bytes only.
        let home = tempfile::Builder::new().prefix("wt").tempdir_in("/tmp").expect("a folder in /tmp");
        let dir = home.path().join("app");
        fs::create_dir(&dir).expect("an empty folder");
        let app = App { dir, user, home };
        app.give_away();
        app
    }

    /// Writes a file of the application.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a folder");
        }
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        self.give_away();
    }

    /// Everything belongs to the user of the test.
    fn give_away(&self) {
        if is_root() && self.user == User::Ordinary {
            chown_all(self.home.path(), NOBODY);
        }
    }

    /// A `wattctl` command line, run in the application's folder with nothing inherited but what is set here.
    pub fn wattctl(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&wattctl().display().to_string());
        command.args(arguments);
        command
    }

    /// `wattctl` in the application's folder, for its services: where this repository is below `/tmp`, they do not see the one that was built.
    pub fn own_wattctl(&self) -> PathBuf {
        let own = self.dir.join("own-wattctl");
        if !own.exists() {
            fs::hard_link(wattctl(), &own).or_else(|_| fs::copy(wattctl(), &own).map(drop)).expect("a copy");
        }
        own
    }

    /// A command as the application's user would run it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home.path())
            .env("LANG", "C.UTF-8")
            .env("WATT_RUNTIME_DIR", self.home.path().join("run"))
            .env("WATT_STATE_DIR", self.home.path().join("state"));
        if is_root() && self.user == User::Ordinary {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs `wattctl` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.wattctl(arguments).output().expect("wattctl runs")
    }

    /// Runs `wattctl`, which must succeed; returns what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "wattctl {arguments:?} as {:?}: {}", self.user, printed(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `wattctl … --json`, which must succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let text = self.ok(&arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("wattctl {arguments:?}: {error}: {text}"))
    }

    /// Starts it and waits until every service is ready.
    pub fn up(&self) -> &App {
        self.ok(&["up", "-d"]);
        self
    }

    /// Begins to start it, and waits until there is somebody who answers: it may never be ready.
    pub fn begin_up(&self) -> Child {
        let up = self.wattctl(&["up", "-d"]).stderr(Stdio::null()).spawn().expect("wattctl runs");
        wait("it answers", || match self.run(&["status", "--json"]) {
            output if output.stdout.starts_with(b"{") => Ok(()),
            output => Err(printed(&output)),
        });
        up
    }

    /// Ends it at once, and what [`App::begin_up`] has begun.
    pub fn end_up(&self, mut up: Child) {
        // It may have ended by itself.
        let _ = up.kill();
        let _ = up.wait();
        self.ok(&["down", "--now"]);
    }

    /// Kills the daemon, and waits until its successor answers.
    pub fn kill_daemon(&self) {
        let supervisor = self.status()["supervisor"].clone();
        let restarts = supervisor["daemon_restarts"].as_u64().expect("a number") + 1;
        let pid = supervisor["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
        kill("KILL", pid.expect("a pid"));
        wait("a new daemon answers", || match self.status() {
            status if status["supervisor"]["daemon_restarts"] == restarts => Ok(()),
            status => Err(status.to_string()),
        });
    }

    /// `wattctl status`, whatever its exit code.
    pub fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("wattctl status: {}", printed(&output)))
    }

    /// The runtime folder of an application that has the name of its folder.
    pub fn runtime(&self) -> PathBuf {
        self.home.path().join("run/app")
    }

    /// Lets every user through to the runtime folder.
    pub fn pass_through(&self) {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o711);
        fs::set_permissions(self.home.path(), mode).expect("it is ours");
    }

    /// What the supervisor's own processes have written.
    pub fn own_log(&self) -> String {
        let file = self.home.path().join("state/app/logs/watt.log");
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// One service of the status.
    pub fn service(&self, service: &str) -> Value {
        let status = self.status();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        services
            .into_iter()
            .find(|entry| entry["id"] == service)
            .unwrap_or_else(|| panic!("no {service} in {status}"))
    }

    /// One worker of the status.
    pub fn worker(&self, service: &str, index: usize) -> Value {
        self.service(service)["workers"][index].clone()
    }

    /// The main process of a worker.
    pub fn pid(&self, service: &str, index: usize) -> u32 {
        let worker = self.worker(service, index);
        worker["pid"]
            .as_u64()
            .and_then(|pid| pid.try_into().ok())
            .unwrap_or_else(|| panic!("no pid in {worker}"))
    }

    /// `host:port` of the gateway.
    pub fn gateway(&self) -> String {
        let status = self.status();
        let url = status["gateway"].as_str().unwrap_or_else(|| panic!("no gateway in {status}"));
        url.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    /// GET through the gateway: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(&self.gateway(), path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Stops it; it must say that all went well.
    pub fn down(&self) {
        self.ok(&["down"]);
        self.assert_gone();
    }

    /// No process has this application's folder as its working directory, and no runtime folder is left.
    pub fn assert_gone(&self) {
        wait("every process has ended", || match self.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        let left: Vec<_> =
            fs::read_dir(self.home.path().join("run")).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "left in the runtime folder: {left:?}");
    }

    /// Processes that work in this application's folder, or are watt's own for it: those have its places in their
    /// environment, or a parent that has.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let home = self.home.path().to_string_lossy().into_owned();
        let own = |pid: u32| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            cwd.starts_with(&home) || String::from_utf8_lossy(&environment).contains(&home)
        };
        processes()
            .into_iter()
            .filter(|(pid, command)| {
                let is_own = own(*pid) || command.contains(&home) || parent(*pid).is_some_and(own);
                *pid != std::process::id() && is_own
            })
            .collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let output = self.run(&["down", "--now"]);
        if !std::thread::panicking() {
            self.assert_gone();
            return;
        }
        // What a failed test leaves would disturb the others; what it said helps to see why.
        eprintln!("down: {}", printed(&output));
        let log = fs::read_dir(self.home.path().join("state")).into_iter().flatten().flatten();
        for entry in log {
            let text = fs::read_to_string(entry.path().join("logs/watt.log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(40).collect();
            eprintln!(
                "{}:\n{}",
                entry.path().display(),
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        for (pid, command) in self.processes() {
            eprintln!("killing {pid} {command}");
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Every process with its command line.
pub fn processes() -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let zombie = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
        (!zombie).then(|| (pid, String::from_utf8_lossy(&command).replace('\0', " ")))
    })
    .collect()
}

/// Sends a signal to a process that a test started.
pub fn kill(signal: &str, pid: u32) {
    let status =
        Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().expect("kill runs");
    assert!(status.success(), "kill -{signal} {pid}");
}

/// A port of this host that nobody has. It is none of those that the kernel gives to whoever asks for any, so that it is still free when
/// it is used.
pub fn free_port() -> u16 {
    let of_kernel = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = of_kernel.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(32768u16);
    let lowest = 10_000.min(first / 2);
    let count = u32::from(first - lowest);
    // Tests that run at the same time begin in other places.
    let begin = std::process::id().wrapping_mul(31) % count;
    let mut ports = (0..count).map(|nth| lowest + ((begin + nth) % count) as u16);
    ports.find(|port| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok()).expect("a free port")
}

/// GET over a connection of its own: status and body.
pub fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let answer =
        exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok((
        status,
        if head.to_lowercase().contains("transfer-encoding: chunked") {
            dechunk(body)
        } else {
            body.to_owned()
        },
    ))
}

/// Sends bytes and reads until the other side closes.
pub fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn dechunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    text
}

/// Asks until the answer is `Ok`; fails with the last answer when it never is.
pub fn wait<T>(what: &str, ask: impl FnMut() -> Result<T, String>) -> T {
    wait_within(PATIENCE, what, ask)
}

/// The same for what takes its time, such as a limit of watt's own that has to pass.
pub fn wait_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(value) => return value,
            Err(last) => assert!(started.elapsed() < patience, "waited in vain until {what}; last: {last}"),
        }
        // Between two questions only; the condition decides.
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// What a command printed, for messages.
pub fn printed(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The root of the repository these tests were built from, or of what a machine of the test `vm` has of it.
pub fn repository() -> PathBuf {
    match std::env::var_os("WATT_TEST_REPOSITORY") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is one below").to_owned(),
    }
}

/// The `wattctl` that was built beside these tests; `WATTCTL` names another one.
pub fn wattctl() -> PathBuf {
    if let Some(path) = std::env::var_os("WATTCTL") {
        return path.into();
    }
    // target/<profile>/deps/<test> -> target/<profile>/wattctl
    let test = std::env::current_exe().expect("a test has a path");
    let built =
        test.parent().and_then(Path::parent).expect("a test lies two below the profile").join("wattctl");
    assert!(built.exists(), "{} is not there: run `cargo build -p wattctl` first", built.display());
    built
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())).flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("a folder");
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

fn chown_all(path: &Path, owner: u32) {
    let _ = std::os::unix::fs::lchown(path, Some(owner), Some(owner));
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            chown_all(&entry.path(), owner);
        }
    }
}

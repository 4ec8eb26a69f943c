//! Another version of watt takes over while traffic flows, or does not, and the one before goes on.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;
use watt_tests::{App, Load, User, for_each_user, kill, printed, wait, wattctl};

const LONG: &str = r#"
services:
  long: { command: python3 services/long.py, workers: 2, limits: { nofile: 512 } }
  other: { command: python3 services/long.py, network: host, restart: { backoff: { first: 50ms } } }
server: { port: 0 }
gateway: { routes: [{ path: /other, service: other, strip: true }, { path: /, service: long }] }
"#;

fn start(user: User) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", LONG);
    app.pass_through();
    app.up();
    app
}

/// A program with this fault, or the real one under the name `real`.
fn program(app: &App, name: &str) -> String {
    let real = app.dir.join("real");
    if !real.exists() {
        fs::copy(wattctl(), &real).expect("a copy of wattctl");
    }
    let path = app.dir.join(name);
    if !path.exists() {
        fs::copy(env!("CARGO_BIN_EXE_double"), &path).expect("a copy of the double");
    }
    path.display().to_string()
}

fn own(app: &App, whose: &str) -> u32 {
    let status = app.status();
    let pid = status["supervisor"][whose].as_u64().and_then(|pid| pid.try_into().ok());
    pid.unwrap_or_else(|| panic!("no {whose} in {status}"))
}

/// Every worker's pid, and how often it was restarted.
fn workers(app: &App) -> Vec<(u32, u64)> {
    let status = app.status();
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let workers =
        services.iter().flat_map(|service| service["workers"].as_array().cloned().unwrap_or_default());
    let worker = |worker: Value| {
        let pid = worker["pid"].as_u64().and_then(|pid| pid.try_into().ok());
        (pid.unwrap_or_else(|| panic!("no pid in {worker}")), worker["restarts"].as_u64().unwrap_or_default())
    };
    workers.map(worker).collect()
}

fn upgrade(app: &App, to: &str, more: &[&str]) -> Output {
    let arguments: Vec<&str> =
        ["upgrade", "--json", "--to", to].into_iter().chain(more.iter().copied()).collect();
    app.run(&arguments)
}

fn begin(app: &App, to: &str, more: &[&str]) -> Child {
    let mut command = app.wattctl(&["upgrade", "--json", "--to", to]);
    command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("wattctl runs")
}

fn finished(child: Child) -> (bool, Value) {
    let output = child.wait_with_output().expect("wattctl ends");
    let state = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", printed(&output)));
    (output.status.success(), state)
}

fn steps(state: &Value) -> Vec<&str> {
    let steps = state["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    steps.iter().filter_map(|step| step["step"].as_str()).collect()
}

fn has_event(app: &App, kind: &str) -> Value {
    wait(kind, || {
        let events = app.ok(&["events", "--json"]);
        let mut events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.find(|event| event["kind"] == kind).ok_or_else(|| app.own_log())
    })
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the gateway accepts");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream
}

/// What a worker has that it must not inherit from whoever upgrades.
fn inherited(pid: u32) -> (BTreeSet<String>, Vec<String>) {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let varies = |name: &&str| !name.is_empty() && !name.starts_with("LISTEN_PID=");
    let environment = environment.split('\0').filter(varies).map(str::to_owned).collect();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let fields = [
        "Uid:",
        "Gid:",
        "Groups:",
        "Umask:",
        "SigBlk:",
        "SigIgn:",
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
        "Seccomp:",
        "Cpus_allowed:",
    ];
    let mut rest: Vec<String> = status
        .lines()
        .filter(|line| fields.iter().any(|field| line.starts_with(field)))
        .map(str::to_owned)
        .collect();
    for file in ["limits", "oom_score_adj", "cgroup"] {
        rest.push(fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default());
    }
    for link in ["cwd", "root", "ns/net", "ns/mnt", "ns/pid", "ns/user"] {
        let target = fs::read_link(format!("/proc/{pid}/{link}")).unwrap_or_default();
        rest.push(target.display().to_string());
    }
    (environment, rest)
}

/// Connections that live on for longer than any of watt's own processes.
struct Lives {
    stop: Arc<AtomicBool>,
    echo: JoinHandle<u64>,
    stream: JoinHandle<u64>,
    upload: JoinHandle<String>,
}

impl Lives {
    fn start(address: &str) -> Lives {
        let stop = Arc::new(AtomicBool::new(false));
        let of = || (Arc::clone(&stop), address.to_owned());
        let (echo_of, stream_of, upload_of) = (of(), of(), of());
        Lives {
            echo: thread::spawn(move || echo(&echo_of.0, &echo_of.1)),
            stream: thread::spawn(move || stream(&stream_of.0, &stream_of.1)),
            upload: thread::spawn(move || upload(&upload_of.0, &upload_of.1)),
            stop,
        }
    }

    /// Each must have come to its end, with something to show for it.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.echo.join().expect("the tunnel lives on") > 0);
        assert!(self.stream.join().expect("the stream goes on") > 0);
        assert!(self.upload.join().expect("the upload is answered").ends_with(" bytes"));
    }
}

/// A protocol of its own, as a WebSocket is one.
fn echo(stop: &AtomicBool, address: &str) -> u64 {
    let mut tunnel = connect(address);
    write!(tunnel, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(tunnel.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let sent = format!("{count:16}");
        tunnel.write_all(sent.as_bytes()).unwrap();
        let mut came = [0; 16];
        tunnel.read_exact(&mut came).unwrap();
        assert_eq!(came, sent.as_bytes());
        count += 1;
    }
    count
}

/// Lines that are sent one by one, as server-sent events are.
fn stream(stop: &AtomicBool, address: &str) -> u64 {
    let mut stream = connect(address);
    write!(stream, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut next = 0;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let Some(number) = line.strip_prefix("data: ") else { continue };
        assert_eq!(number, next.to_string(), "no line is missing");
        next += 1;
        if stop.load(Ordering::Relaxed) {
            return next;
        }
    }
    panic!("it ended after {next} lines");
}

/// A body that is sent for as long as the upgrade takes.
fn upload(stop: &AtomicBool, address: &str) -> String {
    let mut stream = connect(address);
    // More than is sent before the end is asked for.
    let (size, mut sent) = (64_000_000, 0);
    write!(stream, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n").unwrap();
    let piece = vec![b'x'; 4000];
    while sent < size {
        stream.write_all(&piece).unwrap();
        sent += piece.len();
        if !stop.load(Ordering::Relaxed) {
            thread::park_timeout(Duration::from_millis(2));
        }
    }
    let mut answer = String::new();
    while !answer.ends_with(" bytes") {
        let mut part = [0; 4096];
        let length = stream.read(&mut part).unwrap();
        assert!(length > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

#[test]
fn everything_goes_on_while_another_program_takes_over() {
    for_each_user(|user| {
        let app = start(user);
        let address = app.gateway();
        let to = program(&app, "next-form");
        let load = Load::start(&address, "/");
        let lives = Lives::start(&address);
        wait("the long ones have begun", || match app.service("long")["requests"]["in_flight"].as_u64() {
            Some(3..) => Ok(()),
            other => Err(format!("{other:?} in flight")),
        });
        let processes = ["spawner_pid", "daemon_pid", "proxy_pid"];
        let before = processes.map(|whose| own(&app, whose));
        let had = before.map(inherited);
        let (workers_before, victim) = (workers(&app), app.pid("other", 0));

        let child = begin(&app, &to, &[]);
        // Whenever exactly: its end is known with its cause.
        kill("KILL", victim);
        let (is_ok, state) = finished(child);
        assert!(is_ok, "{user:?}: {state:#} {}", app.own_log());
        assert_eq!((&state["state"], &state["to"]["version"]), (&"done".into(), &"9.9.9".into()), "{state}");
        assert_eq!(steps(&state), ["checked", "spawner", "daemon", "proxy", "settled"], "{state}");

        let after = processes.map(|whose| own(&app, whose));
        assert_eq!(after[0], before[0], "the same process is the spawner");
        assert!(after[1] != before[1] && after[2] != before[2]);
        for (whose, (pid, had)) in processes.iter().zip(after.iter().zip(&had)) {
            assert_eq!(inherited(*pid), *had, "{user:?} {whose}");
        }
        assert_eq!(app.status()["supervisor"]["program"], to.as_str());
        let long = |all: Vec<(u32, u64)>| all[..2].to_vec();
        assert_eq!(long(workers(&app)), long(workers_before), "no worker was touched");
        let exit = wait("the killed one is back", || match app.worker("other", 0) {
            worker if worker["state"] == "ready" => Ok(worker["last_exit"].clone()),
            worker => Err(worker.to_string()),
        });
        assert_eq!((&exit["cause"], &exit["code"]), (&"signal".into(), &9.into()));
        has_event(&app, "upgraded");

        // The old proxy is there for its connections, and for nothing else.
        let proxies = app.status()["supervisor"]["proxies"].clone();
        let states: Vec<&str> =
            proxies.as_array().unwrap().iter().filter_map(|proxy| proxy["state"].as_str()).collect();
        assert_eq!(states, ["leaves", "serves"], "{proxies}");
        // New workers, and a stop, are known to both.
        app.ok(&["restart", "other"]);
        lives.end();
        wait("the old proxy has ended", || match app.status()["supervisor"]["proxies"].clone() {
            proxies if proxies.as_array().is_some_and(|all| all.len() == 1) => Ok(()),
            proxies => Err(proxies.to_string()),
        });
        assert_eq!(app.worker("long", 0)["restarts"], 0);
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{user:?}: {} answered, {:?}", tally.answered, tally.failures);
        assert!(tally.answered > 0);
        println!("{user:?}: {} requests during the upgrade, none failed", tally.answered);
        assert_lines(&app);
        app.down();
    });
}

/// No line of output is missing, and none is there twice.
fn assert_lines(app: &App) {
    let pid = app.pid("long", 0);
    let lines = app.ok(&["logs", "long", "--json"]);
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_first = lines.filter(|line| line["worker"] == 0);
    let numbers: Vec<u64> =
        of_first.filter_map(|line| line["text"].as_str()?.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.len() > 10, "{numbers:?}");
    let first = numbers[0];
    let expected: Vec<u64> = (first..).take(numbers.len()).collect();
    assert!(numbers == expected, "lines of {pid} are missing or twice: {} lines from {first}", numbers.len());
}

#[test]
fn a_program_that_could_not_take_over_is_refused_and_nothing_changes() {
    let app = start(User::Ordinary);
    let before = (own(&app, "daemon_pid"), own(&app, "proxy_pid"), workers(&app));
    let refused = |path: &str, expected: &str| {
        let output = upgrade(&app, path, &["--timeout", "20"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{path}: {}", printed(&output));
        let error: Value = serde_json::from_str(said.trim()).unwrap_or_else(|_| panic!("{said}"));
        assert!(error["error"]["message"].is_string());
    };
    let file = |name: &str, text: &str, mode: u32| -> String {
        app.write(name, text);
        let path: PathBuf = app.dir.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    refused("/nowhere/wattctl", "No such file");
    refused(&file("plain", "text", 0o644), "is not executable");
    refused(&file("text", "a text that is longer than a header", 0o755), "is no program");
    refused(&file("script", "#!/bin/sh\nexec real \"$@\"\n", 0o755), "is a script");
    refused("/bin/true", "it is no wattctl");
    refused("/bin/false", "cannot take over: exit 1");
    refused(&program(&app, "crashes-as-spawner"), "cannot take over: signal 6");
    refused(&program(&app, "later-form"), "upgrade to a version in between first");
    refused(&program(&app, "earlier-form"), "is older");
    let same = wattctl().display().to_string();
    refused(&same, "is the program that runs already");
    let same = app.run(&["upgrade"]);
    assert!(String::from_utf8_lossy(&same.stderr).contains("runs already"), "{}", printed(&same));
    let check = app.json(&["upgrade", "--check", "--to", &program(&app, "next-form")]);
    assert_eq!((&check["state"], &check["to"]["version"]), (&"checked".into(), &"9.9.9".into()));
    assert_eq!((own(&app, "daemon_pid"), own(&app, "proxy_pid"), workers(&app)), before);
    assert!(!app.own_log().contains("upgrade_started"));
    app.down();
}

#[test]
fn a_program_that_is_not_well_goes_back_while_traffic_flows() {
    let app = start(User::Ordinary);
    let address = app.gateway();
    let before = (own(&app, "spawner_pid"), own(&app, "proxy_pid"), workers(&app));
    let program_before = app.status()["supervisor"]["program"].clone();
    let load = Load::start(&address, "/");
    let lives = Lives::start(&address);
    let cases = [
        ("hangs-as-daemon", "3", "did not say within 3 s"),
        ("dies-as-daemon", "60", "died 3 times"),
        ("hangs-as-proxy", "5", "did not say within 5 s"),
        ("dies-as-proxy", "60", "its mesh proxy ended 3 times: exit 7"),
    ];
    for (name, timeout, expected) in cases {
        let child = begin(&app, &program(&app, name), &["--timeout", timeout]);
        let (is_ok, state) = finished(child);
        assert!(!is_ok, "{name}: {state}");
        assert_eq!(state["state"], "rolled_back", "{name}: {state}");
        let reason = state["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(expected), "{name}: {state}");
        assert_eq!((own(&app, "spawner_pid"), own(&app, "proxy_pid"), workers(&app)), before, "{name}");
        assert_eq!(app.status()["supervisor"]["program"], program_before);
        let event = has_event(&app, "upgrade_rolled_back");
        assert!(event["text"].as_str().is_some_and(|text| text.contains(expected)), "{event}");
        wait("the tried proxy has ended", || match app.status()["supervisor"]["proxies"].clone() {
            proxies if proxies.as_array().is_some_and(|all| all.len() == 1) => Ok(()),
            proxies => Err(proxies.to_string()),
        });
    }
    lives.end();
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    println!("{} requests while four programs were tried, none failed", tally.answered);
    let left: Vec<String> = fs::read_dir(app.runtime())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().display().to_string())
        .filter(|name| name.starts_with("proxy"))
        .collect();
    assert_eq!(left, ["proxy.sock"], "nothing of a tried proxy is left");
    // And a good one is taken after all that.
    let (is_ok, state) = finished(begin(&app, &program(&app, "good"), &[]));
    assert!(is_ok, "{state}");
    assert_lines(&app);
    app.down();
}

#[test]
fn a_reload_and_another_upgrade_wait_or_are_refused_while_one_is_not_settled() {
    let app = start(User::Ordinary);
    let child = begin(&app, &program(&app, "hangs-as-proxy"), &["--timeout", "15"]);
    wait("its daemon is there", || match app.status()["supervisor"]["program"].as_str() {
        Some(path) if path.ends_with("hangs-as-proxy") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let second = upgrade(&app, &program(&app, "good"), &[]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && said.contains("another upgrade is under way"),
        "{}",
        printed(&second)
    );
    app.write("watt.yaml", &LONG.replace("nofile: 512", "nofile: 513"));
    // It waits until it is known which program goes on, and is done by that one.
    let reloaded = app.json(&["reload"]);
    assert_eq!(reloaded["applied"], true, "{reloaded}");
    assert!(!app.status()["supervisor"]["program"].as_str().unwrap().ends_with("hangs-as-proxy"));
    let (is_ok, state) = finished(child);
    assert!(!is_ok && state["state"] == "rolled_back", "{state}");
    app.down();
}

#[test]
fn an_upgrade_survives_the_death_of_its_daemon_and_of_the_old_proxy() {
    let app = start(User::Ordinary);
    let pids = workers(&app);
    for (round, whose) in ["daemon_pid", "proxy_pid"].into_iter().enumerate() {
        let before = own(&app, "daemon_pid");
        let victim = own(&app, "proxy_pid");
        let to = program(&app, &format!("good-{round}"));
        let child = begin(&app, &to, &[]);
        let daemon = wait("the next daemon is there", || match own(&app, "daemon_pid") {
            pid if pid == before => Err(pid.to_string()),
            pid => Ok(pid),
        });
        let pid = if whose == "daemon_pid" { daemon } else { victim };
        // It may have ended by now, which is as well.
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
        let (is_ok, state) = finished(child);
        assert!(is_ok, "{whose}: {state}");
        assert_eq!(app.status()["supervisor"]["program"], to.as_str());
        let (status, _) = app.get("/");
        assert_eq!(status, 200);
        assert_eq!(workers(&app), pids);
    }
    app.down();
}

#[test]
fn a_stop_in_the_middle_of_an_upgrade_is_a_stop() {
    let app = start(User::Ordinary);
    let spawner = own(&app, "spawner_pid");
    let mut child = begin(&app, &program(&app, "hangs-as-proxy"), &["--timeout", "60"]);
    wait("its daemon is there", || match app.status()["supervisor"]["program"].as_str() {
        Some(path) if path.ends_with("hangs-as-proxy") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    kill("TERM", spawner);
    app.assert_gone();
    let _ = child.wait();
}

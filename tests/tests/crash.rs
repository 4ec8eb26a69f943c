//! When parts die, under load.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use serde_json::Value;
use watt_tests::{App, Load, User, for_each_user, kill, wait};

const THREE: &str = r#"
services:
  web:
    command: python3 services/web.py
    workers: 3
    restart: { backoff: { first: 50ms } }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

fn three(user: User) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", THREE);
    app.up();
    app
}

fn all_ready(app: &App) {
    wait("all three are ready", || match app.service("web") {
        service if service["ready"] == 3 => Ok(()),
        service => Err(service.to_string()),
    });
}

#[test]
fn a_killed_worker_costs_no_idempotent_request_and_is_named() {
    for_each_user(|user| {
        let app = three(user);
        let load = Load::start(&app.gateway(), "/");
        for round in 1..=3 {
            let pid = app.pid("web", 0);
            kill("KILL", pid);
            wait("it is replaced", || {
                let worker = app.worker("web", 0);
                let replaced = worker["state"] == "ready" && worker["pid"] != pid;
                if replaced { Ok(()) } else { Err(worker.to_string()) }
            });
            let worker = app.worker("web", 0);
            assert_eq!(worker["restarts"], round);
            assert_eq!(worker["last_exit"]["cause"], "signal", "{worker}");
            assert_eq!(worker["last_exit"]["code"], 9);
        }
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{user:?}: {} answered, {:?}", tally.answered, tally.failures);
        assert!(tally.answered > 0);
        app.down();
    });
}

#[test]
fn a_killed_proxy_is_replaced_on_the_same_listeners() {
    for_each_user(|user| {
        let app = three(user);
        let address = app.gateway();
        let pid = |app: &App| app.status()["supervisor"]["proxy_pid"].clone();
        let before = pid(&app);
        kill("KILL", before.as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid"));
        // From the first moment on: connections wait in the kernel's queue for the new proxy, none is refused.
        for _ in 0..20 {
            let answer = watt_tests::get(&address, "/");
            assert!(answer.as_ref().is_ok_and(|(status, _)| *status == 200), "{user:?}: {answer:?}");
        }
        wait("status names the new one", || match pid(&app) {
            Value::Null => Err("no proxy".into()),
            now if now == before => Err(now.to_string()),
            _ => Ok(()),
        });
        assert_eq!(app.status()["supervisor"]["proxy_restarts"], 1);
        assert_eq!(app.service("web")["ready"], 3);
        app.down();
    });
}

/// As an upgrade of a package does it.
#[test]
fn a_daemon_that_is_replaced_is_of_the_spawners_version_whatever_the_file_has_become() {
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", THREE);
    let own = app.dir.join("wattctl");
    std::fs::copy(watt_tests::wattctl(), &own).expect("a copy");
    let output = app.command(&own.display().to_string()).args(["up", "-d"]).output().expect("it runs");
    assert!(output.status.success(), "{}", watt_tests::printed(&output));
    std::fs::remove_file(&own).expect("it is ours");
    std::fs::write(&own, "of another version").expect("it is ours");
    let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
    kill("KILL", daemon.expect("a pid"));
    wait("a new daemon answers", || match app.status() {
        status if status["supervisor"]["daemon_restarts"] == 1 => Ok(()),
        status => Err(status.to_string()),
    });
    app.down();
}

#[test]
fn a_killed_daemon_is_replaced_and_knows_everything() {
    for_each_user(|user| {
        let app = three(user);
        kill("KILL", app.pid("web", 1));
        wait("one restart is on record", || match app.worker("web", 1) {
            worker if worker["restarts"] == 1 && worker["state"] == "ready" => Ok(()),
            worker => Err(worker.to_string()),
        });
        all_ready(&app);
        let before = app.status();
        let load = Load::start(&app.gateway(), "/");
        let daemon =
            before["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid");
        kill("KILL", daemon);
        let after = wait("a new daemon answers", || match app.status() {
            status if status["supervisor"]["daemon_restarts"] == 1 && status["services"][0]["ready"] == 3 => {
                Ok(status)
            }
            status => Err(status.to_string()),
        });
        for index in 0..3 {
            let (was, is) =
                (&before["services"][0]["workers"][index], &after["services"][0]["workers"][index]);
            for fact in ["pid", "run", "restarts", "started_at", "endpoint"] {
                assert_eq!(was[fact], is[fact], "{fact} of worker {index}");
            }
        }
        assert_eq!(after["services"][0]["workers"][1]["last_exit"]["code"], 9, "{after}");
        // It is in charge: a worker that dies now is seen and replaced.
        kill("KILL", app.pid("web", 2));
        wait("its death is on record", || match app.worker("web", 2) {
            worker if worker["restarts"] == 1 && worker["state"] == "ready" => Ok(()),
            worker => Err(worker.to_string()),
        });
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{user:?}: {} answered, {:?}", tally.answered, tally.failures);
        app.down();
    });
}

#[test]
fn a_shutdown_goes_on_when_the_daemon_is_killed_in_it() {
    for_each_user(|user| {
        let slow = r#"
services:
  slow: { command: [sh, -c, "trap '' TERM; while :; do sleep 0.05; done"], listen: none, stop: { grace: 6s } }
"#;
        let app = App::yaml(slow, user);
        app.up();
        let daemon = daemon(&app);
        let mut down = app.wattctl(&["down"]).spawn().expect("wattctl runs");
        wait("it is on its way down", || match app.worker("slow", 0) {
            worker if worker["state"] == "stopping" => Ok(()),
            worker => Err(worker.to_string()),
        });
        kill("KILL", daemon);
        // The command that asked for it waits for the successor's answer.
        let ended = down.wait().expect("it ends");
        assert_eq!(ended.code(), Some(0), "{user:?}");
        app.assert_gone();
    });
}

/// A service that ends well when it may.
const FINISHING: &str = r#"
services:
  finishing:
    command: [sh, -c, "trap 'until [ -e may ]; do sleep 0.05; done; touch finished; exit 0' TERM; while :; do sleep 0.05; done"]
    listen: none
    stop: { grace: 1h }
"#;

fn spawner(app: &App) -> u32 {
    let status = app.status();
    let pid = status["supervisor"]["spawner_pid"].as_u64().and_then(|pid| pid.try_into().ok());
    pid.unwrap_or_else(|| panic!("no spawner in {status}"))
}

fn stopping(app: &App) {
    wait("it is on its way down", || match app.worker("finishing", 0) {
        worker if worker["state"] == "stopping" => Ok(()),
        worker => Err(worker.to_string()),
    });
}

#[test]
fn a_drain_that_a_signal_began_is_still_one_after_the_daemon_was_killed() {
    let app = App::yaml(FINISHING, User::Ordinary);
    app.up();
    let daemon = daemon(&app);
    kill("TERM", spawner(&app));
    stopping(&app);
    kill("KILL", daemon);
    wait("a new daemon answers", || match app.status() {
        status if status["supervisor"]["daemon_restarts"] == 1 => Ok(()),
        status => Err(status.to_string()),
    });
    assert_eq!(app.worker("finishing", 0)["state"], "stopping");
    app.write("may", "");
    app.assert_gone();
    assert!(app.dir.join("finished").exists(), "the service was killed");
}

#[test]
fn a_first_signal_during_down_kills_nothing() {
    let app = App::yaml(FINISHING, User::Ordinary);
    app.up();
    let spawner = spawner(&app);
    let mut down = app.wattctl(&["down"]).spawn().expect("wattctl runs");
    stopping(&app);
    kill("TERM", spawner);
    wait("the spawner has taken the signal", || {
        let status = std::fs::read_to_string(format!("/proc/{spawner}/status")).expect("it lives");
        let is_taken = status.lines().any(|line| line == "ShdPnd:\t0000000000000000");
        if is_taken { Ok(()) } else { Err(status) }
    });
    // Some turns of the daemon, which it was passed on to.
    for _ in 0..5 {
        assert_eq!(app.worker("finishing", 0)["state"], "stopping");
    }
    app.write("may", "");
    assert_eq!(down.wait().expect("it ends").code(), Some(0));
    app.assert_gone();
    assert!(app.dir.join("finished").exists(), "the service was killed");
}

#[test]
fn no_run_number_is_given_out_twice() {
    let two = r#"
services:
  first: { command: sleep 1000, listen: none }
  second: { command: sleep 1000, listen: none, depends_on: [first] }
"#;
    let app = App::yaml(two, User::Ordinary);
    app.up();
    let run = |app: &App| app.worker("second", 0)["run"].as_u64().expect("a number");
    let last = run(&app);
    app.ok(&["stop", "second"]);
    replaced(&app);
    app.ok(&["start", "second"]);
    assert!(run(&app) > last, "{} after {last}", run(&app));
    app.down();
}

#[test]
fn a_service_that_talks_to_its_notify_socket_is_read_by_the_next_daemon() {
    let talking = r#"
services:
  talking: { command: python3 talking.py, listen: none, ready: notify }
"#;
    let script = r#"
import os, socket, time
daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
daemon.connect(os.environ["NOTIFY_SOCKET"])
daemon.send(b"READY=1")
sent = 0
while True:
    daemon.send(b"WATCHDOG=1")
    sent += 1
    with open("sent.new", "w") as file: file.write(str(sent))
    os.rename("sent.new", "sent")
    time.sleep(0.005)
"#;
    let app = App::yaml(talking, User::Ordinary);
    app.write("talking.py", script);
    app.up();
    let sent = || -> u64 {
        std::fs::read_to_string(app.dir.join("sent")).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    replaced(&app);
    // More than the kernel holds for a reader that does not come.
    let queue = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").expect("a number");
    let enough = sent() + 2 * queue.trim().parse::<u64>().expect("a number") + 10;
    wait("it goes on", || if sent() > enough { Ok(()) } else { Err(format!("{} of {enough}", sent())) });
    app.down();
}

/// Kills the daemon and waits for the next one.
fn replaced(app: &App) {
    kill("KILL", daemon(app));
    wait("a new daemon answers", || match app.status() {
        status if status["supervisor"]["daemon_restarts"] == 1 => Ok(()),
        status => Err(status.to_string()),
    });
}

#[test]
fn those_who_follow_miss_nothing_when_the_daemon_is_killed() {
    let ticker = r#"
services:
  ticker:
    command: [sh, -c, 'n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.01; done']
    listen: none
"#;
    let app = App::yaml(ticker, User::Ordinary);
    app.up();
    let follow = |arguments: &[&str]| {
        let child = app.wattctl(arguments).stdout(Stdio::piped()).spawn().expect("wattctl runs");
        Following(child)
    };
    let (mut logs, mut events) = (follow(&["logs", "-f"]), follow(&["events", "-f", "--json"]));
    let mut lines = logs.lines();
    let mut tick = || -> u64 {
        let line: Value = serde_json::from_str(&lines.next().expect("a line")).expect("JSON");
        let text = line["text"].as_str().unwrap_or_else(|| panic!("no text in {line}"));
        text.strip_prefix("tick ").and_then(|number| number.parse().ok()).expect("a number")
    };
    let mut last = 0;
    let mut told = events.lines();
    for _ in 0..2 {
        kill("KILL", daemon(&app));
        for _ in 0..100 {
            assert_eq!(tick(), last + 1);
            last += 1;
        }
        // Before the next one is killed, which alone can tell of it.
        assert!(told.by_ref().any(|line| line.contains("daemon_replaced")));
    }
    app.down();
    // An application's end is theirs.
    drop(told.by_ref().last());
    assert_eq!(events.0.wait().expect("it ends").code(), Some(0));
    let rest: Vec<u64> = std::iter::from_fn(|| lines.next())
        .map(|line| serde_json::from_str::<Value>(&line).expect("JSON"))
        .filter_map(|line| line["text"].as_str()?.strip_prefix("tick ")?.parse().ok())
        .collect();
    assert!(rest.iter().copied().eq(last + 1..=last + rest.len() as u64), "{rest:?}");
    assert_eq!(logs.0.wait().expect("it ends").code(), Some(0));
}

/// A command that follows, killed when the test is over.
struct Following(Child);

impl Following {
    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        let stdout = self.0.stdout.take().expect("a pipe");
        BufReader::new(stdout).lines().map(|line| line.expect("text"))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn daemon(app: &App) -> u32 {
    app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid")
}

#[test]
fn what_happens_while_there_is_no_daemon_is_not_lost() {
    let counter = r#"
services:
  counter:
    command: [sh, -c, 'n=0; while [ $n -lt 20000 ]; do n=$((n+1)); echo line $n; done; exec sleep 1000']
    listen: none
"#;
    for_each_user(|user| {
        let app = App::yaml(counter, user);
        app.run(&["up", "-d"]);
        for _ in 0..3 {
            kill("KILL", daemon(&app));
        }
        let output = wait("the last line is there", || {
            let output = app.ok(&["logs", "counter"]);
            if output.contains("line 20000\"") {
                Ok(output)
            } else {
                Err(output.lines().last().unwrap_or_default().to_owned())
            }
        });
        let mut expected = 1..=20000;
        let mut last = 0;
        for line in output.lines() {
            let value: Value = serde_json::from_str(line).expect("JSON");
            let number: u32 = value["text"]
                .as_str()
                .and_then(|text| text.strip_prefix("line ")?.parse().ok())
                .expect("a number");
            // A line may come twice, when a daemon was killed between writing it down and taking it from the pipe.
            if number > last {
                assert_eq!(Some(number), expected.next(), "a line is missing");
                last = number;
            }
        }
        assert_eq!(last, 20000);
        app.down();
    });
}

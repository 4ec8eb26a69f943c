//! A process that is stopped (SIGSTOP) for 30 s, and a machine with one CPU.

use std::{
    fs,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use watt_tests::{User, for_each_user, get, is_root, kill, printed, wait, wait_within, wattctl};

use super::shop::Shop;

/// How long it is stopped.
const STOPPED: Duration = Duration::from_secs(30);
/// So many at once that not all of them can be waiting for one worker of two.
const REQUESTS: usize = 8;

fn user() -> User {
    if is_root() { User::Root } else { User::Ordinary }
}

/// Stops a process for as long as `meanwhile` takes and for 30 s at least.
fn stopped(pid: u32, meanwhile: impl FnOnce()) {
    let since = Instant::now();
    kill("STOP", pid);
    wait("it is stopped", || match fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default() {
        stat if stat.contains(") T ") => Ok(()),
        stat => Err(stat),
    });
    meanwhile();
    wait("the time has passed", || if since.elapsed() < STOPPED { Err(String::new()) } else { Ok(()) });
    kill("CONT", pid);
}

fn role(shop: &Shop, key: &str) -> u32 {
    let status = shop.app.status();
    let pid = status["supervisor"][key].as_u64().and_then(|pid| pid.try_into().ok());
    pid.unwrap_or_else(|| panic!("no {key} in {status}"))
}

/// Traffic flows, and the spawner replaces it: a daemon says every 10 s that it turns.
#[test]
fn a_daemon_that_is_stopped_has_a_successor() {
    let shop = Shop::new(user());
    shop.up();
    let load = shop.load();
    let daemon = role(&shop, "daemon_pid");
    kill("STOP", daemon);
    wait_within(Duration::from_secs(120), "another daemon answers", || {
        // The old one answers nobody: the command that asks it ends when it is killed.
        let status = shop.app.run(&["status", "--json"]);
        match serde_json::from_slice::<serde_json::Value>(&status.stdout) {
            Ok(status) if status["supervisor"]["daemon_pid"] != daemon => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    shop.whole();
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    shop.app.down();
}

/// Nobody is reaped and nothing started meanwhile; traffic flows, and the daemon, whose signs of life waited, is not taken for dead.
#[test]
fn a_spawner_that_is_stopped_goes_on_where_it_was() {
    let shop = Shop::new(user());
    shop.up();
    let load = shop.load();
    let (spawner, daemon) = (role(&shop, "spawner_pid"), role(&shop, "daemon_pid"));
    stopped(spawner, || shop.kill_worker());
    // Until the spawner has told of it, everything looks as before.
    wait("the worker's end is told", || match shop.app.worker("web", 0)["last_exit"]["cause"].as_str() {
        Some("signal") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    shop.whole();
    assert_eq!(role(&shop, "daemon_pid"), daemon);
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    shop.app.down();
}

/// Who asks waits; all of them are answered afterwards.
#[test]
fn a_proxy_that_is_stopped_answers_later() {
    let shop = Shop::new(user());
    shop.up();
    let proxy = role(&shop, "proxy_pid");
    let load = shop.load();
    stopped(proxy, || ());
    shop.whole();
    assert_eq!(role(&shop, "proxy_pid"), proxy);
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    shop.app.down();
}

/// What it was asked for waits, and others are asked as well.
#[test]
fn a_worker_that_is_stopped_answers_later() {
    let shop = Shop::new(user());
    shop.up();
    let worker = shop.app.pid("web", 0);
    let load = shop.load();
    stopped(worker, || another_answers(&shop, worker));
    shop.whole();
    assert_eq!(shop.app.pid("web", 0), worker);
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    shop.app.down();
}

/// Waits until a worker other than this one, which does not run, answers one of several requests. Those that are waiting for this
/// one wait on.
fn another_answers(shop: &Shop, worker: u32) {
    let (answers, answer) = mpsc::channel();
    for _ in 0..REQUESTS {
        let (answers, gateway) = (answers.clone(), shop.app.gateway());
        thread::spawn(move || {
            // Who waits no more has its answer.
            let _ = answers.send(get(&gateway, "/"));
        });
    }
    let (status, body) = answer.recv_timeout(STOPPED).expect("one is answered").expect("it is an answer");
    assert_eq!(status, 200, "{body}");
    assert!(!body.contains(&worker.to_string()), "{body}");
}

#[test]
fn one_cpu_is_enough() {
    for_each_user(|user| {
        let shop = Shop::new(user);
        let up = shop.app.command("taskset").args(["-c", "0"]).arg(wattctl()).args(["up", "-d"]).output();
        let up = up.expect("taskset runs");
        assert!(up.status.success(), "{}", printed(&up));
        shop.whole();
        let load = shop.load();
        shop.app.ok(&["restart"]);
        shop.kill_worker();
        shop.whole();
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
        shop.app.down();
    });
}

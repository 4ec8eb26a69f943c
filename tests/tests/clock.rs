//! The wall clock is set forward and back: what goes by time that passes does not notice, and jobs, which go by the clock, have every instant
//! once. Only in the machines of the test `vm`, whose clock is their own.

use std::{
    env,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;
use watt_tests::{App, User, is_root, wait};

/// 2031-03-03 10:00 UTC.
const MORNING: u64 = 1_930_384_800;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The machine's clock, which shows afterwards what it would have shown.
struct Clock {
    began: (SystemTime, Instant),
}

impl Clock {
    /// None where the clock is also others'.
    fn own() -> Option<Clock> {
        if env::var_os("WATT_TEST_MACHINE").is_none() || !is_root() {
            eprintln!("skipped: the clock of this host is not the test's");
            return None;
        }
        Some(Clock { began: (SystemTime::now(), Instant::now()) })
    }

    fn set(&self, to: SystemTime) {
        let seconds = to.duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs();
        let set = Command::new("date").args(["--set", &format!("@{seconds}")]).output().expect("date runs");
        assert!(set.status.success(), "{set:?}");
    }

    /// To so many seconds after 10:00.
    fn at(&self, seconds: i64) {
        self.set(SystemTime::UNIX_EPOCH + Duration::from_secs(MORNING.saturating_add_signed(seconds)));
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let (wall, steady) = self.began;
        self.set(wall + steady.elapsed());
    }
}

const STEADY: &str = r#"
services:
  failing: { command: "false", listen: none, restart: { backoff: { first: 1h, max: 1h } } }
  checked:
    command: sleep 1000
    listen: none
    health: { exec: [sh, -c, "echo >> checks"], interval: 100ms, timeout: 1m }
  late: { command: sleep 1000, listen: none, ready: { log: never, timeout: 2h } }
"#;

fn checks(app: &App) -> usize {
    std::fs::read_to_string(app.dir.join("checks")).unwrap_or_default().lines().count()
}

/// How much longer it waits, in milliseconds.
fn waits(app: &App, service: &str, state: &str) -> u64 {
    let worker = wait("it waits", || match app.worker(service, 0) {
        worker if worker["state"] == state && worker["deadline_ms"].is_u64() => Ok(worker),
        worker => Err(worker.to_string()),
    });
    assert!(worker["restarts"] == 0, "{worker}");
    worker["deadline_ms"].as_u64().expect("a number")
}

#[test]
fn what_goes_by_time_that_passes_does_not_notice() {
    let Some(clock) = Clock::own() else { return };
    let app = App::yaml(STEADY, User::Root);
    let up = app.begin_up();
    let (mut backoff, mut start) = (waits(&app, "failing", "backoff"), waits(&app, "late", "starting"));
    let run = app.worker("checked", 0)["run"].clone();
    for (nth, shift) in [2 * DAY as i64, -2 * (DAY as i64), 0].into_iter().enumerate() {
        clock.at(shift);
        if nth == 1 {
            // Who comes later reads notes that were made by another clock.
            app.kill_daemon();
        }
        let before = checks(&app);
        wait("checks go on", || match checks(&app) {
            more if more > before + 3 => Ok(()),
            few => Err(format!("{few} after {before}")),
        });
        for (service, state, last) in [("failing", "backoff", &mut backoff), ("late", "starting", &mut start)]
        {
            let left = waits(&app, service, state);
            // Nobody takes half an hour for this, and the clock was set by days.
            assert!(left <= *last && *last - left < 1_800_000, "{service}: {left} after {last}");
            *last = left;
        }
        let worker = app.worker("checked", 0);
        assert_eq!((&worker["run"], &worker["state"]), (&run, &"ready".into()), "{worker}");
    }
    app.end_up(up);
}

const JOBS: &str = r#"
services:
  api: { command: sleep 1000, listen: none }
jobs:
  made: { service: api, command: [sh, -c, "echo >> made"], schedule: "0 11 * * *", catch_up: { mode: one, within: 6h } }
  missed: { service: api, command: [sh, -c, "echo >> missed"], schedule: "0 11 * * *" }
"#;

fn fired(app: &App, job: &str) -> usize {
    std::fs::read_to_string(app.dir.join(job)).unwrap_or_default().lines().count()
}

fn has_fired(app: &App, job: &str, count: usize) {
    wait(&format!("{job} has fired {count} times"), || match fired(app, job) {
        found if found == count => Ok(()),
        found => Err(format!("{found}; {}", app.json(&["jobs", "show", job]))),
    });
}

#[test]
fn a_job_has_every_instant_once_however_the_clock_is_set() {
    let Some(clock) = Clock::own() else { return };
    clock.at(0);
    let app = App::yaml(JOBS, User::Root);
    app.up();
    // Over the time at which both are due.
    clock.at(2 * HOUR as i64);
    has_fired(&app, "made", 1);
    wait("the other one is missed", || {
        let events = app.ok(&["events", "--json"]);
        let parsed = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut missed = parsed.filter(|event| event["kind"] == "job_missed");
        let is_it =
            |event: &Value| event["text"].as_str().is_some_and(|text| text.contains("job missed missed"));
        missed.find(is_it).map(drop).ok_or(events)
    });
    // Back, and past the same instant once more.
    clock.at(HOUR as i64 - 2);
    let after = SystemTime::UNIX_EPOCH + Duration::from_secs(MORNING + HOUR + 3);
    wait("it is past it", || if SystemTime::now() > after { Ok(()) } else { Err(String::new()) });
    app.kill_daemon();
    assert_eq!((fired(&app, "made"), fired(&app, "missed")), (1, 0));
    // By more than a day: it was wrong before.
    clock.at(HOUR as i64 - 2 * DAY as i64 - 2);
    has_fired(&app, "made", 2);
    app.down();
}

//! Anything at any time: operations and deaths at random, under load.
//!
//! For `WATT_CHAOS_SECONDS` seconds (20), from the seed `WATT_CHAOS_SEED` (one of the time), which is printed: the same seed makes
//! the same choices, though not at the same moments.

use std::{
    fs,
    process::Child,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;
use watt_tests::{User, is_root, kill, wait, wattctl};

use super::shop::Shop;

/// Where somebody may die.
const STEPS: [&str; 25] = [
    "daemon.spawning",
    "daemon.spawn_planned",
    "daemon.spawn_asked",
    "daemon.executed",
    "daemon.ready",
    "daemon.decided",
    "daemon.noted",
    "daemon.published",
    "daemon.exited",
    "daemon.emptied",
    "daemon.forgetting",
    "daemon.draining",
    "daemon.signalled",
    "daemon.performed",
    "daemon.reload_prepared",
    "daemon.reload_kept",
    "daemon.reload_changed",
    "daemon.taking_over",
    "daemon.taken_over",
    "daemon.upgrade_kept",
    "daemon.upgrade_asked",
    "daemon.upgrade_trial",
    "daemon.upgrade_settling",
    "daemon.upgrade_settled",
    "stage.cloned",
];

/// How many things are done.
const ACTS: usize = 8;

/// Programs that take over from each other.
const PROGRAMS: [&str; 2] = ["one", "other"];

#[test]
fn whatever_dies_whenever_no_request_is_lost() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let of_the_time =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.as_micros() as u64);
    let seed = number("WATT_CHAOS_SEED").unwrap_or(of_the_time);
    println!("WATT_CHAOS_SEED={seed}");
    let ends_at = Instant::now() + Duration::from_secs(number("WATT_CHAOS_SECONDS").unwrap_or(20));

    let mut random = Random(seed | 1);
    let mut shop = Shop::new(if is_root() { User::Root } else { User::Ordinary });
    for name in PROGRAMS {
        fs::copy(wattctl(), shop.app.dir.join(name)).expect("a copy of wattctl");
    }
    shop.up();
    let load = shop.load();
    let (mut rounds, mut deaths) = (0u32, 0usize);
    while Instant::now() < ends_at {
        let steps: Vec<&str> = (0..1 + random.below(3)).map(|_| STEPS[random.below(STEPS.len())]).collect();
        let acts: Vec<usize> = (0..1 + random.below(3)).map(|_| random.below(ACTS)).collect();
        println!("round {rounds}: {steps:?} {acts:?}");
        steps.iter().for_each(|step| shop.arm(step));
        let begun: Vec<_> = acts.iter().filter_map(|act| begin(&mut shop, *act)).collect();
        for mut command in begun {
            wait("the command ends", || {
                command.try_wait().expect("it is ours").ok_or_else(|| format!("{command:?}"))
            });
        }
        deaths += steps.iter().filter(|step| !shop.is_armed(step)).count();
        steps.iter().for_each(|step| shop.disarm(step));
        // What was stopped is wanted again; a daemon that had died did not hear of it.
        for command in [["start"].as_slice(), &["scale", "web=2"]] {
            wait(
                "it is as it was",
                || if shop.finish(command) { Ok(()) } else { Err(format!("{command:?}")) },
            );
        }
        shop.whole();
        rounds += 1;
    }
    let tally = load.stop();
    println!("{rounds} rounds, {deaths} deaths at a step, {} requests answered", tally.answered);
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    shop.app.down();
}

/// Begins one of the things that operators and fate do. `db` alone is stopped: without `web` nobody answers.
fn begin(shop: &mut Shop, act: usize) -> Option<Child> {
    match act {
        0 => Some(shop.begin(&["restart"])),
        1 => Some(shop.begin(&["restart", "web"])),
        2 => Some(shop.begin(&["stop", "db"])),
        3 => {
            shop.edit();
            Some(shop.begin(&["reload"]))
        }
        // Who is asked may be between two processes.
        4 => {
            let status = status(shop);
            let services = status["services"].as_array().into_iter().flatten();
            services
                .filter(|service| service["id"] == "web")
                .find_map(|web| kill_if_any(&web["workers"][0]["pid"]))
        }
        5 => kill_if_any(&status(shop)["supervisor"]["daemon_pid"]),
        6 => Some(shop.begin(&["scale", "web=4"])),
        _ => {
            let runs = status(shop)["supervisor"]["program"].to_string();
            let next = PROGRAMS.map(|name| shop.app.dir.join(name).display().to_string());
            let next = next.into_iter().find(|path| !runs.contains(path.as_str()))?;
            Some(shop.begin(&["upgrade", "--timeout", "20", "--to", &next]))
        }
    }
}

/// What is known of the application; nothing when its daemon died too often to answer.
fn status(shop: &Shop) -> Value {
    let output = shop.app.run(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Kills that process unless it has ended by itself.
fn kill_if_any(pid: &Value) -> Option<Child> {
    let pid = pid.as_u64().and_then(|pid| pid.try_into().ok())?;
    drop(std::panic::catch_unwind(|| kill("KILL", pid)));
    None
}

/// xorshift64*, so that a seed is all there is to say.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

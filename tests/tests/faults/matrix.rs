//! Every operation against every step that it comes by.

use std::{collections::BTreeSet, fs};

use watt_tests::{User, is_root, wait, wattctl};

use super::shop::Shop;

/// The daemon's steps that every start of a worker comes by, and the stage's.
const START: [&str; 9] = [
    "daemon.spawning",
    "daemon.spawn_planned",
    "daemon.spawn_asked",
    "daemon.executed",
    "daemon.ready",
    "daemon.decided",
    "daemon.noted",
    "daemon.published",
    "stage.cloned",
];
/// Those of every end.
const END: [&str; 3] = ["daemon.exited", "daemon.emptied", "daemon.forgetting"];
/// Those of an end that was asked for.
const STOP: [&str; 3] = ["daemon.draining", "daemon.signalled", "daemon.performed"];
/// The proxy's.
const PROXY: [&str; 2] = ["proxy.told", "proxy.applied"];

/// Those of an upgrade: the daemon's of the program before, and of the next one.
const UPGRADE: [&str; 7] = [
    "daemon.upgrade_found",
    "daemon.upgrade_rehearsing",
    "daemon.upgrade_kept",
    "daemon.upgrade_asked",
    "daemon.upgrade_trial",
    "daemon.upgrade_settling",
    "daemon.upgrade_settled",
];

fn user() -> User {
    if is_root() { User::Root } else { User::Ordinary }
}

/// Has the role die at the step in the middle of what `act` begins, and waits until all is whole again.
fn dies(shop: &Shop, step: &str, act: impl FnOnce(&Shop)) {
    println!("{step}");
    shop.arm(step);
    act(shop);
    wait("the role has died", || if shop.is_armed(step) { Err(step.to_owned()) } else { Ok(()) });
    shop.whole();
}

#[test]
fn deaths_while_it_starts() {
    for step in START.iter().chain(&PROXY) {
        println!("{step}");
        let shop = Shop::new(User::Ordinary);
        shop.arm(step);
        // The command may lose the daemon that it asked.
        shop.finish(&["up", "-d"]);
        shop.whole();
        assert!(!shop.is_armed(step), "nobody came by {step}");
        shop.app.down();
    }
}

#[test]
fn deaths_while_a_worker_is_replaced_after_a_crash() {
    let shop = Shop::new(user());
    shop.up();
    let load = shop.load();
    for step in START.iter().chain(&END) {
        dies(&shop, step, Shop::kill_worker);
    }
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    println!("{} requests answered", tally.answered);
    for step in PROXY {
        dies(&shop, step, Shop::kill_worker);
    }
    shop.app.down();
}

#[test]
fn deaths_in_a_roll() {
    let shop = Shop::new(user());
    shop.up();
    let load = shop.load();
    for step in START.iter().chain(&END).chain(&STOP) {
        let before = pids(&shop);
        dies(&shop, step, |shop| _ = shop.finish(&["restart", "web"]));
        // Asked for again where the daemon died before it had noted the request; what is done already is whole at once.
        wait("all of them are new", || {
            let new = pids(&shop);
            if new.is_disjoint(&before) {
                return Ok(());
            }
            shop.finish(&["restart", "web"]);
            Err(format!("{before:?} {new:?}"))
        });
        shop.whole();
    }
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    println!("{} requests answered", tally.answered);
    for step in PROXY {
        dies(&shop, step, |shop| _ = shop.finish(&["restart", "web"]));
    }
    shop.app.down();
}

#[test]
fn deaths_in_a_reload() {
    let mut shop = Shop::new(user());
    shop.up();
    let load = shop.load();
    let own = ["daemon.reload_prepared", "daemon.reload_kept", "daemon.reload_changed"];
    for step in own.iter().chain(&["daemon.spawn_asked", "daemon.ready", "daemon.draining", "daemon.emptied"])
    {
        shop.edit();
        dies(&shop, step, |shop| _ = shop.finish(&["reload"]));
        // What died before it was kept has changed nothing, and is asked for again.
        wait("the new configuration is in force", || {
            let changes = shop.app.json(&["reload"])["changes"].clone();
            if changes.as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(changes.to_string()) }
        });
        shop.whole();
    }
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    println!("{} requests answered", tally.answered);
    shop.app.down();
}

/// Whoever dies: one of the two programs goes on, and the other one can be asked for again.
#[test]
fn deaths_in_an_upgrade() {
    let shop = Shop::new(user());
    shop.up();
    let load = shop.load();
    for step in UPGRADE {
        let next = next_program(&shop, step);
        dies(&shop, step, |shop| _ = shop.finish(&["upgrade", "--to", &next]));
        comes_about(&shop, &next);
    }
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    println!("{} requests answered", tally.answered);
    for step in PROXY {
        let next = next_program(&shop, step);
        dies(&shop, step, |shop| _ = shop.finish(&["upgrade", "--to", &next]));
        comes_about(&shop, &next);
    }
    shop.app.down();
}

/// A copy of watt with a name of its own.
fn next_program(shop: &Shop, name: &str) -> String {
    let next = shop.app.dir.join(name);
    fs::copy(wattctl(), &next).expect("a copy of wattctl");
    next.display().to_string()
}

/// Waits until an upgrade has come about. It is asked for again where it did not survive who had to do it.
fn comes_about(shop: &Shop, next: &str) {
    wait("the next program is there", || match shop.app.status()["supervisor"]["program"].to_string() {
        program if program.contains(next) => Ok(()),
        program => {
            shop.finish(&["upgrade", "--to", next]);
            Err(program)
        }
    });
    shop.whole();
}

#[test]
fn deaths_in_a_stop_and_in_the_end() {
    for step in STOP.iter().chain(&END) {
        let shop = Shop::new(user());
        shop.up();
        dies(&shop, step, |shop| {
            shop.finish(&["stop", "web"]);
            wait("it can be started again", || {
                if shop.finish(&["start", "web"]) { Ok(()) } else { Err(String::new()) }
            });
        });
        shop.arm(step);
        shop.finish(&["down"]);
        shop.app.assert_gone();
        assert!(!shop.is_armed(step), "nobody came by {step}");
    }
    let shop = Shop::new(user());
    shop.up();
    shop.arm("daemon.ending");
    shop.finish(&["down"]);
    shop.app.assert_gone();
    assert!(!shop.is_armed("daemon.ending"));
}

/// A daemon that dies is followed by one that dies as well.
#[test]
fn deaths_of_successors() {
    let shop = Shop::new(user());
    shop.up();
    let load = shop.load();
    for step in ["daemon.taking_over", "daemon.taken_over"] {
        for first in ["daemon.exited", "daemon.spawn_asked", "daemon.ready"] {
            shop.arm(step);
            dies(&shop, first, Shop::kill_worker);
            assert!(!shop.is_armed(step), "nobody came by {step}");
        }
    }
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{} answered, {:?}", tally.answered, tally.failures);
    shop.app.down();
}

/// Its end ends all of it, whatever it was about, and the next start finds nothing in its way.
#[test]
fn deaths_of_the_spawner() {
    for step in ["spawner.cloned", "spawner.reaped", "spawner.daemon_died", "spawner.upgrading"] {
        println!("{step}");
        let shop = Shop::new(user());
        shop.up();
        shop.arm(step);
        match step {
            "spawner.daemon_died" => {
                let daemon = shop.app.status()["supervisor"]["daemon_pid"]
                    .as_u64()
                    .and_then(|pid| pid.try_into().ok());
                watt_tests::kill("KILL", daemon.expect("a pid"));
            }
            "spawner.upgrading" => {
                let next = next_program(&shop, step);
                shop.finish(&["upgrade", "--to", &next]);
            }
            _ => shop.kill_worker(),
        }
        wait("nothing runs", || match shop.app.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        assert!(!shop.is_armed(step), "nobody came by {step}");
        shop.up();
        shop.app.down();
    }
}

/// The processes of `web`.
fn pids(shop: &Shop) -> BTreeSet<u64> {
    let workers = shop.app.service("web")["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().filter_map(|worker| worker["pid"].as_u64()).collect()
}

//! The kernel has no memory for another process: that start fails and says so, what runs goes on, and the next one succeeds.

use std::fs;

use watt_tests::{App, Load, for_each_user, kill, printed, wait};

const WEB: &str = r#"
services:
  web:
    command: python3 services/web.py
    workers: 2
    restart: { backoff: { first: 50ms, max: 200ms }, give_up: { failures: 1000, within: 1m } }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

/// What a process has of address space, in bytes.
fn address_space(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("it has some");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_start_without_memory_is_named_and_the_next_one_succeeds() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", WEB);
        app.up();
        let load = Load::start(&app.gateway(), "/");
        let spawner = app.status()["supervisor"]["spawner_pid"].as_u64().and_then(|pid| pid.try_into().ok());
        let spawner: u32 = spawner.expect("a pid");
        let allow = |bytes: &str| {
            let arguments = ["--pid".to_owned(), spawner.to_string(), format!("--as={bytes}:")];
            let output = app.command("prlimit").args(arguments).output().expect("prlimit runs");
            assert!(output.status.success(), "{}", printed(&output));
        };
        // It keeps what it has. A process that is cloned begins on a stack that is made for it.
        allow(&address_space(spawner).to_string());
        kill("KILL", app.pid("web", 0));
        let exit = wait("its start fails", || match app.worker("web", 0)["last_exit"]["text"].as_str() {
            Some(text) if text.contains("allocate memory") => Ok(text.to_owned()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(exit, "exec: mmap: Cannot allocate memory", "{user:?}");
        assert_eq!(app.service("web")["ready"], 1, "{user:?}: the other one goes on");
        allow("unlimited");
        wait("both are ready", || match app.service("web") {
            service if service["ready"] == 2 => Ok(()),
            service => Err(service.to_string()),
        });
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{user:?}: {} answered, {:?}", tally.answered, tally.failures);
        app.down();
    });
}

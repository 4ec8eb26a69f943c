//! As a unit of a service manager, which the tests play: what is told, what is kept over a restart, and what does not get to
//! services. A real systemd is in tests/vm.

mod manager;

use std::{fs, os::fd::AsRawFd, time::Duration};

use manager::{Manager, ended};
use watt_tests::{App, Load, User, for_each_user, get, kill, wait, wait_within};

const WEB: &str = r#"
services:
  web: { command: python3 services/web.py, workers: 2 }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

/// A service that has to be killed, three seconds after it was told to end.
const STUBBORN: &str = r#"[sh, -c, 'trap "" TERM; exec python3 services/web.py'], stop: { grace: 3s }"#;

fn app(text: &str, user: User) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", text);
    app
}

fn is_ready(line: &str) -> bool {
    line == "READY=1"
}

fn environment(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_else(|error| panic!("{pid}: {error}"));
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

/// Whether a process has one of the sockets that the manager keeps.
fn accepts_on(pid: &str, manager: &Manager) -> bool {
    let kept: Vec<_> =
        manager.store.values().map(|kept| link(&format!("self/fd/{}", kept.as_raw_fd()))).collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.into_iter().any(|file| kept.contains(&link(&format!("{pid}/fd/{}", file.file_name().display()))))
}

fn link(of: &str) -> String {
    fs::read_link(format!("/proc/{of}")).map(|target| target.display().to_string()).unwrap_or_default()
}

#[test]
fn the_main_process_says_how_it_goes_from_start_to_stop() {
    for_each_user(|user| {
        let app = app(WEB, user);
        let mut manager = Manager::new(&app);
        let mut child = manager.start(&app, &[], &[("WATCHDOG_USEC", "400000")]);
        manager.heard("READY=1", is_ready);
        manager.heard("the status", |line| line == "STATUS=1 service ready");
        for beat in ["a first sign of life", "a second one"] {
            manager.heard(beat, |line| line == "WATCHDOG=1");
        }
        let status = app.status();
        assert_eq!(status["supervisor"]["spawner_pid"], child.id(), "it is the process that was started");

        let daemon = status["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
        for pid in [app.pid("web", 0), daemon.expect("a pid")] {
            let environment = environment(pid);
            for name in ["NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_FDS=", "LISTEN_FDNAMES="] {
                assert!(!environment.contains(name), "{environment}");
            }
        }

        // The status follows; a new daemon goes on with it.
        app.ok(&["stop", "web"]);
        manager.heard("what stopped", |line| line == "STATUS=0 of 1 service ready; stopped: web");
        kill("KILL", daemon.expect("a pid"));
        wait("another daemon answers", || match app.status() {
            status if status["supervisor"]["daemon_restarts"] == 1 => Ok(()),
            status => Err(status.to_string()),
        });
        app.ok(&["start", "web"]);
        manager.heard("that it is well again", |line| line == "STATUS=1 service ready");

        kill("TERM", child.id());
        manager.heard("STOPPING=1", |line| line == "STOPPING=1");
        assert!(ended(&mut child).success());
        app.assert_gone();
        assert!(manager.speakers.iter().all(|speaker| *speaker == child.id()), "{:?}", manager.speakers);
    });
}

/// For the manager nothing happens: the main process is the same, and tells it what is.
#[test]
fn an_upgrade_is_none_of_the_managers_business() {
    for_each_user(|user| {
        let app = app(WEB, user);
        let to = app.dir.join("next");
        fs::copy(watt_tests::wattctl(), &to).expect("a copy of wattctl");
        app.pass_through();
        let mut manager = Manager::new(&app);
        let mut child = manager.start(&app, &[], &[("WATCHDOG_USEC", "400000")]);
        manager.heard("READY=1", is_ready);
        let stored = manager.store.len();
        let load = Load::start(&app.gateway(), "/");
        let state = app.json(&["upgrade", "--to", &to.display().to_string()]);
        assert_eq!(state["state"], "done", "{state}");
        let status = app.status();
        assert_eq!(status["supervisor"]["spawner_pid"], child.id());
        assert_eq!(link(&format!("{}/exe", child.id())), to.display().to_string());
        manager.heard("a sign of life of the next program", |line| line == "WATCHDOG=1");
        assert_eq!(manager.store.len(), stored, "its store is as it was");
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{:?}", tally.failures);
        app.ok(&["stop", "web"]);
        manager.heard("what stopped", |line| line == "STATUS=0 of 1 service ready; stopped: web");
        kill("TERM", child.id());
        manager.heard("STOPPING=1", |line| line == "STOPPING=1");
        assert!(ended(&mut child).success());
        app.assert_gone();
        assert!(manager.speakers.iter().all(|speaker| *speaker == child.id()), "{:?}", manager.speakers);
    });
}

#[test]
fn one_service_that_fails_is_in_the_status_and_does_not_hold_up_the_unit() {
    let text = r#"
services:
  web: { command: python3 services/web.py }
  bad:
    command: "false"
    restart: { backoff: { first: 10ms }, give_up: { failures: 2, within: 1m } }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;
    let app = app(text, User::Ordinary);
    let mut manager = Manager::new(&app);
    let mut child = manager.start(&app, &[], &[]);
    let before = manager.heard("READY=1", is_ready);
    // Patience is asked for from the first moment on.
    assert!(before.iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")), "{before:?}");
    manager.heard("its status", |line| line == "STATUS=1 of 2 services ready; failed: bad");
    app.ok(&["down"]);
    manager.heard("STOPPING=1", |line| line == "STOPPING=1");
    assert!(ended(&mut child).success(), "`down` is an end like another");
}

#[test]
fn what_cannot_start_says_why_and_whether_another_try_is_worth_it() {
    let check = |text: &str, status: i32, reason: Option<&str>| {
        let app = app(text, User::Ordinary);
        let mut manager = Manager::new(&app);
        let mut child = manager.start(&app, &[], &[]);
        assert_eq!(ended(&mut child).code(), Some(status), "{text}");
        let said = manager.rest();
        assert!(!said.iter().any(|line| is_ready(line)), "{said:?}");
        match reason {
            Some(reason) => assert!(said.iter().any(|line| line.contains(reason)), "{said:?}"),
            None => assert_eq!(said, [""; 0]),
        }
    };
    // Wrong as it stands: RestartPreventExitStatus= has this status.
    check("services: { web: { comand: x } }", 3, None);
    // The port may be free the next time.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let text = format!(
        "services: {{ web: {{ command: python3 services/web.py }} }}\nserver: {{ hostname: 127.0.0.1, port: {port} }}\n\
         gateway: {{ routes: [{{ path: /, service: web }}] }}\n"
    );
    check(&text, 78, Some("STATUS=cannot listen on 127.0.0.1"));
}

#[test]
fn connections_wait_while_the_unit_is_restarted() {
    let text = WEB.replace("python3 services/web.py, workers: 2", STUBBORN);
    for_each_user(|user| {
        let app = app(&text, user);
        let mut manager = Manager::new(&app);
        let mut child = manager.start(&app, &[], &[]);
        manager.heard("READY=1", is_ready);
        let address = app.gateway();
        assert!(!manager.store.is_empty() && manager.store.keys().all(|name| name.starts_with("gateway/")));

        // Once by a crash, once in order: what knocks meanwhile is let in by the next life.
        for signal in ["KILL", "TERM"] {
            let worker = app.pid("web", 0);
            let proxy = app.status()["supervisor"]["proxy_pid"].to_string();
            kill(signal, child.id());
            if signal == "TERM" {
                // The old life turns nobody away while its service takes its time.
                manager.heard("STOPPING=1", |line| line == "STOPPING=1");
                wait("the proxy lets nobody in", || match accepts_on(&proxy, &manager) {
                    false => Ok(()),
                    true => Err(proxy.clone()),
                });
                assert!(
                    !link(&format!("{worker}/cwd")).is_empty(),
                    "which it began with, before its service has ended"
                );
            } else {
                ended(&mut child);
            }
            let knocking: Vec<_> = (0..8)
                .map(|_| {
                    let address = address.clone();
                    std::thread::spawn(move || get(&address, "/"))
                })
                .collect();
            ended(&mut child);
            manager.rest();
            child = manager.start(&app, &[], &[]);
            manager.heard("READY=1", is_ready);
            for knock in knocking {
                let answer = knock.join().expect("a thread");
                assert!(answer.as_ref().is_ok_and(|(status, _)| *status == 200), "{signal}: {answer:?}");
            }
            assert_eq!(app.gateway(), address);
        }

        // What the configuration has no more is given back, and a stranger's is not used.
        kill("TERM", child.id());
        ended(&mut child);
        app.write("watt.yaml", "services: { web: { command: python3 services/web.py } }\n");
        manager.rest();
        child = manager.start(&app, &[], &[]);
        manager.heard("READY=1", is_ready);
        assert!(manager.store.is_empty(), "{:?}", manager.store);
        kill("TERM", child.id());
        ended(&mut child);
    });
}

/// Knocks at an address where nobody is at the moment, and says later what came of it.
fn knock(address: &str) -> std::thread::JoinHandle<std::io::Result<(u16, String)>> {
    let address = address.to_owned();
    std::thread::spawn(move || get(&address, "/"))
}

#[track_caller]
fn answered(knock: std::thread::JoinHandle<std::io::Result<(u16, String)>>) {
    let answer = knock.join().expect("a thread");
    assert!(answer.as_ref().is_ok_and(|(status, _)| *status == 200), "{answer:?}");
}

/// Where each of the stored sockets is bound, once.
fn stored_at(manager: &Manager) -> Vec<String> {
    let address = |socket| socket2::SockRef::from(socket).local_addr().expect("it is bound").as_socket();
    let all = manager.store.values().map(|socket| address(socket).expect("of TCP").to_string());
    all.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// What a reload bound is in the manager's keeping in place of what was there before, and the next life finds it by its address.
#[test]
fn connections_wait_for_a_restart_after_a_reload_that_moved_the_gateway() {
    for_each_user(|user| {
        let app = app(&WEB.replace("{ port: 0 }", "{ hostname: 127.0.0.1, port: 0 }"), user);
        let mut manager = Manager::new(&app);
        let mut child = manager.start(&app, &[], &[]);
        manager.heard("READY=1", is_ready);
        assert_eq!(stored_at(&manager), [app.gateway()]);
        let stored = manager.store.len();

        // Another address, then others on the same port: each overlaps with the one before it.
        app.write("watt.yaml", &WEB.replace("{ port: 0 }", "{ hostname: 127.0.0.2, port: 0 }"));
        app.ok(&["reload", "--wait"]);
        let address = app.gateway();
        let port = address.strip_prefix("127.0.0.2:").expect("it has moved").to_owned();
        for hostname in ["0.0.0.0", "127.0.0.3", "0.0.0.0", "127.0.0.2"] {
            let server = format!("{{ hostname: {hostname}, port: {port} }}");
            app.write("watt.yaml", &WEB.replace("{ port: 0 }", &server));
            app.ok(&["reload", "--wait"]);
            assert_eq!(app.gateway(), format!("{hostname}:{port}"));
        }
        wait("what is stored is what is wanted", || {
            manager.listen();
            match (stored_at(&manager), manager.store.len()) {
                (at, count) if at == [address.as_str()] && count == stored => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });

        for signal in ["KILL", "TERM"] {
            kill(signal, child.id());
            ended(&mut child);
            let waits = knock(&address);
            manager.rest();
            child = manager.start(&app, &[], &[]);
            manager.heard("READY=1", is_ready);
            answered(waits);
            assert_eq!(app.gateway(), address);
        }

        // Another hostname on the same port, between two lives: nothing of the old one is in the way, and nothing stays stored.
        kill("TERM", child.id());
        ended(&mut child);
        app.write(
            "watt.yaml",
            &WEB.replace("{ port: 0 }", &format!("{{ hostname: 127.0.0.1, port: {port} }}")),
        );
        manager.rest();
        child = manager.start(&app, &[], &[]);
        manager.heard("READY=1", is_ready);
        let address = format!("127.0.0.1:{port}");
        answered(knock(&address));
        manager.listen();
        assert_eq!((stored_at(&manager), manager.store.len()), (vec![address], stored));
        kill("TERM", child.id());
        ended(&mut child);
    });
}

/// Whoever asks for a reload, the unit is in one until the configuration is what runs, or is not taken.
#[test]
fn a_reload_is_told_from_its_beginning_to_its_end() {
    let text = |greeting: &str| {
        let held = "[sh, -c, 'while [ -e hold ]; do sleep 0.05; done; exec python3 services/web.py']";
        let service = format!("{held}, env: {{ GREETING: {greeting} }}");
        WEB.replace("python3 services/web.py, workers: 2", &service)
    };
    for_each_user(|user| {
        let app = app(&text("first"), user);
        let mut manager = Manager::new(&app);
        let mut child = manager.start(&app, &[], &[]);
        manager.heard("READY=1", is_ready);
        manager.rest();
        app.ok(&["reload", "--plan"]);

        let mut began = 0;
        let spawner = child.id();
        let by_command = |app: &App| drop(app.ok(&["reload"]));
        let by_signal = |_: &App| kill("HUP", spawner);
        for (greeting, ask) in [("second", &by_command as &dyn Fn(&App)), ("third", &by_signal)] {
            app.write("hold", "");
            app.write("watt.yaml", &text(greeting));
            ask(&app);
            let before = manager.heard("RELOADING=1", |line| line == "RELOADING=1");
            assert!(!before.contains(&"READY=1".to_owned()), "{before:?}");
            let time = manager.heard("its time, in the same message", |_| true);
            let time: u64 =
                time[0].strip_prefix("MONOTONIC_USEC=").and_then(|time| time.parse().ok()).expect("a time");
            assert!(time > began, "{time}");
            began = time;
            wait("the new worker is started", || match app.status().to_string() {
                status if status.contains("\"starting\"") => Ok(()),
                status => Err(status),
            });
            let meanwhile = manager.rest();
            assert!(!meanwhile.contains(&"READY=1".to_owned()), "{meanwhile:?}");
            fs::remove_file(app.dir.join("hold")).expect("it is there");
            manager.heard("READY=1", is_ready);
            let environment = environment(app.pid("web", 0));
            assert!(environment.contains(&format!("GREETING={greeting}")), "{environment}");
        }

        // A wrong one, which the status says until there is a right one.
        app.write("watt.yaml", "services: { web: { comand: x } }");
        assert_eq!(app.run(&["reload"]).status.code(), Some(3));
        manager.heard("RELOADING=1", |line| line == "RELOADING=1");
        manager.heard("READY=1", is_ready);
        let status =
            manager.heard("the status", |line| line.starts_with("STATUS=")).pop().unwrap_or_default();
        assert!(status.starts_with("STATUS=1 service ready; reload refused: "), "{status}");
        app.write("watt.yaml", &text("third"));
        app.ok(&["reload"]);
        manager.heard("READY=1", is_ready);
        manager.heard("the status", |line| line == "STATUS=1 service ready");
        kill("TERM", child.id());
        ended(&mut child);
    });
}

/// Somebody else on the port is still one too many, whoever else is there.
#[test]
fn a_reload_does_not_share_the_port_with_a_stranger() {
    let text = |hostname: &str, port: &str| {
        WEB.replace("{ port: 0 }", &format!("{{ hostname: {hostname}, port: {port} }}"))
    };
    let app = app(&text("127.0.0.1", "0"), User::Ordinary);
    app.up();
    let address = app.gateway();
    let (_, port) = address.rsplit_once(':').expect("a port");
    let stranger = std::net::TcpListener::bind(format!("127.0.0.2:{port}")).expect("it is free");
    for hostname in ["127.0.0.2", "0.0.0.0"] {
        app.write("watt.yaml", &text(hostname, port));
        let refused = app.run(&["reload"]);
        assert_eq!(refused.status.code(), Some(7), "{hostname}: {}", watt_tests::printed(&refused));
    }
    assert_eq!(app.get("/").0, 200);
    drop(stranger);
    app.ok(&["reload", "--wait"]);
    assert_eq!(app.gateway(), format!("0.0.0.0:{port}"));
    app.down();
}

#[test]
fn a_daemon_that_stands_still_is_replaced_and_costs_no_request() {
    let app = app(WEB, User::Ordinary);
    app.up();
    let load = Load::start(&app.gateway(), "/");
    let status = app.status();
    let daemon =
        status["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid");
    let worker = app.pid("web", 0);
    kill("STOP", daemon);
    // Nobody but the spawner sees that, which takes its time.
    wait_within(Duration::from_secs(300), "it is replaced", || {
        match fs::metadata(format!("/proc/{daemon}")) {
            Ok(_) => Err("it is still there".to_owned()),
            Err(_) => Ok(()),
        }
    });
    wait("another daemon answers", || match app.run(&["status", "--json"]) {
        output if String::from_utf8_lossy(&output.stdout).contains("\"daemon_restarts\": 1") => Ok(()),
        output => Err(watt_tests::printed(&output)),
    });
    assert_eq!(app.pid("web", 0), worker);
    let log = app.own_log();
    assert!(log.contains("has said nothing for 30 s: killing it"), "{log}");
    let tally = load.stop();
    assert!(tally.failures.is_empty() && tally.answered > 0, "{:?}", tally.failures);
    app.down();
}

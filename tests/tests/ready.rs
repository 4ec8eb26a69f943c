//! Signs of readiness, and ways of listening.

use serde_json::Value;
use watt_tests::{App, User, for_each_user};

/// Users, rights and files differ in each.
fn for_each_sandbox(test: impl Fn(User, &str)) {
    for_each_user(|user| ["off", "standard", "strict"].into_iter().for_each(|sandbox| test(user, sandbox)));
}

#[test]
fn every_way_of_listening_serves() {
    for_each_sandbox(|user, sandbox| {
        let app = App::case("", user);
        let ways = [
            ("auto", "3000", "listen: auto"),
            ("unix", "unix", "listen: unix"),
            ("fd", "fd", "listen: fd"),
            ("port", "port", "listen: port"),
            ("own", "port", "listen: 4567"),
            ("host", "port", "listen: port, network: host"),
            ("host-unix", "unix", "listen: unix, network: host"),
            ("host-fd", "fd", "listen: fd, network: host"),
        ];
        let services: String = ways
            .iter()
            .map(|(name, argument, keys)| {
                format!("  {name}: {{ command: python3 services/web.py {argument}, {keys}, workers: 2 }}\n")
            })
            .collect();
        let routes: String = ways
            .iter()
            .map(|(name, _, _)| format!("    - {{ path: /{name}, service: {name}, strip: true }}\n"))
            .collect();
        app.write(
            "watt.yaml",
            &format!("sandbox: {sandbox}\nservices:\n{services}server: {{ port: 0 }}\ngateway:\n  routes:\n{routes}"),
        );
        app.up();
        for (name, _, _) in ways {
            let (status, body) = app.get(&format!("/{name}/x"));
            assert_eq!(status, 200, "{user:?} {sandbox} {name}: {body}");
            let answer: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(answer["service"], name);
            assert_eq!(answer["path"], "/x");
        }
        app.down();
    });
}

#[test]
fn every_sign_of_readiness_is_seen() {
    for_each_sandbox(|user, sandbox| {
        let app = App::case("", user);
        let services = r#"
services:
  http: { command: python3 services/web.py, ready: { http: /healthz } }
  tcp: { command: python3 services/web.py, ready: tcp }
  startup: { command: python3 services/web.py, startup: { http: /started }, ready: { http: /healthz } }
  log: { command: python3 services/web.py, ready: { log: "^listen" } }
  notify:
    command: [python3, -c, "import os, socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(os.environ['NOTIFY_SOCKET']); s.send(b'STATUS=nearly'); s.send(b'READY=1'); time.sleep(1000)"]
    listen: none
    ready: notify
  s6: { command: [sh, -c, "echo >&3; exec 3>&-; exec sleep 1000"], listen: none, ready: { notification_fd: 3 } }
  started: { command: sleep 1000, listen: none }
"#;
        app.write("watt.yaml", &format!("sandbox: {sandbox}{services}"));
        app.up();
        let status = app.status();
        for service in status["services"].as_array().expect("services") {
            assert_eq!(service["state"], "ready", "{user:?} {sandbox} {service}");
        }
        app.down();
    });
}

/// What was written while there was no daemon, or to one that was killed, is found by its successor.
#[test]
fn a_line_break_on_a_descriptor_outlives_the_daemon() {
    for_each_user(|user| {
        let app = App::yaml(
            r#"
services:
  s6:
    command: [sh, -c, "while ! test -e go; do sleep 0.01; done; echo >&5; touch done; exec sleep 1000"]
    listen: none
    ready: { notification_fd: 5 }
"#,
            user,
        );
        let mut up =
            app.wattctl(&["up", "-d"]).stderr(std::process::Stdio::null()).spawn().expect("wattctl runs");
        let daemon = || {
            let status =
                serde_json::from_slice::<Value>(&app.run(&["status", "--json"]).stdout).unwrap_or_default();
            let pid = status["supervisor"]["daemon_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            let is_starting = status["services"][0]["workers"][0]["pid"].is_u64();
            pid.filter(|_| is_starting).ok_or_else(|| status.to_string())
        };
        let pid = watt_tests::wait("it is starting", daemon);
        watt_tests::kill("STOP", pid);
        app.write("go", "");
        watt_tests::wait("it has written", || {
            if app.dir.join("done").exists() { Ok(()) } else { Err(String::new()) }
        });
        watt_tests::kill("KILL", pid);
        watt_tests::wait("it is ready", || match app.run(&["status", "--json"]).stdout {
            text if serde_json::from_slice::<Value>(&text)
                .is_ok_and(|status| status["services"][0]["state"] == "ready") =>
            {
                Ok(())
            }
            text => Err(String::from_utf8_lossy(&text).into_owned()),
        });
        watt_tests::kill("KILL", up.id());
        let _ = up.wait();
        app.down();
    });
}

#[test]
fn a_service_that_does_not_get_ready_is_named_so_and_its_dependents_wait() {
    let app = App::yaml(
        r#"
services:
  deaf:
    command: sleep 1000
    ready: { timeout: 300ms }
    restart: { backoff: { first: 10ms, max: 20ms }, give_up: { failures: 2, within: 1m } }
  after: { command: sleep 1000, listen: none, depends_on: { deaf: ready } }
"#,
        watt_tests::User::Ordinary,
    );
    let mut up =
        app.wattctl(&["up", "-d"]).stderr(std::process::Stdio::null()).spawn().expect("wattctl runs");
    watt_tests::wait("it has failed", || {
        let output = app.run(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        let services = &status["services"];
        let deaf = &services[1];
        if deaf["state"] != "failed" {
            return Err(status.to_string());
        }
        assert_eq!(deaf["workers"][0]["last_exit"]["cause"], "start_timeout", "{deaf}");
        assert_eq!(services[0]["state"], "waiting", "{services}");
        Ok(())
    });
    watt_tests::kill("KILL", up.id());
    let _ = up.wait();
    app.down();
}

#[test]
fn dependencies_start_in_order_and_jobs_complete() {
    for_each_user(|user| {
        let app = App::yaml(
            r#"
services:
  migrate: { command: [sh, -c, "echo migrated > order"], listen: none, restart: on-failure }
  app:
    command: [sh, -c, "cat order; exec sleep 1000"]
    listen: none
    depends_on: { migrate: completed_successfully }
"#,
            user,
        );
        app.up();
        assert_eq!(app.service("migrate")["state"], "completed");
        watt_tests::wait("the file of the first is seen by the second", || {
            let output = app.ok(&["logs", "app"]);
            if output.contains("migrated") { Ok(()) } else { Err(output) }
        });
        app.down();
    });
}

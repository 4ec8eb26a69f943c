//! `wattctl audit`: how exposed services are, of a running application as it really is, and of a configuration alone.

use serde_json::Value;
use watt_tests::{App, User, for_each_user, printed};

/// A service of each profile, and one with limits.
const SERVICES: &str = "name: app
services:
  bare: { command: sleep 1000, listen: none, sandbox: off }
  closed:
    command: sleep 1000
    listen: none
    sandbox: strict
    limits: { memory: 256M, pids: 64, cpu: 1, core: 0, nofile: 256 }
  usual: { command: sleep 1000, listen: none }
policies:
  - { from: usual, to: bare }
";

fn service<'a>(audit: &'a Value, id: &str) -> &'a Value {
    let services = audit["services"].as_array().expect("services");
    services.iter().find(|service| service["id"] == id).unwrap_or_else(|| panic!("no {id} in {audit}"))
}

fn check<'a>(audit: &'a Value, id: &str, check: &str) -> &'a Value {
    let checks = service(audit, id)["checks"].as_array().expect("checks");
    checks
        .iter()
        .find(|entry| entry["id"] == check)
        .unwrap_or_else(|| panic!("no {check} of {id} in {audit}"))
}

fn exposure(audit: &Value, id: &str) -> f64 {
    service(audit, id)["exposure"].as_f64().expect("a number")
}

/// What the host does not do counts as not there, by the very marks that `status` has.
#[test]
fn a_running_application_is_judged_by_what_is_enforced() {
    for_each_user(|user| {
        let app = App::yaml(SERVICES, user);
        app.up();
        let audit = app.json(&["audit"]);
        assert_eq!(
            (&audit["basis"], &audit["started_by_root"]),
            (&"running".into(), &(user == User::Root).into())
        );
        let [bare, closed, usual] = ["bare", "closed", "usual"].map(|id| exposure(&audit, id));
        assert!(closed < usual && usual < bare, "{audit}");
        for id in ["bare", "closed", "usual"] {
            assert_eq!(service(&audit, id)["unenforced"], app.service(id)["unenforced"]);
        }

        let unenforced = service(&audit, "closed")["unenforced"].to_string();
        for (mark, id) in [("memory", "limits.memory"), ("pids", "limits.pids"), ("dynamic_user", "user")] {
            let names = |line: &str| {
                line.split(" (").next().is_some_and(|names| names.split([',', ' ']).any(|name| name == mark))
            };
            let lines = service(&audit, "closed")["unenforced"].as_array().expect("lines");
            // What holds in another way is told there, too.
            let lines = lines.iter().filter_map(Value::as_str).filter(|line| !line.contains("RLIMIT_NPROC"));
            let is_lost = { lines }.any(names);
            let found = check(&audit, "closed", id);
            assert_eq!(found["unenforced"], is_lost, "{user:?}: {found} {unenforced}");
            assert_eq!(found["state"] == "present", !is_lost, "{user:?}: {found}");
        }
        // Nobody but root makes services other users, and nobody is told to try.
        let changes = user == User::Root;
        assert_eq!(check(&audit, "closed", "user")["state"], if changes { "present" } else { "partial" });
        let steps = service(&audit, "usual")["steps"].to_string();
        assert_eq!(steps.contains("sandbox.dynamic_user"), changes, "{steps}");

        let text = app.ok(&["audit"]);
        assert!(text.starts_with("app, as it runs on this host, started by "), "{text}");
        assert!(text.contains("services.bare.sandbox: standard"), "{text}");
        let text = app.ok(&["audit", "closed"]);
        assert!(
            text.contains("A broken or hostile process of it can") && !text.contains("usual  sandbox"),
            "{text}"
        );
        let can = service(&audit, "closed")["can"].as_array().expect("facts");
        let outside = can.iter().find(|fact| fact["about"] == "reach outside").expect("the way out");
        assert_eq!(outside["text"] == "nothing", check(&audit, "closed", "network")["state"] == "present");
        app.down();
    });
}

#[test]
fn a_line_that_is_proposed_does_what_it_says() {
    for_each_user(|user| {
        let app = App::yaml("services: { api: { command: sleep 1000, listen: none } }\n", user);
        let before = app.json(&["audit", "--file", "."]);
        let next = &service(&before, "api")["next"];
        assert_eq!(next["line"], "services.api.sandbox.dynamic_user: true");
        app.write(
            "watt.yaml",
            "services: { api: { command: sleep 1000, listen: none, sandbox: { dynamic_user: true } } }\n",
        );
        app.ok(&["config", "check"]);
        let after = app.json(&["audit", "--file", "."]);
        assert_eq!(exposure(&after, "api"), next["exposure"].as_f64().expect("a number"));
        assert!(exposure(&after, "api") < exposure(&before, "api"));
    });
}

/// The shop need not be built, nor run.
#[test]
fn a_configuration_alone_says_so() {
    let app = App::example("shop", User::Ordinary);
    let text = app.ok(&["audit", "--file", "."]);
    assert!(text.starts_with("shop, as configured in "), "{text}");
    for service in ["api", "orders", "recommendations", "storefront", "ticker"] {
        assert!(text.lines().any(|line| line.starts_with(service)), "{text}");
    }
    let audit = app.json(&["audit", "api", "--file", "watt.yaml"]);
    assert_eq!(
        (&audit["basis"], audit["services"].as_array().map(Vec::len)),
        (&"configured".into(), Some(1))
    );
    assert_eq!(check(&audit, "api", "limits.memory")["note"], "256M");
    // It runs Node.js, which compiles while it runs.
    let steps = service(&audit, "api")["steps"].as_array().expect("steps");
    let breaking = steps.iter().find(|step| !step["breaks"].is_null()).expect("a step that breaks it");
    assert_eq!(breaking["line"], "services.api.sandbox.memory_deny_write_execute: true");
    let text = app.ok(&["audit", "api", "--file", "."]);
    assert!(text.contains("orders, recommendations"), "{text}");

    let output = app.run(&["audit", "nosuch", "--file", "."]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    let output = app.run(&["audit"]);
    assert_eq!(output.status.code(), Some(4), "{}", printed(&output));
    assert!(printed(&output).contains("`wattctl audit --file .` looks at the configuration alone"));
}

#[test]
fn a_threshold_is_for_scripts() {
    let app = App::yaml(SERVICES, User::Ordinary);
    let code = |threshold: &str, more: &[&str]| {
        let arguments: Vec<&str> = ["audit", "--file", ".", "--threshold", threshold]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        app.run(&arguments).status.code()
    };
    assert_eq!(code("10", &[]), Some(0));
    assert_eq!(code("3", &[]), Some(1));
    assert_eq!(code("3", &["closed"]), Some(0));
    assert_eq!(code("3", &["closed", "bare", "--json"]), Some(1));
    assert_eq!(code("11", &[]), Some(2));
    assert_eq!(code("low", &[]), Some(2));
    let output = app.run(&["audit", "--file", ".", "--threshold", "3"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("2 services are more exposed than 3.0: bare "), "{said}");
}

/// Whoever writes a configuration does not write on the terminal of who audits it.
#[test]
fn values_of_the_configuration_are_printed_harmlessly() {
    let app = App::yaml(
        "services:
  api:
    command: sleep 1000
    listen: none
    env: { \"A_TOKEN\\x1b[31m\": \"hunter2hunter2\", DB_PASSWORD: hunter2hunter2 }
    sandbox: { profile: strict, read_write_paths: [\"-/data/\\x1b]0;title\\x07\\x1b[2J\"] }
",
        User::Ordinary,
    );
    for arguments in [&["audit", "--file", "."][..], &["audit", "api", "--file", "."]] {
        let text = app.ok(arguments);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let text = app.ok(&["audit", "api", "--file", "."]);
    assert!(text.contains("/data/\\u{1b}]0;title\\u{7}") && text.contains("DB_PASSWORD"), "{text}");
    assert!(!app.json(&["audit", "--file", "."]).to_string().contains("hunter2"));
}

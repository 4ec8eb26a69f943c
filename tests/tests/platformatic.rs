//! Projects of Platformatic Watt, as they are: versions 2 and 3, `autoload` and lists, gateways and composers, services with `create`, with
//! `build` and with a server of their own.

use watt_tests::{App, User, for_each_user, printed, wait};

/// A project of `cases/platformatic`.
fn project(name: &str, user: User) -> App {
    App::case(&format!("platformatic/{name}"), user)
}

/// The body of an answer with 200.
#[track_caller]
fn get(app: &App, path: &str) -> String {
    let (code, body) = app.get(path);
    assert_eq!(code, 200, "{path}: {body}");
    body
}

#[test]
fn a_project_with_a_composer_starts_as_it_is() {
    for_each_user(|user| {
        let app = project("shop", user);
        app.up();
        let api: serde_json::Value = serde_json::from_str(&get(&app, "/api/x?y=1")).expect("JSON");
        assert_eq!(api["url"], "/x?y=1");
        assert_eq!(api["SHARED"], "shared");
        assert_eq!(api["OWN"], "of the api");
        assert_eq!(api["GREETING"], "own");
        assert_eq!(api["applicationId"], "api");
        assert_eq!(api["level"], "warn");
        // Another prefix for the service, and a call through the mesh to one that listens by itself.
        assert_eq!(get(&app, "/v1/orders/list"), "hello orders /of/list");
        assert_eq!(get(&app, "/api/orders"), "200 hello orders /list");
        // Files, with the page for paths without one.
        assert_eq!(get(&app, "/"), "<h1>the shop</h1>\n");
        assert_eq!(get(&app, "/assets/app.js"), "console.log(1)\n");
        assert_eq!(get(&app, "/some/page"), "<h1>the shop</h1>\n");
        // A service without a server, to which `policies` deny another one.
        wait("the worker is refused", || match app.ok(&["logs", "worker"]) {
            text if text.contains("orders said 403") => Ok(()),
            text => Err(text),
        });
        let status = app.status();
        let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
        let of_project: Vec<&str> = warnings
            .iter()
            .filter_map(|line| line.as_str())
            .filter(|line| line.starts_with("watt.json:"))
            .collect();
        assert_eq!(of_project.len(), 1, "{warnings:?}");
        assert!(of_project[0].contains("`telemetry` is not taken over"), "{of_project:?}");
        assert!(app.ok(&["jobs"]).contains("tick"), "the scheduler's job");
        app.down();
    });
}

#[test]
fn a_project_of_version_2_starts_and_reads_its_files_again() {
    let app = project("classic", User::Ordinary);
    app.up();
    let seen = get(&app, "/x");
    assert!(seen.starts_with("main ") && seen.ends_with(": koa /x --color,blue"), "{seen}");
    assert_eq!(app.service("main")["ready"], 2, "workers of a variable");
    // A file of the project's that is not its first.
    app.write("services/koa/platformatic.json", r#"{ "module": "@platformatic/node", "node": { "main": "app.cjs" }, "application": { "basePath": "/k" } }"#);
    app.write(".env", "PLT_SERVER_PORT=0\nWORKERS=1\n");
    app.ok(&["reload", "--wait"]);
    assert_eq!(app.service("main")["ready"], 1);
    app.write("services/koa/platformatic.json", "{ \"module\": ");
    let output = app.run(&["reload"]);
    assert_eq!(output.status.code(), Some(3), "{}", printed(&output));
    assert!(printed(&output).contains("services/koa/platformatic.json:1:"), "{}", printed(&output));
    get(&app, "/still");
    app.down();
}

#[test]
fn an_application_alone_and_a_gateway_of_all_start() {
    let app = project("single", User::Ordinary);
    let mut up = app.wattctl(&["up", "-d"]);
    let output = up.env("FROM_OUTSIDE", "outside").output().expect("wattctl runs");
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(get(&app, "/base/x"), "solo /x red outside");
    assert_eq!(app.get("/x").0, 404);
    app.down();

    let app = project("all", User::Ordinary);
    app.up();
    assert_eq!(get(&app, "/site/one/a"), "one /a{NOTHING}undefined");
    assert_eq!(get(&app, "/site/second/b"), "two /b{NOTHING}undefined");
    assert_eq!(app.service("one")["ready"], 2, "workers by name");
    app.down();
}

#[test]
fn a_project_that_was_migrated_is_the_same() {
    let app = project("classic", User::Ordinary);
    let before = app.ok(&["config", "check"]);
    assert!(before.contains("platformatic.yaml: ok, 2 services"), "{before}");
    app.ok(&["migrate"]);
    assert!(app.ok(&["config", "check"]).contains("watt.yaml: ok, 2 services"));
    let again = app.run(&["migrate"]);
    assert!(printed(&again).contains("is no file of Platformatic's"), "{}", printed(&again));
    app.up();
    let seen = get(&app, "/x");
    assert!(seen.starts_with("main ") && seen.ends_with(": koa /x --color,blue"), "{seen}");
    app.down();
}

#[test]
fn what_a_service_checks_itself_is_its_health_and_what_it_throws_is_shown() {
    let app = project("classic", User::Ordinary);
    app.write(
        "services/main/entry.mjs",
        "let isWell = true\nplatformatic.setCustomHealthCheck(() => isWell)\nexport const build = () => (request, response) => {\n  if (request.url === '/ill') isWell = false\n  response.end(String(process.pid))\n}\n",
    );
    app.write(".env", "PLT_SERVER_PORT=0\nWORKERS=1\n");
    app.up();
    assert_eq!(get(&app, "/.watt/health"), get(&app, "/"), "clients do not get the answer for watt");
    let first = get(&app, "/ill");
    wait("another worker is in its place", || match app.get("/") {
        (200, second) if second != first => Ok(()),
        other => Err(format!("{other:?}")),
    });
    app.down();
    let app = project("single", User::Ordinary);
    app.write("watt.json5", "{ module: '@platformatic/node', server: { port: 0 }, runtime: { application: { restartOnError: false } } }");
    app.write("index.js", "throw new Error('it cannot be')\n");
    let output = app.run(&["up", "-d"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    let log = app.ok(&["logs", "solo"]);
    assert!(log.contains("Error: it cannot be") && log.contains("index.js:1:7"), "{log}");
    assert!(!log.contains("node:internal"), "{log}");
    app.down();
}

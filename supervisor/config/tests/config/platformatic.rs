//! Projects of Platformatic's as watt reads them.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;
use watt_config::{
    Config, NODE_LOADER, Report, Sources, find, migrate, parse, platformatic_reference, warnings,
};

/// The schema of a whole project.
const WATTPM: &str = r#""$schema": "https://schemas.platformatic.dev/wattpm/3.54.0.json""#;

/// A folder with these files. The first one is the project's.
fn project(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn read(folder: &TempDir, file: &str, env: &[(&str, &str)]) -> Result<Sources, Report> {
    let env: BTreeMap<String, String> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources::read(&folder.path().join(file), env)
}

/// What a project means, and its warnings.
#[track_caller]
fn valid(files: &[(&str, &str)], env: &[(&str, &str)]) -> (Value, Vec<String>) {
    let folder = project(files);
    let sources = read(&folder, files[0].0, env).unwrap_or_else(|report| panic!("{report}"));
    // What is kept of it means the same where the files are no more.
    let kept = serde_json::to_string(&sources).expect("it can be kept");
    drop(folder);
    let sources: Sources = serde_json::from_str(&kept).expect("it can be read again");
    let config = parse(&sources).unwrap_or_else(|report| panic!("{report}"));
    (shown(&config), warnings(&sources))
}

/// The error of a project that is wrong.
#[track_caller]
fn invalid(files: &[(&str, &str)]) -> String {
    let folder = project(files);
    let report = match read(&folder, files[0].0, &[]) {
        Ok(sources) => parse(&sources).map(|config| shown(&config)).expect_err("it is wrong"),
        Err(report) => report,
    };
    report.seen_from(folder.path()).to_string().replace(&folder.path().display().to_string(), "/srv")
}

/// The effective configuration without where it came from.
fn shown(config: &Config) -> Value {
    fn bare(value: &Value) -> Value {
        match value {
            Value::Object(entries) if entries.contains_key("value") && entries.contains_key("from") => {
                entries["value"].clone()
            }
            Value::Object(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), bare(value))).collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(bare).collect()),
            other => other.clone(),
        }
    }
    bare(&config.show())
}

/// The routes, a line each: host, path, what becomes of it, and where it leads.
fn routes(shown: &Value) -> Vec<String> {
    let routes = shown["gateway"]["routes"].as_array().cloned().unwrap_or_default();
    let line = |route: Value| {
        let text = |key: &str| route[key].as_str().map(str::to_owned);
        let mut line = format!("{}{}", text("host").unwrap_or_default(), text("path").unwrap_or_default());
        if route["match"] == "exact" {
            line.push_str(" exactly");
        }
        if route["strip"] == true {
            line.push_str(" stripped");
        }
        if let Some(rewrite) = text("rewrite") {
            line.push_str(&format!(" as {rewrite}"));
        }
        for method in route["methods"].as_array().into_iter().flatten() {
            line.push_str(&format!(" {}", method.as_str().unwrap_or_default()));
        }
        let upstream = route["upstream"]["url"].as_str().or(route["upstream"].as_str()).map(str::to_owned);
        format!("{line} -> {}", text("service").or(upstream).unwrap_or_default())
    };
    routes.into_iter().map(line).collect()
}

/// One file of a project of one service.
fn one(more: &str) -> String {
    format!(r#"{{ {WATTPM}, "services": [{{ "id": "api", "path": "api" }}] {more} }}"#)
}

const API: (&str, &str) = ("api/index.js", "");

#[test]
fn services_of_autoload_and_of_lists_are_one_list() {
    let root = format!(
        r#"{{ {WATTPM}, "entrypoint": "web",
            "autoload": {{ "path": "web", "exclude": ["docs"], "mappings": {{ "two": {{ "id": "second", "workers": 3 }} }} }},
            "applications": [{{ "id": "one", "env": {{ "A": "b" }} }}, {{ "id": "off", "path": "gone", "enabled": "{{OFF}}" }}],
            "services": [{{ "id": "dev", "path": "gone", "enabled": {{ "production": false }} }}],
            "web": [{{ "id": "web", "path": "{{PLT_ROOT}}/site", "dependencies": ["one"] }}] }}"#
    );
    let files = [
        ("watt.json", root.as_str()),
        ("web/one/index.js", ""),
        ("web/two/server.mjs", ""),
        ("web/docs/index.js", ""),
        ("web/README.md", ""),
        ("site/package.json", r#"{ "exports": { ".": { "import": "./main.mjs" } } }"#),
    ];
    let (shown, warnings) = valid(&files, &[("OFF", "false")]);
    assert_eq!(warnings, [""; 0]);
    let services: Vec<&String> = shown["services"].as_object().expect("a table").keys().collect();
    assert_eq!(services, ["one", "web", "second"]);
    assert_eq!(shown["services"]["one"]["env"]["A"], "b");
    assert_eq!(shown["services"]["second"]["workers"], 3);
    assert_eq!(shown["services"]["web"]["depends_on"]["one"], "ready");
    assert_eq!(routes(&shown), ["/ -> web"]);
    let command = shown["services"]["web"]["command"].as_array().expect("a list");
    assert_eq!(command.last(), Some(&"./main.mjs".into()));
    assert!(shown["services"]["web"]["path"].as_str().is_some_and(|path| path.ends_with("/site")));
}

#[test]
fn the_loader_arrives_as_it_is() {
    let (shown, _) = valid(&[("watt.json", &one("")), API], &[]);
    assert_eq!(shown["services"]["api"]["env"]["WATT_NODE_LOADER"], NODE_LOADER);
}

#[test]
fn workers_in_all_forms() {
    let check = |root: &str, own: &str, expected: Value| {
        let own = format!(r#"{{ "id": "api", "path": "api" {own} }}"#);
        let text = format!(r#"{{ {WATTPM} {root}, "services": [{own}] }}"#);
        let (shown, _) = valid(&[("watt.json", &text), API], &[("N", "5")]);
        let workers = &shown["services"]["api"]["workers"];
        let (min, max) = (&workers["min"], &workers["max"]);
        let found = if workers.is_object() { serde_json::json!([min, max]) } else { workers.clone() };
        assert_eq!(found, expected, "{root} {own}");
    };
    let one_to_four = || serde_json::json!([1, 4]);
    check("", "", 1.into());
    check(r#", "workers": 2"#, "", 2.into());
    check(r#", "workers": "{N}""#, "", 5.into());
    check(r#", "workers": 2"#, r#", "workers": 3"#, 3.into());
    check(r#", "workers": { "static": 4 }"#, "", 4.into());
    check(r#", "workers": { "api": 6, "web": 2 }"#, "", 6.into());
    check(
        r#", "workers": { "dynamic": true, "minimum": 2, "maximum": 8, "scaleUpELU": 0.8 }"#,
        "",
        serde_json::json!([2, 8]),
    );
    check(r#", "workers": { "dynamic": true }"#, "", one_to_four());
    check("", r#", "workers": { "dynamic": false, "minimum": 2, "maximum": 8 }"#, 2.into());
    check(r#", "verticalScaler": { "enabled": true, "maxWorkers": 4 }"#, "", one_to_four());
    check(r#", "verticalScaler": { "enabled": false, "maxWorkers": 4 }"#, "", 1.into());
}

#[test]
fn variables_come_from_where_they_come_from_there() {
    let root = format!(
        r#"{{ {WATTPM}, "env": {{ "ALL": "all", "BOTH": "of all" }}, "server": {{ "port": "{{{{MY_PORT}}}}" }},
            "services": [{{ "id": "api", "path": "api", "env": {{ "BOTH": "{{DOT}} {{REAL}}" }} }},
                         {{ "id": "db", "path": "db", "envfile": "db.env", "nodeOptions": "--no-warnings" }}], "entrypoint": "api" }}"#
    );
    let files = [
        ("watt.json", root.as_str()),
        (".env", "MY_PORT=4000\nDOT=dot\nREAL=no\nDATABASE=postgres://localhost:5432/db"),
        ("db.env", "DOT=of db\nREAL=no"),
        API,
        ("api/.env", "OWN={x} {{y}}\nPORT=3000\n"),
        ("db/index.js", ""),
        ("db/.env", "NOT=read"),
    ];
    let (shown, _) = valid(&files, &[("REAL", "real {not} read again"), ("PATH", "/bin"), ("WATT_APP", "x")]);
    let env = |service: &str, name: &str| shown["services"][service]["env"][name].clone();
    assert_eq!(shown["server"]["port"], 4000);
    assert_eq!(env("api", "ALL"), "all");
    assert_eq!(env("api", "BOTH"), "dot real {not} read again");
    assert_eq!(env("api", "OWN"), "{x} {{y}}");
    assert_eq!(env("api", "REAL"), "real {not} read again");
    assert_eq!(env("api", "NODE_ENV"), "production");
    assert_eq!(env("api", "PORT"), Value::Null, "watt sets it");
    assert_eq!(env("api", "PATH"), Value::Null);
    assert_eq!(env("db", "BOTH"), "of all");
    assert_eq!(env("db", "DOT"), "of db");
    assert_eq!(env("db", "REAL"), "real {not} read again");
    assert_eq!(env("db", "NOT"), Value::Null);
    assert_eq!(env("db", "NODE_OPTIONS"), "--no-warnings");
    // What is on the host's localhost is reached there.
    assert_eq!(shown["services"]["api"]["egress"]["host_ports"], serde_json::json!([5432]));
}

#[test]
fn the_file_of_variables_is_the_nearest_above_or_the_one_that_is_named() {
    let inner = one(r#", "server": { "port": "{P}" }"#);
    let named = one(r#", "server": { "port": "{P}" }, "envfile": "other.env""#);
    let port = |file: &str| {
        let files = [
            ("a/b/watt.json", inner.as_str()),
            ("a/b/platformatic.json", &named),
            ("a/b/api/index.js", ""),
            (".env", "P=1001"),
            ("a/.env", "P=1002"),
            ("a/b/other.env", "P=1003"),
        ];
        let folder = project(&files);
        let sources = read(&folder, file, &[]).unwrap_or_else(|report| panic!("{report}"));
        shown(&parse(&sources).unwrap_or_else(|report| panic!("{report}")))["server"]["port"].clone()
    };
    assert_eq!(port("a/b/watt.json"), 1002);
    assert_eq!(port("a/b/platformatic.json"), 1003);
    let error = invalid(&[("watt.json", &named), API]);
    assert!(error.contains("/srv/other.env does not exist"), "{error}");
}

#[test]
fn a_variable_that_is_not_set_is_an_error_unless_the_file_says_otherwise() {
    let error = invalid(&[("watt.json", &one(r#", "env": { "A": "{NOWHERE}" }"#)), API]);
    assert!(error.contains("the variable NOWHERE is not set") && error.contains("watt.json:1:"), "{error}");
    let (shown, warnings) =
        valid(&[("watt.json", &one(r#", "strictEnv": "warn", "env": { "A": "{NOWHERE}!" }"#)), API], &[]);
    assert_eq!(shown["services"]["api"]["env"]["A"], "!");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    // In a service's own file one that ends with `_URL` stands for the service.
    let own = r#"{ "module": "@platformatic/node", "node": { "main": "{NOWHERE_URL}" } }"#;
    let (shown, _) = valid(&[("watt.json", &one("")), ("api/watt.json", own)], &[]);
    let command = shown["services"]["api"]["command"].as_array().expect("a list");
    assert_eq!(command.last(), Some(&"http://api.plt.local".into()));
}

#[test]
fn gateways_are_routes() {
    let root = format!(r#"{{ {WATTPM}, "autoload": {{ "path": "web" }}, "entrypoint": "gateway" }}"#);
    let gateway = r#"{ "module": "@platformatic/gateway", "gateway": { "applications": [
        { "id": "api", "proxy": { "prefix": "/api/", "methods": ["GET", "POST"], "ws": { "reconnect": { "logs": true } } } },
        { "id": "api", "origin": "internal://users", "proxy": { "prefix": "users", "rewritePrefix": "/v2" } },
        { "id": "other", "origin": "http://other.example:8080", "proxy": { "prefix": "/other", "hostname": "other.test" } },
        { "id": "secure", "origin": "https://secure.example" },
        { "id": "next", "proxy": { "prefix": "/" } },
        { "id": "users", "proxy": { "prefix": "/part", "routes": ["/x/:userId", "/y/*"] } },
        { "id": "described", "proxy": false },
        { "id": "described", "openapi": { "file": "openapi.json", "prefix": "/d" } },
        { "id": "described", "graphql": true }
    ] } }"#;
    let files = [
        ("watt.json", root.as_str()),
        ("web/gateway/watt.json", gateway),
        (
            "web/gateway/openapi.json",
            r#"{ "paths": { "/things/{thingId}": { "get": {}, "delete": {}, "parameters": [] } } }"#,
        ),
        ("web/api/index.js", ""),
        ("web/users/index.js", ""),
        ("web/described/index.js", ""),
        (
            "web/next/watt.json",
            r#"{ "module": "@platformatic/node", "application": { "basePath": "/site" }, "node": { "absoluteUrl": true } }"#,
        ),
        ("web/next/index.js", ""),
    ];
    let (shown, warnings) = valid(&files, &[]);
    let expected = [
        "/api stripped GET POST -> api",
        "/users as /v2 -> users",
        "/other stripped -> http://other.example:8080",
        "other.test/ -> http://other.example:8080",
        "/secure stripped -> https://secure.example",
        "/ as /site -> next",
        "/part/x/{userId} exactly as /x/{userId} -> users",
        "/part/y as /y -> users",
        "/d/things/{thingId} exactly as /things/{thingId} GET DELETE -> described",
    ];
    assert_eq!(routes(&shown), expected);
    let about: Vec<&str> = warnings.iter().filter_map(|line| line.split('`').nth(1)).collect();
    assert_eq!(about, ["reconnect", "graphql"], "{warnings:?}");
    assert!(warnings[0].starts_with("web/gateway/watt.json:2:"), "{warnings:?}");
}

#[test]
fn a_gateway_without_a_list_has_all_and_a_base_path_is_before_everything() {
    let root = format!(r#"{{ {WATTPM}, "autoload": {{ "path": "web" }}, "basePath": "/shop" }}"#);
    let files = [
        ("watt.json", root.as_str()),
        (
            "web/gateway/platformatic.json",
            r#"{ "$schema": "https://schemas.platformatic.dev/@platformatic/composer/2.5.0.json", "composer": {} }"#,
        ),
        ("web/One/index.js", ""),
        (
            "web/two/watt.json",
            r#"{ "module": "@platformatic/node", "application": { "basePath": "second" } }"#,
        ),
        ("web/two/index.js", ""),
        ("web/work/watt.json", r#"{ "module": "@platformatic/node", "node": { "hasServer": false } }"#),
        ("web/work/index.js", ""),
    ];
    let (shown, _) = valid(&files, &[]);
    assert_eq!(routes(&shown), ["/shop/one stripped -> one", "/shop/second stripped -> two"]);
    assert_eq!(shown["services"]["work"]["listen"], "none");
}

#[test]
fn what_is_denied_is_allowed_to_all_others() {
    let root = format!(
        r#"{{ {WATTPM}, "autoload": {{ "path": "web" }}, "policies": {{ "deny": {{ "a": ["b"], "c": "nobody" }} }} }}"#
    );
    let files = [
        ("watt.json", root.as_str()),
        ("web/a/index.js", ""),
        ("web/b/index.js", ""),
        ("web/c/index.js", ""),
    ];
    let (shown, warnings) = valid(&files, &[]);
    let policies = shown["policies"].as_array().expect("a list").iter();
    let pairs: Vec<String> = policies
        .map(|one| format!("{}>{}", one["from"].as_str().unwrap_or(""), one["to"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(pairs, ["a>a", "c>a", "b>b", "c>b", "a>c", "b>c", "c>c"]);
    assert!(warnings.iter().any(|line| line.contains("`nobody` is no service here")), "{warnings:?}");
}

#[test]
fn times_jobs_health_and_restarts() {
    let root = format!(
        r#"{{ {WATTPM}, "startTimeout": 5000, "serviceTimeout": 7000, "gracefulShutdown": {{ "runtime": 1, "service": 2500 }},
            "health": {{ "interval": 2000, "maxUnhealthyChecks": 4, "maxHeapTotal": "256MB" }}, "logger": {{ "level": "debug" }},
            "scheduler": [{{ "name": "Tick tock", "cron": "* * * * *", "callbackUrl": "http://api.plt.local/tick", "body": {{ "a": "{{X}}" }} }},
                          {{ "name": "out", "cron": "* * * * *", "callbackUrl": "https://example.org/" }}],
            "services": [{{ "id": "api", "path": "api", "restartOnError": 1500, "arguments": ["--x"], "execArgv": ["--no-deprecation"] }},
                         {{ "id": "once", "path": "api", "restartOnError": 0, "health": {{ "enabled": false }} }}] }}"#
    );
    let (shown, warnings) = valid(&[("watt.json", &root), API], &[("X", "y")]);
    let api = &shown["services"]["api"];
    assert_eq!(api["ready"]["timeout"], "5s");
    assert_eq!(api["timeouts"]["first_byte"], "7s");
    assert_eq!(api["stop"]["grace"], "2s500ms");
    assert_eq!(api["health"]["http"]["path"], "/.watt/health");
    assert_eq!(api["health"]["interval"], "2s");
    assert_eq!(api["health"]["failures"], 4);
    assert_eq!(api["restart"]["backoff"]["first"], "1s500ms");
    assert_eq!(api["env"]["PLT_LOG_LEVEL"], "debug");
    let command: Vec<&str> =
        api["command"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(command[..3], ["node", "--max-old-space-size=256", "--no-deprecation"]);
    assert_eq!(command[command.len() - 2..], ["index.js", "--x"]);
    assert_eq!(shown["services"]["once"]["restart"]["policy"], "never");
    assert_eq!(shown["services"]["once"]["health"], Value::Null);
    assert_eq!(
        shown["jobs"].as_object().map(|jobs| jobs.keys().cloned().collect::<Vec<_>>()),
        Some(vec!["tick-tock".to_owned()])
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn programs_of_frameworks() {
    let check = |package: &str, own: &str, more: &[(&str, &str)], expected: &str| {
        let mut files = vec![("watt.json", one(""))];
        files.push(("api/package.json", package.to_owned()));
        if !own.is_empty() {
            files.push(("api/watt.json", own.to_owned()));
        }
        files.extend(more.iter().map(|(name, text)| (*name, (*text).to_owned())));
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let (shown, _) = valid(&files, &[]);
        let command = shown["services"]["api"]["command"].as_array().expect("a list").iter();
        let words: Vec<&str> = command
            .filter_map(Value::as_str)
            .filter(|word| !word.contains("_compile") && !word.starts_with("--eval") && *word != "--")
            .collect();
        assert_eq!(words.join(" "), expected, "{package}");
    };
    let depends = |name: &str| format!(r#"{{ "dependencies": {{ "{name}": "1" }} }}"#);
    check(
        &depends("next"),
        "",
        &[("api/.next/x", ""), ("node_modules/next/x", "")],
        "node ../node_modules/next/dist/bin/next start",
    );
    check(&depends("nuxt"), "", &[("api/.output/server/index.mjs", "")], "node .output/server/index.mjs");
    check(&depends("astro"), "", &[("api/dist/server/entry.mjs", "")], "node dist/server/entry.mjs");
    check(&depends("astro"), "", &[("api/dist/index.html", "")], "node dist");
    check(
        &depends("@react-router/dev"),
        "",
        &[("api/build/server/index.js", ""), ("api/node_modules/@react-router/serve/x", "")],
        "node node_modules/@react-router/serve/bin.js build/server/index.js",
    );
    check(
        &depends("@remix-run/dev"),
        "",
        &[("api/build/server/index.js", ""), ("api/node_modules/@remix-run/serve/x", "")],
        "node node_modules/@remix-run/serve/dist/cli.js build/server/index.js",
    );
    check(&depends("@nestjs/core"), "", &[("api/dist/main.js", "")], "node dist/main.js");
    check(
        &depends("vite"),
        "",
        &[
            ("api/out/index.html", ""),
            (
                "api/watt.json",
                r#"{ "module": "@platformatic/vite", "application": { "outputDirectory": "out" } }"#,
            ),
        ],
        "node out",
    );
    check(
        &depends("vite"),
        r#"{ "module": "@platformatic/vite", "vite": { "ssr": true } }"#,
        &[("api/dist/server/server.js", "")],
        "node dist/server/server.js",
    );
    check(
        &depends("@platformatic/service"),
        "",
        &[("node_modules/@platformatic/service/x", "")],
        "node @platformatic/service",
    );
    check(
        "{}",
        r#"{ "module": "@acme/thing@1.2.0", "plugins": {}, "anything": 1 }"#,
        &[("node_modules/@acme/thing/x", "")],
        "node @acme/thing",
    );
    check(r#"{ "scripts": { "start": "x" } }"#, r#"{ "module": "@platformatic/node" }"#, &[], "npm start");
    check(
        "{}",
        r#"{ "module": "@platformatic/node", "application": { "commands": { "production": "tool run --port {PORT_OF_IT}" } }, "runtime": {} }"#,
        &[("node_modules/.bin/tool", ""), ("api/.env", "PORT_OF_IT=99")],
        "../node_modules/.bin/tool run --port 99",
    );
    check(
        "{}",
        r#"{ "module": "@platformatic/python", "python": { "appTarget": "x:app" } }"#,
        &[],
        "python3 -m uvicorn x:app --host 127.0.0.1 --port {port}",
    );
}

#[test]
fn every_key_that_is_not_taken_over_is_a_warning_with_its_place() {
    let root = one(r#",
  "metrics": { "port": 9090, "labels": { "a": "b" } }, "telemetry": { "applicationName": "x" }, "httpCache": false,
  "entripoint": "api", "server": { "port": 0, "cors": {} }, "undici": {}"#);
    let own = "{ \"module\": \"@platformatic/node\",\n  \"node\": { \"main\": \"index.js\", \"nope\": 1 }, \"cache\": { \"adapter\": \"valkey\" } }";
    let (_, warnings) = valid(&[("watt.json", &root), API, ("api/watt.json", own)], &[]);
    let expected = [
        "watt.json:2:30: `labels` is not taken over",
        "watt.json:2:56: `telemetry` is not taken over",
        "watt.json:3:3: `entripoint` of watt.json is not known, and not taken over; did you mean `entrypoint`?",
        "api/watt.json:2:33: `nope` of node is not known",
        "api/watt.json:2:46: `cache` is not taken over",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.starts_with(expected), "{warning}\n{expected}");
    }
}

#[test]
fn a_project_that_is_wrong_is_refused_with_what_to_do() {
    let errors = [
        invalid(&[("watt.json", &one("")), ("other/index.js", "")]),
        invalid(&[("watt.json", &one("")), ("api/README.md", "")]),
        invalid(&[("watt.json", &one("")), ("api/package.json", r#"{ "dependencies": { "next": "1" } }"#)]),
        invalid(&[("watt.json", &one("")), ("api/watt.json", "{ \"module\": \"@platformatic/db\" }")]),
        invalid(&[("watt.json", &one("")), ("api/watt.json", "{ \"node\": ")]),
        invalid(&[("watt.json", &one(r#", "entrypoint": "web""#)), API]),
        invalid(&[("watt.json", &one(r#", "autoload": { "path": "nowhere" }"#)), API]),
        invalid(&[(
            "watt.json",
            &format!(
                r#"{{ {WATTPM}, "web": [{{ "id": "far", "url": "https://example.org/far.git", "gitBranch": "next", "path": "{{PLT_FAR}}" }}] }}"#
            ),
        )]),
        invalid(&[
            (
                "watt.json",
                &format!(
                    r#"{{ {WATTPM}, "web": [{{ "id": "a", "path": "api" }}, {{ "id": "a", "path": "b" }}, {{ "path": "api" }}] }}"#
                ),
            ),
            API,
        ]),
        invalid(&[("platformatic.json", r#"{ "services": [] }"#)]),
        invalid(&[
            (
                "watt.json",
                &one(r#", "server": { "https": { "key": "-----BEGIN", "cert": { "path": "c.pem" } } }"#),
            ),
            API,
        ]),
    ];
    insta::assert_snapshot!(errors.join("\n----\n"));
}

#[test]
fn files_of_every_language() {
    let texts = [
        (
            "watt.json5",
            "// one\n{ $schema: 'https://schemas.platformatic.dev/wattpm/3.0.0.json', services: [{ id: 'api', path: 'api', }], /* two */ workers: 2, }",
        ),
        (
            "watt.yml",
            "$schema: https://platformatic.dev/schemas/v1.52.0/runtime\nservices:\n  - { id: api, path: api }\nworkers: {N}\n",
        ),
        (
            "platformatic.tml",
            "\"$schema\" = \"https://schemas.platformatic.dev/@platformatic/runtime/2.0.0.json\"\nworkers = \"{{N}}\"\n[[services]]\nid = \"api\"\npath = \"api\"\n",
        ),
        (
            "platformatic.runtime.yaml",
            "module: \"@platformatic/runtime\"\nautoload: { path: . }\nworkers: 2\n",
        ),
    ];
    for (name, text) in texts {
        let (shown, warnings) = valid(&[(name, text), API, (".env", "N=2\n")], &[]);
        assert_eq!(shown["services"]["api"]["workers"], 2, "{name}");
        assert_eq!(warnings, [""; 0], "{name}");
    }
}

#[test]
fn one_application_alone_is_a_project() {
    let own = r#"{ "module": "@platformatic/node", "server": { "port": 0, "logger": true }, "node": { "main": "x.js" },
        "runtime": { "env": { "A": "b" }, "workers": 2, "application": { "execArgv": ["--y"] } } }"#;
    let (shown, warnings) =
        valid(&[("watt.json", own), ("package.json", r#"{ "name": "@acme/solo" }"#)], &[]);
    assert_eq!(shown["services"]["solo"]["workers"], 2);
    assert_eq!(shown["services"]["solo"]["env"]["A"], "b");
    assert_eq!(routes(&shown), ["/ -> solo"]);
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn a_file_goes_on_from_another_one() {
    let base = format!(
        r#"{{ {WATTPM}, "services": [{{ "id": "api", "path": "api" }}], "workers": 2, "env": {{ "A": "base" }} }}"#
    );
    let own = format!(r#"{{ {WATTPM}, "extends": "base/watt.json", "workers": 3 }}"#);
    let (shown, _) = valid(&[("watt.json", &own), ("base/watt.json", &base), API], &[]);
    assert_eq!(shown["services"]["api"]["workers"], 3);
    assert_eq!(shown["services"]["api"]["env"]["A"], "base");
    let error = invalid(&[("watt.json", &format!(r#"{{ {WATTPM}, "extends": "watt.json" }}"#)), API]);
    assert!(error.contains("without an end") || error.contains("does not exist"), "{error}");
}

#[test]
fn a_project_is_found_from_inside_and_a_watt_yaml_beside_it_counts() {
    let root = one("");
    let own = r#"{ "module": "@platformatic/node" }"#;
    let folder = project(&[("watt.json", &root), API, ("api/watt.json", own), ("api/src/x.js", "")]);
    let found = |from: &str| find(&folder.path().join(from)).expect("it is found");
    assert_eq!(found("api/src"), folder.path().join("watt.json"));
    fs::remove_file(folder.path().join("watt.json")).expect("it is there");
    assert_eq!(found("api/src"), folder.path().join("api/watt.json"), "an application alone");
    fs::write(folder.path().join("platformatic.runtime.yml"), "module: \"@platformatic/runtime\"\n")
        .expect("a file");
    assert_eq!(found("api"), folder.path().join("platformatic.runtime.yml"));
    fs::write(folder.path().join("watt.json"), root).expect("a file");
    fs::write(folder.path().join("watt.yaml"), "services: { a: { command: x } }").expect("a file");
    assert_eq!(found("api"), folder.path().join("watt.yaml"), "watt's own file counts");
    // A watt.json of watt's own is one of two then.
    fs::write(folder.path().join("watt.json"), r#"{ "services": { "a": { "command": "x" } } }"#)
        .expect("a file");
    assert!(find(folder.path()).is_err());
}

#[test]
fn what_migrate_writes_means_the_same() {
    let root = format!(
        r#"{{ {WATTPM}, "entrypoint": "gateway", "autoload": {{ "path": "web" }}, "basePath": "/b", "server": {{ "port": "{{P}}" }},
            "workers": {{ "dynamic": true, "maximum": 3 }}, "env": {{ "A": "{{x y}} {{P}}", "B": "true" }}, "metrics": {{ "port": 0 }}, "telemetry": {{ "version": "1" }},
            "policies": {{ "deny": {{ "one": "two" }} }}, "gracefulShutdown": {{ "application": 1234 }},
            "scheduler": [{{ "name": "t", "cron": "* * * * *", "callbackUrl": "http://one.plt.local/", "body": "{{\"a\": 1}}" }}] }}"#
    );
    let files = [
        ("watt.json", root.as_str()),
        (".env", "P=4000"),
        ("web/one/index.js", ""),
        ("web/two/index.js", ""),
        (
            "web/gateway/watt.json",
            r#"{ "module": "@platformatic/gateway", "gateway": { "applications": [{ "id": "one" }, { "id": "two", "proxy": { "prefix": "/", "routes": ["/a/:b"] } }] } }"#,
        ),
    ];
    let folder = project(&files);
    let sources = read(&folder, "watt.json", &[]).unwrap_or_else(|report| panic!("{report}"));
    let migrated =
        migrate(&sources).expect("it is Platformatic's").unwrap_or_else(|report| panic!("{report}"));
    assert!(migrated.needs_loader);
    assert_eq!(migrated.warnings, warnings(&sources));
    assert!(
        migrated.text.contains("port: \"{P}\"") && migrated.text.contains("# Not taken over: watt.json:2:"),
        "{}",
        migrated.text
    );
    let written = Sources {
        file: folder.path().join("watt.yaml"),
        text: migrated.text.clone(),
        platformatic: None,
        ..sources.clone()
    };
    let same = |sources: &Sources| {
        let mut plan = parse(sources).unwrap_or_else(|report| panic!("{report}\n{}", migrated.text)).plan;
        plan.file = "x".into();
        for service in plan.services.values_mut() {
            // The loader is a file there.
            service.command.clear();
            service.env.remove("WATT_NODE_LOADER");
        }
        plan
    };
    assert_eq!(same(&written), same(&sources), "{}", migrated.text);
}

#[test]
fn nothing_is_a_project_of_platformatics_that_does_not_say_so() {
    let folder = project(&[("watt.json", r#"{ "services": { "a": { "command": "x" } } }"#)]);
    let sources = read(&folder, "watt.json", &[]).unwrap_or_else(|report| panic!("{report}"));
    assert!(sources.platformatic.is_none() && migrate(&sources).is_none() && warnings(&sources).is_empty());
}

#[test]
fn the_page_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/platformatic.md");
    let page = fs::read_to_string(&path).expect("docs/platformatic.md");
    let (written, _) = page.split_once("<!-- generated -->\n").expect("a place for what is generated");
    let expected = format!("{written}<!-- generated -->\n\n{}", platformatic_reference());
    if std::env::var_os("WATT_BLESS").is_some() {
        fs::write(&path, &expected).expect("it can be written");
        return;
    }
    assert!(
        page.trim_end() == expected.trim_end(),
        "docs/platformatic.md is old; run this test with WATT_BLESS=1"
    );
}

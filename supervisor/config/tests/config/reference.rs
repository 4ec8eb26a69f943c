//! The schema, the reference and the decoder say the same.

use std::path::Path;

use serde_json::{Value, json};
use watt_config::{parse, reference, sandboxes, schema};

use crate::sources;

/// Every definition of the schema with its keys, and how a value of it is put into a whole file.
fn definitions() -> Vec<(String, Value)> {
    let schema = schema();
    let mut all = vec![(String::new(), schema["properties"].clone())];
    for (title, definition) in schema["$defs"].as_object().unwrap() {
        if let Some(properties) = definition.get("properties") {
            all.push((title.clone(), properties.clone()));
        }
    }
    all
}

/// A file in which the table `title` has these keys and everything else is as small as it can be.
fn file_with(title: &str, key: &str, value: &Value) -> Value {
    let mut file = json!({
        "services": {
            "api": { "command": "x" },
            "db": { "command": "x" },
            "web": { "command": "x" },
        },
    });
    let mut entry = json!({ key: value });
    match title {
        "" => merge(&mut file, entry),
        "services.NAME" if key == "id" => {
            file["services"] = json!([{ "id": value, "command": "x" }]);
        }
        "gateway.routes" => {
            if !["service", "services", "upstream", "static", "openapi", "redirect", "respond"].contains(&key)
            {
                entry["service"] = json!("api");
            }
            if key == "sticky" {
                entry["services"] = json!({ "web": 1 });
                entry.as_object_mut().unwrap().remove("service");
            }
            if key == "match" {
                entry["path"] = json!("/api");
            }
            if key == "rewrite" {
                entry["path"] = json!("/{id}");
            }
            if key == "roles" {
                entry["auth"] = with_a_key(json!({}));
            }
            file["gateway"] = json!({ "routes": [entry] });
        }
        "gateway.routes.redirect" | "gateway.routes.respond" => {
            if key == "status" && title.ends_with("redirect") {
                entry["to"] = json!("/x");
            }
            let name = title.rsplit('.').next().unwrap();
            file["gateway"] = json!({ "routes": [{ name: entry }] });
        }
        "gateway.routes.upstream" => {
            match key {
                "url" => {}
                "ca" => entry["url"] = json!("https://example.org"),
                _ => entry["url"] = json!("http://example.org"),
            }
            file["gateway"] = json!({ "routes": [{ "upstream": entry }] });
        }
        "gateway.listeners.NAME" => {
            match key {
                "unix" => {}
                "mode" | "user" | "group" => entry["unix"] = json!("/run/x.sock"),
                "port" => {}
                _ => entry["port"] = json!(9000),
            }
            with_its_other(key, &mut entry);
            let routes = json!([{ "service": "api" }]);
            file["gateway"] =
                json!({ "routes": routes, "listeners": { "web": entry, "all": { "port": 9001 } } });
        }
        "server" if key.starts_with("redirect") => {
            with_its_other(key, &mut entry);
            file["server"] = entry;
            merge(&mut file, json!({ "gateway": { "listeners": { "all": { "port": 9001 } } } }));
        }
        "gateway.routes.static" => {
            if key != "root" {
                entry["root"] = json!("dist");
            }
            file["gateway"] = json!({ "routes": [{ "static": entry }] });
        }
        "gateway.routes.openapi" => file["gateway"] = json!({ "routes": [{ "openapi": entry }] }),
        "gateway.routes.deprecation" => {
            if key != "at" {
                entry["at"] = json!("2026-06-30");
            }
            file["gateway"] = json!({ "routes": [{ "service": "api", "deprecation": entry }] });
        }
        "services.NAME.openapi" if !matches!(key, "path" | "file") => {
            entry["path"] = json!("/openapi.json");
            file["services"]["api"]["openapi"] = entry;
        }
        "gateway.routes.request_headers" | "gateway.routes.fault" | "gateway.routes.mirror" => {
            match key {
                "part" => entry["service"] = json!("api"),
                "delayed" => entry["delay"] = json!("1s"),
                "aborted" => entry["abort"] = json!(503),
                _ => {}
            }
            let name = title.rsplit('.').next().unwrap();
            file["gateway"] = json!({ "routes": [{ "service": "api", name: entry }] });
        }
        "gateway.routes.headers" => {
            file["gateway"] = json!({ "routes": [{ "service": "api", "headers": { "x-version": entry } }] });
        }
        "cors" | "rate_limit" => {
            let (needed, usual) = match title {
                "cors" => ("origins", json!(["https://example.org"])),
                _ => ("requests", json!(100)),
            };
            if key != needed {
                entry[needed] = usual;
            }
            file["gateway"] = json!({ title: entry });
        }
        "server.tls" => {
            match key {
                "certificate" | "certificates" => {}
                "client_certificates" => {
                    merge(&mut entry, json!({ "certificate": "a.pem", "client_ca": "ca.pem" }));
                }
                _ => entry["certificate"] = json!("a.pem"),
            }
            file["server"] = json!({ "tls": entry });
        }
        "server.tls.certificates" => {
            if key != "certificate" {
                entry["certificate"] = json!("a.pem");
            }
            file["server"] = json!({ "tls": { "certificates": [entry] } });
        }
        "auth" => file["gateway"] = json!({ "auth": with_a_key(entry) }),
        "auth.api_keys.NAME" => {
            if key != "hash" {
                entry["hash"] = json!(format!("sha256:{}", "0".repeat(64)));
            }
            file["gateway"] = json!({ "auth": { "api_keys": { "billing": entry } } });
        }
        "auth.basic" => {
            let mut basic = json!({ "file": ".htpasswd" });
            merge(&mut basic, entry);
            file["gateway"] = json!({ "auth": { "basic": basic } });
        }
        "auth.basic.users.NAME" => {
            if key != "password" {
                entry["password"] = json!("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW");
            }
            file["gateway"] = json!({ "auth": { "basic": { "users": { "ada": entry } } } });
        }
        "auth.jwt.keys_url" => {
            let mut url = json!({ "url": "http://id.example.org/" });
            merge(&mut url, entry);
            file["gateway"] = json!({ "auth": { "jwt": { "keys_url": url } } });
        }
        "filters" => {
            let mut filter = json!({ "service": "api" });
            merge(&mut filter, entry);
            file["gateway"] = json!({ "filters": [filter] });
        }
        "authority" => {
            let mut authority = json!({ "service": "api" });
            merge(&mut authority, entry);
            file["gateway"] = json!({ "authority": authority });
        }
        "compress" => file["gateway"] = json!({ "compress": entry }),
        "rules" => {
            if key != "do" {
                entry["do"] = json!("allow");
            }
            let at_service = key == "from";
            match at_service {
                true => file["services"]["api"]["rules"] = json!([entry]),
                false => {
                    file["gateway"] = json!({ "auth": with_a_key(json!({})), "rules": [entry] });
                }
            }
            if key == "certificate" {
                asks_for_certificates(&mut file);
            }
        }
        "rules.certificate" => {
            let rule = json!({ "do": "allow", "certificate": entry });
            file["gateway"] = json!({ "rules": [rule] });
            asks_for_certificates(&mut file);
        }
        "auth.jwt" => {
            let mut jwt = json!({ "keys": [{
                "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }] });
            merge(&mut jwt, entry);
            file["gateway"] = json!({ "auth": { "jwt": jwt } });
        }
        "gateway" if key == "roles" => {
            entry["auth"] = with_a_key(json!({}));
            file["gateway"] = entry;
        }
        "policies" => {
            let other = if key == "from" { "to" } else { "from" };
            entry[other] = json!("db");
            file["policies"] = json!([entry]);
        }
        "scheduler" => {
            let mut job =
                json!({ "name": "tick", "cron": "* * * * *", "callbackUrl": "http://api.plt.local/" });
            merge(&mut job, entry);
            file["scheduler"] = json!([job]);
        }
        title if title.starts_with("jobs.NAME") => {
            let mut job = json!({ "service": "api", "http": "/", "schedule": "* * * * *" });
            match title {
                "jobs.NAME.catch_up" if key == "within" => {
                    job["catch_up"] = json!({ "mode": "one", "within": value });
                }
                "jobs.NAME" if key == "command" => {
                    job = json!({ "service": "api", "command": value, "schedule": "* * * * *" });
                }
                "jobs.NAME.catch_up" => job["catch_up"] = entry,
                "jobs.NAME.http" => job["http"] = entry,
                _ => merge(&mut job, entry),
            }
            file["jobs"] = json!({ "tick": job });
        }
        "services.NAME" if key == "secrets" => {
            file["secrets"] = json!({ "db_password": { "file": "/etc/password" } });
            file["services"]["web"]["secrets"] = value.clone();
        }
        "services.NAME.scheduling" if key == "priority" || key == "io_level" => {
            entry[if key == "priority" { "policy" } else { "io" }] =
                json!(if key == "priority" { "fifo" } else { "realtime" });
            file["services"]["web"]["scheduling"] = entry;
        }
        "sandbox" if key == "group" => file["sandbox"] = json!({ "user": "nobody", "group": value }),
        "services.NAME.ready" if key == "interval" || key == "failures" => {
            entry["tcp"] = json!(true);
            file["services"]["web"]["ready"] = entry;
        }
        "services.NAME.depends_on.NAME" => file["services"]["web"]["depends_on"] = json!({ "api": entry }),
        "services.NAME.hooks.HOOK" => {
            match key {
                "command" | "url" => {}
                "headers" | "retries" => entry["url"] = json!("http://example.org/"),
                _ => entry["command"] = json!("x"),
            }
            file["services"]["web"]["hooks"] = json!({ "pre_start": entry });
        }
        "groups.NAME" => {
            if key != "services" {
                entry["services"] = json!(["web"]);
            }
            file["groups"] = json!({ "backend": entry });
        }
        "services.NAME.limits.LIMIT" => file["services"]["web"]["limits"] = json!({ "nofile": entry }),
        title => {
            let path = title.replacen("NAME", "web", 1);
            for part in path.rsplit('.') {
                entry = json!({ part: entry });
            }
            merge(&mut file, entry);
        }
    }
    if title.starts_with("server") {
        merge(&mut file, json!({ "gateway": { "routes": [{ "service": "api" }] } }));
    }
    if title == "sandbox" && key == "system_call_error" {
        file["sandbox"]["system_calls"] = json!(["@system-service"]);
    }
    if title.starts_with("services.NAME.workers") && !["max", "maximum", "static"].contains(&key) {
        merge(&mut file, json!({ "services": { "web": { "workers": { "max": 8 } } } }));
        if key == "idle" {
            merge(&mut file, json!({ "services": { "web": { "workers": { "min": 0 } } } }));
        }
    }
    if title == "services.NAME.bulkhead" && key != "in_flight" {
        file["services"]["web"]["bulkhead"]["in_flight"] = json!(5);
    }
    if title == "services.NAME.balance" && key != "by" {
        file["services"]["web"]["balance"]["by"] = json!("hash");
    }
    if title.is_empty() && key == "server" {
        file["gateway"] = json!({ "routes": [{ "service": "api" }] });
    }
    file
}

fn asks_for_certificates(file: &mut Value) {
    file["server"] = json!({ "tls": { "certificate": "a.pem", "client_ca": "ca.pem" } });
    merge(file, json!({ "gateway": { "routes": [{ "service": "api" }] } }));
}

/// What one of two keys makes no sense without.
fn with_its_other(key: &str, listener: &mut Value) {
    match key {
        "redirect" => listener["redirect_port"] = json!(443),
        "redirect_port" => listener["redirect"] = json!("https"),
        _ => {}
    }
}

/// A way in, beside what is there.
fn with_a_key(auth: Value) -> Value {
    let mut usual = json!({ "api_keys": { "billing": format!("sha256:{}", "0".repeat(64)) } });
    merge(&mut usual, auth);
    usual
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[test]
fn every_key_of_the_schema_decodes() {
    let mut keys = 0;
    for (title, properties) in definitions() {
        for (key, definition) in properties.as_object().unwrap() {
            let Some(example) = definition.get("examples").map(|examples| &examples[0]) else { continue };
            let file = file_with(&title, key, example);
            let sources = sources("watt.json", &serde_json::to_string_pretty(&file).unwrap());
            if let Err(report) = parse(&sources) {
                panic!("{title}: {key}\n{}\n{report}", sources.text);
            }
            keys += 1;
        }
    }
    assert!(keys > 70, "{keys}");
}

#[test]
fn every_default_of_the_schema_decodes_to_itself() {
    for (title, properties) in definitions() {
        for (key, definition) in properties.as_object().unwrap() {
            let Some(default) = definition.get("default") else { continue };
            let with = |value: &Value| {
                let file = file_with(&title, key, value);
                parse(&sources("watt.json", &file.to_string()))
                    .unwrap_or_else(|report| panic!("{title}: {key}\n{report}"))
                    .plan
            };
            let mut without = file_with(&title, key, default);
            remove(&mut without, key);
            let without = parse(&sources("watt.json", &without.to_string()))
                .unwrap_or_else(|report| panic!("{report}"))
                .plan;
            assert_eq!(with(default), without, "{title}: {key}");
        }
    }
}

/// The schema's bounds and the decoder's are written in two places, a value and a type.
#[test]
fn the_bounds_of_the_schema_are_the_decoders() {
    let mut checked = 0;
    for (title, properties) in definitions() {
        for (key, definition) in properties.as_object().unwrap() {
            let choices = definition.get("anyOf").and_then(Value::as_array).into_iter().flatten();
            let nested = choices
                .clone()
                .filter_map(|choice| choice.get("anyOf"))
                .flat_map(|inner| inner.as_array().unwrap());
            let bounded = choices.chain(nested).find(|choice| choice.get("maximum").is_some());
            let Some(bounds) = bounded else { continue };
            let decodes = |number: i64| {
                let file = file_with(&title, key, &json!(number));
                let report = parse(&sources("watt.json", &file.to_string())).err();
                !report.is_some_and(|report| {
                    report.problems().iter().any(|problem| {
                        problem.message().contains("out of range")
                            || problem.message().contains("is not a port")
                    })
                })
            };
            let (min, max) = (bounds["minimum"].as_i64().unwrap(), bounds["maximum"].as_i64().unwrap());
            assert_eq!(
                [min - 1, min, max, max + 1].map(decodes),
                [false, true, true, false],
                "{title}: {key}"
            );
            checked += 1;
        }
    }
    assert!(checked >= 6, "{checked}");
}

/// Removes a key wherever it is but at the top of a service, where it might be another one.
fn remove(value: &mut Value, key: &str) {
    match value {
        Value::Object(entries) => {
            entries.remove(key);
            entries.values_mut().for_each(|value| remove(value, key));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| remove(item, key)),
        _ => {}
    }
}

#[test]
fn references_inside_the_schema_lead_somewhere() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(entries) => {
                found.extend(entries.get("$ref").and_then(Value::as_str));
                entries.values().for_each(|value| walk(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let schema = schema();
    let mut found = Vec::new();
    walk(&schema, &mut found);
    for reference in &found {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        assert!(schema["$defs"].get(name).is_some(), "{reference}");
    }
    assert!(found.len() > 20);
}

#[test]
fn a_schema_may_be_named_in_the_file() {
    let text = r#"{ "$schema": "./watt.schema.json", "services": { "a": { "command": "x" } } }"#;
    parse(&sources("watt.json", text)).unwrap_or_else(|report| panic!("{report}"));
}

/// With `WATT_BLESS` in the environment the files are written anew.
#[test]
fn the_pages_are_what_the_program_prints() {
    for (page, expected) in [("configuration.md", reference()), ("sandbox.md", sandboxes())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
        if std::env::var_os("WATT_BLESS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == expected, "docs/{page} is not current; run this test with WATT_BLESS=1");
    }
}

#[test]
fn the_examples_of_the_pages_are_valid() {
    for text in [reference(), sandboxes()] {
        let example = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let mut sources = sources("watt.yaml", example);
        sources.env.insert("DATABASE_URL".into(), "x".into());
        parse(&sources).unwrap_or_else(|report| panic!("{report}"));
    }
}

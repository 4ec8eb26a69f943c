//! Who a client is by its certificate: what rules let it do, what services are told, and what is written.

use std::{fs, path::PathBuf};

use rcgen::SanType;
use serde_json::Value;
use watt_tests::{App, User, wait};

use crate::bed::{Authority, Client, fields};

const YAML: &str = r#"
services:
  web:
    command: python3 services/web.py
    rules: [{ do: deny, path: /closed, certificate: { cn: [ada] } }]
server:
  port: 0
  tls: { certificate: shop.pem, key: shop.key, client_ca: ca.pem, client_certificates: optional }
logs: { access: gateway }
gateway:
  routes:
    - { path: /, service: web }
    - { path: /billing, service: web, rules: [{ do: allow, certificate: { uri: ["spiffe://shop.example/billing"] } }] }
    - { path: /ada, service: web, rules: [{ do: allow, certificate: { cn: [ada], email: [ada@shop.example] } }] }
    - { path: /known, service: web, rules: [{ do: allow, certificate: {} }] }
"#;

#[test]
fn rules_ask_for_names_in_the_certificate_that_a_client_shows() {
    let app = App::case("", User::Ordinary);
    let authority = Authority::of(&app);
    authority.make(&app, "shop", &["shop.example"]);
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let mail = |text: &str| SanType::Rfc822Name(text.try_into().unwrap());
    authority.make_client(&app, "billing", None, vec![uri("spiffe://shop.example/billing")]);
    authority.make_client(
        &app,
        "ada",
        Some("ada"),
        vec![mail("ada@shop.example"), uri("spiffe://shop.example/x")],
    );
    authority.make_client(&app, "other", Some("ada"), vec![mail("ada@other.example")]);
    app.write("watt.yaml", YAML);
    app.up();
    // Of /, /billing, /ada, /known, /closed.
    let cases = [
        ("", ["200", "403", "403", "403", "200"]),
        ("billing.both", ["200", "200", "403", "200", "200"]),
        ("ada.both", ["200", "403", "200", "200", "403"]),
        ("other.both", ["200", "403", "403", "200", "403"]),
    ];
    for (shown, expected) in cases {
        let mut client = Client::start(&app, &["shop.example", shown]);
        let answered =
            ["/", "/billing", "/ada", "/known", "/closed"].map(|path| client.ask(path)["status"].clone());
        assert_eq!(answered, expected, "{shown}");
    }
    let told = |shown: &str, path: &str| {
        let fields = fields(&Client::start(&app, &["shop.example", shown]).ask(path));
        ["x-client-cert-subject", "x-client-cert-san"].map(|name| fields[name].clone())
    };
    assert_eq!(told("", "/"), [Value::Null, Value::Null]);
    assert_eq!(told("billing.both", "/billing"), ["", r#""uri:spiffe://shop.example/billing""#]);
    assert_eq!(
        told("ada.both", "/ada/1"),
        ["CN=ada", r#""uri:spiffe://shop.example/x", "email:ada@shop.example""#]
    );
    assert_eq!(written(&app, "/ada/1"), "CN=ada");
    assert_eq!(written(&app, "/billing"), "uri:spiffe://shop.example/billing");

    app.write("watt.yaml", &YAML.replace("client_ca: ca.pem, client_certificates: optional", ""));
    let refused = app.run(&["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no client is asked for one"), "{said}");
    app.down();
}

/// What the access log says of the last request with this path that passed.
fn written(app: &App, path: &str) -> Value {
    let folder = app.json(&["inspect", "web"])["log_dir"].as_str().map(PathBuf::from).expect("a folder");
    wait(&format!("{path} is in the access log"), || {
        let text = fs::read_to_string(folder.join("access.log")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut of_path = lines.filter(|line| line["path"] == path && line["status"] == 200);
        of_path.next_back().map(|line| line["certificate"].clone()).ok_or(text)
    })
}

//! From HTTP to HTTPS.

use watt_tests::{App, User, exchange};

use crate::bed::{Authority, output};

const YAML: &str = r#"
services:
  web: { command: python3 services/web.py }
server: { port: 0, tls: { certificate: shop.pem, key: shop.key } }
gateway:
  routes: [{ path: /, service: web }]
  listeners:
    plain: { port: 0, redirect: https }
    behind: { port: 0, redirect: https, proxy_protocol: [127.0.0.0/8] }
    partly: { port: 0, redirect: https, routes: [{ path: /plain, service: web, strip: true }] }
"#;

#[test]
fn plain_http_is_sent_to_tls() {
    let app = App::case("", User::Ordinary);
    Authority::of(&app).make(&app, "shop", &["shop.example"]);
    app.write("watt.yaml", YAML);
    app.up();
    let status = app.status();
    let port = |name: &str| {
        let listeners = status["listeners"].as_array().cloned().unwrap_or_default();
        let url = listeners.iter().find(|one| one["name"] == name).and_then(|one| one["url"].as_str());
        url.and_then(|url| url.rsplit(':').next())
            .unwrap_or_else(|| panic!("no {name} in {status}"))
            .to_owned()
    };
    let (secure, plain) = (port("server"), port("plain"));

    let mut curl = app.command("curl");
    curl.args(["-sS", "-L", "--cacert", "ca.pem", "-d", "body", "-w", "%{url_effective} %{method}"]);
    for port in [&secure, &plain] {
        curl.args(["--resolve", &format!("shop.example:{port}:127.0.0.1")]);
    }
    let said = output({
        curl.arg(format!("http://shop.example:{plain}/a/b?c=d"));
        curl
    });
    assert!(said.ends_with(&format!("https://shop.example:{secure}/a/b?c=d POST")), "{said}");

    let location = |name: &str, header: &str, path: &str| {
        let request =
            format!("{header}GET {path} HTTP/1.1\r\nHost: shop.example:80\r\nConnection: close\r\n\r\n");
        let answer = exchange(&format!("127.0.0.1:{}", port(name)), &request).expect("an answer");
        let to = answer.lines().find_map(|line| line.strip_prefix("Location: ")).map(str::to_owned);
        assert_eq!(answer.starts_with("HTTP/1.1 308 "), to.is_some(), "{answer}");
        to
    };
    let to_tls = |path: &str| Some(format!("https://shop.example:{secure}{path}"));
    assert_eq!(location("plain", "", "/x?y"), to_tls("/x?y"));
    // The client came to port 80 of the proxy, and knows nothing of ours.
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 56324 80\r\n";
    assert_eq!(location("behind", header, "/x"), Some("https://shop.example/x".to_owned()));
    assert_eq!(location("partly", "", "/plain/x"), None);
    assert_eq!(location("partly", "", "/x"), to_tls("/x"));
    app.down();
}

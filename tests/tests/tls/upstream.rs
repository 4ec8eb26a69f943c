//! Servers outside that speak TLS, with a server that others have written: Python's.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::Value;
use watt_tests::{App, User, exchange, printed, wait};

use crate::bed::Authority;

const YAML: &str = r#"
services:
  web: { command: python3 services/web.py }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: web }
    - { path: /out, upstream: UPSTREAM, strip: true }
"#;

/// A server outside, which ends with this.
struct Outside {
    process: Child,
    port: u16,
}

impl Outside {
    fn start(app: &App, program: &str, arguments: &[&str]) -> Outside {
        let mut command = app.command(program);
        let mut process = command.args(arguments).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line:?}"));
        Outside { process, port }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn python(app: &App, certificate: &str) -> Outside {
    Outside::start(app, "python3", &["services/tls_server.py", certificate])
}

fn yaml(upstream: &str) -> String {
    YAML.replace("UPSTREAM", upstream)
}

fn ask(app: &App, path: &str) -> (u16, Value) {
    let (status, body) = app.get(path);
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

/// Has this in force, and asks until the answer has the text.
fn until(app: &App, upstream: &str, expected: &str) {
    app.write("watt.yaml", &yaml(upstream));
    app.ok(&["reload", "--wait"]);
    wait("it is in force", || match app.get("/out/") {
        (502, body) if body.contains("tls_failed") && body.contains(expected) => Ok(()),
        (status, body) => Err(format!("{status} {body}")),
    });
}

#[test]
fn a_server_outside_is_spoken_with_in_tls() {
    let app = App::case("", User::Ordinary);
    let authority = Authority::of(&app);
    authority.make(&app, "partner", &["localhost"]);
    let outside = python(&app, "partner.both");
    let upstream = format!("{{ url: \"https://localhost:{}\", ca: ca.pem }}", outside.port);
    app.write("watt.yaml", &yaml(&upstream));
    app.up();
    // Each thread of the proxy has its own connections.
    let first = ask(&app, "/out/");
    let host = format!("localhost:{}", outside.port);
    assert_eq!((first.0, &first.1["sni"], &first.1["host"]), (200, &"localhost".into(), &host.into()));
    wait("a connection is used again", || match ask(&app, "/out/") {
        (200, answer) if answer["before"].as_u64() > Some(0) => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    assert_eq!(app.get("/out/large/5000000").1.len(), 5_000_000);
    let body = "x".repeat(3_000_000);
    let head = format!(
        "POST /out/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = exchange(&app.gateway(), &(head + &body)).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""length": 3000000"#), "{answer}");

    // The file of those who vouch for it is watched over like any certificate.
    let mut stranger = CertificateParams::default();
    stranger.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    stranger.distinguished_name.push(DnType::CommonName, "a stranger");
    let stranger = stranger.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let trusted = fs::read_to_string(app.dir.join("ca.pem")).unwrap();
    app.write("ca.pem", &stranger.pem());
    until(&app, &upstream, "nobody in the file of `ca` vouches for its certificate");
    app.write("ca.pem", "nothing");
    let refused = app.run(&["reload"]);
    assert!(printed(&refused).contains("ca.pem has no certificate in it"), "{}", printed(&refused));
    app.write("ca.pem", &trusted);

    let address = format!("{{ url: \"https://127.0.0.1:{}\", ca: ca.pem }}", outside.port);
    until(&app, &address, "its certificate is not for `127.0.0.1`");
    let host = format!("\"https://localhost:{}\"", outside.port);
    until(
        &app,
        &host,
        "nobody whom this host trusts vouches for its certificate; `ca` names a file of others",
    );
    let plain = app.gateway().rsplit(':').next().unwrap_or_default().to_owned();
    until(&app, &format!("{{ url: \"https://localhost:{plain}\", ca: ca.pem }}"), "it does not speak TLS");
    let http2 = format!("{{ url: \"https://localhost:{}\", ca: ca.pem, protocol: http2 }}", outside.port);
    app.write("watt.yaml", &yaml(&http2));
    let refused = app.run(&["reload"]);
    assert!(printed(&refused).contains("HTTP/2 is not spoken in TLS"), "{}", printed(&refused));

    let mut old = CertificateParams::new(["localhost".to_owned()]).unwrap();
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let key = KeyPair::generate().unwrap();
    let old = old.signed_by(&key, &authority.0).unwrap();
    app.write("old.both", &format!("{}{}", old.pem(), key.serialize_pem()));
    let expired = python(&app, "old.both");
    let upstream = format!("{{ url: \"https://localhost:{}\", ca: ca.pem }}", expired.port);
    until(&app, &upstream, "its certificate has expired");
    drop((outside, expired));
    app.down();
}

/// Debian has them in `/etc/ssl/certs`; the variable is what OpenSSL and others mind as well.
#[test]
fn without_ca_it_is_whom_the_host_trusts() {
    let app = App::case("", User::Ordinary);
    Authority::of(&app).make(&app, "partner", &["localhost"]);
    let outside = python(&app, "partner.both");
    app.write("watt.yaml", &yaml(&format!("\"https://localhost:{}\"", outside.port)));
    // The proxy reads it, which is another user than root.
    app.pass_through();
    let output =
        app.wattctl(&["up", "-d"]).env("SSL_CERT_FILE", app.dir.join("ca.pem")).output().expect("it runs");
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(ask(&app, "/out/").0, 200);
    drop(outside);
    app.down();
}

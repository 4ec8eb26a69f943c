//! An authority, an application whose gateway speaks TLS, and a client of it.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::Value;
use watt_tests::{App, User, printed};

/// `TLS` is what a test says of it.
pub(crate) const SHOP: &str = r#"
services:
  web: { command: python3 services/web.py }
server:
  port: 0
  tls: TLS
gateway: { routes: [{ path: /, service: web }] }
"#;

pub(crate) const ONE: &str = "{ certificate: shop.pem, key: shop.key }";

/// Who vouches for all of them.
pub(crate) struct Authority(pub(crate) Issuer<'static, KeyPair>);

impl Authority {
    /// Its certificate is in `ca.pem`.
    pub(crate) fn of(app: &App) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority");
        let key = KeyPair::generate().unwrap();
        app.write("ca.pem", &params.self_signed(&key).unwrap().pem());
        Authority(Issuer::new(params, key))
    }

    /// Writes a certificate and a key for these names, and returns the key's text.
    pub(crate) fn make(&self, app: &App, file: &str, names: &[&str]) -> String {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop");
        params.distinguished_name.push(DnType::CommonName, names[0]);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        app.write(&format!("{file}.pem"), &certificate.pem());
        app.write(&format!("{file}.key"), &key.serialize_pem());
        // As clients want them.
        app.write(&format!("{file}.both"), &format!("{}{}", certificate.pem(), key.serialize_pem()));
        key.serialize_pem()
    }
}

impl Authority {
    /// Writes what a client with this name and these others shows.
    pub(crate) fn make_client(&self, app: &App, file: &str, name: Option<&str>, others: Vec<SanType>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = others;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        app.write(&format!("{file}.both"), &format!("{}{}", certificate.pem(), key.serialize_pem()));
    }
}

pub(crate) fn shop(user: User, tls: &str) -> (App, Authority) {
    let app = App::case("", user);
    let authority = Authority::of(&app);
    authority.make(&app, "shop", &["shop.example", "localhost"]);
    app.write("watt.yaml", &SHOP.replace("TLS", tls));
    (app, authority)
}

/// A client with one connection.
pub(crate) struct Client {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Client {
    pub(crate) fn start(app: &App, rest: &[&str]) -> Client {
        let mut command = app.command("python3");
        command.args(["services/tls_client.py", &app.gateway(), "ca.pem"]).args(rest);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python runs");
        let lines = BufReader::new(process.stdout.take().expect("it is piped"));
        Client { process, lines }
    }

    pub(crate) fn ask(&mut self, path: &str) -> Value {
        let input = self.process.stdin.as_mut().expect("it is piped");
        // One that was turned away has ended.
        let _ = writeln!(input, "{path}");
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// What a new connection is shown.
pub(crate) fn names(app: &App, name: &str) -> Value {
    Client::start(app, &[name]).ask("/")["names"].clone()
}

/// The fields that the service got.
pub(crate) fn fields(answer: &Value) -> Value {
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default())
        .unwrap_or_else(|_| panic!("no body in {answer}"));
    body["headers"].clone()
}

pub(crate) fn output(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", printed(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

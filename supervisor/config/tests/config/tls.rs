//! TLS at the gateway: its keys, and what is in the files that they name.

use std::{collections::BTreeMap, fs, path::Path};

use insta::assert_snapshot;
use tempfile::TempDir;
use watt_config::{Config, Sources, parse};
use watt_core::plan::{CertificateFiles, ClientAuthorities, Tls, TlsVersion};

use crate::{invalid, valid};

const REST: &str = "services: { a: { command: sh } }\ngateway: { routes: [{ service: a }] }\n";

fn tls(text: &str) -> Tls {
    let text = format!("server: {{ tls: {text} }}\n{REST}");
    valid(&text).plan.server().unwrap().tls.clone().unwrap()
}

fn files(certificate: &str, key: &str) -> CertificateFiles {
    let path = |name: &str| Path::new("/srv/shop").join(name);
    CertificateFiles { certificate: path(certificate), key: path(key) }
}

#[test]
fn certificates_have_keys_and_clients_may_have_some_too() {
    let plain =
        Tls { certificates: vec![files("a.pem", "a.key")], clients: None, version_min: TlsVersion::V1_2 };
    assert_eq!(tls("{ certificate: a.pem, key: a.key }"), plain);
    let in_one = Tls { certificates: vec![files("a.pem", "a.pem")], ..plain.clone() };
    assert_eq!(tls("{ certificate: a.pem }"), in_one);
    assert_eq!(tls("{ certificates: [{ certificate: a.pem, key: a.key }] }"), plain);
    let several = Tls {
        certificates: vec![files("a.pem", "a.pem"), files("/etc/b.pem", "b.key"), files("c.pem", "c.pem")],
        clients: Some(ClientAuthorities { file: "/srv/shop/ca.pem".into(), required: true }),
        version_min: TlsVersion::V1_3,
    };
    let text = "{ certificate: a.pem, client_ca: ca.pem, min_version: 1.3,
        certificates: [{ certificate: /etc/b.pem, key: b.key }, { certificate: c.pem }] }";
    assert_eq!(tls(text), several);
    let optional = tls("{ certificate: a.pem, client_ca: ca.pem, client_certificates: optional }");
    assert!(!optional.clients.unwrap().required);
    let without = valid(&format!("server: {{ port: 1 }}\n{REST}"));
    assert_eq!((without.plan.server().unwrap().tls.as_ref(), without.plan.tls().count()), (None, 0));
}

#[test]
fn wrong_keys() {
    assert_snapshot!(invalid(&format!("server: {{ tls: {{}} }}\n{REST}")), @r#"
    error: TLS without a certificate
     --> watt.yaml:1:11
      |
    1 | server: { tls: {} }
      |           ^^^
      = hint: write `certificate: shop.pem` and `key: shop.key`
    "#);
    assert_snapshot!(invalid(r#"
server:
  https: { key: x }
  tls:
    key: a.key
    client_certificates: optional
    min_version: 1.1
    certificates: [{ cert: b.pem }, { key: b.key }]
services: { a: { command: x } }
gateway: { routes: [{ service: a }] }
"#), @r#"
    error: unknown key `https` in `server`
     --> watt.yaml:3:3
      |
    3 |   https: { key: x }
      |   ^^^^^
      = hint: write `tls`

    error: a key without its certificate
     --> watt.yaml:5:10
      |
    5 |     key: a.key
      |          ^^^^^
      = hint: write `certificate` beside it

    error: nobody vouches for clients
     --> watt.yaml:6:26
      |
    6 |     client_certificates: optional
      |                          ^^^^^^^^
      = hint: write `client_ca` with a file of certificates

    error: `1.1` is not understood here
     --> watt.yaml:7:18
      |
    7 |     min_version: 1.1
      |                  ^^^
      = hint: did you mean `1.2`?

    error: unknown key `cert` in `server.tls.certificates`
     --> watt.yaml:8:22
      |
    8 |     certificates: [{ cert: b.pem }, { key: b.key }]
      |                      ^^^^
      = hint: write `certificate`

    error: `certificate` is missing
     --> watt.yaml:8:39
      |
    8 |     certificates: [{ cert: b.pem }, { key: b.key }]
      |                                       ^^^
      = hint: for example `certificate: "/etc/shop/tls/api.pem"`
    "#);
}

#[test]
fn proxies_before_the_gateway_have_addresses() {
    let text = format!("server: {{ proxy_protocol: [10.0.0.0/8, 192.0.2.1, '2001:db8::/32'] }}\n{REST}");
    let network = |address: &str, bits| (address.parse().unwrap(), bits);
    let expected = [network("10.0.0.0", 8), network("192.0.2.1", 32), network("2001:db8::", 32)];
    assert_eq!(valid(&text).plan.server().unwrap().proxies, expected);
    for (wrong, what) in [
        ("10.0.0.1/8", "did you mean `10.0.0.0/8`?"),
        ("10.0.0.0/33", "between 0 and 32"),
        ("balancer", "`balancer` is neither an address nor a network"),
        ("::ffff:10.0.0.1", "write it as IPv4"),
    ] {
        let report = invalid(&format!("server: {{ proxy_protocol: [{wrong}] }}\n{REST}")).to_string();
        assert!(report.contains(what), "{report}");
    }
}

/// A folder with an application whose `tls` is this.
fn application(tls: &str, files: &[(&str, &str)]) -> (TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("server:\n  tls: {tls}\n{REST}");
    fs::write(folder.path().join("watt.yaml"), text).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let sources = Sources::read(&folder.path().join("watt.yaml"), BTreeMap::new()).unwrap();
    let config = parse(&sources).unwrap_or_else(|report| panic!("{report}"));
    (folder, config)
}

/// A certificate and its key.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// The certificate of an authority.
fn authority() -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

#[test]
fn what_is_in_the_files_is_looked_at() {
    let ((certificate, key), (_, other)) = (pair(), pair());
    let authority = authority();
    let all = [
        ("a.pem", certificate.as_str()),
        ("a.key", &key),
        ("b.key", &other),
        ("empty", ""),
        ("ca.pem", &authority),
    ];
    let keys = "{ certificate: a.pem, key: a.key, client_ca: ca.pem }";
    let (folder, config) = application(keys, &all);
    let read = config.certificates().unwrap_or_else(|report| panic!("{report}"));
    let names: Vec<_> =
        read.keys().map(|path| path.strip_prefix(folder.path()).unwrap().to_owned()).collect();
    assert_eq!(names, ["a.key", "a.pem", "ca.pem"].map(Path::new));

    let keys = "{ certificate: a.pem, key: b.key, client_ca: empty,
    certificates: [{ certificate: a.key, key: a.key }, { certificate: a.pem }, { certificate: nowhere.pem, key: a.key }] }";
    let (folder, config) = application(keys, &all);
    let report = config.certificates().unwrap_err().seen_from(folder.path());
    assert_snapshot!(report.to_string().replace(folder.path().to_str().unwrap(), "/app"), @r#"
    error: /app/a.pem has no private key in it
     --> watt.yaml:2:23
      |
    2 |   tls: { certificate: a.pem, key: b.key, client_ca: empty,
      |                       ^^^^^
      = hint: write `key` with the file that the key is in

    error: /app/b.key has a key that is not the certificate's
     --> watt.yaml:2:35
      |
    2 |   tls: { certificate: a.pem, key: b.key, client_ca: empty,
      |                                   ^^^^^
      = hint: `openssl x509 -pubkey -noout` and `openssl pkey -pubout` show whether the two belong together

    error: /app/empty has no certificate in it
     --> watt.yaml:2:53
      |
    2 |   tls: { certificate: a.pem, key: b.key, client_ca: empty,
      |                                                     ^^^^^

    error: /app/a.key has no certificate in it
     --> watt.yaml:3:35
      |
    3 | …   certificates: [{ certificate: a.key, key: a.key }, { certificate: a.pem }, { certificate: nowhere…
      |                                   ^^^^^
      = hint: it has to be a file of PEM, as `certbot` and `openssl` write it

    error: cannot read /app/nowhere.pem: no such file or directory
     --> watt.yaml:3:95
      |
    3 | …ificate: a.pem }, { certificate: nowhere.pem, key: a.key }] }
      |                                   ^^^^^^^^^^^
      = hint: make it a file that the user who runs watt can read
    "#);
}

#[test]
fn who_vouches_for_clients_is_an_authority_and_all_texts_have_a_bound() {
    let (certificate, key) = pair();
    let keys = "{ certificate: a.pem, key: a.key, client_ca: a.pem }";
    let (folder, config) = application(keys, &[("a.pem", &certificate), ("a.key", &key)]);
    let report = config.certificates().unwrap_err().seen_from(folder.path());
    assert_snapshot!(report.to_string().replace(folder.path().to_str().unwrap(), "/app"), @r#"
    error: /app/a.pem has a certificate that cannot vouch for others: it is not one of an authority (CA:TRUE), but somebody's own
     --> watt.yaml:2:23
      |
    2 |   tls: { certificate: a.pem, key: a.key, client_ca: a.pem }
      |                       ^^^^^
    "#);
    let long = format!("{certificate}{}", " ".repeat(600_000));
    let keys = "{ certificate: a.pem, key: a.key, certificates: [{ certificate: b.pem, key: a.key }] }";
    let all = [("a.pem", long.as_str()), ("a.key", &key), ("b.pem", &long)];
    let (folder, config) = application(keys, &all);
    let report = config.certificates().unwrap_err().seen_from(folder.path()).to_string();
    assert!(report.contains("bytes of certificates and keys; all files together may have 1 MiB"), "{report}");
    assert!(report.contains("watt.yaml:2:"), "{report}");
}

#[test]
fn nothing_of_a_key_is_shown() {
    let (certificate, key) = pair();
    let (_folder, config) =
        application("{ certificate: a.pem, key: a.key }", &[("a.pem", &certificate), ("a.key", &key)]);
    let read = config.certificates().unwrap();
    let secret = key.lines().nth(1).unwrap();
    let sources = Sources { certificates: read, ..Sources::default() };
    for shown in
        [config.show().to_string(), config.show_text(), format!("{sources:?}"), format!("{config:?}")]
    {
        assert!(!shown.contains(secret), "{shown}");
    }
}

//! TLS at the gateway, with clients that others have written: curl, openssl, Node and Python.

mod bed;
mod changes;
mod development;
mod identity;
mod proxy_protocol;
mod redirect;
mod upstream;

use std::{
    fs,
    io::Write,
    net::TcpStream,
    process::{Command, Stdio},
};

use bed::{Authority, Client, ONE, SHOP, fields, names, output, shop};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use watt_tests::{App, User, exchange, for_each_user, printed, wait};

/// Tries to put files of its own in the place of those that decide who comes in, and what others get as a secret.
const THIEF: &str = r#"
import errno, os

def attempt(name, what):
    try:
        what()
        print(name, "done")
    except OSError as error:
        print(name, errno.errorcode[error.errno])

attempt("folder", lambda: os.rename("conf", "conf.old"))
attempt("inner folder", lambda: os.rename("conf/tls", "conf/old"))
attempt("file", lambda: os.rename("conf/tls/ca.pem", "conf/tls/old.pem"))
attempt("exchange", lambda: os.replace("ca.pem", "conf/tls/ca.pem"))
attempt("link", lambda: (os.symlink("/tmp", "link"), os.rename("link", "conf")))
attempt("secrets", lambda: os.rename("secrets", "secrets.old"))
print("end of attempts")
"#;

/// Also when the application's folder is in one that a sandbox covers and shows anew, `/tmp`.
#[test]
fn no_service_moves_the_folders_that_certificates_and_secrets_are_in() {
    for_each_user(|user| {
        for profile in ["standard", "strict"] {
            let (app, _authority) = shop(user, "");
            for name in ["shop.pem", "shop.key", "ca.pem"] {
                let text = fs::read_to_string(app.dir.join(name)).expect("it was made");
                app.write(&format!("conf/tls/{name}"), &text);
            }
            app.write("secrets/key", "a secret");
            app.write("thief.py", THIEF);
            let tls =
                "{ certificate: conf/tls/shop.pem, key: conf/tls/shop.key, client_ca: conf/tls/ca.pem }";
            let thief = format!(
                "services:\n  thief: {{ command: python3 -u thief.py, listen: none, restart: never, sandbox: {profile} }}"
            );
            let secrets = "secrets: { key: { file: secrets/key } }\n";
            app.write(
                "watt.yaml",
                &(secrets.to_owned() + &SHOP.replace("TLS", tls).replace("services:", &thief)),
            );
            app.run(&["up", "-d"]);
            let said = wait("everything was tried", || {
                let said = app.ok(&["logs", "thief"]);
                if said.contains("end of attempts") { Ok(said) } else { Err(said) }
            });
            assert!(!said.contains("done"), "{user:?} in {profile}: {said}");
            if profile == "standard" {
                for folder in ["folder EBUSY", "inner folder EBUSY", "secrets EBUSY"] {
                    assert!(said.contains(folder), "{user:?}: no {folder} in {said}");
                }
            }
            app.down();
        }
    });
}

#[test]
fn clients_of_all_kinds_speak_tls_with_the_gateway() {
    for_each_user(|user| {
        let (app, _authority) = shop(user, ONE);
        app.up();
        let url = app.status()["gateway"].as_str().unwrap_or_default().to_owned();
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        let port = app.gateway().rsplit(':').next().unwrap_or_default().to_owned();
        for version in ["--http1.1", "--http2"] {
            let mut curl = app.command("curl");
            let resolve = format!("shop.example:{port}:127.0.0.1");
            curl.args(["-sS", "--cacert", "ca.pem", "--resolve", &resolve, version, "-w", "%{http_version}"]);
            let said = output({
                curl.arg(format!("https://shop.example:{port}/a"));
                curl
            });
            assert!(said.contains(r#""x-forwarded-proto": "https""#), "{said}");
            let spoken = if version == "--http2" { "}2" } else { "}1.1" };
            assert!(said.ends_with(spoken), "{version}: {said}");
        }
        for version in ["--http1.1", "--http2"] {
            let mut curl = app.command("curl");
            let url = format!("https://{}/large/5000000", app.gateway());
            curl.args(["-sSk", version, "-o", "large", "-w", "%{size_download}", &url]);
            assert_eq!(output(curl), "5000000", "{version}");
        }
        let mut openssl = app.command("openssl");
        let connect = app.gateway();
        openssl.args(["s_client", "-connect", &connect, "-CAfile", "ca.pem", "-servername", "shop.example"]);
        openssl.args(["-alpn", "http/1.1", "-verify_return_error"]);
        let said = output(openssl);
        for line in ["Verify return code: 0 (ok)", "ALPN protocol: http/1.1", "CN = shop.example"] {
            assert!(said.contains(line), "no {line:?}: {said}");
        }
        let mut old = app.command("openssl");
        old.args(["s_client", "-connect", &connect, "-CAfile", "ca.pem", "-tls1_2"]);
        assert!(output(old).contains("TLSv1.2"));
        if Command::new("node").arg("--version").stdout(Stdio::null()).status().is_ok() {
            let mut node = app.command("node");
            node.args(["services/tls_client.js", &app.gateway(), "ca.pem"]);
            let said = output(node);
            assert_eq!(said.trim(), "1.1 200 https, 2 200 https");
        }
        let answer = Client::start(&app, &[]).ask("/x");
        assert_eq!((&answer["status"], &answer["version"]), (&"200".into(), &"TLSv1.3".into()));
        let fields = fields(&answer);
        assert_eq!(fields["x-forwarded-proto"], "https");
        assert!(fields["forwarded"].as_str().is_some_and(|field| field.ends_with("proto=https")), "{fields}");
        for forged in ["client-cert", "x-client-cert-subject"] {
            assert_eq!(fields[forged], Value::Null, "{fields}");
        }
        let plain = exchange(&app.gateway(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("an answer");
        assert!(plain.starts_with("HTTP/1.1 400 ") && plain.contains("https"), "{plain}");
        let tls = wait("both are counted", || match app.status()["tls"].clone() {
            tls if tls["failed"]["plain_http"] == 1 && tls["completed"].as_u64() >= Some(6) => Ok(tls),
            tls => Err(tls.to_string()),
        });
        assert_eq!(tls["certificates"][0]["names"], serde_json::json!(["shop.example", "localhost"]));
        app.down();
    });
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let several = "{ certificate: shop.pem, key: shop.key,
    certificates: [{ certificate: all.pem, key: all.key }, { certificate: api.both }] }";
    let (app, authority) = shop(User::Ordinary, several);
    authority.make(&app, "all", &["*.shop.example"]);
    authority.make(&app, "api", &["api.shop.example"]);
    app.up();
    let check = |name: &str, first: &str| assert_eq!(names(&app, name)[0], first, "{name}");
    check("shop.example", "shop.example");
    check("www.shop.example", "*.shop.example");
    check("api.shop.example", "api.shop.example");
    check("API.shop.example", "api.shop.example");
    check("a.b.shop.example", "shop.example");
    check("other.example", "shop.example");
    app.down();
}

#[test]
fn clients_show_certificates_and_nobody_can_make_one_up() {
    let (app, authority) =
        shop(User::Ordinary, "{ certificate: shop.pem, key: shop.key, client_ca: ca.pem }");
    authority.make(&app, "alice", &["alice"]);
    // Of somebody else, whom the gateway does not know.
    let stranger = App::case("", User::Ordinary);
    Authority::of(&stranger).make(&stranger, "mallory", &["alice"]);
    app.write("mallory.both", &fs::read_to_string(stranger.dir.join("mallory.both")).unwrap());
    app.up();
    let answer = Client::start(&app, &["shop.example", "alice.both"]).ask("/");
    let fields = fields(&answer);
    assert_eq!(fields["x-client-cert-subject"], "CN=alice,O=Shop");
    let certificate = fs::read_to_string(app.dir.join("alice.pem")).unwrap();
    let base64: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(fields["client-cert"], format!(":{base64}:"));
    for rest in [&["shop.example"][..], &["shop.example", "mallory.both"]] {
        let answer = Client::start(&app, rest).ask("/");
        assert!(answer["error"].is_string(), "{rest:?}: {answer}");
    }
    wait("both are counted", || match app.status()["tls"]["failed"].clone() {
        failed if failed["no_client_certificate"] == 1 && failed["bad_client_certificate"] == 1 => Ok(()),
        failed => Err(failed.to_string()),
    });
    let optional = SHOP.replace(
        "TLS",
        "{ certificate: shop.pem, key: shop.key, client_ca: ca.pem, client_certificates: optional }",
    );
    app.write("watt.yaml", &optional);
    app.ok(&["reload", "--wait"]);
    wait("it is in force", || match Client::start(&app, &["shop.example"]).ask("/") {
        answer if answer["status"] == "200" => Ok(()),
        answer => Err(answer.to_string()),
    });
    app.down();
}

/// Connections that say nothing, or half of what they have to say, and one that does.
#[test]
fn handshakes_that_do_not_go_on_hold_up_nobody() {
    let (app, _authority) = shop(User::Ordinary, ONE);
    app.up();
    let silent: Vec<TcpStream> = (0..100)
        .map(|nth| {
            let mut stream = TcpStream::connect(app.gateway()).expect("it listens");
            if nth % 2 == 0 {
                stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").expect("it takes it");
            }
            stream
        })
        .collect();
    assert_eq!(Client::start(&app, &[]).ask("/")["status"], "200");
    drop(silent);
    wait("all of them are counted", || match app.status()["tls"]["failed"].clone() {
        // On a slow machine some have had their time.
        failed
            if ["gone", "timeout"].iter().filter_map(|reason| failed[*reason].as_u64()).sum::<u64>()
                == 100 =>
        {
            Ok(())
        }
        failed => Err(failed.to_string()),
    });
    app.down();
}

#[test]
fn keys_are_in_nothing_that_is_shown() {
    let (app, authority) = shop(User::Ordinary, ONE);
    let key = authority.make(&app, "shop", &["shop.example"]);
    app.up();
    app.ok(&["reload", "--wait"]);
    let secret = key.lines().nth(1).expect("a key has several lines").to_owned();
    let commands: [&[&str]; 6] = [
        &["status", "--json"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["inspect", "web"],
        &["events", "--json"],
        &["audit"],
    ];
    for command in commands {
        let output = app.run(command);
        assert!(!printed(&output).contains(&secret), "{command:?}");
    }
    assert!(!app.own_log().contains(&secret));
    app.down();
    let state = app.dir.parent().expect("it has one").join("state");
    let found = Command::new("grep").args(["-rlF", &secret]).arg(state).output().expect("grep runs");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn what_cannot_be_used_is_said_before_anything_starts() {
    let (app, authority) = shop(User::Ordinary, ONE);
    app.write("shop.key", &KeyPair::generate().unwrap().serialize_pem());
    for command in [&["config", "check"][..], &["up", "-d"]] {
        let output = app.run(command);
        let said = printed(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(
            said.contains("shop.key has a key that is not the certificate's")
                && said.contains("watt.yaml:6:"),
            "{said}"
        );
    }
    // One that has run out is no error: better than nothing for those who have to renew it by the gateway.
    let mut params = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let key = KeyPair::generate().unwrap();
    app.write("shop.pem", &params.signed_by(&key, &authority.0).unwrap().pem());
    app.write("shop.key", &key.serialize_pem());
    app.up();
    let warnings = app.status()["warnings"].to_string();
    assert!(warnings.contains("shop.pem has expired"), "{warnings}");
    app.down();
}

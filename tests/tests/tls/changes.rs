//! What becomes of certificates, keys and connections when files or the configuration are others.

use std::fs;

use rcgen::KeyPair;
use watt_tests::{User, for_each_user, kill, printed, wait};

use crate::bed::{Client, ONE, SHOP, fields, names, shop};

#[test]
fn certificates_change_without_a_connection_that_is_lost_and_wrong_ones_are_refused() {
    for_each_user(|user| {
        let (app, authority) = shop(user, ONE);
        app.up();
        let pid = app.pid("web", 0);
        let mut kept = Client::start(&app, &[]);
        assert_eq!(kept.ask("/1")["status"], "200");
        authority.make(&app, "shop", &["new.example"]);
        assert_eq!(names(&app, "x")[0], "shop.example", "nobody has asked for a reload");
        let reloaded = app.json(&["reload", "--wait"]);
        assert_eq!(reloaded["changes"][0]["key"], "server.tls", "{reloaded}");
        assert_eq!(reloaded["changes"].as_array().map(Vec::len), Some(1), "{reloaded}");
        assert_eq!(names(&app, "x")[0], "new.example");
        assert_eq!(kept.ask("/2")["names"][0], "shop.example");
        assert_eq!((kept.ask("/3")["status"].clone(), app.pid("web", 0)), ("200".into(), pid));

        let (certificate, key) = (
            fs::read_to_string(app.dir.join("shop.pem")).unwrap(),
            fs::read_to_string(app.dir.join("shop.key")).unwrap(),
        );
        let other = KeyPair::generate().unwrap().serialize_pem();
        let wrong = [
            ("shop.key", other.as_str(), "shop.key has a key that is not the certificate's"),
            ("shop.key", "", "shop.key has no private key in it"),
            ("shop.pem", "nothing", "shop.pem has no certificate in it"),
            (
                "shop.pem",
                &certificate[..200],
                "shop.pem cannot be read: the line `-----END CERTIFICATE-----` is missing",
            ),
        ];
        for (file, text, expected) in wrong {
            app.write(file, text);
            let output = app.run(&["reload"]);
            assert_eq!(output.status.code(), Some(3), "{}", printed(&output));
            let said = printed(&output);
            assert!(said.contains(expected) && said.contains("watt.yaml:"), "{said}");
            assert_eq!(names(&app, "x")[0], "new.example", "what was in force stays");
            app.write("shop.pem", &certificate);
            app.write("shop.key", &key);
        }
        drop(kept);
        // A successor goes on with what was in force, whatever has become of the files.
        app.write("shop.pem", "nothing");
        fs::remove_file(app.dir.join("shop.key")).unwrap();
        app.kill_daemon();
        let proxy = app.status()["supervisor"]["proxy_pid"].as_u64().and_then(|pid| pid.try_into().ok());
        kill("KILL", proxy.expect("a pid"));
        wait("a new proxy shows what the old one did", || match names(&app, "x") {
            names if names[0] == "new.example" => Ok(()),
            names => Err(names.to_string()),
        });
        app.down();
    });
}

#[test]
fn with_reload_on_change_certificates_are_watched() {
    let (app, authority) = shop(User::Ordinary, ONE);
    app.write("watt.yaml", &format!("reload: on-change\n{}", SHOP.replace("TLS", ONE)));
    app.up();
    // The key is written after the certificate: in between the two do not belong together.
    authority.make(&app, "shop", &["new.example"]);
    wait("the new one is shown", || match names(&app, "x") {
        names if names[0] == "new.example" => Ok(()),
        names => Err(names.to_string()),
    });
    app.down();
}

/// As with certbot, which makes them after the gateway has been configured.
#[test]
fn files_that_were_missing_are_waited_for() {
    let (app, authority) = shop(User::Ordinary, ONE);
    app.write("watt.yaml", &format!("reload: on-change\n{}", SHOP.replace("  tls: TLS\n", "")));
    app.up();
    let gateway = || app.status()["gateway"].as_str().unwrap_or_default().to_owned();
    let later = "{ certificate: later.pem, key: later.key }";
    app.write("watt.yaml", &format!("reload: on-change\n{}", SHOP.replace("TLS", later)));
    wait("it is refused", || match app.ok(&["events"]) {
        events if events.contains("later.pem") => Ok(()),
        events => Err(events),
    });
    assert!(gateway().starts_with("http://"));
    authority.make(&app, "later", &["later.example"]);
    wait("it is in force", || match gateway() {
        url if url.starts_with("https://") => Ok(()),
        url => Err(url),
    });
    assert_eq!(names(&app, "x")[0], "later.example");
    app.down();
}

/// The service does not start, and its configuration from before comes back. What clients are shown has nothing to do with that.
#[test]
fn a_configuration_that_comes_back_has_the_newer_certificates() {
    let (app, authority) = shop(User::Ordinary, ONE);
    let yaml =
        |command: &str| SHOP.replace("TLS", ONE).replace("{ command: python3 services/web.py }", command);
    app.write("watt.yaml", &yaml("{ command: python3 services/web.py, roll: { on_failure: roll_back } }"));
    app.up();
    let digest = app.status()["digest"].clone();
    authority.make(&app, "shop", &["new.example"]);
    app.write("watt.yaml", &yaml("{ command: python3 services/none.py, roll: { on_failure: roll_back } }"));
    let output = app.run(&["reload", "--wait"]);
    assert!(!output.status.success(), "{}", printed(&output));
    wait("it has come back", || match app.status()["digest"].clone() {
        now if now == digest => Ok(()),
        now => Err(now.to_string()),
    });
    assert_eq!(names(&app, "x")[0], "new.example");
    app.down();
}

#[test]
fn who_was_taken_on_other_terms_is_told_to_go() {
    let (app, authority) = shop(User::Ordinary, ONE);
    authority.make(&app, "alice", &["alice"]);
    app.up();
    let mut kept = Client::start(&app, &[]);
    assert_eq!(kept.ask("/")["closes"], false);
    let wanted = "{ certificate: shop.pem, key: shop.key, client_ca: ca.pem }";
    app.write("watt.yaml", &SHOP.replace("TLS", wanted));
    app.ok(&["reload", "--wait"]);
    wait("a certificate is asked for", || match Client::start(&app, &[]).ask("/") {
        answer if answer["error"].is_string() => Ok(()),
        answer => Err(answer.to_string()),
    });
    let last = kept.ask("/");
    assert_eq!((&last["status"], &last["closes"]), (&"200".into(), &true.into()));
    assert!(kept.ask("/")["error"].is_string());
    let mut alice = Client::start(&app, &["shop.example", "alice.both"]);
    assert_eq!(fields(&alice.ask("/"))["x-client-cert-subject"], "CN=alice,O=Shop");
    // Other certificates are no other terms.
    authority.make(&app, "shop", &["new.example"]);
    app.ok(&["reload", "--wait"]);
    wait("the new one is shown", || {
        match Client::start(&app, &["x", "alice.both"]).ask("/")["names"].clone() {
            names if names[0] == "new.example" => Ok(()),
            names => Err(names.to_string()),
        }
    });
    assert_eq!(alice.ask("/")["closes"], false);
    drop((kept, alice));
    app.down();
}

/// Root's service is root, and could read all that root can.
#[test]
fn services_read_no_key_and_write_no_certificate() {
    for_each_user(|user| {
        let (app, _authority) = shop(user, ONE);
        app.up();
        let in_service = |line: &str| printed(&app.run(&["exec", "web", "--", "sh", "-c", line]));
        let dir = app.dir.display();
        let said = in_service(&format!("cat {dir}/shop.key; cat {dir}/ca.pem; echo x >> {dir}/shop.pem"));
        assert!(!said.contains("PRIVATE KEY") && said.contains("BEGIN CERTIFICATE"), "{said}");
        let text = fs::read_to_string(app.dir.join("shop.pem")).expect("it is there");
        assert!(text.trim_end().ends_with("-----END CERTIFICATE-----"), "{said}");
        app.down();
    });
}

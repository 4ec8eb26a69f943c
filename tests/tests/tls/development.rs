//! `wattctl cert`, with clients that others have written.

use std::{fs, os::unix::fs::PermissionsExt};

use watt_tests::{App, for_each_user, printed};

use crate::bed::output;

#[test]
fn a_certificate_for_development_is_taken_by_those_who_trust_its_authority() {
    for_each_user(|user| {
        let app = App::case("", user);
        let made = app.json(&["cert", "shop.test", "*.shop.test", "127.0.0.1"]);
        assert_eq!(
            (&made["key"], &made["authority_is_new"]),
            (&"./shop.test.key".into(), &true.into()),
            "{made}"
        );
        let authority = made["authority"].as_str().expect("a path").to_owned();
        let mode =
            |path: &std::path::Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(
            (mode(&app.dir.join("shop.test.key")), mode(&app.dir.join("shop.test.pem"))),
            (0o600, 0o644)
        );
        let again = app.run(&["cert", "shop.test"]);
        assert!(!again.status.success() && printed(&again).contains("--force"), "{}", printed(&again));
        let told = app.ok(&["cert", "shop.test", "*.shop.test", "127.0.0.1", "--force"]);
        // The lines for the configuration are lines for the configuration.
        let lines: String = told
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .take(2)
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(told.contains(&authority) && lines.starts_with("server:\n  tls: {"), "{told}");
        let rest = "services: { web: { command: python3 services/web.py } }\ngateway: { routes: [{ path: /, service: web }] }\n";
        app.write("watt.yaml", &format!("{lines}  port: 0\n{rest}"));
        app.up();
        let port = app.gateway().rsplit(':').next().unwrap_or_default().to_owned();
        for host in ["shop.test", "api.shop.test", "127.0.0.1"] {
            let mut curl = app.command("curl");
            curl.args(["-sS", "--cacert", &authority, "--resolve", &format!("{host}:{port}:127.0.0.1")]);
            curl.args(["-o", "/dev/null", "-w", "%{http_code}", &format!("https://{host}:{port}/")]);
            assert_eq!(output(curl), "200", "{host}");
        }
        let mut openssl = app.command("openssl");
        openssl.args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            &authority,
            "shop.test.pem",
        ]);
        assert!(output(openssl).contains("shop.test.pem: OK"));
        app.down();
        for wrong in ["https://shop.test", "a.*.test"] {
            assert_eq!(app.run(&["cert", wrong]).status.code(), Some(2), "{wrong}");
        }
    });
}

//! Logins of browsers.

use std::time::Duration;

use watt_core::{
    ServiceId,
    plan::{KeysAt, UpstreamServer},
};

use crate::{invalid, valid};

fn with(oidc: &str) -> String {
    format!(
        "services: {{a: {{command: x}}, id: {{command: y}}}}\ngateway: {{auth: {{oidc: {oidc}}}, routes: [{{path: /, service: a}}]}}"
    )
}

#[test]
fn a_provider_that_is_a_service_and_one_elsewhere() {
    let of = |text: &str| valid(&with(text)).plan.routes[0].guard.auth.clone().unwrap().oidc.unwrap();
    let usual = of("{issuer: 'http://ID.example.org/x/', client_id: shop, cookie_keys_file: /k}");
    let server = UpstreamServer::Tcp { name: "id.example.org".into(), port: 80 };
    assert_eq!(usual.discovery.from, KeysAt::Server(server.clone()));
    assert_eq!(usual.discovery.path, "/x/.well-known/openid-configuration");
    assert_eq!(usual.servers[0], ("http://id.example.org".to_owned(), KeysAt::Server(server)));
    assert_eq!((&*usual.callback, &usual.logout, &*usual.cookie), ("/auth/callback", &None, "watt-session"));
    assert_eq!(usual.scopes, ["openid", "profile"]);
    assert_eq!(usual.algorithms, ["RS256", "PS256", "ES256", "EdDSA"]);
    let hours = Duration::from_secs(8 * 3_600);
    assert_eq!((usual.session, usual.renew, usual.url), (hours, Duration::from_secs(900), None));
    let own = of(
        "{issuer: 'https://id.example.org', discovery_url: 'http://id.plt.local/d', client_id: shop, \
                  client_secret_file: /s, cookie_keys_file: /k, servers: ['http://keys.example.org:81'], \
                  scopes: [openid], url: 'https://Shop.example.org/', callback: /cb, logout: /bye, session: 1h, renew: 0s}",
    );
    let service = KeysAt::Service(ServiceId::new("id").unwrap());
    assert_eq!((&own.discovery.from, &*own.discovery.path), (&service, "/d"));
    let origins: Vec<_> = own.servers.iter().map(|(origin, at)| (&**origin, at.clone())).collect();
    let keys = KeysAt::Server(UpstreamServer::Tcp { name: "keys.example.org".into(), port: 81 });
    let expected = [
        ("https://id.example.org", service.clone()),
        ("http://id.plt.local", service),
        ("http://keys.example.org:81", keys),
    ];
    assert_eq!(origins, expected);
    assert_eq!(own.url.as_deref(), Some("https://shop.example.org"));
    let files: Vec<_> = valid(&with(
        "{issuer: 'http://id.example.org', client_id: a, cookie_keys_file: /k, client_secret_file: /s}",
    ))
    .plan
    .credential_files()
    .into_iter()
    .map(|file| file.display().to_string())
    .collect();
    assert_eq!(files, ["/k", "/s"]);
}

#[test]
fn what_is_no_login() {
    for (oidc, expected) in [
        ("{client_id: shop, cookie_keys_file: /k}", "`issuer` is missing"),
        ("{issuer: 'http://id.example.org', client_id: shop}", "`cookie_keys_file` is missing"),
        ("{issuer: id.example.org, client_id: shop, cookie_keys_file: /k}", "is no URL"),
        (
            "{issuer: 'http://id.example.org', client_id: shop, cookie_keys_file: /k, scopes: [email]}",
            "the scope `openid`",
        ),
        (
            "{issuer: 'http://id.example.org', client_id: shop, cookie_keys_file: /k, url: 'https://a/b'}",
            "has a path",
        ),
        (
            "{issuer: 'http://id.example.org', client_id: shop, cookie_keys_file: /k, logout: /auth/callback}",
            "come back to the same path",
        ),
        (
            "{issuer: 'http://id.example.org', client_id: shop, cookie_keys_file: /k, renew: 1s}",
            "each minute at most",
        ),
        (
            "{issuer: 'http://id.example.org', client_id: shop, cookie_keys_file: /k, session: 1s}",
            "for a minute at least",
        ),
        ("{issuer: 'http://id.example.org', client_id: shop, cookie_secret: x}", "`cookie_keys_file`"),
        (
            "{issuer: 'http://id', discovery_url: 'http://nobody.plt.local/', client_id: shop, cookie_keys_file: /k}",
            "`nobody`",
        ),
    ] {
        let report = invalid(&with(oidc)).to_string();
        assert!(report.contains(expected), "{expected}: {report}");
    }
}

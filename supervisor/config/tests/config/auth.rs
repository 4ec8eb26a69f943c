//! Who asks, and what they may.

use std::time::Duration;

use insta::assert_snapshot;
use watt_core::{
    ServiceId,
    plan::{
        ApiKey, Auth, Basic, Caller, CertificateNames, Hidden, Jwt, KeysAt, RemoteKeys, UpstreamServer, User,
    },
};

use crate::{invalid, valid};

const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap()
}

fn with(gateway: &str) -> String {
    format!("services: {{a: {{command: x}}}}\ngateway:\n{}\n", gateway.replace("HASH", HASH))
}

#[test]
fn everything_in_its_places() {
    let config = valid(&with(
        r#"
  auth:
    api_keys:
      billing: HASH
      ci: {hash: "sha256:0000000000000000000000000000000000000000000000000000000000000000", roles: [read, write]}
  roles: [read]
  routes:
  - {path: /, service: a}
  - {path: /open, service: a, auth: off}
  - {path: /admin, service: a, roles: [admin]}
  - path: /own
    service: a
    roles: []
    auth:
      header: X-Key
      jwt:
        keys: [{kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo, kid: one}]
        algorithms: [EdDSA]
        issuer: https://id.example.org
        audiences: [shop]
        skew: 1m
        user: email
        roles: scope
        claims: [tenant]"#,
    ));
    let [usual, open, admin, own] = &config.plan.routes[..] else { panic!("four routes") };
    let key = |name: &str, hash: &str, roles: &[&str]| ApiKey {
        name: name.into(),
        hash: Hidden(hash.into()),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    };
    let auth = Auth {
        of_gateway: true,
        key_header: "x-api-key".into(),
        keys: vec![
            key("billing", HASH, &[]),
            key("ci", &format!("sha256:{}", "0".repeat(64)), &["read", "write"]),
        ],
        ..Auth::default()
    };
    assert_eq!((usual.guard.auth.as_ref(), &usual.guard.roles[..]), (Some(&auth), &["read".to_owned()][..]));
    assert_eq!((open.guard.auth.as_ref(), &open.guard.roles[..]), (None, &[][..]));
    assert_eq!((admin.guard.auth.as_ref(), &admin.guard.roles[..]), (Some(&auth), &["admin".to_owned()][..]));
    let jwt = Jwt {
        jwks: r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"one"}]}"#.into(),
        key_file: None,
        secret_file: None,
        remote: None,
        algorithms: vec!["EdDSA".into()],
        issuer: Some("https://id.example.org".into()),
        audiences: vec!["shop".into()],
        skew: Duration::from_secs(60),
        name_claim: "email".into(),
        roles_claim: "scope".into(),
        claims: vec!["tenant".into()],
    };
    let expected = Auth { key_header: "x-key".into(), jwt: Some(jwt), ..Auth::default() };
    assert_eq!((own.guard.auth.as_ref(), &own.guard.roles[..]), (Some(&expected), &[][..]));
    let shown = format!("{}{}{:?}", config.show_text(), config.show(), config.plan);
    assert!(!shown.contains("ba7816"), "hashes are shown nowhere: {shown}");
}

#[test]
fn what_makes_no_sense() {
    assert_snapshot!(invalid(&with(
        "  auth: {api_keys: {billing: secret, b: HASH, c: HASH, 'd e': HASH}, header: 'a b'}\n  roles: ['a,b']\n  routes:\n  - {path: /a, service: a, auth: on}\n  - {path: /b, service: a, auth: {}}\n  - {path: /c, service: a, auth: off, roles: [admin]}\n  - {path: /d, service: a, auth: off, rate_limit: {requests: 1, by: user}}"
    )), @r#"
error: this is not the hash of a key
 --> watt.yaml:3:30
  |
3 |   auth: {api_keys: {billing: secret, b: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410f…
  |                              ^^^^^^
  = hint: `sha256:` and 64 hexadecimal digits: `printf %s "$key" | sha256sum`

error: two have the same key
 --> watt.yaml:3:117
  |
3 | …61a396177a9cb410ff61f20015ad, c: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f200…
  |                                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = note: this is the other one
 --> watt.yaml:3:41
  |
3 | … {api_keys: {billing: secret, b: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f200…
  |                                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = hint: make another one

error: `d e` cannot be the name of who has a key
 --> watt.yaml:3:190
  |
3 | …00361a396177a9cb410ff61f20015ad, 'd e': sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410f…
  |                                   ^^^^^
  = hint: up to 128 letters, digits, and `-_.@:`

error: two have the same key
 --> watt.yaml:3:197
  |
3 | …96177a9cb410ff61f20015ad, 'd e': sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f200…
  |                                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = note: this is the other one
 --> watt.yaml:3:117
  |
3 | …61a396177a9cb410ff61f20015ad, c: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f200…
  |                                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = hint: make another one

error: `a b` is not the name of a header
 --> watt.yaml:3:279
  |
3 | …177a9cb410ff61f20015ad}, header: 'a b'}
  |                                   ^^^^^
  = hint: for example `X-Tenant`

error: `a,b` cannot be a role
 --> watt.yaml:4:11
  |
4 |   roles: ['a,b']
  |           ^^^^^
  = hint: up to 128 letters, digits, and `-_.@:`

error: `on` is not understood here
 --> watt.yaml:6:34
  |
6 |   - {path: /a, service: a, auth: on}
  |                                  ^^
  = hint: one of `off`

error: nobody could ever be known
 --> watt.yaml:7:28
  |
7 |   - {path: /b, service: a, auth: {}}
  |                            ^^^^
  = hint: write `api_keys`, `basic`, `jwt` or `oidc`, or `auth: off`

error: nobody has a role where anybody may
 --> watt.yaml:8:39
  |
8 |   - {path: /c, service: a, auth: off, roles: [admin]}
  |                                       ^^^^^
  = hint: write `auth` as well, here or in `gateway`

error: `by: user` where nobody is known
 --> watt.yaml:9:39
  |
9 |   - {path: /d, service: a, auth: off, rate_limit: {requests: 1, by: user}}
  |                                       ^^^^^^^^^^
  = hint: write `auth` as well, here or in `gateway`
"#);
    assert_snapshot!(invalid(&with(
        "  auth: {jwt: {keys: [{kty: oct, k: c2hvcnQ}, {kty: RSA, n: AQAB, e: AQAB}, {kty: DSA}, x], algorithms: [none], aud: x}}\n  routes:\n  - {path: /b, service: a, auth: {jwt: {keys: [{kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}], algorithms: [RS256], claims: ['a b']}}}"
    )), @r#"
error: `k` is secret, and does not belong into this file
 --> watt.yaml:3:24
  |
3 |   auth: {jwt: {keys: [{kty: oct, k: c2hvcnQ}, {kty: RSA, n: AQAB, e: AQAB}, {kty: DSA}, x], algorith…
  |                        ^^^
  = hint: write the public key: whoever signs has the other one

error: this key is not understood: an RSA key has 2048 bits at least
 --> watt.yaml:3:48
  |
3 | …{keys: [{kty: oct, k: c2hvcnQ}, {kty: RSA, n: AQAB, e: AQAB}, {kty: DSA}, x], algorithms: [none], au…
  |                                   ^^^
  = hint: a public key of RSA, of P-256 or of Ed25519, as a JWK

error: this key is not understood: it is for no signatures of a known kind
 --> watt.yaml:3:78
  |
3 | …, {kty: RSA, n: AQAB, e: AQAB}, {kty: DSA}, x], algorithms: [none], aud: x}}
  |                                   ^^^
  = hint: a public key of RSA, of P-256 or of Ed25519, as a JWK

error: a key is a table, and this is text
 --> watt.yaml:3:89
  |
3 | …, n: AQAB, e: AQAB}, {kty: DSA}, x], algorithms: [none], aud: x}}
  |                                   ^
  = hint: for example `keys: [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]`

error: `none` is not understood here
 --> watt.yaml:3:106
  |
3 | …B}, {kty: DSA}, x], algorithms: [none], aud: x}}
  |                                   ^^^^
  = hint: one of `HS256`, `RS256`, `PS256`, `ES256`, `EdDSA`

error: unknown key `aud` in `auth.jwt`
 --> watt.yaml:3:113
  |
3 | …y: DSA}, x], algorithms: [none], aud: x}}
  |                                   ^^^
  = hint: write `audiences`

error: no key is for any of these algorithms
 --> watt.yaml:5:123
  |
5 | …7TyWQHOg7hcvPapiMlrwIaaPcHURo}], algorithms: [RS256], claims: ['a b']}}}
  |                                   ^^^^^^^^^^
  = note: these are the keys
 --> watt.yaml:5:41
  |
5 | …th: /b, service: a, auth: {jwt: {keys: [{kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMl…
  |                                   ^^^^

error: `a b` cannot be a part of a header's name
 --> watt.yaml:5:153
  |
5 | …], algorithms: [RS256], claims: ['a b']}}}
  |                                   ^^^^^
  = hint: letters, digits, `-` and `_`
"#);
}

const PASSWORD: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

#[test]
fn passwords_and_files() {
    let config = valid(
        &with(
            r#"
  routes:
  - path: /
    service: a
    auth:
      api_keys_file: keys/api
      basic: {users: {ada: PASSWORD, bob: {password: PASSWORD, roles: [admin]}}, file: .htpasswd, realm: The shop}
      jwt: {keys_file: jwks.json, secret_file: /etc/jwt, algorithms: [HS256]}
  - {path: /short, service: a, auth: {basic: users}}"#,
        )
        .replace("PASSWORD", PASSWORD),
    );
    let [first, short] = &config.plan.routes[..] else { panic!("two routes") };
    let auth = first.guard.auth.as_ref().unwrap();
    let user = |name: &str, roles: &[&str]| User {
        name: name.into(),
        password: Hidden(PASSWORD.into()),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    };
    let basic = Basic {
        realm: "The shop".into(),
        users: vec![user("ada", &[]), user("bob", &["admin"])],
        file: Some("/srv/shop/.htpasswd".into()),
    };
    assert_eq!(auth.basic.as_ref(), Some(&basic));
    assert_eq!(auth.key_file.as_deref(), Some("/srv/shop/keys/api".as_ref()));
    let jwt = auth.jwt.as_ref().unwrap();
    assert_eq!(jwt.algorithms, ["HS256"]);
    let short = short.guard.auth.as_ref().unwrap().basic.as_ref().unwrap();
    assert_eq!(short.file.as_deref(), Some("/srv/shop/users".as_ref()));
    let files: Vec<_> = config.plan.text_files().into_iter().map(|path| path.display().to_string()).collect();
    let expected =
        ["/etc/jwt", "/srv/shop/.htpasswd", "/srv/shop/jwks.json", "/srv/shop/keys/api", "/srv/shop/users"];
    assert_eq!(files, expected);
    let shown = format!("{}{}{:?}", config.show_text(), config.show(), config.plan);
    assert!(!shown.contains("CCCCCC"), "hashes are shown nowhere: {shown}");
}

#[test]
fn what_is_in_the_files_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let text = with(
        "  auth: {api_keys: {ci: HASH}, api_keys_file: keys, basic: users, jwt: {keys_file: jwks, secret_file: secret}}\n  routes: [{path: /, service: a}]",
    );
    let sources = watt_config::Sources {
        file: folder.path().join("watt.yaml"),
        text,
        ..watt_config::Sources::default()
    };
    let config = watt_config::parse(&sources).unwrap();
    let told = |keys: &str, users: &str, jwks: &str, secret: &str| {
        for (name, text) in [("keys", keys), ("users", users), ("jwks", jwks), ("secret", secret)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        match config.certificates() {
            Ok(read) => {
                assert!(config.accepts(&read) && read.len() == 4);
                Vec::new()
            }
            Err(report) => {
                let text = report.to_string().replace(&*folder.path().to_string_lossy(), "DIR");
                assert!(!text.contains("hunter2"), "{text}");
                text.lines().filter_map(|line| line.strip_prefix("error: ").map(str::to_owned)).collect()
            }
        }
    };
    let (users, secret) = (format!("ada:{PASSWORD}:admin"), "0123456789abcdef0123456789abcdef");
    let key = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let keys = HASH.replace("ba", "bb");
    assert_eq!(told(&format!("billing:{keys}"), &users, key, secret), Vec::<String>::new());
    let wrong = told("# x\nbilling:hunter2", "ada:hunter2", "{}", "short");
    let expected = [
        "DIR/keys, line 2: this is not the hash of a key",
        "DIR/users, line 1: this is not the hash of a password by argon2 or bcrypt",
        "DIR/jwks: it is no JWK Set",
        "DIR/secret: a shared secret has 32 bytes at least",
    ];
    assert!(
        wrong.len() == 4 && wrong.iter().zip(expected).all(|(told, start)| told.starts_with(start)),
        "{wrong:?}"
    );
    let private = key.replace("\"x\"", "\"d\":\"x\",\"x\"");
    let wrong = told(&format!("ci:{keys}"), &users, &private, secret);
    assert!(wrong[0].contains("this name is in the configuration as well"), "{wrong:?}");
    assert!(wrong[1].contains("key 0 has a part that is secret"), "{wrong:?}");
}

#[test]
fn rules_in_their_places() {
    let config = valid(&format!(
        "services: {{a: {{command: x, rules: [{{do: allow, from: [b, gateway], path: /x, methods: [GET]}}, {{do: deny}}]}}, b: {{command: x}}}}\n{}",
        with("  auth: {api_keys: {billing: HASH}}\n  rules: [{do: deny, path: '/admin/*/keys', claims: {tenant: [red, blue], level: 3}, users: [x]}]\n  routes:\n  - {path: /, service: a}\n  - {path: /free, service: a, rules: [], case: exact}")
            .split_once('\n').unwrap().1
    ));
    let [first, free] = &config.plan.routes[..] else { panic!("two routes") };
    let [rule] = &first.guard.rules[..] else { panic!("one rule") };
    assert_eq!((rule.allows, rule.path.as_deref()), (false, Some("/admin/*/keys")));
    let claims: Vec<_> =
        rule.claims.iter().map(|(name, values)| format!("{name}={}", values.join("|"))).collect();
    assert_eq!(claims, ["level=3", "tenant=red|blue"]);
    assert!(free.guard.rules.is_empty() && free.case_exact && !first.case_exact);
    let service = &config.plan.services[&id("a")];
    assert_eq!(service.guard.rules[0].callers, [Caller::Service(id("b")), Caller::Gateway]);
}

#[test]
fn rules_about_certificates() {
    let asks = |rule: &str, tls: &str| {
        format!(
            "services: {{a: {{command: x, rules: [{rule}]}}}}\nserver: {{tls: {{certificate: a.pem{tls}}}}}\ngateway:\n  rules: [{rule}]\n  routes:\n  - {{path: /, service: a}}\n  - {{path: /b, service: a}}\n"
        )
    };
    let ca = ", client_ca: ca.pem";
    let rule =
        "{do: allow, certificate: {cn: [ada, bob], dns: [a.example], uri: ['spiffe://a/b'], email: [a@b]}}";
    let config = valid(&asks(rule, ca));
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let names = CertificateNames {
        cn: texts(&["ada", "bob"]),
        dns: texts(&["a.example"]),
        uri: texts(&["spiffe://a/b"]),
        email: texts(&["a@b"]),
    };
    let guards =
        [&config.plan.routes[1].guard, &config.plan.services[&id("a")].guard].map(|guard| &guard.rules[..]);
    for rules in guards {
        assert_eq!(rules[0].certificate.as_ref(), Some(&names));
    }
    let any = valid(&asks("{do: allow, certificate: {}}", ca));
    assert_eq!(any.plan.routes[0].guard.rules[0].certificate, Some(CertificateNames::default()));
    let none = valid(&asks("{do: allow}", ""));
    assert_eq!(none.plan.routes[0].guard.rules[0].certificate, None);

    assert_snapshot!(invalid(&asks("{do: allow, certificate: {cn: [ada]}}", "")), @r#"
    error: a rule about certificates, and no client is asked for one
     --> watt.yaml:1:12
      |
    1 | services: {a: {command: x, rules: [{do: allow, certificate: {cn: [ada]}}]}}
      |            ^
      = hint: write `client_ca` in `tls` of `server` or of another listener

    error: a rule about certificates, and no client is asked for one
     --> watt.yaml:6:12
      |
    6 |   - {path: /, service: a}
      |            ^
      = hint: write `client_ca` in `tls` of `server` or of another listener
    "#);
    assert_snapshot!(invalid(&with(
        "  rules: [{do: allow, certificate: {cn: 'CN=ada'}}, {do: deny, certificate: {san: x}}]\n  routes: [{path: /, service: a}]"
    )), @r#"
    error: `cn` is a list, and this is text
     --> watt.yaml:3:41
      |
    3 |   rules: [{do: allow, certificate: {cn: 'CN=ada'}}, {do: deny, certificate: {san: x}}]
      |                                         ^^^^^^^^
      = hint: write `[…]`, or a line with `-` for each item

    error: unknown key `san` in `rules.certificate`
     --> watt.yaml:3:78
      |
    3 |   rules: [{do: allow, certificate: {cn: 'CN=ada'}}, {do: deny, certificate: {san: x}}]
      |                                                                              ^^^
      = hint: write `dns`, `uri` or `email`

    error: a rule about certificates, and no client is asked for one
     --> watt.yaml:4:19
      |
    4 |   routes: [{path: /, service: a}]
      |                   ^
      = hint: write `client_ca` in `tls` of `server` or of another listener
    "#);
    assert_snapshot!(invalid(&with(
        "  rules: [{do: allow, certificate: {cn: []}}]\n  routes: [{path: /, service: a}]"
    )), @r#"
    error: `cn` has no name that would do
     --> watt.yaml:3:37
      |
    3 |   rules: [{do: allow, certificate: {cn: []}}]
      |                                     ^^
      = hint: write one, or remove it

    error: a rule about certificates, and no client is asked for one
     --> watt.yaml:4:19
      |
    4 |   routes: [{path: /, service: a}]
      |                   ^
      = hint: write `client_ca` in `tls` of `server` or of another listener
    "#);
}

#[test]
fn rules_that_make_no_sense() {
    assert_snapshot!(invalid(&with(
        "  rules: [{allow: true}, {do: maybe, path: 'x', methods: [get]}, {do: deny, from: [a]}]\n  routes:\n  - {path: /, service: a, rules: [{do: allow, roles: [admin]}, {do: deny, path: '/a*', claims: {x: []}}]}"
    )), @r#"
error: unknown key `allow` in `rules`
 --> watt.yaml:3:12
  |
3 |   rules: [{allow: true}, {do: maybe, path: 'x', methods: [get]}, {do: deny, from: [a]}]
  |            ^^^^^
  = hint: write `do: allow`

error: `do` is missing
 --> watt.yaml:3:12
  |
3 |   rules: [{allow: true}, {do: maybe, path: 'x', methods: [get]}, {do: deny, from: [a]}]
  |            ^^^^^
  = hint: for example `do: "allow"`

error: `maybe` is not understood here
 --> watt.yaml:3:31
  |
3 |   rules: [{allow: true}, {do: maybe, path: 'x', methods: [get]}, {do: deny, from: [a]}]
  |                               ^^^^^
  = hint: one of `allow`, `deny`

error: `x` does not start with `/`
 --> watt.yaml:3:44
  |
3 |   rules: [{allow: true}, {do: maybe, path: 'x', methods: [get]}, {do: deny, from: [a]}]
  |                                            ^^^
  = hint: did you mean `/x`?

error: `get` is not a method: they are written in capital letters
 --> watt.yaml:3:59
  |
3 |   rules: [{allow: true}, {do: maybe, path: 'x', methods: [get]}, {do: deny, from: [a]}]
  |                                                           ^^^
  = hint: did you mean `GET`?

error: all that come here are clients
 --> watt.yaml:3:77
  |
3 |   rules: [{allow: true}, {do: maybe, path: 'x', methods: [get]}, {do: deny, from: [a]}]
  |                                                                             ^^^^
  = hint: write the rule at the service

error: rules about who asks, where nobody is known
 --> watt.yaml:5:27
  |
5 |   - {path: /, service: a, rules: [{do: allow, roles: [admin]}, {do: deny, path: '/a*', claims: {x: […
  |                           ^^^^^
  = hint: write `auth` as well, here or in `gateway`

error: `a*` is no segment of a rule's path
 --> watt.yaml:5:81
  |
5 | …oles: [admin]}, {do: deny, path: '/a*', claims: {x: []}}]}
  |                                   ^^^^^
  = hint: `*` is a whole segment: `/orders/*/items`
"#);
}

#[test]
fn keys_may_be_published_by_a_service_or_elsewhere() {
    let from = |url: &str| {
        let jwt = format!("auth: {{jwt: {{keys_url: {url}}}}}");
        let config = valid(&format!(
            "services: {{a: {{command: x}}, id: {{command: y}}}}\ngateway: {{routes: [{{path: /, service: a, {jwt}}}]}}"
        ));
        config.plan.routes[0].guard.auth.clone().unwrap().jwt.unwrap().remote.unwrap()
    };
    let hour = Duration::from_secs(3_600);
    let of_service =
        |path: &str, every| RemoteKeys { from: KeysAt::Service(id("id")), path: path.into(), every };
    assert_eq!(from("http://id.plt.local/jwks.json"), of_service("/jwks.json", hour));
    assert_eq!(from("'internal://id/jwks?v=1'"), of_service("/jwks?v=1", hour));
    assert_eq!(from("{url: http://id.plt.local, every: 10m}"), of_service("/", Duration::from_secs(600)));
    let server = UpstreamServer::Tcp { name: "id.example.org".into(), port: 8080 };
    let outside = RemoteKeys { from: KeysAt::Server(server.clone()), path: "/k".into(), every: hour };
    assert_eq!(from("http://id.example.org:8080/k"), outside);
    let config = valid(&with(
        "  auth: {jwt: {keys_url: 'http://id.example.org:8080/k'}}\n  routes: [{path: /, service: a}]",
    ));
    assert_eq!(config.plan.key_servers().collect::<Vec<_>>(), [&server]);
}

#[test]
fn what_keys_are_not_fetched_from() {
    for (gateway, expected) in [
        ("  auth: {jwt: {keys_url: /jwks.json}}", "is no URL that keys are fetched from"),
        ("  auth: {jwt: {keys_url: 'http://id.example.org/a#b'}}", "error"),
        ("  auth: {jwt: {keys_url: 'http://id.example.org/a?b c'}}", "has a query that is none"),
        ("  auth: {jwt: {keys_url: 'http:///a'}}", "is not a host"),
        (
            "  auth: {jwt: {keys_url: {url: 'http://id.example.org/', every: 1s}}}",
            "at most every five seconds",
        ),
        (
            "  auth: {jwt: {keys_url: 'http://nobody.plt.local/'}}\n  routes: [{path: /, service: a}]",
            "nobody",
        ),
        ("  auth: {jwt: {}}", "write `keys`, `keys_file`, `keys_url` or `secret_file`"),
    ] {
        let report = invalid(&with(gateway)).to_string();
        assert!(report.contains(expected), "{expected}: {report}");
    }
}

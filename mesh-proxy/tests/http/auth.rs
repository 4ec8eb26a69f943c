//! Who asks: keys, tokens, roles, and what services are told.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, task::spawn_local};
use watt_api::mesh::{
    AccessRule, ApiKey, Auth, Basic, CertificateNames, CountedBy, Denied, Guard, Jwt, RateLimit, RemoteKeys,
    Route, Secret, User,
};
use watt_policies::keys::Hash;

use crate::bed::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn key(name: &str, key: &str, roles: &[&str]) -> ApiKey {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    ApiKey { name: name.into(), hash: Hash::of(key.as_bytes()).reveal(), roles }
}

fn keys() -> Auth {
    let keys = vec![key("billing", "secret-1", &["read"]), key("root", "secret-2", &["read", "admin"])];
    Auth { key_header: "x-api-key".into(), keys, ..Auth::default() }
}

fn route_with(path: &str, roles: &[&str]) -> Route {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    Route {
        guard: Guard { auth: Some("gateway".into()), roles, ..Guard::default() },
        ..route(path, "api", None)
    }
}

fn bed(auth: Auth, routes: Vec<Route>) -> (Bed, MockWorker) {
    let (bed, worker) = Bed::with_worker();
    bed.change(|snapshot| {
        snapshot.auths = [("gateway".to_owned(), auth)].into();
        snapshot.routes = routes;
    });
    (bed, worker)
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

#[test]
fn a_key_opens_and_goes_no_further() {
    at_once(async {
        let (bed, worker) = bed(keys(), vec![route_with("/", &[])]);
        for (fields, expected) in [
            ("", (401, "credentials_missing")),
            ("X-Api-Key: secret-3\r\n", (401, "credentials_wrong")),
            ("X-Api-Key: secret-1\r\nX-Api-Key: secret-1\r\n", (401, "credentials_wrong")),
            ("X_Api_Key: secret-1\r\n", (401, "credentials_missing")),
            ("Connection: x-api-key\r\nX-Api-Key: secret-1\r\n", (401, "credentials_missing")),
            ("Authorization: Bearer secret-1\r\n", (401, "credentials_missing")),
        ] {
            let mut client = bed.ask(get("/", fields)).await;
            assert_eq!(client.failure().await, (expected.0, expected.1.to_owned()), "{fields}");
        }
        let challenge = bed.ask(get("/", "")).await.head().await;
        assert_eq!(field(&challenge, "www-authenticate"), Some("ApiKey"));
        assert_eq!(bed.thread.counts()["api"].denied, Denied { credentials: 7, ..Denied::default() });
        let forged = "x-api-key: secret-2\r\nX_API_KEY: x\r\nX-Forwarded-User: ada\r\nx_forwarded_user: ada\r\n\
                      X-Forwarded-Roles: admin\r\nX-FORWARDED_ROLES: admin\r\nX-Forwarded-Claim-Tenant: a\r\n";
        let _client = bed.ask(get("/", forged)).await;
        let head = worker.accept().await.head().await.to_ascii_lowercase();
        assert!(head.contains("x-forwarded-user: root\r\n"), "{head}");
        assert!(head.contains("x-forwarded-roles: read,admin\r\n"), "{head}");
        for gone in ["ada", "secret", "api-key", "api_key", "forwarded_", "claim"] {
            assert!(!head.contains(gone), "{gone}: {head}");
        }
    });
}

#[test]
fn nobody_is_told_of_where_nobody_is_asked() {
    at_once(async {
        let (bed, worker) = bed(keys(), vec![route("/", "api", None)]);
        let _client = bed.ask(get("/", "X-Forwarded-User: ada\r\nX-Api-Key: secret-1\r\n")).await;
        let head = worker.accept().await.head().await;
        assert!(!head.contains("ada") && head.contains("X-Api-Key: secret-1\r\n"), "{head}");
    });
}

#[test]
fn roles_are_needed_by_route_and_method() {
    at_once(async {
        let post = Route { methods: vec!["POST".into()], ..route_with("/", &["admin", "write"]) };
        let (bed, worker) = bed(keys(), vec![route_with("/", &["read"]), post]);
        worker.answer(OK);
        let post = |key: &str| {
            format!("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nX-Api-Key: {key}\r\n\r\n")
        };
        let mut client = bed.client();
        client.send(get("/", "X-Api-Key: secret-1\r\n")).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        client.send(post("secret-1")).await;
        assert_eq!(client.failure().await, (403, "role_missing".to_owned()));
        client.send(post("secret-2")).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        assert_eq!(bed.thread.counts()["api"].denied, Denied { role: 1, ..Denied::default() });
    });
}

#[test]
fn what_is_not_known_lets_nobody_in() {
    at_once(async {
        let (bed, _worker) = bed(keys(), vec![route_with("/", &[])]);
        bed.change(|snapshot| snapshot.auths.clear());
        let mut client = bed.ask(get("/", "X-Api-Key: secret-1\r\n")).await;
        assert_eq!(client.failure().await, (401, "credentials_missing".to_owned()));
        // A role without anybody who could have it.
        bed.change(|snapshot| snapshot.routes[0].guard.auth = None);
        bed.change(|snapshot| snapshot.routes[0].guard.roles = vec!["admin".into()]);
        let mut client = bed.ask(get("/", "X-Api-Key: secret-2\r\n")).await;
        assert_eq!(client.failure().await, (403, "role_missing".to_owned()));
    });
}

/// Browsers send none with it, and whether the service lets a page in is the service's affair where there is no `cors`.
#[test]
fn a_preflight_needs_no_credentials() {
    at_once(async {
        let (bed, worker) = bed(keys(), vec![route_with("/", &["admin"])]);
        let preflight = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n";
        let ask = |method: &str, fields: &str| format!("{method} / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n");
        let mut client = bed.ask(ask("OPTIONS", &format!("{preflight}X-Forwarded-User: root\r\n"))).await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert!(!head.contains("User"), "nobody is told of: {head}");
        wire.send("HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: https://a.example\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!(field(&head, "access-control-allow-origin"), Some("https://a.example"), "{head}");
        for (method, fields) in [
            ("PUT", preflight.to_owned()),
            ("OPTIONS", "Origin: https://a.example\r\n".to_owned()),
            ("OPTIONS", "Access-Control-Request-Method: PUT\r\n".to_owned()),
            ("OPTIONS", format!("{preflight}Content-Length: 1\r\n")),
            ("OPTIONS", format!("{preflight}Connection: access-control-request-method\r\n")),
            ("OPTIONS", format!("{preflight}Connection: upgrade\r\nUpgrade: websocket\r\n")),
        ] {
            let mut client = bed.ask(ask(method, &fields)).await;
            assert_eq!(client.failure().await, (401, "credentials_missing".to_owned()), "{method} {fields}");
        }
    });
}

#[test]
fn keys_change_with_the_snapshot() {
    at_once(async {
        let (bed, worker) = bed(keys(), vec![route_with("/", &[])]);
        worker.answer(OK);
        bed.change(|snapshot| {
            snapshot.auths.get_mut("gateway").unwrap().keys = vec![key("billing", "secret-9", &[])];
        });
        let mut client = bed.client();
        client.send(get("/", "X-Api-Key: secret-1\r\n")).await;
        assert_eq!(client.failure().await, (401, "credentials_wrong".to_owned()));
        client.send(get("/", "X-Api-Key: secret-9\r\n")).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
    });
}

/// Who signs, and what is taken of that.
fn signer() -> (Ed25519KeyPair, Auth) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    let jwt = Jwt {
        jwks: json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] }).to_string(),
        algorithms: vec!["EdDSA".into()],
        issuer: Some("https://id.example".into()),
        audiences: vec!["shop".into()],
        skew_s: 30,
        name_claim: "sub".into(),
        roles_claim: "roles".into(),
        claims: vec!["tenant".into(), "deep".into()],
        ..Jwt::default()
    };
    (pair, Auth { jwt: Some(jwt), ..keys() })
}

fn token(pair: &Ed25519KeyPair, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&json!({ "alg": "EdDSA" })), encode(claims));
    let sign = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
    format!("Authorization: bearer {message}.{sign}\r\n")
}

fn claims() -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    json!({ "iss": "https://id.example", "aud": "shop", "exp": now + 3600, "sub": "ada@example.org",
            "roles": ["admin", "a,b", "x\r\ny"], "tenant": ["blue", "x,green"], "deep": {"a": 1} })
}

#[test]
fn a_token_says_who_it_is() {
    at_once(async {
        let (pair, auth) = signer();
        let (bed, worker) = bed(auth, vec![route_with("/", &["admin"])]);
        let _client = bed.ask(get("/", &token(&pair, &claims()))).await;
        let head = worker.accept().await.head().await;
        assert!(head.contains("X-Forwarded-User: ada@example.org\r\n"), "{head}");
        assert!(head.contains("X-Forwarded-Roles: admin\r\n"), "{head}");
        assert!(
            head.contains("X-Forwarded-Claim-tenant: blue\r\n") && !head.contains("Claim-deep"),
            "{head}"
        );
        let mut expired = claims();
        expired["exp"] = json!(1_000);
        let (other, _) = signer();
        for fields in [token(&pair, &expired), token(&other, &claims()), "Authorization: Bearer x\r\n".into()]
        {
            let head = bed.ask(get("/", &fields)).await.head().await;
            assert_eq!(status(&head), 401, "{head}");
            assert_eq!(field(&head, "www-authenticate"), Some("Bearer error=\"invalid_token\""));
        }
        let head = bed.ask(get("/", "Authorization: Basic YTpi\r\n")).await.head().await;
        assert_eq!((status(&head), field(&head, "www-authenticate")), (401, Some("Bearer")));
        let wrong_key = format!("X-Api-Key: x\r\n{}", token(&pair, &claims()));
        assert_eq!(status(&bed.ask(get("/", &wrong_key)).await.head().await), 401, "a wrong key stays wrong");
        for name in [json!("a\r\nb"), json!(""), json!(["x", {}]), Value::Null] {
            let mut claims = claims();
            claims["sub"] = name.clone();
            assert_eq!(status(&bed.ask(get("/", &token(&pair, &claims))).await.head().await), 401, "{name}");
        }
    });
}

#[test]
fn somebody_who_is_known_is_counted_wherever_he_comes_from() {
    at_once(async {
        let limit = RateLimit {
            id: "user".into(),
            name: "user".into(),
            requests: 2,
            per_ms: 60_000,
            burst: 2,
            header: None,
            by: CountedBy::User,
        };
        let mut route = route_with("/", &[]);
        route.guard.limits = vec![limit];
        let (bed, worker) = bed(keys(), vec![route]);
        worker.answer(OK);
        let ask = async |address: &str, key: &str| {
            let mut client = bed.client_from(address);
            client.send(get("/", &format!("X-Api-Key: {key}\r\n"))).await;
            status(&client.head().await)
        };
        assert_eq!(ask("192.0.2.1", "wrong").await, 401);
        assert_eq!(ask("192.0.2.1", "secret-1").await, 200);
        assert_eq!(ask("192.0.2.2", "secret-1").await, 200);
        assert_eq!(ask("192.0.2.3", "secret-1").await, 429);
        assert_eq!(ask("192.0.2.3", "secret-2").await, 200);
    });
}

/// Of `U*U`.
const HASH: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

fn passwords() -> Auth {
    let users = vec![User { name: "ada".into(), password: Secret(HASH.into()), roles: vec!["admin".into()] }];
    let file = Some(Secret(format!("# staff\nbob:{HASH}:read\n")));
    let basic = Basic { realm: "shop".into(), users, file };
    Auth { key_header: "x-api-key".into(), basic: Some(basic), ..Auth::default() }
}

fn basic(name: &str, password: &str) -> String {
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("Authorization: Basic {credentials}\r\n")
}

#[test]
fn a_password_opens_and_goes_no_further() {
    local(async {
        let (bed, worker) = bed(passwords(), vec![route_with("/", &[]), route_with("/admin", &["admin"])]);
        for (fields, expected) in [
            (String::new(), (401, "credentials_missing")),
            (basic("ada", "wrong"), (401, "credentials_wrong")),
            (basic("eve", "U*U"), (401, "credentials_wrong")),
            ("Authorization: Basic ?\r\n".to_owned(), (401, "credentials_wrong")),
            (format!("{0}{0}", basic("ada", "U*U")), (401, "credentials_wrong")),
        ] {
            let mut client = bed.ask(get("/", &fields)).await;
            let head = client.head().await;
            let challenge = field(&head, "www-authenticate");
            assert_eq!(challenge, Some("Basic realm=\"shop\", charset=\"UTF-8\""), "{fields}");
            let body = client.rest_of(&head).await;
            assert!(status(&head) == expected.0 && body.contains(expected.1), "{fields}: {body}");
        }
        let mut client = bed.client();
        client.send(get("/admin", &basic("ada", "U*U"))).await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert!(head.contains("X-Forwarded-User: ada\r\nX-Forwarded-Roles: admin\r\n"), "{head}");
        assert!(!head.to_ascii_lowercase().contains("authorization"), "{head}");
        wire.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        client.send(get("/admin", &basic("bob", "U*U"))).await;
        assert_eq!(client.failure().await, (403, "role_missing".to_owned()));
        client.send(get("/", &basic("bob", "U*U"))).await;
        assert!(wire.head().await.contains("X-Forwarded-User: bob\r\nX-Forwarded-Roles: read\r\n"));
    });
}

/// Whoever guesses is counted once for each guess, however often the request is looked at.
#[test]
fn a_guess_of_a_password_counts_once() {
    local(async {
        let limit = RateLimit {
            id: "x".into(),
            name: "x".into(),
            requests: 4,
            per_ms: 3_600_000,
            burst: 4,
            header: None,
            by: CountedBy::Everyone,
        };
        let mut route = route_with("/", &[]);
        route.guard.limits = vec![limit];
        let (bed, worker) = bed(passwords(), vec![route]);
        worker.answer(OK);
        let mut client = bed.client();
        let mut ask = async |password: &str| {
            client.send(get("/", &basic("ada", password))).await;
            let head = client.head().await;
            client.rest_of(&head).await;
            (status(&head), field(&head, "ratelimit").unwrap().split(';').nth(1).unwrap().to_owned())
        };
        assert_eq!(ask("a").await, (401, "r=3".to_owned()));
        assert_eq!(ask("a").await, (401, "r=2".to_owned()), "one that is remembered counts as well");
        assert_eq!(ask("U*U").await, (200, "r=1".to_owned()));
        assert_eq!(ask("U*U").await, (200, "r=0".to_owned()));
        assert_eq!(ask("U*U").await, (429, "r=0".to_owned()));
    });
}

/// A check is made once; what came of it is forgotten with the hash that it was about.
#[test]
fn a_password_that_was_right_is_right_until_the_configuration_changes() {
    local(async {
        let (bed, worker) = bed(passwords(), vec![route_with("/", &[])]);
        worker.answer(OK);
        let mut client = bed.client();
        client.send(get("/", &basic("ada", "U*U"))).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        let checked = bed.thread.password_checks();
        for _ in 0..5 {
            client.send(get("/", &basic("ada", "U*U"))).await;
            assert_eq!(client.response().await, (200, "ok".to_owned()));
        }
        bed.change(|snapshot| snapshot.version += 1);
        client.send(get("/", &basic("ada", "U*U"))).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        bed.change(|snapshot| drop(snapshot.auths.insert("other".into(), keys())));
        client.send(get("/", &basic("ada", "U*U"))).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        assert_eq!(bed.thread.password_checks(), checked, "nobody checks twice");
        bed.change(|snapshot| {
            snapshot.auths.get_mut("gateway").unwrap().basic.as_mut().unwrap().users.clear()
        });
        client.send(get("/", &basic("ada", "U*U"))).await;
        assert_eq!(client.failure().await, (401, "credentials_wrong".to_owned()));
    });
}

/// Whoever goes takes no turn, whether his request had a body or not.
#[test]
fn who_goes_does_not_wait_for_a_check() {
    local(async {
        let (bed, worker) = bed(passwords(), vec![route_with("/", &[])]);
        worker.answer(OK);
        let mut guessing = Vec::new();
        for number in 0..60 {
            let (mut client, ended) = bed.client_at(gateway());
            let credentials = basic("ada", &format!("guess {number}"));
            client.send(get("/", &format!("{credentials}Content-Length: {}\r\n", number % 2 * 9))).await;
            client.send(&"body, cut"[..number % 2 * 5]).await;
            guessing.push((client, ended));
        }
        let ended: Vec<_> = guessing.into_iter().map(|(_, ended)| ended).collect();
        for ended in ended {
            ended.await.unwrap();
        }
        let checked = bed.thread.password_checks();
        assert!(checked < 40, "{checked}");
        let mut client = bed.ask(get("/", &basic("ada", "U*U"))).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
    });
}

/// Checks are made one after the other, and others are served meanwhile.
#[test]
fn a_flood_of_guesses_keeps_nobody_else_waiting() {
    local(async {
        let (bed, worker) = bed(passwords(), vec![route_with("/", &[]), route("/open", "api", None)]);
        worker.answer(OK);
        let mut guessing = Vec::new();
        for number in 0..100 {
            guessing.push(bed.ask(get("/", &basic("ada", &format!("guess {number}")))).await);
        }
        let mut other = bed.ask(get("/open", "")).await;
        assert_eq!(other.response().await, (200, "ok".to_owned()));
        let mut reasons = std::collections::BTreeMap::new();
        for mut client in guessing {
            *reasons.entry(client.failure().await).or_insert(0) += 1;
        }
        let count = |status, reason: &str| reasons.get(&(status, reason.to_owned())).copied().unwrap_or(0);
        let (wrong, busy) = (count(401, "credentials_wrong"), count(503, "auth_busy"));
        assert!(wrong >= 64 && busy > 0 && wrong + busy == 100, "{reasons:?}");
    });
}

#[test]
fn keys_of_files_and_secrets_are_taken_as_well() {
    at_once(async {
        let (pair, mut auth) = signer();
        let hash = Hash::of(b"secret-7").reveal();
        auth.key_file = Some(Secret(format!("ci:{hash}:deploy\n")));
        let jwt = auth.jwt.as_mut().unwrap();
        jwt.key_file = Some(std::mem::replace(&mut jwt.jwks, r#"{"keys":[]}"#.into()));
        let secret = "0123456789abcdef0123456789abcdef";
        jwt.secret = Some(Secret(format!("{secret}\n")));
        jwt.algorithms.push("HS256".into());
        let (bed, worker) = bed(auth, vec![route_with("/", &[])]);
        worker.answer(OK);
        let message = {
            let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}", encode(&json!({ "alg": "HS256" })), encode(&claims()))
        };
        let sign = |secret: &str| {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
            let sign = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()));
            format!("Authorization: Bearer {message}.{sign}\r\n")
        };
        for (fields, expected) in [
            ("X-Api-Key: secret-7\r\n".to_owned(), 200),
            ("X-Api-Key: secret-8\r\n".to_owned(), 401),
            (token(&pair, &claims()), 200),
            (sign(secret), 200),
            (sign(&format!("{secret}\n")), 401),
        ] {
            assert_eq!(status(&bed.ask(get("/", &fields)).await.head().await), expected, "{fields}");
        }
    });
}

/// One that was taken is remembered, and no longer than it holds.
#[test]
fn a_token_is_taken_until_it_expires_and_its_keys_go() {
    at_once(async {
        let (pair, auth) = signer();
        let (bed, worker) = bed(auth, vec![route_with("/", &[])]);
        worker.answer(OK);
        let token = token(&pair, &claims());
        let mut client = bed.client();
        for _ in 0..3 {
            client.send(get("/", &token)).await;
            assert_eq!(client.response().await, (200, "ok".to_owned()));
        }
        let (_, other) = signer();
        bed.change(|snapshot| drop(snapshot.auths.insert("gateway".into(), other)));
        client.send(get("/", &token)).await;
        assert_eq!(client.failure().await, (401, "credentials_wrong".to_owned()));
    });
}

fn allow(path: &str) -> AccessRule {
    AccessRule { allows: true, path: Some(path.into()), ..AccessRule::default() }
}

#[test]
fn rules_say_who_may_do_what() {
    at_once(async {
        let (pair, auth) = signer();
        let mut api = route_with("/api", &[]);
        let blue = [("tenant".to_owned(), vec!["blue".to_owned()])].into();
        let green = [("tenant".to_owned(), vec!["green".to_owned()])].into();
        api.guard.rules = vec![
            AccessRule { claims: green, ..allow("/api/green") },
            AccessRule { claims: blue, methods: vec!["GET".into()], ..allow("/api/blue") },
            AccessRule { users: vec!["ada@example.org".into()], ..allow("/api/ada") },
        ];
        let (bed, worker) = bed(auth, vec![api]);
        worker.answer(OK);
        let token = token(&pair, &claims());
        let ask = async |method: &str, path: &str| {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n{token}\r\n");
            status(&bed.ask(request).await.head().await)
        };
        for (method, path, expected) in [
            ("GET", "/api/blue", 200),
            ("HEAD", "/api/blue/x", 200),
            ("POST", "/api/blue", 403),
            ("GET", "/api/green", 403),
            ("GET", "/api/ada", 200),
            ("GET", "/api", 403),
            ("GET", "/api/blue/%2e%2e/green", 403),
            ("GET", "/api/BLUE", 403),
        ] {
            assert_eq!(ask(method, path).await, expected, "{method} {path}");
        }
        assert_eq!(bed.thread.counts()["api"].denied.rule, 5);
    });
}

#[test]
fn rules_of_a_service_are_about_who_calls_and_what_it_gets() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        bed.change(|snapshot| snapshot.routes = vec![route("/shop", "api", Some(""))]);
        bed.change_api(|service| {
            service.guard.rules = vec![
                AccessRule { clients: true, ..allow("/public") },
                AccessRule { callers: vec!["web".into()], ..allow("/orders") },
                AccessRule { certificate: Some(CertificateNames::default()), ..allow("/proven") },
            ];
        });
        let call = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: api.plt.local\r\n\r\n");
        for (caller, path, expected) in
            [("web", "/orders/7", 200), ("web", "/public", 403), ("jobs", "/orders/7", 403)]
        {
            let mut wire = bed.caller(caller);
            wire.send(call(path)).await;
            assert_eq!(status(&wire.head().await), expected, "{caller} {path}");
        }
        // What a service passes on of a client's certificate anybody could have made up.
        let mut web = bed.caller("web");
        web.send("GET /proven HTTP/1.1\r\nHost: api.plt.local\r\nClient-Cert: :MAA=:\r\n\r\n").await;
        assert_eq!(status(&web.head().await), 403);
        // An operator may.
        let mut operator = bed.client_at(watt_mesh_proxy::http::Side::Mesh { caller: None }).0;
        operator.send(call("/orders")).await;
        assert_eq!(status(&operator.head().await), 200);
        for (path, expected) in
            [("/shop/public", 200), ("/shop/orders", 403), ("/shop/public/..%2forders", 403)]
        {
            let head = bed.ask(get(path, "")).await.head().await;
            assert_eq!(status(&head), expected, "{path}");
        }
    });
}

/// A signer whose keys are published by the service `id`.
fn published() -> (Ed25519KeyPair, Auth, String) {
    let (pair, mut auth) = signer();
    let jwt = auth.jwt.as_mut().unwrap();
    let set = std::mem::replace(&mut jwt.jwks, r#"{"keys":[]}"#.into());
    jwt.remote = Some(RemoteKeys {
        service: "id".into(),
        host: "id.plt.local".into(),
        path: "/jwks?x=1".into(),
        every_ms: 3_600_000,
    });
    let set = set.replace("\"kty\"", "\"kid\":\"one\",\"kty\"");
    (pair, auth, set)
}

fn token_with(kid: &str, pair: &Ed25519KeyPair, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&json!({ "alg": "EdDSA", "kid": kid })), encode(claims));
    let sign = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
    format!("Authorization: Bearer {message}.{sign}\r\n")
}

fn with_id(auth: Auth) -> (Bed, MockWorker, MockWorker) {
    let (bed, api) = bed(auth, vec![route_with("/", &[])]);
    bed.change(|snapshot| drop(snapshot.services.insert("id".into(), service())));
    let id = bed.worker("id", 7);
    (bed, api, id)
}

async fn publish(id: &MockWorker, set: &str) {
    let mut wire = id.accept().await;
    let head = wire.head().await;
    assert!(head.starts_with("GET /jwks?x=1 HTTP/1.1\r\nHost: id.plt.local\r\n"), "{head}");
    wire.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{set}", set.len()))
        .await;
}

#[test]
fn keys_are_fetched_with_the_first_token_and_when_others_come() {
    at_once(async {
        let (pair, auth, set) = published();
        let (bed, api, id) = with_id(auth);
        api.answer(OK);
        let mut client = bed.ask(get("/", &token_with("one", &pair, &claims()))).await;
        // Others wait for the same fetch.
        let mut other = bed.ask(get("/", &token_with("one", &pair, &claims()))).await;
        publish(&id, &set).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        assert_eq!(other.response().await, (200, "ok".to_owned()));
        assert_eq!(bed.thread.counts()["id"].requests, 1);
        // Somebody signs with a new key.
        let (second, _, set2) = published();
        let set2 = set2.replace("one", "two");
        let both = format!("{}{}", set.trim_end_matches("]}"), set2.replace(r#"{"keys":["#, ","));
        let token = token_with("two", &second, &claims());
        client.send(get("/", &token)).await;
        assert_eq!(
            client.failure().await,
            (401, "credentials_wrong".to_owned()),
            "not so soon after the last one"
        );
        tokio::time::advance(Duration::from_secs(6)).await;
        client.send(get("/", &token)).await;
        publish(&id, &both).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        // And the old one goes: what was taken with it is forgotten.
        tokio::time::advance(Duration::from_secs(3_601)).await;
        let mut client = bed.ask(get("/", &token_with("one", &pair, &claims()))).await;
        assert_eq!(
            client.response().await,
            (200, "ok".to_owned()),
            "the old ones hold while others are fetched"
        );
        publish(&id, &set2).await;
        until("they are used", || bed.thread.counts()["id"].in_flight == 0).await;
        client.send(get("/", &token_with("one", &pair, &claims()))).await;
        assert_eq!(client.failure().await, (401, "credentials_wrong".to_owned()));
    });
}

#[test]
fn tokens_with_keys_that_nobody_has_do_not_have_them_fetched_each_time() {
    at_once(async {
        let (pair, auth, set) = published();
        let (bed, _api, id) = with_id(auth);
        let set: &'static str = Box::leak(set.into_boxed_str());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len());
        id.answer(Box::leak(answer.into_boxed_str()));
        let mut client = bed.client();
        for number in 0..600 {
            client.send(get("/", &token_with(&format!("k{number}"), &pair, &claims()))).await;
            assert_eq!(client.failure().await, (401, "credentials_wrong".to_owned()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let fetched = bed.thread.counts()["id"].requests;
        assert!((2..=9).contains(&fetched), "in ten minutes: {fetched}");
    });
}

#[test]
fn without_keys_nobody_gets_in() {
    at_once(async {
        let (pair, auth, _) = published();
        let (bed, _api, id) = with_id(auth);
        let ask = async || bed.ask(get("/", &token_with("one", &pair, &claims()))).await;
        let unavailable = (503, "keys_unavailable".to_owned());
        for answer in [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
            format!("HTTP/1.1 200 OK\r\nContent-Length: {0}\r\n\r\n{1}", 300 << 10, " ".repeat(300 << 10)),
        ] {
            let mut client = ask().await;
            let mut wire = id.asked().await;
            // It may be refused before it is all there.
            let answering = spawn_local(async move {
                let _ = wire.stream.write_all(answer.as_bytes()).await;
                wire
            });
            assert_eq!(client.failure().await, unavailable);
            assert_eq!(ask().await.failure().await, unavailable, "and nobody is asked again at once");
            tokio::time::advance(Duration::from_secs(301)).await;
            drop(answering.await.unwrap());
        }
    });
}

/// Whoever has them fetched and goes does not have them fetched again.
#[test]
fn a_fetch_goes_on_without_the_client_that_it_was_begun_for() {
    local(async {
        let (pair, auth, set) = published();
        let (bed, api, id) = with_id(auth);
        api.answer(OK);
        let (mut client, served) = bed.client_at(gateway());
        client.send(get("/", &token_with("one", &pair, &claims()))).await;
        let mut wire = id.accept().await;
        wire.head().await;
        drop(client);
        served.await.unwrap();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len())).await;
        until("they are there", || bed.thread.counts()["id"].in_flight == 0).await;
        let mut other = bed.ask(get("/", &token_with("one", &pair, &claims()))).await;
        assert_eq!(other.response().await, (200, "ok".to_owned()));
        assert_eq!(bed.thread.counts()["id"].requests, 1);
    });
}

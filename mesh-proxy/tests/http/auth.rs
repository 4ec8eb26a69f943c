//! Who asks: keys, tokens, roles, and what services are told.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use watt_api::mesh::{ApiKey, Auth, CountedBy, Denied, Guard, Jwt, RateLimit, Route};
use watt_policies::keys::Hash;

use crate::bed::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn key(name: &str, key: &str, roles: &[&str]) -> ApiKey {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    ApiKey { name: name.into(), hash: Hash::of(key.as_bytes()).reveal(), roles }
}

fn keys() -> Auth {
    let keys = vec![key("billing", "secret-1", &["read"]), key("root", "secret-2", &["read", "admin"])];
    Auth { key_header: "x-api-key".into(), keys, jwt: None }
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
            "roles": ["admin", "a,b", "x\r\ny"], "tenant": "blue", "deep": {"a": 1} })
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

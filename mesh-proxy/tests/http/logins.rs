//! Logins of browsers, with a provider that does as it is told.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::task::spawn_local;
use watt_api::mesh::{AccessRule, Auth, Guard, Oidc, OidcServer, RemoteKeys, Route, Secret};

use crate::bed::*;

const ISSUER: &str = "https://id.example";
const PAGE: &str = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn oidc() -> Oidc {
    let server = OidcServer { service: "id".into(), host: "id.plt.local".into() };
    Oidc {
        issuer: ISSUER.into(),
        client_id: "shop".into(),
        client_secret: Some(Secret("s3cret\n".into())),
        cookie_keys: Secret("a key of thirty-two characters, or more\n".into()),
        discovery: RemoteKeys {
            service: "id".into(),
            host: "id.plt.local".into(),
            path: "/.well-known/openid-configuration".into(),
            every_ms: 3_600_000,
        },
        servers: [(ISSUER.to_owned(), server)].into(),
        scopes: ["openid", "offline_access"].map(str::to_owned).into(),
        url: None,
        callback: "/auth/callback".into(),
        logout: Some("/auth/logout".into()),
        after_logout: Some("https://shop.example/bye".into()),
        cookie: "s".into(),
        session_s: 28_800,
        renew_s: 900,
        algorithms: vec!["EdDSA".into()],
        skew_s: 30,
        name_claim: "email".into(),
        roles_claim: "roles".into(),
        claims: vec!["tenant".into()],
    }
}

/// The gateway, a service behind it, and a provider.
struct Beds {
    bed: Bed,
    api: Cell<Option<MockWorker>>,
    provider: Rc<Provider>,
}

struct Provider {
    pair: Ed25519KeyPair,
    /// What tokens say besides.
    claims: RefCell<Value>,
    /// The forms of requests for tokens, and what they are answered with in place of tokens.
    asked: RefCell<Vec<BTreeMap<String, String>>>,
    refuses: RefCell<Option<&'static str>>,
    nonce: RefCell<String>,
}

impl Provider {
    fn token(&self) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({
            "iss": ISSUER, "aud": "shop", "sub": "7", "exp": now + 60, "email": "ada@example.org", "roles": ["staff"],
            "tenant": "a", "nonce": *self.nonce.borrow(),
        });
        for (name, value) in self.claims.borrow().as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&json!({ "alg": "EdDSA", "kid": "one" })), encode(&claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes())))
    }

    fn answer(&self, head: &str, body: &str) -> (u16, Value) {
        if head.starts_with("GET /.well-known/openid-configuration ") {
            let at = |path: &str| format!("{ISSUER}{path}");
            return (
                200,
                json!({
                    "issuer": ISSUER, "authorization_endpoint": at("/auth"), "token_endpoint": at("/token"), "jwks_uri": at("/jwks"),
                    "end_session_endpoint": at("/end"),
                }),
            );
        }
        if head.starts_with("GET /jwks ") {
            let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
            return (200, json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x }] }));
        }
        assert!(head.starts_with("POST /token "), "{head}");
        let credentials = format!("Basic {}", STANDARD.encode("shop:s3cret"));
        assert_eq!(field(head, "authorization"), Some(&*credentials));
        self.asked.borrow_mut().push(pairs(body));
        if let Some(error) = *self.refuses.borrow() {
            let status = if error == "server_error" { 500 } else { 400 };
            return (status, json!({ "error": error }));
        }
        let number = self.asked.borrow().len();
        (
            200,
            json!({ "id_token": self.token(), "refresh_token": format!("refresh-{number}"), "token_type": "Bearer" }),
        )
    }
}

fn pairs(query: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => u8::from_str_radix(
                    &String::from_utf8(vec![rest.next().unwrap(), rest.next().unwrap()]).unwrap(),
                    16,
                )
                .unwrap(),
                other => other,
            });
        }
        String::from_utf8(bytes).unwrap()
    };
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (decode(name), decode(value)));
    query.split('&').filter_map(pair).collect()
}

fn beds(change: impl FnOnce(&mut Oidc)) -> Beds {
    let (bed, api) = Bed::with_worker();
    let mut oidc = oidc();
    change(&mut oidc);
    bed.change(|snapshot| {
        snapshot.services.insert("id".into(), service());
        snapshot.auths = [(
            "gateway".to_owned(),
            Auth { key_header: "x-api-key".into(), oidc: Some(oidc), ..Auth::default() },
        )]
        .into();
        let guard = Guard { auth: Some("gateway".into()), ..Guard::default() };
        let staff = AccessRule {
            allows: true,
            path: Some("/staff".into()),
            roles: vec!["staff".into()],
            ..AccessRule::default()
        };
        let rest = AccessRule { allows: false, path: Some("/staff".into()), ..AccessRule::default() };
        let all = AccessRule { allows: true, ..AccessRule::default() };
        snapshot.routes = vec![
            Route { guard: Guard { rules: vec![staff, rest, all], ..guard }, ..route("/", "api", None) },
            route("/open", "api", None),
        ];
    });
    let id = bed.worker("id", 7);
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let provider = Rc::new(Provider {
        pair: Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap(),
        claims: RefCell::new(json!({})),
        asked: RefCell::default(),
        refuses: RefCell::default(),
        nonce: RefCell::default(),
    });
    let answering = provider.clone();
    spawn_local(async move {
        loop {
            let mut wire = id.accept().await;
            let provider = answering.clone();
            spawn_local(async move {
                while let Some(head) = wire.try_head().await {
                    let body = wire.rest_of(&head).await;
                    let (status, answer) = provider.answer(&head, &body);
                    let answer = answer.to_string();
                    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", answer.len());
                    wire.send(head + &answer).await;
                }
            });
        }
    });
    Beds { bed, api: Cell::new(Some(api)), provider }
}

/// What a browser keeps.
#[derive(Default, Clone)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    fn get(&self, path: &str, fields: &str) -> String {
        let cookies: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies =
            if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
        format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n{fields}{cookies}\r\n")
    }

    fn keep(&mut self, head: &str) {
        for line in head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: ")) {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            match line.contains("Max-Age=0;") {
                true => drop(self.0.remove(name)),
                false => drop(self.0.insert(name.into(), value.into())),
            }
        }
    }
}

impl Beds {
    /// The service answers from now on.
    fn answers(&self) {
        self.api.take().unwrap().answer(OK);
    }

    /// What a browser gets, without its body.
    async fn visit(&self, browser: &mut Browser, path: &str, fields: &str) -> String {
        let mut client = self.bed.ask(browser.get(path, fields)).await;
        let head = client.head().await;
        client.rest_of(&head).await;
        browser.keep(&head);
        head
    }

    /// Begins a login, and returns what the provider is asked for.
    async fn begin(&self, browser: &mut Browser, path: &str) -> BTreeMap<String, String> {
        let head = self.visit(browser, path, PAGE).await;
        assert_eq!((status(&head), field(&head, "cache-control")), (302, Some("no-store")), "{head}");
        let (place, query) = field(&head, "location").unwrap().split_once('?').unwrap();
        assert_eq!(place, format!("{ISSUER}/auth"));
        let query = pairs(query);
        self.provider.nonce.replace(query["nonce"].clone());
        query
    }

    async fn end(&self, browser: &mut Browser, asked: &BTreeMap<String, String>) -> String {
        self.visit(browser, &format!("/auth/callback?code=c0de&state={}", asked["state"]), PAGE).await
    }

    async fn logged_in(&self) -> Browser {
        let mut browser = Browser::default();
        let asked = self.begin(&mut browser, "/").await;
        assert_eq!(status(&self.end(&mut browser, &asked).await), 303);
        browser
    }
}

#[test]
fn a_browser_logs_in_and_services_learn_who_it_is() {
    local(async {
        let beds = beds(|_| {});
        let mut browser = Browser::default();
        let asked = beds.begin(&mut browser, "/a?b=c%20d").await;
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "shop"),
            ("redirect_uri", "http://shop.example/auth/callback"),
            ("scope", "openid offline_access"),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(asked[name], value, "{name}");
        }
        let head = beds.end(&mut browser, &asked).await;
        assert_eq!((status(&head), field(&head, "location")), (303, Some("/a?b=c%20d")), "{head}");
        assert!(head.contains("; HttpOnly; SameSite=Lax\r\n"), "{head}");
        let form = beds.provider.asked.borrow()[0].clone();
        assert_eq!((&*form["grant_type"], &*form["code"]), ("authorization_code", "c0de"));
        assert_eq!(form["redirect_uri"], asked["redirect_uri"]);
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, form["code_verifier"].as_bytes()));
        assert_eq!(challenge, asked["code_challenge"]);
        browser.0.insert("mine".into(), "1".into());
        let mut client = beds.bed.ask(browser.get("/staff", "X-Forwarded-User: root\r\n")).await;
        let api = beds.api.take().unwrap();
        let mut wire = api.accept().await;
        let got = wire.head().await;
        for line in [
            "X-Forwarded-User: ada@example.org",
            "X-Forwarded-Roles: staff",
            "X-Forwarded-Claim-tenant: a",
            "Cookie: mine=1",
        ] {
            assert_eq!(got.matches(&format!("{line}\r\n")).count(), 1, "{line}: {got}");
        }
        assert!(!got.contains("root") && got.matches("Cookie").count() == 1, "{got}");
        wire.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        // It holds without the provider, and without what was kept of the login.
        browser.0.remove("s-login");
        assert_eq!(beds.bed.thread.counts()["id"].requests, 3);
    });
}

#[test]
fn only_who_goes_somewhere_is_sent_on() {
    local(async {
        let beds = beds(|_| {});
        for (method, fields) in [
            ("GET", ""),
            ("GET", "Accept: application/json\r\n"),
            ("GET", "Accept: text/html\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"),
            ("GET", "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n"),
            ("POST", "Accept: text/html\r\n"),
            ("HEAD", "Accept: text/html\r\n"),
        ] {
            let mut client = beds.bed.client();
            client.send(format!("{method} / HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n")).await;
            let head = client.head().await;
            assert_eq!((status(&head), field(&head, "location")), (401, None), "{method} {fields}");
        }
        let mut browser = Browser::default();
        let head = beds.visit(&mut browser, "/", "Accept: text/html,*/*\r\n").await;
        assert_eq!(status(&head), 302, "an older one says no more than what it wants");
        let asked = beds.begin(&mut browser, "//evil.example/").await;
        let head = beds.end(&mut browser, &asked).await;
        assert_eq!(field(&head, "location"), Some("/"), "no other host is where it comes back to");
    });
}

#[test]
fn a_login_ends_in_the_browser_that_began_it_and_nowhere_else() {
    local(async {
        let beds = beds(|_| {});
        let failed = async |browser: &mut Browser, path: &str| {
            let mut client = beds.bed.ask(browser.get(path, "")).await;
            let failure = client.failure().await;
            assert_eq!(failure, (403, "login_failed".to_owned()), "{path}");
        };
        let mut mine = Browser::default();
        let asked = beds.begin(&mut mine, "/").await;
        let state = &asked["state"];
        let back = format!("/auth/callback?code=c0de&state={state}");
        // Somebody else's browser, with a login of its own and without one.
        let mut other = Browser::default();
        failed(&mut other, &back).await;
        beds.begin(&mut other, "/").await;
        failed(&mut other, &back).await;
        for path in [
            "/auth/callback",
            "/auth/callback?code=c0de",
            "/auth/callback?code=c0de&state=AAAA",
            &format!("/auth/callback?code=c0de&state=A{}", &state[1..]),
            &format!("/auth/callback?state={state}&error=access_denied"),
            &format!("{back}&iss=https://evil.example"),
        ] {
            failed(&mut mine, path).await;
        }
        assert_eq!(beds.provider.asked.borrow().len(), 0, "nobody was asked for a token");
        // Tokens of another login, client or issuer, and those that nobody has signed.
        for claims in [
            json!({ "nonce": "x" }),
            json!({ "aud": "other" }),
            json!({ "aud": ["shop", "other"], "azp": "other" }),
            json!({ "iss": "https://evil.example" }),
            json!({ "exp": 1 }),
            json!({ "email": null }),
        ] {
            beds.provider.claims.replace(claims.clone());
            failed(&mut mine, &back).await;
            assert!(!mine.0.contains_key("s"), "{claims}");
        }
        beds.provider.claims.replace(json!({}));
        // Two windows of one browser.
        beds.provider.nonce.replace(asked["nonce"].clone());
        let second = beds.begin(&mut mine, "/second").await;
        beds.provider.nonce.replace(asked["nonce"].clone());
        assert_eq!(field(&beds.end(&mut mine, &asked).await, "location"), Some("/"));
        beds.provider.nonce.replace(second["nonce"].clone());
        assert_eq!(field(&beds.end(&mut mine, &second).await, "location"), Some("/second"));
    });
}

#[test]
fn a_session_that_was_changed_is_none() {
    local(async {
        let beds = beds(|_| {});
        let browser = beds.logged_in().await;
        let sealed = browser.0["s"].clone();
        for at in (0..sealed.len()).step_by(sealed.len() / 20) {
            let mut forged = sealed.clone().into_bytes();
            forged[at] = if forged[at] == b'x' { b'y' } else { b'x' };
            let mut browser = browser.clone();
            browser.0.insert("s".into(), String::from_utf8(forged).unwrap());
            let mut client = beds.bed.ask(browser.get("/", "")).await;
            assert_eq!(client.failure().await, (401, "credentials_missing".to_owned()), "{at}");
        }
        // What belongs to the login is no session.
        let mut browser = browser.clone();
        let login = browser.0["s-login"].clone();
        browser.0.insert("s".into(), login);
        let mut client = beds.bed.ask(browser.get("/", "")).await;
        assert_eq!(client.failure().await, (401, "credentials_missing".to_owned()));
    });
}

#[test]
fn keys_are_replaced_while_sessions_go_on() {
    local(async {
        let beds = beds(|_| {});
        beds.answers();
        let browser = beds.logged_in().await;
        let with_keys = |keys: &str| {
            beds.bed.change(|snapshot| {
                let oidc = snapshot.auths.get_mut("gateway").unwrap().oidc.as_mut().unwrap();
                oidc.cookie_keys = Secret(keys.into());
            });
        };
        with_keys("another key of thirty-two characters\na key of thirty-two characters, or more\n");
        let mut client = beds.bed.ask(browser.get("/", "")).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        let new = beds.logged_in().await;
        with_keys("another key of thirty-two characters\n");
        let mut client = beds.bed.ask(new.get("/", "")).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        let mut client = beds.bed.ask(browser.get("/", "")).await;
        assert_eq!(client.failure().await, (401, "credentials_missing".to_owned()));
    });
}

/// The clock of cookies is the wall's, and has whole seconds.
async fn a_second_passes() {
    let now_s = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let before = now_s();
    until("a second has passed", || now_s() > before).await;
}

/// A session that is to be renewed at once.
fn renewing(beds: &Beds, renew_s: u64) {
    beds.bed.change(|snapshot| {
        snapshot.auths.get_mut("gateway").unwrap().oidc.as_mut().unwrap().renew_s = renew_s;
    });
}

#[test]
fn sessions_are_renewed_once_however_many_requests_come() {
    local(async {
        let beds = beds(|oidc| oidc.renew_s = 1);
        beds.answers();
        let browser = beds.logged_in().await;
        a_second_passes().await;
        renewing(&beds, 900);
        beds.provider.claims.replace(json!({ "roles": ["admin"] }));
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(beds.bed.ask(browser.get("/", "")).await);
        }
        let mut kept = Vec::new();
        for client in &mut clients {
            let head = client.head().await;
            assert_eq!(status(&head), 200, "{head}");
            let mut browser = browser.clone();
            browser.keep(&head);
            assert_ne!(browser.0["s"], kept.last().cloned().unwrap_or_default());
            kept.push(browser.0["s"].clone());
        }
        let asked = beds.provider.asked.borrow().clone();
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert_eq!((&*asked[1]["grant_type"], &*asked[1]["refresh_token"]), ("refresh_token", "refresh-1"));
        // What it says is new: the role is gone.
        let mut browser = browser.clone();
        browser.0.insert("s".into(), kept[0].clone());
        let mut client = beds.bed.ask(browser.get("/staff", "")).await;
        assert_eq!(client.failure().await, (403, "rule_denied".to_owned()));
        assert_eq!(beds.provider.asked.borrow().len(), 2, "it is renewed");
    });
}

#[test]
fn a_session_that_the_provider_ends_is_over_and_one_that_it_cannot_end_goes_on() {
    local(async {
        for (error, expected) in [("server_error", 200), ("invalid_grant", 401)] {
            let beds = beds(|oidc| oidc.renew_s = 1);
            beds.answers();
            let mut browser = beds.logged_in().await;
            a_second_passes().await;
            beds.provider.refuses.replace(Some(error));
            let head = beds.visit(&mut browser, "/", "").await;
            assert_eq!(status(&head), expected, "{error}: {head}");
            assert_eq!(browser.0.contains_key("s"), expected == 200, "{head}");
            if expected == 401 {
                assert_eq!(
                    status(&beds.visit(&mut browser, "/", PAGE).await),
                    302,
                    "and who goes there logs in again"
                );
            }
        }
    });
}

#[test]
fn who_logs_out_is_logged_out_at_the_provider_as_well() {
    local(async {
        let beds = beds(|_| {});
        let mut browser = beds.logged_in().await;
        let head = beds.visit(&mut browser, "/auth/logout", PAGE).await;
        let place = field(&head, "location").unwrap();
        assert_eq!(status(&head), 303);
        let expected =
            "https://id.example/end?client_id=shop&post_logout_redirect_uri=https%3A%2F%2Fshop.example%2Fbye";
        assert_eq!(place, expected);
        assert!(!browser.0.contains_key("s"), "{head}");
        let mut client = beds.bed.ask(browser.get("/", "")).await;
        assert_eq!(client.failure().await, (401, "credentials_missing".to_owned()));
    });
}

#[test]
fn without_the_provider_nobody_logs_in_and_who_is_logged_in_stays() {
    local(async {
        let beds = beds(|_| {});
        beds.answers();
        let browser = beds.logged_in().await;
        // A proxy that has not asked it yet.
        beds.bed.change(|snapshot| {
            let oidc = snapshot.auths.get_mut("gateway").unwrap().oidc.as_mut().unwrap();
            oidc.discovery.service = "gone".into();
        });
        let head = beds.visit(&mut Browser::default(), "/", PAGE).await;
        assert_eq!((status(&head), field(&head, "location")), (503, None), "{head}");
        let mut client = beds.bed.ask(browser.get("/", "")).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        let mut client = beds.bed.ask(Browser::default().get("/open", "")).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
    });
}

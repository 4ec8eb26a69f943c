//! Logins of browsers by OpenID Connect: the code flow, with PKCE (RFC 7636), `state` and `nonce`.
//!
//! The proxy keeps nothing of a login: what it has to know when the browser comes back is sealed in `state`, and that it is the same browser is told
//! by a cookie. So is the session. Whoever is known by one has a name, roles and claims as by a token.

mod provider;
mod renewals;
mod session;

use std::{
    fmt,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use watt_api::mesh;
use watt_policies::{
    jwt::{self, Algorithm, Claims, Rejected, Rules},
    sealed::{Sealer, random},
};

pub(crate) use self::renewals::Renewals;
use self::{
    provider::{Metadata, NoTokens, Provider, query, value_of},
    renewals::{Renewed, Turn},
    session::{Browser, Jar, Session, State, open, others, seal},
};
use super::{Identity, Naming, recent::Print};
use crate::{
    respond::{OwnAnswer, Reason},
    thread::Thread,
};

/// How long a login may take.
const LOGIN_MAX: Duration = Duration::from_secs(900);

/// The longest path and query that a browser comes back to.
const TARGET_MAX: usize = 1_024;

/// How long a session that ends anyway is not renewed any more.
const NEVER_S: u64 = u64::MAX;

/// Logins of one `auth`.
pub(crate) struct Login {
    name: Box<str>,
    source: mesh::Oidc,
    sealer: Option<Sealer>,
    provider: Provider,
    rules: Rules,
    naming: Naming,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a request says that may be part of a login.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit<'r> {
    /// The values of its `Cookie` lines.
    pub(crate) cookies: &'r [&'r [u8]],
    /// What is before its path, as browsers have it: `https://shop.example.org`. `None` where it has no host.
    pub(crate) origin: Option<&'r str>,
    pub(crate) target: &'r str,
    /// A browser goes there, and shows what it gets.
    pub(crate) is_navigation: bool,
}

/// Something that takes asking the provider.
pub(crate) struct Step {
    login: Rc<Login>,
    what: What,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("login", &self.login).finish_non_exhaustive()
    }
}

enum What {
    Begin { origin: String, target: String, browser: Option<Browser> },
    End { origin: String, query: String, browser: Option<Browser> },
    Logout { origin: String },
    Renew { origin: String, session: Box<Session> },
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) enum Came {
    /// This is the answer.
    Answered(OwnAnswer),
    /// There is none, and why.
    Failed(Reason, String),
    /// This is who asks, and lines that keep it.
    Known(Rc<Identity>, String),
    /// Nobody is logged in any more, with lines that forget it.
    Over(String),
    /// The session is as it was.
    AsBefore,
}

/// Who a session says that asks.
pub(super) enum Said {
    Known(Rc<Identity>),
    Nobody,
    Unsure(Box<Step>),
}

impl Login {
    pub(super) fn new(name: &str, source: &mesh::Oidc) -> Login {
        let sealer = Sealer::parse(&source.cookie_keys.0);
        if let Err(error) = &sealer {
            // The configuration's check refuses them. Nobody logs in without.
            tracing::error!(%error, "the keys of cookies are not understood");
        }
        let mesh::Oidc { algorithms, issuer, client_id, skew_s, name_claim, roles_claim, claims, .. } =
            source;
        Login {
            name: name.into(),
            sealer: sealer.ok(),
            provider: Provider::new(),
            rules: Rules {
                algorithms: algorithms.iter().filter_map(|name| Algorithm::named(name)).collect(),
                issuer: Some(issuer.clone()),
                audiences: vec![client_id.clone()],
                skew_s: *skew_s,
            },
            naming: Naming::new(name_claim, roles_claim, claims),
            source: source.clone(),
        }
    }

    /// What is at a path, if it is one of a login's own.
    pub(crate) fn at(self: &Rc<Self>, path: &str, visit: Visit<'_>) -> Option<Step> {
        let origin = || self.origin(visit).unwrap_or_default();
        let what = if path == self.source.callback {
            let query = visit.target.split_once('?').map_or("", |(_, query)| query).to_owned();
            What::End { browser: self.browser(visit), origin: origin(), query }
        } else if self.source.logout.as_deref() == Some(path) {
            What::Logout { origin: origin() }
        } else {
            return None;
        };
        Some(Step { login: Rc::clone(self), what })
    }

    /// The way to the provider, for a browser of nobody who is known.
    pub(super) fn begin(self: &Rc<Self>, visit: Visit<'_>) -> Option<Step> {
        let origin = self.origin(visit).filter(|_| visit.is_navigation)?;
        // Browsers take what begins with two slashes, of either kind, for another host.
        let is_own = visit.target.starts_with('/') && !visit.target[1..].starts_with(['/', '\\']);
        let is_plain = visit.target.len() <= TARGET_MAX && is_own;
        let target = if is_plain { visit.target } else { "/" }.to_owned();
        let what = What::Begin { origin, target, browser: self.browser(visit) };
        Some(Step { login: Rc::clone(self), what })
    }

    /// Who a session says that asks.
    pub(super) fn identify(self: &Rc<Self>, visit: Visit<'_>, now: SystemTime) -> Said {
        let now_s = seconds(now);
        let Some(origin) = self.origin(visit) else { return Said::Nobody };
        let session = self.sessions(&origin).and_then(|jar| jar.find::<Session>(visit.cookies));
        let Some(session) = session.filter(|session| now_s < session.until_s) else { return Said::Nobody };
        if now_s >= session.renewed_s && session.refresh_token.is_some() {
            return Said::Unsure(Box::new(Step {
                login: Rc::clone(self),
                what: What::Renew { origin, session: Box::new(session) },
            }));
        }
        match self.naming.identity(session.claims) {
            Some(identity) => Said::Known(Rc::new(identity)),
            None => Said::Nobody,
        }
    }

    /// The same although it could not be asked whether it still holds.
    pub(super) fn identify_as_before(&self, visit: Visit<'_>, now: SystemTime) -> Option<Rc<Identity>> {
        let jar = self.sessions(&self.origin(visit)?)?;
        let session = jar.find::<Session>(visit.cookies)?;
        let holds = seconds(now) < session.until_s;
        holds.then(|| self.naming.identity(session.claims)).flatten().map(Rc::new)
    }

    /// The cookies of a request without those of logins, as a line's value.
    pub(crate) fn other_cookies(&self, cookies: &[&[u8]]) -> Option<Vec<u8>> {
        let names = |is_secure| [self.cookie_name("", is_secure), self.cookie_name("-login", is_secure)];
        others(cookies, &[names(true), names(false)].concat())
    }

    fn origin(&self, visit: Visit<'_>) -> Option<String> {
        self.source.url.clone().or_else(|| visit.origin.map(str::to_owned))
    }

    fn browser(&self, visit: Visit<'_>) -> Option<Browser> {
        self.browsers(&self.origin(visit)?)?.find(visit.cookies)
    }

    /// With `__Host-` in front no other host writes a cookie, nor anybody without TLS.
    fn cookie_name(&self, end: &str, is_secure: bool) -> String {
        let start = if is_secure { "__Host-" } else { "" };
        format!("{start}{}{end}", self.source.cookie)
    }

    fn jar(&self, kind: &str, end: &str, origin: &str) -> Option<Jar<'_>> {
        let is_secure = origin.starts_with("https://");
        Some(Jar {
            sealer: self.sealer.as_ref()?,
            purpose: self.purpose(kind),
            name: self.cookie_name(end, is_secure),
            is_secure,
        })
    }

    fn sessions(&self, origin: &str) -> Option<Jar<'_>> {
        self.jar("session", "", origin)
    }

    fn browsers(&self, origin: &str) -> Option<Jar<'_>> {
        self.jar("browser", "-login", origin)
    }

    /// A session of another provider, client or `auth` is none here, though the keys be the same.
    fn purpose(&self, kind: &str) -> String {
        let mesh::Oidc { issuer, client_id, .. } = &self.source;
        format!("{kind}\n{}\n{issuer}\n{client_id}", self.name)
    }

    fn redirect_uri(&self, origin: &str) -> String {
        format!("{origin}{}", self.source.callback)
    }
}

impl Step {
    pub(crate) async fn go(self, thread: &Rc<Thread>) -> Came {
        let Step { login, what } = self;
        let came = match what {
            What::Begin { origin, target, browser } => login.sent_on(origin, target, browser, thread).await,
            What::End { origin, query, browser } => login.come_back(&origin, &query, browser, thread).await,
            What::Logout { origin } => login.sent_off(&origin, thread).await,
            What::Renew { origin, session } => return login.renew(*session, &origin, thread).await,
        };
        came.unwrap_or_else(|(reason, message)| Came::Failed(reason, message))
    }
}

type Answer = Result<Came, (Reason, String)>;

fn failed(message: impl Into<String>) -> (Reason, String) {
    (Reason::LoginFailed, message.into())
}

fn unavailable(why: &str) -> (Reason, String) {
    (Reason::LoginUnavailable, format!("Whoever knows who you are cannot be asked: {why}."))
}

const NO_RANDOMNESS: &str = "there is no randomness";

impl Login {
    async fn sent_on(
        self: &Rc<Self>,
        origin: String,
        target: String,
        browser: Option<Browser>,
        thread: &Rc<Thread>,
    ) -> Answer {
        let metadata = self.metadata(thread).await?;
        let made = || {
            let until_s = seconds(SystemTime::now()) + LOGIN_MAX.as_secs();
            // One for all its windows, in each of which a login may have begun.
            let secret = browser.map(|browser| browser.secret).or_else(random::<32>)?;
            let (nonce, verifier) = (random::<16>()?, random::<32>()?);
            let challenge = hash(&verifier);
            let redirect_uri = self.redirect_uri(&origin);
            let kept =
                self.browsers(&origin)?.keep(&Browser { secret: secret.clone(), until_s }, LOGIN_MAX)?;
            let state =
                State { browser: hash(&secret), nonce: nonce.clone(), verifier, origin, target, until_s };
            let state = seal(self.sealer.as_ref()?, &self.purpose("state"), &state)?;
            let query = query(&[
                ("response_type", "code"),
                ("client_id", &self.source.client_id),
                ("redirect_uri", &redirect_uri),
                ("scope", &self.source.scopes.join(" ")),
                ("state", &state),
                ("nonce", &nonce),
                ("code_challenge", &challenge),
                ("code_challenge_method", "S256"),
            ]);
            Some(redirect(302, &with_query(&metadata.authorization, &query), &kept))
        };
        made().ok_or_else(|| unavailable(NO_RANDOMNESS))
    }

    async fn come_back(
        self: &Rc<Self>,
        origin: &str,
        query: &str,
        browser: Option<Browser>,
        thread: &Rc<Thread>,
    ) -> Answer {
        let now_s = seconds(SystemTime::now());
        let state = value_of(query, "state").unwrap_or_default();
        let state =
            self.sealer.as_ref().and_then(|sealer| open(sealer, &self.purpose("state"), state.as_bytes()));
        let state: State = state.ok_or_else(|| failed("This is the end of no login that has begun here."))?;
        let is_same = |browser: &Browser| hash(&browser.secret) == state.browser && now_s < browser.until_s;
        if now_s >= state.until_s || state.origin != origin || !browser.as_ref().is_some_and(is_same) {
            return Err(failed("This login was begun in another browser, or long ago. Begin again."));
        }
        if value_of(query, "iss").is_some_and(|issuer| issuer != self.source.issuer) {
            return Err(failed("Another provider answers than the one that was asked."));
        }
        let code = value_of(query, "code").filter(|code| !code.is_empty());
        let Some(code) = code else {
            let error = value_of(query, "error").unwrap_or_default();
            let error: String =
                error.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
            return Err(failed(format!("The provider says no: {error}.")));
        };
        let metadata = self.metadata(thread).await?;
        let redirect_uri = self.redirect_uri(origin);
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", &*redirect_uri),
            ("code_verifier", &*state.verifier),
        ];
        let tokens = metadata.tokens(&self.source, &form, thread).await.map_err(|none| match none {
            NoTokens::Refused(why) => failed(format!("The provider gives no token: {why}.")),
            NoTokens::Unavailable(why) => unavailable(&why),
        })?;
        let token = tokens.id_token.ok_or_else(|| unavailable("it gave no ID token"))?;
        let claims = self.verify(&token, &metadata, thread).await?;
        if claims.text("nonce").as_deref() != Some(&state.nonce) {
            return Err(failed("The ID token is of another login."));
        }
        let session = self.session(claims, tokens.refresh_token, now_s);
        let kept =
            self.kept(&session, origin).ok_or_else(|| failed("The session is too large for cookies."))?;
        if self.naming.identity(session.claims).is_none() {
            return Err(failed("The ID token does not say who it is."));
        }
        Ok(redirect(303, &state.target, &kept))
    }

    async fn sent_off(self: &Rc<Self>, origin: &str, thread: &Rc<Thread>) -> Answer {
        let forgotten = self.sessions(origin).map(|jar| jar.forget()).unwrap_or_default();
        // Whoever is not logged in any more here may still be there.
        let place = match self.metadata(thread).await {
            Ok(metadata) => metadata.end_session.as_ref().map(|url| {
                let mut pairs = vec![("client_id", &*self.source.client_id)];
                pairs
                    .extend(self.source.after_logout.as_deref().map(|url| ("post_logout_redirect_uri", url)));
                with_query(url, &query(&pairs))
            }),
            Err(_) => None,
        };
        let place = place.or_else(|| self.source.after_logout.clone()).unwrap_or_else(|| "/".to_owned());
        Ok(redirect(303, &place, &forgotten))
    }

    async fn renew(self: &Rc<Self>, session: Session, origin: &str, thread: &Rc<Thread>) -> Came {
        let renewed = match thread.renewals().turn(self.print(&session)) {
            Turn::None => Renewed::Unknown,
            Turn::Follows(told) => renewals::wait(told).await,
            Turn::Leads(tell) => {
                let (told, login, thread) = (tell.subscribe(), Rc::clone(self), Rc::clone(thread));
                // It goes on when the client goes that it was begun for: the old token is used up.
                tokio::task::spawn_local(async move {
                    tell.send_replace(Some(login.renewed(session, &thread).await));
                });
                renewals::wait(told).await
            }
        };
        let over = || Came::Over(self.sessions(origin).map(|jar| jar.forget()).unwrap_or_default());
        match renewed {
            Renewed::Over => over(),
            Renewed::Unknown => Came::AsBefore,
            Renewed::Session(session) => match self.naming.identity(session.claims.clone()) {
                Some(identity) => {
                    Came::Known(Rc::new(identity), self.kept(&session, origin).unwrap_or_default())
                }
                None => over(),
            },
        }
    }

    async fn renewed(self: &Rc<Self>, session: Session, thread: &Rc<Thread>) -> Renewed {
        let Some(token) = &session.refresh_token else { return Renewed::Over };
        let Ok(metadata) = self.metadata(thread).await else { return Renewed::Unknown };
        let form = [("grant_type", "refresh_token"), ("refresh_token", &**token)];
        let tokens = match metadata.tokens(&self.source, &form, thread).await {
            Ok(tokens) => tokens,
            Err(NoTokens::Refused(why)) => {
                tracing::debug!(why, "a session is over");
                return Renewed::Over;
            }
            Err(NoTokens::Unavailable(why)) => {
                tracing::warn!(why, "a session could not be renewed");
                return Renewed::Unknown;
            }
        };
        let claims = match &tokens.id_token {
            // It need not say anew who it is.
            None => session.claims.clone(),
            Some(token) => match self.verify(token, &metadata, thread).await {
                Ok(claims) if claims.text("sub") == session.claims.text("sub") => claims,
                Ok(_) => return Renewed::Over,
                Err((Reason::LoginUnavailable, _)) => return Renewed::Unknown,
                Err(_) => return Renewed::Over,
            },
        };
        let token = tokens.refresh_token.or(session.refresh_token);
        Renewed::Session(Arc::new(self.session(claims, token, seconds(SystemTime::now()))))
    }

    async fn metadata(&self, thread: &Rc<Thread>) -> Result<Rc<Metadata>, (Reason, String)> {
        self.provider.metadata(&self.source, thread).await.map_err(|why| unavailable(&why))
    }

    /// What an ID token says (OpenID Connect Core 1.0 §3.1.3.7).
    async fn verify(
        &self,
        token: &str,
        metadata: &Metadata,
        thread: &Rc<Thread>,
    ) -> Result<Claims, (Reason, String)> {
        let by_keys = || {
            let now_s = seconds(SystemTime::now());
            jwt::verify(token.as_bytes(), &metadata.keys.keys().0, &self.rules, now_s)
        };
        let mut verified = by_keys();
        if verified == Err(Rejected::UnknownKey) && metadata.keys.may_fetch() {
            metadata.keys.fetch(thread).await;
            verified = by_keys();
        }
        let claims = match verified {
            Ok(claims) => claims,
            Err(Rejected::UnknownKey) if !metadata.keys.is_known() => {
                return Err(unavailable("its keys could not be fetched"));
            }
            Err(rejected) => return Err(failed(rejected.message())),
        };
        // Of several audiences one is whom it was given to.
        match claims.text("azp") {
            Some(party) if party != self.source.client_id => {
                Err(failed("The ID token was given to another client."))
            }
            Some(_) | None => Ok(claims),
        }
    }

    fn session(&self, claims: Claims, refresh_token: Option<String>, now_s: u64) -> Session {
        let mesh::Oidc { session_s, renew_s, .. } = &self.source;
        Session {
            claims,
            until_s: now_s.saturating_add(*session_s),
            renewed_s: if *renew_s == 0 { NEVER_S } else { now_s.saturating_add(*renew_s) },
            refresh_token: refresh_token.filter(|_| *renew_s > 0),
        }
    }

    /// Lines that keep a session.
    fn kept(&self, session: &Session, origin: &str) -> Option<String> {
        self.sessions(origin)?.keep(session, Duration::from_secs(self.source.session_s))
    }

    /// Which session is renewed.
    fn print(&self, session: &Session) -> Print {
        let text =
            [&*self.purpose("renewal"), session.refresh_token.as_deref().unwrap_or_default()].join("\n");
        let mut print = Print::default();
        print.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        print
    }
}

fn redirect(status: u16, place: &str, cookies: &str) -> Came {
    let lines = format!("Location: {place}\r\nCache-Control: no-store\r\n{cookies}");
    Came::Answered(OwnAnswer { status, lines: lines.into_bytes(), body: Rc::new([]) })
}

fn with_query(url: &str, query: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{query}")
}

fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

//! Who asks, found out by what a request brings along: a key, a password or a token.
//!
//! What services are told of it begins with `X-Forwarded-`, and nothing that a client sends under such a name goes on from the gateway: not
//! with `_` for `-`, and not as a trailer either.

mod naming;
mod oidc;
mod passwords;
mod recent;
mod remote;
mod tokens;

use std::{collections::BTreeMap, rc::Rc, time::SystemTime};

use watt_api::mesh;
use watt_policies::{
    access,
    jwt::Claims,
    keys::{Hash, Keys},
    passwords as files,
};

use self::{naming::Naming, oidc::Said, passwords::Passwords, tokens::Tokens};
pub(crate) use self::{
    oidc::{Came, Login, Renewals, Step, Visit},
    passwords::{Check, Found},
    remote::Remote,
};
use crate::{
    respond::{OwnAnswer, Reason},
    thread::Thread,
};

/// Somebody who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: Box<str>,
    roles: Box<[Box<str>]>,
    /// What a token says besides, and which claim of it has the roles.
    claims: Option<(Claims, Rc<str>)>,
    /// Lines for the service about that.
    lines: String,
}

impl Identity {
    fn new(name: &str, roles: &[String]) -> Identity {
        let roles = roles.iter().map(|role| role.as_str().into()).collect();
        Identity { name: name.into(), roles, claims: None, lines: String::new() }
    }

    /// Whether one of these roles is had.
    pub(crate) fn has_one_of(&self, roles: &[Box<str>]) -> bool {
        roles.iter().any(|role| self.roles.contains(role))
    }

    /// Appends what services are told.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let lines = format!("X-Forwarded-User: {}\r\n", self.name);
        out.extend_from_slice(lines.as_bytes());
        if !self.roles.is_empty() {
            let lines = format!("X-Forwarded-Roles: {}\r\n", self.roles.join(","));
            out.extend_from_slice(lines.as_bytes());
        }
        out.extend_from_slice(self.lines.as_bytes());
    }
}

impl access::Known for Identity {
    fn name(&self) -> &str {
        &self.name
    }

    fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|one| **one == *role)
    }

    fn has_claim(&self, name: &str, value: &str) -> bool {
        self.claims.as_ref().is_some_and(|(claims, roles_claim)| claims.has(name, value, roles_claim))
    }
}

/// How it is known.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) key_header: Box<str>,
    keys: Keys<Rc<Identity>>,
    passwords: Option<Passwords>,
    tokens: Option<Tokens>,
    login: Option<Rc<Login>>,
    /// What a client is told to try (RFC 9110 §11.6.1), as lines: who brings nothing, and who brings what is wrong.
    challenge: Box<[u8]>,
    challenge_wrong: Box<[u8]>,
}

/// All of it, by the names that guards have for it. What changes is made anew; the rest goes on with what it remembers.
#[derive(Debug, Default)]
pub(crate) struct Auths {
    source: BTreeMap<String, mesh::Auth>,
    all: BTreeMap<String, Rc<Auth>>,
    logins: Vec<Rc<Login>>,
}

impl Auths {
    pub(crate) fn renewed(this: &Rc<Auths>, source: &BTreeMap<String, mesh::Auth>) -> Rc<Auths> {
        if this.source == *source {
            return Rc::clone(this);
        }
        let unchanged = |name: &str, auth: &mesh::Auth| {
            let known = this.all.get(name)?;
            (this.source.get(name) == Some(auth)).then(|| Rc::clone(known))
        };
        let fetched = |wanted: &mesh::RemoteKeys| {
            let mut remotes = this.all.values().filter_map(|auth| auth.tokens.as_ref()?.remote.as_ref());
            remotes.find(|remote| remote.source == *wanted).cloned()
        };
        let of = |name: &str, auth| {
            unchanged(name, auth).unwrap_or_else(|| Rc::new(Auth::new(name, auth, fetched)))
        };
        let all = source.iter().map(|(name, auth)| (name.clone(), of(name, auth))).collect();
        let all: BTreeMap<String, Rc<Auth>> = all;
        let logins = all.values().filter_map(|auth| auth.login.clone()).collect();
        Rc::new(Auths { source: source.clone(), all, logins })
    }

    /// Whether anybody logs in.
    pub(crate) fn have_logins(&self) -> bool {
        !self.logins.is_empty()
    }

    /// What is at a path, if it is one of a login's own.
    pub(crate) fn login_at(&self, path: &str, visit: Visit<'_>) -> Option<Step> {
        self.logins.iter().find_map(|login| login.at(path, visit))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Auth> {
        self.all.get(name).map(|auth| &**auth)
    }
}

/// What a request brings along.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Credentials<'r> {
    /// In the header for keys.
    pub(crate) key: Option<&'r [u8]>,
    /// Behind `Authorization: Basic`.
    pub(crate) basic: Option<&'r [u8]>,
    /// Behind `Authorization: Bearer`.
    pub(crate) token: Option<&'r [u8]>,
    /// What a browser sends by itself, where it may be logged in.
    pub(crate) visit: Option<Visit<'r>>,
}

/// Why nobody is known to ask.
#[derive(Debug)]
pub(crate) enum Unidentified {
    Unknown(Unknown),
    /// It has to be checked first, which takes long.
    Unchecked(Box<Check>),
    /// Too much is checked already.
    Busy,
    /// The keys of those who sign have to be fetched first.
    Unfetched(Rc<Remote>),
    /// They could not be.
    NoKeys,
    /// Whoever knows browsers has to be asked first.
    Unasked(Box<Step>),
    /// The browser gets this.
    Answered(OwnAnswer),
    /// There was a login, and why nobody is known by it.
    Failed(Reason, String),
}

/// What was found out for a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct FoundOut {
    pub(crate) password: Option<Found>,
    /// Keys were fetched.
    pub(crate) fetched: bool,
    /// What came of a login.
    pub(crate) login: Option<Rc<Came>>,
}

/// Nobody that is known asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) reason: Reason,
    pub(crate) message: &'static str,
}

impl From<Unknown> for Unidentified {
    fn from(unknown: Unknown) -> Self {
        Unidentified::Unknown(unknown)
    }
}

fn wrong(message: &'static str) -> Unknown {
    Unknown { reason: Reason::CredentialsWrong, message }
}

impl Auth {
    /// `fetched` are keys that were already.
    fn new(name: &str, auth: &mesh::Auth, fetched: impl Fn(&mesh::RemoteKeys) -> Option<Rc<Remote>>) -> Auth {
        let mesh::Auth { key_header, keys, key_file, basic, jwt, oidc } = auth;
        let holder = |key: &mesh::ApiKey| {
            Some((Hash::parse(&key.hash)?, Rc::new(Identity::new(&key.name, &key.roles))))
        };
        // The configuration's check refuses what is not understood. Nobody gets in by that.
        let in_file = key_file.as_ref().and_then(|file| files::keys(&file.0).ok()).unwrap_or_default();
        let in_file =
            in_file.into_iter().map(|(name, hash, roles)| (hash, Rc::new(Identity::new(&name, &roles))));
        let passwords = basic.as_ref().map(Passwords::new);
        let tokens = jwt.as_ref().map(|jwt| Tokens::new(jwt, fetched));
        let realm = basic.as_ref().map(|basic| &*basic.realm);
        Auth {
            key_header: key_header.as_str().into(),
            keys: keys.iter().filter_map(holder).chain(in_file).collect(),
            challenge: challenge(realm, tokens.is_some(), false),
            challenge_wrong: challenge(realm, tokens.is_some(), true),
            passwords,
            tokens,
            login: oidc.as_ref().map(|oidc| Rc::new(Login::new(name, oidc))),
        }
    }

    /// Who brings these. A key that is there decides: who has a wrong one does not get in by a token. `found` is what was found out for
    /// that.
    pub(crate) fn identify(
        &self,
        credentials: Credentials<'_>,
        found: &FoundOut,
        now: SystemTime,
        thread: &Rc<Thread>,
    ) -> Result<Rc<Identity>, Unidentified> {
        if let (Some(key), false) = (credentials.key, self.keys.is_empty()) {
            let holder = self.keys.holder(key).cloned();
            return Ok(holder.ok_or(wrong("The key is not one that is known."))?);
        }
        if let (Some(passwords), Some(basic)) = (&self.passwords, credentials.basic) {
            return passwords.identify(basic, found.password.as_ref());
        }
        if let (Some(tokens), Some(token)) = (&self.tokens, credentials.token) {
            return tokens.identify(token, found.fetched, now, thread);
        }
        if let (Some(login), Some(visit)) = (&self.login, credentials.visit) {
            return by_session(login, visit, found.login.as_deref(), now);
        }
        Err(missing())
    }

    /// How browsers log in.
    pub(crate) fn login(&self) -> Option<&Rc<Login>> {
        self.login.as_ref()
    }

    /// Whether passwords come in `Authorization`, which go no further then.
    pub(crate) fn takes_passwords(&self) -> bool {
        self.passwords.is_some()
    }

    /// What a client is told to try, as lines.
    pub(crate) fn challenge(&self, reason: Reason) -> &[u8] {
        match reason {
            Reason::CredentialsWrong => &self.challenge_wrong,
            _ => &self.challenge,
        }
    }
}

fn missing() -> Unidentified {
    let message = "This needs a key, a password, a token or a login, and there is none.";
    Unknown { reason: Reason::CredentialsMissing, message }.into()
}

fn by_session(
    login: &Rc<Login>,
    visit: Visit<'_>,
    came: Option<&Came>,
    now: SystemTime,
) -> Result<Rc<Identity>, Unidentified> {
    let nobody = || match login.begin(visit) {
        Some(step) => Unidentified::Unasked(Box::new(step)),
        None => missing(),
    };
    match came {
        Some(Came::Answered(own)) => Err(Unidentified::Answered(own.clone())),
        Some(Came::Failed(reason, message)) => Err(Unidentified::Failed(*reason, message.clone())),
        Some(Came::Known(identity, _)) => Ok(Rc::clone(identity)),
        Some(Came::Over(_)) => Err(nobody()),
        Some(Came::AsBefore) => login.identify_as_before(visit, now).ok_or_else(nobody),
        None => match login.identify(visit, now) {
            Said::Known(identity) => Ok(identity),
            Said::Nobody => Err(nobody()),
            Said::Unsure(step) => Err(Unidentified::Unasked(step)),
        },
    }
}

fn challenge(realm: Option<&str>, tokens: bool, is_wrong: bool) -> Box<[u8]> {
    let mut lines = String::new();
    if let Some(realm) = realm {
        lines += &format!("WWW-Authenticate: Basic realm=\"{realm}\", charset=\"UTF-8\"\r\n");
    }
    lines += match (tokens, is_wrong) {
        (true, true) => "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n",
        (true, false) => "WWW-Authenticate: Bearer\r\n",
        (false, _) => "",
    };
    if lines.is_empty() {
        // There is no scheme for keys in headers, and something has to be said.
        lines += "WWW-Authenticate: ApiKey\r\n";
    }
    lines.into_bytes().into()
}

/// Visible ASCII, and spaces within: whatever else there may be in a claim or a name, not every program reads it in the same way in a header.
fn is_of_header(value: &str) -> bool {
    !value.is_empty() && value.trim() == value && value.bytes().all(|byte| (b' '..0x7f).contains(&byte))
}

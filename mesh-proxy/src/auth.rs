//! Who asks, found out by what a request brings along: a key or a token.
//!
//! What services are told of it begins with `X-Forwarded-`, and nothing that a client sends under such a name goes on from the gateway: not
//! with `_` for `-`, and not as a trailer either.

use std::{collections::BTreeMap, rc::Rc, time::SystemTime};

use watt_api::mesh;
use watt_policies::{
    jwt::{self, Algorithm, Claims, KeySet, Rules},
    keys::{Hash, Keys},
};

use crate::respond::Reason;

/// Somebody who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: Box<str>,
    pub(crate) roles: Rc<[Box<str>]>,
    /// Lines for the service about what else is known.
    claims: String,
}

impl Identity {
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
        out.extend_from_slice(self.claims.as_bytes());
    }
}

/// How it is known.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) key_header: Box<str>,
    keys: Keys<Identity>,
    jwt: Option<Jwt>,
}

#[derive(Debug)]
struct Jwt {
    keys: KeySet,
    rules: Rules,
    name_claim: Box<str>,
    roles_claim: Box<str>,
    claims: Box<[Box<str>]>,
}

/// All of it, by the names that guards have for it. Made anew when something of it changes.
#[derive(Debug, Default)]
pub(crate) struct Auths {
    source: BTreeMap<String, mesh::Auth>,
    all: BTreeMap<String, Auth>,
}

impl Auths {
    pub(crate) fn renewed(this: &Rc<Auths>, source: &BTreeMap<String, mesh::Auth>) -> Rc<Auths> {
        if this.source == *source {
            return Rc::clone(this);
        }
        let all = source.iter().map(|(name, auth)| (name.clone(), Auth::new(auth))).collect();
        Rc::new(Auths { source: source.clone(), all })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Auth> {
        self.all.get(name)
    }
}

/// What a request brings along.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Credentials<'r> {
    /// In the header for keys.
    pub(crate) key: Option<&'r [u8]>,
    /// Behind `Authorization: Bearer`.
    pub(crate) token: Option<&'r [u8]>,
}

/// Why nobody is known to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) reason: Reason,
    pub(crate) message: &'static str,
}

impl Auth {
    fn new(auth: &mesh::Auth) -> Auth {
        let mesh::Auth { key_header, keys, jwt } = auth;
        let holder = |key: &mesh::ApiKey| {
            let roles = key.roles.iter().map(|role| role.as_str().into()).collect();
            let identity = Identity { name: key.name.as_str().into(), roles, claims: String::new() };
            Some((Hash::parse(&key.hash)?, identity))
        };
        Auth {
            key_header: key_header.as_str().into(),
            keys: keys.iter().filter_map(holder).collect(),
            jwt: jwt.as_ref().map(Jwt::new),
        }
    }

    /// Who brings these. A key that is there decides: who has a wrong one does not get in by a token.
    pub(crate) fn identify(
        &self,
        credentials: Credentials<'_>,
        now: SystemTime,
    ) -> Result<Identity, Unknown> {
        let wrong = |message| Unknown { reason: Reason::CredentialsWrong, message };
        match (credentials.key, &self.jwt, credentials.token) {
            (Some(key), _, _) if !self.keys.is_empty() => {
                self.keys.holder(key).cloned().ok_or(wrong("The key is not one that is known."))
            }
            (_, Some(jwt), Some(token)) => {
                let now_s = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
                let claims = jwt::verify(token, &jwt.keys, &jwt.rules, now_s);
                jwt.identity(&claims.map_err(|rejected| wrong(rejected.message()))?)
                    .ok_or(wrong("The token does not say who it is."))
            }
            _ => Err(Unknown {
                reason: Reason::CredentialsMissing,
                message: "This needs a key or a token, and none was sent.",
            }),
        }
    }

    /// What a client is told to try (RFC 9110 §11.6.1), as a line.
    pub(crate) fn challenge(&self, unknown: &Unknown) -> &'static [u8] {
        match (&self.jwt, unknown.reason) {
            (Some(_), Reason::CredentialsWrong) => b"WWW-Authenticate: Bearer error=\"invalid_token\"\r\n",
            (Some(_), _) => b"WWW-Authenticate: Bearer\r\n",
            // There is no scheme for keys in headers, and something has to be said.
            (None, _) => b"WWW-Authenticate: ApiKey\r\n",
        }
    }
}

impl Jwt {
    fn new(jwt: &mesh::Jwt) -> Jwt {
        let mesh::Jwt { jwks, algorithms, issuer, audiences, skew_s, name_claim, roles_claim, claims } = jwt;
        let keys = KeySet::parse(jwks.as_bytes()).unwrap_or_else(|error| {
            // The configuration's check refuses them. Without a key nobody gets in.
            tracing::error!(%error, "the keys of tokens are not understood");
            KeySet::default()
        });
        Jwt {
            keys,
            rules: Rules {
                algorithms: algorithms.iter().filter_map(|name| Algorithm::named(name)).collect(),
                issuer: issuer.clone(),
                audiences: audiences.clone(),
                skew_s: *skew_s,
            },
            name_claim: name_claim.as_str().into(),
            roles_claim: roles_claim.as_str().into(),
            claims: claims.iter().map(|name| name.as_str().into()).collect(),
        }
    }

    fn identity(&self, claims: &Claims) -> Option<Identity> {
        let name = claims.text(&self.name_claim).filter(|name| is_of_header(name))?;
        // A role with a comma in it would be two to whoever reads the header.
        let roles = claims.list(&self.roles_claim).into_iter();
        let roles = roles.filter(|role| is_of_header(role) && !role.contains(',')).map(Box::from).collect();
        let mut lines = String::new();
        for claim in &self.claims {
            if let Some(value) = claims.text(claim).filter(|value| is_of_header(value)) {
                lines += &format!("X-Forwarded-Claim-{}: {value}\r\n", claim.replace('_', "-"));
            }
        }
        Some(Identity { name: name.into(), roles, claims: lines })
    }
}

/// Visible ASCII, and spaces within: whatever else there may be in a claim, not every program reads it in the same way in a header.
fn is_of_header(value: &str) -> bool {
    !value.is_empty() && value.trim() == value && value.bytes().all(|byte| (b' '..0x7f).contains(&byte))
}

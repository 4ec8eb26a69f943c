//! What requests have to pass before they go to a service.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU64,
    path::PathBuf,
    time::Duration,
};

use super::{Plan, UpstreamServer};
use crate::ServiceId;

/// All of it at one place: a route, with what it has from the gateway as a whole, or a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    /// Which addresses may come, in this order. Of routes alone.
    pub addresses: Vec<AddressRule>,
    /// Which pages of other origins may. Of routes alone.
    pub cors: Option<Cors>,
    /// The largest body, in bytes.
    pub body_max: Option<u64>,
    /// How often anybody may. All of them hold.
    pub limits: Vec<RateLimit>,
    /// How it is known who asks; `None`: anybody may. Of routes alone.
    pub auth: Option<Auth>,
    /// One of these roles has to be had, if there are any. Of routes alone.
    pub roles: Vec<String>,
    /// Who may do what. The first one that fits decides; where none does, it is the opposite of what the last one says.
    pub rules: Vec<AccessRule>,
    /// Who is asked whether they may. Of routes alone.
    pub authority: Option<Authority>,
    /// Who looks at requests, one after the other. Of routes alone.
    pub filters: Vec<Filter>,
}

/// A service that gets the head of each request, and lets it pass, changes it, or answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Which.
    pub service: ServiceId,
    /// The path that it is asked at.
    pub path: String,
    /// How long it has to answer.
    pub timeout: Duration,
    /// Whether requests pass when it fails.
    pub may_fail: bool,
}

/// A service that gets the head of each request, and allows it or answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Which.
    pub service: ServiceId,
    /// The path that it is asked at.
    pub path: String,
    /// The headers of its answer that requests get, in lower case.
    pub copy: Vec<String>,
    /// How long it has to answer.
    pub timeout: Duration,
}

/// Whether somebody may do something. What it does not say it does not ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// Whether he may.
    pub allows: bool,
    /// With one of these methods; GET is HEAD as well.
    pub methods: Vec<String>,
    /// This path, or one below it. A segment `*` is any one that is not empty.
    pub path: Option<String>,
    /// With one of these roles.
    pub roles: Vec<String>,
    /// One of these names.
    pub users: Vec<String>,
    /// Each of these claims has one of its values.
    pub claims: BTreeMap<String, Vec<String>>,
    /// One of these calls. Of services alone.
    pub callers: Vec<Caller>,
    /// With a certificate in which these names are.
    pub certificate: Option<CertificateNames>,
}

/// Names that a client's certificate has: one of each kind that there are any of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateNames {
    /// `CN` of the subject.
    pub cn: Vec<String>,
    /// Of the alternative names hosts.
    pub dns: Vec<String>,
    /// URIs.
    pub uri: Vec<String>,
    /// Mail addresses.
    pub email: Vec<String>,
}

/// Who calls a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A client, by the gateway.
    Gateway,
    /// Another service.
    Service(ServiceId),
}

/// How it is known who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// Whether it is the gateway's as a whole.
    pub of_gateway: bool,
    /// The header that keys come in, in lower case.
    pub key_header: String,
    /// Who has a key.
    pub keys: Vec<ApiKey>,
    /// A file with others.
    pub key_file: Option<PathBuf>,
    /// Who has a password.
    pub basic: Option<Basic>,
    /// What tokens are taken.
    pub jwt: Option<Jwt>,
}

/// A JWK Set that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteKeys {
    /// Who has it.
    pub from: KeysAt,
    /// Its path, with a query if there is one.
    pub path: String,
    /// How often it is fetched again.
    pub every: Duration,
}

/// Who publishes keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysAt {
    /// A service.
    Service(ServiceId),
    /// A server that is none.
    Server(UpstreamServer),
}

impl Auth {
    /// Every file that it is made from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let of_jwt = self.jwt.iter().flat_map(|jwt| [&jwt.key_file, &jwt.secret_file]);
        let of_basic = self.basic.iter().map(|basic| &basic.file);
        [&self.key_file].into_iter().chain(of_basic).chain(of_jwt).flatten()
    }
}

impl Plan {
    /// How it is known who asks, of each route.
    pub fn auths(&self) -> impl Iterator<Item = &Auth> {
        self.all_routes().filter_map(|route| route.guard.auth.as_ref())
    }

    /// The servers outside that keys are fetched from, some of them several times.
    pub fn key_servers(&self) -> impl Iterator<Item = &UpstreamServer> {
        let remotes = self.auths().filter_map(|auth| auth.jwt.as_ref()?.remote.as_ref());
        remotes.filter_map(|remote| match &remote.from {
            KeysAt::Server(server) => Some(server),
            KeysAt::Service(_) => None,
        })
    }

    /// The files with what that is known by, each once.
    pub fn credential_files(&self) -> BTreeSet<&PathBuf> {
        self.auths().flat_map(Auth::files).collect()
    }

    /// All files whose text is a part of what is in force, each once: those, and the ones of TLS.
    pub fn text_files(&self) -> BTreeSet<&PathBuf> {
        self.certificate_files().into_iter().chain(self.credential_files()).collect()
    }
}

/// Who has a password.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Basic {
    /// What browsers show when they ask for it.
    pub realm: String,
    /// Who.
    pub users: Vec<User>,
    /// A file with others.
    pub file: Option<PathBuf>,
}

/// Who has a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What services are told.
    pub name: String,
    /// The password's hash.
    pub password: Hidden,
    /// What he may.
    pub roles: Vec<String>,
}

/// Who has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// What services are told.
    pub name: String,
    /// The key's hash.
    pub hash: Hidden,
    /// What the holder may.
    pub roles: Vec<String>,
}

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

/// Tokens that others have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// The public keys of those who sign, as a JWK Set.
    pub jwks: String,
    /// A file with such a set.
    pub key_file: Option<PathBuf>,
    /// A file with a secret that whoever signs has as well.
    pub secret_file: Option<PathBuf>,
    /// Where such a set is published.
    pub remote: Option<RemoteKeys>,
    /// How they may sign, in the words of RFC 7518.
    pub algorithms: Vec<String>,
    /// Who has to have made it.
    pub issuer: Option<String>,
    /// For whom it has to be, one of these.
    pub audiences: Vec<String>,
    /// How far clocks may be apart.
    pub skew: Duration,
    /// The claim that names who it is.
    pub name_claim: String,
    /// The claim with roles.
    pub roles_claim: String,
    /// The claims that services are told.
    pub claims: Vec<String>,
}

/// The first one that an address is in decides. For those in none it is the opposite of what the last one says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRule {
    /// Whether they may come.
    pub allows: bool,
    /// The addresses that begin with this many bits of this one; `None` is all.
    pub network: Option<(IpAddr, u8)>,
}

/// Who may read from pages of other origins (CORS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// `https://example.org`, `https://*.example.org` for every name below, or `*` alone for all.
    pub origins: Vec<String>,
    /// The methods.
    pub methods: Vec<String>,
    /// The request headers in lower case; `None` is every one.
    pub headers: Option<Vec<String>>,
    /// The response headers besides those that every page may read.
    pub expose: Vec<String>,
    /// Whether cookies and the like go with it.
    pub credentials: bool,
    /// How long browsers may keep what they were answered.
    pub max_age: Option<Duration>,
}

/// How often requests may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Its name in responses and for what is counted.
    pub name: String,
    /// Whether it is the gateway's as a whole: all routes that have it count together.
    pub of_gateway: bool,
    /// So many.
    pub requests: NonZeroU64,
    /// In this time.
    pub per: Duration,
    /// So many at once.
    pub burst: NonZeroU64,
    /// Counted by the value of this header, in lower case.
    pub header: Option<String>,
    /// What requests are counted by that do not have such a header.
    pub by: CountedBy,
}

/// What requests are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedBy {
    /// The client's address, of IPv6 the first 64 bits. A call in the mesh has none, and is its service's.
    Address,
    /// The service that calls; all clients of the gateway are one.
    Service,
    /// All together.
    Everyone,
    /// Who it is known to be; without that the address.
    User,
}

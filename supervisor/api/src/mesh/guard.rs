//! What requests have to pass before they go to a service.

use std::{collections::BTreeMap, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// As `watt_core::plan::Guard`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Guard {
    /// Which addresses may come: the first rule that one is in decides, and for those in none it is the opposite of the last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressRule>,
    /// Which pages of other origins may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// The largest body, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_max: Option<u64>,
    /// How often anybody may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<RateLimit>,
    /// How it is known who asks, by its name among those that the proxy has; none: anybody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// One of these roles has to be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Who may do what: the first rule that fits decides, and where none does it is the opposite of the last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AccessRule>,
    /// Who is asked whether they may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
    /// Who looks at requests, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

/// As `watt_core::plan::Filter`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Filter {
    /// The service.
    pub service: String,
    /// The path that it is asked at.
    pub path: String,
    /// How long it has to answer, in milliseconds.
    pub timeout_ms: u64,
    /// Whether requests pass when it fails.
    pub may_fail: bool,
}

/// As `watt_core::plan::Authority`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Authority {
    /// The service.
    pub service: String,
    /// The path that it is asked at.
    pub path: String,
    /// The headers of its answer that requests get, in lower case.
    pub copy: Vec<String>,
    /// How long it has to answer, in milliseconds.
    pub timeout_ms: u64,
}

/// As `watt_core::plan::AccessRule`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AccessRule {
    /// It may.
    pub allows: bool,
    /// With one of these methods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// This path, or one below it. A segment `*` is any one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// With one of these roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// One of these names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Each of these claims has one of its values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Vec<String>>,
    /// One of these services calls, where `clients` may not be what is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<String>,
    /// Clients of the gateway are among those who may call.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clients: bool,
    /// With a certificate in which these names are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateNames>,
}

/// As `watt_core::plan::CertificateNames`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CertificateNames {
    /// `CN` of the subject is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cn: Vec<String>,
    /// One of these hosts is among its alternative names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// One of these URIs is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uri: Vec<String>,
    /// One of these mail addresses is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<String>,
}

/// How it is known who asks. As `watt_core::plan::Auth`; operators never see it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// The header that keys come in, in lower case.
    pub key_header: String,
    /// Who has a key.
    pub keys: Vec<ApiKey>,
    /// The text of a file with others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<Secret>,
    /// Who has a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// What tokens are taken.
    pub jwt: Option<Jwt>,
}

/// Who has a password.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Basic {
    /// What browsers show when they ask for it.
    pub realm: String,
    /// Who.
    pub users: Vec<User>,
    /// The text of a file with others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Secret>,
}

/// Who has a password.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// What services are told.
    pub name: String,
    /// The password's hash.
    pub password: Secret,
    /// What he may.
    pub roles: Vec<String>,
}

/// Who has a key.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiKey {
    /// What services are told.
    pub name: String,
    /// The key's hash.
    pub hash: String,
    /// What the holder may.
    pub roles: Vec<String>,
}

/// A hash is nobody's business.
impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({:?}, {:?})", self.name, self.roles)
    }
}

/// Tokens that others have signed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Jwt {
    /// The public keys of those who sign, as a JWK Set.
    pub jwks: String,
    /// The text of a file with another set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// The text of a file with a secret that those who sign have as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Where others are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteKeys>,
    /// How they may sign, in the words of RFC 7518.
    pub algorithms: Vec<String>,
    /// Who has to have made it.
    pub issuer: Option<String>,
    /// For whom it has to be, one of these.
    pub audiences: Vec<String>,
    /// How far clocks may be apart, in seconds.
    pub skew_s: u64,
    /// The claim that names who it is.
    pub name_claim: String,
    /// The claim with roles.
    pub roles_claim: String,
    /// The claims that services are told.
    pub claims: Vec<String>,
}

/// A JWK Set that is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoteKeys {
    /// The service that has it, or the server outside, by the name that it has among services.
    pub service: String,
    /// What is asked for in `Host`.
    pub host: String,
    /// Its path, with a query if there is one.
    pub path: String,
    /// How often it is fetched again, in milliseconds.
    pub every_ms: u64,
}

impl Guard {
    /// Whether everything passes.
    pub fn is_nothing(&self) -> bool {
        *self == Guard::default()
    }
}

/// Whether some addresses may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddressRule {
    /// They may.
    pub allows: bool,
    /// They begin with the first bits of this one; none is all.
    pub address: Option<IpAddr>,
    /// How many bits.
    #[serde(default)]
    pub bits: u8,
}

/// Who may read from pages of other origins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cors {
    /// `https://example.org`, `https://*.example.org`, or `*` alone.
    pub origins: Vec<String>,
    /// The methods.
    pub methods: Vec<String>,
    /// The request headers in lower case; none is every one.
    pub headers: Option<Vec<String>>,
    /// The response headers.
    pub expose: Vec<String>,
    /// Whether cookies and the like go with it.
    pub credentials: bool,
    /// How long an answer may be kept, in seconds.
    pub max_age_s: Option<u64>,
}

/// How often requests may come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RateLimit {
    /// What is counted is known by this, from one configuration to the next.
    pub id: String,
    /// Its name in responses.
    pub name: String,
    /// So many.
    pub requests: u64,
    /// In this time, in milliseconds.
    pub per_ms: u64,
    /// So many at once.
    pub burst: u64,
    /// Counted by the value of this header, in lower case.
    pub header: Option<String>,
    /// And without one by this.
    pub by: CountedBy,
}

/// What requests are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountedBy {
    /// The client's address; a call in the mesh is its service's.
    #[default]
    Address,
    /// The calling service; all clients of the gateway are one.
    Service,
    /// All together.
    Everyone,
    /// Who it is known to be; without that the address.
    User,
}

/// How many requests were denied, by what denied them. They did not reach the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Denied {
    /// Their address may not come.
    pub address: u64,
    /// Preflights of pages that may not, or for what they may not.
    pub cors: u64,
    /// Their body was too large.
    pub body: u64,
    /// They came too often.
    pub rate: u64,
    /// It was not known who asks.
    pub credentials: u64,
    /// Whoever it was may not.
    pub role: u64,
    /// A rule says that it may not be.
    pub rule: u64,
    /// The authority did not allow it, or said nothing.
    pub authority: u64,
}

impl Denied {
    /// Adds others.
    pub fn add(&mut self, others: &Denied) {
        let Denied { address, cors, body, rate, credentials, role, rule, authority } = *others;
        let add = |sum: &mut u64, count| *sum = sum.saturating_add(count);
        add(&mut self.address, address);
        add(&mut self.cors, cors);
        add(&mut self.body, body);
        add(&mut self.rate, rate);
        add(&mut self.credentials, credentials);
        add(&mut self.role, role);
        add(&mut self.rule, rule);
        add(&mut self.authority, authority);
    }
}

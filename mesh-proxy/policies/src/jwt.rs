//! JSON Web Tokens (RFC 7519) that others have signed, with the keys of a JWK Set (RFC 7517).
//!
//! What a token says of itself is not trusted before its signature is: which algorithm it names decides nothing but which of those
//! that were allowed is meant, and a key is used with the algorithm of its own kind alone (RFC 8725). `none` is no algorithm, and a key of one kind is never
//! read as one of another: the old way to have a public RSA key taken for a shared secret.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{hmac, signature};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest token: a head has 64 KB in all.
const TOKEN_MAX: usize = 16 << 10;

/// The most keys of a set.
const KEYS_MAX: usize = 100;

/// The shortest shared secret, in bytes: as long as the hash (RFC 7518 §3.2).
const SECRET_MIN: usize = 32;

/// How tokens may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256: whoever can check can sign.
    Hs256,
    /// RSA, PKCS #1 v1.5, with SHA-256.
    Rs256,
    /// RSA, PSS, with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 5] =
        [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];

    /// As tokens name it.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Ps256 => "PS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// The keys of those who sign.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// Some of it may be secret.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

#[derive(Clone)]
struct Key {
    id: Option<String>,
    /// The only one that it is for, where it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(hmac::Key),
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Material {
    fn fits(&self, algorithm: Algorithm) -> bool {
        match self {
            Material::Secret(_) => algorithm == Algorithm::Hs256,
            Material::Rsa { .. } => matches!(algorithm, Algorithm::Rs256 | Algorithm::Ps256),
            Material::P256(_) => algorithm == Algorithm::Es256,
            Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], sign: &[u8]) -> bool {
        let public = |kind: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(kind, key).verify(message, sign).is_ok()
        };
        match (self, algorithm) {
            (Material::Secret(key), Algorithm::Hs256) => hmac::verify(key, message, sign).is_ok(),
            (Material::Rsa { n, e }, Algorithm::Rs256 | Algorithm::Ps256) => {
                let kind = match algorithm {
                    Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA256,
                };
                signature::RsaPublicKeyComponents { n, e }.verify(kind, message, sign).is_ok()
            }
            (Material::P256(point), Algorithm::Es256) => public(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Material::Ed25519(key), Algorithm::EdDsa) => public(&signature::ED25519, key),
            (Material::Secret(_) | Material::Rsa { .. } | Material::P256(_) | Material::Ed25519(_), _) => {
                false
            }
        }
    }
}

/// Why a set of keys is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadKeys(String);

impl BadKeys {
    pub(crate) fn new(why: String) -> BadKeys {
        BadKeys(why)
    }
}

impl fmt::Display for BadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadKeys {}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Map<String, Value>>,
}

impl KeySet {
    /// Reads a JWK Set. Keys that are not for signatures, or of a kind that is not known here, are left out, as RFC 7517 §5 wants it.
    pub fn parse(text: &[u8]) -> Result<KeySet, BadKeys> {
        let jwks: Jwks = serde_json::from_slice(text).map_err(|error| {
            BadKeys(format!("it is no JWK Set: line {}, column {}", error.line(), error.column()))
        })?;
        if jwks.keys.len() > KEYS_MAX {
            return Err(BadKeys(format!("{} keys; at most {KEYS_MAX} are supported", jwks.keys.len())));
        }
        let mut keys = Vec::new();
        for (index, jwk) in jwks.keys.iter().enumerate() {
            keys.extend(key(jwk).map_err(|what| BadKeys(format!("key {index}: {what}")))?);
        }
        if keys.is_empty() {
            return Err(BadKeys("no key in it is for signatures of a known kind".to_owned()));
        }
        Ok(KeySet { keys })
    }

    /// The same of public keys alone: a secret in it would be one that others know who have the set.
    ///
    /// # Errors
    /// A set that is none, or has a secret or a private part.
    pub fn public(text: &[u8]) -> Result<KeySet, BadKeys> {
        let is_secret =
            |key: &Map<String, Value>| ["k", "d", "p", "q"].iter().any(|part| key.contains_key(*part));
        let jwks: Option<Jwks> = serde_json::from_slice(text).ok();
        if let Some(index) = jwks.and_then(|jwks| jwks.keys.iter().position(is_secret)) {
            return Err(BadKeys(format!("key {index} has a part that is secret")));
        }
        KeySet::parse(text)
    }

    /// One secret, that whoever signs has as well: a text, without the end of its last line.
    ///
    /// # Errors
    /// A secret that is too short.
    pub fn secret(text: &[u8]) -> Result<KeySet, BadKeys> {
        let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        let secret = &text[..end];
        if secret.len() < SECRET_MIN {
            return Err(BadKeys(format!("a shared secret has {SECRET_MIN} bytes at least")));
        }
        let material = Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret));
        Ok(KeySet { keys: vec![Key { id: None, algorithm: Some(Algorithm::Hs256), material }] })
    }

    /// These and others.
    pub fn and(mut self, others: KeySet) -> KeySet {
        self.keys.extend(others.keys);
        self
    }

    /// Whether some key may check this algorithm.
    pub fn serves(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.may(algorithm))
    }
}

impl Key {
    fn may(&self, algorithm: Algorithm) -> bool {
        self.material.fits(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

fn key(jwk: &Map<String, Value>) -> Result<Option<Key>, &'static str> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| {
        let decoded = text(name).and_then(|value| URL_SAFE_NO_PAD.decode(value).ok());
        decoded.filter(|bytes| !bytes.is_empty())
    };
    let for_signatures = text("use").is_none_or(|usage| usage == "sig")
        && jwk.get("key_ops").and_then(Value::as_array).is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let algorithm = match text("alg") {
        None => None,
        Some(name) => match Algorithm::named(name) {
            None => return Ok(None),
            known => known,
        },
    };
    if !for_signatures {
        return Ok(None);
    }
    let material = match (text("kty"), text("crv")) {
        (Some("oct"), _) => {
            let secret = bytes("k").ok_or("no `k`, in base64url")?;
            if secret.len() < SECRET_MIN {
                return Err("a shared secret has 32 bytes at least");
            }
            Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, &secret))
        }
        (Some("RSA"), _) => {
            let (n, e) = bytes("n").zip(bytes("e")).ok_or("no `n` and `e`, in base64url")?;
            let n = without_zeros(n);
            if n.len() < 256 {
                return Err("an RSA key has 2048 bits at least");
            }
            Material::Rsa { n, e: without_zeros(e) }
        }
        (Some("EC"), Some("P-256")) => {
            let (x, y) = bytes("x").zip(bytes("y")).ok_or("no `x` and `y`, in base64url")?;
            if (x.len(), y.len()) != (32, 32) {
                return Err("a coordinate of P-256 has 32 bytes");
            }
            Material::P256([&[4][..], &x, &y].concat())
        }
        (Some("OKP"), Some("Ed25519")) => {
            let key = bytes("x").ok_or("no `x`, in base64url")?;
            if key.len() != 32 {
                return Err("a key of Ed25519 has 32 bytes");
            }
            Material::Ed25519(key)
        }
        _ => return Ok(None),
    };
    Ok(Some(Key { id: text("kid").map(str::to_owned), algorithm, material }))
}

/// Some write a zero before a number whose first bit is set. `ring` takes it for malformed.
fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number[zeros..].to_vec()
}

/// What a token has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How it may be signed.
    pub algorithms: Vec<Algorithm>,
    /// Who has to have made it.
    pub issuer: Option<String>,
    /// For whom it has to be, one of these; none is for anybody.
    pub audiences: Vec<String>,
    /// How far clocks may be apart, in seconds.
    pub skew_s: u64,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// It is not three parts of base64url with JSON in the first two, or says something twice.
    Malformed,
    /// It is not signed in one of the ways that were allowed.
    Algorithm,
    /// No key has its id, or is of its kind.
    UnknownKey,
    /// No key has signed it.
    Signature,
    /// It does not say until when it holds.
    NoExpiry,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYet,
    /// Somebody else has made it.
    Issuer,
    /// It is for somebody else.
    Audience,
}

impl Rejected {
    /// One sentence for its bearer.
    pub const fn message(self) -> &'static str {
        match self {
            Rejected::Malformed => "The token is malformed.",
            Rejected::Algorithm => "The token is not signed in a way that is taken here.",
            Rejected::UnknownKey => "The token is signed with a key that is not known here.",
            Rejected::Signature => "The token's signature is wrong.",
            Rejected::NoExpiry => "The token does not say until when it holds.",
            Rejected::Expired => "The token has expired.",
            Rejected::NotYet => "The token does not hold yet.",
            Rejected::Issuer => "The token is of another issuer.",
            Rejected::Audience => "The token is for another audience.",
        }
    }
}

/// What a token says that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// One of them as text: what is text, a number, true or false. What has control characters in it is none, since it goes into headers.
    pub fn text(&self, name: &str) -> Option<String> {
        plain(self.0.get(name)?).filter(|text| has_no_controls(text))
    }

    /// The same, and of a list its items with commas between them. An item with a comma in it would be two to whoever reads that, and is
    /// left out.
    pub fn line(&self, name: &str) -> Option<String> {
        let Value::Array(items) = self.0.get(name)? else { return self.text(name) };
        let items: Vec<String> = items.iter().map(plain).collect::<Option<_>>()?;
        let told: Vec<String> = items.into_iter().filter(|item| !item.contains(',')).collect();
        Some(told.join(",")).filter(|text| has_no_controls(text))
    }

    /// Whether a claim is this text, or has it among its items; of a scope, and of the claim with roles, among its words as well. Elsewhere
    /// words are none: whoever may write a text himself, a name for example, would have whatever he writes into it.
    pub fn has(&self, name: &str, value: &str, roles_claim: &str) -> bool {
        let is_list = || ["scope", "scp", roles_claim].contains(&name);
        match self.0.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(plain).any(|item| item == value),
            Some(claim) => {
                plain(claim).is_some_and(|text| text == value)
                    || is_list() && self.list(name).contains(&value)
            }
            None => false,
        }
    }

    /// Until when it holds, in seconds since the Unix epoch.
    pub fn expiry(&self) -> Option<f64> {
        self.0.get("exp")?.as_f64()
    }

    /// The items of a list, or the words of a text (RFC 8693 §4.2).
    pub fn list(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        }
    }
}

/// What is one value.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn has_no_controls(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' && byte != 0x7f)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that have to be understood (RFC 7515 §4.1.11): none is.
    #[serde(default)]
    crit: Option<Value>,
}

/// Takes a token, or says why not. `now_s` is in seconds since the Unix epoch.
pub fn verify(token: &[u8], keys: &KeySet, rules: &Rules, now_s: u64) -> Result<Claims, Rejected> {
    let (message, claims, sign, header) = parts(token).ok_or(Rejected::Malformed)?;
    if header.crit.is_some() {
        return Err(Rejected::Malformed);
    }
    let algorithm = Algorithm::named(&header.alg).filter(|named| rules.algorithms.contains(named));
    let algorithm = algorithm.ok_or(Rejected::Algorithm)?;
    // One without an id is one of all; what names one is of that alone.
    let is_named = |key: &&Key| header.kid.is_none() || key.id.is_none() || key.id == header.kid;
    let mut candidates = keys.keys.iter().filter(is_named).filter(|key| key.may(algorithm)).peekable();
    if candidates.peek().is_none() {
        return Err(Rejected::UnknownKey);
    }
    if !candidates.any(|key| key.material.verifies(algorithm, message, &sign)) {
        return Err(Rejected::Signature);
    }
    let claims: Map<String, Value> = serde_json::from_slice(&claims).map_err(|_| Rejected::Malformed)?;
    rules.hold(&claims, now_s)?;
    Ok(Claims(claims))
}

type Parts<'t> = (&'t [u8], Vec<u8>, Vec<u8>, Header);

fn parts(token: &[u8]) -> Option<Parts<'_>> {
    if token.len() > TOKEN_MAX {
        return None;
    }
    let mut dots = token.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
    let (first, second, None) = (dots.next()?, dots.next()?, dots.next()) else { return None };
    let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).ok();
    let header = serde_json::from_slice(&decode(&token[..first])?).ok()?;
    Some((&token[..second], decode(&token[first + 1..second])?, decode(&token[second + 1..])?, header))
}

impl Rules {
    fn hold(&self, claims: &Map<String, Value>, now_s: u64) -> Result<(), Rejected> {
        let (now, skew) = (now_s as f64, self.skew_s as f64);
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(Rejected::Malformed),
        };
        match time("exp")? {
            None => return Err(Rejected::NoExpiry),
            Some(until) if now >= until + skew => return Err(Rejected::Expired),
            Some(_) => {}
        }
        if time("nbf")?.is_some_and(|from| now + skew < from) {
            return Err(Rejected::NotYet);
        }
        let text = |value: &Value, expected: &str| value.as_str() == Some(expected);
        if let Some(issuer) = &self.issuer
            && !claims.get("iss").is_some_and(|value| text(value, issuer))
        {
            return Err(Rejected::Issuer);
        }
        let is_for = |audience: &String| match claims.get("aud") {
            Some(Value::Array(items)) => items.iter().any(|item| text(item, audience)),
            Some(value) => text(value, audience),
            None => false,
        };
        if !self.audiences.is_empty() && !self.audiences.iter().any(is_for) {
            return Err(Rejected::Audience);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
    };
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn rules(algorithms: &[Algorithm]) -> Rules {
        Rules {
            algorithms: algorithms.to_vec(),
            issuer: Some("https://id.example".into()),
            audiences: vec!["shop".into(), "store".into()],
            skew_s: 30,
        }
    }

    fn usual() -> Value {
        json!({ "iss": "https://id.example", "aud": "shop", "exp": NOW + 60, "sub": "ada" })
    }

    fn secret_set() -> KeySet {
        KeySet::parse(
            json!({ "keys": [{ "kty": "oct", "k": encode(SECRET), "kid": "a" }] }).to_string().as_bytes(),
        )
        .unwrap()
    }

    fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let sign = encode(sign(message.as_bytes()));
        format!("{message}.{sign}")
    }

    fn by_secret(message: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message).as_ref().to_vec()
    }

    fn of_secret(claims: &Value) -> String {
        token(&json!({ "alg": "HS256", "kid": "a" }), claims, by_secret)
    }

    fn taken(token: &str) -> Result<Claims, Rejected> {
        verify(token.as_bytes(), &secret_set(), &rules(&[Algorithm::Hs256]), NOW)
    }

    /// The example of RFC 7515, appendix A.2, with its key.
    #[test]
    fn the_example_of_the_standard() {
        let keys = json!({ "keys": [{ "kty": "RSA", "e": "AQAB", "n": concat!(
            "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ",
            "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2",
            "R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD",
            "TW9gb54h4FRWyuXpoQ") }] });
        let token = concat!(
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjb",
            "KBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZES",
            "c6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        );
        let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
        let rules = Rules {
            algorithms: vec![Algorithm::Rs256],
            issuer: Some("joe".into()),
            audiences: Vec::new(),
            skew_s: 0,
        };
        let claims = verify(token.as_bytes(), &keys, &rules, 1_300_819_379).unwrap();
        assert_eq!(claims.text("http://example.com/is_root").as_deref(), Some("true"));
        assert_eq!(verify(token.as_bytes(), &keys, &rules, 1_300_819_380), Err(Rejected::Expired));
        let wrong = token.replacen("cC4h", "cC4i", 1);
        assert_eq!(verify(wrong.as_bytes(), &keys, &rules, 1_300_819_379), Err(Rejected::Signature));
    }

    #[test]
    fn elliptic_curves_sign_as_well() {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let ed =
            Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
        let point = ec.public_key().as_ref();
        let keys = json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]), "kid": "ec", "use": "sig" },
            { "kty": "OKP", "crv": "Ed25519", "x": encode(ed.public_key()), "kid": "ed", "alg": "EdDSA" },
            { "kty": "EC", "crv": "P-521", "kid": "unknown" },
            { "kty": "RSA", "use": "enc", "n": "x", "e": "AQAB" },
        ] });
        let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
        assert!(
            keys.serves(Algorithm::Es256) && keys.serves(Algorithm::EdDsa) && !keys.serves(Algorithm::Rs256)
        );
        let rules = rules(&[Algorithm::Es256, Algorithm::EdDsa]);
        let by_ec = |message: &[u8]| ec.sign(&random, message).unwrap().as_ref().to_vec();
        let by_ed = |message: &[u8]| ed.sign(message).as_ref().to_vec();
        let check =
            |token: String| verify(token.as_bytes(), &keys, &rules, NOW).map(|claims| claims.text("sub"));
        assert_eq!(
            check(token(&json!({ "alg": "ES256", "kid": "ec" }), &usual(), by_ec)),
            Ok(Some("ada".into()))
        );
        assert_eq!(check(token(&json!({ "alg": "ES256" }), &usual(), by_ec)), Ok(Some("ada".into())));
        assert_eq!(
            check(token(&json!({ "alg": "EdDSA", "kid": "ed" }), &usual(), by_ed)),
            Ok(Some("ada".into()))
        );
        assert_eq!(
            check(token(&json!({ "alg": "EdDSA", "kid": "ec" }), &usual(), by_ed)),
            Err(Rejected::UnknownKey)
        );
        assert_eq!(
            check(token(&json!({ "alg": "ES256", "kid": "ec" }), &usual(), by_ed)),
            Err(Rejected::Signature)
        );
    }

    #[test]
    fn what_a_token_says_of_itself_opens_nothing() {
        let signed = |header: Value| token(&header, &usual(), by_secret);
        assert!(taken(&signed(json!({ "alg": "HS256" }))).is_ok());
        for (header, expected) in [
            (json!({ "alg": "none" }), Rejected::Algorithm),
            (json!({ "alg": "None" }), Rejected::Algorithm),
            (json!({ "alg": "hs256" }), Rejected::Algorithm),
            (json!({ "alg": "RS256" }), Rejected::Algorithm),
            (json!({ "alg": "HS256", "kid": "b" }), Rejected::UnknownKey),
            (json!({ "alg": "HS256", "crit": ["x"], "x": 1 }), Rejected::Malformed),
            (json!({ "typ": "JWT" }), Rejected::Malformed),
        ] {
            assert_eq!(taken(&signed(header.clone())), Err(expected), "{header}");
        }
        let unsigned = token(&json!({ "alg": "none" }), &usual(), |_| Vec::new());
        assert_eq!(taken(&unsigned), Err(Rejected::Algorithm));
        let without = token(&json!({ "alg": "HS256" }), &usual(), |_| Vec::new());
        assert_eq!(taken(&without), Err(Rejected::Signature));
        // A public key is nobody's shared secret, whatever is allowed.
        let public = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": encode([7; 32]) }] });
        let keys = KeySet::parse(public.to_string().as_bytes()).unwrap();
        let forged = token(&json!({ "alg": "HS256" }), &usual(), |message| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), message).as_ref().to_vec()
        });
        assert_eq!(verify(forged.as_bytes(), &keys, &rules(&Algorithm::ALL), NOW), Err(Rejected::UnknownKey));
    }

    #[test]
    fn claims_have_to_be_right() {
        let with = |change: fn(&mut Value)| {
            let mut claims = usual();
            change(&mut claims);
            taken(&of_secret(&claims)).map(|_| ())
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|claims| claims["exp"] = json!(NOW - 29)), Ok(()), "clocks differ");
        assert_eq!(with(|claims| claims["exp"] = json!(NOW - 30)), Err(Rejected::Expired));
        assert_eq!(with(|claims| claims["exp"] = json!("soon")), Err(Rejected::Malformed));
        assert_eq!(
            with(|claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
            Err(Rejected::NoExpiry)
        );
        assert_eq!(with(|claims| claims["nbf"] = json!(NOW + 30)), Ok(()));
        assert_eq!(with(|claims| claims["nbf"] = json!(NOW + 31)), Err(Rejected::NotYet));
        assert_eq!(with(|claims| claims["iss"] = json!("https://id.example/")), Err(Rejected::Issuer));
        assert_eq!(with(|claims| drop(claims.as_object_mut().unwrap().remove("iss"))), Err(Rejected::Issuer));
        assert_eq!(with(|claims| claims["aud"] = json!(["x", "store"])), Ok(()));
        assert_eq!(with(|claims| claims["aud"] = json!(["x"])), Err(Rejected::Audience));
        assert_eq!(
            with(|claims| drop(claims.as_object_mut().unwrap().remove("aud"))),
            Err(Rejected::Audience)
        );
    }

    #[test]
    fn nonsense_is_no_token() {
        let good = of_secret(&usual());
        for token in [
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            &good[1..],
            &format!("{good}."),
            &format!("{good}="),
            &good.replace('.', " "),
        ] {
            assert_eq!(taken(token), Err(Rejected::Malformed), "{token}");
        }
        assert_eq!(taken(&"a".repeat(1 << 20)), Err(Rejected::Malformed));
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(verify(&bytes, &secret_set(), &rules(&[Algorithm::Hs256]), NOW).is_err(), "{at}");
        }
    }

    #[test]
    fn claims_as_text() {
        let mut claims = usual();
        claims["roles"] = json!(["a", "b"]);
        claims["groups"] = json!(["staff", "x,admin", 7]);
        claims["scope"] = json!("read write");
        claims["n"] = json!(7);
        claims["evil"] = json!("x\r\nY: z");
        claims["deep"] = json!({ "a": 1 });
        let claims = taken(&of_secret(&claims)).unwrap();
        let text = |name: &str| claims.text(name);
        let line = |name: &str| claims.line(name);
        assert_eq!((text("roles"), text("n").as_deref()), (None, Some("7")));
        assert_eq!((line("roles").as_deref(), line("n").as_deref()), (Some("a,b"), Some("7")));
        assert_eq!(line("groups").as_deref(), Some("staff,7"), "nobody gets a role by a comma");
        assert_eq!((line("evil"), line("deep"), line("none")), (None, None, None));
        assert_eq!((text("evil"), text("deep"), text("none")), (None, None, None));
        assert_eq!((claims.list("roles"), claims.list("scope")), (vec!["a", "b"], vec!["read", "write"]));
    }

    #[test]
    fn words_are_items_of_scopes_and_roles_alone() {
        let mut claims = usual();
        claims["department"] = json!("foo admin");
        claims["groups"] = json!(["staff", "foo admin"]);
        claims["permissions"] = json!("read write");
        (claims["scope"], claims["scp"]) = (json!("read write"), json!("read write"));
        let claims = taken(&of_secret(&claims)).unwrap();
        for (name, value, expected) in [
            ("department", "admin", false),
            ("department", "foo admin", true),
            ("groups", "admin", false),
            ("groups", "staff", true),
            ("permissions", "write", true),
            ("scope", "write", true),
            ("scope", "writ", false),
            ("scp", "read", true),
            ("none", "read", false),
        ] {
            assert_eq!(claims.has(name, value, "permissions"), expected, "{name}: {value}");
        }
        assert!(!claims.has("permissions", "write", "roles"));
    }

    #[test]
    fn sets_of_keys_that_are_none() {
        let check = |text: &str, expected: &str| {
            let error = KeySet::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("", "no JWK Set");
        check("{}", "no JWK Set");
        check(r#"{"keys": []}"#, "no key in it");
        check(r#"{"keys": [{"kty": "RSA", "use": "enc"}]}"#, "no key in it");
        check(r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#, "key 0: an RSA key has 2048 bits");
        check(r#"{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}"#, "key 0: a shared secret");
        check(r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}]}"#, "P-256 has 32 bytes");
    }
}

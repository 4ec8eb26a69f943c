//! Which variables of an environment look like secrets, by name or by value. A guess, which is why it warns and refuses nothing.

use std::collections::{BTreeMap, BTreeSet};

/// Parts of names that secrets have.
const NAMES: [&str; 14] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "PWD",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "SIGNING_KEY",
    "ENCRYPTION_KEY",
    "CREDENTIALS",
];

/// Ends of names that say where a secret is, or something about one.
const ABOUT: [&str; 12] = [
    "_FILE",
    "_PATH",
    "_DIR",
    "_URL",
    "_URI",
    "_NAME",
    "_ID",
    "_TTL",
    "_LENGTH",
    "_ISSUER",
    "_ALGORITHM",
    "_EXPIRY",
];

/// How values begin that are secrets whatever their name is: tokens of well-known services, and keys.
const BEGINNINGS: [&str; 16] = [
    "-----BEGIN",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "sk_live_",
    "rk_live_",
    "sk-ant-",
    "sk-proj-",
    "xoxb-",
    "xoxp-",
    "npm_",
    "AKIA",
    "SG.",
    "hvs.",
];

/// The shortest value that is taken for a token by its beginning.
const TOKEN_LEN_MIN: usize = 16;

/// The names of variables that look like secrets, without those that the service does not get after all.
pub fn look_like_secrets<'a>(env: &'a BTreeMap<String, String>, unset: &BTreeSet<String>) -> Vec<&'a str> {
    let got = env.iter().filter(|(name, _)| !unset.contains(*name));
    let suspects = got.filter(|(name, value)| is_suspect(name, value));
    suspects.map(|(name, _)| name.as_str()).collect()
}

fn is_suspect(name: &str, value: &str) -> bool {
    // What says nothing is no secret.
    if value.is_empty() {
        return false;
    }
    has_secret_name(name) && !says_little(value) || is_secret_value(value)
}

/// Whole words of the name count: `COMPASS` has no password in it.
fn has_secret_name(name: &str) -> bool {
    let name = format!("_{}_", name.to_ascii_uppercase().replace('-', "_"));
    let ends = |end: &&str| name.strip_suffix('_').is_some_and(|name| name.ends_with(*end));
    let has = |word: &&str| match *word {
        // Often the end of one word, as in `PGPASSWORD` and `MYSQL_ROOTPASSWORD`.
        "PASSWORD" | "PASSWD" | "PASSPHRASE" | "SECRET" | "APIKEY" => name.contains(*word),
        word => name.contains(&format!("_{word}_")),
    };
    // `PWD` and `OLDPWD` are a shell's folders.
    let is_folder = matches!(name.as_str(), "_PWD_" | "_OLDPWD_");
    NAMES.iter().any(has) && !ABOUT.iter().any(ends) && !is_folder
}

/// A switch, a number or a path is about a secret.
fn says_little(value: &str) -> bool {
    let words = ["true", "false", "yes", "no", "on", "off", "none", "null"];
    words.iter().any(|word| value.eq_ignore_ascii_case(word))
        || value.len() < 6 && value.bytes().all(|byte| byte.is_ascii_digit())
        || value.starts_with('/')
}

fn is_secret_value(value: &str) -> bool {
    let begins = |start: &&str| value.starts_with(*start) && value.len() >= TOKEN_LEN_MIN;
    BEGINNINGS.iter().any(begins) || is_web_token(value) || has_password_in_url(value)
}

/// A JSON Web Token: three parts, the first of which is a JSON object in base64url (RFC 7519).
fn is_web_token(value: &str) -> bool {
    let parts: Vec<&str> = value.split('.').collect();
    let is_base64 =
        |part: &&str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    value.starts_with("eyJ") && parts.len() == 3 && parts.iter().all(is_base64)
}

/// `scheme://user:password@host` (RFC 3986 §3.2.1).
fn has_password_in_url(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else { return false };
    let is_scheme = !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    is_scheme && user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_of_secrets_are_told_from_others() {
        let check = |name: &str, value: &str, expected: bool| {
            assert_eq!(is_suspect(name, value), expected, "{name}={value}")
        };
        for name in [
            "DB_PASSWORD",
            "PGPASSWORD",
            "API_TOKEN",
            "api_key",
            "STRIPE_SECRET",
            "AWS_SECRET_ACCESS_KEY",
            "SMTP_PASS",
        ] {
            check(name, "hunter2000", true);
        }
        for name in
            ["COMPASS", "PASSENGER", "KEYBOARD", "PWD", "TOKENIZER", "MONKEY", "BYPASS_CACHE", "NODE_ENV"]
        {
            check(name, "hunter2000", false);
        }
        check("DB_PASSWORD", "", false);
        check("DB_PASSWORD_FILE", "/run/secrets/db", false);
        check("TOKEN", "/etc/token", false);
        check("TOKEN_TTL", "3600000", false);
        check("REQUIRE_PASSWORD", "true", false);
        check("DATABASE_URL", "postgres://shop:hunter2@db.internal:5432/shop", true);
        check("DATABASE_URL", "postgres://shop@db.internal:5432/shop", false);
        check("DATABASE_URL", "postgres://shop:@db.internal/shop", false);
        check("PROXY", "http://proxy.internal:3128/a@b", false);
        check("A", "-----BEGIN PRIVATE KEY-----\nMII", true);
        check("A", "ghp_0123456789abcdef0123", true);
        check("A", "ghp_", false);
        check("A", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", true);
        check("A", "eyJ", false);
        check("GREETING", "hello", false);
    }

    #[test]
    fn only_names_are_told() {
        let env = [("A", "1"), ("B_TOKEN", "valuevalue"), ("C_TOKEN", "valuevalue")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(look_like_secrets(&env, &BTreeSet::from(["C_TOKEN".to_owned()])), ["B_TOKEN"]);
    }
}

//! Whether a response may be stored for others, and how long it is fresh (RFC 9111 §3 and §4.2).

use crate::{
    control::{Control, SECONDS_MAX, seconds},
    date,
    facts::{Facts, Moment},
    fields::Fields,
    request::Asked,
};

/// What an operator has decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// How long responses are fresh that do not say it, in seconds.
    pub default_ttl_s: Option<u64>,
    /// The part of a response's age at which it came, in percent, for which it is fresh that does not say it.
    pub heuristic_percent: u64,
    /// For how long stale responses are used that do not say it, while another one is got. In seconds.
    pub while_revalidate_s: u64,
    /// And when none can be got.
    pub if_error_s: u64,
    /// What becomes of responses that set cookies.
    pub cookies: Cookies,
}

/// What becomes of responses that set cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cookies {
    /// They are not stored, unless they say that they are for everybody; then without their cookies.
    #[default]
    Refuse,
    /// They are stored without their cookies.
    Strip,
    /// They are stored with their cookies.
    Keep,
}

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unstorable {
    /// The client does not want it stored.
    Request,
    /// A part of a response, or one that is not known well enough.
    Status,
    /// The service does not want it stored.
    NoStore,
    /// It is for one client.
    Private,
    /// The service knew who asked, and does not say that it is for everybody.
    Authorized,
    /// It sets a cookie.
    SetCookie,
    /// The request had cookies, and the response does not say how long it is fresh.
    Cookie,
    /// No request can be told to be like this one.
    Vary,
    /// It is a stream of events.
    Stream,
    /// It is stale from the beginning, and nobody can be asked whether it is right.
    Useless,
    /// It is larger than may be.
    TooLarge,
    /// Whether it came as a whole cannot be told: it ends with its connection.
    Unframed,
    /// As much is being stored as may be.
    Busy,
}

impl Unstorable {
    /// A word for `Cache-Status`.
    pub const fn word(self) -> &'static str {
        match self {
            Unstorable::Request => "request-no-store",
            Unstorable::Status => "status",
            Unstorable::NoStore => "no-store",
            Unstorable::Private => "private",
            Unstorable::Authorized => "authorized",
            Unstorable::SetCookie => "set-cookie",
            Unstorable::Cookie => "cookie",
            Unstorable::Vary => "vary",
            Unstorable::Stream => "stream",
            Unstorable::Useless => "no-freshness",
            Unstorable::TooLarge => "too-large",
            Unstorable::Unframed => "unframed",
            Unstorable::Busy => "busy",
        }
    }
}

/// A response that may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// How fresh it is.
    pub facts: Facts,
    /// It says itself how long it is fresh.
    pub is_explicit: bool,
    /// Names of fields that are not stored, in lower case.
    pub(crate) omitted: Vec<Vec<u8>>,
}

/// Decides about a response to GET or HEAD. `waited_ms`: how long the service took.
pub fn judge(
    asked: &Asked,
    status: u16,
    fields: Fields<'_>,
    settings: &Settings,
    waited_ms: u64,
    now: Moment,
) -> Result<Judged, Unstorable> {
    let control = Control::of(fields);
    let must_understand = control.must_understand && is_understood(status);
    if asked.no_store {
        return Err(Unstorable::Request);
    }
    if matches!(status, ..200 | 206 | 304 | 600..) || control.must_understand && !must_understand {
        return Err(Unstorable::Status);
    }
    if control.no_store && !must_understand {
        return Err(Unstorable::NoStore);
    }
    if control.private {
        return Err(Unstorable::Private);
    }
    // RFC 9111 §3.5.
    let is_for_all = control.public || control.s_maxage.is_some();
    if asked.is_authorized && !is_for_all && !control.must_revalidate {
        return Err(Unstorable::Authorized);
    }
    let sets_cookie = fields.has("set-cookie");
    if sets_cookie && settings.cookies == Cookies::Refuse && !is_for_all && !control.is_targeted {
        return Err(Unstorable::SetCookie);
    }
    if fields.first("content-type").is_some_and(is_stream) {
        return Err(Unstorable::Stream);
    }
    if fields.elements("vary").any(|name| name == b"*") {
        return Err(Unstorable::Vary);
    }
    let (lifetime_s, is_explicit) = lifetime(status, fields, &control, settings, now);
    // Also where it is stale from the beginning: it would be given to others by a 304, or while another one is got.
    if !is_explicit && asked.has_cookie && !control.public {
        return Err(Unstorable::Cookie);
    }
    let facts = facts(status, fields, &control, settings, lifetime_s, waited_ms, now);
    let has_validator = fields.has("etag") || fields.has("last-modified");
    let is_fresh = facts.lifetime_s > facts.initial_age_s && !facts.no_cache;
    if !is_fresh && !has_validator {
        return Err(Unstorable::Useless);
    }
    let mut omitted = control.no_cache_fields;
    if sets_cookie && settings.cookies != Cookies::Keep {
        omitted.push(b"set-cookie".to_vec());
    }
    Ok(Judged { facts, is_explicit, omitted })
}

fn facts(
    status: u16,
    fields: Fields<'_>,
    control: &Control,
    settings: &Settings,
    lifetime_s: u64,
    waited_ms: u64,
    now: Moment,
) -> Facts {
    let revalidates = control.must_revalidate || control.proxy_revalidate;
    let strict = revalidates || control.s_maxage.is_some();
    // `s-maxage` forbids it by itself (RFC 9111 §5.2.2.10); whoever writes both means what he wrote beside it.
    let after = |said: Option<u64>, default: u64| match said {
        _ if revalidates || control.no_cache => 0,
        Some(said) => said,
        // What the operator says is about responses that were fresh once.
        None if strict || lifetime_s == 0 => 0,
        None => default,
    };
    let date_s = fields.first("date").and_then(date::seconds);
    let apparent_s = date_s.map_or(0, |date_s| now.unix_s.saturating_sub(date_s));
    let corrected_s = age(fields).saturating_add(waited_ms / 1000);
    Facts {
        status,
        received_ms: now.ms,
        initial_age_s: apparent_s.max(corrected_s).min(SECONDS_MAX),
        lifetime_s: lifetime_s.min(SECONDS_MAX),
        no_cache: control.no_cache,
        strict,
        while_revalidate_s: after(control.while_revalidate, settings.while_revalidate_s),
        if_error_s: after(control.if_error, settings.if_error_s),
        date_s: date_s.unwrap_or(now.unix_s),
    }
}

/// How long a response is fresh from when it was made, and whether it says so itself (RFC 9111 §4.2.1).
fn lifetime(
    status: u16,
    fields: Fields<'_>,
    control: &Control,
    settings: &Settings,
    now: Moment,
) -> (u64, bool) {
    if let Some(said) = control.s_maxage.or(control.max_age) {
        return (said, true);
    }
    let date_s = fields.first("date").and_then(date::seconds).unwrap_or(now.unix_s);
    if !control.is_targeted
        && let Some(expires) = fields.first("expires")
    {
        return (date::seconds(expires).map_or(0, |expires| expires.saturating_sub(date_s)), true);
    }
    if !is_heuristically_cacheable(status) && !control.public {
        return (0, false);
    }
    if let Some(default) = settings.default_ttl_s.filter(|_| status < 400) {
        return (default, false);
    }
    let modified = fields.first("last-modified").and_then(date::seconds);
    let unchanged_s = modified.map_or(0, |modified| date_s.saturating_sub(modified));
    let part_s = unchanged_s.saturating_mul(settings.heuristic_percent) / 100;
    (part_s.min(HEURISTIC_MAX_S), false)
}

/// A day: what a part of the age says no longer (RFC 9111 §4.2.2).
const HEURISTIC_MAX_S: u64 = 86_400;

/// How old a response says that it is. One that says it twice, or what is no number, is as old as can be: whoever says that is not to be
/// taken at his word in the other direction.
///
/// Lines that somebody on the way has joined, which is done with a comma and a space (RFC 9110 §5.3), are two as well. Of what was written as a list
/// the first element counts (RFC 9111 §5.1).
fn age(fields: Fields<'_>) -> u64 {
    let mut lines = fields.values("age");
    match (lines.next(), lines.next()) {
        (None, _) => 0,
        (Some(line), None) if memchr::memmem::find(line, b", ").is_none() => {
            let first = line.split(|byte| *byte == b',').next().unwrap_or_default();
            seconds(first).unwrap_or(SECONDS_MAX)
        }
        (Some(_), _) => SECONDS_MAX,
    }
}

/// RFC 9110 §15.1, without 206.
const fn is_heuristically_cacheable(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Those of RFC 9110 §15 that a stored response may have.
const fn is_understood(status: u16) -> bool {
    matches!(status, 200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

fn is_stream(kind: &[u8]) -> bool {
    const STREAM: &[u8] = b"text/event-stream";
    kind.len() >= STREAM.len() && kind[..STREAM.len()].eq_ignore_ascii_case(STREAM)
}

#[cfg(test)]
mod tests {
    use super::{super::fields::tests::with, *};

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: Moment = Moment { ms: 50_000, unix_s: 784_111_777 };

    fn judged(asked: &Asked, status: u16, text: &str) -> Result<Facts, Unstorable> {
        let settings = Settings { heuristic_percent: 10, ..Settings::default() };
        with(text, |fields| judge(asked, status, fields, &settings, 0, NOW)).map(|judged| judged.facts)
    }

    fn lifetime(text: &str) -> u64 {
        judged(&Asked::default(), 200, &format!("ETag: x\n{text}")).unwrap().lifetime_s
    }

    #[test]
    fn what_is_not_for_others_is_not_stored() {
        let plain = Asked::default();
        let known = Asked { is_authorized: true, ..Asked::default() };
        for (asked, text, expected) in [
            (&plain, "Cache-Control: max-age=60, no-store", Unstorable::NoStore),
            (&plain, "Cache-Control: max-age=60, private", Unstorable::Private),
            (&plain, "CDN-Cache-Control: private\nCache-Control: max-age=60", Unstorable::Private),
            (&known, "Cache-Control: max-age=60", Unstorable::Authorized),
            (&known, "Expires: Sun, 06 Nov 1995 08:49:37 GMT", Unstorable::Authorized),
            (&plain, "Cache-Control: max-age=60\nSet-Cookie: a=b", Unstorable::SetCookie),
            (&plain, "Cache-Control: max-age=60\nVary: a, *", Unstorable::Vary),
            (&plain, "Cache-Control: max-age=60\nContent-Type: Text/event-stream; x", Unstorable::Stream),
            (&plain, "Cache-Control: max-age=0", Unstorable::Useless),
            (&plain, "Cache-Control: no-cache", Unstorable::Useless),
            (&plain, "", Unstorable::Useless),
            (&Asked { no_store: true, ..Asked::default() }, "Cache-Control: max-age=60", Unstorable::Request),
            (
                &Asked { has_cookie: true, ..Asked::default() },
                "Last-Modified: Sun, 06 Nov 1983 08:49:37 GMT",
                Unstorable::Cookie,
            ),
            (&Asked { has_cookie: true, ..Asked::default() }, "ETag: \"a\"", Unstorable::Cookie),
        ] {
            assert_eq!(judged(asked, 200, text), Err(expected), "{text}");
        }
        for status in [206, 304, 101] {
            assert_eq!(judged(&plain, status, "Cache-Control: max-age=60"), Err(Unstorable::Status));
        }
        assert_eq!(
            judged(&plain, 599, "Cache-Control: max-age=60, must-understand"),
            Err(Unstorable::Status)
        );
        assert!(judged(&plain, 599, "Cache-Control: max-age=60").is_ok());
        assert!(judged(&plain, 200, "Cache-Control: max-age=60, must-understand, no-store").is_ok());
    }

    #[test]
    fn what_is_for_all_is_stored_whoever_asked() {
        let known = Asked { is_authorized: true, ..Asked::default() };
        for control in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
            assert!(judged(&known, 200, &format!("Cache-Control: {control}")).is_ok(), "{control}");
        }
        let text = "Cache-Control: public, max-age=60\nSet-Cookie: a=b";
        let settings = Settings::default();
        let judged = with(text, |fields| judge(&Asked::default(), 200, fields, &settings, 0, NOW)).unwrap();
        assert_eq!(judged.omitted, [b"set-cookie"]);
    }

    #[test]
    fn freshness_is_what_was_said_for_shared_caches_first() {
        for (text, expected) in [
            ("Cache-Control: max-age=60", 60),
            ("Cache-Control: max-age=60, s-maxage=1", 1),
            ("Cache-Control: max-age=60\nExpires: 0", 60),
            ("Cache-Control: max-age=60\nCDN-Cache-Control: max-age=5", 5),
            ("Expires: Sun, 06 Nov 1994 08:50:37 GMT", 60),
            ("Expires: Sun, 06 Nov 1994 08:50:37 GMT\nDate: Sun, 06 Nov 1994 08:49:47 GMT", 50),
            ("Expires: Sun, 06 Nov 1994 08:50:37 GMT\nDate: foo", 60),
            ("Expires: 0", 0),
            ("Last-Modified: Sun, 06 Nov 1994 08:48:37 GMT", 6),
            ("Last-Modified: Sun, 06 Nov 1983 08:48:37 GMT", HEURISTIC_MAX_S),
            ("Last-Modified: Sun, 06 Nov 1995 08:48:37 GMT", 0),
        ] {
            assert_eq!(lifetime(text), expected, "{text}");
        }
        let of_status =
            |status, text: &str| judged(&Asked::default(), status, text).map(|facts| facts.lifetime_s);
        let old = "Last-Modified: Sun, 06 Nov 1994 08:48:37 GMT";
        assert_eq!((of_status(404, old), of_status(403, old)), (Ok(6), Ok(0)));
        assert_eq!(of_status(599, &format!("{old}\nCache-Control: public")), Ok(6));
    }

    #[test]
    fn a_default_is_for_what_says_nothing_and_went_well() {
        let settings = Settings { default_ttl_s: Some(30), ..Settings::default() };
        let ttl = |status, text: &str, asked: &Asked| {
            with(text, |fields| judge(asked, status, fields, &settings, 0, NOW))
                .map(|judged| judged.facts.lifetime_s)
        };
        let plain = Asked::default();
        assert_eq!(ttl(200, "X: 1", &plain), Ok(30));
        assert_eq!(ttl(200, "Cache-Control: max-age=0\nETag: x", &plain), Ok(0));
        assert_eq!(ttl(404, "X: 1", &plain), Err(Unstorable::Useless));
        assert_eq!(ttl(302, "X: 1", &plain), Err(Unstorable::Useless));
        let cookie = Asked { has_cookie: true, ..Asked::default() };
        assert_eq!(ttl(200, "X: 1", &cookie), Err(Unstorable::Cookie));
        assert_eq!(ttl(200, "Cache-Control: public", &cookie), Ok(30));
    }

    #[test]
    fn how_old_a_response_was_when_it_came() {
        let age = |text: &str| {
            let text = format!("Cache-Control: max-age=9\nETag: x\n{text}");
            judged(&Asked::default(), 200, &text).unwrap().initial_age_s
        };
        for (text, expected) in [
            ("Age: 30", 30),
            ("Age: 30,60", 30),
            ("Age: 0, 0", SECONDS_MAX),
            ("Age: 0\nAge: 0", SECONDS_MAX),
            ("Age: abc", SECONDS_MAX),
            ("Age: -1", SECONDS_MAX),
            ("Age: 1.0", SECONDS_MAX),
            ("Age: 7;a=b", SECONDS_MAX),
            ("Date: Sun, 06 Nov 1994 08:49:17 GMT", 20),
            ("Date: Sun, 06 Nov 1994 08:49:17 GMT\nAge: 25", 25),
            ("Date: Sun, 06 Nov 1994 09:49:17 GMT\nAge: 5", 5),
        ] {
            assert_eq!(age(text), expected, "{text}");
        }
        let waited = with("Cache-Control: max-age=9\nAge: 5", |fields| {
            judge(&Asked::default(), 200, fields, &Settings::default(), 2_999, NOW)
        });
        assert_eq!(waited.unwrap().facts.initial_age_s, 7);
    }

    #[test]
    fn stale_responses_are_used_where_nothing_forbids_it() {
        let settings = Settings { while_revalidate_s: 5, if_error_s: 6, ..Settings::default() };
        let times = |control: &str| {
            let text = format!("ETag: x\nCache-Control: {control}");
            let judged =
                with(&text, |fields| judge(&Asked::default(), 200, fields, &settings, 0, NOW)).unwrap();
            (judged.facts.while_revalidate_s, judged.facts.if_error_s)
        };
        for (control, expected) in [
            ("max-age=1", (5, 6)),
            ("max-age=1, stale-while-revalidate=9, stale-if-error=8", (9, 8)),
            ("max-age=1, must-revalidate, stale-if-error=8", (0, 0)),
            ("max-age=1, proxy-revalidate", (0, 0)),
            ("s-maxage=1", (0, 0)),
            ("s-maxage=1, stale-while-revalidate=9", (9, 0)),
            ("no-cache, stale-while-revalidate=9", (0, 0)),
        ] {
            assert_eq!(times(control), expected, "{control}");
        }
    }
}

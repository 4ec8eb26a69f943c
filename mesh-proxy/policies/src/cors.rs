//! Which pages of other origins may read what a service answers (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! The gateway answers preflights by itself, and writes the fields of all other responses in place of the service's: two
//! `Access-Control-Allow-Origin` are none.

/// Who may, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// The pages.
    pub origins: Origins,
    /// The methods that they may use.
    pub methods: Vec<Box<str>>,
    /// The request headers that they may set, in lower case; `None`: whatever they ask for.
    pub headers: Option<Vec<Box<str>>>,
    /// The response headers that they may read besides those that all may.
    pub expose: Vec<Box<str>>,
    /// Whether cookies and the like go with it.
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight, in seconds.
    pub max_age_s: Option<u64>,
}

/// The origins that may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every one. Never with credentials: anybody's page could act as its visitor then.
    Any,
    /// These.
    Listed(Vec<Origin>),
}

/// A set of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This one, as browsers write it: `https://example.org`, in lower case and without the usual port.
    Is(Box<str>),
    /// Every host below a name: what stands before the host, and what behind its labels.
    Below {
        /// `https://`.
        scheme: Box<str>,
        /// `.example.org`, with the port where there is one.
        end: Box<str>,
    },
}

impl Origin {
    /// As it is written: `https://example.org`, or `https://*.example.org`.
    pub fn new(text: &str) -> Origin {
        let text = text.to_ascii_lowercase();
        match text.split_once("://*") {
            Some((scheme, end)) => Origin::Below { scheme: format!("{scheme}://").into(), end: end.into() },
            None => Origin::Is(text.into()),
        }
    }

    fn has(&self, origin: &[u8]) -> bool {
        match self {
            Origin::Is(text) => text.as_bytes() == origin,
            Origin::Below { scheme, end } => {
                let rest = origin.strip_prefix(scheme.as_bytes());
                let labels = rest.and_then(|rest| rest.strip_suffix(end.as_bytes()));
                let is_of_host = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
                labels.is_some_and(|labels| !labels.is_empty() && labels.iter().all(is_of_host))
            }
        }
    }
}

/// A question that a browser asks before it sends a request of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preflight<'r> {
    /// Whose page it is.
    pub origin: &'r [u8],
    /// `Access-Control-Request-Method`.
    pub method: &'r [u8],
    /// `Access-Control-Request-Headers`.
    pub headers: Option<&'r [u8]>,
}

/// What of a preflight is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The page.
    Origin,
    /// The method.
    Method,
    /// A header, or the list of them is none.
    Header,
}

impl Cors {
    /// Appends the fields of the answer to a preflight, as lines.
    pub fn answer(&self, asked: &Preflight<'_>, out: &mut Vec<u8>) -> Result<(), Denied> {
        if !self.has(asked.origin) {
            return Err(Denied::Origin);
        }
        if !self.methods.iter().any(|method| method.as_bytes() == asked.method) {
            return Err(Denied::Method);
        }
        if !self.allows_headers(asked.headers.unwrap_or_default()) {
            return Err(Denied::Header);
        }
        self.write_origin(asked.origin, out);
        line(out, "Access-Control-Allow-Methods", self.methods.join(", ").as_bytes());
        match (&self.headers, asked.headers) {
            (Some(listed), _) if !listed.is_empty() => {
                line(out, "Access-Control-Allow-Headers", listed.join(", ").as_bytes());
            }
            (None, Some(asked)) if !asked.is_empty() => line(out, "Access-Control-Allow-Headers", asked),
            (Some(_) | None, _) => {}
        }
        if let Some(seconds) = self.max_age_s {
            line(out, "Access-Control-Max-Age", seconds.to_string().as_bytes());
        }
        line(out, "Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
        Ok(())
    }

    /// Appends the fields of a response to a request of this origin, or of none, as lines. What is not allowed gets no permission; that the
    /// response depends on the origin is said in any case, so that no cache gives one page's to another.
    pub fn write(&self, origin: Option<&[u8]>, out: &mut Vec<u8>) {
        let is_any = self.origins == Origins::Any;
        if is_any || origin.is_some_and(|origin| self.has(origin)) {
            self.write_origin(origin.unwrap_or_default(), out);
            if !self.expose.is_empty() {
                line(out, "Access-Control-Expose-Headers", self.expose.join(", ").as_bytes());
            }
        }
        if !is_any {
            line(out, "Vary", b"Origin");
        }
    }

    /// Whether a field of a service's response is left out for those that are written here.
    pub fn replaces(name: &[u8]) -> bool {
        const PREFIX: &[u8] = b"access-control-";
        name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    }

    fn has(&self, origin: &[u8]) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::Listed(listed) => listed.iter().any(|one| one.has(origin)),
        }
    }

    /// Whether all of these may be set. What is no list of names is not repeated to anybody.
    fn allows_headers(&self, asked: &[u8]) -> bool {
        let may = |name: &[u8]| match &self.headers {
            None => name.iter().all(|byte| is_token_byte(*byte)),
            Some(listed) => listed.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(name)),
        };
        asked.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).all(|name| name.is_empty() || may(name))
    }

    fn write_origin(&self, origin: &[u8], out: &mut Vec<u8>) {
        match self.origins {
            Origins::Any => line(out, "Access-Control-Allow-Origin", b"*"),
            Origins::Listed(_) => {
                line(out, "Access-Control-Allow-Origin", origin);
                if self.credentials {
                    line(out, "Access-Control-Allow-Credentials", b"true");
                }
            }
        }
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: match origins {
                ["*"] => Origins::Any,
                listed => Origins::Listed(listed.iter().map(|text| Origin::new(text)).collect()),
            },
            methods: vec!["GET".into(), "PUT".into()],
            headers: None,
            expose: Vec::new(),
            credentials,
            max_age_s: None,
        }
    }

    fn asked<'a>(origin: &'a str, method: &'a str, headers: Option<&'a str>) -> Preflight<'a> {
        Preflight {
            origin: origin.as_bytes(),
            method: method.as_bytes(),
            headers: headers.map(str::as_bytes),
        }
    }

    fn answered(cors: &Cors, asked: &Preflight<'_>) -> Result<String, Denied> {
        let mut out = Vec::new();
        cors.answer(asked, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    fn written(cors: &Cors, origin: Option<&str>) -> String {
        let mut out = Vec::new();
        cors.write(origin.map(str::as_bytes), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn origins_are_those_that_were_listed() {
        let cors =
            cors(&["https://App.example.org", "https://*.example.com", "http://*.dev.local:8080"], false);
        for origin in [
            "https://app.example.org",
            "https://a.example.com",
            "https://a.b.example.com",
            "http://x.dev.local:8080",
        ] {
            assert!(written(&cors, Some(origin)).contains(&format!("-Origin: {origin}\r\n")), "{origin}");
        }
        for origin in [
            "http://app.example.org",
            "https://app.example.org:8443",
            "https://app.example.org.evil.net",
            "https://example.com",
            "https://.example.com",
            "https://evil.net/.example.com",
            "https://evil.net#.example.com",
            "https://user@evil.example.com",
            "https://evilexample.com",
            "http://x.dev.local",
            "null",
            "",
        ] {
            assert_eq!(written(&cors, Some(origin)), "Vary: Origin\r\n", "{origin}");
        }
        assert_eq!(written(&cors, None), "Vary: Origin\r\n");
    }

    #[test]
    fn every_origin_is_a_star_and_never_has_credentials() {
        let lines = "Access-Control-Allow-Origin: *\r\n";
        for credentials in [false, true] {
            let cors = cors(&["*"], credentials);
            assert_eq!(written(&cors, Some("https://a.example")), lines);
            assert_eq!(written(&cors, None), lines);
        }
        let listed = cors(&["https://a.example"], true);
        assert_eq!(
            written(&listed, Some("https://a.example")),
            "Access-Control-Allow-Origin: https://a.example\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"
        );
    }

    #[test]
    fn preflights_are_answered_or_denied() {
        let mut cors = cors(&["https://a.example"], false);
        cors.max_age_s = Some(600);
        let lines = answered(&cors, &asked("https://a.example", "PUT", Some("x-one, X-Two"))).unwrap();
        assert_eq!(
            lines,
            "Access-Control-Allow-Origin: https://a.example\r\n\
             Access-Control-Allow-Methods: GET, PUT\r\n\
             Access-Control-Allow-Headers: x-one, X-Two\r\n\
             Access-Control-Max-Age: 600\r\n\
             Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
        );
        let denied = |origin, method, headers| answered(&cors, &asked(origin, method, headers)).unwrap_err();
        assert_eq!(denied("https://b.example", "PUT", None), Denied::Origin);
        assert_eq!(denied("https://a.example", "DELETE", None), Denied::Method);
        assert_eq!(denied("https://a.example", "put", None), Denied::Method);
        assert_eq!(denied("https://a.example", "PUT", Some("x one")), Denied::Header);
        assert!(!answered(&cors, &asked("https://a.example", "GET", None)).unwrap().contains("Headers: "));
    }

    #[test]
    fn listed_headers_are_the_only_ones() {
        let mut cors = cors(&["*"], false);
        cors.headers = Some(vec!["content-type".into(), "x-one".into()]);
        let lines = answered(&cors, &asked("https://a.example", "GET", Some("X-One,content-type"))).unwrap();
        assert!(lines.contains("Access-Control-Allow-Headers: content-type, x-one\r\n"), "{lines}");
        let denied = answered(&cors, &asked("https://a.example", "GET", Some("x-one, x-two")));
        assert_eq!(denied, Err(Denied::Header));
    }

    #[test]
    fn fields_of_the_service_give_way() {
        for (name, expected) in [
            ("Access-Control-Allow-Origin", true),
            ("access-control-max-age", true),
            ("Access-Control", false),
            ("Origin", false),
            ("Vary", false),
        ] {
            assert_eq!(Cors::replaces(name.as_bytes()), expected, "{name}");
        }
    }
}

//! Who may do what: rules by method, path, caller, and what is known of whoever asks.
//!
//! The first rule that fits decides, and where none does it is the opposite of the last one's word: as with addresses, a list that ends with an
//! allowance says who may, and one that ends with a denial who may not.
//!
//! A path may be read in several ways, by whoever decodes escapes or resolves dots and by whoever does not, and some services do not tell letters
//! apart. So a denial fits where its path does in any of them and in any letters, and an allowance only where it does in all of them as it is
//! written: whatever the service makes of a path, it is one that was allowed and none that was denied. With the letters of names in certificates
//! it is the same, but for hosts, in which they are never told apart.

/// One of the rules. What it does not say it does not ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// What it says.
    pub allows: bool,
    /// One of these methods; GET is HEAD as well.
    pub methods: Vec<Box<str>>,
    /// This path, or one below it.
    pub path: Option<Path>,
    /// One of these roles is had.
    pub roles: Vec<Box<str>>,
    /// It is one of these.
    pub users: Vec<Box<str>>,
    /// Each of these claims has one of its values.
    pub claims: Vec<(Box<str>, Vec<Box<str>>)>,
    /// One of these calls; none is anybody.
    pub callers: Vec<Caller>,
    /// It is shown a certificate, with one of these names of each kind; of a kind without any nothing is asked.
    pub certificate: Option<Names>,
}

/// Names in a certificate, as RFC 5280 has them: of the subject the common ones (§4.1.2.6), and the alternative ones (§4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// `CN` of the subject.
    pub common: Vec<Box<str>>,
    /// Hosts.
    pub dns: Vec<Box<str>>,
    /// URIs, as SPIFFE has them.
    pub uris: Vec<Box<str>>,
    /// Mail addresses.
    pub emails: Vec<Box<str>>,
}

impl Names {
    /// Whether a certificate with the names `had` has one of each kind that is asked for here.
    fn fit(&self, had: &Names, same: fn(&str, &str) -> bool) -> bool {
        let fit = |asked: &[Box<str>], had: &[Box<str>], same: fn(&str, &str) -> bool| {
            asked.is_empty() || asked.iter().any(|asked| had.iter().any(|had| same(asked, had)))
        };
        fit(&self.common, &had.common, same)
            && fit(&self.dns, &had.dns, str::eq_ignore_ascii_case)
            && fit(&self.uris, &had.uris, same)
            && fit(&self.emails, &had.emails, same)
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A client, by the gateway.
    Client,
    /// A service.
    Service(Box<str>),
}

/// A path and everything below it. A segment `*` is any one that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<Box<[u8]>>);

impl Path {
    /// `/orders/*/items`. A slash at the end changes nothing.
    pub fn new(text: &str) -> Path {
        let segments = text.trim_end_matches('/').split('/').skip(1);
        Path(segments.map(|segment| segment.as_bytes().into()).collect())
    }

    fn takes(&self, path: &[u8], same: fn(&[u8], &[u8]) -> bool) -> bool {
        let mut segments = path.split(|byte| *byte == b'/').skip(1);
        self.0.iter().all(|wanted| match segments.next() {
            Some(segment) if **wanted == *b"*" => !segment.is_empty(),
            Some(segment) => same(wanted, segment),
            None => false,
        })
    }
}

/// What is known of whoever asks.
pub trait Known {
    /// The name.
    fn name(&self) -> &str;
    /// Whether a role is had.
    fn has_role(&self, role: &str) -> bool;
    /// Whether a claim has this value, or it among others.
    fn has_claim(&self, name: &str, value: &str) -> bool;
}

/// What is asked.
pub struct Asked<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Its path in every way that somebody may read it; one at least.
    pub paths: &'a [Vec<u8>],
    /// Who calls; `None` is somebody of whom no rule knows.
    pub caller: Option<&'a Caller>,
    /// Who it is, where that is known.
    pub known: Option<&'a dyn Known>,
    /// The names in the certificate that the client has shown, which was verified.
    pub certificate: Option<&'a Names>,
}

/// Whether it is allowed.
pub fn allows(rules: &[Rule], asked: &Asked<'_>) -> bool {
    let first = rules.iter().find(|rule| rule.fits(asked));
    match (first, rules.last()) {
        (Some(rule), _) => rule.allows,
        (None, Some(last)) => !last.allows,
        (None, None) => true,
    }
}

impl Rule {
    fn fits(&self, asked: &Asked<'_>) -> bool {
        let is_method =
            |method: &str| method.as_bytes() == asked.method || asked.method == b"HEAD" && method == "GET";
        let is_known = |test: &dyn Fn(&dyn Known) -> bool| asked.known.is_some_and(test);
        (self.methods.is_empty() || self.methods.iter().any(|method| is_method(method)))
            && self.path.as_ref().is_none_or(|path| self.fits_path(path, asked.paths))
            && (self.callers.is_empty() || asked.caller.is_some_and(|caller| self.callers.contains(caller)))
            && (self.roles.is_empty()
                || is_known(&|known| self.roles.iter().any(|role| known.has_role(role))))
            && (self.users.is_empty()
                || is_known(&|known| self.users.iter().any(|user| **user == *known.name())))
            && self.claims.iter().all(|(name, values)| {
                is_known(&|known| values.iter().any(|value| known.has_claim(name, value)))
            })
            && self.certificate.as_ref().is_none_or(|names| self.fits_certificate(names, asked.certificate))
    }

    fn fits_certificate(&self, names: &Names, shown: Option<&Names>) -> bool {
        let same =
            if self.allows { |one: &str, other: &str| one == other } else { str::eq_ignore_ascii_case };
        shown.is_some_and(|shown| names.fit(shown, same))
    }

    fn fits_path(&self, path: &Path, readings: &[Vec<u8>]) -> bool {
        match self.allows {
            true => readings.iter().all(|reading| path.takes(reading, |one, other| one == other)),
            false => readings.iter().any(|reading| path.takes(reading, <[u8]>::eq_ignore_ascii_case)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ada;

    impl Known for Ada {
        fn name(&self) -> &str {
            "ada"
        }

        fn has_role(&self, role: &str) -> bool {
            role == "admin"
        }

        fn has_claim(&self, name: &str, value: &str) -> bool {
            (name, value) == ("tenant", "blue")
        }
    }

    fn allow() -> Rule {
        Rule { allows: true, ..Rule::default() }
    }

    fn asks(rules: &[Rule], method: &str, paths: &[&str]) -> bool {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let asked = Asked {
            method: method.as_bytes(),
            paths: &paths,
            caller: Some(&Caller::Client),
            known: Some(&Ada),
            certificate: None,
        };
        allows(rules, &asked)
    }

    #[test]
    fn the_first_that_fits_decides_and_else_the_opposite_of_the_last() {
        let path = |allows, path: &str| Rule { allows, path: Some(Path::new(path)), ..Rule::default() };
        let open = [path(true, "/admin/health"), path(false, "/admin")];
        let closed = [path(false, "/orders/secret"), path(true, "/orders")];
        for (target, expected) in [("/", true), ("/admin", false), ("/admin/health", true), ("/admins", true)]
        {
            assert_eq!(asks(&open, "GET", &[target]), expected, "{target}");
        }
        for (target, expected) in
            [("/", false), ("/orders", true), ("/orders/", true), ("/orders/secret/x", false)]
        {
            assert_eq!(asks(&closed, "GET", &[target]), expected, "{target}");
        }
        assert!(asks(&[], "GET", &["/"]));
    }

    #[test]
    fn no_reading_of_a_path_gets_past() {
        let deny = [Rule { path: Some(Path::new("/admin")), ..Rule::default() }];
        let may = [Rule { path: Some(Path::new("/public")), ..allow() }];
        for (readings, denied, allowed) in [
            (&["/public"][..], false, true),
            (&["/PUBLIC"], false, false),
            (&["/ADMIN"], true, false),
            (&["/public/..%2fadmin", "/public/../admin", "/admin"], true, false),
            (&["/public/x", "/public"], false, true),
        ] {
            assert_eq!(asks(&deny, "GET", readings), !denied, "{readings:?}");
            assert_eq!(asks(&may, "GET", readings), allowed, "{readings:?}");
        }
    }

    #[test]
    fn all_that_a_rule_says_has_to_hold() {
        let text = |texts: &[&str]| -> Vec<Box<str>> { texts.iter().map(|text| (*text).into()).collect() };
        let claim = |value: &str| vec![("tenant".into(), text(&["red", value]))];
        let service = vec![Caller::Service("web".into())];
        for (rule, expected) in [
            (Rule { methods: text(&["GET", "PUT"]), ..allow() }, true),
            (Rule { methods: text(&["PUT"]), ..allow() }, false),
            (Rule { roles: text(&["x", "admin"]), ..allow() }, true),
            (Rule { roles: text(&["x"]), ..allow() }, false),
            (Rule { users: text(&["ada"]), ..allow() }, true),
            (Rule { users: text(&["bob"]), ..allow() }, false),
            (Rule { claims: claim("blue"), ..allow() }, true),
            (Rule { claims: claim("green"), ..allow() }, false),
            (Rule { roles: text(&["admin"]), users: text(&["bob"]), ..allow() }, false),
            (Rule { callers: vec![Caller::Client], ..allow() }, true),
            (Rule { callers: service, ..allow() }, false),
            (Rule { path: Some(Path::new("/a/*/c")), ..allow() }, true),
            (Rule { path: Some(Path::new("/a/b/c/d/e")), ..allow() }, false),
        ] {
            assert_eq!(asks(std::slice::from_ref(&rule), "HEAD", &["/a/b/c/d"]), expected, "{rule:?}");
        }
    }

    #[test]
    fn nobody_has_no_role_and_no_claim() {
        let rules = [Rule { roles: vec!["admin".into()], ..allow() }];
        let asked =
            Asked { method: b"GET", paths: &[b"/".to_vec()], caller: None, known: None, certificate: None };
        assert!(!allows(&rules, &asked));
        let from = [Rule { callers: vec![Caller::Client], ..allow() }];
        assert!(!allows(&from, &asked));
        let with_any = [Rule { certificate: Some(Names::default()), ..allow() }];
        assert!(!allows(&with_any, &asked));
    }

    #[test]
    fn one_name_of_each_kind_that_is_asked_for_is_in_the_certificate() {
        let of = |common: &[&str], dns: &[&str], uris: &[&str], emails: &[&str]| {
            let boxed = |texts: &[&str]| texts.iter().map(|text| Box::from(*text)).collect();
            Names { common: boxed(common), dns: boxed(dns), uris: boxed(uris), emails: boxed(emails) }
        };
        let shown = of(&["alice"], &["a.example", "b.example"], &["spiffe://shop/a"], &["alice@a.example"]);
        // Whether an allowance with these names fits, and a denial.
        for (names, allowance, denial) in [
            (of(&[], &[], &[], &[]), true, true),
            (of(&["bob", "alice"], &[], &[], &[]), true, true),
            (of(&["bob"], &[], &[], &[]), false, false),
            (of(&["Alice"], &[], &[], &[]), false, true),
            (of(&[], &["B.example"], &[], &[]), true, true),
            (of(&[], &["c.example"], &[], &[]), false, false),
            (of(&[], &[], &["spiffe://shop/a"], &[]), true, true),
            (of(&[], &[], &["spiffe://shop"], &[]), false, false),
            (of(&[], &[], &["spiffe://shop/A"], &[]), false, true),
            (of(&[], &[], &[], &["alice@a.example"]), true, true),
            (of(&["alice"], &["a.example"], &["spiffe://shop/a"], &["alice@a.example"]), true, true),
            (of(&["alice"], &["c.example"], &[], &[]), false, false),
            // A name of one kind is none of another.
            (of(&[], &["alice"], &[], &[]), false, false),
        ] {
            let asked = Asked {
                method: b"GET",
                paths: &[b"/".to_vec()],
                caller: Some(&Caller::Client),
                known: None,
                certificate: Some(&shown),
            };
            let rule = |allows| Rule { allows, certificate: Some(names.clone()), ..Rule::default() };
            assert_eq!(allows(&[rule(true)], &asked), allowance, "{names:?}");
            assert_eq!(allows(&[rule(false)], &asked), !denial, "{names:?}");
        }
    }
}

//! What requests have to pass before they go anywhere: asks `watt_policies`, and says no.
//!
//! Of a request that has to pass nothing no more is asked than whether that is so.

mod asking;
mod authority;
mod filters;
mod limits;

use std::{ops::Range, rc::Rc, time::SystemTime};

use watt_api::mesh::{self, CountedBy, Denied};
use watt_policies::{
    access::{self, Caller},
    address::{self, Network, Verdict},
    cors::{self, Cors, Origin, Origins, Preflight},
};

pub(crate) use self::{asking::Asking, authority::Granted, filters::Changed, limits::Counted};
use self::{
    asking::BASIC,
    authority::{Authority, Inquiry, Said, Word},
    filters::{Filter, Look, Ruling, Seen},
    limits::{Limit, count},
};
use crate::{
    auth::{Auth, Check, FoundOut, Identity, Remote, Unidentified},
    forwarded::Forwarded,
    http::{Fields, Lines},
    respond::{Failure, OwnAnswer, Reason, Reply},
    route,
    thread::Thread,
};

/// How often a request is looked at again, because something had to be found out first: a table may change meanwhile.
const ROUNDS_MAX: u8 = 4;

/// And how often more for filters: a configuration has no more of them.
const FILTERS_MAX: u8 = 8;

/// All that has to be passed at one place.
#[derive(Debug)]
pub(crate) struct Guard {
    addresses: Option<address::Rules>,
    cors: Option<Cors>,
    body_max: Option<u64>,
    limits: Box<[Limit]>,
    auth: Option<Box<str>>,
    roles: Box<[Box<str>]>,
    rules: Box<[access::Rule]>,
    authority: Option<Rc<Authority>>,
    filters: Box<[Rc<Filter>]>,
}

/// What came of a request that passed, for its body and its response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Lines that the response gets.
    pub(crate) lines: Vec<u8>,
    /// The service's own lines about other origins are left out.
    pub(crate) replaces_cors: bool,
    pub(crate) body_max: Option<u64>,
    /// Who asks, where that was found out.
    pub(crate) known: Option<Known>,
    /// What the authority says of it.
    pub(crate) granted: Option<Rc<Granted>>,
    /// What filters made of it, where there are some.
    pub(crate) changed: Option<Rc<Changed>>,
}

/// Who asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) identity: Rc<Identity>,
    /// The header that keys come in.
    key_header: Box<str>,
    takes_passwords: bool,
}

impl Known {
    /// Adds the lines that keys and passwords come in to `drop`: services have no use for them. Also those with `_` for `-`.
    pub(crate) fn take_credentials(&self, fields: &Fields<'_, '_>, drop: &mut Lines) {
        let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let is_password = |header: &httparse::Header<'_>| {
            let scheme = header.value.get(..BASIC.len());
            self.takes_passwords
                && header.name.eq_ignore_ascii_case("authorization")
                && scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(BASIC))
        };
        for (line, header) in fields.headers.iter().enumerate() {
            let is_key = header.name.bytes().map(folded).eq(self.key_header.bytes().map(folded));
            if is_key || is_password(header) {
                drop.add(line);
            }
        }
    }
}

/// Why a request does not pass, or not now.
#[derive(Debug)]
pub(crate) enum Held {
    Denied(Failure),
    /// Somebody else answers it.
    Answered(OwnAnswer),
    Asks(Box<Pending>),
}

impl From<Failure> for Held {
    fn from(failure: Failure) -> Self {
        Held::Denied(failure)
    }
}

/// Something that has to be found out about a request first, which takes time, and what is known of it until then.
#[derive(Debug)]
pub(crate) struct Pending {
    question: Question,
    so_far: SoFar,
}

#[derive(Debug)]
enum Question {
    Password(Box<Check>),
    Keys(Rc<Remote>),
    Authority(Box<Inquiry>),
    Filter(Box<Look>),
}

/// What was found out about a request before it is looked at again.
#[derive(Debug, Default)]
pub(crate) struct SoFar {
    /// It was counted, and its response gets these lines for that.
    counted: Option<Vec<u8>>,
    of_auth: FoundOut,
    said: Option<Said>,
    /// What filters made of it.
    seen: Vec<Seen>,
    rounds: u8,
}

impl Pending {
    /// Adds what is said of the client.
    pub(crate) fn tell_of_client(&mut self, forwarded: &mut Forwarded) {
        match &mut self.question {
            Question::Password(_) | Question::Keys(_) | Question::Filter(_) => {}
            Question::Authority(inquiry) => inquiry.tell_of_client(forwarded),
        }
    }

    /// Finds it out.
    pub(crate) async fn find_out(self, thread: &Rc<Thread>) -> SoFar {
        let Pending { question, mut so_far } = self;
        match question {
            Question::Password(check) => so_far.of_auth.password = Some(check.make(thread).await),
            Question::Keys(remote) => {
                remote.fetch(thread).await;
                so_far.of_auth.fetched = true;
            }
            Question::Authority(inquiry) => so_far.said = Some(inquiry.ask(thread).await),
            Question::Filter(look) => so_far.seen.push(look.ask(thread).await),
        }
        so_far.rounds += 1;
        so_far
    }
}

impl Guard {
    /// `None` when everything passes.
    pub(crate) fn new(guard: &mesh::Guard) -> Option<Guard> {
        let mesh::Guard { addresses, cors, body_max, limits, auth, roles, rules, authority, filters } = guard;
        let compiled = || Guard {
            addresses: (!addresses.is_empty()).then(|| address::Rules::new(addresses.iter().map(rule))),
            cors: cors.as_ref().map(self::cors),
            body_max: *body_max,
            limits: limits.iter().map(Limit::new).collect(),
            auth: auth.as_deref().map(Box::from),
            roles: boxed(roles).into(),
            rules: rules.iter().map(access_rule).collect(),
            authority: authority.as_ref().map(|authority| Rc::new(Authority::new(authority))),
            filters: filters.iter().map(|filter| Rc::new(Filter::new(filter))).collect(),
        };
        (!guard.is_nothing()).then(compiled)
    }

    /// The answer to a preflight, where it is the gateway's to give: it is the one that the request may pass which it is about.
    pub(crate) fn preflight(&self, asked: &Preflight<'_>, asking: &Asking<'_>) -> Option<Reply> {
        let cors = self.cors.as_ref()?;
        if let Err(failure) = self.admit_address(asking) {
            return Some(failure.into());
        }
        let mut lines = Vec::new();
        Some(match cors.answer(asked, &mut lines) {
            Ok(()) => Reply::Own(OwnAnswer { status: 204, lines, body: Rc::new([]) }),
            Err(denied) => asking.deny(Reason::CorsDenied, denied_page(denied, asked)).into(),
        })
    }

    /// Whether it has rules, which are about paths as well.
    pub(crate) fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether it has filters, which are told of paths as the service gets them.
    pub(crate) fn has_filters(&self) -> bool {
        !self.filters.is_empty()
    }

    /// Finds out who asks, and whether that is somebody who may.
    fn identify(&self, asking: &Asking<'_>, passed: &mut Passed) -> Result<(), Unidentified> {
        let Some(name) = &self.auth else { return Ok(()) };
        let Some(auth) = asking.table.auths.get(name) else {
            let message = "What this needs to be known by is not known to the proxy.";
            return Err(crate::auth::Unknown { reason: Reason::CredentialsMissing, message }.into());
        };
        let found = asking.so_far.map(|so_far| so_far.of_auth).unwrap_or_default();
        let credentials = asking.credentials(auth).map_err(Unidentified::from);
        let identity =
            credentials.and_then(|given| auth.identify(given, found, SystemTime::now(), asking.thread));
        if let Err(Unidentified::Unknown(unknown)) = &identity {
            passed.lines.extend_from_slice(auth.challenge(unknown.reason));
        }
        passed.known = Some(Known::new(identity?, auth));
        Ok(())
    }

    /// Whether whoever asks may do that. `path` is what rules are about.
    fn authorise(&self, asking: &Asking<'_>, known: Option<&Identity>, path: &[u8]) -> Result<(), Failure> {
        if !self.roles.is_empty() && !known.is_some_and(|known| known.has_one_of(&self.roles)) {
            let message = format!("This needs one of these roles: {}.", self.roles.join(", "));
            return Err(asking.deny(Reason::RoleMissing, message));
        }
        if self.rules.is_empty() {
            return Ok(());
        }
        // Operators could change the rules as well.
        let Some(caller) = asking.caller() else { return Ok(()) };
        let asked = access::Asked {
            method: asking.request.method_name.as_bytes(),
            paths: &route::spellings(path),
            caller: Some(&caller),
            known: known.map(|known| known as &dyn access::Known),
            certificate: asking.certificate(),
        };
        match access::allows(&self.rules, &asked) {
            true => Ok(()),
            false => Err(asking.deny(Reason::RuleDenied, "A rule says that this may not be.".to_owned())),
        }
    }

    /// What the authority says. `counted` are the lines of limits that the request was counted at.
    fn consult(&self, asking: &Asking<'_>, passed: &mut Passed, counted: Range<usize>) -> Result<(), Held> {
        let Some(authority) = &self.authority else { return Ok(()) };
        let said = asking.so_far.and_then(|so_far| so_far.said.as_ref());
        let why = match said.filter(|said| said.is_of(authority)).map(|said| &said.word) {
            Some(Word::Allowed(granted)) => {
                passed.granted = Some(Rc::clone(granted));
                return Ok(());
            }
            Some(Word::Answered(own)) => {
                asking.count_denied(Reason::AuthorityUnavailable);
                return Err(Held::Answered(own.clone()));
            }
            Some(Word::Nothing(why)) => why.clone(),
            None if asking.rounds() >= ROUNDS_MAX => "it is another one each time".to_owned(),
            None => match authority.inquiry(asking, passed.known.as_ref()) {
                Some(inquiry) => {
                    let question = Question::Authority(Box::new(inquiry));
                    return Err(asking.needs(question, &passed.lines[counted]));
                }
                None => "there is no such service".to_owned(),
            },
        };
        let message = format!("`{}` does not say whether this may be: {why}.", authority.service);
        Err(asking.deny(Reason::AuthorityUnavailable, message).retry_after(Some(1)).into())
    }

    /// What the filters make of it, one after the other. `counted` as above.
    fn look(&self, asking: &Asking<'_>, passed: &mut Passed, counted: Range<usize>) -> Result<(), Held> {
        if self.filters.is_empty() {
            return Ok(());
        }
        let mut changed = Changed::default();
        for filter in &self.filters {
            let seen = asking.so_far.and_then(|so_far| so_far.seen.iter().find(|seen| seen.is_of(filter)));
            let why = match seen.map(|seen| &seen.verdict) {
                Some(Ruling::Passes(more)) => {
                    changed.add(more);
                    continue;
                }
                Some(Ruling::Answered(own)) => return Err(Held::Answered(own.clone())),
                Some(Ruling::Failed(why)) => why.clone(),
                None if asking.rounds() >= ROUNDS_MAX + FILTERS_MAX => {
                    "it is another one each time".to_owned()
                }
                None => match filter.look(asking, passed.known.as_ref(), &changed) {
                    Some(look) => {
                        let question = Question::Filter(Box::new(look));
                        return Err(asking.needs(question, &passed.lines[counted]));
                    }
                    None => "there is no such service".to_owned(),
                },
            };
            if !filter.may_fail {
                let message = format!("`{}` does not say what becomes of this: {why}.", filter.service);
                return Err(asking.deny(Reason::FilterFailed, message).retry_after(Some(1)).into());
            }
        }
        passed.changed = Some(Rc::new(changed));
        Ok(())
    }

    fn admit_address(&self, asking: &Asking<'_>) -> Result<(), Failure> {
        let Some(rules) = &self.addresses else { return Ok(()) };
        let address = asking.address();
        if rules.admit(address) {
            return Ok(());
        }
        let who = address.map_or("A client without an address".to_owned(), |address| format!("`{address}`"));
        Err(asking.deny(Reason::AddressDenied, format!("{who} may not come here.")))
    }
}

impl Known {
    fn new(identity: Rc<Identity>, auth: &Auth) -> Known {
        Known { identity, key_header: auth.key_header.clone(), takes_passwords: auth.takes_passwords() }
    }
}

/// Asks the guards of a request: its route's and its service's. Of a failure, what the response gets is in it.
pub(crate) fn pass(guards: [Option<&Guard>; 2], asking: &Asking<'_>) -> Result<Option<Passed>, Held> {
    if let [None, None] = guards {
        return Ok(None);
    }
    let mut passed = Passed::default();
    match pass_all(guards, asking, &mut passed) {
        Ok(()) => Ok(Some(passed)),
        Err(Held::Denied(failure)) => Err(Held::Denied(Failure { lines: passed.lines, ..failure })),
        Err(Held::Answered(own)) => {
            Err(Held::Answered(OwnAnswer { lines: [passed.lines, own.lines].concat(), ..own }))
        }
        Err(asks) => Err(asks),
    }
}

fn pass_all(guards: [Option<&Guard>; 2], asking: &Asking<'_>, passed: &mut Passed) -> Result<(), Held> {
    let all = || guards.into_iter().flatten();
    for cors in all().filter_map(|guard| guard.cors.as_ref()) {
        passed.replaces_cors = true;
        cors.write(asking.origin(), &mut passed.lines);
    }
    all().try_for_each(|guard| guard.admit_address(asking))?;
    passed.body_max = all().filter_map(|guard| guard.body_max).min();
    if let Some(max) = passed.body_max
        && asking.request.body_length().is_some_and(|length| length > max)
    {
        return Err(asking.too_large(max).into());
    }
    let limits = || all().flat_map(|guard| &guard.limits);
    let before = passed.lines.len();
    match asking.so_far.and_then(|so_far| so_far.counted.as_deref()) {
        Some(lines) => passed.lines.extend_from_slice(lines),
        // Before it is known who asks: guesses are counted as well.
        None => count(limits().filter(|limit| limit.by != CountedBy::User), asking, passed)?,
    }
    let counted = before..passed.lines.len();
    let [of_route, of_service] = guards;
    // Browsers ask without credentials whether they may send a request with some.
    let of_route = of_route.filter(|_| !asking.is_preflight());
    if let Some(guard) = of_route {
        guard.identify(asking, passed).map_err(|unidentified| match unidentified {
            Unidentified::Unknown(unknown) => {
                Held::Denied(asking.deny(unknown.reason, unknown.message.to_owned()))
            }
            Unidentified::Unchecked(check) if asking.rounds() < ROUNDS_MAX => {
                asking.needs(Question::Password(check), &passed.lines[counted.clone()])
            }
            Unidentified::Unfetched(remote) if asking.rounds() < ROUNDS_MAX => {
                asking.needs(Question::Keys(remote), &passed.lines[counted.clone()])
            }
            Unidentified::Unfetched(_) | Unidentified::NoKeys => {
                let message = "The keys that tokens are signed with could not be fetched.".to_owned();
                Held::Denied(asking.deny(Reason::KeysUnavailable, message).retry_after(Some(5)))
            }
            Unidentified::Unchecked(_) | Unidentified::Busy => {
                let message = "Too many passwords are being checked.".to_owned();
                Held::Denied(asking.deny(Reason::AuthBusy, message).retry_after(Some(1)))
            }
        })?;
        guard.authorise(asking, passed.identity(), asking.path)?;
    }
    if let Some(guard) = of_service {
        guard.authorise(asking, passed.identity(), asking.inward.unwrap_or(asking.path))?;
    }
    if let Some(guard) = of_route {
        guard.consult(asking, passed, counted.clone())?;
        guard.look(asking, passed, counted)?;
    }
    // Rules of a service are about what it gets.
    let changed = passed.changed.clone();
    if let (Some(guard), Some(path)) = (of_service, changed.as_ref().and_then(|changed| changed.path())) {
        guard.authorise(asking, passed.identity(), path)?;
    }
    Ok(count(limits().filter(|limit| limit.by == CountedBy::User), asking, passed)?)
}

impl Passed {
    fn identity(&self) -> Option<&Identity> {
        self.known.as_ref().map(|known| &*known.identity)
    }
}

impl Asking<'_> {
    /// Something has to be found out first. `counted` are the lines of limits that the request was counted at.
    fn needs(&self, question: Question, counted: &[u8]) -> Held {
        let so_far = SoFar {
            counted: Some(counted.to_vec()),
            of_auth: self.so_far.map(|so_far| so_far.of_auth).unwrap_or_default(),
            said: self.so_far.and_then(|so_far| so_far.said.clone()),
            seen: self.so_far.map(|so_far| so_far.seen.clone()).unwrap_or_default(),
            rounds: self.rounds(),
        };
        Held::Asks(Box::new(Pending { question, so_far }))
    }

    fn rounds(&self) -> u8 {
        self.so_far.map_or(0, |so_far| so_far.rounds)
    }
}

/// What is said of a body that is too large.
pub(crate) fn too_large(max: u64) -> String {
    format!("The request's body is larger than {max} bytes.")
}

/// One more that was denied.
pub(crate) fn add(denied: &mut Denied, reason: Reason) {
    match reason {
        Reason::AddressDenied => denied.address += 1,
        Reason::CorsDenied => denied.cors += 1,
        Reason::BodyTooLarge => denied.body += 1,
        Reason::RateLimited => denied.rate += 1,
        Reason::CredentialsMissing | Reason::CredentialsWrong => denied.credentials += 1,
        Reason::RoleMissing => denied.role += 1,
        Reason::RuleDenied => denied.rule += 1,
        Reason::AuthorityUnavailable => denied.authority += 1,
        _ => {}
    }
}

fn boxed(texts: &[String]) -> Vec<Box<str>> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn access_rule(rule: &mesh::AccessRule) -> access::Rule {
    let mesh::AccessRule { allows, methods, path, roles, users, claims, callers, clients, certificate } =
        rule;
    let services = callers.iter().map(|name| Caller::Service(name.as_str().into()));
    access::Rule {
        allows: *allows,
        methods: boxed(methods),
        path: path.as_deref().map(access::Path::new),
        roles: boxed(roles),
        users: boxed(users),
        claims: claims.iter().map(|(name, values)| (name.as_str().into(), boxed(values))).collect(),
        callers: services.chain(clients.then_some(Caller::Client)).collect(),
        certificate: certificate.as_ref().map(certificate_names),
    }
}

fn certificate_names(names: &mesh::CertificateNames) -> access::Names {
    let mesh::CertificateNames { cn, dns, uri, email } = names;
    access::Names { common: boxed(cn), dns: boxed(dns), uris: boxed(uri), emails: boxed(email) }
}

fn rule(rule: &mesh::AddressRule) -> (Verdict, Option<Network>) {
    let verdict = if rule.allows { Verdict::Allow } else { Verdict::Deny };
    (verdict, rule.address.and_then(|address| Network::new(address, rule.bits)))
}

fn cors(cors: &mesh::Cors) -> Cors {
    let mesh::Cors { origins, methods, headers, expose, credentials, max_age_s } = cors;
    Cors {
        origins: match origins.iter().any(|origin| origin == "*") {
            true => Origins::Any,
            false => Origins::Listed(origins.iter().map(|origin| Origin::new(origin)).collect()),
        },
        methods: boxed(methods),
        headers: headers.as_deref().map(boxed),
        expose: boxed(expose),
        credentials: *credentials,
        max_age_s: *max_age_s,
    }
}

fn denied_page(denied: cors::Denied, asked: &Preflight<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match denied {
        cors::Denied::Origin => format!("Pages of `{}` may not send requests here.", text(asked.origin)),
        cors::Denied::Method => format!("Pages of other origins may not use {} here.", text(asked.method)),
        cors::Denied::Header => {
            let headers = text(asked.headers.unwrap_or_default());
            format!("Pages of other origins may not set all of these headers here: {headers}.")
        }
    }
}

//! What requests have to pass before they go anywhere: asks `watt_policies`, and says no.
//!
//! Of a request that has to pass nothing no more is asked than whether that is so.

use std::{
    net::IpAddr,
    num::NonZeroU64,
    rc::Rc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use watt_api::mesh::{self, CountedBy, Denied};
use watt_policies::{
    address::{self, Network, Verdict},
    cors::{self, Cors, Origin, Origins, Preflight},
    ledger::{Key, Ledger},
    rate::{Outcome, Rate},
};

use crate::{
    auth::{Auth, Credentials, Identity, Unknown},
    http::{Client, Fields, Lines, Request, Side},
    respond::{Failure, OwnAnswer, Reason, Reply},
    table::{Service, Table},
    thread::Thread,
};

/// What is counted, for all threads of the proxy.
#[derive(Debug)]
pub(crate) struct Counted {
    ledger: Ledger,
    since: Instant,
}

impl Default for Counted {
    fn default() -> Self {
        Counted { ledger: Ledger::default(), since: Instant::now() }
    }
}

impl Counted {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// All that has to be passed at one place.
#[derive(Debug)]
pub(crate) struct Guard {
    addresses: Option<address::Rules>,
    cors: Option<Cors>,
    body_max: Option<u64>,
    limits: Box<[Limit]>,
    auth: Option<Box<str>>,
    roles: Box<[Box<str>]>,
}

#[derive(Debug)]
struct Limit {
    id: Box<str>,
    name: Box<str>,
    rate: Rate,
    header: Option<Box<[u8]>>,
    by: CountedBy,
    /// For `RateLimit-Policy`.
    policy: Box<str>,
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
}

/// Who asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) identity: Identity,
    /// The header that keys come in.
    key_header: Box<str>,
}

impl Known {
    /// Adds the lines that keys come in to `drop`: services have no use for them. Also those with `_` for `-`.
    pub(crate) fn take_key(&self, fields: &Fields<'_, '_>, drop: &mut Lines) {
        let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        for (line, header) in fields.headers.iter().enumerate() {
            if header.name.bytes().map(folded).eq(self.key_header.bytes().map(folded)) {
                drop.add(line);
            }
        }
    }
}

/// What is asked about.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) table: &'a Table,
    pub(crate) thread: &'a Thread,
    pub(crate) client: &'a Client,
    pub(crate) request: &'a Request<'a, 'a>,
    /// Whom it is for, where that is known.
    pub(crate) service: Option<&'a Service>,
}

impl Guard {
    /// `None` when everything passes.
    pub(crate) fn new(guard: &mesh::Guard) -> Option<Guard> {
        let mesh::Guard { addresses, cors, body_max, limits, auth, roles } = guard;
        let compiled = || Guard {
            addresses: (!addresses.is_empty()).then(|| address::Rules::new(addresses.iter().map(rule))),
            cors: cors.as_ref().map(self::cors),
            body_max: *body_max,
            limits: limits.iter().map(Limit::new).collect(),
            auth: auth.as_deref().map(Box::from),
            roles: roles.iter().map(|role| role.as_str().into()).collect(),
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

    /// Finds out who asks, and whether that is somebody who may.
    fn identify(&self, asking: &Asking<'_>, passed: &mut Passed) -> Result<(), Failure> {
        if let Some(name) = &self.auth {
            let Some(auth) = asking.table.auths.get(name) else {
                let message = "What this needs to be known by is not known to the proxy.".to_owned();
                return Err(asking.deny(Reason::CredentialsMissing, message));
            };
            let credentials = asking.credentials(auth);
            let found = credentials.and_then(|credentials| auth.identify(credentials, SystemTime::now()));
            let identity = found.map_err(|unknown| {
                passed.lines.extend_from_slice(auth.challenge(&unknown));
                asking.deny(unknown.reason, unknown.message.to_owned())
            })?;
            passed.known = Some(Known { identity, key_header: auth.key_header.clone() });
        }
        let has_role = || passed.known.as_ref().is_some_and(|known| known.identity.has_one_of(&self.roles));
        if self.roles.is_empty() || has_role() {
            return Ok(());
        }
        let message = format!("This needs one of these roles: {}.", self.roles.join(", "));
        Err(asking.deny(Reason::RoleMissing, message))
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

/// Asks all guards of a request. Of a failure, what the response gets is in it.
pub(crate) fn pass(guards: [Option<&Guard>; 2], asking: &Asking<'_>) -> Result<Option<Passed>, Failure> {
    if let [None, None] = guards {
        return Ok(None);
    }
    let mut passed = Passed::default();
    match pass_all(guards, asking, &mut passed) {
        Ok(()) => Ok(Some(passed)),
        Err(failure) => Err(Failure { lines: passed.lines, ..failure }),
    }
}

fn pass_all(guards: [Option<&Guard>; 2], asking: &Asking<'_>, passed: &mut Passed) -> Result<(), Failure> {
    let guards = || guards.into_iter().flatten();
    for cors in guards().filter_map(|guard| guard.cors.as_ref()) {
        passed.replaces_cors = true;
        cors.write(asking.origin(), &mut passed.lines);
    }
    guards().try_for_each(|guard| guard.admit_address(asking))?;
    passed.body_max = guards().filter_map(|guard| guard.body_max).min();
    if let Some(max) = passed.body_max
        && asking.request.body_length().is_some_and(|length| length > max)
    {
        return Err(asking.too_large(max));
    }
    let limits = || guards().flat_map(|guard| &guard.limits);
    // Before it is known who asks: guesses are counted as well.
    count(limits().filter(|limit| limit.by != CountedBy::User), asking, passed)?;
    guards().try_for_each(|guard| guard.identify(asking, passed))?;
    count(limits().filter(|limit| limit.by == CountedBy::User), asking, passed)
}

/// Counts a request at all of these, or at none if one of them has had enough.
fn count<'l>(
    limits: impl Iterator<Item = &'l Limit>,
    asking: &Asking<'_>,
    passed: &mut Passed,
) -> Result<(), Failure> {
    let mut limits = limits.peekable();
    if limits.peek().is_none() {
        return Ok(());
    }
    let counted = asking.thread.counted();
    let now_ns = counted.now_ns();
    let mut policies = b"RateLimit-Policy: ".to_vec();
    let mut states = b"RateLimit: ".to_vec();
    let mut taken: Vec<(&Limit, Key<'_>)> = Vec::new();
    let mut refused = None;
    let known = passed.known.take();
    for limit in limits {
        let key = limit.key(asking, known.as_ref().map(|known| &known.identity));
        let outcome = counted.ledger.take(&limit.id, key, &limit.rate, now_ns);
        if policies.last() != Some(&b' ') {
            policies.extend_from_slice(b", ");
            states.extend_from_slice(b", ");
        }
        policies.extend_from_slice(limit.policy.as_bytes());
        let (left, full_after) = match outcome {
            Outcome::Admitted { left, full_after } => {
                taken.push((limit, key));
                (left.min(limit.rate.requests()), full_after)
            }
            Outcome::Refused { retry_after, full_after } => {
                refused = Some((limit, retry_after));
                (0, full_after)
            }
        };
        states.extend_from_slice(format!("\"{}\";r={left};t={}", limit.name, seconds(full_after)).as_bytes());
        if refused.is_some() {
            break;
        }
    }
    for line in [policies, states] {
        passed.lines.extend_from_slice(&line);
        passed.lines.extend_from_slice(b"\r\n");
    }
    let Some((limit, retry_after)) = refused else {
        passed.known = known;
        return Ok(());
    };
    for (limit, key) in taken {
        counted.ledger.give_back(&limit.id, key, &limit.rate);
    }
    let message = format!(
        "Too many requests: `{}` allows {} in {:?}.",
        limit.name,
        limit.rate.requests(),
        limit.rate.per()
    );
    Err(asking.deny(Reason::RateLimited, message).retry_after(Some(seconds(retry_after).max(1))))
}

/// Rounded up: who comes back exactly then must not be too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Limit {
    fn new(limit: &mesh::RateLimit) -> Limit {
        let some = |number: u64| NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN);
        let per = Duration::from_millis(limit.per_ms);
        let window = match per.as_secs() {
            // The draft has whole seconds.
            0 => String::new(),
            seconds => format!(";w={seconds}"),
        };
        Limit {
            id: limit.id.as_str().into(),
            name: limit.name.as_str().into(),
            rate: Rate::new(some(limit.requests), per, some(limit.burst)),
            header: limit.header.as_ref().map(|name| name.as_bytes().into()),
            by: limit.by,
            policy: format!("\"{}\";q={}{window}", limit.name, limit.requests).into(),
        }
    }

    fn key<'k>(&self, asking: &Asking<'k>, identity: Option<&'k Identity>) -> Key<'k> {
        if let Some(value) = self.header.as_ref().and_then(|name| asking.header(name)) {
            return Key::Value(value);
        }
        if let (CountedBy::User, Some(identity)) = (self.by, identity) {
            return Key::User(&identity.name);
        }
        let caller = match &asking.client.side {
            Side::Gateway => None,
            // Whoever is no service may do to the application what he likes anyway.
            Side::Mesh { caller } => Some(caller.as_deref().unwrap_or_default()),
        };
        match (self.by, caller) {
            (CountedBy::Everyone, _) => Key::Everyone,
            (CountedBy::Address | CountedBy::Service | CountedBy::User, Some(caller)) => Key::Service(caller),
            // No service has such a name.
            (CountedBy::Service, None) => Key::Service("(gateway)"),
            (CountedBy::Address | CountedBy::User, None) => {
                asking.address().map_or(Key::Nowhere, |address| Key::Address(address::counted(address)))
            }
        }
    }
}

impl<'a> Asking<'a> {
    fn address(&self) -> Option<IpAddr> {
        self.client.peer.map(|peer| peer.ip().to_canonical())
    }

    fn origin(&self) -> Option<&'a [u8]> {
        self.request.found.origin.map(|line| self.request.fields.value(line))
    }

    /// The first value of a header, as the service gets it.
    fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        let dropped: Lines = self.request.found.hop_by_hop;
        let mut lines = self.request.fields.headers.iter().enumerate();
        let is_it = |header: &httparse::Header<'_>| header.name.as_bytes().eq_ignore_ascii_case(name);
        lines.find(|(line, header)| is_it(header) && !dropped.has(*line)).map(|(_, header)| header.value)
    }

    /// What is brought along. Of two lines of one name nobody knows which one counts.
    fn credentials(&self, auth: &Auth) -> Result<Credentials<'a>, Unknown> {
        let one = |name: &[u8]| {
            let lines = self.request.fields.headers.iter().enumerate();
            let is_it = |header: &httparse::Header<'_>| header.name.as_bytes().eq_ignore_ascii_case(name);
            let dropped = self.request.found.hop_by_hop;
            let mut lines = lines.filter(|(line, header)| is_it(header) && !dropped.has(*line));
            match (lines.next(), lines.next()) {
                (first, None) => Ok(first.map(|(_, header)| header.value)),
                (_, Some(_)) => Err(Unknown {
                    reason: Reason::CredentialsWrong,
                    message: "The credentials are there twice.",
                }),
            }
        };
        let token = one(b"authorization")?.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
        });
        Ok(Credentials { key: one(auth.key_header.as_bytes())?, token })
    }

    /// A failure, counted.
    fn deny(&self, reason: Reason, message: String) -> Failure {
        if let Some(service) = self.service {
            service.tally.count_denied(reason);
        }
        Failure::new(reason, self.service.map(|service| service.name.clone()), message)
    }

    pub(crate) fn too_large(&self, max: u64) -> Failure {
        self.deny(Reason::BodyTooLarge, too_large(max))
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
        _ => {}
    }
}

fn rule(rule: &mesh::AddressRule) -> (Verdict, Option<Network>) {
    let verdict = if rule.allows { Verdict::Allow } else { Verdict::Deny };
    (verdict, rule.address.and_then(|address| Network::new(address, rule.bits)))
}

fn cors(cors: &mesh::Cors) -> Cors {
    let mesh::Cors { origins, methods, headers, expose, credentials, max_age_s } = cors;
    let boxed = |texts: &Vec<String>| texts.iter().map(|text| text.as_str().into()).collect();
    Cors {
        origins: match origins.iter().any(|origin| origin == "*") {
            true => Origins::Any,
            false => Origins::Listed(origins.iter().map(|origin| Origin::new(origin)).collect()),
        },
        methods: boxed(methods),
        headers: headers.as_ref().map(boxed),
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

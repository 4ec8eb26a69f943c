//! A request that is asked about.

use std::{net::IpAddr, rc::Rc};

use watt_policies::access::{Caller, Names};

use super::{SoFar, too_large};
use crate::{
    auth::{Auth, Credentials, Unknown},
    http::{Client, Framing, Lines, Request, Side},
    respond::{Failure, Reason},
    table::{Service, Table},
    thread::Thread,
};

/// The scheme of passwords.
pub(super) const BASIC: &[u8] = b"basic ";

/// What is asked about.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) table: &'a Table,
    pub(crate) thread: &'a Rc<Thread>,
    pub(crate) client: &'a Client,
    pub(crate) request: &'a Request<'a, 'a>,
    /// Whom it is for, where that is known.
    pub(crate) service: Option<&'a Service>,
    /// Its path, and what the service gets in its place.
    pub(crate) path: &'a [u8],
    pub(crate) inward: Option<&'a [u8]>,
    /// What was found out about it already.
    pub(crate) so_far: Option<&'a SoFar>,
}

impl<'a> Asking<'a> {
    /// The path with the query, as the service would get it.
    pub(super) fn target(&self) -> String {
        let target = self.request.target.path_and_query.as_bytes();
        let query = memchr::memchr(b'?', target).map_or(&[][..], |at| &target[at..]);
        let path = self.inward.unwrap_or(self.path);
        String::from_utf8_lossy(&[path, query].concat()).into_owned()
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.client.peer.map(|peer| peer.ip().to_canonical())
    }

    /// Whether it is a browser's question before another request (<https://fetch.spec.whatwg.org/#cors-preflight-request>), which never has
    /// credentials. It has no body either, and does not become anything else.
    pub(super) fn is_preflight(&self) -> bool {
        let found = &self.request.found;
        self.request.method_name == "OPTIONS"
            && found.origin.is_some()
            && self.header(b"access-control-request-method").is_some()
            && matches!(found.framing, Framing::Unspecified | Framing::Length(0))
            && found.upgrade.is_empty()
    }

    pub(super) fn origin(&self) -> Option<&'a [u8]> {
        self.request.found.origin.map(|line| self.request.fields.value(line))
    }

    /// The first value of a header, as the service gets it.
    pub(super) fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        let dropped: Lines = self.request.found.hop_by_hop;
        let mut lines = self.request.fields.headers.iter().enumerate();
        let is_it = |header: &httparse::Header<'_>| header.name.as_bytes().eq_ignore_ascii_case(name);
        lines.find(|(line, header)| is_it(header) && !dropped.has(*line)).map(|(_, header)| header.value)
    }

    /// What is brought along. Of two lines of one name nobody knows which one counts.
    pub(super) fn credentials(&self, auth: &Auth) -> Result<Credentials<'a>, Unknown> {
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
        let authorization = one(b"authorization")?;
        let behind = |scheme: &[u8]| {
            let (start, rest) = authorization?.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest.trim_ascii())
        };
        Ok(Credentials {
            key: one(auth.key_header.as_bytes())?,
            basic: behind(BASIC),
            token: behind(b"bearer "),
        })
    }

    /// Who calls, as rules know it. Operators could change the rules as well.
    pub(super) fn caller(&self) -> Option<Caller> {
        match &self.client.side {
            Side::Gateway => Some(Caller::Client),
            Side::Mesh { caller } => caller.as_deref().map(|caller| Caller::Service(caller.into())),
        }
    }

    /// The names in the client's certificate. Services that call have none, whatever they pass on of somebody else's.
    pub(super) fn certificate(&self) -> Option<&'a Names> {
        self.client.tls.as_ref()?.shown.as_ref().map(|shown| &shown.names)
    }

    pub(super) fn count_denied(&self, reason: Reason) {
        if let Some(service) = self.service {
            service.tally.count_denied(reason);
        }
    }

    /// A failure, counted.
    pub(super) fn deny(&self, reason: Reason, message: String) -> Failure {
        self.count_denied(reason);
        Failure::new(reason, self.service.map(|service| service.name.clone()), message)
    }

    pub(crate) fn too_large(&self, max: u64) -> Failure {
        self.deny(Reason::BodyTooLarge, too_large(max))
    }
}

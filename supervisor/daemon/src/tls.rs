//! TLS at the gateway, as the daemon has it: which certificates there are, how long they hold, and what the proxy is told.
//!
//! The texts are a part of what the plan is made from ([`Sources::certificates`]), so that a successor, or a configuration that comes back,
//! has those that were in force and not what the files have become. The proxy, which may read no file, gets them in its snapshot.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use watt_api::{control, mesh};
use watt_certificates::{Certificates, Identity};
use watt_config::{Config, Report, Sources};
use watt_core::plan::{CertificateFiles, ClientBounds, ListenAt, Listener, Plan, Tls, TlsVersion, ToHttps};

use crate::{
    app::App,
    gateway::{self, AllBound, Bound, Place},
    snapshot::millis,
    timestamp,
};

/// What the proxy calls the gateway's listeners that were bound together. Others, of a later reload, have another name: so nobody is met at
/// them as was right for these, before the proxy knows how.
pub(crate) fn listener_name(number: u64) -> String {
    number.to_string()
}

const DAY: i64 = 86_400;

/// Whoever renews certificates has failed by then for three weeks.
const SOON: i64 = 7 * DAY;

/// A certificate in force.
#[derive(Debug, Clone)]
struct Shown {
    file: PathBuf,
    names: Vec<String>,
    /// Seconds since the Unix epoch: from when, and until when.
    validity: (i64, i64),
}

/// The certificates in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct InUse(Vec<Shown>);

impl InUse {
    /// Those of a plan, each file once.
    pub(crate) fn of(plan: &Plan, read: &Certificates) -> InUse {
        let shown = |files: &CertificateFiles| {
            let identity = Identity::read(text(read, &files.certificate), text(read, &files.key)).ok()?;
            let names = identity.names().to_vec();
            Some(Shown { file: files.certificate.clone(), names, validity: identity.validity() })
        };
        InUse(each_once(plan).filter_map(shown).collect())
    }

    /// What is to be said of those that do not hold now, or not for long.
    pub(crate) fn warnings(&self, now: i64) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(move |shown| shown.warning(now))
    }

    fn view(&self) -> Vec<control::Certificate> {
        let view = |shown: &Shown| control::Certificate {
            file: shown.file.clone(),
            names: shown.names.clone(),
            expires_at: timestamp::from_ms(
                u64::try_from(shown.validity.1).unwrap_or(0).saturating_mul(1_000),
            ),
        };
        self.0.iter().map(view).collect()
    }
}

/// The files of a plan. Of two listeners with one file it is the same certificate.
fn each_once(plan: &Plan) -> impl Iterator<Item = &CertificateFiles> {
    let mut seen = BTreeSet::new();
    let all = plan.tls().flat_map(|tls| &tls.certificates);
    all.filter(move |files| seen.insert(&files.certificate))
}

impl Shown {
    fn warning(&self, now: i64) -> Option<String> {
        let (file, (from, until)) = (self.file.display(), self.validity);
        let in_days = |seconds: i64| crate::words::counted((seconds / DAY).unsigned_abs(), "day");
        match until - now {
            ..=0 => Some(format!("the certificate {file} has expired, {} ago", in_days(now - until))),
            _ if from > now => Some(format!(
                "the certificate {file} does not hold before {} from now",
                in_days(from - now + DAY)
            )),
            left @ ..=SOON => Some(format!("the certificate {file} expires in {}", in_days(left))),
            _ => None,
        }
    }
}

/// Reads the files that a plan needs the text of, when that is in force for the first time.
pub(crate) fn read_at_start(sources: &mut Sources, plan: &Plan) -> Result<(), Report> {
    if !plan.text_files().is_empty() {
        sources.certificates =
            watt_config::parse(sources).as_ref().map_err(Report::clone).and_then(Config::certificates)?;
    }
    Ok(())
}

/// How clients are met at a listener, for the proxy.
pub(crate) fn listener(listener: &Listener, read: &Certificates) -> mesh::Listener {
    let network = |(address, bits): &(IpAddr, u8)| mesh::Network { address: *address, bits: *bits };
    let ClientBounds { head_timeout, idle_timeout, head_max, body_max, body_rate_min } = listener.bounds;
    mesh::Listener {
        tls: listener.tls.as_ref().map(|tls| of_proxy(tls, read)),
        proxies: listener.proxies.iter().map(network).collect(),
        bounds: mesh::ClientBounds {
            head_timeout_ms: millis(head_timeout),
            idle_timeout_ms: millis(idle_timeout),
            head_max,
            body_max,
            body_rate_min,
        },
        ..mesh::Listener::default()
    }
}

/// Where clients are sent that are to speak TLS: a port that the operator wrote, or that of the first listener that speaks it. Those that turn
/// away who has no certificate come last: browsers have none.
pub(crate) fn to_https(to: ToHttps, plan: &Plan, bound: &AllBound) -> mesh::ToHttps {
    /// Of https (RFC 9110 §4.2.2).
    const USUAL_PORT: u16 = 443;
    let port = |(name, listener): (&str, &Listener)| match (bound.get(name), &listener.at) {
        (Some(Bound { place: Place::Tcp(address), .. }), _) => Some(address.port()),
        (_, ListenAt::Tcp { port, .. }) => Some(*port),
        (_, ListenAt::Unix { .. }) => None,
    };
    let secure = || gateway::in_order(plan).filter(|(_, listener)| listener.tls.is_some());
    let asks = |(_, listener): &(&str, &Listener)| {
        listener.tls.as_ref().and_then(|tls| tls.clients.as_ref()).is_some_and(|clients| clients.required)
    };
    let open_to_all = || secure().filter(|one| !asks(one)).find_map(port);
    let found = || open_to_all().or_else(|| secure().find_map(port)).unwrap_or(USUAL_PORT);
    mesh::ToHttps { port: to.port.unwrap_or_else(found), for_all: to.port.is_some() }
}

/// A listener as clients write it: where it is bound, or where it is to be.
pub(crate) fn url(listener: &Listener, bound: Option<&Bound>) -> String {
    let place = bound.map_or_else(|| listener.at.to_string(), |bound| bound.place.to_string());
    match (&listener.at, &listener.tls) {
        (ListenAt::Unix { .. }, _) => place,
        (ListenAt::Tcp { .. }, Some(_)) => format!("https://{place}"),
        (ListenAt::Tcp { .. }, None) => format!("http://{place}"),
    }
}

fn of_proxy(tls: &Tls, read: &Certificates) -> mesh::Tls {
    let certificate = |files: &CertificateFiles| mesh::Certificate {
        chain: text(read, &files.certificate).to_owned(),
        key: mesh::Secret(text(read, &files.key).to_owned()),
    };
    mesh::Tls {
        certificates: tls.certificates.iter().map(certificate).collect(),
        client_ca: tls.clients.as_ref().map(|clients| text(read, &clients.file).to_owned()),
        client_required: tls.clients.as_ref().is_some_and(|clients| clients.required),
        only_1_3: tls.version_min == TlsVersion::V1_3,
    }
}

/// What a file says. All of them were read before the plan came into force.
pub(crate) fn text<'a>(read: &'a Certificates, path: &PathBuf) -> &'a str {
    read.get(path).map_or("", |pem| pem.text())
}

impl App {
    /// TLS at the gateway, where it is spoken.
    pub(crate) fn tls(&self) -> Option<control::Tls> {
        self.plan.tls().next()?;
        let mesh::Handshakes { completed, failed } = self.proxy_link.handshakes();
        Some(control::Tls { completed, failed, certificates: self.certificates.view() })
    }

    /// Where clients come in: by the listener of `server`, else by the first one.
    pub(crate) fn gateway_url(&self) -> Option<String> {
        let mut listeners = self.gateway_listeners().into_iter();
        listeners.find(|listener| listener.name != Listener::METRICS).map(|listener| listener.url)
    }

    /// All places where they do, that of `server` first.
    pub(crate) fn gateway_listeners(&self) -> Vec<control::Listener> {
        let one = |(name, listener): (&str, &Listener)| control::Listener {
            name: name.to_owned(),
            url: url(listener, self.gateway.get(name)),
        };
        gateway::in_order(&self.plan).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use watt_core::plan::ClientAuthorities;

    use super::*;

    /// A plan with these listeners, which speak TLS: each name with its port, and whether it asks for certificates.
    fn plan(listeners: &[(&str, u16, bool)]) -> Plan {
        let mut plan = crate::testing::plan(&["api"]);
        let listener = |&(name, port, required): &(&str, u16, bool)| {
            let tls = Tls {
                certificates: vec![CertificateFiles { certificate: "/a.pem".into(), key: "/a.key".into() }],
                clients: required.then(|| ClientAuthorities { file: "/ca.pem".into(), required }),
                version_min: TlsVersion::V1_2,
            };
            let at = Listener::tcp([127, 0, 0, 1].into(), port);
            (name.to_owned(), Listener { tls: Some(tls), ..at })
        };
        plan.listeners = listeners.iter().map(listener).collect();
        plan
    }

    #[test]
    fn clients_are_sent_to_a_listener_that_takes_them() {
        let check = |listeners: &[(&str, u16, bool)], expected: u16| {
            let to = to_https(ToHttps { port: None }, &plan(listeners), &AllBound::new());
            assert_eq!(to.port, expected, "{listeners:?}");
        };
        check(&[("admin", 9443, true), ("public", 8443, false)], 8443);
        check(&[("admin", 9443, true)], 9443);
        check(&[("admin", 9443, false), ("server", 8443, false)], 8443);
        check(&[("admin", 9443, false), ("server", 8443, true)], 9443);
        check(&[], 443);
    }

    #[test]
    fn a_certificate_of_two_listeners_is_shown_once() {
        assert_eq!(each_once(&plan(&[("server", 8443, false), ("admin", 9443, true)])).count(), 1);
    }

    #[test]
    fn who_lets_a_certificate_run_out_is_warned() {
        let check = |from: i64, until: i64, expected: Option<&str>| {
            let shown =
                Shown { file: "/a.pem".into(), names: Vec::new(), validity: (from * DAY, until * DAY) };
            let warning = shown.warning(100 * DAY);
            assert_eq!(
                warning.as_deref(),
                expected.map(|text| format!("the certificate /a.pem {text}")).as_deref()
            );
        };
        check(0, 108, None);
        check(0, 107, Some("expires in 7 days"));
        check(0, 101, Some("expires in 1 day"));
        check(0, 100, Some("has expired, 0 days ago"));
        check(0, 98, Some("has expired, 2 days ago"));
        check(102, 200, Some("does not hold before 3 days from now"));
    }
}

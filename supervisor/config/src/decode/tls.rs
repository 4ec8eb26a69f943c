//! TLS at the gateway: which files, and how clients are met. What is in the files is looked at by [`crate::certificates`].

use serde_json::json;
use watt_core::plan::{CertificateFiles, ClientAuthorities, Tls};

use super::{
    Decoder,
    fields::{Field, Fields, Written},
    gateway::start_of,
};
use crate::{
    keys::{CERTIFICATE, CLIENT_CERTIFICATES, TLS, TLS_VERSION},
    report::Problem,
    show::Shown,
};

/// How many certificates a listener may have.
const CERTIFICATES_MAX: usize = 100;

/// Decodes `tls`.
pub(super) fn decode(d: &mut Decoder<'_>, field: Field<'_>) -> (Tls, Shown) {
    let mut f = Fields::open(d, &TLS, Some(field), None);
    let first = pair(&mut f);
    if let (true, false, Some(key)) = (first.is_none(), f.is_written("certificate"), f.written("key")) {
        let problem = Problem::new(key.at(), "a key without its certificate");
        f.d.problem(problem.hint("write `certificate` beside it"));
    }
    let (further, shown) = further(&mut f);
    f.show("certificates", Shown::List(shown));
    let certificates: Vec<CertificateFiles> = first.into_iter().chain(further).collect();
    if certificates.is_empty() && f.d.problems.is_empty() {
        let problem = Problem::new(field.key_span, "TLS without a certificate");
        f.d.problem(problem.hint("write `certificate: shop.pem` and `key: shop.key`"));
    }
    let file = f.path("client_ca");
    let is_written = f.is_written("client_certificates");
    let required = f.word_or_default("client_certificates", &CLIENT_CERTIFICATES);
    if let (None, true, Some(span)) = (&file, is_written, required.span) {
        let problem = Problem::new(span, "nobody vouches for clients");
        f.d.problem(problem.hint("write `client_ca` with a file of certificates"));
    }
    let version = f.word_or_default("min_version", &TLS_VERSION);
    let clients = file.map(|file| ClientAuthorities { file: file.value, required: required.value });
    (Tls { certificates, clients, version_min: version.value }, f.close())
}

fn further(f: &mut Fields<'_, '_, '_>) -> (Vec<CertificateFiles>, Vec<Shown>) {
    let items = f.list("certificates");
    let (mut pairs, mut shown) = (Vec::new(), Vec::new());
    if let Some(beyond) = items.get(CERTIFICATES_MAX) {
        let message = format!("{} certificates; at most {CERTIFICATES_MAX} are supported", items.len());
        f.d.problem(Problem::new(start_of(beyond), message));
        return (pairs, shown);
    }
    for item in items {
        if f.d.problems.is_full() {
            break;
        }
        let field = Field { key_span: start_of(item), node: item };
        let mut inner = Fields::open(f.d, &CERTIFICATE, Some(field), None);
        pairs.extend(pair(&mut inner));
        shown.push(inner.close());
    }
    (pairs, shown)
}

/// `certificate` and `key`, which are in one file where nothing else is said.
fn pair(f: &mut Fields<'_, '_, '_>) -> Option<CertificateFiles> {
    let certificate = f.path("certificate");
    let key = f.path("key");
    match (certificate, key) {
        (Some(Written { value: certificate, .. }), Some(Written { value: key, .. })) => {
            Some(CertificateFiles { certificate, key })
        }
        (Some(Written { value: certificate, .. }), None) => {
            if !f.is_written("key") {
                f.show("key", Shown::default_value(json!(certificate.to_string_lossy())));
            }
            Some(CertificateFiles { key: certificate.clone(), certificate })
        }
        (None, _) => None,
    }
}

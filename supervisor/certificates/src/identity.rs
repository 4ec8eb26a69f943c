//! A certificate with its key: what a listener shows to clients.

use std::{fmt, sync::Arc};

use rustls::{
    Error, InconsistentKeys, RootCertStore,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};
use webpki::EndEntityCert;

use crate::{der, provider};

/// What is wrong with one of the files. The path is known to whoever read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// In that of the certificate, in words that follow the path.
    Certificate(String),
    /// In that of the key.
    Key(String),
}

/// A certificate, those that vouch for it, and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
    validity: (i64, i64),
}

impl Identity {
    /// From the text of both files, which may be one and the same.
    ///
    /// # Errors
    /// When one of them has nothing of the kind in it, or they do not belong together.
    pub fn read(certificate: &str, key: &str) -> Result<Identity, Fault> {
        let chain = certificates(certificate).map_err(Fault::Certificate)?;
        let first = &chain[0];
        let parsed = EndEntityCert::try_from(first);
        let parsed = parsed
            .map_err(|error| Fault::Certificate(format!("has a certificate that cannot be used: {error}")))?;
        let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
        let validity = der::certificate(first).map(|certificate| certificate.validity);
        let validity = validity
            .ok_or_else(|| Fault::Certificate("has a certificate without a time that it holds for".into()))?;
        let signer = signer(key)?;
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(Fault::Key("has a key that is not the certificate's".into())),
        }
        Ok(Identity { certified: Arc::new(certified), names, validity })
    }

    /// For TLS.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The hosts that it is for, in lower case; `*.` in front is every name one level below.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Seconds since the Unix epoch: from when, and until when, it holds.
    pub fn validity(&self) -> (i64, i64) {
        self.validity
    }
}

fn signer(text: &str) -> Result<Arc<dyn SigningKey>, Fault> {
    let is_locked = text.contains("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
    let key = match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => key,
        Err(_) if is_locked => {
            let what = "has a key that is encrypted; write it without a passphrase (`openssl pkey`), for the user who runs watt alone";
            return Err(Fault::Key(what.into()));
        }
        Err(pem::Error::NoItemsFound) => return Err(Fault::Key("has no private key in it".into())),
        Err(error) => return Err(Fault::Key(format!("cannot be read: {}", words(&error)))),
    };
    let signer = provider().key_provider.load_private_key(key);
    signer.map_err(|_| Fault::Key("has a key that cannot be used: it has to be RSA with 2048 to 8192 bits, ECDSA P-256 or P-384, or Ed25519".into()))
}

/// The certificates of a text, one at least.
fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match read {
        Ok(chain) if chain.is_empty() => Err("has no certificate in it".into()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("cannot be read: {}", words(&error))),
    }
}

/// Those whose certificates clients may have, from the text of a file.
///
/// # Errors
/// In words that follow the path.
pub fn authorities(text: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(text)? {
        // The verifier would not look at that: whoever has the key of some client's certificate could make others.
        if der::certificate(&certificate).is_some_and(|certificate| !certificate.vouches) {
            return Err(NO_AUTHORITY.into());
        }
        store
            .add(certificate)
            .map_err(|error| format!("has a certificate that cannot vouch for others: {error}"))?;
    }
    Ok(store)
}

const NO_AUTHORITY: &str = "has a certificate that cannot vouch for others: it is not one of an authority (CA:TRUE), but somebody's own";

/// What is wrong with the text.
fn words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("the line `-----END {}-----` is missing", String::from_utf8_lossy(end_marker))
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a line that begins with `-----BEGIN` is no whole one".into()
        }
        pem::Error::Base64Decode(_) => "between its lines `BEGIN` and `END` is no base64".into(),
        _ => "it is no PEM".into(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Certificate(what) | Fault::Key(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertifiedKey, IsCa, KeyPair, date_time_ymd, generate_simple_self_signed};

    use super::*;

    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_is_read_from_two_files_or_one() {
        let (certificate, key) = pair(&["Shop.example", "*.shop.example"]);
        let both = format!("{key}{certificate}");
        for (certificate, key) in [(&certificate, &key), (&both, &both)] {
            let identity = Identity::read(certificate, key).unwrap();
            assert_eq!(identity.names(), ["shop.example", "*.shop.example"]);
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_the_file_that_it_is_in() {
        let (certificate, key) = pair(&["a.example"]);
        let (_, other_key) = pair(&["b.example"]);
        let check = |certificate: &str, key: &str, expected: Fault| {
            assert_eq!(Identity::read(certificate, key).unwrap_err(), expected);
        };
        let of_certificate = |what: &str| Fault::Certificate(what.to_owned());
        let of_key = |what: &str| Fault::Key(what.to_owned());
        check("", &key, of_certificate("has no certificate in it"));
        check(&key, &key, of_certificate("has no certificate in it"));
        check(&certificate, "", of_key("has no private key in it"));
        check(&certificate, &certificate, of_key("has no private key in it"));
        check(&certificate, &other_key, of_key("has a key that is not the certificate's"));
        let cut = &certificate[..certificate.len() / 2];
        check(cut, &key, of_certificate("cannot be read: the line `-----END CERTIFICATE-----` is missing"));
        let damaged = certificate.replace("\nMII", "\n!II");
        check(
            &damaged,
            &key,
            of_certificate("cannot be read: between its lines `BEGIN` and `END` is no base64"),
        );
        let nothing = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let fault = Identity::read(nothing, &key).unwrap_err();
        assert!(fault.to_string().starts_with("has a certificate that cannot be used: "), "{fault}");
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let fault = Identity::read(&certificate, locked).unwrap_err();
        assert!(fault.to_string().starts_with("has a key that is encrypted"), "{fault}");
        let odd = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        let fault = Identity::read(&certificate, odd).unwrap_err();
        assert!(fault.to_string().starts_with("has a key that cannot be used"), "{fault}");
    }

    #[test]
    fn it_is_known_how_long_a_certificate_holds() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 2, 29), date_time_ymd(2051, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let identity = Identity::read(&certificate.pem(), &key.serialize_pem()).unwrap();
        assert_eq!(identity.validity(), (1_582_934_400, 2_556_144_000));
    }

    #[test]
    fn authorities_are_certificates() {
        let of = |is_ca| {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.is_ca = is_ca;
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
        };
        let authority = of(IsCa::Ca(rcgen::BasicConstraints::Constrained(3)));
        assert_eq!(authorities(&format!("{authority}{authority}")).unwrap().len(), 2);
        for leaf in [IsCa::NoCa, IsCa::ExplicitNoCa] {
            assert_eq!(authorities(&format!("{authority}{}", of(leaf))).unwrap_err(), NO_AUTHORITY);
        }
        assert_eq!(authorities(&pair(&["ca"]).1).unwrap_err(), "has no certificate in it");
    }
}

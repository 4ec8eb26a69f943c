//! What a listener shows to clients, and asks them for: the configuration of rustls, made once for each configuration of the listener.

use std::{collections::HashMap, fmt, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring::Ticketer},
    server::{
        ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use watt_api::mesh;
use watt_certificates::Identity;

/// For the connections of one listener.
pub(crate) struct Acceptor {
    /// What it was made from.
    of: mesh::Tls,
    pub(super) config: Arc<ServerConfig>,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("of", &self.of).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// # Errors
    /// In words. The daemon has looked at everything in there, so that this is for what a newer one may say.
    pub(crate) fn new(of: &mesh::Tls) -> Result<Acceptor, String> {
        let provider = watt_certificates::provider();
        let shelf = Shelf::new(&of.certificates)?;
        let verifier = verifier(of, &provider)?;
        let versions: &[_] = if of.only_1_3 { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.map_err(|error| error.to_string())?;
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(shelf));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        // What is needed to resume a session is with the client, encrypted, and nothing here grows with the number of clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // A ticket has the client's certificate in it, which is looked at no more, and each use of one gives another one: so a
        // certificate would be good for ever. Where clients may have one, it is shown at each connection.
        if of.client_ca.is_none() {
            config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
        }
        Ok(Acceptor { of: of.clone(), config: Arc::new(config) })
    }

    /// Whether it is what is wanted. Another one would forget the sessions of this one.
    pub(crate) fn is_of(&self, wanted: &mesh::Tls) -> bool {
        self.of == *wanted
    }
}

fn verifier(of: &mesh::Tls, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let Some(authorities) = &of.client_ca else { return Ok(Arc::new(NoClientAuth)) };
    let authorities = Arc::new(watt_certificates::authorities(authorities)?);
    let builder = WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(provider));
    let builder = if of.client_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| error.to_string())
}

/// The certificates, by the names that they are for.
#[derive(Debug)]
struct Shelf {
    first: Arc<CertifiedKey>,
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Shelf {
    fn new(certificates: &[mesh::Certificate]) -> Result<Shelf, String> {
        let mut first = None;
        let mut by_name: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        for mesh::Certificate { chain, key } in certificates {
            let identity = Identity::read(chain, &key.0).map_err(|fault| fault.to_string())?;
            for name in identity.names() {
                by_name.entry(name.clone()).or_default().push(Arc::clone(identity.certified()));
            }
            first.get_or_insert_with(|| Arc::clone(identity.certified()));
        }
        Ok(Shelf { first: first.ok_or("there is no certificate")?, by_name })
    }

    /// Those for a name: exact ones, else those for every name beside it.
    fn of(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.to_ascii_lowercase();
        let beside = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(&name).or_else(beside).map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let of_name = hello.server_name().map_or(&[][..], |name| self.of(name));
        let is_known = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        Some(Arc::clone(of_name.iter().find(is_known).or(of_name.first()).unwrap_or(&self.first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> mesh::Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        mesh::Certificate { chain: made.cert.pem(), key: mesh::Secret(made.signing_key.serialize_pem()) }
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_of_one_level() {
        let all = [
            certificate(&["first.example"]),
            certificate(&["*.shop.example", "shop.example"]),
            certificate(&["api.shop.example"]),
            certificate(&["API.shop.example"]),
        ];
        let shelf = Shelf::new(&all).unwrap();
        let place = |key: &Arc<CertifiedKey>| {
            let chains = all.iter().map(|one| Identity::read(&one.chain, &one.key.0).unwrap());
            let mut chains = chains.map(|identity| identity.certified().cert.clone());
            chains.position(|chain| chain == key.cert).unwrap()
        };
        let check = |name: &str, expected: &[usize]| {
            assert_eq!(shelf.of(name).iter().map(place).collect::<Vec<_>>(), expected, "{name}");
        };
        check("first.example", &[0]);
        check("Shop.Example", &[1]);
        check("www.shop.example", &[1]);
        check("api.shop.example", &[2, 3]);
        check("a.b.shop.example", &[]);
        check("other.example", &[]);
        check("localhost", &[]);
        assert_eq!(place(&shelf.first), 0);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let error = |tls: &mesh::Tls| Acceptor::new(tls).map(drop).unwrap_err();
        assert_eq!(error(&mesh::Tls::default()), "there is no certificate");
        let mut tls = mesh::Tls { certificates: vec![certificate(&["a"])], ..mesh::Tls::default() };
        assert!(Acceptor::new(&tls).unwrap().is_of(&tls));
        tls.client_ca = Some(String::new());
        assert_eq!(error(&tls), "has no certificate in it");
        tls.certificates[0].key = certificate(&["b"]).key;
        assert_eq!(error(&tls), "has a key that is not the certificate's");
    }
}

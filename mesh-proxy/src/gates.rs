//! How clients are met at the listeners of the gateway, and what becomes of those that are connected when that is another way.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use watt_api::mesh::{self, Listener};
use watt_policies::address::Network;

use crate::tls::Acceptor;

/// How clients are met at a listener of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) door: Door,
    /// Whose connections begin with a header of the PROXY protocol; none where nobody's do.
    pub(crate) proxies: Option<Arc<[Network]>>,
    pub(crate) terms: Terms,
}

/// What is spoken there.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// Plain text.
    Plain,
    /// TLS.
    Tls(Arc<Acceptor>),
    /// Nothing: plain text would be worse.
    Closed,
}

/// What a client was taken on. When others hold, its connection ends with the next answer.
#[derive(Debug, Clone, Default)]
pub struct Terms(Option<Arc<AtomicBool>>);

impl Terms {
    /// Whether others hold now.
    pub(crate) fn are_over(&self) -> bool {
        self.0.as_ref().is_some_and(|over| over.load(Ordering::Relaxed))
    }

    fn end(&self) {
        if let Some(over) = &self.0 {
            over.store(true, Ordering::Relaxed);
        }
    }
}

/// What of a listener decides who may come in. Which certificate it shows does not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    tls: Option<AskedInTls>,
    proxies: Vec<mesh::Network>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct AskedInTls {
    client_ca: Option<String>,
    client_required: bool,
    only_1_3: bool,
}

impl Asked {
    fn by(listener: &Listener) -> Asked {
        let tls = |tls: &mesh::Tls| {
            let mesh::Tls { certificates: _, client_ca, client_required, only_1_3 } = tls;
            AskedInTls {
                client_ca: client_ca.clone(),
                client_required: *client_required,
                only_1_3: *only_1_3,
            }
        };
        Asked { tls: listener.tls.as_ref().map(tls), proxies: listener.proxies.clone() }
    }
}

/// Those of all listeners, by name.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    all: BTreeMap<String, (Asked, Gate)>,
    end_connections: bool,
}

impl Gates {
    /// Those that follow these. What has not changed goes on, under another name too: it has the keys of sessions that clients may resume,
    /// and the connections of those that were taken on the same terms.
    pub(crate) fn next(&self, listeners: &BTreeMap<String, Listener>) -> Gates {
        if listeners.is_empty() {
            // Without a gateway nobody comes there; and an older daemon, which may take over from a newer one, says nothing of listeners.
            return Gates { all: self.all.clone(), end_connections: false };
        }
        let gate = |(name, listener): (&String, &Listener)| {
            let asked = Asked::by(listener);
            let same = self.all.values().find(|(before, _)| *before == asked);
            let terms = same.map_or_else(|| Terms(Some(Arc::default())), |(_, gate)| gate.terms.clone());
            let door = self.door(name, listener.tls.as_ref());
            let networks = listener.proxies.iter().filter_map(|one| Network::new(one.address, one.bits));
            let proxies = (!listener.proxies.is_empty()).then(|| networks.collect());
            (name.clone(), (asked, Gate { door, proxies, terms }))
        };
        let all: BTreeMap<_, _> = listeners.iter().map(gate).collect();
        let is_over = |asked: &Asked| !all.values().any(|(now, _)| now == asked);
        let mut end_connections = false;
        for (_, gate) in self.all.values().filter(|(asked, _)| is_over(asked)) {
            gate.terms.end();
            end_connections = true;
        }
        Gates { all, end_connections }
    }

    fn door(&self, name: &str, tls: Option<&mesh::Tls>) -> Door {
        let Some(tls) = tls else { return Door::Plain };
        let before = self.all.values().find_map(|(_, gate)| match &gate.door {
            Door::Tls(acceptor) if acceptor.is_of(tls) => Some(Arc::clone(acceptor)),
            Door::Plain | Door::Tls(_) | Door::Closed => None,
        });
        match before.map_or_else(|| Acceptor::new(tls).map(Arc::new), Ok) {
            Ok(acceptor) => Door::Tls(acceptor),
            Err(error) => {
                tracing::error!(listener = name, error, "TLS cannot be spoken there; connections are closed");
                Door::Closed
            }
        }
    }

    /// That of a listener.
    pub(crate) fn get(&self, listener: &str) -> Gate {
        if let Some((_, gate)) = self.all.get(listener) {
            return gate.clone();
        }
        // An older daemon names none and knows none but plain ones. Of one that is being taken away nobody knows any more.
        let door = if listener.is_empty() { Door::Plain } else { Door::Closed };
        Gate { door, proxies: None, terms: Terms::default() }
    }

    /// Whether it is known how clients are met there.
    pub(crate) fn knows(&self, listener: &str) -> bool {
        listener.is_empty() || self.all.contains_key(listener)
    }

    /// Whether the terms of some that may have connections are over since the ones before.
    pub(crate) fn end_connections(&self) -> bool {
        self.end_connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(name: &str, change: impl FnOnce(&mut mesh::Tls)) -> Listener {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = mesh::Secret(made.signing_key.serialize_pem());
        let certificates = vec![mesh::Certificate { chain: made.cert.pem(), key }];
        let mut tls = mesh::Tls { certificates, ..mesh::Tls::default() };
        change(&mut tls);
        Listener { tls: Some(tls), ..Listener::default() }
    }

    fn one(name: &str, listener: &Listener) -> BTreeMap<String, Listener> {
        [(name.to_owned(), listener.clone())].into()
    }

    #[test]
    fn connections_end_when_more_is_asked_and_not_for_another_certificate() {
        let plain = Listener::default();
        let (first, renewed) = (tls("a", |_| {}), tls("a", |_| {}));
        let strict = tls("a", |tls| tls.only_1_3 = true);
        let check = |before: &Listener, after: &[(&str, &Listener)], expected: bool| {
            let gates = Gates::default().next(&one("0", before));
            let terms = gates.get("0").terms;
            assert!(!gates.end_connections() && !terms.are_over());
            let after = after.iter().map(|(name, one)| ((*name).to_owned(), (*one).clone())).collect();
            let next = gates.next(&after);
            assert_eq!((next.end_connections(), terms.are_over()), (expected, expected), "{after:?}");
            assert!(after.keys().all(|name| !next.get(name).terms.are_over()));
        };
        check(&plain, &[("0", &plain)], false);
        check(&plain, &[("0", &first)], true);
        check(&first, &[("0", &plain)], true);
        check(&first, &[("0", &renewed)], false);
        check(&first, &[("0", &strict)], true);
        let proxies = vec![mesh::Network { address: [10, 0, 0, 0].into(), bits: 8 }];
        let behind = Listener { proxies, ..Listener::default() };
        check(&behind, &[("0", &plain)], true);
        check(&behind, &[("0", &behind)], false);
        // At another address.
        check(&first, &[("1", &renewed)], false);
        check(&plain, &[("1", &plain), ("2", &strict)], false);
        check(&plain, &[("1", &strict)], true);
        // No gateway any more.
        check(&plain, &[], false);
    }

    #[test]
    fn nobody_is_met_in_plain_text_where_nobody_said_so() {
        let gates = Gates::default().next(&one("1", &tls("a", |_| {})));
        assert!(matches!(gates.get("1").door, Door::Tls(_)) && gates.knows("1"));
        assert!(matches!(gates.get("0").door, Door::Closed) && !gates.knows("0"));
        assert!(matches!(gates.get("").door, Door::Plain) && gates.knows(""));
        // By an older daemon, which knows of no listeners, clients are met as they were.
        assert!(matches!(gates.next(&BTreeMap::new()).get("1").door, Door::Tls(_)));
        let unusable = Listener { tls: Some(mesh::Tls::default()), ..Listener::default() };
        assert!(matches!(gates.next(&one("1", &unusable)).get("1").door, Door::Closed));
    }

    #[test]
    fn sessions_go_on_where_nothing_has_changed() {
        let listener = tls("a", |_| {});
        let acceptor = |gates: &Gates, name: &str| match gates.get(name).door {
            Door::Tls(acceptor) => acceptor,
            other => panic!("{other:?}"),
        };
        let gates = Gates::default().next(&one("0", &listener));
        let next = gates.next(&one("1", &listener));
        assert!(Arc::ptr_eq(&acceptor(&gates, "0"), &acceptor(&next, "1")));
        let other = next.next(&one("1", &tls("a", |_| {})));
        assert!(!Arc::ptr_eq(&acceptor(&next, "1"), &acceptor(&other, "1")));
    }
}

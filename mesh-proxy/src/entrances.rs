//! How clients are met at the listeners of the gateway, and what becomes of those that are connected when that is another way.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use watt_api::mesh::{self, ClientBounds, Listener};
use watt_policies::address::Network;

use crate::{http::LARGE, timer::Ticks, tls::Acceptor};

/// A connection without a request is closed after this long.
pub(crate) const IDLE_TIMEOUT: Ticks = Ticks::from_ms(75_000);

/// From its first byte on, a head has this long to come.
pub(crate) const HEAD_TIMEOUT: Ticks = Ticks::from_ms(30_000);

/// How clients are met at a listener of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
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

/// What a client was taken on.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Set when others hold; then its connection ends with the next answer.
    over: Option<Arc<AtomicBool>>,
    /// Where it came in.
    listener: Option<Arc<Met>>,
    /// A proxy before the gateway said who it is.
    by_proxy: bool,
}

/// The listener that a client came in by, as it was then.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Met {
    /// What its sockets are called.
    pub(crate) number: Box<str>,
    /// What was asked of the client, and by whom.
    pub(crate) asked: Asked,
    /// Whether it has routes of its own.
    pub(crate) has_own_routes: bool,
    bounds: Bounds,
}

/// How much time and room a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) head_timeout: Ticks,
    pub(crate) idle_timeout: Ticks,
    pub(crate) head_max: usize,
    pub(crate) body_max: Option<u64>,
    /// `None` is what the table says.
    body_rate_min: Option<u64>,
}

impl Bounds {
    const USUAL: Bounds = Bounds {
        head_timeout: HEAD_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        head_max: LARGE,
        body_max: None,
        body_rate_min: None,
    };

    fn new(of: &ClientBounds) -> Bounds {
        let ClientBounds { head_timeout_ms, idle_timeout_ms, head_max, body_max, body_rate_min } = *of;
        let ticks = |ms, usual| if ms == 0 { usual } else { Ticks::from_ms(ms) };
        let head_max = usize::try_from(head_max).unwrap_or(LARGE).min(LARGE);
        Bounds {
            head_timeout: ticks(head_timeout_ms, HEAD_TIMEOUT),
            idle_timeout: ticks(idle_timeout_ms, IDLE_TIMEOUT),
            head_max: if head_max == 0 { LARGE } else { head_max },
            body_max,
            body_rate_min,
        }
    }

    /// Bytes a second that a body has to come with, where the others of the gateway have this.
    pub(crate) fn body_rate_min(&self, usual: Option<NonZeroU64>) -> Option<NonZeroU64> {
        self.body_rate_min.map_or(usual, NonZeroU64::new)
    }
}

impl Terms {
    /// Whether others hold now.
    pub(crate) fn are_over(&self) -> bool {
        self.over.as_ref().is_some_and(|over| over.load(Ordering::Relaxed))
    }

    /// The listener that it came in by. `None` for those of the mesh.
    pub(crate) fn met(&self) -> Option<&Met> {
        self.listener.as_deref()
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        self.met().map_or(&Bounds::USUAL, |met| &met.bounds)
    }

    /// Whether the client came to a proxy, which may be at another port.
    pub(crate) fn is_by_proxy(&self) -> bool {
        self.by_proxy
    }

    /// The same for a client that a proxy spoke for.
    pub(crate) fn by_proxy(self) -> Terms {
        Terms { by_proxy: true, ..self }
    }

    fn end(&self) {
        if let Some(over) = &self.over {
            over.store(true, Ordering::Relaxed);
        }
    }
}

/// What of a listener decides who may come in. Which certificate it shows does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What the configuration calls it. One that goes takes its clients along.
    pub(crate) name: String,
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
    pub(crate) fn by(listener: &Listener) -> Asked {
        let tls = |tls: &mesh::Tls| {
            let mesh::Tls { certificates: _, client_ca, client_required, only_1_3 } = tls;
            AskedInTls {
                client_ca: client_ca.clone(),
                client_required: *client_required,
                only_1_3: *only_1_3,
            }
        };
        Asked {
            name: listener.name.clone(),
            tls: listener.tls.as_ref().map(tls),
            proxies: listener.proxies.clone(),
        }
    }
}

impl Asked {
    /// Whether clients are met in the same way there, whatever it is called.
    pub(crate) fn is_as(&self, other: &Asked) -> bool {
        self.tls == other.tls && self.proxies == other.proxies
    }
}

/// Those of all listeners, by name.
#[derive(Debug, Default)]
pub(crate) struct Entrances {
    all: BTreeMap<String, (Asked, Entrance)>,
    end_connections: bool,
}

impl Entrances {
    /// Those that follow these. What has not changed goes on, under another name too: it has the keys of sessions that clients may resume,
    /// and the connections of those that were taken on the same terms.
    pub(crate) fn next(&self, listeners: &BTreeMap<String, Listener>) -> Entrances {
        if listeners.is_empty() {
            // Without a gateway nobody comes there; and an older daemon, which may take over from a newer one, says nothing of listeners.
            return Entrances { all: self.all.clone(), end_connections: false };
        }
        let entrance = |(name, listener): (&String, &Listener)| {
            let asked = Asked::by(listener);
            let same = self.all.values().find(|(before, _)| *before == asked);
            let over = same.and_then(|(_, entrance)| entrance.terms.over.clone());
            let met = Met {
                number: name.as_str().into(),
                asked: asked.clone(),
                has_own_routes: listener.routes.is_some(),
                bounds: Bounds::new(&listener.bounds),
            };
            let terms = Terms {
                over: over.or_else(|| Some(Arc::default())),
                listener: Some(Arc::new(met)),
                by_proxy: false,
            };
            let door = self.door(name, listener.tls.as_ref());
            let networks = listener.proxies.iter().filter_map(|one| Network::new(one.address, one.bits));
            let proxies = (!listener.proxies.is_empty()).then(|| networks.collect());
            (name.clone(), (asked, Entrance { door, proxies, terms }))
        };
        let all: BTreeMap<_, _> = listeners.iter().map(entrance).collect();
        let is_over = |asked: &Asked| !all.values().any(|(now, _)| now == asked);
        let mut end_connections = false;
        for (_, entrance) in self.all.values().filter(|(asked, _)| is_over(asked)) {
            entrance.terms.end();
            end_connections = true;
        }
        Entrances { all, end_connections }
    }

    fn door(&self, name: &str, tls: Option<&mesh::Tls>) -> Door {
        let Some(tls) = tls else { return Door::Plain };
        let before = self.all.values().find_map(|(_, entrance)| match &entrance.door {
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
    pub(crate) fn get(&self, listener: &str) -> Entrance {
        if let Some((_, entrance)) = self.all.get(listener) {
            return entrance.clone();
        }
        // An older daemon names none and knows none but plain ones. Of one that is being taken away nobody knows any more.
        let door = if listener.is_empty() { Door::Plain } else { Door::Closed };
        Entrance { door, proxies: None, terms: Terms::default() }
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
            let entrances = Entrances::default().next(&one("0", before));
            let terms = entrances.get("0").terms;
            assert!(!entrances.end_connections() && !terms.are_over());
            let after = after.iter().map(|(name, one)| ((*name).to_owned(), (*one).clone())).collect();
            let next = entrances.next(&after);
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
        // One that goes while others stay, and one that is called otherwise by now.
        let named = |name: &str| Listener { name: name.to_owned(), ..Listener::default() };
        check(&named("admin"), &[("1", &named("server"))], true);
        check(&named("admin"), &[("0", &named("admin")), ("1", &named("server"))], false);
        check(&named("admin"), &[("0", &named("ops"))], true);
    }

    #[test]
    fn bounds_hold_for_those_who_come_from_then_on() {
        let bounded = |head_timeout_ms| Listener {
            bounds: ClientBounds { head_timeout_ms, ..ClientBounds::default() },
            ..Listener::default()
        };
        let before = Entrances::default().next(&one("0", &bounded(0)));
        let next = before.next(&one("0", &bounded(5_000)));
        let [first, second] = [before, next].map(|entrances| entrances.get("0").terms);
        assert_eq!(first.bounds(), &Bounds::USUAL);
        assert_eq!(second.bounds().head_timeout, Ticks::from_ms(5_000));
        assert!(!first.are_over(), "nobody has to go for that");
        let rate = |listener: Option<u64>| Bounds { body_rate_min: listener, ..Bounds::USUAL };
        let usual = NonZeroU64::new(7);
        assert_eq!(rate(None).body_rate_min(usual), usual);
        assert_eq!(rate(Some(0)).body_rate_min(usual), None);
        assert_eq!(rate(Some(9)).body_rate_min(usual), NonZeroU64::new(9));
    }

    #[test]
    fn nobody_is_met_in_plain_text_where_nobody_said_so() {
        let entrances = Entrances::default().next(&one("1", &tls("a", |_| {})));
        assert!(matches!(entrances.get("1").door, Door::Tls(_)) && entrances.knows("1"));
        assert!(matches!(entrances.get("0").door, Door::Closed) && !entrances.knows("0"));
        assert!(matches!(entrances.get("").door, Door::Plain) && entrances.knows(""));
        // By an older daemon, which knows of no listeners, clients are met as they were.
        assert!(matches!(entrances.next(&BTreeMap::new()).get("1").door, Door::Tls(_)));
        let unusable = Listener { tls: Some(mesh::Tls::default()), ..Listener::default() };
        assert!(matches!(entrances.next(&one("1", &unusable)).get("1").door, Door::Closed));
    }

    #[test]
    fn sessions_go_on_where_nothing_has_changed() {
        let listener = tls("a", |_| {});
        let acceptor = |entrances: &Entrances, name: &str| match entrances.get(name).door {
            Door::Tls(acceptor) => acceptor,
            other => panic!("{other:?}"),
        };
        let entrances = Entrances::default().next(&one("0", &listener));
        let next = entrances.next(&one("1", &listener));
        assert!(Arc::ptr_eq(&acceptor(&entrances, "0"), &acceptor(&next, "1")));
        let other = next.next(&one("1", &tls("a", |_| {})));
        assert!(!Arc::ptr_eq(&acceptor(&next, "1"), &acceptor(&other, "1")));
    }
}

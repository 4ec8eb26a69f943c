//! The names that the proxy answers by itself: the mesh's, localhost, and the addresses of both.

use std::{collections::BTreeMap, net::Ipv4Addr};

use watt_api::mesh::Snapshot;

use super::{
    message::{Query, Rcode, kind},
    name::Name,
};
use crate::egress::Rules;

/// Where all service names lead when packets are not redirected, and only the Host header tells services apart.
/// It is where `watt-exec` binds the mesh listener then.
pub(crate) const SHARED_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// The first two bytes of every service's address.
const MESH_NETWORK: [u8; 2] = [127, 77];

/// The names of one snapshot.
#[derive(Debug)]
pub(crate) struct Names {
    /// By the first label of the service's name.
    addresses: BTreeMap<Vec<u8>, Ipv4Addr>,
    names: BTreeMap<Ipv4Addr, Name>,
    zone: Name,
    localhost: Name,
}

/// What is to be done with a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send this back.
    Answer(Vec<u8>),
    /// Ask the host's resolvers.
    Outside,
    /// The service's list has no such name.
    Forbidden,
}

impl Names {
    /// The names of this snapshot.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let mut addresses = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (service, settings) in &snapshot.services {
            let Some(name) = Name::new(&format!("{service}.plt.local")) else { continue };
            addresses.insert(
                service.to_ascii_lowercase().into_bytes(),
                settings.address.unwrap_or(SHARED_ADDRESS),
            );
            names.extend(settings.address.map(|address| (address, name)));
        }
        let known = |text| Name::new(text).expect("a short name");
        Self { addresses, names, zone: known("plt.local"), localhost: known("localhost") }
    }

    /// Decides about a question of a service with these rules.
    pub(crate) fn answer(&self, query: &Query<'_>, rules: &Rules) -> Verdict {
        if query.has_unknown_edns_version() {
            return Verdict::Answer(query.reply_error(Rcode::BadVersion));
        }
        if query.class != kind::CLASS_IN {
            return Verdict::Answer(query.reply_error(Rcode::Refused));
        }
        let labels: Vec<&[u8]> = query.name.labels().collect();
        match labels.as_slice() {
            [b"plt", b"local"] => Verdict::Answer(query.reply_nothing(Rcode::NoError, &self.zone)),
            [service, b"plt", b"local"] => Verdict::Answer(self.service(query, service)),
            [.., b"plt", b"local"] => Verdict::Answer(query.reply_nothing(Rcode::NoSuchName, &self.zone)),
            // RFC 6761 §6.3: every name below localhost is localhost.
            [.., b"localhost"] => Verdict::Answer(self.address(query, Ipv4Addr::LOCALHOST, &self.localhost)),
            [reversed @ .., b"127", b"in-addr", b"arpa"] => Verdict::Answer(self.pointer(query, reversed)),
            _ if !rules.may_ask_for(&query.name) => Verdict::Forbidden,
            // A private network has no way out for IPv6. With an address that leads nowhere, programs that try
            // IPv6 first would wait; with none they go on to IPv4 at once.
            _ if query.kind == kind::AAAA => Verdict::Answer(query.reply_error(Rcode::NoError)),
            _ => Verdict::Outside,
        }
    }

    fn service(&self, query: &Query<'_>, label: &[u8]) -> Vec<u8> {
        match self.addresses.get(label) {
            Some(&address) => self.address(query, address, &self.zone),
            None => query.reply_nothing(Rcode::NoSuchName, &self.zone),
        }
    }

    fn address(&self, query: &Query<'_>, address: Ipv4Addr, zone: &Name) -> Vec<u8> {
        match query.kind {
            kind::A | kind::ANY => query.reply_address(address),
            _ => query.reply_nothing(Rcode::NoError, zone),
        }
    }

    /// Addresses of 127.0.0.0/8 mean something inside only, so no other resolver is asked (RFC 6303 §3).
    fn pointer(&self, query: &Query<'_>, reversed: &[&[u8]]) -> Vec<u8> {
        let Some(address) = loopback_address(reversed) else {
            return query.reply_nothing(Rcode::NoSuchName, &self.zone);
        };
        let name = match address {
            Ipv4Addr::LOCALHOST => Some(&self.localhost),
            SHARED_ADDRESS => Some(&self.zone),
            _ if address.octets().starts_with(&MESH_NETWORK) => self.names.get(&address),
            _ => None,
        };
        match name {
            Some(name) if matches!(query.kind, kind::PTR | kind::ANY) => query.reply_pointer(name),
            Some(_) => query.reply_nothing(Rcode::NoError, &self.zone),
            None => query.reply_nothing(Rcode::NoSuchName, &self.zone),
        }
    }
}

/// The address of which these are the last three bytes, last first, in decimal (RFC 1035 §3.5).
fn loopback_address(reversed: &[&[u8]]) -> Option<Ipv4Addr> {
    let [d, c, b] = reversed else { return None };
    let byte = |label: &[u8]| std::str::from_utf8(label).ok()?.parse::<u8>().ok();
    Some(Ipv4Addr::new(127, byte(b)?, byte(c)?, byte(d)?))
}

#[cfg(test)]
mod tests {
    use watt_api::mesh::Service;

    use super::{super::message::tests::*, *};
    use crate::egress::rules;

    fn names() -> Names {
        let redirected = Service { address: Some(Ipv4Addr::new(127, 77, 1, 0)), ..Service::default() };
        let services = [("api".to_owned(), redirected), ("web".to_owned(), Service::default())];
        Names::new(&Snapshot { services: services.into(), ..Snapshot::default() })
    }

    /// The outcome, and the last bytes of the answer when there is one.
    fn ask(name: &str, kind: u16) -> Option<(u8, Option<Vec<u8>>)> {
        let bytes = question(name, kind);
        match names().answer(&Query::parse(&bytes).unwrap(), &Rules::default()) {
            Verdict::Outside => None,
            Verdict::Forbidden => panic!("everything is allowed"),
            Verdict::Answer(reply) => {
                let data = (reply[7] == 1).then(|| reply[bytes.len() + 12..].to_vec());
                Some((reply[3] & 0x0f, data))
            }
        }
    }

    fn found(data: impl AsRef<[u8]>) -> Option<(u8, Option<Vec<u8>>)> {
        Some((0, Some(data.as_ref().to_vec())))
    }

    #[test]
    fn services_have_their_address() {
        assert_eq!(ask("api.plt.local", kind::A), found([127, 77, 1, 0]));
        assert_eq!(ask("API.PLT.LOCAL", kind::ANY), found([127, 77, 1, 0]));
        assert_eq!(ask("web.plt.local", kind::A), found([127, 77, 0, 1]));
    }

    #[test]
    fn there_is_no_other_record_and_no_other_name() {
        assert_eq!(ask("api.plt.local", kind::AAAA), Some((0, None)));
        assert_eq!(ask("api.plt.local", 16), Some((0, None)));
        assert_eq!(ask("plt.local", kind::A), Some((0, None)));
        assert_eq!(ask("nobody.plt.local", kind::A), Some((3, None)));
        assert_eq!(ask("nobody.plt.local", kind::AAAA), Some((3, None)));
        assert_eq!(ask("x.api.plt.local", kind::A), Some((3, None)));
    }

    #[test]
    fn localhost_is_here() {
        assert_eq!(ask("localhost", kind::A), found([127, 0, 0, 1]));
        assert_eq!(ask("db.localhost", kind::A), found([127, 0, 0, 1]));
        assert_eq!(ask("localhost", kind::AAAA), Some((0, None)));
    }

    #[test]
    fn addresses_have_names() {
        assert_eq!(ask("0.1.77.127.in-addr.arpa", kind::PTR), found(b"\x03api\x03plt\x05local\0"));
        assert_eq!(ask("1.0.0.127.in-addr.arpa", kind::PTR), found(b"\x09localhost\0"));
        assert_eq!(ask("9.9.77.127.in-addr.arpa", kind::PTR), Some((3, None)));
        assert_eq!(ask("999.1.77.127.in-addr.arpa", kind::PTR), Some((3, None)));
        assert_eq!(ask("8.8.8.8.in-addr.arpa", kind::PTR), None);
    }

    #[test]
    fn other_names_are_outside_and_have_no_ipv6() {
        assert_eq!(ask("example.com", kind::A), None);
        assert_eq!(ask("example.com", kind::AAAA), Some((0, None)));
        assert_eq!(ask("plt.local.example.com", kind::A), None);
    }

    #[test]
    fn a_label_with_a_dot_in_it_is_no_service() {
        let mut bytes = question("api-plt.local", kind::A);
        bytes[16] = b'.';
        assert_eq!(names().answer(&Query::parse(&bytes).unwrap(), &Rules::default()), Verdict::Outside);
    }

    #[test]
    fn what_no_rule_names_is_not_asked_outside() {
        let rules = rules(&["*.example.org:443", "192.0.2.0/24"]);
        let ask = |name: &str, kind: u16| {
            let bytes = question(name, kind);
            names().answer(&Query::parse(&bytes).unwrap(), &rules)
        };
        assert_eq!(ask("www.EXAMPLE.org", kind::A), Verdict::Outside);
        assert_eq!(ask("www.example.org", 16), Verdict::Outside);
        assert!(matches!(ask("www.example.org", kind::AAAA), Verdict::Answer(_)));
        for (name, kind) in [
            ("evil.net", kind::A),
            ("evil.net", kind::AAAA),
            ("8.8.8.8.in-addr.arpa", kind::PTR),
            ("net", 16),
        ] {
            assert_eq!(ask(name, kind), Verdict::Forbidden, "{name} {kind}");
        }
        assert!(matches!(ask("api.plt.local", kind::A), Verdict::Answer(_)), "the mesh is no outside");
    }

    #[test]
    fn other_classes_are_refused() {
        let mut bytes = question("api.plt.local", kind::A);
        *bytes.last_mut().unwrap() = 3;
        let Verdict::Answer(reply) = names().answer(&Query::parse(&bytes).unwrap(), &Rules::default()) else {
            panic!()
        };
        assert_eq!(reply[3] & 0x0f, Rcode::Refused as u8);
    }
}

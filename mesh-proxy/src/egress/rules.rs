//! A service's list of destinations, ready to be asked.

use std::{net::IpAddr, num::NonZeroU16};

use watt_api::mesh::{Destination, EgressRule};

use crate::dns::Name;

/// Where one service may connect to.
#[derive(Debug, Default)]
pub(crate) struct Rules(Option<Vec<Rule>>);

#[derive(Debug)]
struct Rule {
    to: To,
    port: Option<NonZeroU16>,
}

#[derive(Debug)]
enum To {
    Anywhere,
    Name(Name),
    /// Every name that ends with this one, but not itself.
    Below(Name),
    Network(IpAddr, u8),
}

impl Rules {
    /// `None` is everywhere.
    pub(crate) fn new(rules: Option<&[EgressRule]>) -> Self {
        Self(rules.map(|rules| rules.iter().filter_map(Rule::new).collect()))
    }

    /// Whether some rule could allow a connection to the host of this name.
    pub(crate) fn may_ask_for(&self, name: &Name) -> bool {
        self.allow(|rule| rule.is_of(name))
    }

    /// Whether a rule allows this port of every host of this name.
    pub(crate) fn allow_name(&self, name: &Name, port: u16) -> bool {
        self.allow(|rule| rule.has(port) && rule.is_of(name))
    }

    /// Whether a rule allows this, however the service came to know the address.
    pub(crate) fn allow_address(&self, address: IpAddr, port: u16) -> bool {
        self.allow(|rule| rule.has(port) && rule.contains(address))
    }

    /// Names that are written out and have this port: what they lead to can be found out without the service.
    pub(crate) fn whole_names(&self, port: u16) -> impl Iterator<Item = &Name> {
        self.0.iter().flatten().filter(move |rule| rule.has(port)).filter_map(|rule| match &rule.to {
            To::Name(name) => Some(name),
            To::Anywhere | To::Below(_) | To::Network(..) => None,
        })
    }

    fn allow(&self, rule: impl FnMut(&Rule) -> bool) -> bool {
        self.0.as_ref().is_none_or(|rules| rules.iter().any(rule))
    }
}

impl Rule {
    /// `None` when no name can match it. The configuration has no such rules.
    fn new(rule: &EgressRule) -> Option<Self> {
        let to = match &rule.to {
            Destination::Anywhere => To::Anywhere,
            Destination::Name { name } => match name.strip_prefix("*.") {
                Some(above) => To::Below(Name::new(above)?),
                None => To::Name(Name::new(name)?),
            },
            Destination::Network { address, bits } => To::Network(*address, *bits),
        };
        Some(Self { to, port: rule.port })
    }

    fn has(&self, port: u16) -> bool {
        self.port.is_none_or(|only| only.get() == port)
    }

    fn is_of(&self, name: &Name) -> bool {
        match &self.to {
            To::Anywhere => true,
            To::Name(own) => own == name,
            To::Below(above) => name.is_below(above),
            To::Network(..) => false,
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (&self.to, address) {
            (To::Anywhere, _) => true,
            (To::Network(IpAddr::V4(first), bits), IpAddr::V4(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= u32::from(*bits)
            }
            (To::Network(IpAddr::V6(first), bits), IpAddr::V6(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= u32::from(*bits)
            }
            (To::Name(_) | To::Below(_) | To::Network(..), _) => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A rule as the configuration writes it, of the few forms that tests need.
    pub(crate) fn rule(text: &str) -> EgressRule {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, NonZeroU16::new(port.parse().unwrap())),
            None => (text, None),
        };
        let network = |address: &str, bits: &str| Destination::Network {
            address: address.parse().unwrap(),
            bits: bits.parse().unwrap(),
        };
        let to = match host.split_once('/') {
            _ if host == "*" => Destination::Anywhere,
            Some((address, bits)) => network(address, bits),
            None if host.parse::<IpAddr>().is_ok() => network(host, "32"),
            None => Destination::Name { name: host.to_owned() },
        };
        EgressRule { to, port }
    }

    pub(crate) fn rules(texts: &[&str]) -> Rules {
        Rules::new(Some(&texts.iter().map(|text| rule(text)).collect::<Vec<_>>()))
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_list_it_is_everywhere_and_with_an_empty_one_nowhere() {
        let (all, star, none) = (Rules::default(), rules(&["*"]), rules(&[]));
        for rules in [&all, &star] {
            assert!(rules.may_ask_for(&name("example.org")));
            assert!(rules.allow_name(&name("example.org"), 1));
            assert!(rules.allow_address(address("192.0.2.1"), 65535));
        }
        assert!(!none.may_ask_for(&name("example.org")));
        assert!(!none.allow_name(&name("example.org"), 443));
        assert!(!none.allow_address(address("192.0.2.1"), 443));
    }

    #[test]
    fn a_name_is_that_name_in_any_case_and_nothing_below() {
        let rules = rules(&["example.org:443"]);
        assert!(rules.allow_name(&name("EXAMPLE.org"), 443));
        assert!(!rules.allow_name(&name("example.org"), 80), "the port");
        for other in ["www.example.org", "example.org.evil.net", "xexample.org", "org"] {
            assert!(!rules.may_ask_for(&name(other)), "{other}");
        }
        assert!(!rules.allow_address(address("192.0.2.1"), 443), "a name is no address");
    }

    #[test]
    fn a_wildcard_is_every_name_below() {
        let rules = rules(&["*.example.org"]);
        for below in ["www.example.org", "a.b.EXAMPLE.org", "xn--bcher-kva.example.org"] {
            assert!(rules.may_ask_for(&name(below)), "{below}");
        }
        for other in ["example.org", "wwwexample.org", "www.example.org.net", "example"] {
            assert!(!rules.may_ask_for(&name(other)), "{other}");
        }
    }

    #[test]
    fn a_network_has_its_bits() {
        let v4 = rules(&["10.0.0.0/8:5432", "192.0.2.7"]);
        assert!(v4.allow_address(address("10.255.0.1"), 5432));
        assert!(!v4.allow_address(address("10.255.0.1"), 5433));
        assert!(!v4.allow_address(address("11.0.0.1"), 5432));
        assert!(v4.allow_address(address("192.0.2.7"), 1));
        assert!(!v4.allow_address(address("192.0.2.6"), 1));
        assert!(!v4.allow_address(address("::ffff:10.0.0.1"), 5432), "IPv6 is another family");
        assert!(!v4.may_ask_for(&name("example.org")), "a network has no names");
        let all = rules(&["0.0.0.0/0"]);
        assert!(all.allow_address(address("255.0.0.1"), 1));
        let network = Destination::Network { address: address("2001:db8::"), bits: 33 };
        let v6 = Rules::new(Some(&[EgressRule { to: network, port: None }]));
        assert!(v6.allow_address(address("2001:db8:7fff::1"), 1));
        assert!(!v6.allow_address(address("2001:db8:8000::1"), 1));
    }

    #[test]
    fn only_names_that_are_written_out_can_be_looked_up() {
        let rules = rules(&["*.a.org:443", "b.org:443", "c.org", "d.org:80", "*"]);
        let names: Vec<String> = rules.whole_names(443).map(ToString::to_string).collect();
        assert_eq!(names, ["b.org", "c.org"]);
    }
}

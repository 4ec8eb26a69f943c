//! Which addresses may come.

use std::net::{IpAddr, Ipv6Addr};

/// The addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    is_v4: bool,
    first: u128,
    bits: u8,
}

impl Network {
    /// Those that begin with this many bits of this one; the others of it do not matter. `None` when it has not as many.
    pub fn new(address: IpAddr, bits: u8) -> Option<Network> {
        let (is_v4, number) = number(address);
        let len = if is_v4 { 32 } else { 128 };
        (bits <= len).then(|| Network { is_v4, first: number & mask(len, bits), bits })
    }

    /// Whether this is one of them. One of IPv4 that is written as IPv6 (`::ffff:192.0.2.7`) is one of IPv4.
    pub fn has(&self, address: IpAddr) -> bool {
        let (is_v4, number) = number(address.to_canonical());
        let len = if is_v4 { 32 } else { 128 };
        is_v4 == self.is_v4 && number & mask(len, self.bits) == self.first
    }
}

fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (true, u128::from(u32::from(address))),
        IpAddr::V6(address) => (false, u128::from(address)),
    }
}

/// The first `bits` of `len` bits.
fn mask(len: u8, bits: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(len));
    // A shift by all bits of a number is none.
    let rest = all.checked_shr(u32::from(bits)).unwrap_or(0);
    all & !rest
}

/// What a rule says about those it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They may come.
    Allow,
    /// They may not.
    Deny,
}

/// Rules in their order. The first one that an address is in decides, and for those in none it is the opposite of what the last one
/// says: a list that ends with an `allow` is of those who may come, one that ends with a `deny` of those who may not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    rules: Vec<(Verdict, Option<Network>)>,
}

impl Rules {
    /// These, where `None` is every address.
    pub fn new(rules: impl IntoIterator<Item = (Verdict, Option<Network>)>) -> Rules {
        Rules { rules: rules.into_iter().collect() }
    }

    /// Whether this address may come. `None` is one that is not known, which is in no network.
    pub fn admit(&self, address: Option<IpAddr>) -> bool {
        let is_in = |network: &Option<Network>| match (network, address) {
            (None, _) => true,
            (Some(network), Some(address)) => network.has(address),
            (Some(_), None) => false,
        };
        match self.rules.iter().find(|(_, network)| is_in(network)) {
            Some((verdict, _)) => *verdict == Verdict::Allow,
            None => self.rules.last().is_none_or(|(verdict, _)| *verdict == Verdict::Deny),
        }
    }
}

/// What stands for a client whose address is counted: the address, and of IPv6 the network of 64 bits, all of which one
/// client has (RFC 6177).
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/').unwrap();
        Network::new(address.parse().unwrap(), bits.parse().unwrap())
    }

    fn rules(lines: &[&str]) -> Rules {
        Rules::new(lines.iter().map(|line| match line.split_once(' ').unwrap() {
            ("allow", "all") => (Verdict::Allow, None),
            ("deny", "all") => (Verdict::Deny, None),
            ("allow", text) => (Verdict::Allow, network(text)),
            (_, text) => (Verdict::Deny, network(text)),
        }))
    }

    #[track_caller]
    fn check(lines: &[&str], allowed: &[&str], denied: &[&str]) {
        let rules = rules(lines);
        for (addresses, expected) in [(allowed, true), (denied, false)] {
            for address in addresses {
                assert_eq!(rules.admit(Some(address.parse().unwrap())), expected, "{lines:?}: {address}");
            }
        }
    }

    #[test]
    fn networks_have_the_addresses_that_begin_alike() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
            ("::/0", "2001:db8::1", "192.0.2.7"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "::ffff:192.0.3.9"),
        ] {
            let network = network(text).unwrap();
            assert!(network.has(inside.parse().unwrap()), "{text}: {inside}");
            assert!(!network.has(outside.parse().unwrap()), "{text}: {outside}");
        }
        assert_eq!(network("10.0.0.0/33"), None);
        assert_eq!(network("::/129"), None);
    }

    #[test]
    fn the_first_rule_decides() {
        check(
            &["deny 10.0.0.7/32", "allow 10.0.0.0/8", "deny all"],
            &["10.0.0.8"],
            &["10.0.0.7", "192.0.2.1", "::1"],
        );
        check(&["allow 10.0.0.0/8", "deny 10.0.0.7/32"], &["10.0.0.7", "192.0.2.1"], &[]);
    }

    #[test]
    fn those_in_no_rule_have_the_opposite_of_the_last() {
        check(&["allow 10.0.0.0/8"], &["10.0.0.1"], &["192.0.2.1", "::1"]);
        check(&["deny 10.0.0.0/8"], &["192.0.2.1", "::1"], &["10.0.0.1"]);
        check(&[], &["192.0.2.1"], &[]);
    }

    #[test]
    fn an_unknown_address_is_in_no_list() {
        assert!(!rules(&["allow 0.0.0.0/0", "allow ::/0"]).admit(None));
        assert!(rules(&["allow all"]).admit(None));
        assert!(rules(&["deny 10.0.0.0/8"]).admit(None));
        assert!(!rules(&["deny all"]).admit(None));
    }

    #[test]
    fn clients_of_ipv6_are_counted_by_their_network() {
        for (address, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ] {
            assert_eq!(counted(address.parse().unwrap()), expected.parse::<IpAddr>().unwrap(), "{address}");
        }
    }
}

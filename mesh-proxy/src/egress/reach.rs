//! Which addresses belong to the public Internet, and which to this host or to networks that only it is in.
//!
//! Whoever owns a name decides what it leads to. A rule that names a host therefore allows public addresses
//! alone; otherwise the owner of an allowed name could point it at a neighbour's database or at the cloud's
//! 169.254.169.254, and have the service connect there (DNS rebinding).

use std::net::Ipv4Addr;

use super::own::is_own;

/// Networks that IANA's registry of special-purpose IPv4 addresses (RFC 6890 and its updates) calls not
/// globally reachable, with what they are.
const SPECIAL: [(Ipv4Addr, u32, &str); 13] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "a shared address"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "a protocol assignment"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "an address for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "an address for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 3, "a multicast or reserved address"),
];

/// What keeps an address from being reached by name; `None` for those of the public Internet.
pub(crate) fn not_public(address: Ipv4Addr) -> Option<&'static str> {
    let inside = |first: Ipv4Addr, bits| (first.to_bits() ^ address.to_bits()).leading_zeros() >= bits;
    let special = SPECIAL.iter().find(|(first, bits, _)| inside(*first, *bits)).map(|(.., what)| *what);
    special.or_else(|| is_own(address).then_some("an address of this host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_networks_are_not_public() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("224.0.0.0", "255.255.255.255"),
        ] {
            for address in [first, last] {
                assert!(not_public(address.parse().unwrap()).is_some(), "{address}");
            }
        }
        for address in ["9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "169.253.0.0"] {
            assert_eq!(not_public(address.parse().unwrap()), None, "{address}");
        }
        for address in ["172.15.255.255", "172.32.0.0", "192.167.0.1", "192.169.0.1", "223.255.255.255"] {
            assert_eq!(not_public(address.parse().unwrap()), None, "{address}");
        }
    }
}

//! Which worker a request is to go to before others: by something in it, or since its client was there before.
//!
//! A key's worker is the one with the highest rank of all (rendezvous hashing; Thaler and Ravishankar, 1998): when a worker comes or goes,
//! those keys move that are its own, and no others. Ranks are by a worker's index and not by its run, so that a successor has the keys of
//! its predecessor. Threads, and a proxy's successor, all find the same without a word.

use std::net::IpAddr;

use watt_api::mesh;

use crate::{
    balance::Balance,
    http::{Client, Request, Side, asked},
};

/// The worker that a request goes to if it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Wish {
    /// It does not matter.
    #[default]
    Any,
    /// The one that this hash of a key leads to.
    Hash(u64),
    /// The one with this index.
    Index(u16),
}

/// What of a request is hashed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The client's address. Calls in the mesh have none.
    Address,
    /// The path without the query, as the client sent it.
    Path,
    Header(Box<[u8]>),
    Cookie(Box<[u8]>),
}

impl From<&mesh::HashKey> for Key {
    fn from(key: &mesh::HashKey) -> Self {
        match key {
            mesh::HashKey::Address => Key::Address,
            mesh::HashKey::Path => Key::Path,
            mesh::HashKey::Header { name } => Key::Header(name.as_bytes().into()),
            mesh::HashKey::Cookie { name } => Key::Cookie(name.as_bytes().into()),
        }
    }
}

impl Balance {
    /// What this request wishes for.
    pub(crate) fn wish(&self, client: &Client, request: &Request<'_, '_>) -> Wish {
        match self {
            Balance::TwoChoices | Balance::RoundRobin(_) | Balance::LeastLatency => Wish::Any,
            // What is not there makes no difference.
            Balance::Hash(key) => key.of(client, request).map_or(Wish::Any, Wish::Hash),
            Balance::Sticky(cookie) => {
                let asked = asked(request);
                let named = asked.cookies(cookie.as_bytes()).find_map(index);
                named.map_or(Wish::Any, Wish::Index)
            }
        }
    }
}

impl Key {
    /// The hash of this key of a request, if it has one.
    fn of(&self, client: &Client, request: &Request<'_, '_>) -> Option<u64> {
        match self {
            Key::Address => match (&client.side, client.peer?.ip().to_canonical()) {
                (Side::Mesh { .. }, _) => None,
                (Side::Gateway, IpAddr::V4(address)) => Some(hash(&address.octets())),
                (Side::Gateway, IpAddr::V6(address)) => Some(hash(&address.octets())),
            },
            Key::Path => Some(hash(asked(request).path)),
            Key::Header(name) => asked(request).values(name).next().map(hash),
            Key::Cookie(name) => asked(request).cookies(name).next().map(hash),
        }
    }
}

/// FNV-1a. Whoever sends keys could send one again and again as well, so that no secret is needed.
pub(crate) fn hash(key: &[u8]) -> u64 {
    key.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How high a worker is in the order of a key.
pub(crate) fn rank(hash: u64, index: u16) -> u64 {
    mixed(hash ^ mixed(u64::from(index) + 1))
}

/// The last step of SplitMix64: every bit depends on every other.
const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What a cookie says. Another program's of the same name may say anything.
fn index(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A line that has a browser come back with this cookie: for as long as it runs, and to all paths.
pub(crate) fn set_cookie(name: &str, value: impl std::fmt::Display, client: &Client) -> String {
    let secure = if client.tls.is_some() { "; Secure" } else { "" };
    format!("Set-Cookie: {name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_same_everywhere_and_for_ever() {
        // Of the authors' own list.
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
        assert_ne!(rank(1, 0), rank(1, 1));
    }

    #[test]
    fn cookies_name_workers_or_nothing() {
        for (value, expected) in [("0", Some(0)), ("12", Some(12)), ("", None), ("-1", None), ("65536", None)]
        {
            assert_eq!(index(value.as_bytes()), expected, "{value}");
        }
    }
}

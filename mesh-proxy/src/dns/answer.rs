//! What another resolver's answer says about addresses.

use std::net::Ipv4Addr;

use super::{
    message::{HEADER_SIZE, kind, skip_name, word},
    name::Name,
};

/// Addresses of one answer that are looked at. Nobody has as many; a full answer over TCP could have 4000.
const ADDRESSES_MAX: usize = 256;

/// IPv4 addresses in an answer, with the seconds they may be kept; none from one that is not well-formed.
///
/// All addresses count for the name that was asked for: the resolver put them into this answer, at the end of
/// aliases (CNAME) or not, and who answers for the name could have given them to it directly.
pub(super) fn addresses(reply: &[u8]) -> Vec<(Ipv4Addr, u32)> {
    read(reply).unwrap_or_default()
}

/// A question of our own for the addresses of this name.
pub(super) fn question(name: &Name) -> Vec<u8> {
    // Of the header only "recursion desired" and the number of questions; the id is set when it is sent.
    let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend(name.wire());
    bytes.extend(kind::A.to_be_bytes());
    bytes.extend(kind::CLASS_IN.to_be_bytes());
    bytes
}

fn read(reply: &[u8]) -> Option<Vec<(Ipv4Addr, u32)>> {
    let (questions, answers) = (word(reply, 4)?, word(reply, 6)?);
    let mut at = HEADER_SIZE;
    for _ in 0..questions {
        at = skip_name(reply, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = skip_name(reply, at)?;
        let (kind, class, size) = (word(reply, at)?, word(reply, at + 2)?, word(reply, at + 8)?);
        let ttl = u32::from_be_bytes(*reply.get(at + 4..)?.first_chunk()?);
        let data = reply.get(at + 10..)?.get(..usize::from(size))?;
        at += 10 + usize::from(size);
        if let (kind::A, kind::CLASS_IN, Ok(address)) = (kind, class, <[u8; 4]>::try_from(data))
            && found.len() < ADDRESSES_MAX
        {
            found.push((Ipv4Addr::from(address), ttl));
        }
    }
    Some(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The answer to a question, with these records after an alias.
    pub(crate) fn reply(question: &[u8], addresses: &[[u8; 4]], ttl: u32) -> Vec<u8> {
        let mut reply = question.to_vec();
        reply[2] |= 0x80;
        reply[6..8].copy_from_slice(&(addresses.len() as u16 + 1).to_be_bytes());
        let mut record = |kind: u16, data: &[u8]| {
            reply.extend([0xc0, 12]);
            reply.extend(kind.to_be_bytes());
            reply.extend(kind::CLASS_IN.to_be_bytes());
            reply.extend(ttl.to_be_bytes());
            reply.extend((data.len() as u16).to_be_bytes());
            reply.extend(data);
        };
        record(5, b"\x05other\x03org\0");
        addresses.iter().for_each(|address| record(kind::A, address));
        reply
    }

    fn asked() -> Vec<u8> {
        question(&Name::new("example.org").unwrap())
    }

    #[test]
    fn addresses_are_found_behind_aliases() {
        let expected = [(Ipv4Addr::new(192, 0, 2, 1), 60), (Ipv4Addr::new(192, 0, 2, 2), 60)];
        assert_eq!(addresses(&reply(&asked(), &[[192, 0, 2, 1], [192, 0, 2, 2]], 60)), expected);
        assert_eq!(addresses(&asked()), []);
    }

    #[test]
    fn every_answer_is_bounded_and_survived() {
        let many = reply(&asked(), &[[192, 0, 2, 1]; 4000], 60);
        assert_eq!(addresses(&many).len(), ADDRESSES_MAX);
        let whole = reply(&asked(), &[[192, 0, 2, 1]], 60);
        for end in 0..whole.len() {
            assert_eq!(addresses(&whole[..end]), [], "{end} bytes");
        }
        let mut random = fastrand::Rng::with_seed(1034);
        for _ in 0..100_000 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            addresses(&bytes);
        }
    }
}

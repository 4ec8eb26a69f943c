//! Questions and answers on the wire (RFC 1035 §4), as little of it as the proxy needs.
//!
//! A question from a worker is read strictly: exactly one, no compression, nothing but additional records behind
//! it. What is forwarded keeps its bytes; only the id changes. Answers of our own have at most one record.

use std::net::Ipv4Addr;

use super::name::{LABEL_SIZE_MAX, Name};

/// Bytes of a header (RFC 1035 §4.1.1).
pub(crate) const HEADER_SIZE: usize = 12;
/// What a client takes over UDP when it does not say (RFC 1035 §2.3.4).
const UDP_SIZE_MIN: u16 = 512;
/// What we say we take, and the most that passes any network in one piece (RFC 9715 §3, rounded down by custom).
const UDP_SIZE_OURS: u16 = 1232;
/// Additional records that are looked at for EDNS; a question has one or two.
const ADDITIONAL_RECORDS_MAX: u16 = 8;
/// Seconds for which answers of our own may be kept: a service's address may change with each new configuration.
const TTL_S: u32 = 1;

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const MASK_OPCODE: u16 = 0x7800;
const MASK_RCODE: u16 = 0x000f;

/// Types and classes that mean something here (RFC 1035 §3.2, RFC 3596, RFC 6891).
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const ANY: u16 = 255;
    pub(crate) const CLASS_IN: u16 = 1;
}

/// The outcome of a question (RFC 1035 §4.1.1; RFC 6891 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rcode {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
    /// Needs EDNS: its upper bits are in the OPT record.
    BadVersion = 16,
}

/// One question with what its answer has to respect.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    bytes: &'a [u8],
    question_end: usize,
    edns: Option<Edns>,
    pub(crate) name: Name,
    pub(crate) kind: u16,
    pub(crate) class: u16,
}

/// What the OPT record of a question says (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy)]
struct Edns {
    udp_size: u16,
    version: u8,
}

/// Why a message is not a question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Too short for a header, or itself an answer: answering would invite a loop.
    Silent,
    /// This is to be sent back.
    Reply(Vec<u8>),
}

impl<'a> Query<'a> {
    /// Reads a message that a client sent.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let flags = word(bytes, 2).filter(|flags| flags & FLAG_RESPONSE == 0).ok_or(Malformed::Silent)?;
        if bytes.len() < HEADER_SIZE {
            return Err(Malformed::Silent);
        }
        if flags & MASK_OPCODE != 0 {
            return Err(Malformed::Reply(bare_reply(bytes, Rcode::NotImplemented)));
        }
        Self::parse_records(bytes).ok_or_else(|| Malformed::Reply(bare_reply(bytes, Rcode::FormatError)))
    }

    fn parse_records(bytes: &'a [u8]) -> Option<Self> {
        let [questions, answers, authorities, additional] = [4, 6, 8, 10].map(|at| word(bytes, at));
        if (questions?, answers?, authorities?) != (1, 0, 0) || additional? > ADDITIONAL_RECORDS_MAX {
            return None;
        }
        let name = Name::parse(&bytes[HEADER_SIZE..])?;
        let after = HEADER_SIZE + name.wire().len();
        let (kind, class) = (word(bytes, after)?, word(bytes, after + 2)?);
        let question_end = after + 4;
        let edns = find_edns(bytes, question_end, additional?)?;
        Some(Self { bytes, question_end, edns, name, kind, class })
    }

    /// How large an answer over UDP may be.
    pub(crate) fn udp_size(&self) -> usize {
        usize::from(self.edns.map_or(UDP_SIZE_MIN, |edns| edns.udp_size.max(UDP_SIZE_MIN)))
    }

    /// Whether the client speaks a later EDNS than there is (RFC 6891 §6.1.3).
    pub(crate) fn has_unknown_edns_version(&self) -> bool {
        self.edns.is_some_and(|edns| edns.version != 0)
    }

    /// The question to send on, with another id.
    pub(crate) fn with_id(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        bytes
    }

    /// Whether `reply` answers what [`Query::with_id`] sent with `id`. Servers may change the case of the name.
    pub(crate) fn is_answered_by(&self, reply: &[u8], id: u16) -> bool {
        let name_end = self.question_end - 4;
        let same = |range: std::ops::Range<usize>, case: fn(&[u8], &[u8]) -> bool| {
            reply.get(range.clone()).is_some_and(|theirs| case(theirs, &self.bytes[range]))
        };
        word(reply, 0) == Some(id)
            && word(reply, 2).is_some_and(|flags| flags & (FLAG_RESPONSE | MASK_OPCODE) == FLAG_RESPONSE)
            && word(reply, 4) == Some(1)
            && same(HEADER_SIZE..name_end, <[u8]>::eq_ignore_ascii_case)
            && same(name_end..self.question_end, |a, b| a == b)
    }

    /// Gives a forwarded answer the client's own id.
    pub(crate) fn restore_id(&self, reply: &mut [u8]) {
        reply[..2].copy_from_slice(&self.bytes[..2]);
    }

    /// The address of the name.
    pub(crate) fn reply_address(&self, address: Ipv4Addr) -> Vec<u8> {
        self.reply(Rcode::NoError, Some((kind::A, &address.octets())), None)
    }

    /// The name of the address.
    pub(crate) fn reply_pointer(&self, name: &Name) -> Vec<u8> {
        self.reply(Rcode::NoError, Some((kind::PTR, name.wire())), None)
    }

    /// No record, with the zone that says so and for how long (RFC 2308 §5).
    pub(crate) fn reply_nothing(&self, rcode: Rcode, zone: &Name) -> Vec<u8> {
        self.reply(rcode, None, Some(zone))
    }

    /// An outcome that is not the zone's.
    pub(crate) fn reply_error(&self, rcode: Rcode) -> Vec<u8> {
        self.reply(rcode, None, None)
    }

    fn reply(&self, rcode: Rcode, answer: Option<(u16, &[u8])>, zone: Option<&Name>) -> Vec<u8> {
        let authoritative = if answer.is_some() || zone.is_some() { FLAG_AUTHORITATIVE } else { 0 };
        let flags = reply_flags(self.bytes, rcode) | authoritative;
        let counts =
            [1, u16::from(answer.is_some()), u16::from(zone.is_some()), u16::from(self.edns.is_some())];
        let mut reply = header(self.bytes, flags, counts);
        reply.extend(&self.bytes[HEADER_SIZE..self.question_end]);
        if let Some((kind, data)) = answer {
            // The owner is the name of the question: a pointer to byte 12 (RFC 1035 §4.1.4).
            reply.extend([0xc0, HEADER_SIZE as u8]);
            push_record(&mut reply, kind, data);
        }
        if let Some(zone) = zone {
            reply.extend(zone.wire());
            push_record(&mut reply, kind::SOA, &soa(zone));
        }
        if self.edns.is_some() {
            push_opt(&mut reply, rcode);
        }
        reply
    }
}

/// What a resolver made of a question, as far as asking another one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It knows, even if that there is nothing.
    Known,
    /// It could not or would not find out.
    Unable,
}

impl Outcome {
    /// Of an answer that was matched to its question.
    pub(crate) fn of(reply: &[u8]) -> Self {
        let rcode = word(reply, 2).unwrap_or(MASK_RCODE) & MASK_RCODE;
        let known = rcode == Rcode::NoError as u16 || rcode == Rcode::NoSuchName as u16;
        if known { Self::Known } else { Self::Unable }
    }
}

/// Cuts an answer that is too large for the client's UDP down to its question, and marks it as cut, so that the
/// client asks again over TCP.
pub(crate) fn truncate(query: &Query<'_>, reply: &[u8]) -> Vec<u8> {
    let flags = word(reply, 2).unwrap_or(FLAG_RESPONSE) | FLAG_TRUNCATED;
    let mut cut = header(query.bytes, flags, [1, 0, 0, 0]);
    cut.extend(&query.bytes[HEADER_SIZE..query.question_end]);
    cut
}

/// An answer to something of which only the header can be believed.
fn bare_reply(query: &[u8], rcode: Rcode) -> Vec<u8> {
    header(query, reply_flags(query, rcode), [0; 4])
}

fn reply_flags(query: &[u8], rcode: Rcode) -> u16 {
    let desired = word(query, 2).unwrap_or(0) & (FLAG_RECURSION_DESIRED | MASK_OPCODE);
    FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | desired | (rcode as u16 & MASK_RCODE)
}

fn header(query: &[u8], flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut reply = query[..2].to_vec();
    for word in [flags].into_iter().chain(counts) {
        reply.extend(word.to_be_bytes());
    }
    reply
}

/// Everything of a record after its owner (RFC 1035 §4.1.3).
fn push_record(reply: &mut Vec<u8>, kind: u16, data: &[u8]) {
    reply.extend(kind.to_be_bytes());
    reply.extend(kind::CLASS_IN.to_be_bytes());
    reply.extend(TTL_S.to_be_bytes());
    // Data of ours is two names and some numbers at most.
    reply.extend((data.len() as u16).to_be_bytes());
    reply.extend(data);
}

/// Data of a start-of-authority record (RFC 1035 §3.3.13) that says little but how long "no" may be kept.
fn soa(zone: &Name) -> Vec<u8> {
    let mut data = [zone.wire(), zone.wire()].concat();
    let (serial, refresh, retry, expire) = (1u32, TTL_S, TTL_S, TTL_S);
    for number in [serial, refresh, retry, expire, TTL_S] {
        data.extend(number.to_be_bytes());
    }
    data
}

/// An OPT record (RFC 6891 §6.1.2): root name, our size as class, upper bits of the outcome and version 0 as TTL.
fn push_opt(reply: &mut Vec<u8>, rcode: Rcode) {
    reply.push(0);
    reply.extend(kind::OPT.to_be_bytes());
    reply.extend(UDP_SIZE_OURS.to_be_bytes());
    reply.extend([(rcode as u16 >> 4) as u8, 0, 0, 0, 0, 0]);
}

/// Looks for EDNS among the records from `at` on. The outer `None` is a record that does not fit, or a second OPT
/// (RFC 6891 §6.1.1).
fn find_edns(bytes: &[u8], mut at: usize, records: u16) -> Option<Option<Edns>> {
    let mut edns = None;
    for _ in 0..records {
        at = skip_name(bytes, at)?;
        let (kind, class) = (word(bytes, at)?, word(bytes, at + 2)?);
        let version = *bytes.get(at + 5)?;
        at += 10 + usize::from(word(bytes, at + 8)?);
        if at > bytes.len() {
            return None;
        }
        if kind == kind::OPT && edns.replace(Edns { udp_size: class, version }).is_some() {
            return None;
        }
    }
    (at == bytes.len()).then_some(edns)
}

/// Where the name at `at`, which may end in a pointer, is over.
pub(super) fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            size if size <= LABEL_SIZE_MAX => at += 1 + usize::from(size),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            _ => return None,
        }
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*two))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A question as glibc writes it.
    pub(crate) fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(kind::CLASS_IN.to_be_bytes());
        bytes
    }

    /// The same with EDNS.
    pub(crate) fn question_with_edns(name: &str, kind: u16, udp_size: u16, version: u8) -> Vec<u8> {
        let mut bytes = question(name, kind);
        bytes[11] = 1;
        bytes.push(0);
        bytes.extend(kind::OPT.to_be_bytes());
        bytes.extend(udp_size.to_be_bytes());
        bytes.extend([0, version, 0, 0, 0, 0]);
        bytes
    }

    fn refused_with(bytes: &[u8]) -> Option<u16> {
        match Query::parse(bytes) {
            Err(Malformed::Reply(reply)) => {
                assert_eq!(reply[..2], bytes[..2], "the id is given back");
                assert_eq!(reply.len(), HEADER_SIZE);
                Some(word(&reply, 2).unwrap() & MASK_RCODE)
            }
            Err(Malformed::Silent) => None,
            Ok(query) => panic!("accepted: {query:?}"),
        }
    }

    #[test]
    fn a_plain_question_is_read() {
        let bytes = question("API.plt.Local", kind::A);
        let query = Query::parse(&bytes).unwrap();
        assert_eq!(query.name, Name::new("api.plt.local").unwrap());
        assert_eq!((query.kind, query.class, query.udp_size()), (kind::A, kind::CLASS_IN, 512));
    }

    #[test]
    fn edns_says_how_much_fits() {
        for (said, meant) in [(0, 512), (511, 512), (1232, 1232), (65535, 65535)] {
            let bytes = question_with_edns("a", kind::A, said, 0);
            assert_eq!(Query::parse(&bytes).unwrap().udp_size(), meant);
        }
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let mut answer = question("a", kind::A);
        answer[2] |= 0x80;
        assert_eq!(refused_with(&answer), None);
        for end in 0..HEADER_SIZE {
            assert_eq!(refused_with(&question("a", kind::A)[..end]), None);
        }
    }

    #[test]
    fn nonsense_is_a_format_error() {
        let format_error = Some(Rcode::FormatError as u16);
        let good = question("api.plt.local", kind::A);
        for end in HEADER_SIZE..good.len() {
            assert_eq!(refused_with(&good[..end]), format_error, "{end} bytes");
        }
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        assert_eq!(refused_with(&changed(5, 0)), format_error, "no question");
        assert_eq!(refused_with(&changed(5, 2)), format_error, "two questions");
        assert_eq!(refused_with(&changed(7, 1)), format_error, "an answer in a question");
        assert_eq!(refused_with(&changed(11, 1)), format_error, "a record that is not there");
        assert_eq!(refused_with(&changed(12, 0xc0)), format_error, "a pointer");
        assert_eq!(refused_with(&changed(12, 64)), format_error, "a label that is too long");
        assert_eq!(refused_with(&[&good[..], &[0]].concat()), format_error, "bytes behind");
        let long = format!("{}.com", ["x".repeat(63).as_str(); 4].join("."));
        assert_eq!(refused_with(&question(&long, kind::A)), format_error, "a name that is too long");
        let mut twice = question_with_edns("a", kind::A, 512, 0);
        twice.extend_from_within(twice.len() - 11..);
        twice[11] = 2;
        assert_eq!(refused_with(&twice), format_error, "two OPT records");
    }

    #[test]
    fn other_operations_are_not_implemented() {
        let mut update = question("a", kind::A);
        update[2] |= 5 << 3;
        assert_eq!(refused_with(&update), Some(Rcode::NotImplemented as u16));
    }

    #[test]
    fn random_bytes_are_survived() {
        let mut random = fastrand::Rng::with_seed(1035);
        let seed = question_with_edns("api.plt.local", kind::A, 1232, 0);
        for _ in 0..200_000 {
            let mut bytes = seed.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            if let Ok(query) = Query::parse(&bytes) {
                assert!(query.reply_error(Rcode::Refused).len() <= 512);
                assert!(query.name.labels().count() <= 127);
                assert!(!query.is_answered_by(&bytes, 0));
            }
        }
    }

    #[test]
    fn only_the_answer_to_the_question_is_one() {
        let bytes = question("api.example", kind::A);
        let query = Query::parse(&bytes).unwrap();
        let mut reply = query.with_id(7);
        reply[2] |= 0x80;
        assert!(query.is_answered_by(&reply, 7));
        assert!(query.is_answered_by(&reply.to_ascii_uppercase(), 7), "the case of a name is the server's");
        assert!(!query.is_answered_by(&reply, 8));
        assert!(!query.is_answered_by(&query.with_id(7), 7), "a question");
        for at in [5, 13, reply.len() - 3, reply.len() - 1] {
            let mut other = reply.clone();
            other[at] ^= 1;
            assert!(!query.is_answered_by(&other, 7), "byte {at}");
        }
        assert!(!query.is_answered_by(&reply[..reply.len() - 1], 7));
    }

    #[test]
    fn an_address_is_answered_byte_for_byte() {
        let bytes = question("a.plt.local", kind::A);
        let reply = Query::parse(&bytes).unwrap().reply_address(Ipv4Addr::new(127, 77, 1, 0));
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 77, 1, 0];
        let header = [0xab, 0xcd, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        assert_eq!(reply, [&header[..], &bytes[HEADER_SIZE..], &record].concat());
    }

    #[test]
    fn edns_is_answered_with_edns() {
        let bytes = question_with_edns("a", kind::A, 1232, 1);
        let query = Query::parse(&bytes).unwrap();
        assert!(query.has_unknown_edns_version());
        let reply = query.reply_error(Rcode::BadVersion);
        assert_eq!(reply[3] & 0x0f, 0);
        assert_eq!(reply[reply.len() - 11..], [0, 0, 41, 0x04, 0xd0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn no_carries_its_zone() {
        let bytes = question("nobody.plt.local", kind::A);
        let zone = Name::new("plt.local").unwrap();
        let reply = Query::parse(&bytes).unwrap().reply_nothing(Rcode::NoSuchName, &zone);
        assert_eq!(reply[2..12], [0x85, 0x83, 0, 1, 0, 0, 0, 1, 0, 0]);
        assert_eq!(reply[bytes.len()..][..11], *zone.wire());
    }
}

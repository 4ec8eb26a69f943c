//! The form of netlink messages (netlink(7), linux/netlink.h): a header of 16 bytes, a fixed part that depends on the
//! protocol, and attributes, all aligned to 4 bytes and in host order.

use std::io;

/// NLMSG_ERROR: an error number, 0 for an acknowledgement.
const ERROR: u16 = 2;
/// NLMSG_DONE: the end of a dump.
const DONE: u16 = 3;
/// Length, type, flags, sequence number, port.
const HEADER_LEN: usize = 16;
/// NLA_F_NESTED
const NESTED: u16 = 1 << 15;

/// NLM_F_REQUEST
pub(crate) const REQUEST: u16 = 0x1;
/// NLM_F_ACK
pub(crate) const ACK: u16 = 0x4;
/// NLM_F_EXCL
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// NLM_F_CREATE
pub(crate) const CREATE: u16 = 0x400;
/// NLM_F_APPEND
pub(crate) const APPEND: u16 = 0x800;
/// NLM_F_DUMP
pub(crate) const DUMP: u16 = 0x300;

/// A message that is being written.
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Starts one of this type.
    pub(crate) fn new(kind: u16, flags: u16, sequence: u32) -> Message {
        let mut bytes = vec![0u8; 4]; // the length, known at the end
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0u8; 4]); // the kernel fills in our port
        Message(bytes)
    }

    /// Adds bytes of the fixed part.
    pub(crate) fn fixed(mut self, bytes: &[u8]) -> Message {
        self.0.extend(bytes);
        self
    }

    /// Adds an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        let start = self.begin(kind);
        self.0.extend(value);
        self.end(start);
        self
    }

    /// Adds an attribute that is made of attributes.
    pub(crate) fn nested(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        let start = self.begin(kind | NESTED);
        self = fill(self);
        self.end(start);
        self
    }

    /// The finished bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend([0u8; 2]); // the length, known at the end
        self.0.extend(kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        let len = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// A message from the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// The number of the message it answers.
    pub(crate) sequence: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

impl Reply<'_> {
    /// The error number it carries, 0 for "done"; `None` when it is of another type.
    ///
    /// # Errors
    /// InvalidData when it is cut short.
    pub(crate) fn error(&self) -> io::Result<Option<i32>> {
        if self.kind != ERROR {
            return Ok(None);
        }
        let number = self.payload.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(i32::from_ne_bytes(*number).saturating_neg()))
    }

    /// Whether it ends a dump.
    pub(crate) fn is_done(&self) -> bool {
        self.kind == DONE
    }
}

/// The messages in what one read returned. Ends at the first that makes no sense.
pub(crate) fn replies(mut bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let len = usize::try_from(u32_at(header, 0)?).ok()?;
        let payload = bytes.get(HEADER_LEN..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Reply { kind: u16_at(header, 4)?, sequence: u32_at(header, 8)?, payload })
    })
}

/// The attributes in a part of a message, as (type, value). Ends at the first that makes no sense.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & !NESTED;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The number at this place, in host order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The number at this place, in host order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = Message::new(77, ACK, 5)
            .fixed(&[9, 9, 9, 9])
            .attribute(1, b"abc")
            .nested(2, |message| message.attribute(3, &[1]))
            .finish();
        let all: Vec<Reply<'_>> = replies(&bytes).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].kind, all[0].sequence), (77, 5));
        let found: Vec<(u16, &[u8])> = attributes(&all[0].payload[4..]).collect();
        assert_eq!(found[0], (1, &b"abc"[..]));
        assert_eq!(attributes(found[1].1).collect::<Vec<_>>(), [(3, &[1u8][..])]);
    }

    #[test]
    fn cut_and_senseless_bytes_end_the_reading() {
        let bytes = Message::new(2, 0, 1).fixed(&(-libc::EPERM).to_ne_bytes()).finish();
        for len in 0..bytes.len() {
            assert_eq!(replies(&bytes[..len]).count(), 0, "{len}");
        }
        let reply = replies(&bytes).next().unwrap();
        assert_eq!(reply.error().unwrap(), Some(libc::EPERM));
        assert!(replies(&Message::new(2, 0, 1).finish()).next().unwrap().error().is_err());
        assert_eq!(replies(&[0; 64]).count(), 0);
        assert_eq!(replies(&[0xff; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0xff; 64]).count(), 0);
    }
}

//! Where the frames of a WebSocket begin and end (RFC 6455 §5.2), in one direction. Only headers are looked at, and of those only
//! the length and whether it is a Close: what is in a frame is its ends' business.

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_MAX: usize = 14;

/// Set in the first byte of a frame that is the last of its message; a Close always is.
const FIN: u8 = 0x80;
/// Set in the second byte of a masked frame.
const MASK: u8 = 0x80;
/// The opcode of a Close, and where opcodes are.
const CLOSE: u8 = 0x8;
const OPCODE: u8 = 0x0f;
/// Lengths in the second byte that say that the length follows, in two bytes or in eight.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// How far a direction is in its frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; HEADER_MAX],
    /// So much of a header has passed.
    header_len: usize,
    /// So much of a frame's content is still to pass.
    left: u64,
    /// A Close has begun to pass. Nothing may follow it.
    has_close: bool,
}

impl Frames {
    /// Whether what has passed are whole frames.
    pub(crate) fn is_between(&self) -> bool {
        self.header_len == 0 && self.left == 0
    }

    /// Whether a whole Close has passed.
    pub(crate) fn is_closed(&self) -> bool {
        self.has_close && self.is_between()
    }

    /// These bytes pass.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = self.step(rest);
            rest = &rest[len..];
        }
    }

    /// How many of these bytes, which come next, belong to the frame that has begun. None when none has.
    pub(crate) fn of_this_frame(&self, bytes: &[u8]) -> usize {
        let mut ahead = Frames { header: self.header, ..*self };
        let mut len = 0;
        while len < bytes.len() && !ahead.is_between() {
            len += ahead.step(&bytes[len..]);
        }
        len
    }

    /// Passes some of these bytes, at least one, and none of a frame after the next end of one.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= len as u64;
            return len;
        }
        self.header[self.header_len] = bytes[0];
        self.header_len += 1;
        if let Some(length) = content_length(&self.header[..self.header_len]) {
            self.has_close |= self.header[0] & OPCODE == CLOSE;
            self.header_len = 0;
            self.left = length;
        }
        1
    }
}

/// The length of the content behind a header; `None` while the header is not whole.
fn content_length(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let mask_len = if second & MASK == 0 { 0 } else { 4 };
    let (length, length_len) = match second & !MASK {
        LENGTH_16 => (u64::from(u16::from_be_bytes(*header.get(2..)?.first_chunk()?)), 2),
        LENGTH_64 => (u64::from_be_bytes(*header.get(2..)?.first_chunk()?), 8),
        short => (short.into(), 0),
    };
    (header.len() >= 2 + length_len + mask_len).then_some(length)
}

/// A Close that says that the service restarts: 1012 of IANA's registry of close codes, after which a client comes back after a moment
/// of its own choice. As a worker sends it.
pub(crate) const RESTARTS: [u8; 19] = *b"\x88\x11\x03\xf4service restart";

/// The same as a client has to send it, masked. What a mask is for are proxies between the two, of which there is none.
pub(crate) const RESTARTS_MASKED: [u8; 8] =
    [FIN | CLOSE, MASK | 2, 0x5a, 0xa5, 0x3c, 0xc3, 0x03 ^ 0x5a, 0xf4 ^ 0xa5];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame with this opcode and so much content.
    fn frame(opcode: u8, len: usize, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { MASK } else { 0 };
        let mut bytes = vec![FIN | opcode];
        match len {
            0..126 => bytes.push(mask | len as u8),
            126..65_536 => {
                bytes.push(mask | LENGTH_16);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | LENGTH_64);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![0xff; if is_masked { 4 } else { 0 } + len]);
        bytes
    }

    #[test]
    fn our_own_closes_are_frames() {
        for close in [&RESTARTS[..], &RESTARTS_MASKED] {
            let mut frames = Frames::default();
            frames.pass(&close[..close.len() - 1]);
            assert!(!frames.is_closed());
            frames.pass(&close[close.len() - 1..]);
            assert!(frames.is_closed());
        }
        let unmasked: Vec<u8> =
            RESTARTS_MASKED[6..].iter().zip(&RESTARTS_MASKED[2..]).map(|(a, b)| a ^ b).collect();
        assert_eq!(u16::from_be_bytes([unmasked[0], unmasked[1]]), 1012);
        assert_eq!(u16::from_be_bytes([RESTARTS[2], RESTARTS[3]]), 1012);
    }

    #[test]
    fn the_longest_length_that_can_be_said_is_no_harm() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
        assert_eq!(frames.left, u64::MAX);
        frames.pass(&[0; 1000]);
        assert!(!frames.is_between());
    }

    proptest! {
        #[test]
        fn ends_are_where_the_frames_end_however_they_are_cut(
            lens in prop::collection::vec((0usize..70_000, any::<bool>(), 0u8..8), 1..6), cut in 1usize..9_000,
        ) {
            let frames: Vec<Vec<u8>> =
                lens.iter().map(|(len, is_masked, opcode)| frame(*opcode, *len, *is_masked)).collect();
            let ends: Vec<usize> = frames.iter().scan(0, |sum, frame| { *sum += frame.len(); Some(*sum) }).collect();
            let bytes = frames.concat();
            let mut tracked = Frames::default();
            let mut passed = 0;
            for part in bytes.chunks(cut) {
                let expected = ends.iter().find(|end| **end >= passed).copied().unwrap_or(passed);
                let begun = if passed == 0 || ends.contains(&passed) { 0 } else { part.len().min(expected - passed) };
                prop_assert_eq!(tracked.of_this_frame(part), begun);
                tracked.pass(part);
                passed += part.len();
                prop_assert_eq!(tracked.is_between(), ends.contains(&passed));
            }
            prop_assert!(!tracked.is_closed());
            tracked.pass(&frame(CLOSE, 2, true));
            prop_assert!(tracked.is_closed());
        }
    }
}

//! What is kept of a body that passes by.

use watt_cache::Reserved;

/// The beginning of what is kept grows to this at once.
const FIRST: usize = 4 << 10;

/// A copy of a body, without what frames it.
#[derive(Debug)]
pub(crate) struct Tap {
    bytes: Vec<u8>,
    len_max: usize,
    /// The memory for it; `None` once there was none, or the body was too long.
    reserved: Option<Reserved>,
}

impl Tap {
    /// Of at most so many bytes.
    pub(super) fn new(len_max: usize, reserved: Reserved) -> Tap {
        Tap { bytes: Vec::new(), len_max, reserved: Some(reserved) }
    }

    /// These came.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let Some(reserved) = &mut self.reserved else { return };
        let len = self.bytes.len() + bytes.len();
        let room = self.bytes.capacity();
        if len <= room {
            return self.bytes.extend_from_slice(bytes);
        }
        let wanted = len.max((2 * room).min(self.len_max)).max(FIRST.min(self.len_max));
        if len > self.len_max || !reserved.grow(wanted - room) {
            self.bytes = Vec::new();
            self.reserved = None;
            return;
        }
        self.bytes.reserve_exact(wanted - self.bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// All of it, with the memory that was taken. `None` when not all was kept.
    pub(super) fn finish(self) -> Option<(Vec<u8>, Reserved)> {
        Some((self.bytes, self.reserved?))
    }
}

#[cfg(test)]
mod tests {
    use watt_cache::Store;

    use super::*;

    #[test]
    fn what_is_kept_is_counted_and_bounded() {
        let store = Store::default();
        store.limit(100_000, 10);
        let mut tap = Tap::new(20_000, store.reserve(10).unwrap());
        for _ in 0..20 {
            tap.keep(&[7; 1000]);
            assert!(store.status().bytes >= tap.bytes.len() as u64 + 10);
        }
        assert_eq!(store.status().bytes, 20_010);
        let (bytes, reserved) = tap.finish().unwrap();
        assert_eq!(bytes.len(), 20_000);
        drop(reserved);
        let mut tap = Tap::new(10, store.reserve(0).unwrap());
        tap.keep(&[7; 11]);
        assert_eq!(store.status().bytes, 0);
        tap.keep(&[7; 1]);
        assert!(tap.finish().is_none(), "a part of it is not all");
        let mut tap = Tap::new(usize::MAX, store.reserve(0).unwrap());
        tap.keep(&[7; 60_000]);
        assert!(tap.finish().is_none(), "more than may be on its way");
    }
}

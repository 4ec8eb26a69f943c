//! Which of many goes when there is no room: the SIEVE of Zhang et al. (NSDI 2024).
//!
//! They stand in the order they came. A hand goes from the oldest to the newest and lets those stay that were used since it last came by; the first that
//! was not goes. A use moves nothing, and what is asked for once does not push out what is asked for often.

/// Where one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot(u32);

#[derive(Debug)]
struct Node<T> {
    value: T,
    /// It was used since the hand came by.
    is_used: bool,
    newer: Option<Slot>,
    older: Option<Slot>,
}

/// Values in the order they came.
#[derive(Debug)]
pub(crate) struct Sieve<T> {
    nodes: Vec<Option<Node<T>>>,
    free: Vec<Slot>,
    newest: Option<Slot>,
    oldest: Option<Slot>,
    /// Where the hand looks next; `None` is the oldest.
    hand: Option<Slot>,
}

impl<T> Default for Sieve<T> {
    fn default() -> Self {
        Sieve { nodes: Vec::new(), free: Vec::new(), newest: None, oldest: None, hand: None }
    }
}

impl<T> Sieve<T> {
    pub(crate) fn insert(&mut self, value: T) -> Slot {
        let node = Node { value, is_used: false, newer: None, older: self.newest };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.nodes.push(None);
                // 2^32 responses would take terabytes.
                Slot(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.nodes[slot.0 as usize] = Some(node);
        match self.newest.replace(slot) {
            Some(before) => self.link(before, |node| node.newer = Some(slot)),
            None => self.oldest = Some(slot),
        }
        slot
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        self.nodes.get(slot.0 as usize)?.as_ref().map(|node| &node.value)
    }

    /// It is used now.
    pub(crate) fn touch(&mut self, slot: Slot) {
        self.link(slot, |node| node.is_used = true);
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let node = self.nodes.get_mut(slot.0 as usize)?.take()?;
        match node.newer {
            Some(newer) => self.link(newer, |other| other.older = node.older),
            None => self.newest = node.older,
        }
        match node.older {
            Some(older) => self.link(older, |other| other.newer = node.newer),
            None => self.oldest = node.newer,
        }
        if self.hand == Some(slot) {
            self.hand = node.newer;
        }
        self.free.push(slot);
        self.give_back();
        Some(node.value)
    }

    /// The one that goes next; none when all were used, which then have had their time.
    pub(crate) fn next_to_go(&mut self) -> Option<Slot> {
        let start = self.hand.or(self.oldest)?;
        let mut at = start;
        loop {
            let node = self.nodes.get_mut(at.0 as usize)?.as_mut()?;
            let newer = node.newer;
            if !std::mem::take(&mut node.is_used) {
                self.hand = newer;
                return Some(at);
            }
            at = newer.or(self.oldest)?;
            if at == start {
                return None;
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        let slots = (0u32..).map(Slot);
        slots.zip(&self.nodes).filter_map(|(slot, node)| Some((slot, &node.as_ref()?.value)))
    }

    /// An empty one keeps nothing of what it once had.
    fn give_back(&mut self) {
        if self.oldest.is_none() {
            *self = Sieve::default();
        }
    }

    fn link(&mut self, slot: Slot, change: impl FnOnce(&mut Node<T>)) {
        if let Some(Some(node)) = self.nodes.get_mut(slot.0 as usize) {
            change(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn evict(sieve: &mut Sieve<u32>) -> Option<u32> {
        let slot = sieve.next_to_go().or_else(|| sieve.next_to_go())?;
        sieve.remove(slot)
    }

    #[test]
    fn what_is_used_stays_and_the_others_go_in_order() {
        let mut sieve = Sieve::default();
        let slots: Vec<Slot> = (0..4).map(|value| sieve.insert(value)).collect();
        sieve.touch(slots[0]);
        sieve.touch(slots[2]);
        assert_eq!(evict(&mut sieve), Some(1));
        sieve.insert(4);
        assert_eq!(evict(&mut sieve), Some(3), "the hand goes on where it was, past one that was used");
        assert_eq!(evict(&mut sieve), Some(4));
        assert_eq!(evict(&mut sieve), Some(0), "its use was long ago");
        assert_eq!((evict(&mut sieve), evict(&mut sieve)), (Some(2), None));
        assert_eq!(sieve.nodes.len(), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_there_twice(steps in prop::collection::vec((0u8..4, 0usize..8), 1..200)) {
            let mut sieve = Sieve::default();
            let mut known: BTreeMap<u32, Slot> = BTreeMap::new();
            for (number, (step, which)) in steps.into_iter().enumerate() {
                let number = u32::try_from(number).unwrap();
                let chosen = known.iter().nth(which).map(|(value, slot)| (*value, *slot));
                match (step, chosen) {
                    (0, Some((value, slot))) => {
                        prop_assert_eq!(sieve.remove(slot), Some(value));
                        known.remove(&value);
                    }
                    (1, Some((_, slot))) => sieve.touch(slot),
                    (2, _) => {
                        let gone = evict(&mut sieve);
                        prop_assert_eq!(gone.is_some(), !known.is_empty());
                        if let Some(gone) = gone {
                            prop_assert!(known.remove(&gone).is_some());
                        }
                    }
                    _ => {
                        known.insert(number, sieve.insert(number));
                    }
                }
                let mut there: Vec<u32> = sieve.iter().map(|(_, value)| *value).collect();
                there.sort_unstable();
                prop_assert_eq!(there, known.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}

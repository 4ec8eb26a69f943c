//! What was found out lately, up to a bound.

use std::collections::{HashMap, VecDeque};

/// What something is remembered by: a hash that nobody outside can aim at.
pub(crate) type Print = [u8; 32];

/// Values by prints. When there are as many as may be, the oldest one goes.
#[derive(Debug)]
pub(super) struct Recent<T> {
    values: HashMap<Print, T>,
    order: VecDeque<Print>,
    max: usize,
}

impl<T> Recent<T> {
    pub(super) fn new(max: usize) -> Recent<T> {
        Recent { values: HashMap::new(), order: VecDeque::new(), max }
    }

    pub(super) fn get(&self, print: &Print) -> Option<&T> {
        self.values.get(print)
    }

    pub(super) fn insert(&mut self, print: Print, value: T) {
        if self.values.insert(print, value).is_some() {
            return;
        }
        self.order.push_back(print);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_one_goes() {
        let mut recent = Recent::new(2);
        for byte in [1, 2, 1, 3] {
            recent.insert([byte; 32], byte);
        }
        let known = |byte: u8| recent.get(&[byte; 32]).copied();
        assert_eq!([known(1), known(2), known(3)], [None, Some(2), Some(3)]);
        assert_eq!((recent.values.len(), recent.order.len()), (2, 2));
    }
}

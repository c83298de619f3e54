//! Rows that several Service ports share. A row exists while at least one port needs it.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct Counted<K>(HashMap<K, u32>);

impl<K> Default for Counted<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Counted<K> {
    /// Counts one more user. Returns whether it is the first.
    pub(super) fn add(&mut self, key: K) -> bool {
        let count = self.0.entry(key).or_default();
        *count += 1;
        *count == 1
    }

    /// Counts one user less. Returns whether it was the last.
    pub(super) fn remove(&mut self, key: K) -> bool {
        match self.0.get_mut(&key) {
            Some(1) => self.0.remove(&key).is_some(),
            Some(count) => {
                *count -= 1;
                false
            }
            None => false,
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.0.keys().copied()
    }
}

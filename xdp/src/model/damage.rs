//! Somebody writes nonsense into the maps.

use super::Model;
use crate::convert::Plane;

impl<F: Plane> Model<F> {
    /// Writes nonsense into the maps.
    pub fn damage(&mut self, random: &mut fastrand::Rng) {
        self.right = None;
        self.slow = None;
        self.counts.clear();
        for _ in 0..random.usize(1..8) {
            let nonsense = match random.u8(0..4) {
                0 => 0,
                1 => u64::MAX,
                _ => random.u64(..),
            };
            match random.u8(0..7) {
                0 => {
                    let keys: Vec<_> = self.frontends.keys().copied().collect();
                    if let Some(key) = random.choice(keys) {
                        self.frontends.insert(key, nonsense);
                    }
                }
                1 => {
                    let keys: Vec<_> = self.frontends.keys().copied().collect();
                    // The words of two frontends change places.
                    if let (Some(one), Some(other)) = (random.choice(&keys), random.choice(&keys)) {
                        let word = self.frontends[one];
                        let word = self.frontends.insert(*other, word).unwrap_or_default();
                        self.frontends.insert(*one, word);
                    }
                }
                2 => {
                    let used: Vec<usize> = (0..self.services.len()).filter(|at| self.services[*at] != 0).collect();
                    if let (Some(one), Some(other)) = (random.choice(&used), random.choice(&used)) {
                        self.services.swap(*one, *other);
                    }
                }
                3 => {
                    let at = random.usize(..200);
                    self.services[at] = nonsense;
                }
                4 => drop(self.addresses.pop_first()),
                5 => {
                    self.frontends.clear();
                }
                _ => {
                    let at = random.usize(..self.words.len());
                    self.words[at] = nonsense;
                }
            }
        }
    }
}

//! Where lists lie.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// The first word is never used, because place 0 means that there is no list.
const FIRST: u32 = 1;

/// A run of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Extent {
    pub(crate) place: u32,
    pub(crate) len: u32,
}

/// The free and the used words.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// Free runs by their place. No two of them touch.
    free: BTreeMap<u32, u32>,
    /// The same by their length.
    by_len: BTreeSet<(u32, u32)>,
    /// Runs that a program may still be reading, with the ticket after which none does.
    waiting: VecDeque<(u64, Extent)>,
    /// Used runs by their place. What stands in the maps is not asked: a program of others may have changed it.
    taken: HashMap<u32, u32>,
    words: u32,
    used: u64,
}

impl Space {
    /// A space of which these runs are used, and these wait for their tickets. None if two of them share a word, or if
    /// one is outside.
    pub(crate) fn with(words: u32, used: Vec<Extent>, waiting: Vec<(u64, Extent)>) -> Option<Self> {
        let mut space = Self {
            words,
            ..Self::default()
        };
        let mut runs = used.clone();
        runs.extend(waiting.iter().map(|(_, extent)| *extent));
        runs.sort_unstable();
        let mut next = FIRST;
        for extent in runs {
            let end = extent.place.checked_add(extent.len)?;
            if extent.place < next || end > words {
                return None;
            }
            space.free_run(next, extent.place);
            next = end;
        }
        space.free_run(next, words);
        space.used = used.iter().map(|extent| u64::from(extent.len)).sum();
        space.taken = used.into_iter().map(|extent| (extent.place, extent.len)).collect();
        space.waiting = waiting.into();
        Some(space)
    }

    fn free_run(&mut self, from: u32, to: u32) {
        if from < to {
            self.free.insert(from, to - from);
            self.by_len.insert((to - from, from));
        }
    }

    /// Takes a run of this length: the shortest that is long enough.
    pub(crate) fn take(&mut self, len: u32) -> Option<u32> {
        let (found, place) = *self.by_len.range((len, 0)..).next()?;
        self.by_len.remove(&(found, place));
        self.free.remove(&place);
        self.free_run(place + len, place + found);
        self.taken.insert(place, len);
        self.used += u64::from(len);
        Some(place)
    }

    /// Gives the run at this place back once no program can be reading it.
    pub(crate) fn retire(&mut self, place: u32, ticket: u64) {
        let Some(len) = self.taken.remove(&place) else { return };
        self.used -= u64::from(len);
        self.waiting.push_back((ticket, Extent { place, len }));
    }

    /// The runs that wait, with their tickets.
    pub(crate) fn waiting(&self) -> Vec<(u64, Extent)> {
        self.waiting.iter().copied().collect()
    }

    /// Makes runs free whose ticket has passed.
    pub(crate) fn release(&mut self, passed: u64) {
        while let Some((_, extent)) = self.waiting.pop_front_if(|(ticket, _)| *ticket <= passed) {
            self.join(extent);
        }
    }

    /// Adds words at the end. Those that are free now may be used after the ticket: a program that still has the smaller
    /// array must find nothing new in it.
    pub(crate) fn grow(&mut self, words: u32, ticket: u64) {
        // Whoever has the smaller array must be gone before words that wait there are used in the larger one.
        for (earlier, _) in &mut self.waiting {
            *earlier = ticket;
        }
        self.by_len.clear();
        let old = std::mem::take(&mut self.free);
        let runs = old.into_iter().map(|(place, len)| (ticket, Extent { place, len }));
        self.waiting.extend(runs);
        self.free_run(self.words.max(FIRST), words);
        self.words = words;
    }

    /// How many words lists take, those that wait not counted.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    fn join(&mut self, extent: Extent) {
        let (mut place, mut len) = (extent.place, extent.len);
        if len == 0 {
            return;
        }
        if let Some((&before, &its)) = self.free.range(..place).next_back()
            && before + its == place
        {
            self.forget(before, its);
            place = before;
            len += its;
        }
        let end = place + len;
        if let Some(&its) = self.free.get(&end) {
            self.forget(end, its);
            len += its;
        }
        self.free_run(place, place + len);
    }

    fn forget(&mut self, place: u32, len: u32) {
        self.free.remove(&place);
        self.by_len.remove(&(len, place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(place: u32, len: u32) -> Extent {
        Extent { place, len }
    }

    #[test]
    fn a_run_is_not_used_again_before_its_ticket_has_passed() {
        let mut space = Space::with(11, Vec::new(), Vec::new()).unwrap();
        assert_eq!(space.take(10), Some(1));
        assert_eq!(space.take(1), None);
        space.retire(1, 5);
        space.release(4);
        assert_eq!(space.take(1), None);
        space.release(5);
        assert_eq!(space.take(10), Some(1));
    }

    #[test]
    fn what_overlaps_or_is_outside_is_told() {
        assert!(Space::with(11, vec![run(1, 5), run(6, 5)], Vec::new()).is_some());
        for wrong in [
            vec![run(1, 5), run(5, 5)],
            vec![run(1, 11)],
            vec![run(0, 1)],
            vec![run(u32::MAX, 2)],
        ] {
            assert!(Space::with(11, wrong.clone(), Vec::new()).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_larger_space_begins_with_its_new_words() {
        let mut space = Space::with(11, vec![run(1, 5)], Vec::new()).unwrap();
        space.grow(21, 7);
        assert_eq!(space.take(5), Some(11));
        assert_eq!(space.take(6), None);
        space.release(7);
        // The old words from 6 and the new ones from 16 on are not neighbours: 11 to 15 are used.
        assert_eq!(space.take(5), Some(6));
        assert_eq!(space.take(5), Some(16));
    }

    #[test]
    fn at_random_no_two_runs_share_a_word_and_none_is_lost() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut space = Space::with(1_001, Vec::new(), Vec::new()).unwrap();
        let (mut held, mut ticket): (Vec<Extent>, u64) = (Vec::new(), 0);
        for _ in 0..20_000 {
            if random.bool() || held.is_empty() {
                let len = random.u32(1..60);
                if let Some(place) = space.take(len) {
                    let new = run(place, len);
                    let apart = |one: &Extent| one.place + one.len <= place || place + len <= one.place;
                    assert!(held.iter().all(apart));
                    held.push(new);
                }
            } else {
                let gone = held.swap_remove(random.usize(..held.len()));
                ticket += 1;
                space.retire(gone.place, ticket);
            }
            space.release(random.u64(0..=ticket));
            assert_eq!(
                space.used(),
                held.iter().map(|extent| u64::from(extent.len)).sum::<u64>()
            );
        }
        for extent in held.drain(..) {
            space.retire(extent.place, ticket);
        }
        space.release(ticket);
        assert_eq!(space.take(1_000), Some(1));
    }
}

//! Gives out service ids, and takes them back. The id that has been free for longest comes first.
//!
//! A packet may read one set as it was before a change, and the next set as it is after it. If an id went from one
//! Service port to another meanwhile, the packet would reach the wrong one. So an id that a change frees rests until
//! the data plane has applied the next change, too. It is given out in that next change only if no other id is left.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use crate::id::ServiceId;

/// The free numbers of one kind of id, grouped by how long they have been free.
#[derive(Debug)]
struct Numbers {
    /// These may be given out, from the front: the longest free first. Neighbouring numbers are one entry, so a range
    /// that was never used is one entry too.
    free: VecDeque<Range<u32>>,
    /// Freed by the last change that the data plane applied.
    resting: Vec<u32>,
    /// Freed by the change that is being made.
    freed: Vec<u32>,
    /// Given out by the change that is being made.
    taken: Vec<u32>,
}

impl Numbers {
    /// The numbers below `end`, except those in `used`. Those in `resting` were in use until now.
    fn new(end: u32, used: &BTreeSet<u32>, resting: Vec<u32>) -> Self {
        let known: BTreeSet<u32> = used.iter().chain(&resting).copied().collect();
        let mut free = VecDeque::new();
        let mut first = 0;
        for number in known {
            if first < number {
                free.push_back(first..number);
            }
            first = number + 1;
        }
        // Numbers are given out from the lowest on. So those above the highest used one have probably been free for
        // longest. It is not known which ones an earlier run freed last. But that was long ago, because a start takes
        // longer than any packet is under way.
        if first < end {
            free.push_front(first..end);
        }
        Self {
            free,
            resting,
            freed: Vec::new(),
            taken: Vec::new(),
        }
    }

    fn take(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            self.wake();
        }
        let front = self.free.front_mut()?;
        let number = front.start;
        front.start += 1;
        if front.start == front.end {
            self.free.pop_front();
        }
        self.taken.push(number);
        Some(number)
    }

    fn commit(&mut self, changed: bool) {
        self.taken.clear();
        if changed {
            self.wake();
        }
        self.resting.append(&mut self.freed);
    }

    fn rollback(&mut self) {
        self.freed.clear();
        for number in self.taken.drain(..).rev() {
            match self.free.front_mut() {
                Some(front) if front.start == number + 1 => front.start = number,
                _ => self.free.push_front(number..number + 1),
            }
        }
    }

    /// Makes the resting numbers free.
    fn wake(&mut self) {
        self.resting.sort_unstable();
        for number in self.resting.drain(..) {
            match self.free.back_mut() {
                Some(back) if back.end == number => back.end = number + 1,
                _ => self.free.push_back(number..number + 1),
            }
        }
        self.resting.shrink_to(64);
    }

    /// How many numbers can be given out now.
    fn left(&self) -> usize {
        self.free.iter().map(Range::len).sum::<usize>() + self.resting.len()
    }
}

/// The free ids, without affinity and with affinity.
#[derive(Debug)]
pub(super) struct Ids {
    plain: Numbers,
    sticky: Numbers,
}

impl Default for Ids {
    fn default() -> Self {
        Self::new([], [])
    }
}

impl Ids {
    /// All ids except those in `used`, which the data plane holds. Ids that were in use `before` are given out as late
    /// as those that were freed just now.
    pub(super) fn new(used: impl IntoIterator<Item = ServiceId>, before: impl IntoIterator<Item = ServiceId>) -> Self {
        let (mut plain, mut sticky) = (BTreeSet::new(), BTreeSet::new());
        for id in used {
            let of_kind = if id.is_sticky() { &mut sticky } else { &mut plain };
            of_kind.insert(id.number());
        }
        let (mut plain_before, mut sticky_before) = (BTreeSet::new(), BTreeSet::new());
        for id in before {
            let (used, before) = if id.is_sticky() {
                (&sticky, &mut sticky_before)
            } else {
                (&plain, &mut plain_before)
            };
            if !used.contains(&id.number()) {
                before.insert(id.number());
            }
        }
        Self {
            plain: Numbers::new(ServiceId::PLAIN, &plain, plain_before.into_iter().collect()),
            sticky: Numbers::new(ServiceId::STICKY, &sticky, sticky_before.into_iter().collect()),
        }
    }

    /// Takes a free id; none if all are in use.
    pub(super) fn take(&mut self, sticky: bool) -> Option<ServiceId> {
        if sticky {
            self.sticky.take().and_then(ServiceId::sticky)
        } else {
            self.plain.take().and_then(ServiceId::plain)
        }
    }

    /// Takes back an id that the present change frees.
    pub(super) fn release(&mut self, id: ServiceId) {
        self.numbers(id).freed.push(id.number());
    }

    /// Call this when the data plane has applied what was made. `changed` says whether there was a change.
    pub(super) fn commit(&mut self, changed: bool) {
        self.plain.commit(changed);
        self.sticky.commit(changed);
    }

    /// Sets the ids back to their state before the present change.
    pub(super) fn rollback(&mut self) {
        self.plain.rollback();
        self.sticky.rollback();
    }

    /// How many ids can be given out now.
    pub(super) fn left(&self, sticky: bool) -> usize {
        if sticky { self.sticky.left() } else { self.plain.left() }
    }

    /// Ids that the last changes freed.
    pub(super) fn resting(&self) -> impl Iterator<Item = ServiceId> + '_ {
        fn lately(numbers: &Numbers) -> impl Iterator<Item = u32> + '_ {
            numbers.resting.iter().chain(&numbers.freed).copied()
        }
        let plain = lately(&self.plain).filter_map(ServiceId::plain);
        plain.chain(lately(&self.sticky).filter_map(ServiceId::sticky))
    }

    fn numbers(&mut self, id: ServiceId) -> &mut Numbers {
        if id.is_sticky() {
            &mut self.sticky
        } else {
            &mut self.plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(number: u32) -> ServiceId {
        ServiceId::plain(number).unwrap()
    }

    fn take(ids: &mut Ids, count: usize) -> Vec<u32> {
        (0..count).map(|_| ids.take(false).unwrap().number()).collect()
    }

    /// Ids of which only those below `count` are free.
    fn few(count: u32) -> Ids {
        Ids {
            plain: Numbers::new(count, &BTreeSet::new(), Vec::new()),
            ..Ids::default()
        }
    }

    #[test]
    fn an_id_is_handed_out_again_two_changes_after_it_was_freed_and_the_longest_free_comes_first() {
        let mut ids = few(6);
        assert_eq!(take(&mut ids, 4), [0, 1, 2, 3]);
        ids.commit(true);
        ids.release(plain(2));
        ids.commit(true);
        ids.release(plain(1));
        assert_eq!(take(&mut ids, 1), [4]);
        ids.commit(true);
        assert_eq!(take(&mut ids, 2), [5, 2]);
        ids.commit(true);
        ids.release(plain(0));
        assert_eq!(take(&mut ids, 1), [1]);
    }

    #[test]
    fn a_commit_that_changed_nothing_lets_nothing_be_used_again() {
        let mut ids = few(4);
        take(&mut ids, 2);
        ids.commit(true);
        ids.release(plain(0));
        ids.commit(true);
        for _ in 0..3 {
            ids.commit(false);
        }
        assert_eq!(ids.plain.resting, [0]);
    }

    #[test]
    fn where_no_other_is_left_an_id_is_handed_out_one_change_after_it_was_freed_and_never_in_the_same() {
        let mut ids = few(3);
        take(&mut ids, 3);
        ids.commit(true);
        ids.release(plain(1));
        assert_eq!((ids.left(false), ids.take(false)), (0, None));
        ids.commit(true);
        assert_eq!((ids.left(false), ids.take(false)), (1, Some(plain(1))));
        assert_eq!(ids.take(false), None);
    }

    #[test]
    fn a_change_that_is_rolled_back_gives_the_ids_back_as_they_were() {
        let mut ids = few(5);
        take(&mut ids, 4);
        ids.commit(true);
        for number in [3, 0] {
            ids.release(plain(number));
            ids.commit(true);
        }
        for _ in 0..3 {
            ids.release(plain(1));
            assert_eq!(take(&mut ids, 3), [4, 3, 0]);
            assert_eq!(ids.take(false), None, "1 was freed just now");
            ids.rollback();
        }
        ids.commit(true);
        assert_eq!(take(&mut ids, 3), [4, 3, 0], "1 is in use still");
        assert_eq!(ids.take(false), None);
    }

    #[test]
    fn an_id_that_is_taken_and_freed_in_one_change_rests_too_and_is_free_at_once_where_the_change_fails() {
        let mut ids = few(2);
        assert_eq!(take(&mut ids, 1), [0]);
        ids.release(plain(0));
        assert_eq!(take(&mut ids, 1), [1]);
        ids.rollback();
        assert_eq!(take(&mut ids, 2), [0, 1]);
    }

    #[test]
    fn an_adopted_id_is_not_handed_out_again_and_those_behind_the_highest_come_first() {
        let mut ids = Ids::new([plain(1), plain(3), ServiceId::sticky(0).unwrap()], []);
        assert_eq!(take(&mut ids, 2), [4, 5]);
        assert_eq!(ids.take(true).unwrap().number(), 1);
        ids.plain.free.pop_front();
        assert_eq!(take(&mut ids, 2), [0, 2], "the gaps at the end");
    }

    #[test]
    fn ids_of_before_a_reopening_rest_unless_they_are_in_use() {
        let mut ids = Ids::new([plain(0)], [plain(0), plain(1), plain(4)]);
        assert_eq!(take(&mut ids, 1), [5]);
        assert_eq!(ids.plain.resting, [1, 4]);
        assert_eq!(ids.resting().map(ServiceId::number).collect::<Vec<_>>(), [1, 4]);
    }

    #[test]
    fn an_adopted_id_far_ahead_costs_one_entry() {
        let last = plain(131_070);
        assert_eq!(last.to_string(), "f3ff:fe00");
        let mut ids = Ids::new([last], []);
        assert_eq!(ids.plain.free.len(), 1);
        assert_eq!(ids.take(false), ServiceId::plain(0));
    }

    #[test]
    fn ids_freed_together_cost_one_entry() {
        let mut ids = Ids::default();
        take(&mut ids, 100_000);
        ids.commit(true);
        (0..100_000).rev().for_each(|number| ids.release(plain(number)));
        ids.commit(true);
        ids.commit(true);
        assert_eq!(ids.plain.free.len(), 2);
        assert_eq!(ids.left(false), 131_071);
    }

    #[test]
    fn a_used_up_range_gives_none_and_recovers() {
        let mut ids = Ids::default();
        let all: Vec<ServiceId> = std::iter::from_fn(|| ids.take(true)).collect();
        assert_eq!(all.len(), 16_384);
        assert_eq!(ids.take(true), None);
        ids.commit(true);
        ids.release(all[9]);
        ids.commit(true);
        assert_eq!(ids.take(true), Some(all[9]));
        assert_eq!(std::iter::from_fn(|| ids.take(false)).count(), 131_071);
    }
}

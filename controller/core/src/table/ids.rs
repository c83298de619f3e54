//! Hands out service ids, lowest first, and takes them back.

use std::collections::BTreeSet;

use crate::id::ServiceId;

/// The ids of one range that are in use.
#[derive(Debug, Default)]
struct Range {
    /// All numbers from here on are free, but for those in `ahead`.
    end: u32,
    /// Free numbers below `end`.
    free: BTreeSet<u32>,
    /// Numbers from `end` on that were adopted.
    ahead: BTreeSet<u32>,
}

impl Range {
    fn take(&mut self) -> u32 {
        if let Some(number) = self.free.pop_first() {
            return number;
        }
        while self.ahead.remove(&self.end) {
            self.end += 1;
        }
        self.end += 1;
        self.end - 1
    }

    fn claim(&mut self, number: u32) {
        if number >= self.end {
            self.ahead.insert(number);
        } else {
            self.free.remove(&number);
        }
    }

    fn release(&mut self, number: u32) {
        if number >= self.end {
            self.ahead.remove(&number);
        } else {
            self.free.insert(number);
        }
    }
}

/// The ids in use, without affinity and with.
#[derive(Debug, Default)]
pub(super) struct Ids {
    plain: Range,
    sticky: Range,
}

impl Ids {
    /// A free id; none where the range is used up.
    pub(super) fn take(&mut self, sticky: bool) -> Option<ServiceId> {
        let (range, make): (_, fn(u32) -> Option<ServiceId>) = if sticky {
            (&mut self.sticky, ServiceId::sticky)
        } else {
            (&mut self.plain, ServiceId::plain)
        };
        let number = range.take();
        let id = make(number);
        if id.is_none() {
            range.release(number);
        }
        id
    }

    /// Marks an id that the kernel holds as in use.
    pub(super) fn claim(&mut self, id: ServiceId) {
        self.range(id).claim(id.number());
    }

    /// Takes an id back.
    pub(super) fn release(&mut self, id: ServiceId) {
        self.range(id).release(id.number());
    }

    fn range(&mut self, id: ServiceId) -> &mut Range {
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

    #[test]
    fn the_lowest_free_id_is_handed_out() {
        let mut ids = Ids::default();
        let [first, second] = [ids.take(false), ids.take(false)].map(Option::unwrap);
        ids.release(first);
        assert_eq!(ids.take(false), Some(first));
        assert_ne!(first, second);
    }

    #[test]
    fn an_adopted_id_is_not_handed_out_again() {
        let mut ids = Ids::default();
        ids.claim(ServiceId::plain(2).unwrap());
        ids.claim(ServiceId::sticky(0).unwrap());
        let taken: Vec<u32> = (0..3).map(|_| ids.take(false).unwrap().number()).collect();
        assert_eq!(taken, [0, 1, 3]);
        assert_eq!(ids.take(true).unwrap().number(), 1);
    }

    #[test]
    fn an_adopted_id_far_ahead_costs_one_entry() {
        let mut ids = Ids::default();
        let last = ServiceId::plain(131_070).unwrap();
        assert_eq!(last.to_string(), "f3ff:fe00");
        ids.claim(last);
        assert_eq!(ids.plain.free.len() + ids.plain.ahead.len(), 1);
        ids.release(last);
        assert!(ids.plain.ahead.is_empty());
        assert_eq!(ids.take(false), ServiceId::plain(0));
    }

    #[test]
    fn a_released_id_that_was_adopted_is_handed_out_in_its_turn() {
        let mut ids = Ids::default();
        for number in [1, 3] {
            ids.claim(ServiceId::plain(number).unwrap());
        }
        let taken: Vec<u32> = (0..2).map(|_| ids.take(false).unwrap().number()).collect();
        ids.release(ServiceId::plain(1).unwrap());
        ids.release(ServiceId::plain(3).unwrap());
        let later: Vec<u32> = (0..3).map(|_| ids.take(false).unwrap().number()).collect();
        assert_eq!((taken, later), (vec![0, 2], vec![1, 3, 4]));
    }

    #[test]
    fn a_used_up_range_gives_none_and_recovers() {
        let mut ids = Ids::default();
        let all: Vec<ServiceId> = std::iter::from_fn(|| ids.take(true)).collect();
        assert_eq!(all.len(), 16_384);
        assert_eq!(ids.take(true), None);
        ids.release(all[9]);
        assert_eq!(ids.take(true), Some(all[9]));
    }
}

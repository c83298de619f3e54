//! Hands out service ids, lowest first, and takes them back.

use std::collections::BTreeSet;

use crate::id::ServiceId;

/// The ids of one range that are in use.
#[derive(Debug, Default)]
struct Range {
    /// All numbers from here on are free.
    end: u32,
    /// Free numbers below `end`.
    free: BTreeSet<u32>,
}

impl Range {
    fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        })
    }

    fn claim(&mut self, number: u32) {
        if number >= self.end {
            self.free.extend(self.end..number);
            self.end = number + 1;
        } else {
            self.free.remove(&number);
        }
    }

    fn release(&mut self, number: u32) {
        self.free.insert(number);
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
    fn a_used_up_range_gives_none_and_recovers() {
        let mut ids = Ids::default();
        let all: Vec<ServiceId> = std::iter::from_fn(|| ids.take(true)).collect();
        assert_eq!(all.len(), 28_672);
        assert_eq!(ids.take(true), None);
        ids.release(all[9]);
        assert_eq!(ids.take(true), Some(all[9]));
    }
}

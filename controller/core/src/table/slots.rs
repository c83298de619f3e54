//! Which endpoint has which slot of a list. If the set of endpoints changes, as few of them as possible move. Slots
//! have no gaps, so that the rules can pick from a list of n by a number below n.

use crate::family::Family;
use crate::id::{STICKY_ENDPOINTS, ServiceId};
use crate::row::{Endpoint, Row};

use super::journal::Journal;

/// The endpoints of a list, each at the index of its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slots<F: Family> {
    /// A list without affinity.
    Plain(Box<[Endpoint<F>]>),
    /// A list with affinity: each endpoint keeps its number for as long as it is in the list.
    Sticky {
        entries: Box<[(u16, Endpoint<F>)]>,
        /// The number to try first for the next new endpoint. Numbers are used again as late as possible.
        next: u16,
    },
}

impl<F: Family> Slots<F> {
    /// A list without endpoints.
    pub(super) fn empty(sticky: bool) -> Self {
        if sticky {
            Self::Sticky {
                entries: Box::default(),
                next: 1,
            }
        } else {
            Self::Plain(Box::default())
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Plain(endpoints) => endpoints.len(),
            Self::Sticky { entries, .. } => entries.len(),
        }
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = Endpoint<F>> + '_ {
        let (plain, sticky) = match self {
            Self::Plain(endpoints) => (&endpoints[..], &[][..]),
            Self::Sticky { entries, .. } => (&[][..], &entries[..]),
        };
        plain
            .iter()
            .copied()
            .chain(sticky.iter().map(|(_, endpoint)| *endpoint))
    }

    /// The same list with exactly the endpoints in `wanted` (sorted, each once, not more than the capacity).
    pub(super) fn with(&self, wanted: &[Endpoint<F>]) -> Self {
        match self {
            Self::Plain(old) => Self::Plain(arrange(old, wanted, |endpoint| *endpoint, |endpoint| endpoint)),
            Self::Sticky { entries, next } => {
                let mut numbers = Numbers {
                    entries,
                    wanted,
                    taken: Vec::new(),
                    next: *next,
                };
                let entries = arrange(entries, wanted, |entry| entry.1, |endpoint| (numbers.take(), endpoint));
                Self::Sticky {
                    entries,
                    next: numbers.next,
                }
            }
        }
    }

    /// Writes the rows that differ between this list and the new one.
    pub(super) fn write(&self, service: ServiceId, new: &Self, journal: &mut Journal<F>) {
        let row = |slots: &Self, index: usize| match slots {
            Self::Plain(endpoints) => {
                let endpoint = *endpoints.get(index)?;
                Some(Row::Endpoint {
                    service,
                    slot: u16::try_from(index).ok()?,
                    endpoint,
                })
            }
            Self::Sticky { entries, .. } => {
                let id = service.endpoint(entries.get(index)?.0)?;
                Some(Row::StickyEndpoint {
                    service,
                    slot: u16::try_from(index).ok()?,
                    id,
                })
            }
        };
        for index in 0..self.len().max(new.len()) {
            let (old, new) = (row(self, index), row(new, index));
            if old != new {
                journal.write(old, new);
            }
        }
        self.write_ids(service, new, journal);
    }

    /// Writes the endpoint ids that differ. Lists without affinity have none.
    fn write_ids(&self, service: ServiceId, new: &Self, journal: &mut Journal<F>) {
        let sorted = |slots: &Self| -> Vec<(u16, Endpoint<F>)> {
            let Self::Sticky { entries, .. } = slots else {
                return Vec::new();
            };
            let mut entries = entries.to_vec();
            entries.sort_unstable_by_key(|(number, _)| *number);
            entries
        };
        let (before, after) = (sorted(self), sorted(new));
        let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
        let number = |entry: Option<&(u16, Endpoint<F>)>| entry.map(|(number, _)| *number);
        while let Some(least) = number(before.peek()).into_iter().chain(number(after.peek())).min() {
            let row = |entry: Option<(u16, Endpoint<F>)>| {
                let (number, endpoint) = entry?;
                let id = service.endpoint(number)?;
                Some(Row::EndpointId { id, endpoint })
            };
            let old = before.next_if(|(number, _)| *number == least);
            let new = after.next_if(|(number, _)| *number == least);
            if old != new {
                journal.write(row(old), row(new));
            }
        }
    }
}

/// Keeps each endpoint of `wanted` in its slot. Fills the holes with new endpoints, and then with endpoints from beyond
/// the new end.
fn arrange<F: Family, T: Copy>(
    old: &[T],
    wanted: &[Endpoint<F>],
    endpoint: impl Fn(&T) -> Endpoint<F>,
    mut make: impl FnMut(Endpoint<F>) -> T,
) -> Box<[T]> {
    let mut known = vec![false; wanted.len()];
    let stays: Vec<bool> = positions(wanted, old.iter().map(endpoint))
        .map(|position| position.map(|position| known[position] = true).is_some())
        .collect();
    let entries = || old.iter().zip(&stays);
    let mut movers = entries().skip(wanted.len()).filter(|(_, stays)| **stays);
    let mut fresh = wanted.iter().zip(&known).filter(|(_, known)| !**known);
    let mut next = || match fresh.next() {
        Some((endpoint, _)) => Some(make(*endpoint)),
        None => movers.next().map(|(entry, _)| *entry),
    };
    let mut slots: Vec<T> = Vec::with_capacity(wanted.len());
    let head = entries().take(wanted.len());
    slots.extend(head.filter_map(|(entry, stays)| if *stays { Some(*entry) } else { next() }));
    slots.extend(std::iter::from_fn(next));
    slots.into()
}

/// The position of each endpoint in `wanted` (sorted), if it is there. Slots are mostly in the same order, so this
/// tries the next position before it searches.
fn positions<F: Family>(
    wanted: &[Endpoint<F>],
    endpoints: impl Iterator<Item = Endpoint<F>>,
) -> impl Iterator<Item = Option<usize>> {
    let mut guess = 0;
    endpoints.map(move |endpoint| {
        let position = if wanted.get(guess) == Some(&endpoint) {
            guess
        } else {
            wanted.binary_search(&endpoint).ok()?
        };
        guess = position + 1;
        Some(position)
    })
}

/// Gives out the numbers that no endpoint of a list has.
struct Numbers<'a, F: Family> {
    entries: &'a [(u16, Endpoint<F>)],
    wanted: &'a [Endpoint<F>],
    /// For each number, whether an endpoint that stays has it. It is empty until the first number is given out, which
    /// is rare.
    taken: Vec<bool>,
    next: u16,
}

impl<F: Family> Numbers<'_, F> {
    /// Takes a free number. The caller respects the capacity, so one is always free. A number that becomes free in this
    /// change goes to another endpoint only if there might be too few numbers. So a client that remembers the old
    /// endpoint gets any of the endpoints, not the wrong one.
    fn take(&mut self) -> u16 {
        if self.taken.is_empty() {
            self.taken.resize(STICKY_ENDPOINTS + 1, false);
            let enough = self.entries.len() + self.wanted.len() <= STICKY_ENDPOINTS;
            let stays = positions(self.wanted, self.entries.iter().map(|(_, endpoint)| *endpoint));
            for ((number, _), stays) in self.entries.iter().zip(stays) {
                self.taken[usize::from(*number)] |= enough || stays.is_some();
            }
        }
        loop {
            let number = self.next;
            self.next = if usize::from(number) >= STICKY_ENDPOINTS {
                1
            } else {
                number + 1
            };
            if !std::mem::replace(&mut self.taken[usize::from(number)], true) {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::V4;
    use crate::row::Port;

    fn endpoints(last: &[u8]) -> Vec<Endpoint<V4>> {
        last.iter()
            .map(|n| Endpoint {
                addr: [10, 0, 0, *n].into(),
                port: Port::new(80).unwrap(),
            })
            .collect()
    }

    fn after(old: &[u8], wanted: &[u8]) -> Vec<u8> {
        let slots = Slots::Plain(endpoints(old).into()).with(&endpoints(wanted));
        slots.endpoints().map(|endpoint| endpoint.addr.octets()[3]).collect()
    }

    #[test]
    fn a_new_endpoint_takes_the_slot_after_the_last() {
        assert_eq!(after(&[5, 3], &[1, 3, 5]), [5, 3, 1]);
    }

    #[test]
    fn the_last_endpoint_fills_the_hole_that_another_left() {
        assert_eq!(after(&[1, 2, 3, 4], &[1, 3, 4]), [1, 4, 3]);
        assert_eq!(after(&[1, 2, 3, 4], &[1, 2, 3]), [1, 2, 3]);
    }

    #[test]
    fn a_replaced_endpoint_leaves_its_slot_to_the_new_one() {
        assert_eq!(after(&[1, 2, 3], &[1, 3, 9]), [1, 9, 3]);
    }

    #[test]
    fn everything_may_go_and_come() {
        assert_eq!(after(&[1, 2], &[]), [] as [u8; 0]);
        assert_eq!(after(&[], &[2, 7]), [2, 7]);
        assert_eq!(after(&[1, 2, 3, 4, 5], &[4, 8]), [8, 4]);
    }

    #[test]
    fn an_endpoint_with_affinity_keeps_its_number_and_a_freed_number_is_not_reused_at_once() {
        let list = Slots::<V4>::empty(true).with(&endpoints(&[1, 2]));
        let list = list.with(&endpoints(&[2]));
        let list = list.with(&endpoints(&[1, 2]));
        let Slots::Sticky { entries, .. } = &list else {
            panic!("affinity was lost")
        };
        let numbers: Vec<(u16, u8)> = entries.iter().map(|(n, e)| (*n, e.addr.octets()[3])).collect();
        assert_eq!(numbers, [(2, 2), (3, 1)]);
    }

    #[test]
    fn a_number_is_not_given_to_another_endpoint_in_the_change_in_which_it_becomes_free() {
        let list = Slots::<V4>::Sticky {
            entries: [4094, 1, 2].into_iter().zip(endpoints(&[7, 8, 9])).collect(),
            next: 4095,
        };
        let Slots::Sticky { entries, .. } = list.with(&endpoints(&[1, 2, 3])) else {
            panic!("affinity was lost")
        };
        let numbers: Vec<u16> = entries.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [4095, 3, 4]);
    }

    #[test]
    fn every_number_can_be_used_where_all_endpoints_are_replaced_at_once() {
        let many = |first: u32| -> Vec<Endpoint<V4>> {
            (first..)
                .take(STICKY_ENDPOINTS)
                .map(|n| Endpoint {
                    addr: n.into(),
                    port: Port::new(80).unwrap(),
                })
                .collect()
        };
        let list = Slots::<V4>::empty(true).with(&many(0)).with(&many(5000));
        assert_eq!(list.endpoints().collect::<Vec<_>>(), many(5000));
    }

    #[test]
    fn numbers_start_again_after_the_last() {
        let full = Slots::<V4>::Sticky {
            entries: Box::default(),
            next: 4095,
        };
        let Slots::Sticky { entries, next } = full.with(&endpoints(&[1, 2])) else {
            panic!("affinity was lost")
        };
        assert_eq!((entries[0].0, entries[1].0, next), (4095, 1, 2));
    }
}

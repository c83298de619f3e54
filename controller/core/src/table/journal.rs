//! What a change did to the rows, reduced to its net effect. If a row was removed and added again, that is no change.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::family::Family;
use crate::plane::Delta;
use crate::row::{Key, Row};

/// The row that a key had before, and the one that it has now.
type Write<F> = (Option<Row<F>>, Option<Row<F>>);

/// The rows that were written since the last [`Journal::take`], each with the row of before.
#[derive(Debug)]
pub(super) struct Journal<F: Family> {
    /// They are in the order of the first write, so that the same change always makes the same delta.
    writes: Vec<Write<F>>,
    place: HashMap<Key<F>, usize>,
    /// Whether no key is written twice, so that no place has to be remembered.
    once: bool,
}

impl<F: Family> Default for Journal<F> {
    fn default() -> Self {
        Self {
            writes: Vec::new(),
            place: HashMap::new(),
            once: false,
        }
    }
}

impl<F: Family> Journal<F> {
    /// A journal in which no key is written twice. It needs less time and memory.
    pub(super) fn once() -> Self {
        Self {
            once: true,
            ..Self::default()
        }
    }

    /// Notes a row that is added.
    pub(super) fn add(&mut self, row: Row<F>) {
        self.write(None, Some(row));
    }

    /// Notes a row that is removed.
    pub(super) fn remove(&mut self, row: Row<F>) {
        self.write(Some(row), None);
    }

    /// Notes that `old`, if there is one, is removed, and that `new`, if there is one, is added. Both have the same
    /// key.
    pub(super) fn write(&mut self, old: Option<Row<F>>, new: Option<Row<F>>) {
        let Some(row) = old.as_ref().or(new.as_ref()) else {
            return;
        };
        if self.once {
            self.writes.push((old, new));
            return;
        }
        match self.place.entry(row.key()) {
            Entry::Occupied(entry) => self.writes[*entry.get()].1 = new,
            Entry::Vacant(entry) => {
                entry.insert(self.writes.len());
                self.writes.push((old, new));
            }
        }
    }

    /// How many rows were written.
    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// The net effect of everything written.
    pub(super) fn take(&mut self) -> Delta<F> {
        self.place.clear();
        self.place.shrink_to(64);
        let mut delta = Delta::default();
        for write in std::mem::take(&mut self.writes) {
            match write {
                (Some(old), Some(new)) if old != new => delta.changed.push((old, new)),
                (Some(old), None) => delta.removed.push(old),
                (None, Some(new)) => delta.added.push(new),
                _ => {}
            }
        }
        delta.added.sort_by_key(Row::kind);
        delta.changed.sort_by_key(|(_, new)| new.kind());
        delta.removed.sort_by_key(|row| std::cmp::Reverse(row.kind()));
        delta
    }
}

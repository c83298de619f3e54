//! The same data plane without a kernel. Used by tests of the engine; it refuses what the kernel refuses, in the same
//! words.

use std::collections::BTreeMap;

use tandem_core::delta::{ApplyError, DataPlane, Delta, ReadError, Rejection};
use tandem_core::family::Family;
use tandem_core::row::Row;

use crate::explain::{NOT_THERE, taken};
use crate::key::{Key, Keys, keys_of, set_of};
use crate::sets::Set;

/// One family's rows in memory.
#[derive(Clone, Debug)]
pub struct Memory<F: Family> {
    rows: BTreeMap<(Set, Key), Row<F>>,
}

impl<F: Family> Default for Memory<F> {
    fn default() -> Self {
        Self { rows: BTreeMap::new() }
    }
}

impl<F: Family> Memory<F> {
    /// Holds no rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rows that are there, ordered by set and key.
    pub fn rows(&self) -> impl Iterator<Item = &Row<F>> {
        self.rows.values()
    }

    fn remove(&mut self, row: &Row<F>, rejections: &mut Vec<Rejection<F>>) {
        let key = address(row);
        if self.rows.get(&key).is_some_and(|there| keys_of(there) == keys_of(row)) {
            self.rows.remove(&key);
        } else {
            rejections.push(Rejection {
                row: row.clone(),
                reason: NOT_THERE.to_owned(),
            });
        }
    }

    fn add(&mut self, row: &Row<F>, rejections: &mut Vec<Rejection<F>>) {
        let key = address(row);
        // Ranges that stand side by side do not overlap, so only the neighbours can.
        let before = self.rows.range(..key).next_back();
        let after = self.rows.range(key..).next();
        if before
            .into_iter()
            .chain(after)
            .any(|(there, other)| *there == key || there.0 == key.0 && overlap(other, row))
        {
            return rejections.push(Rejection {
                row: row.clone(),
                reason: taken(row).to_owned(),
            });
        }
        self.rows.insert(key, row.clone());
    }
}

impl<F: Family> DataPlane<F> for Memory<F> {
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError> {
        Ok(self.rows.values().cloned().collect())
    }

    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>> {
        let mut next = self.clone();
        let mut rejections = Vec::new();
        for row in delta.removed.iter().chain(delta.changed.iter().map(|(old, _)| old)) {
            next.remove(row, &mut rejections);
        }
        for row in delta.changed.iter().map(|(_, new)| new).chain(&delta.added) {
            next.add(row, &mut rejections);
        }
        if rejections.is_empty() {
            *self = next;
            Ok(())
        } else {
            Err(ApplyError::Rejected(rejections))
        }
    }
}

/// Where a row stands: its set and its first key.
fn address<F: Family>(row: &Row<F>) -> (Set, Key) {
    let (Keys::One(key) | Keys::Range(key, _) | Keys::Until(key, _)) = keys_of(row);
    (set_of(row), key)
}

fn overlap<F: Family>(a: &Row<F>, b: &Row<F>) -> bool {
    match (keys_of(a), keys_of(b)) {
        (Keys::Range(a, a_last), Keys::Range(b, b_last)) => a <= b_last && b <= a_last,
        (Keys::Until(a, a_end), Keys::Until(b, b_end)) => {
            a_end.is_none_or(|end| b < end) && b_end.is_none_or(|end| a < end)
        }
        _ => false,
    }
}

//! What has to be done so that the kernel holds the rows that are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::carrier::Carrier;
use super::row::{Key, Row};

/// Rows, each at its key.
pub type Table = BTreeMap<Key, Row>;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row is added, or takes the place of the one with its key.
    Put(Row),
    /// The row is removed.
    Take(Row),
}

impl Change {
    /// The row that it is about.
    pub fn row(&self) -> &Row {
        match self {
            Self::Put(row) | Self::Take(row) => row,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(row) => write!(f, "+ {row}"),
            Self::Take(row) => write!(f, "- {row}"),
        }
    }
}

/// The fewest changes from one table to another. What is put comes first, and in the order of keys: nothing leads to what is not
/// there. What is taken goes in the other order. A device that has to be made anew is taken before, and takes its rows with it.
pub fn difference(there: &Table, wanted: &Table) -> Vec<Change> {
    let keys: BTreeSet<Key> = there.keys().chain(wanted.keys()).copied().collect();
    of_keys(keys.into_iter().map(|key| (key, there.get(&key).cloned())), wanted)
}

/// The same for keys that are known: each with the row that is there.
pub fn of_keys(touched: impl IntoIterator<Item = (Key, Option<Row>)>, wanted: &Table) -> Vec<Change> {
    let mut changes = Vec::new();
    for (key, before) in touched {
        match (before, wanted.get(&key)) {
            (Some(before), None) => changes.push(Change::Take(before)),
            (None, Some(after)) => changes.push(Change::Put(after.clone())),
            (None, None) => {}
            (Some(before), Some(after)) if before == *after => {}
            (Some(before), Some(after)) => {
                if let (Row::Device(old), Row::Device(new)) = (&before, after)
                    && !old.can_become(new)
                {
                    changes.push(Change::Take(before));
                }
                changes.push(Change::Put(after.clone()));
            }
        }
    }
    put_again(&mut changes, wanted);
    sort(&mut changes);
    changes
}

/// What stands on a device that is made anew has to be put again, although it is as it was, and nothing has to be taken from it.
fn put_again(changes: &mut Vec<Change>, wanted: &Table) {
    let anew: Vec<Carrier> = remade(changes).collect();
    if anew.is_empty() {
        return;
    }
    let lost = |row: &Row| row.stands_on().is_some_and(|on| anew.contains(&on));
    changes.retain(|change| !lost(change.row()));
    changes.extend(wanted.values().filter(|row| lost(row)).cloned().map(Change::Put));
}

/// The carriers whose devices are taken and put.
fn remade(changes: &[Change]) -> impl Iterator<Item = Carrier> {
    changes.iter().filter_map(|change| match change {
        Change::Take(Row::Device(device)) => changes
            .iter()
            .any(|other| matches!(other, Change::Put(Row::Device(new)) if new.carrier == device.carrier))
            .then_some(device.carrier),
        _ => None,
    })
}

fn sort(changes: &mut Vec<Change>) {
    let anew: Vec<Carrier> = remade(changes).collect();
    let (mut put, mut taken): (Vec<Change>, Vec<Change>) = std::mem::take(changes)
        .into_iter()
        .partition(|change| matches!(change, Change::Put(_)));
    put.sort_by_key(|change| change.row().key());
    taken.sort_by_key(|change| std::cmp::Reverse(change.row().key()));
    let first = |change: &Change| matches!(change.row(), Row::Device(device) if anew.contains(&device.carrier));
    let (first, last): (Vec<Change>, Vec<Change>) = taken.into_iter().partition(first);
    changes.extend(first.into_iter().chain(put).chain(last));
}

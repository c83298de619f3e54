//! Halves a change that does not fit into one transaction. After the first half no packet meets a row that points at
//! a row that does not exist. First come the rows that others point at, then the rows that point at them change, and
//! the rows that no row points at any more go last. Used by `NftTable`. Pure.

use std::collections::BTreeSet;

use tandem_core::family::Family;
use tandem_core::plane::Delta;
use tandem_core::row::{Row, RowKind};

use crate::elements::key::{Key, Keys, keys_of};

/// One row of a change.
#[derive(Clone, Copy, Debug)]
enum Change<'a, F: Family> {
    Add(&'a Row<F>),
    Replace(&'a (Row<F>, Row<F>)),
    Remove(&'a Row<F>),
}

/// When it is a row's turn. Rows of one turn may come in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Endpoints come. No count reaches them yet.
    Comes(RowKind),
    /// Endpoints take the place of others.
    SlotChanges,
    /// Rows that neither point at others nor are pointed at.
    Alone(RowKind),
    /// Counts change. All endpoints for them exist now, and no count reaches an endpoint that goes later.
    Counts,
    /// Rows that frontends need.
    Front(RowKind),
    /// Frontends change to other lists.
    FrontendChanges,
    FrontendComes,
    FrontendGoes,
    /// Rows go. A row goes after those that point at it.
    Goes(std::cmp::Reverse<RowKind>),
}

impl<'a, F: Family> Change<'a, F> {
    fn row(self) -> &'a Row<F> {
        match self {
            Self::Add(row) | Self::Remove(row) => row,
            Self::Replace((_, new)) => new,
        }
    }

    /// `replaced` holds the restricted frontends that get sources, by the start of their keys.
    fn turn(self, replaced: &BTreeSet<Key>) -> Turn {
        let row = self.row();
        let kind = row.kind();
        match (kind, self) {
            // Ranges may not overlap, so new ranges come with the old ones going.
            (RowKind::ServiceCidr | RowKind::LocalPods, _) => Turn::Alone(kind),
            (RowKind::AllowedSource, _) if frontend_of(row).is_some_and(|at| replaced.contains(&at)) => {
                Turn::Front(kind)
            }
            (RowKind::Frontend, Self::Replace(_)) => Turn::FrontendChanges,
            (RowKind::Frontend, Self::Add(_)) => Turn::FrontendComes,
            (RowKind::Frontend, Self::Remove(_)) => Turn::FrontendGoes,
            (_, Self::Remove(_)) => Turn::Goes(std::cmp::Reverse(kind)),
            (RowKind::EndpointId | RowKind::StickyEndpoint | RowKind::Endpoint, Self::Add(_)) => Turn::Comes(kind),
            (RowKind::EndpointId | RowKind::StickyEndpoint | RowKind::Endpoint, Self::Replace(_)) => Turn::SlotChanges,
            (RowKind::LocalEndpoint | RowKind::NodeAddress, _) => Turn::Alone(kind),
            // Changes have no rows of the first kind.
            (RowKind::Spread | RowKind::Service, _) => Turn::Counts,
            (RowKind::ClusterIp | RowKind::AllowedSource | RowKind::Restricted, _) => Turn::Front(kind),
        }
    }

    /// Rows of one turn with the same key should change in one transaction.
    fn together(self, turn: Turn) -> Option<Key> {
        match turn {
            Turn::Alone(RowKind::ServiceCidr | RowKind::LocalPods) => Some(Key::new()),
            Turn::Front(RowKind::AllowedSource) => frontend_of(self.row()),
            _ => None,
        }
    }
}

/// The frontend of an allowed source, as bytes.
fn frontend_of<F: Family>(row: &Row<F>) -> Option<Key> {
    let Row::AllowedSource { at, .. } = row else {
        return None;
    };
    match keys_of(&Row::Restricted { at: *at }) {
        Keys::One(key) => Some(key),
        Keys::Range(..) | Keys::Until(..) => None,
    }
}

/// The two halves of a change, to be applied in this order. None if the change is one row.
pub(crate) fn halves<F: Family>(delta: &Delta<F>) -> Option<[Delta<F>; 2]> {
    let steps = steps(delta);
    let middle = middle(&steps)?;
    let (first, second) = steps.split_at(middle);
    Some([first, second].map(|half| {
        let mut delta = Delta::default();
        for (_, _, change) in half {
            match *change {
                Change::Add(row) => delta.added.push(row.clone()),
                Change::Replace(rows) => delta.changed.push(rows.clone()),
                Change::Remove(row) => delta.removed.push(row.clone()),
            }
        }
        delta.added.sort_by_key(Row::kind);
        delta
    }))
}

type Step<'a, F> = (Turn, Option<Key>, Change<'a, F>);

/// The rows of a change, in an order in which each can change by itself.
fn steps<F: Family>(delta: &Delta<F>) -> Vec<Step<'_, F>> {
    let replaced: BTreeSet<Key> = delta.added.iter().filter_map(frontend_of).collect();
    let removed = delta.removed.iter().map(Change::Remove);
    let changed = delta.changed.iter().map(Change::Replace);
    let added = delta.added.iter().map(Change::Add);
    // Rows that go come first, in case rows that belong together are torn apart all the same.
    let mut steps: Vec<Step<'_, F>> = removed
        .chain(changed)
        .chain(added)
        .map(|change| {
            let turn = change.turn(&replaced);
            (turn, change.together(turn), change)
        })
        .collect();
    steps.sort_by_key(|(turn, together, _)| (*turn, *together));
    steps
}

/// Where to cut: near the middle and, if possible, between rows that need not change together.
fn middle<F: Family>(steps: &[Step<'_, F>]) -> Option<usize> {
    let half = steps.len() / 2;
    let free = |at: &usize| {
        let (before, after) = (&steps[at - 1], &steps[*at]);
        before.1.is_none() || (before.0, before.1) != (after.0, after.1)
    };
    let places = 1..steps.len();
    let later = places.clone().skip_while(|at| *at < half).find(free);
    let earlier = places.clone().take_while(|at| *at < half).filter(free).last();
    let nearest = later.into_iter().chain(earlier).min_by_key(|at| at.abs_diff(half));
    nearest.or((steps.len() > 1).then_some(half))
}

#[cfg(test)]
mod tests;

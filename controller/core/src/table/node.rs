//! The node's own rows, and the writes that a change of them needs.

use std::collections::BTreeSet;

use crate::family::Family;
use crate::node::NodeRows;
use crate::row::Row;

use super::journal::Journal;

/// Writes the differences between two states of the node.
pub(super) fn write_node<F: Family>(old: &NodeRows<F>, new: &NodeRows<F>, journal: &mut Journal<F>) {
    let mut nets = |old: &BTreeSet<F::Net>, new: &BTreeSet<F::Net>, row: fn(F::Net) -> Row<F>| {
        old.difference(new).for_each(|net| journal.remove(row(*net)));
        new.difference(old).for_each(|net| journal.add(row(*net)));
    };
    nets(&old.service_cidrs, &new.service_cidrs, |net| Row::ServiceCidr { net });
    nets(&old.local_pods, &new.local_pods, |net| Row::LocalPods { net });
    let (old, new) = (&old.node_addresses, &new.node_addresses);
    old.difference(new)
        .for_each(|addr| journal.remove(Row::NodeAddress { addr: *addr }));
    new.difference(old)
        .for_each(|addr| journal.add(Row::NodeAddress { addr: *addr }));
}

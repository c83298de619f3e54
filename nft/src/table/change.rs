//! A change as the messages of one transaction. Used by `Kernel` for every change; pure bytes.

use tandem_core::family::Family;
use tandem_core::plane::Delta;
use tandem_core::row::Row;

use crate::elements::element;
use crate::picks::demand::{Demand, UsedUp};
use crate::rules::demanded;
use crate::wire::Batch;

/// Writes a change: chains that it needs, then what goes, then what comes. `alone`: one message for each row. Notes for
/// each row in this order the message that holds it, and the rows for whose way to pick an endpoint no number was left:
/// with any of those the transaction must not be sent.
pub(crate) fn write<F: Family>(
    batch: &mut Batch,
    demand: &mut Demand,
    delta: &Delta<F>,
    alone: bool,
    messages: &mut Vec<u32>,
    unplaced: &mut Vec<Row<F>>,
) {
    messages.clear();
    unplaced.clear();
    for row in delta.changed.iter().map(|(_, new)| new).chain(&delta.added) {
        match demand.require(row) {
            Ok(chains) => demanded::encode_chains(batch, F::FAMILY, chains),
            Err(UsedUp) => unplaced.push(row.clone()),
        }
    }
    for row in delta.removed.iter().chain(delta.changed.iter().map(|(old, _)| old)) {
        messages.push(element::remove(batch, row, alone));
    }
    for row in delta.changed.iter().map(|(_, new)| new).chain(&delta.added) {
        let Some(way) = demand.way_of(row) else {
            // Named as unplaced above.
            continue;
        };
        messages.push(element::add(batch, row, way, alone));
    }
}

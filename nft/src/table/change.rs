//! Encodes a change as the messages of one transaction. Used by `NftTable` for every change. Pure bytes.

use tandem_core::family::Family;
use tandem_core::plane::{Ahead, Delta};
use tandem_core::row::Row;

use crate::elements::element;
use crate::picks::chains::{PickChains, UsedUp};
use crate::rules::pick;
use crate::wire::batch::Batch;

/// Writes a change: first the chains that it needs, then the rows that go, then the rows that come. If `alone` is
/// set, each row has a message of its own. `messages` gets the message of each row, in this order. `without_number`
/// gets the rows for whose pick no number was free; if there are any, the transaction must not be sent.
pub(crate) fn write<F: Family>(
    batch: &mut Batch,
    chains: &mut PickChains,
    ahead: Ahead,
    delta: &Delta<F>,
    alone: bool,
    messages: &mut Vec<u32>,
    without_number: &mut Vec<Row<F>>,
) {
    messages.clear();
    without_number.clear();
    for row in delta.changed.iter().map(|(_, new)| new).chain(&delta.added) {
        match chains.require(row) {
            Ok(chains) => pick::encode_pick_chains(batch, F::FAMILY, ahead, chains),
            Err(UsedUp) => without_number.push(row.clone()),
        }
    }
    for row in delta.removed.iter().chain(delta.changed.iter().map(|(old, _)| old)) {
        messages.push(element::remove(batch, row, alone));
    }
    for row in delta.changed.iter().map(|(_, new)| new).chain(&delta.added) {
        let Some(number) = chains.number_of(row) else {
            // It is among `without_number`.
            continue;
        };
        messages.push(element::add(batch, row, number, alone));
    }
}

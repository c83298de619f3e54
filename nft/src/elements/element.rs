//! Encodes rows as set elements. [`NftTable`](crate::NftTable) uses it for every row of a change. Pure bytes, no I/O.

use netlink_bindings::nftables::SetElemFlags;
use tandem_core::family::Family;
use tandem_core::row::Row;

use crate::elements::key::{Key, Keys, keys_of, set_of};
use crate::elements::sets::Set;
use crate::elements::udata;
use crate::elements::verdict::Verdict;
use crate::picks::chains::PickNumber;
use crate::wire::attr::data::VALUE;
use crate::wire::attr::element::{DATA, FLAGS, KEY, KEY_END, USERDATA};
use crate::wire::batch::Batch;
use crate::wire::{Command, nested, number, value};

/// The element ends a range. Its key is the first one behind the range.
pub(crate) const RANGE_END: u32 = SetElemFlags::IntervalEnd as u32;

/// Writes that a row is to be added. Returns the number of the message. `pick` is the number of the pick, for rows of
/// Services. If `alone` is set, the message holds no other row.
pub(crate) fn add<F: Family>(batch: &mut Batch, row: &Row<F>, pick: PickNumber, alone: bool) -> u32 {
    elements(batch, Command::NewSetElem, set_of(row), keys_of(row), alone, |buf| {
        data(buf, row, pick);
        if let Row::Frontend { label, .. } | Row::Service { label, .. } = row
            && !label.is_empty()
        {
            udata::element(buf, USERDATA, label);
        }
    })
}

/// Writes that a row is to be removed. Returns the number of the message.
pub(crate) fn remove<F: Family>(batch: &mut Batch, row: &Row<F>, alone: bool) -> u32 {
    elements(batch, Command::DelSetElem, set_of(row), keys_of(row), alone, |_| ())
}

/// An element that is no row, by the bytes that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignElement {
    pub(crate) set: Set,
    pub(crate) key: Vec<u8>,
    pub(crate) key_end: Option<Vec<u8>>,
    pub(crate) range_end: bool,
}

/// Writes that a foreign element is to be removed. Returns the number of the message.
pub(crate) fn remove_foreign(batch: &mut Batch, foreign: &ForeignElement) -> u32 {
    batch.element(Command::DelSetElem, foreign.set.name(), true, |buf| {
        nested(buf, KEY, |buf| value(buf, VALUE, &foreign.key));
        if let Some(end) = &foreign.key_end {
            nested(buf, KEY_END, |buf| value(buf, VALUE, end));
        }
        if foreign.range_end {
            number(buf, FLAGS, RANGE_END);
        }
    })
}

fn elements(
    batch: &mut Batch,
    command: Command,
    set: Set,
    keys: Keys,
    alone: bool,
    rest: impl FnOnce(&mut Vec<u8>),
) -> u32 {
    let first = match keys {
        Keys::One(key) | Keys::Range(key, _) | Keys::Until(key, _) => key,
    };
    let message = batch.element(command, set.name(), alone, |buf| {
        bytes(buf, KEY, &first);
        if let Keys::Range(_, last) = &keys {
            bytes(buf, KEY_END, last);
        }
        rest(buf);
    });
    if let Keys::Until(_, Some(end)) = &keys {
        batch.joined_element(|buf| {
            bytes(buf, KEY, end);
            number(buf, FLAGS, RANGE_END);
        });
    }
    message
}

fn data<F: Family>(buf: &mut Vec<u8>, row: &Row<F>, pick: PickNumber) {
    let data = match row {
        Row::Frontend { service, .. } => Key::new().service(*service),
        Row::Service { service, .. } => Key::new().priority(service.raw() | pick),
        Row::StickyEndpoint { id, .. } => Key::new().endpoint(*id),
        Row::Endpoint { endpoint, .. } | Row::EndpointId { endpoint, .. } => {
            Key::new().addr::<F>(&endpoint.addr).port(endpoint.port)
        }
        _ => return,
    };
    bytes(buf, DATA, &data);
}

/// Writes that a number of a pick is to lead to a chain.
pub(crate) fn add_pick(batch: &mut Batch, number: PickNumber, chain: &str) {
    batch.element(Command::NewSetElem, Set::Picks.name(), true, |buf| {
        bytes(buf, KEY, &Key::new().priority(number));
        nested(buf, DATA, |buf| Verdict::Jump(chain).encode(buf));
    });
}

/// Writes that a number of a pick is to lead to no chain any more.
pub(crate) fn remove_pick(batch: &mut Batch, number: PickNumber) {
    batch.element(Command::DelSetElem, Set::Picks.name(), true, |buf| {
        bytes(buf, KEY, &Key::new().priority(number));
    });
}

fn bytes(buf: &mut Vec<u8>, kind: u16, key: &Key) {
    nested(buf, kind, |buf| value(buf, VALUE, key.bytes()));
}

//! A record for a new flow: its slot is the port that the endpoint sees.

use tandem_xdp_layout::{
    Claimable, Endpoint, FIRST_PORT, Flow, FlowKey, Hop, RecordNumber, SLOTS, State, StateWord, Times, claimable,
    record,
};

use crate::checksum::Difference;
use crate::ip::{Ip, TCP};
use crate::settings::pages;
use crate::world::FamilyWorld;

/// How many slots are looked at.
const TRIES: u32 = 32;
/// No record has this number.
const NONE: u32 = u32::MAX;

/// What a new flow is made of.
#[derive(Clone, Copy)]
pub(crate) struct New<A> {
    pub(crate) endpoint: Endpoint<A>,
    /// The address that the endpoint will see.
    pub(crate) source: A,
    pub(crate) hops: [Hop; 2],
}

/// Takes a record for a flow, and writes it; none if there is none to be had.
#[inline(always)]
pub(crate) fn take<A: Ip>(
    world: &impl FamilyWorld<A>,
    key: &FlowKey<A>,
    hash: u64,
    new: &New<A>,
    times: &Times,
) -> Option<RecordNumber> {
    // Records that nobody misses come first. The last ones to be taken are those of connections that may still be wanted.
    let mut taken = any(world, key, hash, new, times, Claimable::Idle);
    if taken == NONE {
        taken = any(world, key, hash, new, times, Claimable::Broken);
    }
    if taken == NONE {
        None
    } else {
        Some(RecordNumber::at(taken))
    }
}

/// Takes one of the records that are looked at, if it is to be had as gladly as this.
#[inline(always)]
fn any<A: Ip>(
    world: &impl FamilyWorld<A>,
    key: &FlowKey<A>,
    hash: u64,
    new: &New<A>,
    times: &Times,
    worst: Claimable,
) -> u32 {
    let pages = pages::<A>(world);
    if pages == 0 {
        return NONE;
    }
    // The client's own port, if it is one of ours: whoever reads a dump of packets knows it again.
    let own = u16::from_be(key.client_port);
    let start = if own < FIRST_PORT {
        (hash >> 16) as u32
    } else {
        own as u32
    };
    let step = (hash >> 40) as u32 | 1;
    for at in 0..TRIES {
        let slot = start.wrapping_add(at.wrapping_mul(step)) & (SLOTS - 1);
        let number = RecordNumber::new(new.endpoint, key.protocol, pages, slot);
        if write(world, key, number, new, times, worst) {
            return number.get();
        }
    }
    NONE
}

/// Writes a flow into a record, if the record is to be had as gladly as this.
#[inline(always)]
fn write<A: Ip>(
    world: &impl FamilyWorld<A>,
    key: &FlowKey<A>,
    number: RecordNumber,
    new: &New<A>,
    times: &Times,
    worst: Claimable,
) -> bool {
    let Some(words) = world.record(number) else {
        return false;
    };
    let before: StateWord = record::state(words);
    let now = world.now();
    let idle = now.wrapping_sub(record::used::<A>(words));
    if claimable(before, idle, times).is_none_or(|rank| rank > worst) {
        return false;
    }
    let addresses = A::difference(key.client, new.source).and(A::difference(key.frontend, new.endpoint.addr));
    let ports = Difference::default()
        .u16(key.client_port, number.port())
        .u16(key.frontend_port, new.endpoint.port);
    let flow = Flow {
        client: key.client(),
        frontend: key.frontend(),
        endpoint: new.endpoint,
        source: new.source,
        delta: addresses.and(ports).folded(),
        header_delta: A::header_difference(addresses),
    };
    let state = if key.protocol == TCP { State::Asked } else { State::Sent };
    record::claim(words, before, &flow, (state, key.protocol), new.hops, now)
}

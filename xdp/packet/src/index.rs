//! The record of a flow, found from both sides: by the endpoint and its port, or by the client and the index.

use tandem_xdp_layout::{
    BUCKET, Direction, Endpoint, FIRST_PORT, Flow, FlowKey, Hop, IndexWord, Record as _, RecordNumber, StateWord,
    is_over as is_flow_over, record,
};

use crate::ip::{Header, Ip, TCP};
use crate::settings::{pages, times};
use crate::world::FamilyWorld;

/// A record, and what it said when it was read.
#[derive(Clone, Copy)]
pub(crate) struct Found<A, W> {
    pub(crate) number: RecordNumber,
    pub(crate) words: W,
    pub(crate) state: StateWord,
    pub(crate) flow: Flow<A>,
    /// The next hop of the packet.
    pub(crate) hop: Hop,
}

/// The flow that an endpoint answers, by the ports of its packet, with the next hop to its client.
#[inline(always)]
pub(crate) fn reply<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    header: &Header<A>,
    source: u16,
    destination: u16,
) -> Option<Found<A, W::Words>> {
    if u16::from_be(destination) < FIRST_PORT {
        return None;
    }
    let endpoint = Endpoint {
        addr: header.source,
        port: source,
    };
    let number = RecordNumber::of_reply(endpoint, header.protocol, pages::<A>(world), destination)?;
    let words = world.record(number)?;
    let (state, read) = record::read_for(words, Direction::Reply);
    let (flow, hop) = read?;
    if flow.endpoint != endpoint || flow.source != header.destination || state.protocol() != header.protocol {
        return None;
    }
    Some(Found {
        number,
        words,
        state,
        flow,
        hop,
    })
}

/// Whether a flow of datagrams is over.
#[inline(always)]
pub(crate) fn is_over<A: Ip, W: FamilyWorld<A>>(world: &W, found: &Found<A, W::Words>) -> bool {
    // A connection is over when another one begins.
    if found.state.protocol() == TCP {
        return false;
    }
    let idle = world.now().wrapping_sub(record::used::<A>(found.words));
    is_flow_over(found.state, idle, &times(world))
}

/// No record has this number.
const NONE: u32 = u32::MAX;

/// The flow of a client, with the next hop to its endpoint. What is found is read once more at the end: the kernel refuses a program that copies what nobody wrote,
/// which a flow that was not found is.
#[inline(always)]
pub(crate) fn find<A: Ip, W: FamilyWorld<A>>(world: &W, key: &FlowKey<A>, hash: u64) -> Option<Found<A, W::Words>> {
    let found = number(world, key, hash);
    if found == NONE {
        return None;
    }
    let number = RecordNumber::at(found);
    let words = world.record(number)?;
    let (state, read) = record::read_for(words, Direction::Forward);
    let (flow, hop) = read?;
    if !flow.is_of(key) || state.protocol() != key.protocol {
        return None;
    }
    Some(Found {
        number,
        words,
        state,
        flow,
        hop,
    })
}

#[inline(always)]
fn number<A: Ip>(world: &impl FamilyWorld<A>, key: &FlowKey<A>, hash: u64) -> u32 {
    for bucket in IndexWord::buckets(hash, world.buckets(pages::<A>(world))) {
        let Some(bucket) = world.bucket(bucket) else {
            return NONE;
        };
        for at in 0..BUCKET {
            let word = IndexWord(bucket.get(at));
            if word.may_be_of(hash) && is_of(world, word, key) {
                return word.record().map_or(NONE, RecordNumber::get);
            }
        }
    }
    NONE
}

/// Whether a word leads to the record of this client.
#[inline(always)]
fn is_of<A: Ip>(world: &impl FamilyWorld<A>, word: IndexWord, key: &FlowKey<A>) -> bool {
    let Some(words) = word.record().and_then(|number| world.record(number)) else {
        return false;
    };
    let state = record::state(words);
    state.is_flow() && word.is_of_claim(state.claim()) && state.protocol() == key.protocol && A::read(words).is_of(key)
}

/// Leads a client nowhere any more: its flow is over, and another one begins.
#[inline(always)]
pub(crate) fn remove<A: Ip>(world: &impl FamilyWorld<A>, hash: u64, record: RecordNumber) {
    for bucket in IndexWord::buckets(hash, world.buckets(pages::<A>(world))) {
        let Some(bucket) = world.bucket(bucket) else { return };
        for at in 0..BUCKET {
            let word = IndexWord(bucket.get(at));
            if word.may_be_of(hash) && word.record() == Some(record) {
                bucket.change(at, word.0, 0);
            }
        }
    }
}

/// Leads a client to its record. It is false if there is no room.
#[inline(always)]
pub(crate) fn insert<A: Ip>(world: &impl FamilyWorld<A>, hash: u64, record: RecordNumber, claim: u32) -> bool {
    let buckets = world.buckets(pages::<A>(world));
    let new = IndexWord::new(hash, record, claim);
    for number in IndexWord::buckets(hash, buckets) {
        let Some(bucket) = world.bucket(number) else {
            return false;
        };
        for at in 0..BUCKET {
            if bucket.get(at) == 0 && bucket.change(at, 0, new.0) {
                return true;
            }
        }
    }
    for number in IndexWord::buckets(hash, buckets) {
        let Some(bucket) = world.bucket(number) else {
            return false;
        };
        for at in 0..BUCKET {
            let word = IndexWord(bucket.get(at));
            if !leads::<A>(world, word) && bucket.change(at, word.0, new.0) {
                return true;
            }
        }
    }
    false
}

/// Whether a word of the index may lead to the record of its client.
#[inline(always)]
fn leads<A: Ip>(world: &impl FamilyWorld<A>, word: IndexWord) -> bool {
    let Some(words) = word.record().and_then(|number| world.record(number)) else {
        return false;
    };
    let state = record::state(words);
    // Whoever claims a record at this moment has led nobody to it.
    state.is_flow() && word.is_of_claim(state.claim())
}

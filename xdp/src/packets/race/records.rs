//! The records while nothing is sent: whether each is whole, and whether the index leads to it.

use std::net::{IpAddr, SocketAddr};

use tandem_xdp_layout::{
    BUCKET, FIRST_PORT, FlowKey, Hop, IndexWord, Record as _, RecordNumber, SLOTS, State, StateWord, record,
};

use super::flows::{Flow, Flows};
use super::judge::Known;
use crate::kernel::{Mapped, Records};
use crate::packets::net::neighbour;
use crate::packets::place::Place;
use crate::packets::{Failed, Shown, shown};

/// TCP's number in the IP header.
const TCP: u8 = 6;

/// More seconds than anything that is closed or idle keeps its record for.
const PASSES: u32 = 61;

/// What was found.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) wrong: Vec<String>,
    /// How often the records were claimed.
    pub(super) claims: u64,
}

/// Looks at all records of a family, and makes them older. It adds who has which record.
pub(super) fn walk<A: Shown>(
    place: &Place,
    six: bool,
    flows: &Flows,
    standing: &mut Vec<Known>,
) -> Result<Walked, Failed> {
    let records = place.packets.records::<A>(six)?;
    let index = place.packets.index(six)?;
    let index = |at| IndexWord(index.get(at).unwrap_or_default());
    let mut walked = Walked::default();
    for (number, words) in records.all() {
        let state = record::state(words);
        walked.claims += u64::from(state.claim());
        if state.state() == Some(State::Free) {
            continue;
        }
        grow_old::<A>(words);
        let found = match record::read::<A>(words) {
            (_, Some(flow)) => {
                let hops = A::HOPS.map(|at| Hop(words.get(at)));
                known::<A>(number, state, &flow, hops, flows).map(|flow_number| {
                    let key = FlowKey::new(flow.client, flow.frontend, state.protocol());
                    let is_led_to = leads(index, key.hash(place.settings.index_seed), number, state);
                    (flow_number, is_led_to)
                })
            }
            _ => Err("is of no flow"),
        };
        match found {
            Ok((flow, is_led_to)) => standing.push(Known {
                flow,
                slot: u16::try_from(number.get())?,
                pod: flows.pod(flow).unwrap_or_default(),
                is_led_to,
            }),
            Err(why) => {
                let all: Vec<String> = (0..A::WORDS).map(|at| format!("{:016x}", words.get(at))).collect();
                walked
                    .wrong
                    .push(format!("record {}, six: {six}, {why}: {}", number.get(), all.join(" ")));
            }
        }
    }
    Ok(walked)
}

/// The number of a record's flow, if the record is whole.
fn known<A: Shown>(
    number: RecordNumber,
    state: StateWord,
    flow: &tandem_xdp_layout::Flow<A>,
    hops: [Hop; 2],
    flows: &Flows,
) -> Result<u32, &'static str> {
    let (client, frontend, endpoint) = (shown(flow.client), shown(flow.frontend), shown(flow.endpoint));
    let found = flows.of(client, frontend, state.protocol() == TCP);
    let found_number = found.ok_or("is of a flow that there is not")?;
    let found = flows.get(found_number);
    let pod = found.number_of(endpoint).ok_or("has another Service's endpoint")?;
    if flows.pod(found_number).is_some_and(|known| known != pod) {
        return Err("has another flow's endpoint");
    }
    let source = flow.source.ip();
    if source != found.net().own(found.out) {
        return Err("has another device's source");
    }
    let source: SocketAddr = (source, u16::from_be(number.port())).into();
    if !is_difference(flow.delta, &[client, frontend], &[source, endpoint], true)
        || (!found.six && !is_difference(flow.header_delta, &[client, frontend], &[source, endpoint], false))
    {
        return Err("has another flow's checksum");
    }
    if hops.map(|hop| (hop.mac().bytes(), hop.device().get())) != ways(found) {
        return Err("has another flow's next hop");
    }
    Ok(found_number)
}

/// The neighbours and the numbers of the devices of both ways.
fn ways(flow: &Flow) -> [([u8; 6], u8); 2] {
    [flow.out, flow.behind].map(|device| (neighbour(device), device as u8 + 1))
}

/// Whether it is how a checksum changes if some addresses are in the place of others.
fn is_difference(delta: u16, old: &[SocketAddr], new: &[SocketAddr], with_ports: bool) -> bool {
    const MODULUS: u64 = 0xffff;
    let sum = |all: &[SocketAddr]| -> u64 { all.iter().flat_map(|end| halves(*end, with_ports)).map(u64::from).sum() };
    (sum(old) + u64::from(u16::from_be(delta))) % MODULUS == sum(new) % MODULUS
}

fn halves(end: SocketAddr, with_port: bool) -> Vec<u16> {
    let port = with_port.then_some(end.port());
    let bytes = match end.ip() {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let addr = bytes.chunks_exact(2).map(|half| u16::from_be_bytes([half[0], half[1]]));
    addr.chain(port).collect()
}

/// Whether the index leads to a record.
fn leads(index: impl Fn(u32) -> IndexWord, hash: u64, number: RecordNumber, state: StateWord) -> bool {
    let buckets = IndexWord::buckets(hash, 2 * SLOTS / BUCKET);
    let mut words = buckets
        .into_iter()
        .flat_map(|bucket| (0..BUCKET).map(move |at| bucket * BUCKET + at));
    words.any(|at| {
        let word = index(at);
        word.may_be_of(hash) && word.record() == Some(number) && word.is_of_claim(state.claim())
    })
}

/// Lets the time pass after which the records of closed connections are given away, among those that some flows want.
pub(super) fn end<'a, A: Shown>(records: &Records<A>, flows: impl Iterator<Item = &'a Flow>) {
    for flow in flows {
        let slot = u32::from(flow.client.port() - FIRST_PORT);
        if let Some(words) = records.at(RecordNumber::at(slot))
            && record::state(words).is_closed()
        {
            grow_old::<A>(words);
        }
    }
}

fn grow_old<A: Shown>(words: Mapped<'_>) {
    words.set(A::USED, u64::from(record::used::<A>(words).wrapping_sub(PASSES)));
}

//! The words of a record.

use super::FlowKey;
use super::state::{State, StateWord};
use crate::address::{Address, Address4, Address6, Endpoint};
use crate::hop::Hop;

/// A record, as several processors read and write it.
pub trait Record: Copy {
    /// Reads a word.
    fn get(self, at: u32) -> u64;
    /// Writes a word.
    fn set(self, at: u32, word: u64);
    /// Writes a word after everything that was written before.
    fn publish(self, at: u32, word: u64);
    /// Writes a word if it is still the one that was read. What is read afterwards is read afterwards.
    fn change(self, at: u32, from: u64, to: u64) -> bool;
    /// What was read before is read before what is read afterwards.
    fn fence(self);
}

/// The addresses and ports of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<A> {
    /// Who asked.
    pub client: Endpoint<A>,
    /// What it asked for.
    pub frontend: Endpoint<A>,
    /// Who answers.
    pub endpoint: Endpoint<A>,
    /// The node's address that the endpoint sees. The port is the record's.
    pub source: A,
    /// How the transport checksum of a packet of the client changes.
    pub delta: u16,
    /// How the checksum of its IPv4 header changes.
    pub header_delta: u16,
}

impl<A: Address> Flow<A> {
    /// Whether it is this client's and frontend's.
    #[inline(always)]
    pub fn is_of(&self, key: &FlowKey<A>) -> bool {
        self.client == key.client() && self.frontend == key.frontend()
    }
}

/// An address family, by its addresses, with its form of records.
pub trait FlowAddress: Address {
    /// How many words a record has.
    const WORDS: u32;
    /// Where its next hops are: the endpoint's and the client's.
    const HOPS: [u32; 2];
    /// Where the time of the last packet is.
    const USED: u32;
    /// Where the rest is: when the flow began (bits 0–31), and how the checksum of IPv4 headers changes (bits 32–47).
    const REST: u32;

    /// Reads the addresses and ports.
    fn read(record: impl Record) -> Flow<Self>;
    /// Writes them.
    fn write(record: impl Record, flow: &Flow<Self>);
}

/// Where the state is.
pub(crate) const STATE: u32 = 0;

#[inline(always)]
fn ports<A>(flow: &Flow<A>) -> u64 {
    let parts = [flow.client.port, flow.frontend.port, flow.endpoint.port, flow.delta];
    parts[0] as u64 | (parts[1] as u64) << 16 | (parts[2] as u64) << 32 | (parts[3] as u64) << 48
}

#[inline(always)]
fn low_high(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl FlowAddress for Address4 {
    const WORDS: u32 = 8;
    const HOPS: [u32; 2] = [4, 5];
    const USED: u32 = 6;
    const REST: u32 = 7;

    #[inline(always)]
    fn read(record: impl Record) -> Flow<Self> {
        let (first, second, ports) = (record.get(1), record.get(2), record.get(3));
        let of = |addr: u64, port: u64| Endpoint {
            addr: Self(addr as u32),
            port: port as u16,
        };
        Flow {
            client: of(first, ports),
            frontend: of(second, ports >> 16),
            endpoint: of(first >> 32, ports >> 32),
            source: Self((second >> 32) as u32),
            delta: (ports >> 48) as u16,
            header_delta: (record.get(Self::REST) >> 32) as u16,
        }
    }

    #[inline(always)]
    fn write(record: impl Record, flow: &Flow<Self>) {
        record.set(1, low_high(flow.client.addr.0, flow.endpoint.addr.0));
        record.set(2, low_high(flow.frontend.addr.0, flow.source.0));
        record.set(3, ports(flow));
    }
}

impl FlowAddress for Address6 {
    const WORDS: u32 = 16;
    const HOPS: [u32; 2] = [10, 11];
    const USED: u32 = 12;
    const REST: u32 = 13;

    #[inline(always)]
    fn read(record: impl Record) -> Flow<Self> {
        let ports = record.get(5);
        let addr = |at: u32| Self {
            first: record.get(at),
            second: record.get(at + 1),
        };
        Flow {
            client: Endpoint {
                addr: addr(1),
                port: ports as u16,
            },
            frontend: Endpoint {
                addr: addr(3),
                port: (ports >> 16) as u16,
            },
            endpoint: Endpoint {
                addr: addr(6),
                port: (ports >> 32) as u16,
            },
            source: addr(8),
            delta: (ports >> 48) as u16,
            header_delta: 0,
        }
    }

    #[inline(always)]
    fn write(record: impl Record, flow: &Flow<Self>) {
        let put = |at: u32, addr: Self| {
            record.set(at, addr.first);
            record.set(at + 1, addr.second);
        };
        put(1, flow.client.addr);
        put(3, flow.frontend.addr);
        record.set(5, ports(flow));
        put(6, flow.endpoint.addr);
        put(8, flow.source);
    }
}

/// The state of a record.
#[inline(always)]
pub fn state(record: impl Record) -> StateWord {
    StateWord(record.get(STATE))
}

/// When the last packet of a flow was seen, in seconds.
#[inline(always)]
pub fn used<A: FlowAddress>(record: impl Record) -> u32 {
    record.get(A::USED) as u32
}

/// When a flow began, in seconds.
pub fn since<A: FlowAddress>(record: impl Record) -> u32 {
    record.get(A::REST) as u32
}

/// Notes that a packet of the flow is seen. This writes once a second at most: what many processors read should not be written
/// all the time.
#[inline(always)]
pub fn touch<A: FlowAddress>(record: impl Record, now: u32) {
    if used::<A>(record) != now {
        record.set(A::USED, now as u64);
    }
}

/// A flow as it stands in a record; none if somebody takes the record over at this moment.
#[inline(always)]
pub fn read<A: FlowAddress>(record: impl Record) -> (StateWord, Option<Flow<A>>) {
    let before = state(record);
    if !before.is_flow() {
        return (before, None);
    }
    record.fence();
    let flow = A::read(record);
    record.fence();
    let after = state(record);
    (before, if before.is_same_claim(after) { Some(flow) } else { None })
}

/// Writes a new flow into a record whose state was `before`. It is false if somebody else claimed the record first: then nothing
/// is written.
#[inline(always)]
pub fn claim<A: FlowAddress>(
    record: impl Record,
    before: StateWord,
    flow: &Flow<A>,
    first: (State, u8),
    hops: [Hop; 2],
    now: u32,
) -> bool {
    let claimed = before.claimed();
    if !record.change(STATE, before.0, claimed.0) {
        return false;
    }
    A::write(record, flow);
    record.set(A::HOPS[0], hops[0].0);
    record.set(A::HOPS[1], hops[1].0);
    record.set(A::USED, now as u64);
    record.set(A::REST, now as u64 | (flow.header_delta as u64) << 32);
    let (state, protocol) = first;
    record.publish(STATE, claimed.published(state, protocol).0);
    true
}

/// Puts another state in the place of one. It is false if the record has another one by now.
#[inline(always)]
pub fn change(record: impl Record, before: StateWord, after: StateWord) -> bool {
    record.change(STATE, before.0, after.0)
}

//! The words of a record.

use super::FlowKey;
use super::state::{Direction, State, StateWord};
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
    whole(record, || A::read(record))
}

/// The same with the next hop of a direction. It must be read together with the rest: a moment later it may be another flow's.
#[inline(always)]
pub fn read_for<A: FlowAddress>(record: impl Record, direction: Direction) -> (StateWord, Option<(Flow<A>, Hop)>) {
    whole(record, || (A::read(record), Hop(record.get(hop_at::<A>(direction)))))
}

/// What is read of one flow; none if the record was taken over meanwhile.
#[inline(always)]
fn whole<T>(record: impl Record, read: impl FnOnce() -> T) -> (StateWord, Option<T>) {
    let before = state(record);
    if !before.is_flow() {
        return (before, None);
    }
    record.fence();
    let found = read();
    record.fence();
    let after = state(record);
    (before, if before.is_same_claim(after) { Some(found) } else { None })
}

/// Where the next hop of a direction is.
#[inline(always)]
fn hop_at<A: FlowAddress>(direction: Direction) -> u32 {
    match direction {
        Direction::Forward => A::HOPS[0],
        Direction::Reply => A::HOPS[1],
    }
}

/// Writes another next hop of a flow that was read with the state `of`. If another flow has the record by now, the hop that it has
/// stays its own.
#[inline(always)]
pub fn renew_hop<A: FlowAddress>(record: impl Record, of: StateWord, direction: Direction, before: Hop, after: Hop) {
    let at = hop_at::<A>(direction);
    // Whoever took the record over has put another word there, of the routes that it found.
    if !record.change(at, before.0, after.0) {
        return;
    }
    // Or it had found the same one before they changed. Then it is to look again.
    if !state(record).is_same_claim(of) {
        record.change(at, after.0, after.outdated().0);
    }
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

#[cfg(test)]
mod tests {
    extern crate std;

    use core::cell::Cell;

    use super::*;
    use crate::hop::{DeviceNumber, Mac, RouteGeneration};

    /// A record that another flow takes over before one of the reads.
    #[derive(Clone, Copy)]
    struct Taken<'a> {
        words: &'a [Cell<u64>; 16],
        /// How many reads are left until then.
        left: &'a Cell<u32>,
        by: (Flow<Address4>, [Hop; 2]),
    }

    impl Record for Taken<'_> {
        fn get(self, at: u32) -> u64 {
            let left = self.left.get();
            self.left.set(left.wrapping_sub(1));
            if left == 0 {
                let before = StateWord(self.words[0].get());
                assert!(claim(self, before, &self.by.0, (State::Sent, 17), self.by.1, 7));
            }
            self.words[at as usize].get()
        }

        fn set(self, at: u32, word: u64) {
            self.words[at as usize].set(word);
        }

        fn publish(self, at: u32, word: u64) {
            self.set(at, word);
        }

        fn change(self, at: u32, from: u64, to: u64) -> bool {
            let same = self.words[at as usize].get() == from;
            if same {
                self.set(at, to);
            }
            same
        }

        fn fence(self) {}
    }

    fn flow(number: u32) -> Flow<Address4> {
        let end = |more: u32| Endpoint {
            addr: Address4(10 * number + more),
            port: (100 * number + more) as u16,
        };
        Flow {
            client: end(1),
            frontend: end(2),
            endpoint: end(3),
            source: Address4(10 * number + 4),
            delta: number as u16,
            header_delta: number as u16,
        }
    }

    fn hop(mac: u64, generation: u16) -> Hop {
        let device = DeviceNumber::new(1).unwrap();
        Hop::new(Mac(mac), device, RouteGeneration::new(generation))
    }

    /// A record of the first flow, which the second one takes over before the read of this number.
    fn with_taken<T>(read: u32, hops: [[Hop; 2]; 2], then: impl FnOnce(Taken<'_>, StateWord) -> T) -> T {
        let words = core::array::from_fn(|_| Cell::new(0));
        let left = Cell::new(u32::MAX);
        let taken = Taken {
            words: &words,
            left: &left,
            by: (flow(2), hops[1]),
        };
        assert!(claim(
            taken,
            StateWord::default(),
            &flow(1),
            (State::Sent, 17),
            hops[0],
            7
        ));
        let state = state(taken);
        left.set(read);
        then(taken, state)
    }

    #[test]
    fn a_record_that_is_taken_over_at_whichever_read_gives_one_flow_with_its_own_next_hop_or_nothing() {
        let hops = [1, 2].map(|number| [hop(10 * number, 1), hop(10 * number + 1, 1)]);
        for (direction, at) in [(Direction::Forward, 0), (Direction::Reply, 1)] {
            let mut seen = [false; 3];
            for read in 0..20 {
                match with_taken(read, hops, |taken, _| read_for::<Address4>(taken, direction).1) {
                    None => seen[0] = true,
                    Some(found) if found == (flow(1), hops[0][at]) => seen[1] = true,
                    Some(found) => {
                        assert_eq!(found, (flow(2), hops[1][at]), "{read}");
                        seen[2] = true;
                    }
                }
            }
            assert_eq!(seen, [true; 3]);
        }
    }

    #[test]
    fn a_hop_that_was_looked_up_for_one_flow_is_not_left_in_the_record_of_another() {
        let (old, new) = (hop(1, 1), hop(3, 2));
        // The other flow found another hop, or the same one before the routes changed.
        for others in [hop(2, 2), hop(2, 1), old] {
            for taken_before in [true, false] {
                let words = with_taken(0, [[old; 2], [others; 2]], |taken, state| {
                    if taken_before {
                        taken.get(0);
                    }
                    renew_hop::<Address4>(taken, state, Direction::Forward, old, new);
                    Hop(taken.words[Address4::HOPS[0] as usize].get())
                });
                // What has no generation of its own is looked up again.
                assert!(words == others || !words.is_of(RouteGeneration::new(2)), "{words:?}");
            }
        }
        let mine = with_taken(u32::MAX, [[old; 2]; 2], |taken, state| {
            renew_hop::<Address4>(taken, state, Direction::Reply, old, new);
            Address4::HOPS.map(|at| Hop(taken.get(at)))
        });
        assert_eq!(mine, [old, new]);
    }
}

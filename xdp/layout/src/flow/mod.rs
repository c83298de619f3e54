//! A flow that XDP translates: one record, found from both sides.
//!
//! A record's place says the port that endpoints see: `FIRST_PORT` and its slot in its page. The page follows from the
//! endpoint. So a reply names its record by its source and its destination port.
//!
//! Several processors read and write a record at the same time. The first word is the lock of all others: a slot is claimed
//! by compare-and-exchange, written, and published. Whoever read the other words reads the first one again. If it has another
//! claim then, what was read may be of two flows, and is not used.

mod age;
mod state;
mod words;

pub use age::{Claimable, Times, claimable, is_over};
pub use state::{Direction, State, StateWord, TcpFlags};
pub use words::{Flow, FlowAddress, Record, change, claim, read, read_for, renew_hop, since, state, touch, used};

use crate::address::{Address, Endpoint, mix};

/// How many slots a page has.
pub const SLOTS: u32 = 1 << SLOT_BITS;
/// The first port that endpoints see.
pub const FIRST_PORT: u16 = 49_152;
/// The bits of a slot.
const SLOT_BITS: u32 = 14;

const _: () = assert!(FIRST_PORT as u32 + SLOTS == 1 << 16);

/// The number of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordNumber(u32);

impl RecordNumber {
    /// The record in a slot of the page of an endpoint. `pages` is a power of two.
    #[inline(always)]
    pub fn new<A: Address>(endpoint: Endpoint<A>, protocol: u8, pages: u32, slot: u32) -> Self {
        Self(page(endpoint, protocol, pages) << SLOT_BITS | slot & (SLOTS - 1))
    }

    /// The record that the reply of an endpoint to this port, in network order, belongs to; none if no record has such a port.
    #[inline(always)]
    pub fn of_reply<A: Address>(endpoint: Endpoint<A>, protocol: u8, pages: u32, port: u16) -> Option<Self> {
        let slot = u16::from_be(port).checked_sub(FIRST_PORT)?;
        Some(Self::new(endpoint, protocol, pages, slot as u32))
    }

    /// The record with this place in the array.
    #[inline(always)]
    pub fn at(place: u32) -> Self {
        Self(place)
    }

    /// How many records a family may have: the index has no room for larger numbers.
    pub const MOST: u32 = (1 << 24) - SLOTS;

    /// Its place in the array.
    #[inline(always)]
    pub fn get(self) -> u32 {
        self.0
    }

    /// Its page.
    #[inline(always)]
    pub fn page(self) -> u32 {
        self.0 >> SLOT_BITS
    }

    /// The port that the endpoint sees, in network order.
    #[inline(always)]
    pub fn port(self) -> u16 {
        (FIRST_PORT | (self.0 & (SLOTS - 1)) as u16).to_be()
    }
}

/// The page of an endpoint's flows.
#[inline(always)]
fn page<A: Address>(endpoint: Endpoint<A>, protocol: u8, pages: u32) -> u32 {
    let hash = mix(endpoint.addr.fold(), (endpoint.port as u64) << 8 | protocol as u64);
    (hash >> 32) as u32 & pages.wrapping_sub(1)
}

/// What a client sends to: the key of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey<A: Address> {
    /// The client's address.
    pub client: A,
    /// The frontend's address.
    pub frontend: A,
    /// The client's port in network order.
    pub client_port: u16,
    /// The frontend's port in network order.
    pub frontend_port: u16,
    /// The protocol's number in the IP header.
    pub protocol: u8,
    /// Always 0: the key has no byte without a meaning.
    zero: [u8; 3],
}

const _: () = assert!(size_of::<FlowKey<crate::Address4>>() == 16);
const _: () = assert!(size_of::<FlowKey<crate::Address6>>() == 40);

impl<A: Address> FlowKey<A> {
    /// The key of a client and a frontend.
    #[inline(always)]
    pub fn new(client: Endpoint<A>, frontend: Endpoint<A>, protocol: u8) -> Self {
        Self {
            client: client.addr,
            frontend: frontend.addr,
            client_port: client.port,
            frontend_port: frontend.port,
            protocol,
            zero: [0; 3],
        }
    }

    /// The client.
    #[inline(always)]
    pub fn client(&self) -> Endpoint<A> {
        Endpoint {
            addr: self.client,
            port: self.client_port,
        }
    }

    /// The frontend.
    #[inline(always)]
    pub fn frontend(&self) -> Endpoint<A> {
        Endpoint {
            addr: self.frontend,
            port: self.frontend_port,
        }
    }

    /// A number that depends on every bit of the key and of the seed.
    #[inline(always)]
    pub fn hash(&self, seed: u32) -> u64 {
        let ports = (self.client_port as u64) << 32 | (self.frontend_port as u64) << 16 | self.protocol as u64;
        let hash = mix(mix(mix(seed as u64, self.client.fold()), self.frontend.fold()), ports);
        // What is high in the ports has reached only the high bits, and buckets are chosen by the low ones.
        mix(hash ^ hash >> 32, 0)
    }
}

/// Where the index leads from a client to its record, in one word: one more than the record's number (bits 0–23; 0 is
/// empty), the low bits of the record's claim (bits 24–31), and a part of the key's hash (bits 32–63).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct IndexWord(pub u64);

/// How many words a bucket of the index has: as many as one line of the processor's cache.
pub const BUCKET: u32 = 8;

impl IndexWord {
    const RECORD: u64 = (1 << 24) - 1;
    const CLAIM: u32 = 24;

    /// The word that leads to a record with this claim.
    #[inline(always)]
    pub fn new(hash: u64, record: RecordNumber, claim: u32) -> Self {
        let claim = (claim & 0xff) << Self::CLAIM;
        Self(hash & !0xffff_ffff | claim as u64 | (record.0 as u64 + 1) & Self::RECORD)
    }

    /// Whether the word may be of a key with this hash.
    #[inline(always)]
    pub fn may_be_of(self, hash: u64) -> bool {
        self.0 != 0 && (self.0 ^ hash) >> 32 == 0
    }

    /// The record; none if the word is empty.
    #[inline(always)]
    pub fn record(self) -> Option<RecordNumber> {
        ((self.0 & Self::RECORD) as u32).checked_sub(1).map(RecordNumber)
    }

    /// Whether the record may still be the one that the word was written for.
    #[inline(always)]
    pub fn is_of_claim(self, claim: u32) -> bool {
        (self.0 >> Self::CLAIM) as u8 == claim as u8
    }

    /// The two buckets of a key with this hash, among `buckets`, a power of two.
    #[inline(always)]
    pub fn buckets(hash: u64, buckets: u32) -> [u32; 2] {
        let mask = buckets.wrapping_sub(1);
        let first = hash as u32 & mask;
        // The second one differs from the first, and depends on the part of the hash that is in the word.
        [first, (first ^ ((hash >> 32) as u32 | 1)) & mask]
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::Address4;

    fn endpoint(addr: u32, port: u16) -> Endpoint<Address4> {
        Endpoint {
            addr: Address4(addr.to_be()),
            port: port.to_be(),
        }
    }

    #[test]
    fn a_reply_names_the_record_that_its_flow_was_given() {
        let server = endpoint(0x0a00_0001, 8080);
        for slot in [0, 1, 8191, 16_383] {
            let number = RecordNumber::new(server, 6, 16, slot);
            assert_eq!(RecordNumber::of_reply(server, 6, 16, number.port()), Some(number));
            assert!(number.page() < 16);
        }
        assert_eq!(RecordNumber::of_reply(server, 6, 16, 49_151_u16.to_be()), None);
    }

    #[test]
    fn endpoints_spread_over_the_pages() {
        let mut pages = [0; 16];
        for number in 0..1600 {
            pages[RecordNumber::new(endpoint(0x0a01_0000 + number, 80), 6, 16, 0).page() as usize] += 1;
        }
        assert!(pages.iter().all(|count| (50..150).contains(count)), "{pages:?}");
    }

    #[test]
    fn clients_spread_over_the_buckets_whatever_part_of_them_differs() {
        // Neighbouring addresses, neighbouring ports, and both: 65,536 clients in as many buckets.
        for (addresses, ports) in [(65_536_u32, 1_u32), (4, 16_384), (256, 256)] {
            let mut buckets = std::vec![0_u16; 65_536];
            for addr in 0..addresses {
                for port in 0..ports {
                    let client = endpoint(0xc633_6400 + addr, 1024 + port as u16);
                    let hash = FlowKey::new(client, endpoint(2, 80), 6).hash(7);
                    buckets[IndexWord::buckets(hash, 65_536)[0] as usize] += 1;
                }
            }
            // Thrown at random, one bucket in 100,000 gets nine or more.
            assert!(buckets.iter().all(|count| *count < 11), "{addresses} {ports}");
            let empty = buckets.iter().filter(|count| **count == 0).count();
            assert!((20_000..28_000).contains(&empty), "{addresses} {ports}: {empty}");
        }
    }

    #[test]
    fn the_index_leads_to_the_record_of_its_key_alone() {
        let key = |port| FlowKey::new(endpoint(1, port), endpoint(2, 80), 6).hash(7);
        let last = RecordNumber((1 << 24) - 2);
        for record in [RecordNumber(0), last] {
            let word = IndexWord::new(key(1), record, 0x1ff);
            assert!(word.may_be_of(key(1)) && !word.may_be_of(key(2)));
            assert_eq!(word.record(), Some(record));
            assert!(word.is_of_claim(0xff) && !word.is_of_claim(0xfe));
        }
        assert!(!IndexWord::default().may_be_of(key(1)) && !IndexWord::default().may_be_of(0));
        assert_eq!(IndexWord::default().record(), None);
        for port in 0..1000 {
            let [first, second] = IndexWord::buckets(key(port), 64);
            assert!(first < 64 && second < 64);
        }
    }
}

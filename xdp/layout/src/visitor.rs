//! What the packet program remembers of clients, of flows that nftables has, and of fragments.

use crate::address::{Address, mix};
use crate::affinity::Remembered;
use crate::flow::{Direction, RecordNumber};
use crate::frontend::FrontendKey;
use crate::service::{Generation, ListIndex};

/// A client outside of a list with affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct VisitorKey<A: Address> {
    /// Its address.
    pub client: A,
    /// The number of the list.
    list: u32,
    /// The generation of that number.
    generation: u16,
    /// Always 0: the key has no byte without a meaning.
    zero: u16,
}

const _: () = assert!(size_of::<VisitorKey<crate::Address4>>() == 12);
const _: () = assert!(size_of::<VisitorKey<crate::Address6>>() == 24);

impl<A: Address> VisitorKey<A> {
    /// The key of a client.
    #[inline(always)]
    pub fn new(client: A, list: ListIndex, generation: Generation) -> Self {
        Self {
            client,
            list: list.get(),
            generation: generation.0,
            zero: 0,
        }
    }
}

impl<A: Address> Remembered for VisitorKey<A> {
    #[inline(always)]
    fn check(&self) -> u16 {
        mix(self.client.fold(), (self.list as u64) << 16 | self.generation as u64) as u16
    }
}

/// A range of sources that may reach a frontend: the data of a key in a map of longest prefixes. The frontend's part is always
/// whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct SourceKey<A: Address> {
    /// The frontend.
    pub frontend: FrontendKey<A>,
    /// The source.
    pub source: A,
}

const _: () = assert!(size_of::<SourceKey<crate::Address4>>() == 12);
const _: () = assert!(size_of::<SourceKey<crate::Address6>>() == 40);

impl<A: Address> SourceKey<A> {
    /// The bits of a prefix in which so many bits of the source count.
    #[inline(always)]
    pub fn prefix(source_bits: u32) -> u32 {
        8 * size_of::<FrontendKey<A>>() as u32 + source_bits
    }

    /// The bits of one source.
    #[inline(always)]
    pub fn whole() -> u32 {
        8 * size_of::<Self>() as u32
    }
}

/// A flow that nftables has, in one word: when it was seen last, in seconds (bits 0–31), and a part of its key's hash (bits
/// 32–63).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct HeldWord(pub u64);

impl HeldWord {
    /// The word of a flow whose key has this hash.
    #[inline(always)]
    pub fn new(hash: u64, now: u32) -> Self {
        Self(hash & !0xffff_ffff | now as u64)
    }

    /// For how many seconds it was not seen, if the word stands about this key.
    #[inline(always)]
    pub fn idle(self, hash: u64, now: u32) -> Option<u32> {
        if (self.0 ^ hash) >> 32 != 0 {
            return None;
        }
        Some(now.wrapping_sub(self.0 as u32))
    }
}

/// The fragments of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FragmentKey<A: Address> {
    source: A,
    destination: A,
    /// As it stands in the packet.
    id: u32,
    protocol: u32,
}

const _: () = assert!(size_of::<FragmentKey<crate::Address4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<crate::Address6>>() == 40);

impl<A: Address> FragmentKey<A> {
    /// The key of a packet.
    #[inline(always)]
    pub fn new(source: A, destination: A, id: u32, protocol: u8) -> Self {
        Self {
            source,
            destination,
            id,
            protocol: protocol as u32,
        }
    }

    /// Where the packet comes from and goes to.
    #[inline(always)]
    pub fn ends(&self) -> (A, A) {
        (self.source, self.destination)
    }
}

/// What is remembered of a packet's first fragment, in one word: its record (bits 0–30), its direction (bit 31), and the claim
/// of the record (bits 32–63).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct FragmentWord(pub u64);

impl FragmentWord {
    const REPLY: u64 = 1 << 31;

    /// The word of a packet.
    #[inline(always)]
    pub fn new(record: RecordNumber, direction: Direction, claim: u32) -> Self {
        let reply = match direction {
            Direction::Forward => 0,
            Direction::Reply => Self::REPLY,
        };
        Self(record.get() as u64 | reply | (claim as u64) << 32)
    }

    /// The record.
    #[inline(always)]
    pub fn record(self) -> RecordNumber {
        RecordNumber::at((self.0 & (Self::REPLY - 1)) as u32)
    }

    /// The direction.
    #[inline(always)]
    pub fn direction(self) -> Direction {
        if self.0 & Self::REPLY == 0 {
            Direction::Forward
        } else {
            Direction::Reply
        }
    }

    /// The claim of the record.
    #[inline(always)]
    pub fn claim(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_flow_is_told_from_others_and_ages() {
        let hash = 0x1234_5678_9abc_def0;
        let word = HeldWord::new(hash, 100);
        assert_eq!(word.idle(hash, 130), Some(30));
        assert_eq!(word.idle(hash ^ 1 << 40, 130), None);
    }

    #[test]
    fn fragments_lead_to_their_record_and_direction() {
        for direction in [Direction::Forward, Direction::Reply] {
            let word = FragmentWord::new(RecordNumber::at(262_143), direction, u32::MAX);
            assert_eq!(word.record().get(), 262_143);
            assert_eq!(word.direction(), direction);
            assert_eq!(word.claim(), u32::MAX);
        }
    }

    #[test]
    fn the_prefix_of_a_source_range_has_the_whole_frontend() {
        assert_eq!(SourceKey::<crate::Address4>::prefix(8), 64 + 8);
        assert_eq!(SourceKey::<crate::Address4>::whole(), 96);
        assert_eq!(
            SourceKey::<crate::Address6>::prefix(128),
            SourceKey::<crate::Address6>::whole()
        );
    }
}

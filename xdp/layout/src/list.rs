//! Lists of endpoints: how they are written and read.
//!
//! A list is a run of words:
//!
//! | words | what |
//! |---|---|
//! | 2 | the header |
//! | [`Address::ENDPOINT_WORDS`] an endpoint | the endpoints by slot |
//! | 1 for four endpoints | the slots, ordered by their endpoints: an endpoint is found in at most 16 steps |
//! | 1 for four endpoints, with affinity only | the number of the endpoint in each slot |
//! | 1 for four numbers, with affinity only | one more than the slot that has each number; 0 for none |
//! | 1 for four cells, with Maglev only | the slot that each cell holds |
//!
//! The header's words:
//!
//! | word | bits | what |
//! |---|---|---|
//! | 0 | 0–15 | the generation |
//! | 0 | 16–23 | the way |
//! | 0 | 24–31 | the lower half of the number of cells |
//! | 0 | 32–47 | the number of endpoints |
//! | 0 | 48–63 | one more than the largest number of an endpoint |
//! | 1 | 0–31 | the seconds |
//! | 1 | 32–55 | the number of the list |
//! | 1 | 56–63 | the upper half of the number of cells |

use core::marker::PhantomData;

use crate::address::{Address, Endpoint};
use crate::maps::Maps;
use crate::service::{Generation, ListIndex};
use crate::way::Way;

/// The header of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number of the list.
    pub index: ListIndex,
    /// The generation of that number.
    pub generation: Generation,
    /// Whether clients are remembered.
    pub sticky: bool,
    /// How many endpoints it has.
    pub count: u16,
    /// How long a client is remembered.
    pub seconds: u32,
    /// One more than the largest number of an endpoint; 0 without affinity.
    pub numbers: u16,
    /// How many cells it has; 0 without Maglev.
    pub cells: u16,
}

/// The words of a header.
const HEADER: u32 = 2;
/// How many 16-bit values are in a word.
const PACKED: u32 = 4;
/// The steps of a search in the largest list.
const STEPS: u32 = 16;
/// The bits that a number of endpoints can have.
const MOST: u32 = 0xffff;

impl Header {
    /// How many words the list takes.
    #[inline(always)]
    pub fn size<A: Address>(&self) -> u32 {
        self.cells_at::<A>() + (self.cells as u32).div_ceil(PACKED)
    }

    #[inline(always)]
    fn words(&self) -> [u64; 2] {
        let way = if self.sticky { Way::Sticky } else { Way::Any }.number();
        let cells = self.cells as u64;
        let first = self.generation.0 as u64 | (way as u64) << 16 | (cells & 0xff) << 24;
        let first = first | (self.count as u64) << 32 | (self.numbers as u64) << 48;
        let second = self.seconds as u64 | (self.index.get() as u64) << 32 | (cells >> 8) << 56;
        [first, second]
    }

    #[inline(always)]
    fn read(first: u64, second: u64) -> Option<Self> {
        let sticky = match Way::from_number((first >> 16) as u16 & 0xff)? {
            Way::Any => false,
            Way::Sticky => true,
            Way::Refuse | Way::Discard => return None,
        };
        Some(Self {
            index: ListIndex::new((second >> 32) as u32 & 0x00ff_ffff)?,
            generation: Generation(first as u16),
            sticky,
            count: (first >> 32) as u16,
            seconds: second as u32,
            numbers: (first >> 48) as u16,
            cells: (first >> 24) as u16 & 0xff | ((second >> 56) as u16) << 8,
        })
    }

    /// Where the order begins.
    #[inline(always)]
    fn order_at<A: Address>(&self) -> u32 {
        HEADER + self.count as u32 * A::ENDPOINT_WORDS
    }

    /// Where the numbers by slot begin.
    #[inline(always)]
    fn numbers_at<A: Address>(&self) -> u32 {
        self.order_at::<A>() + (self.count as u32).div_ceil(PACKED)
    }

    /// Where the slots by number begin.
    #[inline(always)]
    fn index_at<A: Address>(&self) -> u32 {
        let numbers = if self.sticky {
            (self.count as u32).div_ceil(PACKED)
        } else {
            0
        };
        self.numbers_at::<A>() + numbers
    }

    /// Where the cells begin.
    #[inline(always)]
    fn cells_at<A: Address>(&self) -> u32 {
        self.index_at::<A>() + (self.numbers as u32).div_ceil(PACKED)
    }
}

/// A list in the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<A> {
    /// Where it begins.
    pub place: u32,
    /// Its header.
    pub header: Header,
    family: PhantomData<A>,
}

impl<A: Address> List<A> {
    /// The list at a place; none if there is none.
    #[inline(always)]
    pub fn at(maps: &impl Maps<A>, place: u32) -> Option<Self> {
        let first = maps.word(place)?;
        let second = maps.word(place.wrapping_add(1))?;
        Some(Self {
            place,
            header: Header::read(first, second)?,
            family: PhantomData,
        })
    }

    /// The endpoint in a slot.
    #[inline(always)]
    pub fn endpoint(&self, maps: &impl Maps<A>, slot: u16) -> Option<Endpoint<A>> {
        if slot >= self.header.count {
            return None;
        }
        self.endpoint_unchecked(maps, slot)
    }

    /// The slot of an endpoint that was in the slot `before`.
    #[inline(always)]
    pub fn slot_again(&self, maps: &impl Maps<A>, endpoint: Endpoint<A>, before: u16) -> Option<u16> {
        if self.endpoint(maps, before) == Some(endpoint) {
            return Some(before);
        }
        self.slot_of(maps, endpoint)
    }

    /// The slot of an endpoint.
    #[inline(always)]
    pub fn slot_of(&self, maps: &impl Maps<A>, endpoint: Endpoint<A>) -> Option<u16> {
        let order = self.header.order_at::<A>();
        // The place of the last endpoint that is not larger, by halves. There is no way out of the loop but at its end, and the
        // masks change nothing: so the kernel's verifier looks at each step once, and not at each way to it.
        let (mut first, mut rest) = (0_u32, self.header.count as u32);
        for _ in 0..STEPS {
            let half = rest / 2;
            let slot = self.packed(maps, order, first + half)?;
            if self.endpoint_unchecked(maps, slot)? <= endpoint {
                first = (first + half) & MOST;
            }
            rest = (rest - half) & MOST;
        }
        let slot = self.packed(maps, order, first)?;
        if self.endpoint(maps, slot)? == endpoint {
            Some(slot)
        } else {
            None
        }
    }

    #[inline(always)]
    fn endpoint_unchecked(&self, maps: &impl Maps<A>, slot: u16) -> Option<Endpoint<A>> {
        let at = self.place.wrapping_add(HEADER + slot as u32 * A::ENDPOINT_WORDS);
        A::endpoint(|number| maps.word(at.wrapping_add(number)))
    }

    /// The number of the endpoint in a slot of a list with affinity.
    #[inline(always)]
    pub fn number(&self, maps: &impl Maps<A>, slot: u16) -> Option<u16> {
        if !self.header.sticky || slot >= self.header.count {
            return None;
        }
        self.packed(maps, self.header.numbers_at::<A>(), slot as u32)
    }

    /// The slot of the endpoint with a number, in a list with affinity.
    #[inline(always)]
    pub fn slot_of_number(&self, maps: &impl Maps<A>, number: u16) -> Option<u16> {
        if number >= self.header.numbers {
            return None;
        }
        let one_more = self.packed(maps, self.header.index_at::<A>(), number as u32)?;
        one_more.checked_sub(1)
    }

    /// The slot that Maglev picks for a client with this hash; none in a list without cells. All nodes must compute the
    /// hash alike. Each cell has the same share of the hashes, give or take one, without a division (the kernel's
    /// `reciprocal_scale`).
    #[inline(always)]
    pub fn cell(&self, maps: &impl Maps<A>, hash: u32) -> Option<u16> {
        let cells = self.header.cells;
        if cells == 0 {
            return None;
        }
        let cell = (hash as u64 * cells as u64) >> 32;
        self.packed(maps, self.header.cells_at::<A>(), cell as u32)
    }

    #[inline(always)]
    fn packed(&self, maps: &impl Maps<A>, from: u32, number: u32) -> Option<u16> {
        let word = maps.word(self.place.wrapping_add(from + number / PACKED))?;
        Some((word >> (16 * (number % PACKED))) as u16)
    }
}

/// Writes a list.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a, A> {
    /// The header.
    pub header: Header,
    /// The endpoints by slot.
    pub endpoints: &'a [Endpoint<A>],
    /// The slots, ordered by their endpoints.
    pub order: &'a [u16],
    /// The number of the endpoint in each slot; empty without affinity.
    pub numbers: &'a [u16],
    /// One more than the slot that has each number; empty without affinity.
    pub slots: &'a [u16],
    /// The slot that each cell holds; empty without Maglev.
    pub cells: &'a [u16],
}

impl<A: Address> Writer<'_, A> {
    /// Calls `put` with each word, in their order.
    pub fn write(&self, mut put: impl FnMut(u64)) {
        for word in self.header.words() {
            put(word);
        }
        for endpoint in self.endpoints {
            for number in 0..A::ENDPOINT_WORDS {
                put(A::word(*endpoint, number));
            }
        }
        for values in [self.order, self.numbers, self.slots, self.cells] {
            for four in values.chunks(PACKED as usize) {
                let parts = four.iter().zip([0, 16, 32, 48]);
                put(parts.fold(0, |word, (value, shift)| word | u64::from(*value) << shift));
            }
        }
    }
}

//! Which list a number leads to.

use crate::way::Way;

/// The number of a list of endpoints. The lists of one Service port are neighbours: all usable endpoints have the even
/// number, those on this node the odd one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListIndex(u32);

impl ListIndex {
    /// How many numbers there are.
    pub const COUNT: u32 = 294_910;

    /// The number, if there is such a one.
    #[inline(always)]
    pub fn new(number: u32) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The place in the array.
    #[inline(always)]
    pub fn get(self) -> u32 {
        self.0
    }

    /// The place of its Service port in the array of counts: both lists of a Service port have one count.
    #[inline(always)]
    pub fn port(self) -> u32 {
        self.0 / 2
    }

    /// The place of its Service port in the array of counts for packets from outside, which are behind the others.
    #[inline(always)]
    pub fn port_from_outside(self) -> u32 {
        Self::COUNT / 2 + self.port()
    }

    /// The list of all usable endpoints of the Service port with this place in the array of counts.
    pub fn of_port(port: u32) -> Option<Self> {
        Self::new(port.checked_mul(2)?)
    }

    /// Whether it is the list of the endpoints on this node.
    #[inline(always)]
    pub fn is_local(self) -> bool {
        self.0 & 1 != 0
    }

    /// The list of all usable endpoints of the same Service port.
    #[inline(always)]
    #[must_use]
    pub fn all(self) -> Self {
        Self(self.0 & !1)
    }

    /// The list of the same Service port's endpoints on this node.
    #[inline(always)]
    #[must_use]
    pub fn local(self) -> Self {
        Self(self.0 | 1)
    }
}

/// Tells the Service ports apart that have a number one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Generation(pub u16);

impl Generation {
    /// The generation after this one.
    #[inline(always)]
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// What stands about the number of a list, in one word:
///
/// | bits | what |
/// |---|---|
/// | 0–31 | where its list begins, in words; 0 if it has none |
/// | 32–47 | the generation |
/// | 48–55 | the way |
///
/// The generation stays when the list goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct ServiceWord(pub u64);

impl ServiceWord {
    /// The word for a list.
    #[inline(always)]
    pub fn new(place: u32, generation: Generation, way: Way) -> Self {
        Self(place as u64 | (generation.0 as u64) << 32 | (way.number() as u64) << 48)
    }

    /// The word of a number without a list.
    #[inline(always)]
    pub fn none(generation: Generation) -> Self {
        Self((generation.0 as u64) << 32)
    }

    /// Where the list begins; 0 if there is none.
    #[inline(always)]
    pub fn place(self) -> u32 {
        self.0 as u32
    }

    /// The generation.
    #[inline(always)]
    pub fn generation(self) -> Generation {
        Generation((self.0 >> 32) as u16)
    }

    /// The way; none if the number has no list, or if the word makes no sense.
    #[inline(always)]
    pub fn way(self) -> Option<Way> {
        Way::from_number((self.0 >> 48) as u16)
    }
}

//! Addresses and endpoints as they stand in maps.

/// An address. Its bytes are in network order, as programs find them in a socket's context.
pub trait Address: Copy + Eq + Ord + core::hash::Hash + Send + Sync {
    /// The number of words that an endpoint takes in a list.
    const ENDPOINT_WORDS: u32;

    /// What fills a structure of 32-bit parts up to the alignment of the address.
    type Fill: Copy + Default + Eq + core::hash::Hash + core::fmt::Debug + Send;

    /// The address that stands for all addresses of the node in the key of a nodePort.
    const NONE: Self;

    /// Whether it is the address at which nodePorts on loopback answer: 127.0.0.1 or ::1.
    fn is_loopback(self) -> bool;

    /// A number that depends on every bit of the address.
    fn fold(self) -> u64;

    /// One of the words of an endpoint, from 0. Words after the last are 0.
    fn word(endpoint: Endpoint<Self>, number: u32) -> u64;

    /// An endpoint out of its words.
    fn endpoint(word: impl Fn(u32) -> Option<u64>) -> Option<Endpoint<Self>>;
}

/// The destination of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint<A> {
    /// The address.
    pub addr: A,
    /// The port in network order.
    pub port: u16,
}

/// An IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Address4(pub u32);

/// An IPv6 address in two halves. (LLVM 22 crashes on code for the kernel that copies arrays of four words.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Address6 {
    /// The first eight bytes.
    pub first: u64,
    /// The others.
    pub second: u64,
}

impl Address6 {
    /// The address that has these words of four bytes.
    #[inline(always)]
    pub fn of_words(a: u32, b: u32, c: u32, d: u32) -> Self {
        Self {
            first: pair(a, b),
            second: pair(c, d),
        }
    }
}

/// The multiplier of the folding, an odd number without a pattern (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes a word into a number.
#[inline(always)]
pub(crate) fn mix(number: u64, word: u64) -> u64 {
    let mixed = (number ^ word).wrapping_mul(SPREAD);
    mixed ^ (mixed >> 29)
}

#[inline(always)]
fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl Address for Address4 {
    const ENDPOINT_WORDS: u32 = 1;
    type Fill = ();
    const NONE: Self = Self(0);

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.0 == 0x7f00_0001_u32.to_be()
    }

    #[inline(always)]
    fn fold(self) -> u64 {
        mix(0, self.0 as u64)
    }

    #[inline(always)]
    fn word(endpoint: Endpoint<Self>, number: u32) -> u64 {
        match number {
            0 => pair(endpoint.addr.0, endpoint.port as u32),
            _ => 0,
        }
    }

    #[inline(always)]
    fn endpoint(word: impl Fn(u32) -> Option<u64>) -> Option<Endpoint<Self>> {
        let word = word(0)?;
        Some(Endpoint {
            addr: Self(word as u32),
            port: (word >> 32) as u16,
        })
    }
}

impl Address for Address6 {
    const ENDPOINT_WORDS: u32 = 3;
    type Fill = u32;
    const NONE: Self = Self { first: 0, second: 0 };

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.first == 0 && self.second == 1_u64.to_be()
    }

    #[inline(always)]
    fn fold(self) -> u64 {
        mix(mix(0, self.first), self.second)
    }

    #[inline(always)]
    fn word(endpoint: Endpoint<Self>, number: u32) -> u64 {
        match number {
            0 => endpoint.addr.first,
            1 => endpoint.addr.second,
            2 => endpoint.port as u64,
            _ => 0,
        }
    }

    #[inline(always)]
    fn endpoint(word: impl Fn(u32) -> Option<u64>) -> Option<Endpoint<Self>> {
        let (first, second, port) = (word(0)?, word(1)?, word(2)?);
        Some(Endpoint {
            addr: Self { first, second },
            port: port as u16,
        })
    }
}

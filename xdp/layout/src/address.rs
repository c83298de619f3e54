//! Addresses and endpoints as they stand in maps.

/// An address as programs find it in a socket's context: 32-bit words whose bytes are in network order.
pub trait Address: Copy + Eq + Ord + core::hash::Hash {
    /// The number of words that an endpoint takes in a list.
    const ENDPOINT_WORDS: u32;

    /// The address that stands for all addresses of the node in the key of a nodePort.
    const NONE: Self;

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

/// An IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Address6(pub [u32; 4]);

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
    const NONE: Self = Self(0);

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
    const NONE: Self = Self([0; 4]);

    #[inline(always)]
    fn fold(self) -> u64 {
        let [a, b, c, d] = self.0;
        mix(mix(0, pair(a, b)), pair(c, d))
    }

    #[inline(always)]
    fn word(endpoint: Endpoint<Self>, number: u32) -> u64 {
        let [a, b, c, d] = endpoint.addr.0;
        match number {
            0 => pair(a, b),
            1 => pair(c, d),
            2 => endpoint.port as u64,
            _ => 0,
        }
    }

    #[inline(always)]
    fn endpoint(word: impl Fn(u32) -> Option<u64>) -> Option<Endpoint<Self>> {
        let (first, second, port) = (word(0)?, word(1)?, word(2)?);
        let addr = [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32];
        Some(Endpoint {
            addr: Self(addr),
            port: port as u16,
        })
    }
}

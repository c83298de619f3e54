//! Which endpoint a client had before.

use crate::address::mix;
use crate::service::{Generation, ListIndex};

/// A client of a list with affinity. The generation keeps what is remembered from leading to another Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct AffinityKey {
    /// The network namespace that asks, by its cookie: a pod.
    pub client: u64,
    /// The number of the list.
    list: u32,
    /// The generation of that number.
    generation: u16,
    /// Always 0: the key has no byte without a meaning.
    zero: u16,
}

const _: () = assert!(size_of::<AffinityKey>() == 16);

impl AffinityKey {
    /// The key of a client.
    #[inline(always)]
    pub fn new(client: u64, list: ListIndex, generation: Generation) -> Self {
        Self {
            client,
            list: list.get(),
            generation: generation.0,
            zero: 0,
        }
    }
}

/// What an [`AffinityWord`] may stand about.
pub trait Remembered {
    /// A number that depends on every bit of the key.
    fn check(&self) -> u16;
}

impl Remembered for AffinityKey {
    #[inline(always)]
    fn check(&self) -> u16 {
        mix(mix(0, self.client), (self.list as u64) << 16 | self.generation as u64) as u16
    }
}

/// What is remembered of a client, in one word: the number of the endpoint (bits 0–15), when the client was seen last,
/// in seconds since the boot (bits 16–47), and a check of the key (bits 48–63).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct AffinityWord(pub u64);

impl AffinityWord {
    /// The word of a client that is seen now.
    #[inline(always)]
    pub fn new(key: &impl Remembered, number: u16, now: u32) -> Self {
        Self(number as u64 | (now as u64) << 16 | (key.check() as u64) << 48)
    }

    /// The number of the endpoint, if the word stands about this client and is not too old.
    #[inline(always)]
    pub fn number(self, key: &impl Remembered, now: u32, seconds: u32) -> Option<u16> {
        let seen = (self.0 >> 16) as u32;
        if (self.0 >> 48) as u16 != key.check() || now.wrapping_sub(seen) >= seconds {
            return None;
        }
        Some(self.0 as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_remembered_for_as_long_as_the_list_says() {
        let list = ListIndex::new(262_144).unwrap();
        let key = AffinityKey::new(7, list, Generation(3));
        let word = AffinityWord::new(&key, 4095, 100);
        assert_eq!(word.number(&key, 100, 10), Some(4095));
        assert_eq!(word.number(&key, 109, 10), Some(4095));
        assert_eq!(word.number(&key, 110, 10), None);
        for other in [
            AffinityKey::new(8, list, Generation(3)),
            AffinityKey::new(7, list.local(), Generation(3)),
            AffinityKey::new(7, list, Generation(4)),
        ] {
            assert_eq!(word.number(&other, 100, 10), None, "{other:?}");
        }
    }
}

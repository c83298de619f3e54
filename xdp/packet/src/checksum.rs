//! Checksums by differences (RFC 1624).

/// A difference of checksums: what was taken away and what was added, as a sum of 16-bit halves that is not folded yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Difference(u64);

impl Difference {
    /// The difference that was folded to 16 bits.
    #[inline(always)]
    pub(crate) fn of(folded: u16) -> Self {
        Self(folded as u64)
    }

    /// Two bytes are replaced.
    #[inline(always)]
    #[must_use]
    pub(crate) fn u16(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// A word of eight bytes is replaced; of four, if the upper half of both is 0.
    #[inline(always)]
    #[must_use]
    pub(crate) fn u64(self, old: u64, new: u64) -> Self {
        Self(self.0 + sum(!old) + sum(new))
    }

    /// One difference after another.
    #[inline(always)]
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The difference in 16 bits.
    #[inline(always)]
    pub(crate) fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum after the difference.
    #[inline(always)]
    pub(crate) fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + (!checksum) as u64)
    }
}

/// The halves of a word, added.
#[inline(always)]
fn sum(word: u64) -> u64 {
    (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48)
}

#[inline(always)]
fn fold(sum: u64) -> u16 {
    // 2^48 halves would not overflow three steps. There are a few dozen.
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum of words of eight bytes that are added up by [`Total::add`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total(u64);

impl Total {
    /// Adds a word.
    #[inline(always)]
    #[must_use]
    pub(crate) fn add(self, word: u64) -> Self {
        Self(self.0 + sum(word))
    }

    /// The checksum.
    #[inline(always)]
    pub(crate) fn checksum(self) -> u16 {
        !fold(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    fn whole(words: &[u16]) -> u16 {
        let sum: u64 = words.iter().map(|word| *word as u64).sum();
        !fold(sum)
    }

    #[test]
    fn a_difference_gives_the_checksum_of_the_changed_packet() {
        let old = [0x1234_u16, 0xffff, 0, 0x8001, 0xfffe, 7, 9, 0];
        let new = [0_u16, 0xffff, 1, 0x8001, 3, 0xffff, 9, 0xabcd];
        let as_u64 = |words: &[u16]| words.iter().rev().fold(0_u64, |all, word| all << 16 | *word as u64);
        let difference = Difference::default()
            .u64(as_u64(&old[..4]), as_u64(&new[..4]))
            .u16(old[4], new[4])
            .u16(old[5], new[5])
            .u64(as_u64(&old[6..]), as_u64(&new[6..]));
        assert_eq!(difference.apply(whole(&old)), whole(&new));
        assert_eq!(Difference::of(difference.folded()).apply(whole(&old)), whole(&new));
        assert_eq!(Difference::of(!difference.folded()).apply(whole(&new)), whole(&old));
        let total = Total::default().add(as_u64(&old[..4])).add(as_u64(&old[4..]));
        assert_eq!(total.checksum(), whole(&old));
    }

    #[test]
    fn many_differences_do_not_run_over() {
        let words: Vec<u16> = (0..64).map(|_| 0xffff).collect();
        let difference = words.iter().fold(Difference::default(), |all, _| all.u16(0, 0xffff));
        assert_eq!(difference.apply(0x1234), 0x1234);
    }
}

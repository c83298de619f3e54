//! What the packet program asks first.

use crate::flow::Times;
use crate::hop::RouteGeneration;
use crate::reason::Reason;

/// Whether packets are taken, and how, in eight words:
///
/// | word | what |
/// |---|---|
/// | 0 | whether new flows of IPv4 (bit 0) and IPv6 (bit 1) are taken; whether those that are not are noted as nftables' (bit 2); whether flows are being carried over (bit 3); the generation of routes (bits 16–31) |
/// | 1 | the seed of the index (bits 0–31), and that of the choice of endpoints (bits 32–63) |
/// | 2 | how many pages of records IPv4 and IPv6 have: each a power of two, or 0 |
/// | 3 | UDP's times, in seconds |
/// | 4 | TCP's times, in seconds |
/// | 5 | how many packets may be answered in a second because they are too big |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketSettings {
    /// Whether new flows are taken, of IPv4 and IPv6.
    pub on: [bool; 2],
    /// Whether new flows that are not taken are noted as nftables', so that it keeps them when they are taken.
    pub noting: bool,
    /// Whether flows are being carried over: what may belong to one that is not here yet is dropped, and comes again.
    pub moving: bool,
    /// The generation of routes.
    pub generation: RouteGeneration,
    /// The seed of the index.
    pub index_seed: u32,
    /// The seed of the choice of endpoints.
    pub pick_seed: u32,
    /// How many pages each family has.
    pub pages: [u32; 2],
    /// How long flows live without a packet.
    pub times: Times,
    /// How many packets may be answered in a second because they are too big.
    pub answers: u32,
}

/// The words.
pub type PacketWords = [u64; 8];

fn halves(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl PacketSettings {
    /// Where the word with the switches is.
    pub const SWITCHES: usize = 0;

    /// The words.
    pub fn words(&self) -> PacketWords {
        let on = self.on[0] as u64 | (self.on[1] as u64) << 1;
        let [udp, tcp] = Self::times_words(&self.times);
        [
            on | (self.noting as u64) << 2 | (self.moving as u64) << 3 | (self.generation.get() as u64) << 16,
            halves(self.index_seed, self.pick_seed),
            halves(self.pages[0], self.pages[1]),
            udp,
            tcp,
            self.answers as u64,
            0,
            0,
        ]
    }

    /// The settings of these words; none if they are nobody's: without times.
    pub fn of_words(words: &PacketWords) -> Option<Self> {
        let times = Self::times(words[3], words[4]);
        if times.established == 0 {
            return None;
        }
        Some(Self {
            on: [Self::is_on(words[0], 0), Self::is_on(words[0], 1)],
            noting: Self::is_noting(words[0]),
            moving: Self::is_moving(words[0]),
            generation: Self::generation(words[0]),
            index_seed: words[1] as u32,
            pick_seed: (words[1] >> 32) as u32,
            pages: [words[2] as u32, (words[2] >> 32) as u32],
            times,
            answers: words[5] as u32,
        })
    }

    /// How many words there are.
    pub const WORDS: u32 = 8;

    /// The first word with other switches. Nothing is being carried over.
    pub fn turned(word: u64, on: [bool; 2], noting: bool) -> u64 {
        word & !0b1111 | on[0] as u64 | (on[1] as u64) << 1 | (noting as u64) << 2
    }

    /// Whether flows are being carried over.
    #[inline(always)]
    pub fn is_moving(word: u64) -> bool {
        word >> 3 & 1 != 0
    }

    /// Whether new flows that are not taken are noted as nftables'.
    #[inline(always)]
    pub fn is_noting(word: u64) -> bool {
        word >> 2 & 1 != 0
    }

    /// The first word with the next generation of routes.
    pub fn raised(word: u64) -> u64 {
        let next = RouteGeneration::new(Self::generation(word).get().wrapping_add(1));
        word & !0xffff_0000 | (next.get() as u64) << 16
    }

    /// Whether new flows of a family are taken: the first (0) or the second.
    #[inline(always)]
    pub fn is_on(word: u64, family: usize) -> bool {
        word >> family & 1 != 0
    }

    /// The generation of routes.
    #[inline(always)]
    pub fn generation(word: u64) -> RouteGeneration {
        RouteGeneration::new((word >> 16) as u16)
    }

    /// The words of the times, which are the fourth and the fifth.
    pub fn times_words(times: &Times) -> [u64; 2] {
        [
            halves(times.udp, times.udp_stream),
            halves(times.established, times.ending),
        ]
    }

    /// The times of these words.
    #[inline(always)]
    pub fn times(udp: u64, tcp: u64) -> Times {
        Times {
            udp: udp as u32,
            udp_stream: (udp >> 32) as u32,
            established: tcp as u32,
            ending: (tcp >> 32) as u32,
        }
    }
}

/// The seconds since the start of a clock of nanoseconds, as the packet program counts them. They are 0.00001 % too short: a
/// division would cost more than all other arithmetic of a packet.
#[inline(always)]
pub fn seconds(nanoseconds: u64) -> u32 {
    // 2^52 / 10^9, for units of 2^20 ns.
    const FACTOR: u64 = 4_503_599;
    ((nanoseconds >> 20).wrapping_mul(FACTOR) >> 32) as u32
}

/// Where the packet program counts: the packets that it passed or dropped, by family and reason, and what it did with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketCount(u32);

impl PacketCount {
    /// How many places there are.
    pub const PLACES: u32 = 2 * Reason::PLACES + 4;

    /// Packets of a family that were passed or dropped for the reason of this number.
    #[inline(always)]
    pub fn left(family: usize, reason: u32) -> Self {
        Self(family as u32 * Reason::PLACES + reason)
    }

    /// Packets of a family that were translated and sent.
    #[inline(always)]
    pub fn sent(family: usize) -> Self {
        Self(2 * Reason::PLACES + family as u32)
    }

    /// Packets of a family that were answered, because they were too big.
    #[inline(always)]
    pub fn answered(family: usize) -> Self {
        Self(2 * Reason::PLACES + 2 + family as u32)
    }

    /// The place.
    #[inline(always)]
    pub fn place(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_seconds_for_ten_years() {
        for second in [1_u64, 59, 86_400, 31_536_000, 315_360_000] {
            let counted = u64::from(seconds(second * 1_000_000_000 + 500_000_000));
            assert!(
                second - second / 1_000_000 - 1 <= counted && counted <= second,
                "{second}: {counted}"
            );
        }
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        let settings = PacketSettings {
            on: [false, true],
            noting: true,
            moving: true,
            generation: RouteGeneration::new(1023),
            index_seed: 1,
            pick_seed: 2,
            pages: [16, 8],
            times: Times::default(),
            answers: 1000,
        };
        let words = settings.words();
        assert!(!PacketSettings::is_on(words[0], 0) && PacketSettings::is_on(words[0], 1));
        assert_eq!(PacketSettings::generation(words[0]), settings.generation);
        assert_eq!(PacketSettings::times(words[3], words[4]), settings.times);
        assert_eq!(PacketSettings::of_words(&words), Some(settings));
        assert_eq!(PacketSettings::of_words(&PacketWords::default()), None);
    }

    #[test]
    fn switches_and_generation_of_a_word_change_by_themselves() {
        let word = 0b10 | 1023 << 16;
        let raised = PacketSettings::raised(word);
        assert_eq!(PacketSettings::generation(raised).get(), 0);
        let turned = PacketSettings::turned(raised, [true, false], true);
        assert!(PacketSettings::is_noting(turned) && !PacketSettings::is_noting(raised));
        assert!(PacketSettings::is_on(turned, 0) && !PacketSettings::is_on(turned, 1));
        assert_eq!(PacketSettings::generation(turned).get(), 0);
    }
}

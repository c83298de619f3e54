//! Where a packet goes.

use tandem_xdp_layout::Reason;

/// Where a packet goes, in one word. (An enum whose variants hold different things would have bits that nobody wrote, and the
/// kernel refuses a program that copies them.)
///
/// | bits | what |
/// |---|---|
/// | 0–7 | what is done |
/// | 8–15 | why |
/// | 16–31 | for the next part of the program: what the way out takes, or the slot of the chosen endpoint |
/// | 32–63 | the device, for a packet that is sent; for the next part: where the list of the endpoint is |
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verdict(u64);

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to the node's stack, and why.
    Pass(Reason),
    /// It goes nowhere, and why.
    Drop(Reason),
    /// It goes out by this device, translated.
    Send(u32),
    /// It goes out by the device that it came in by, in the way that needs no redirection (`XDP_TX`), translated.
    Transmit,
    /// It goes back by the device that it came in by: it is an answer to what came.
    Return,
    /// It is not decided yet: another part of the program takes it.
    More(Stage),
}

/// A part of the program that few packets need. In the kernel each is a function of its own, because all of them together need more
/// than the 512 bytes of memory that a program has. Nothing of the packet was changed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A packet of a client that has no flow: which endpoint answers it.
    First,
    /// The same with an endpoint: a record for its flow.
    Take,
    /// An ICMP error.
    Error,
    /// A part of a packet.
    Fragment,
    /// A packet that is larger than its way out takes.
    TooBig,
}

impl Verdict {
    /// What is done, as numbers.
    pub const PASS: u8 = 0;
    /// See [`Decision::Drop`].
    pub const DROP: u8 = 1;
    /// See [`Decision::Send`].
    pub const SEND: u8 = 2;
    /// See [`Decision::Transmit`].
    pub const TRANSMIT: u8 = 3;
    /// See [`Decision::Return`].
    pub const RETURN: u8 = 4;
    /// See [`Stage::First`].
    pub const FIRST: u8 = 5;
    /// See [`Stage::Error`].
    pub const ERROR: u8 = 6;
    /// See [`Stage::Fragment`].
    pub const FRAGMENT: u8 = 7;
    /// See [`Stage::TooBig`].
    pub const TOO_BIG: u8 = 8;
    /// See [`Stage::Take`].
    pub const TAKE: u8 = 9;

    #[inline(always)]
    pub(crate) fn pass(reason: Reason) -> Self {
        Self(Self::PASS as u64 | (reason.number() as u64) << 8)
    }

    #[inline(always)]
    pub(crate) fn drop(reason: Reason) -> Self {
        Self(Self::DROP as u64 | (reason.number() as u64) << 8)
    }

    #[inline(always)]
    pub(crate) fn send(device: u32, back: bool) -> Self {
        let what = if back { Self::TRANSMIT } else { Self::SEND };
        Self(what as u64 | (device as u64) << 32)
    }

    #[inline(always)]
    pub(crate) fn answer() -> Self {
        Self(Self::RETURN as u64)
    }

    #[inline(always)]
    pub(crate) fn more(what: u8) -> Self {
        Self(what as u64)
    }

    #[inline(always)]
    pub(crate) fn too_big(mtu: u16) -> Self {
        Self(Self::TOO_BIG as u64 | (mtu as u64) << 16)
    }

    #[inline(always)]
    pub(crate) fn take(slot: u16, list: u32) -> Self {
        Self(Self::TAKE as u64 | (slot as u64) << 16 | (list as u64) << 32)
    }

    /// The word.
    #[inline(always)]
    pub fn word(self) -> u64 {
        self.0
    }

    /// The verdict of a word.
    #[inline(always)]
    pub fn of_word(word: u64) -> Self {
        Self(word)
    }

    /// Where the list of the chosen endpoint is.
    #[inline(always)]
    pub(crate) fn list(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// What is done, as a number.
    #[inline(always)]
    pub fn what(self) -> u8 {
        self.0 as u8
    }

    /// Why, as the number of a [`Reason`].
    #[inline(always)]
    pub fn why(self) -> u32 {
        (self.0 >> 8) as u8 as u32
    }

    /// What the way out takes, or the slot of the chosen endpoint.
    #[inline(always)]
    pub(crate) fn size(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The device.
    #[inline(always)]
    pub fn device(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// What is done.
    pub fn decision(self) -> Decision {
        let reason = Reason::ALL
            .get(self.why() as usize)
            .copied()
            .unwrap_or(Reason::NoFrontend);
        match self.what() {
            Self::PASS => Decision::Pass(reason),
            Self::DROP => Decision::Drop(reason),
            Self::SEND => Decision::Send(self.device()),
            Self::TRANSMIT => Decision::Transmit,
            Self::RETURN => Decision::Return,
            Self::FIRST => Decision::More(Stage::First),
            Self::ERROR => Decision::More(Stage::Error),
            Self::FRAGMENT => Decision::More(Stage::Fragment),
            Self::TAKE => Decision::More(Stage::Take),
            _ => Decision::More(Stage::TooBig),
        }
    }
}

impl core::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.decision().fmt(f)
    }
}

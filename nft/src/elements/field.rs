//! The fields of keys and values: which part of a packet each is compared with.

use crate::family::Numbers;

/// nft's numbers of data types.
const INTEGER: u32 = 4;
const INET_PROTOCOL: u32 = 12;
const INET_SERVICE: u32 = 13;
const CLASSID: u32 = 23;

/// One field of a key or value, by the part of the packet that it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Saddr,
    Daddr,
    Protocol,
    Port,
    /// A service id or endpoint id.
    Priority,
    /// A number below [`SLOTS`]: `numgen random mod 65536`, the expression of this data type for which nft 1.0.6 has
    /// a `typeof`.
    Slot,
    /// The share of clients that the source belongs to: `jhash saddr mod 16384`. A set holds it as a slot.
    Share,
    /// `ct id`. A set holds it as a slot.
    Connection,
}

/// How many endpoints one list can have.
pub(crate) const SLOTS: u32 = 1 << 16;

/// How many shares the clients of a Service are divided into. No more clients of one Service than this can be
/// remembered, whoever sends.
pub(crate) const SHARES: u32 = 16_384;

/// What a map's elements point at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    None,
    Fields(&'static [Field]),
    Verdict,
}

impl Field {
    pub(crate) fn len(self, family: &Numbers) -> u32 {
        match self {
            Self::Saddr | Self::Daddr => u32::from(family.addr_len),
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Priority | Self::Slot | Self::Share | Self::Connection => 4,
        }
    }

    pub(super) fn data_type(self, family: &Numbers) -> u32 {
        match self {
            Self::Saddr | Self::Daddr => family.addr_type,
            Self::Protocol => INET_PROTOCOL,
            Self::Port => INET_SERVICE,
            Self::Priority => CLASSID,
            Self::Slot | Self::Share | Self::Connection => INTEGER,
        }
    }
}

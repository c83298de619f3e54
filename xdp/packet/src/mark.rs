//! The choice that a passed packet carries.

use crate::frame::{Frame, Part};

/// The first four bytes of the source MAC address: 02, and `tan`. The first bit pair says that it is nobody's by birth.
const MARK: u32 = u32::from_le_bytes([0x02, 0x74, 0x61, 0x6e]);

/// Where the source MAC address is.
const SOURCE: usize = 6;

/// Writes the chosen slot into a packet that nftables is going to translate: it follows the choice.
#[inline(always)]
pub(crate) fn mark(frame: impl Frame, slot: u16) {
    if let Some(part) = frame.part(0, 14) {
        part.put_u32(SOURCE, MARK.to_le());
        part.put_u16(SOURCE + 4, slot.to_le());
    }
}

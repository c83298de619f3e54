//! What the fixed rules and the XDP programs in front of them agree on: how a packet says which endpoint was chosen for
//! it, and which ports are whose. Pure.

use std::ops::RangeInclusive;

/// Who sees packets from outside before the rules do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ahead {
    /// Nobody. The rules choose each endpoint, and masquerading uses any port.
    #[default]
    Nobody,
    /// XDP programs on the node's devices. What they pass on says which slot they chose ([`chosen`]), and the rules
    /// follow it. [`XDP_PORTS`] are theirs, so masquerading uses none of them.
    Xdp,
}

/// The ports that XDP programs use as sources of their own flows.
pub const XDP_PORTS: RangeInclusive<u16> = 49_152..=u16::MAX;

/// How the source MAC of a packet begins if the rest of it is a chosen slot. The first byte says "given by hand, to one
/// device", so no manufacturer's address begins like this.
pub const CHOSEN: [u8; 4] = [0x02, b't', b'a', b'n'];

/// The source MAC that says that this slot of the list was chosen. **The low byte of the slot comes first:** slot 3 is
/// `02:74:61:6e:03:00`, and slot 300 is `02:74:61:6e:2c:01`.
///
/// nftables loads the last two bytes as they stand (`@ll,80,16`) and fills the register up with zeros. It compares the
/// register with the slot in an element's key, which is a number of 32 bits in the processor's order. So the two are
/// equal on processors that store the low byte first, as all do on which XDP programs of Tandem run. On others, no
/// slot but 0 would be found, and the rules would choose by themselves.
///
/// Whoever is on the same network can send such a packet too. It then reaches the slot that it names, which is another
/// endpoint of the same list and one that the rules could have chosen. A slot that is not there counts as none.
pub fn chosen(slot: u16) -> [u8; 6] {
    let [first, second, third, fourth] = CHOSEN;
    let [low, high] = slot.to_le_bytes();
    [first, second, third, fourth, low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_byte_of_a_chosen_slot_comes_first() {
        assert_eq!(chosen(3), [0x02, 0x74, 0x61, 0x6e, 0x03, 0x00]);
        assert_eq!(chosen(300), [0x02, 0x74, 0x61, 0x6e, 0x2c, 0x01]);
    }
}

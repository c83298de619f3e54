//! Flows whose first packet met a change.

use std::vec::Vec;

use tandem_xdp_layout::{Generation, Reason, ServiceWord};

use super::{Handle, Memory, OWN};
use crate::verdict::Decision;

/// A datagram, or a packet of TCP with these flags, of a client to the frontend with two endpoints.
fn packet(flags: Option<u8>) -> Vec<u8> {
    let mut packet = Vec::from(OWN.bytes());
    packet.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    let protocol = if flags.is_some() { 6 } else { 17 };
    packet.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend([10, 0, 0, 40, 10, 0, 0, 10]);
    packet.extend([0x9c, 0x40, 0, 80, 0, 20, 0, 0]);
    packet.extend([0, 0, 0, 0, 0x50, flags.unwrap_or(0), 0, 0, 0, 0, 0, 0]);
    packet
}

/// What becomes of a packet.
fn decision(memory: &Memory, packet: &[u8]) -> Decision {
    *memory.packet.borrow_mut() = packet.to_vec();
    crate::run(&Handle(memory)).0.decision()
}

#[test]
fn a_flow_whose_first_packet_meets_a_change_stays_with_nftables() {
    for flags in [None, Some(2)] {
        let packet = packet(flags);
        let mut memory = Memory::new();
        let services = memory.four.services.clone();
        for (word, becomes) in [
            (ServiceWord::none(Generation(2)), Reason::Changing),
            (ServiceWord::none(Generation(1)), Reason::NoList),
        ] {
            memory.four.held.borrow_mut().clear();
            memory.four.services.values_mut().for_each(|value| *value = word.0);
            assert_eq!(decision(&memory, &packet), Decision::Pass(becomes), "{flags:?}");
            memory.four.services.clone_from(&services);
            assert_eq!(decision(&memory, &packet), Decision::Pass(Reason::Held), "{flags:?}");
        }
        // Without the change, it is taken.
        memory.four.held.borrow_mut().clear();
        assert!(
            matches!(decision(&memory, &packet), Decision::Send(_) | Decision::Transmit),
            "{flags:?}"
        );
    }
}

//! Packets from outside, one after the other, as the packet program treats them. Nothing in the input is as it must be but the Ethernet
//! address of the node.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    tandem_xdp_packet::memory::try_packets(input);
});

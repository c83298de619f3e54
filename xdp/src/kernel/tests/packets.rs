//! The programs for packets, as the kernel takes them.

use super::*;
use crate::kernel::{PacketSizes, Packets};

#[test]
fn the_kernel_takes_the_programs_for_packets() {
    let place = Place::new();
    let opened = place.open();
    let pins = Pins::open(&place.pins).unwrap();
    let packets = Packets::open(&PacketSizes::default(), &pins).unwrap_or_else(|error| {
        if let crate::kernel::PacketsError::Load(crate::kernel::LoadError::Refused { log, .. }) = &error {
            fs::write("/tmp/verifier.log", log).unwrap();
        }
        panic!("{error}")
    });
    println!("{:?}", packets.verified());
    drop(opened);
}

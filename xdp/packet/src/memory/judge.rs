//! Whatever the packets are: what holds for each.

use core::cell::{Cell, RefCell};

use tandem_xdp_layout::{Address4, Address6, PacketSettings, RouteGeneration, Times};

use super::side::Side;
use super::{Handle, INGRESS, Memory, OWN};
use crate::verdict::Decision;

/// What the node's addresses are made of: a number behind the same first bytes.
fn four(number: u8) -> Address4 {
    Address4(u32::from_ne_bytes([10, 0, 0, number]))
}

fn six(number: u8) -> Address6 {
    Address6 {
        first: 0xfd,
        second: u64::from(number) << 56,
    }
}

impl Memory {
    pub(super) fn new() -> Self {
        let settings = PacketSettings {
            on: [true; 2],
            noting: false,
            moving: false,
            generation: RouteGeneration::new(1),
            index_seed: 1,
            pick_seed: 2,
            pages: [1; 2],
            times: Times::default(),
            answers: 1,
        };
        Self {
            packet: RefCell::default(),
            grown: Cell::new(0),
            settings: settings.words(),
            now: Cell::new(1000),
            four: Side::new(four, u64::from(four(1).0)),
            six: Side::new(six, 0xfd),
        }
    }
}

/// Gives packets to a node, one after the other, and panics if one is treated as none may be. The input is a row of packets: two bytes
/// that say how long it is and how many seconds pass before it, and the packet. Its Ethernet addresses are written over, because packets
/// for others are not ours. It gives how many flows began.
pub fn try_packets(mut input: &[u8]) -> u32 {
    let memory = Memory::new();
    while let [len, seconds, rest @ ..] = input {
        let len = usize::from(*len) * 8 + 14;
        let packet = &rest[..len.min(rest.len())];
        input = &rest[packet.len()..];
        memory.now.set(memory.now.get() + u32::from(*seconds));
        let mut packet = packet.to_vec();
        for (at, byte) in OWN.bytes().into_iter().enumerate().take(packet.len()) {
            packet[at] = byte;
        }
        one(&memory, &packet);
    }
    flows(&memory)
}

fn one(memory: &Memory, packet: &[u8]) {
    *memory.packet.borrow_mut() = packet.to_vec();
    let flows = flows(memory);
    let (verdict, _) = crate::run(&Handle(memory));
    let after = memory.packet.borrow().clone();
    match verdict.decision() {
        Decision::Pass(reason) => {
            assert_eq!(
                after.len(),
                packet.len(),
                "{reason:?}: a packet that is passed has another length"
            );
            let same = |from: usize, to: usize| after.get(from..to) == packet.get(from..to);
            let chosen = packet.len() >= 14 && after[6..10] == [0x02, 0x74, 0x61, 0x6e];
            assert!(same(0, 6.min(packet.len())), "{reason:?}: its destination changed");
            assert!(
                same(12.min(packet.len()), packet.len()),
                "{reason:?}: a packet that is passed changed"
            );
            assert!(chosen || after == packet, "{reason:?}: its source changed");
            assert!(
                self::flows(memory) <= flows,
                "{reason:?}: a packet that is passed began a flow"
            );
        }
        Decision::Drop(_) => {}
        Decision::Send(device) => {
            assert!(
                (INGRESS..=4).contains(&device),
                "sent by a device that is not there: {device}"
            );
            assert!(
                after.len().abs_diff(packet.len()) <= 4,
                "a packet that is sent has another length"
            );
            assert!(self::flows(memory) <= flows + 1, "a packet began two flows");
            assert_ne!(after[..6], OWN.bytes(), "a packet is sent to the node itself");
        }
        Decision::Transmit => assert!(after.len().abs_diff(packet.len()) <= 4),
        Decision::Return => {
            assert!(
                after.len() <= 18 + 40 + 8 + 40 + 8,
                "an answer is longer than it must be"
            );
            assert_eq!(after[..6], packet[6..12], "an answer goes to another neighbour");
        }
        Decision::More(_) => unreachable!("a packet is not decided after all parts of the program"),
    }
}

/// How many flows began.
fn flows(memory: &Memory) -> u32 {
    memory.four.begun.get() + memory.six.begun.get()
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A packet of TCP or UDP that is nearly right, over IPv4 or IPv6.
    fn nearly(random: &mut fastrand::Rng) -> Vec<u8> {
        let mut packet = std::vec![0; 12];
        let is_six = random.bool();
        if random.u8(..4) == 0 {
            packet.extend([0x81, 0, 0, random.choice([0, 7, 9]).unwrap_or(0)]);
        }
        let protocol: u8 = random.choice([6, 6, 17, 17, 1, 58, 44, 0]).unwrap_or(6);
        let ends = |random: &mut fastrand::Rng| random.choice([1, 10, 10, 10, 20, 21, 30, 40, 41, 42]).unwrap_or(1);
        let (from, to) = (ends(random), ends(random));
        let behind: u16 = random.choice([8, 20, 28, 48, 60, 1500]).unwrap_or(20);
        if is_six {
            packet.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            packet.extend(behind.to_be_bytes());
            packet.extend([protocol, random.choice([1, 2, 64]).unwrap_or(64)]);
            for end in [from, to] {
                packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
            }
        } else {
            packet.extend([8, 0, 0x45, 0]);
            packet.extend((20 + behind).to_be_bytes());
            let flags = random.choice([0x40, 0x40, 0x40, 0x20, 0, 1]).unwrap_or(0);
            packet.extend([
                0,
                random.u8(..3),
                flags,
                0,
                random.choice([1, 64]).unwrap_or(64),
                protocol,
                0,
                0,
            ]);
            packet.extend([10, 0, 0, from, 10, 0, 0, to]);
        }
        let port = |random: &mut fastrand::Rng| -> [u8; 2] {
            let ports: [u16; 16] = [
                80, 80, 80, 81, 81, 82, 83, 84, 40_002, 30_001, 8080, 40_000, 40_001, 49_152, 50_000, 65_535,
            ];
            random.choice(ports).unwrap_or(80).to_be_bytes()
        };
        let (source, destination) = (port(random), port(random));
        packet.extend(source);
        packet.extend(destination);
        packet.extend([0; 9]);
        packet.extend([random.choice([2, 2, 16, 17, 4, 18]).unwrap_or(2)]);
        packet.resize(packet.len() + usize::from(behind), random.u8(..));
        packet.truncate(14 + 8 * 255);
        // Sometimes a byte is another one, and sometimes there are fewer.
        if random.u8(..4) == 0 {
            let at = random.usize(12..packet.len());
            packet[at] = random.u8(..);
        }
        if random.u8(..8) == 0 {
            packet.truncate(random.usize(12..packet.len()));
        }
        packet
    }

    #[test]
    fn whatever_comes_is_treated_whole_and_reads_no_byte_that_is_not_there() {
        let mut random = fastrand::Rng::with_seed(17);
        let mut begun = 0;
        for _ in 0..40 {
            let mut input = Vec::new();
            for _ in 0..500 {
                let packet = nearly(&mut random);
                let eights = packet.len().saturating_sub(14).div_ceil(8).min(255);
                input.extend([eights as u8, random.choice([0, 0, 0, 1, 40]).unwrap_or(0)]);
                let mut packet = packet;
                packet.resize(eights * 8 + 14, 0);
                input.extend(packet);
            }
            begun += try_packets(&input);
        }
        // Enough of them are right that flows begin.
        assert!(begun > 150, "{begun}");
    }

    /// What a fuzzer found, and the seeds that it began with: the small form of `fuzz/fuzz_targets/packets.rs`.
    #[test]
    fn every_row_of_packets_that_a_fuzzer_found_is_survived_and_seeds_begin_flows() {
        use std::{fs, path::Path};
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (folder, least) in [("tests/data/fuzz/packets", 0), ("../../fuzz/seeds/packets", 1)] {
            for file in here.join(folder).read_dir().into_iter().flatten() {
                let path = file.unwrap().path();
                let begun = try_packets(&fs::read(&path).unwrap());
                assert!(begun >= least, "{}: {begun} flows began", path.display());
            }
        }
    }
}

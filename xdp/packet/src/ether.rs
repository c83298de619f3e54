//! Ethernet and VLAN: where a packet begins, and whether it is for this node.

use tandem_xdp_layout::{Address4, Address6, DeviceKey, Mac, Reason};

use crate::frame::{Frame, Part};
use crate::ip::{PLAIN, TAGGED};
use crate::transport;
use crate::verdict::Verdict;
use crate::world::{FamilyWorld, Kind, World};

/// What stands in the Ethernet header about what follows.
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const VLAN: u16 = 0x8100_u16.to_be();

/// Looks at a packet. It gives the verdict, and what kind of packet it is, if it may be one of ours.
#[inline(always)]
pub fn begin<W: FamilyWorld<Address4> + FamilyWorld<Address6>>(world: &W) -> (Verdict, Kind) {
    let kind = |six, tagged| Kind { six, tagged };
    let not_ours = (Verdict::pass(Reason::NoFrontend), kind(false, false));
    let frame = world.frame();
    let Some(ether) = frame.part(0, PLAIN) else {
        return not_ours;
    };
    let to = destination(ether);
    let protocol = ether.u16(12);
    if protocol == IPV4 || protocol == IPV6 {
        if world.ingress_mac() != Some(to) {
            return not_ours;
        }
        return match protocol {
            IPV4 => (
                transport::packet::<Address4, W, PLAIN>(world, frame),
                kind(false, false),
            ),
            _ => (transport::packet::<Address6, W, PLAIN>(world, frame), kind(true, false)),
        };
    }
    if protocol != VLAN {
        return not_ours;
    }
    let Some(ether) = frame.part(0, TAGGED) else {
        return not_ours;
    };
    if vlan_mac(world, ether.u16(14)) != Some(to) {
        return not_ours;
    }
    match ether.u16(16) {
        IPV4 => (
            transport::packet::<Address4, W, TAGGED>(world, frame),
            kind(false, true),
        ),
        IPV6 => (transport::packet::<Address6, W, TAGGED>(world, frame), kind(true, true)),
        _ => not_ours,
    }
}

/// Goes on with a packet that [`begin`] has looked at. `what` is what `verdict` says is to be done.
#[inline(always)]
pub fn go_on<W: FamilyWorld<Address4> + FamilyWorld<Address6>>(
    world: &W,
    what: u8,
    verdict: Verdict,
    kind: Kind,
) -> Verdict {
    match (kind.six, kind.tagged) {
        (false, false) => transport::go_on::<Address4, W, PLAIN>(world, what, verdict),
        (false, true) => transport::go_on::<Address4, W, TAGGED>(world, what, verdict),
        (true, false) => transport::go_on::<Address6, W, PLAIN>(world, what, verdict),
        (true, true) => transport::go_on::<Address6, W, TAGGED>(world, what, verdict),
    }
}

/// The most parts of the program that one packet needs.
const STAGES: usize = 4;

/// Treats a packet, from its beginning to its end. In the kernel, the parts are put together in the same way.
pub fn run<W: FamilyWorld<Address4> + FamilyWorld<Address6>>(world: &W) -> (Verdict, Kind) {
    let (mut verdict, kind) = begin(world);
    for _ in 1..STAGES {
        if verdict.what() < Verdict::FIRST {
            break;
        }
        verdict = go_on(world, verdict.what(), verdict, kind);
    }
    (verdict, kind)
}

/// The MAC address that a packet is sent to.
#[inline(always)]
fn destination(ether: impl Part) -> Mac {
    Mac(ether.u32(0) as u64 | (ether.u16(4) as u64) << 32)
}

/// The MAC address of the device with this VLAN, if the node has one.
#[inline(always)]
fn vlan_mac(world: &impl World, tag: u16) -> Option<Mac> {
    let key = DeviceKey {
        index: world.ingress(),
        vlan: (u16::from_be(tag) & 0xfff) as u32,
    };
    let device = world.device_number(key)?;
    Some(Mac(world.device_word(device, 1) & ((1 << 48) - 1)))
}

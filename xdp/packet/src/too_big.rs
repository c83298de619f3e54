//! The answer to a packet that is larger than its way out takes.

use tandem_xdp_layout::Reason;

use crate::checksum::Total;
use crate::frame::{Frame, Part};
use crate::ip::{Header, Ip, TAGGED};
use crate::settings::answers;
use crate::verdict::Verdict;
use crate::world::World;

/// How long an ICMP header is.
const ICMP: usize = 8;
/// How much of the packet's transport header is sent back: the ports, and what tells packets of TCP apart.
const TRANSPORT: usize = 8;
/// How long the Ethernet addresses are.
const ADDRESSES: usize = 12;

/// Turns a packet into the answer that it is too big, from the address that it was sent to.
#[inline(always)]
pub(crate) fn answer<A: Ip, W: World, const L3: usize>(
    world: &W,
    frame: W::Frame,
    header: &Header<A>,
    mtu: u16,
) -> Verdict {
    // Nobody who may divide a packet waits for this answer.
    if !header.whole || !world.may_answer(answers(world)) {
        return Verdict::drop(Reason::TooBig);
    }
    match turn::<A, W, L3>(world, frame, header, mtu) {
        Some(()) => Verdict::answer(),
        None => Verdict::drop(Reason::TooBig),
    }
}

#[inline(always)]
fn turn<A: Ip, W: World, const L3: usize>(world: &W, frame: W::Frame, header: &Header<A>, mtu: u16) -> Option<()> {
    let ether = frame.part(0, L3)?;
    let (to, from) = ((ether.u32(0), ether.u16(4)), (ether.u32(6), ether.u16(10)));
    // A VLAN tag stays, and so does what stands about what follows.
    let (kind, tag) = (ether.u16(L3 - 2), ether.u32(L3 - 6));
    frame.part(L3, A::LEN + TRANSPORT)?;
    world.cut((L3 + A::LEN + TRANSPORT) as u32)?;
    let frame = world.grow(A::MORE)?;
    let ether = frame.part(0, L3)?;
    ether.put_u32(0, from.0);
    ether.put_u16(4, from.1);
    ether.put_u32(6, to.0);
    ether.put_u16(10, to.1);
    if L3 == TAGGED {
        ether.put_u32(ADDRESSES, tag);
    }
    ether.put_u16(L3 - 2, kind);
    let behind = (ICMP + A::LEN + TRANSPORT) as u16;
    A::write_header(frame.part(L3, A::LEN)?, header.destination, header.source, behind);
    let icmp = frame.part(L3 + A::LEN, ICMP + A::LEN + TRANSPORT)?;
    let [kind, high, low] = A::too_big(mtu);
    icmp.put_u16(0, kind);
    icmp.put_u16(2, 0);
    icmp.put_u16(4, high);
    icmp.put_u16(6, low);
    let mut total: Total = A::pseudo_header(header.destination, header.source, behind);
    for at in (0..ICMP + A::LEN + TRANSPORT).step_by(4) {
        total = total.add(icmp.u32(at) as u64);
    }
    icmp.put_u16(2, total.checksum());
    Some(())
}

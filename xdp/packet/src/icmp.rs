//! ICMP errors about packets of known flows. They go to whom the packet came from, with the packet as that one knows it.
//!
//! The source of an error becomes the other end of the flow, whichever router sent it. Linux's translation does the same.

use tandem_xdp_layout::{Direction, Endpoint, Reason};

use crate::checksum::Difference;
use crate::frame::{Frame, Part};
use crate::hop;
use crate::index::{self, Found};
use crate::ip::{Header, Ip, TCP, UDP};
use crate::ports;
use crate::send::{self, Ends};
use crate::settings::index_seed;
use crate::verdict::Verdict;
use crate::world::FamilyWorld;

/// How long an ICMP header is.
const ICMP: usize = 8;
/// How much of the transport header there must be inside.
const TRANSPORT: usize = 8;

/// A packet of ICMP.
#[inline(always)]
pub(crate) fn packet<A: Ip, W: FamilyWorld<A>, const L3: usize>(
    world: &W,
    frame: W::Frame,
    header: &Header<A>,
) -> Verdict {
    let not_ours = Verdict::pass(Reason::NoFrontend);
    let (l4, inside) = (L3 + A::LEN, L3 + A::LEN + ICMP);
    let Some(icmp) = frame.part(l4, ICMP) else {
        return not_ours;
    };
    if !A::is_error(icmp.u8(0)) {
        return not_ours;
    }
    let whole = A::LEN + ICMP + A::LEN + TRANSPORT;
    if header.total < whole as u32 {
        return not_ours;
    }
    let Some(about) = frame.part(inside, A::LEN) else {
        return not_ours;
    };
    let Ok(about) = A::header(about) else { return not_ours };
    // Only the first part of a packet has ports. Few networks send errors about others.
    let is_later = about.fragment.is_some_and(|fragment| !fragment.first);
    if is_later || (about.protocol != TCP && about.protocol != UDP) {
        return not_ours;
    }
    let Some(transport) = frame.part(inside + A::LEN, TRANSPORT) else {
        return not_ours;
    };
    let Some((found, direction)) = flow_of(world, header, &about, transport.u16(0), transport.u16(2)) else {
        return not_ours;
    };
    if header.hops <= 1 {
        return Verdict::pass(Reason::HopLimit);
    }
    // The packet inside went the other way.
    let ends = Ends::of(&found.flow, found.number, direction);
    let way = send::way(&found.flow, direction, about.protocol);
    let hop = hop::remembered(world, found.words, found.state, found.hop, direction, &way);
    let Some(device) = hop::device(world, hop) else {
        return Verdict::drop(Reason::NoDevice);
    };
    if header.total > device.mtu as u32 {
        return Verdict::drop(Reason::TooBig); // nobody answers an error
    }
    let Some(difference) = rewrite_inside::<A, W, L3>(frame, header, &about, &ends) else {
        return not_ours;
    };
    // IPv6's checksum has the addresses in it.
    let difference = if A::FAMILY == 0 {
        difference
    } else {
        let source = A::difference(header.source, ends.source.addr);
        difference
            .and(source)
            .and(A::difference(header.destination, ends.destination.addr))
    };
    icmp.put_u16(2, difference.apply(icmp.u16(2)));
    // The source of the error may be a router.
    let addresses =
        A::difference(header.source, ends.source.addr).and(A::difference(header.destination, ends.destination.addr));
    let ends = Ends {
        header_delta: A::header_difference(addresses),
        ..ends
    };
    send::finish::<A, W, L3>(world, frame, &ends, hop, &device)
}

/// The flow of the packet inside, and which way the error goes.
#[inline(always)]
fn flow_of<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    header: &Header<A>,
    about: &Header<A>,
    source: u16,
    destination: u16,
) -> Option<(Found<A, W::Words>, Direction)> {
    // The error goes to the address that the packet inside came from.
    if header.destination != about.source {
        return None;
    }
    // A packet that was sent to the endpoint: seen from there, an answer to it would come the other way.
    let turned = Header {
        source: about.destination,
        destination: about.source,
        ..*about
    };
    if let Some(found) = index::reply(world, &turned, destination, source) {
        return Some((found, Direction::Reply));
    }
    // A packet that was sent to the client.
    if !world.has_port(source, about.protocol) {
        return None;
    }
    let key = ports::key(&turned, destination, source);
    let found = index::find(world, &key, key.hash(index_seed(world)))?;
    Some((found, Direction::Forward))
}

/// Writes the packet inside as the receiver knows it. It gives how ICMP's checksum changes.
#[inline(always)]
fn rewrite_inside<A: Ip, W: FamilyWorld<A>, const L3: usize>(
    frame: W::Frame,
    header: &Header<A>,
    about: &Header<A>,
    ends: &Ends<A>,
) -> Option<Difference> {
    let inside = L3 + A::LEN + ICMP;
    let (ip, transport) = (frame.part(inside, A::LEN)?, frame.part(inside + A::LEN, TRANSPORT)?);
    // It goes the way of the error's receiver: from it, to whoever the receiver sent it to.
    let (from, to): (Endpoint<A>, Endpoint<A>) = (ends.destination, ends.source);
    let addresses = A::difference(about.source, from.addr).and(A::difference(about.destination, to.addr));
    let of_header = A::rewrite_inside(ip, from.addr, to.addr, A::header_difference(addresses));
    let old = (transport.u16(0), transport.u16(2));
    transport.put_u16(0, from.port);
    transport.put_u16(2, to.port);
    let ports = Difference::default().u16(old.0, from.port).u16(old.1, to.port);
    let of_transport = match about.protocol {
        UDP => sum_inside(transport, 6, addresses.and(ports), true),
        // What is behind the first eight bytes may not be there.
        _ if header.total >= (A::LEN + ICMP + A::LEN + 20) as u32 => match frame.part(inside + A::LEN, 20) {
            Some(transport) => sum_inside(transport, 16, addresses.and(ports), false),
            None => Difference::default(),
        },
        _ => Difference::default(),
    };
    Some(addresses.and(of_header).and(ports).and(of_transport))
}

/// Writes the checksum of the transport header inside. It gives how ICMP's checksum changes by that.
#[inline(always)]
fn sum_inside(transport: impl Part, at: usize, difference: Difference, optional: bool) -> Difference {
    let old = transport.u16(at);
    if optional && old == 0 {
        return Difference::default();
    }
    let new = Difference::of(difference.folded()).apply(old);
    let new = if optional && new == 0 { 0xffff } else { new };
    transport.put_u16(at, new);
    Difference::default().u16(old, new)
}

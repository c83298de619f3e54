//! Packets in parts. The first part has the ports; what follows is found by the packet's number.

use tandem_xdp_layout::{Direction, FragmentKey, FragmentWord, Reason, record};

use crate::first;
use crate::frame::{Frame, Part};
use crate::index::{self, Found};
use crate::ip::{Fragment, Header, Ip, TCP, UDP};
use crate::ports::{self, TCP_LEN, UDP_LEN};
use crate::send::{self, Sending};
use crate::settings::index_seed;
use crate::verdict::Verdict;
use crate::world::FamilyWorld;

/// How long IPv6's fragment header is.
const EXTENSION: usize = 8;

/// A part of a packet.
#[inline(always)]
pub(crate) fn packet<A: Ip, W: FamilyWorld<A>, const L3: usize>(
    world: &W,
    frame: W::Frame,
    header: &Header<A>,
) -> Verdict {
    if let Some(fragment) = header.fragment {
        return part::<A, W, L3>(world, frame, header, fragment, A::LEN);
    }
    // IPv6 says it in a header of its own.
    let Some(extension) = frame.part(L3 + A::LEN, EXTENSION) else {
        return Verdict::pass(Reason::Malformed);
    };
    if header.total < (A::LEN + EXTENSION) as u32 {
        return Verdict::pass(Reason::Malformed);
    }
    let fragment = Fragment {
        id: extension.u32(4),
        // The upper 13 bits say where the part begins.
        first: u16::from_be(extension.u16(2)) & 0xfff8 == 0,
    };
    let header = Header {
        protocol: extension.u8(0),
        ..*header
    };
    part::<A, W, L3>(world, frame, &header, fragment, A::LEN + EXTENSION)
}

/// A part of a packet. `behind` is where the transport header would be, behind the beginning of IP's.
#[inline(always)]
fn part<A: Ip, W: FamilyWorld<A>, const L3: usize>(
    world: &W,
    frame: W::Frame,
    header: &Header<A>,
    fragment: Fragment,
    behind: usize,
) -> Verdict {
    if header.protocol != TCP && header.protocol != UDP {
        return Verdict::pass(Reason::NoFrontend);
    }
    let key = FragmentKey::new(header.source, header.destination, fragment.id, header.protocol);
    if !fragment.first {
        let Some((found, direction)) = remembered(world, &key) else {
            return Verdict::pass(Reason::Fragment);
        };
        return send::send_rest::<A, W, L3>(world, frame, header, &Sending::new(found, direction, behind));
    }
    let least = if header.protocol == TCP { TCP_LEN } else { UDP_LEN };
    let Some(transport) = frame.part(L3 + behind, UDP_LEN) else {
        return Verdict::pass(Reason::Malformed);
    };
    if header.total < (behind + least) as u32 {
        return Verdict::pass(Reason::Malformed);
    }
    let (source, destination) = (transport.u16(0), transport.u16(2));
    let Some((found, direction)) = known::<A, W>(world, header, source, destination) else {
        if header.protocol == UDP && world.has_port(destination, UDP) {
            first::leave_fragment(world, &ports::key(header, source, destination));
        }
        return Verdict::pass(Reason::Fragment);
    };
    let word = FragmentWord::new(found.number, direction, found.state.claim());
    world.remember_fragment(&key, word.0);
    send::send::<A, W, L3>(world, frame, header, &Sending::new(found, direction, behind))
}

/// The flow of a packet whose first part was seen.
#[inline(always)]
fn remembered<A: Ip, W: FamilyWorld<A>>(world: &W, key: &FragmentKey<A>) -> Option<(Found<A, W::Words>, Direction)> {
    let word = FragmentWord(world.fragment(key)?);
    let number = word.record();
    let words = world.record(number)?;
    let (state, read) = record::read_for::<A>(words, word.direction());
    let (flow, hop) = read?;
    if state.claim() != word.claim() {
        return None;
    }
    let found = Found {
        number,
        words,
        state,
        flow,
        hop,
    };
    // The memory of the first part may be another packet's by now.
    let ends = match word.direction() {
        Direction::Forward => (flow.client.addr, flow.frontend.addr),
        Direction::Reply => (flow.endpoint.addr, flow.source),
    };
    if key.ends() == ends {
        Some((found, word.direction()))
    } else {
        None
    }
}

/// The flow that a first part with these ports belongs to. Parts begin no flow.
#[inline(always)]
fn known<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    header: &Header<A>,
    source: u16,
    destination: u16,
) -> Option<(Found<A, W::Words>, Direction)> {
    if let Some(found) = index::reply(world, header, source, destination) {
        return Some((found, Direction::Reply));
    }
    if !world.has_port(destination, header.protocol) {
        return None;
    }
    let key = ports::key(header, source, destination);
    let found = index::find(world, &key, key.hash(index_seed(world)))?;
    if index::is_over(world, &found) {
        None
    } else {
        Some((found, Direction::Forward))
    }
}

//! TCP, UDP and ICMP: whose packet it is.

use tandem_xdp_layout::{Direction, Endpoint, FIRST_PORT, FlowKey, PacketSettings, Reason, RecordNumber, record};

use crate::first;
use crate::fragments;
use crate::frame::{Frame, Part};
use crate::icmp;
use crate::index::{self, Found};
use crate::ip::{FRAGMENT, Header, Ip, TCP, UDP};
use crate::send::{self, Sending};
use crate::too_big;
use crate::verdict::Verdict;
use crate::world::FamilyWorld;

/// How much of a transport header there must be.
pub(crate) const TCP_LEN: usize = 20;
pub(crate) const UDP_LEN: usize = 8;

/// A packet of IP: how most of them go.
#[inline(always)]
pub(crate) fn packet<A: Ip, W: FamilyWorld<A>, const L3: usize>(world: &W, frame: W::Frame) -> Verdict {
    let header = match header::<A, W, L3>(frame) {
        Ok(header) => header,
        Err(reason) => return Verdict::pass(reason),
    };
    if header.fragment.is_some() {
        return Verdict::more(Verdict::FRAGMENT);
    }
    match header.protocol {
        TCP | UDP => whole::<A, W, L3>(world, frame, &header),
        FRAGMENT => Verdict::more(Verdict::FRAGMENT),
        // IPv6's headers for routers, routes, authentication and receivers: what is behind them is not looked at.
        0 | 43 | 51 | 60 if A::FAMILY == 1 => Verdict::pass(Reason::Options),
        protocol if protocol == A::ICMP => Verdict::more(Verdict::ERROR),
        _ => Verdict::pass(Reason::NoFrontend),
    }
}

/// What few packets need.
#[inline(always)]
pub(crate) fn go_on<A: Ip, W: FamilyWorld<A>, const L3: usize>(world: &W, what: u8, verdict: Verdict) -> Verdict {
    let frame = world.frame();
    let header = match header::<A, W, L3>(frame) {
        Ok(header) => header,
        Err(reason) => return Verdict::pass(reason),
    };
    match what {
        Verdict::FIRST => first::packet::<A, W, L3>(world, frame, &header),
        Verdict::TAKE => first::take::<A, W, L3>(world, frame, &header, verdict.size(), verdict.list()),
        Verdict::ERROR => icmp::packet::<A, W, L3>(world, frame, &header),
        Verdict::FRAGMENT => fragments::packet::<A, W, L3>(world, frame, &header),
        _ => too_big::answer::<A, W, L3>(world, frame, &header, verdict.size()),
    }
}

/// The header of a packet, all of which is there.
#[inline(always)]
fn header<A: Ip, W: FamilyWorld<A>, const L3: usize>(frame: W::Frame) -> Result<Header<A>, Reason> {
    let header = A::header(frame.part(L3, A::LEN).ok_or(Reason::Malformed)?)?;
    if L3 as u32 + header.total > frame.len() {
        return Err(Reason::Malformed);
    }
    Ok(header)
}

/// A packet of TCP or UDP that is no fragment.
#[inline(always)]
fn whole<A: Ip, W: FamilyWorld<A>, const L3: usize>(world: &W, frame: W::Frame, header: &Header<A>) -> Verdict {
    let l4 = L3 + A::LEN;
    let least = if header.protocol == TCP { TCP_LEN } else { UDP_LEN };
    let Some(ports) = frame.part(l4, UDP_LEN) else {
        return Verdict::pass(Reason::Malformed);
    };
    if header.total < (A::LEN + least) as u32 {
        return Verdict::pass(Reason::Malformed);
    }
    let (source, destination) = (ports.u16(0), ports.u16(2));
    if let Some(found) = reply(world, header, source, destination) {
        return send::send::<A, W, L3>(world, frame, header, &Sending::new(found, Direction::Reply, A::LEN));
    }
    if !world.has_port(destination, header.protocol) {
        return Verdict::pass(Reason::NoFrontend);
    }
    let key = key(header, source, destination);
    let hash = key.hash(world.setting(1) as u32);
    let Some(found) = index::find(world, &key, hash) else {
        return Verdict::more(Verdict::FIRST);
    };
    if first::begins(world, frame, l4, header.protocol, &found) {
        index::remove::<A>(world, hash, found.number);
        return Verdict::more(Verdict::FIRST);
    }
    send::send::<A, W, L3>(world, frame, header, &Sending::new(found, Direction::Forward, A::LEN))
}

/// The key of a packet.
#[inline(always)]
pub(crate) fn key<A: Ip>(header: &Header<A>, source: u16, destination: u16) -> FlowKey<A> {
    let client = Endpoint {
        addr: header.source,
        port: source,
    };
    let frontend = Endpoint {
        addr: header.destination,
        port: destination,
    };
    FlowKey::new(client, frontend, header.protocol)
}

/// The flow that an endpoint answers, by the ports of its packet.
#[inline(always)]
pub(crate) fn reply<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    header: &Header<A>,
    source: u16,
    destination: u16,
) -> Option<Found<A, W::Words>> {
    if u16::from_be(destination) < FIRST_PORT {
        return None;
    }
    let endpoint = Endpoint {
        addr: header.source,
        port: source,
    };
    let number = RecordNumber::of_reply(endpoint, header.protocol, pages::<A>(world), destination)?;
    let words = world.record(number)?;
    let (state, flow) = record::read(words);
    let flow = flow?;
    if flow.endpoint != endpoint || flow.source != header.destination || state.protocol() != header.protocol {
        return None;
    }
    Some(Found {
        number,
        words,
        state,
        flow,
    })
}

/// How many pages of records the family has.
#[inline(always)]
pub(crate) fn pages<A: Ip>(world: &impl FamilyWorld<A>) -> u32 {
    (world.setting(2) >> (32 * A::FAMILY)) as u32
}

/// Whether new flows of the family are taken.
#[inline(always)]
pub(crate) fn is_on<A: Ip>(world: &impl FamilyWorld<A>) -> bool {
    PacketSettings::is_on(world.setting(PacketSettings::SWITCHES), A::FAMILY)
}

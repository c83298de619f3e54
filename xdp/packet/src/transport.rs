//! TCP, UDP and ICMP: whose packet it is.

use tandem_xdp_layout::{Direction, Reason};

use crate::first;
use crate::fragments;
use crate::frame::{Frame, Part};
use crate::icmp;
use crate::index;
use crate::ip::{FRAGMENT, Header, Ip, TCP, UDP};
use crate::ports::{self, TCP_LEN, UDP_LEN};
use crate::send::{self, Sending};
use crate::settings::index_seed;
use crate::too_big;
use crate::verdict::Verdict;
use crate::world::FamilyWorld;

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
    if L3 as u32 + header.total > frame.size() {
        return Err(Reason::Malformed);
    }
    Ok(header)
}

/// A packet of TCP or UDP that is no fragment.
#[inline(always)]
fn whole<A: Ip, W: FamilyWorld<A>, const L3: usize>(world: &W, frame: W::Frame, header: &Header<A>) -> Verdict {
    let l4 = L3 + A::LEN;
    let least = if header.protocol == TCP { TCP_LEN } else { UDP_LEN };
    let Some(l4_ports) = frame.part(l4, UDP_LEN) else {
        return Verdict::pass(Reason::Malformed);
    };
    if header.total < (A::LEN + least) as u32 {
        return Verdict::pass(Reason::Malformed);
    }
    let (source, destination) = (l4_ports.u16(0), l4_ports.u16(2));
    if let Some(found) = index::reply(world, header, source, destination) {
        return send::send::<A, W, L3>(world, frame, header, &Sending::new(found, Direction::Reply, A::LEN));
    }
    if !world.has_port(destination, header.protocol) {
        return Verdict::pass(Reason::NoFrontend);
    }
    let key = ports::key(header, source, destination);
    let hash = key.hash(index_seed(world));
    let Some(found) = index::find(world, &key, hash) else {
        return Verdict::more(Verdict::FIRST);
    };
    if first::begins(world, frame, l4, header.protocol, &found) {
        index::remove::<A>(world, hash, found.number);
        return Verdict::more(Verdict::FIRST);
    }
    send::send::<A, W, L3>(world, frame, header, &Sending::new(found, Direction::Forward, A::LEN))
}

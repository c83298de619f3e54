//! The first packet of a flow: all that is decided once.

use tandem_xdp_layout::{
    DEVICE_SOURCES, DeviceNumber, Direction, Endpoint, FlowKey, HeldWord, Hop, List, Reason, Switch, TcpFlags, record,
};

use crate::frame::{Frame, Part};
use crate::hop;
use crate::index::{self, Found};
use crate::ip::{Header, Ip, TCP};
use crate::mark::mark;
use crate::pick;
use crate::ports::{self, TCP_LEN, UDP_LEN};
use crate::send::{self, Sending};
use crate::settings::{index_seed, is_moving, is_noting, is_on, times};
use crate::slot::{self, New};
use crate::verdict::Verdict;
use crate::world::{FamilyWorld, Route, Way, World};

/// How long nftables may need for a connection that a client asked for: conntrack's time (`nf_conntrack_tcp_timeout_syn_sent`).
const ASKED: u32 = 120;

/// Whether a packet of a client begins another flow than the one that the client's record has.
#[inline(always)]
pub(crate) fn begins<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    frame: W::Frame,
    l4: usize,
    protocol: u8,
    found: &Found<A, W::Words>,
) -> bool {
    if protocol != TCP {
        return index::is_over(world, found);
    }
    let Some(tcp) = frame.part(l4, TCP_LEN) else {
        return false;
    };
    TcpFlags(tcp.u8(13)).is_first() && found.state.is_closed()
}

/// A packet that belongs to no flow, or to one that is over: which endpoint answers it.
#[inline(always)]
pub(crate) fn packet<A: Ip, W: FamilyWorld<A>, const L3: usize>(
    world: &W,
    frame: W::Frame,
    header: &Header<A>,
) -> Verdict {
    let Some(ports) = frame.part(L3 + A::LEN, UDP_LEN) else {
        return Verdict::pass(Reason::Malformed);
    };
    let key = ports::key(header, ports.u16(0), ports.u16(2));
    match choose::<A, W, L3>(world, frame, header, &key) {
        Ok(verdict) => verdict,
        Err(Reason::Moving) => Verdict::drop(Reason::Moving),
        Err(reason) => {
            if stays(reason, header.protocol) {
                leave(world, &key);
            }
            Verdict::pass(reason)
        }
    }
}

#[inline(always)]
fn choose<A: Ip, W: FamilyWorld<A>, const L3: usize>(
    world: &W,
    frame: W::Frame,
    header: &Header<A>,
    key: &FlowKey<A>,
) -> Result<Verdict, Reason> {
    let switch = world.switch();
    if is_moving(world) && switch.is_on() {
        pick::list(world, key, switch)?;
        return Err(Reason::Moving);
    }
    if header.protocol == TCP {
        let tcp = frame.part(L3 + A::LEN, TCP_LEN).ok_or(Reason::Malformed)?;
        if !TcpFlags(tcp.u8(13)).is_first() {
            return Err(Reason::NoFlow);
        }
    }
    let list = list(world, key, switch)?;
    let slot = pick::slot(world, &list, key)?;
    Ok(Verdict::take(slot, list.place))
}

/// The list of the frontend that a first packet goes to, while new flows are taken or noted.
#[inline(always)]
fn list<A: Ip, W: FamilyWorld<A>>(world: &W, key: &FlowKey<A>, switch: Switch) -> Result<List<A>, Reason> {
    if !switch.is_on() || !(is_on::<A>(world) || is_noting(world)) {
        return Err(Reason::Off);
    }
    pick::list(world, key, switch)
}

/// Whether a flow whose first packet is passed for this reason could be XDP's a moment later, although nftables has it by then.
///
/// While the family's rows are switched off, they may be old or half written. So they are not asked, and whatever goes to a port of a
/// frontend is noted. Connections to a frontend with policy `Local` are not: their endpoint is here and answers the first packet at
/// once, and there may be so many of them that they would push out what has to be remembered. What source ranges deny is not noted
/// either, because any stranger could push everything out.
#[inline(always)]
fn stays(reason: Reason, protocol: u8) -> bool {
    match reason {
        Reason::Off | Reason::Changing | Reason::NoList => true,
        Reason::LocalPolicy => protocol != TCP,
        _ => false,
    }
}

/// Notes that nftables has a flow whose first packet was passed, so that no later packet begins a flow of XDP's. Before new flows are taken,
/// they are noted anyway, and what there was before is read from connection tracking.
#[inline(always)]
fn leave<A: Ip, W: FamilyWorld<A>>(world: &W, key: &FlowKey<A>) {
    if !(is_on::<A>(world) || is_noting(world)) {
        return;
    }
    let word = HeldWord::new(key.hash(index_seed(world)), world.now()).0;
    // To write costs more than to read, and each datagram of the flow comes here.
    if world.held(key) != Some(word) {
        world.hold(key, word);
    }
}

/// Notes that nftables has a flow of datagrams that begins with a fragment, if it goes to a frontend of which a flow could be XDP's.
/// Fragments begin no flow, and the first whole datagram must not begin one, either.
#[inline(always)]
pub(crate) fn leave_fragment<A: Ip, W: FamilyWorld<A>>(world: &W, key: &FlowKey<A>) {
    let leaves = match list(world, key, world.switch()) {
        Ok(_) => true,
        Err(reason) => stays(reason, key.protocol),
    };
    if leaves {
        leave(world, key);
    }
}

/// The same with the slot of an endpoint, and where its list is.
#[inline(always)]
pub(crate) fn take<A: Ip, W: FamilyWorld<A>, const L3: usize>(
    world: &W,
    frame: W::Frame,
    header: &Header<A>,
    slot: u16,
    list: u32,
) -> Verdict {
    let Some(ports) = frame.part(L3 + A::LEN, UDP_LEN) else {
        return Verdict::pass(Reason::Malformed);
    };
    let key = ports::key(header, ports.u16(0), ports.u16(2));
    // A list never changes, and nothing takes its place while a program runs.
    let Some(list) = List::at(world, list) else {
        return Verdict::pass(Reason::Changing);
    };
    let Some(endpoint) = list.endpoint(world, slot) else {
        return Verdict::pass(Reason::Changing);
    };
    let hash = key.hash(index_seed(world));
    match begin(world, header, &key, hash, endpoint) {
        Ok(sending) => {
            world.count(list.header.index);
            send::send::<A, W, L3>(world, frame, header, &sending)
        }
        Err(reason) => {
            // nftables has the flow from now on, and its later packets must not be taken here.
            if reason != Reason::Held {
                world.hold(&key, HeldWord::new(hash, world.now()).0);
            }
            mark(frame, slot);
            Verdict::pass(reason)
        }
    }
}

/// A record for a flow to an endpoint.
#[inline(always)]
fn begin<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    header: &Header<A>,
    key: &FlowKey<A>,
    hash: u64,
    endpoint: Endpoint<A>,
) -> Result<Sending<A, W::Words>, Reason> {
    // Whoever asks what is noted knows that it is nftables' later, too.
    if !is_on::<A>(world) {
        return Err(Reason::Off);
    }
    let times = times(world);
    let now = world.now();
    if let Some(word) = world.held(key).map(HeldWord)
        && let Some(idle) = word.idle(hash, now)
    {
        let most = if header.protocol == TCP {
            ASKED
        } else {
            times.udp_stream
        };
        if idle <= most {
            if header.protocol != TCP && idle > 0 {
                world.hold(key, HeldWord::new(hash, now).0);
            }
            return Err(Reason::Held);
        }
    }
    if header.hops <= 1 {
        return Err(Reason::HopLimit);
    }
    let (source, hops) = ways(world, header, key, endpoint)?;
    let new = New { endpoint, source, hops };
    let number = slot::take(world, key, hash, &new, &times).ok_or(Reason::PageFull)?;
    let words = world.record(number).ok_or(Reason::PageFull)?;
    let (state, read) = record::read_for::<A>(words, Direction::Forward);
    // If flows lose their records after no time, another one may have this one by now.
    let (flow, hop) = read.ok_or(Reason::Changing)?;
    if !flow.is_of(key) || state.protocol() != key.protocol {
        return Err(Reason::Changing);
    }
    if !index::insert::<A>(world, hash, number, state.claim()) {
        record::change(words, state, state.freed());
        return Err(Reason::IndexFull);
    }
    let found = Found {
        number,
        words,
        state,
        flow,
        hop,
    };
    Ok(Sending::new(found, Direction::Forward, A::LEN))
}

/// The node's address that the endpoint will see, and the next hops to the endpoint and to the client.
#[inline(always)]
fn ways<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    header: &Header<A>,
    key: &FlowKey<A>,
    endpoint: Endpoint<A>,
) -> Result<(A, [Hop; 2]), Reason> {
    let way = |source, to, length| Way {
        source,
        to,
        protocol: header.protocol,
        length,
    };
    let back = hop::look_up(world, &way(endpoint.addr, key.client, 0), Reason::NoWayBack)?;
    let wanted = hop::mtu(world, back.device());
    let out = match world.route(&way(key.client, endpoint.addr, wanted)) {
        Route::Small(mtu) => {
            // A datagram that is too big for the way out could only be lost, if its sender lets routers divide it.
            if header.protocol != TCP || !header.whole {
                return Err(Reason::SmallWay);
            }
            let out = hop::look_up(world, &way(key.client, endpoint.addr, 0), Reason::NoWayOut)?;
            // The device's size is what later packets are held against. A route may take less.
            if mtu < hop::mtu(world, out.device()) {
                return Err(Reason::SmallWay);
            }
            out
        }
        route => hop::of_route(world, route, Reason::NoWayOut)?,
    };
    let source = source::<A>(world, out.device()).ok_or(Reason::NoSource)?;
    Ok((source, [out, back]))
}

/// The address that packets which leave by a device have; none if it has none of this family.
#[inline(always)]
fn source<A: Ip>(world: &impl World, device: DeviceNumber) -> Option<A> {
    let at = DEVICE_SOURCES[A::FAMILY];
    let word = |more| world.device_word(device, at + more);
    let addr = A::of_source(word(0), word(1));
    if addr == A::NONE { None } else { Some(addr) }
}

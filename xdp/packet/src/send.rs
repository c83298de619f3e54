//! Translates a packet of a known flow, and sends it on.

use tandem_xdp_layout::{
    Device, Direction, Endpoint, Flow, Hop, Mac, Reason, Record, RecordNumber, StateWord, TcpFlags, record,
};

use crate::checksum::Difference;
use crate::frame::{Frame, Part};
use crate::hop;
use crate::index::Found;
use crate::ip::{Header, Ip, PLAIN, TCP};
use crate::ports::{TCP_LEN, UDP_LEN};
use crate::verdict::Verdict;
use crate::world::{FamilyWorld, Way, World};

/// How often it is tried to write a state, if another processor writes it at the same time.
const TRIES: usize = 3;

/// A packet of a flow.
#[derive(Clone, Copy)]
pub(crate) struct Sending<A, W> {
    number: RecordNumber,
    words: W,
    state: StateWord,
    flow: Flow<A>,
    hop: Hop,
    direction: Direction,
    /// Where the transport header is, behind the beginning of IP's.
    behind: usize,
}

/// What is written into a packet.
#[derive(Clone, Copy)]
pub(crate) struct Ends<A> {
    pub(crate) source: Endpoint<A>,
    pub(crate) destination: Endpoint<A>,
    /// How the transport checksum changes.
    pub(crate) delta: u16,
    /// How the checksum of IPv4's header changes.
    pub(crate) header_delta: u16,
}

impl<A: Ip> Ends<A> {
    /// What is written into a flow's packets of a direction.
    #[inline(always)]
    pub(crate) fn of(flow: &Flow<A>, number: RecordNumber, direction: Direction) -> Self {
        match direction {
            Direction::Forward => Self {
                source: Endpoint {
                    addr: flow.source,
                    port: number.port(),
                },
                destination: flow.endpoint,
                delta: flow.delta,
                header_delta: flow.header_delta,
            },
            Direction::Reply => Self {
                source: flow.frontend,
                destination: flow.client,
                delta: !flow.delta,
                header_delta: !flow.header_delta,
            },
        }
    }
}

/// What the routes are asked for a flow's packets. The source is the one that they have when Linux routes them: it is translated
/// afterwards.
#[inline(always)]
pub(crate) fn way<A: Ip>(flow: &Flow<A>, direction: Direction, protocol: u8) -> Way<A> {
    let (source, to) = match direction {
        Direction::Forward => (flow.client, flow.endpoint),
        Direction::Reply => (flow.endpoint, flow.client),
    };
    Way {
        source: source.addr,
        to: to.addr,
        protocol,
        length: 0,
    }
}

impl<A: Ip, W: Record> Sending<A, W> {
    #[inline(always)]
    pub(crate) fn new(found: Found<A, W>, direction: Direction, behind: usize) -> Self {
        let Found {
            number,
            words,
            state,
            flow,
            hop,
        } = found;
        Self {
            number,
            words,
            state,
            flow,
            hop,
            direction,
            behind,
        }
    }
}

/// Sends a packet that has its transport header: all of it, or as much of it as changes.
#[inline(always)]
pub(crate) fn send<A: Ip, W: FamilyWorld<A>, const L3: usize>(
    world: &W,
    frame: W::Frame,
    header: &Header<A>,
    sending: &Sending<A, W::Words>,
) -> Verdict {
    let (hop, device) = match way_out::<A, W>(world, header, sending) {
        Ok(out) => out,
        Err(verdict) => return verdict,
    };
    let ends = Ends::of(&sending.flow, sending.number, sending.direction);
    let at = L3 + sending.behind;
    // The verifier wants to see for each protocol by itself how much is there.
    let done = if header.protocol == TCP {
        tcp(world, frame, at, sending, &ends)
    } else {
        udp(world, frame, at, sending, &ends)
    };
    match done {
        Some(()) => finish::<A, W, L3>(world, frame, &ends, hop, &device),
        None => Verdict::pass(Reason::Malformed),
    }
}

#[inline(always)]
fn tcp<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    frame: W::Frame,
    at: usize,
    sending: &Sending<A, W::Words>,
    ends: &Ends<A>,
) -> Option<()> {
    let tcp = frame.part(at, TCP_LEN)?;
    let flags = TcpFlags(tcp.u8(13));
    note(world, sending, |state| state.after_tcp(sending.direction, flags));
    write_ports(tcp, ends);
    tcp.put_u16(16, Difference::of(ends.delta).apply(tcp.u16(16)));
    Some(())
}

#[inline(always)]
fn udp<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    frame: W::Frame,
    at: usize,
    sending: &Sending<A, W::Words>,
    ends: &Ends<A>,
) -> Option<()> {
    let udp = frame.part(at, UDP_LEN)?;
    note(world, sending, |state| state.after_udp(sending.direction));
    write_ports(udp, ends);
    let sum = udp.u16(6);
    // 0 is no checksum. One that comes to 0 is written as the other zero.
    if sum != 0 {
        let new = Difference::of(ends.delta).apply(sum);
        udp.put_u16(6, if new == 0 { 0xffff } else { new });
    }
    Some(())
}

#[inline(always)]
fn write_ports<A>(transport: impl Part, ends: &Ends<A>) {
    transport.put_u16(0, ends.source.port);
    transport.put_u16(2, ends.destination.port);
}

/// Sends a fragment that has no transport header.
#[inline(always)]
pub(crate) fn send_rest<A: Ip, W: FamilyWorld<A>, const L3: usize>(
    world: &W,
    frame: W::Frame,
    header: &Header<A>,
    sending: &Sending<A, W::Words>,
) -> Verdict {
    let ends = Ends::of(&sending.flow, sending.number, sending.direction);
    let (hop, device) = match way_out::<A, W>(world, header, sending) {
        Ok(out) => out,
        Err(verdict) => return verdict,
    };
    record::touch::<A>(sending.words, world.now());
    finish::<A, W, L3>(world, frame, &ends, hop, &device)
}

/// Where a packet of a flow goes next. A packet that cannot go there has another verdict.
#[inline(always)]
fn way_out<A: Ip, W: FamilyWorld<A>>(
    world: &W,
    header: &Header<A>,
    sending: &Sending<A, W::Words>,
) -> Result<(Hop, Device), Verdict> {
    if header.hops <= 1 {
        return Err(Verdict::pass(Reason::HopLimit));
    }
    let direction = sending.direction;
    let way = way(&sending.flow, direction, header.protocol);
    let hop = hop::remembered(world, sending.words, sending.state, sending.hop, direction, &way);
    let Some(device) = hop::device(world, hop) else {
        return Err(Verdict::drop(Reason::NoDevice));
    };
    if header.total > device.mtu as u32 {
        return Err(Verdict::too_big(device.mtu));
    }
    Ok((hop, device))
}

/// Notes in the record that a packet is seen.
#[inline(always)]
fn note<A: Ip, W: FamilyWorld<A>>(world: &W, sending: &Sending<A, W::Words>, after: impl Fn(StateWord) -> StateWord) {
    record::touch::<A>(sending.words, world.now());
    let mut state = sending.state;
    for _ in 0..TRIES {
        let after = after(state);
        if after == state || record::change(sending.words, state, after) {
            return;
        }
        // Another packet of the flow changed it, or another flow has the record.
        state = record::state(sending.words);
        if !state.is_same_claim(sending.state) {
            return;
        }
    }
}

/// Writes the addresses and the Ethernet header.
#[inline(always)]
pub(crate) fn finish<A: Ip, W: World, const L3: usize>(
    world: &W,
    frame: W::Frame,
    ends: &Ends<A>,
    hop: Hop,
    device: &Device,
) -> Verdict {
    let Some(ip) = frame.part(L3, A::LEN) else {
        return Verdict::pass(Reason::Malformed);
    };
    A::rewrite(ip, ends.source.addr, ends.destination.addr, ends.header_delta);
    match ether::<W, L3>(world, frame, hop.mac(), device) {
        Some(()) => Verdict::send(device.index, device.returns && device.index == world.ingress()),
        None => Verdict::drop(Reason::NoRoom),
    }
}

/// Writes the Ethernet header, with a VLAN tag if the device has one; none if there is no room for it.
#[inline(always)]
fn ether<W: World, const L3: usize>(world: &W, frame: W::Frame, to: Mac, device: &Device) -> Option<()> {
    let tagged = device.vlan != 0;
    let frame = match (L3 == PLAIN, tagged) {
        (true, false) | (false, true) => frame,
        (true, true) => world.grow(4)?,
        (false, false) => world.grow(-4)?,
    };
    let ether = frame.part(0, PLAIN)?;
    ether.put_u32(0, to.0 as u32);
    ether.put_u16(4, (to.0 >> 32) as u16);
    ether.put_u32(6, device.mac.0 as u32);
    ether.put_u16(10, (device.mac.0 >> 32) as u16);
    if tagged {
        // What stood in the header about what follows is behind the tag now.
        let tag = frame.part(12, 4)?;
        tag.put_u16(0, 0x8100_u16.to_be());
        tag.put_u16(2, device.vlan.to_be());
    }
    Some(())
}

//! The cases: what was sent before, a packet, and what is to become of it.

use std::net::SocketAddr;

use tandem_xdp_layout::{Reason, State};

use super::place::{Net, TAG, VLAN, mac, neighbour, port};
use super::shape::{Part, Shape, What};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What is to become of a packet.
#[derive(Clone, Debug)]
pub(crate) enum Becomes {
    /// It is passed as it was, and not counted: it is nobody's.
    Nobodys,
    /// It is passed as it was, for this reason.
    Passed(Reason),
    /// It is passed with the slot of the chosen endpoint, for this reason.
    Chosen(Reason, u16),
    /// It is sent to this end of the flow.
    Sent(To),
    /// It is dropped.
    Dropped(Reason),
    /// Its sender is told that it is too big for this MTU.
    TooBig(u16),
}

/// Where a packet is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// To the endpoint, by this device.
    Endpoint(SocketAddr, usize),
    /// To the client.
    Client,
}

/// Something that happens between packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The routes change.
    Routes,
    /// New flows are not taken any more.
    Off,
    /// All records of the flow's page are taken by others.
    PageFull,
    /// Another flow takes the record over.
    TakenOver,
    /// So many seconds pass.
    Seconds(u32),
}

/// What happens in a case before its packet.
#[derive(Clone, Debug)]
pub(crate) enum Before {
    Sent(Shape),
    Happens(Event),
}

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) six: bool,
    pub(crate) before: Vec<Before>,
    pub(crate) packet: Shape,
    /// If so many bytes of the packet are there.
    pub(crate) cut: Option<usize>,
    pub(crate) becomes: Becomes,
    /// The state of the flow afterwards, and whether it is closed.
    pub(crate) state: Option<(State, bool)>,
    /// How many flows there are afterwards.
    pub(crate) flows: usize,
    /// How many flows of nftables are remembered afterwards.
    pub(crate) held: usize,
}

/// Makes the cases of one family, with a VLAN tag or without.
struct Maker {
    net: Net,
    tagged: bool,
    cases: Vec<Case>,
}

/// Protocols that have flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Tcp,
    Udp,
    UdpWithoutSum,
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for six in [false, true] {
        for tagged in [false, true] {
            let mut maker = Maker {
                net: Net { six },
                tagged,
                cases: Vec::new(),
            };
            maker.make();
            cases.extend(maker.cases);
        }
    }
    cases
}

impl Maker {
    /// A packet of the client's to a port of the LoadBalancer address.
    fn client(&self, port: u16, what: What) -> Shape {
        self.arrives(Shape::new(self.net.client(1, 40_001), (self.net.vip(), port).into(), what))
    }

    /// The same shape as it arrives at the node.
    fn arrives(&self, mut shape: Shape) -> Shape {
        shape.macs = [mac(0), neighbour(0)];
        shape.vlan = self.tagged.then_some(TAG);
        shape
    }

    /// What an endpoint answers. The judge writes the port into it.
    fn reply(&self, pod: SocketAddr, device: usize, what: What) -> Shape {
        self.arrives(Shape::new(pod, (self.net.own(device), 0).into(), what))
    }

    fn first(kind: Kind) -> What {
        match kind {
            Kind::Tcp => What::Tcp(SYN),
            Kind::Udp => What::Udp(true),
            Kind::UdpWithoutSum => What::Udp(false),
        }
    }

    fn add(&mut self, name: &str, before: Vec<Before>, packet: Shape, becomes: Becomes) -> &mut Case {
        let tag = if self.tagged { "VLAN" } else { "plain" };
        let family = if self.net.six { "IPv6" } else { "IPv4" };
        let takes = |before: &Before| matches!(before, Before::Sent(_));
        let held = usize::from(matches!(becomes, Becomes::Chosen(..)));
        let sends = matches!(becomes, Becomes::Sent(_));
        let at = self.cases.len();
        self.cases.push(Case {
            name: format!("{family} {tag}: {name}"),
            six: self.net.six,
            flows: usize::from(sends || before.iter().any(takes)),
            before,
            packet,
            cut: None,
            becomes,
            state: None,
            held,
        });
        &mut self.cases[at]
    }

    /// The packets of a flow that stands.
    fn opened(&self, kind: Kind) -> Vec<Before> {
        let pod = self.net.pod(1, 1);
        let packets = match kind {
            Kind::Tcp => vec![
                self.client(port::OUT, What::Tcp(SYN)),
                self.reply(pod, 1, What::Tcp(SYN | ACK)),
                self.client(port::OUT, What::Tcp(ACK)),
            ],
            _ => vec![
                self.client(port::OUT, Self::first(kind)),
                self.reply(pod, 1, Self::first(kind)),
            ],
        };
        packets.into_iter().map(Before::Sent).collect()
    }

    fn make(&mut self) {
        self.first_packets();
        self.flows();
        self.closing();
        self.errors();
        self.parts();
        self.sizes();
        self.changes();
        self.strangers();
    }

    /// First packets of flows.
    fn first_packets(&mut self) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
        for kind in [Kind::Tcp, Kind::Udp, Kind::UdpWithoutSum] {
            let first = Self::first(kind);
            let begun = if kind == Kind::Tcp { State::Asked } else { State::Sent };
            let name = |what: &str| format!("{kind:?}, first packet, {what}");
            for (what, port, to) in [
                ("hit", port::OUT, out),
                ("a source that may", port::ALLOWED, out),
                ("a frontend's port in Tandem's range", port::HIGH, out),
                ("out by a VLAN", port::VLAN, To::Endpoint(self.net.pod(3, 1), 3)),
            ] {
                let packet = self.client(port, first.clone());
                self.add(&name(what), vec![], packet, Becomes::Sent(to)).state = Some((begun, false));
            }
            let mut packet = self.client(port::NODE, first.clone());
            packet.to = (self.net.own(0), port::NODE).into();
            self.add(&name("nodePort"), vec![], packet, Becomes::Sent(out));
            let mut packet = self.client(port::NODE, first.clone());
            packet.to = (self.net.own(1), port::NODE).into();
            self.add(&name("nodePort on another address"), vec![], packet, Becomes::Passed(Reason::NoFrontend));
            for (what, port, becomes) in [
                ("miss", 79, Becomes::Nobodys),
                ("no endpoint", port::NONE, Becomes::Passed(Reason::Refuse)),
                ("source denied", port::DENIED, Becomes::Passed(Reason::Denied)),
                ("Local", port::LOCAL, Becomes::Passed(Reason::LocalPolicy)),
                ("endpoint here", port::HERE, Becomes::Chosen(Reason::NoWayOut, 0)),
                ("endpoint behind a tunnel", port::TUNNEL, Becomes::Chosen(Reason::NoWayOut, 0)),
                ("neighbour unknown", port::UNKNOWN, Becomes::Chosen(Reason::NoNeighbour, 0)),
            ] {
                let packet = self.client(port, first.clone());
                self.add(&name(what), vec![], packet, becomes);
            }
            let mut packet = self.client(port::OUT, first.clone());
            packet.hops = 1;
            self.add(&name("TTL 1"), vec![], packet, Becomes::Chosen(Reason::HopLimit, 0));
            let mut packet = self.client(port::OUT, first.clone());
            packet.from = self.net.far_client(40_001);
            self.add(&name("client behind a tunnel"), vec![], packet, Becomes::Chosen(Reason::NoWayBack, 0));
            let mut packet = self.client(port::OUT, first.clone());
            packet.from = (self.net.own(1), 40_001).into();
            self.add(&name("source is ours"), vec![], packet, Becomes::Chosen(Reason::NoWayBack, 0));
            let mut packet = self.client(port::OUT, first.clone());
            packet.options = true;
            self.add(&name("options"), vec![], packet, Becomes::Passed(Reason::Options));
            let mut packet = self.client(port::OUT, first.clone());
            packet.macs[0] = [2, 9, 9, 9, 9, 9];
            self.add(&name("for another MAC address"), vec![], packet, Becomes::Nobodys);
            let off = vec![Before::Happens(Event::Off)];
            let packet = self.client(port::OUT, first.clone());
            self.add(&name("switched off"), off, packet, Becomes::Passed(Reason::Off)).flows = 0;
            let held = vec![Before::Sent(self.client(port::HERE, first.clone()))];
            let packet = self.client(port::HERE, first.clone());
            self.add(&name("nftables has the flow"), held, packet, Becomes::Chosen(Reason::Held, 0)).flows = 0;
            let full = vec![Before::Happens(Event::PageFull)];
            let packet = self.client(port::OUT, first.clone());
            self.add(&name("page full"), full, packet, Becomes::Chosen(Reason::PageFull, 0)).flows = 0;
            // A connection's packets are told when they are too big; a datagram that may be divided could only be lost.
            let mut packet = self.client(port::SMALL, first.clone());
            packet.whole = self.net.six;
            let becomes = Becomes::Chosen(Reason::SmallWay, 0);
            if !(self.net.six && kind == Kind::Tcp) {
                self.add(&name("way out has a smaller MTU"), vec![], packet, becomes);
            }
        }
        let to = To::Endpoint(self.net.pod(2, 1), 2);
        let packet = self.client(port::SMALL, What::Tcp(SYN));
        self.add("Tcp, first packet, way out has a smaller MTU, may not be divided", vec![], packet, Becomes::Sent(to));
        for flags in [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, SYN | RST, SYN | FIN, 0, 0xff] {
            let packet = self.client(port::OUT, What::Tcp(flags));
            let name = format!("Tcp without a flow, flags {flags:#x}");
            self.add(&name, vec![], packet, Becomes::Passed(Reason::NoFlow));
        }
        let mut packet = self.client(port::CLUSTER, What::Tcp(SYN));
        packet.to = (self.net.cluster_ip(), port::CLUSTER).into();
        self.add("ClusterIP from outside", vec![], packet, Becomes::Passed(Reason::ClusterIp));
        let packet = self.client(port::OUT, What::Other(132));
        self.add("SCTP", vec![], packet, Becomes::Nobodys);
        let packet = self.client(port::OUT, What::Echo);
        self.add("ICMP echo", vec![], packet, Becomes::Nobodys);
        let packet = self.reply(self.net.pod(1, 1), 1, What::Tcp(ACK));
        self.add("SNAT port of nobody", vec![], packet, Becomes::Nobodys);
        // Both packets of a client with affinity go to one endpoint.
        for kind in [Kind::Tcp, Kind::Udp] {
            let again = |number: u16| {
                let mut packet = self.client(port::STICKY, Self::first(kind));
                packet.from.set_port(40_001 + number);
                packet
            };
            let (one, other) = (again(0), again(1));
            let to = To::Endpoint(SocketAddr::new(self.net.pod(1, 0).ip(), 0), 1);
            let before = vec![Before::Sent(one)];
            self.add(&format!("{kind:?}, affinity hit"), before, other, Becomes::Sent(to)).flows = 2;
        }
    }

    /// Packets of flows that stand.
    fn flows(&mut self) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
        for kind in [Kind::Tcp, Kind::Udp, Kind::UdpWithoutSum] {
            let (what, state) = match kind {
                Kind::Tcp => (What::Tcp(ACK), State::Open),
                _ => (Self::first(kind), State::Both),
            };
            let opened = self.opened(kind);
            let packet = self.client(port::OUT, what.clone());
            let case = self.add(&format!("{kind:?}, established"), opened.clone(), packet.clone(), Becomes::Sent(out));
            case.state = Some((state, false));
            let reply = self.reply(self.net.pod(1, 1), 1, what.clone());
            let case = self.add(&format!("{kind:?}, reply"), opened.clone(), reply.clone(), Becomes::Sent(To::Client));
            case.state = Some((state, false));
            for (direction, shape) in [("established", &packet), ("reply", &reply)] {
                let mut shape = shape.clone();
                shape.hops = 1;
                let becomes = Becomes::Passed(Reason::HopLimit);
                self.add(&format!("{kind:?}, {direction}, TTL 1"), opened.clone(), shape, becomes);
            }
            for load in [0, 1, 2, 3, 1001] {
                let mut shape = packet.clone();
                shape.load = load;
                let name = format!("{kind:?}, established, {load} bytes behind the header");
                self.add(&name, opened.clone(), shape, Becomes::Sent(out));
            }
            let mut foreign = reply.clone();
            foreign.from = self.net.pod(1, 2);
            self.add(&format!("{kind:?}, reply of another pod"), opened.clone(), foreign, Becomes::Nobodys);
            let mut foreign = reply.clone();
            foreign.to.set_ip(self.net.own(0));
            self.add(&format!("{kind:?}, reply to another address"), opened.clone(), foreign, Becomes::Nobodys);
            let mut other = packet.clone();
            other.from.set_port(40_002);
            let becomes = if kind == Kind::Tcp { Becomes::Passed(Reason::NoFlow) } else { Becomes::Sent(out) };
            let flows = if kind == Kind::Tcp { 1 } else { 2 };
            self.add(&format!("{kind:?}, established, another port of the client"), opened.clone(), other, becomes).flows = flows;
        }
    }

    /// The ends of connections.
    fn closing(&mut self) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
        let pod = self.net.pod(1, 1);
        let from_client = |maker: &Self, flags| maker.client(port::OUT, What::Tcp(flags));
        let from_pod = |maker: &Self, flags| maker.reply(pod, 1, What::Tcp(flags));
        let with = |maker: &Self, more: &[Shape]| {
            let more = more.iter().cloned().map(Before::Sent);
            maker.opened(Kind::Tcp).into_iter().chain(more).collect::<Vec<_>>()
        };
        let (client_fin, pod_fin) = (from_client(self, FIN | ACK), from_pod(self, FIN | ACK));
        let (client_rst, pod_rst) = (from_client(self, RST), from_pod(self, RST));
        let (client_ack, pod_ack) = (from_client(self, ACK), from_pod(self, ACK));
        let syn = from_client(self, SYN);
        let (to_pod, to_client) = (Becomes::Sent(out), Becomes::Sent(To::Client));
        let client = to_client.clone();
        let open = (State::Open, false);
        let closed = (State::Open, true);
        for (name, more, packet, becomes, state) in [
            ("FIN of the client", vec![], &client_fin, to_pod.clone(), open),
            ("FIN of the endpoint", vec![], &pod_fin, client.clone(), open),
            ("FIN of both", vec![client_fin.clone()], &pod_fin, client.clone(), closed),
            ("FIN of both, the endpoint first", vec![pod_fin.clone()], &client_fin, to_pod.clone(), closed),
            ("last ACK", vec![client_fin.clone(), pod_fin.clone()], &client_ack, to_pod.clone(), closed),
            ("RST of the client", vec![], &client_rst, to_pod.clone(), closed),
            ("RST of the endpoint", vec![], &pod_rst, client.clone(), closed),
            ("late RST", vec![client_fin.clone(), pod_fin.clone()], &client_rst, to_pod.clone(), closed),
            ("a packet after a RST", vec![client_rst.clone()], &client_ack, to_pod.clone(), open),
            ("a reply after a RST", vec![client_rst.clone()], &pod_ack, client.clone(), open),
            ("SYN again", vec![], &syn, to_pod.clone(), open),
        ] {
            let before = with(self, &more);
            self.add(&format!("Tcp, {name}"), before, packet.clone(), becomes).state = Some(state);
        }
        let before = with(self, &[client_fin, pod_fin]);
        let case = self.add("Tcp, another connection after the last one was closed", before, syn.clone(), to_pod.clone());
        (case.flows, case.state) = (2, None);
        let before = vec![Before::Sent(syn.clone()), Before::Happens(Event::Seconds(10))];
        let case = self.add("Tcp, SYN again after ten seconds", before, syn, to_pod.clone());
        case.state = Some((State::Asked, false));
        // A client of datagrams is a new one after conntrack's time.
        for seconds in [100, 130] {
            let mut before = self.opened(Kind::Udp);
            before.push(Before::Happens(Event::Seconds(seconds)));
            let packet = self.client(port::OUT, What::Udp(true));
            let name = format!("Udp, {seconds} seconds later");
            let state = if seconds > 120 { State::Sent } else { State::Both };
            self.add(&name, before, packet, to_pod.clone()).state = Some((state, false));
        }
    }

    /// ICMP errors about packets of a flow.
    fn errors(&mut self) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
        for kind in [Kind::Tcp, Kind::Udp, Kind::UdpWithoutSum] {
            let what = if kind == Kind::Tcp { What::Tcp(ACK) } else { Self::first(kind) };
            let opened = self.opened(kind);
            // The packet as the client's router saw it: from the frontend.
            let mut answered = Shape::new((self.net.vip(), port::OUT).into(), self.net.client(1, 40_001), what.clone());
            answered.hops = 60;
            // And as the endpoint's: from the node.
            let mut asked = Shape::new((self.net.own(1), 0).into(), self.net.pod(1, 1), what.clone());
            asked.hops = 60;
            for more in [8, 20, 40] {
                for router in [false, true] {
                    let by = if router { "a router" } else { "itself" };
                    let from = if router { self.net.client(200, 0) } else { self.net.client(1, 0) };
                    let error = What::Error(Box::new(answered.clone()), more, 1400);
                    let shape = self.arrives(Shape::new(from, (self.net.vip(), 0).into(), error));
                    let name = format!("{kind:?}, ICMP error from {by} at the client's side, {more} bytes");
                    self.add(&name, opened.clone(), shape, Becomes::Sent(out));
                    let from = if router { self.net.pod(1, 200) } else { self.net.pod(1, 1) };
                    let error = What::Error(Box::new(asked.clone()), more, 1400);
                    let shape = self.arrives(Shape::new(from, (self.net.own(1), 0).into(), error));
                    let name = format!("{kind:?}, ICMP error from {by} at the endpoint's side, {more} bytes");
                    self.add(&name, opened.clone(), shape, Becomes::Sent(To::Client));
                }
            }
            let error = What::Error(Box::new(answered.clone()), 7, 1400);
            let shape = self.arrives(Shape::new(self.net.client(200, 0), (self.net.vip(), 0).into(), error));
            self.add(&format!("{kind:?}, ICMP error with too little in it"), opened.clone(), shape, Becomes::Nobodys);
            let mut forged = answered.clone();
            forged.to.set_port(40_002);
            let error = What::Error(Box::new(forged), 8, 1400);
            let shape = self.arrives(Shape::new(self.net.client(200, 0), (self.net.vip(), 0).into(), error));
            self.add(&format!("{kind:?}, ICMP error about no flow"), opened.clone(), shape, Becomes::Nobodys);
            let error = What::Error(Box::new(answered.clone()), 8, 1400);
            let shape = self.arrives(Shape::new(self.net.client(200, 0), (self.net.own(0), 0).into(), error));
            self.add(&format!("{kind:?}, ICMP error that was sent to another address"), opened, shape, Becomes::Nobodys);
        }
    }

    /// Packets in parts.
    fn parts(&mut self) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
        let opened = self.opened(Kind::Udp);
        let part = |maker: &Self, mut shape: Shape, part| {
            (shape.part, shape.load) = (part, 120);
            let _ = maker;
            shape
        };
        let packet = self.client(port::OUT, What::Udp(true));
        let reply = self.reply(self.net.pod(1, 1), 1, What::Udp(true));
        for (direction, shape, to) in [("established", packet.clone(), out), ("reply", reply, To::Client)] {
            let first = part(self, shape.clone(), Part::First);
            self.add(&format!("Udp, {direction}, first fragment"), opened.clone(), first.clone(), Becomes::Sent(to));
            let mut before = opened.clone();
            before.push(Before::Sent(first));
            let later = part(self, shape.clone(), Part::Later);
            self.add(&format!("Udp, {direction}, later fragment"), before, later.clone(), Becomes::Sent(to));
            let becomes = Becomes::Passed(Reason::Fragment);
            self.add(&format!("Udp, {direction}, later fragment of another packet"), opened.clone(), later, becomes);
        }
        let first = part(self, packet.clone(), Part::First);
        self.add("Udp, first fragment of no flow", vec![], first, Becomes::Passed(Reason::Fragment));
        let mut strange = part(self, packet, Part::Later);
        strange.what = What::Other(132);
        self.add("fragment of another protocol", vec![], strange, Becomes::Nobodys);
    }

    /// Packets that are too big, and those that are too small.
    fn sizes(&mut self) {
        for (kind, what) in [(Kind::Tcp, What::Tcp(ACK)), (Kind::Udp, What::Udp(true))] {
            let opened = self.opened(kind);
            for (direction, mut shape) in [
                ("established", self.client(port::OUT, what.clone())),
                ("reply", self.reply(self.net.pod(1, 1), 1, what.clone())),
            ] {
                shape.load = 1600;
                let becomes = Becomes::TooBig(1500);
                self.add(&format!("{kind:?}, {direction}, too big"), opened.clone(), shape.clone(), becomes);
                shape.whole = false;
                if !self.net.six {
                    let becomes = Becomes::Dropped(Reason::TooBig);
                    self.add(&format!("{kind:?}, {direction}, too big, may be divided"), opened.clone(), shape, becomes);
                }
            }
        }
        let before = vec![Before::Sent(self.client(port::SMALL, What::Tcp(SYN)))];
        let mut shape = self.client(port::SMALL, What::Tcp(ACK));
        shape.load = 1390;
        self.add("Tcp, established, too big for its way", before, shape, Becomes::TooBig(1400));
        let opened = self.opened(Kind::Tcp);
        let shape = self.client(port::OUT, What::Tcp(ACK));
        let whole = shape.bytes().len();
        for cut in 14..whole {
            let header = if self.tagged { 18 } else { 14 };
            let becomes = if cut < header { Becomes::Nobodys } else { Becomes::Passed(Reason::Malformed) };
            // Every length up to the end of the headers, and some after it.
            if cut > header + 64 && cut % 16 != 0 {
                continue;
            }
            let case = self.add(&format!("Tcp, established, {cut} bytes of it"), opened.clone(), shape.clone(), becomes);
            case.cut = Some(cut);
        }
    }

    /// Changes while a flow stands.
    fn changes(&mut self) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
        for kind in [Kind::Tcp, Kind::Udp] {
            let what = if kind == Kind::Tcp { What::Tcp(ACK) } else { What::Udp(true) };
            for (name, event, flows) in [("generation raised", Event::Routes, 1), ("switched off", Event::Off, 1)] {
                let mut before = self.opened(kind);
                before.push(Before::Happens(event));
                let packet = self.client(port::OUT, what.clone());
                self.add(&format!("{kind:?}, established, {name}"), before.clone(), packet, Becomes::Sent(out)).flows = flows;
                let reply = self.reply(self.net.pod(1, 1), 1, what.clone());
                self.add(&format!("{kind:?}, reply, {name}"), before, reply, Becomes::Sent(To::Client)).flows = flows;
            }
            let mut before = self.opened(kind);
            before.push(Before::Happens(Event::TakenOver));
            let packet = self.client(port::OUT, what.clone());
            let becomes = if kind == Kind::Tcp { Becomes::Passed(Reason::NoFlow) } else { Becomes::Sent(out) };
            let flows = if kind == Kind::Tcp { 1 } else { 2 };
            self.add(&format!("{kind:?}, established, slot taken over"), before, packet, becomes).flows = flows;
        }
    }

    /// Packets that are nobody's.
    fn strangers(&mut self) {
        let mut shape = self.client(port::OUT, What::Tcp(SYN));
        shape.vlan = Some(VLAN + 1);
        self.add("a VLAN that the node has not", vec![], shape, Becomes::Nobodys);
    }
}

//! The cases: what was sent before, a packet, and what is to become of it.

mod errors;
mod first;
mod left;
mod sizes;
mod standing;

use std::net::SocketAddr;

use tandem_xdp_layout::{Reason, State};

use super::net::{Net, TAG, mac, neighbour, port};
use super::shape::{Shape, What};

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
    /// New flows are noted, and not taken yet.
    Noting,
    /// New flows are taken.
    On,
    /// The rows are not complete.
    RowsOff,
    /// The rows are complete again.
    RowsOn,
    /// Flows are being carried over.
    Moving,
    /// All records of the flow's page are taken by others.
    PageFull,
    /// Another flow takes the record over.
    TakenOver,
    /// So many seconds pass.
    Seconds(u32),
    /// The devices have no addresses. They have them again for the next case.
    NoAddresses,
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
        self.arrives(Shape::new(
            self.net.client(1, 40_001),
            (self.net.vip(), port).into(),
            what,
        ))
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
        self.left();
        self.sizes();
        self.changes();
        self.strangers();
    }
}

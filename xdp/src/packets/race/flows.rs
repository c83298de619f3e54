//! The flows that race, and the packets that they are to become.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::packets::net::{Net, VLAN, mac, neighbour, port};
use crate::packets::shape::{Shape, What};

/// The first port of those that clients want. It is the first one that a record can stand for, so that clients want records by number.
const FIRST: u16 = tandem_xdp_layout::FIRST_PORT;
/// How many ports they want.
const PORTS: u16 = 64;
/// How many clients there are of each of the two networks.
const CLIENTS: u8 = 12;
/// How many flows of a port a round has at most.
const MOST: usize = 16;
/// One of so many flows is sent by all threads. The others' packets of clients are sent by one thread, as those of a flow come by one
/// queue of a device.
const SHARED: u32 = 8;

/// Whether all threads send the packets of its client.
pub(super) fn is_shared(flow: u32) -> bool {
    flow.is_multiple_of(SHARED)
}

/// A flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) six: bool,
    pub(super) tcp: bool,
    pub(super) client: SocketAddr,
    /// The device behind which the client is.
    pub(super) behind: usize,
    pub(super) frontend: SocketAddr,
    /// The device behind which all endpoints are.
    pub(super) out: usize,
}

/// All flows, and what is known of them.
pub(super) struct Flows {
    all: Vec<Flow>,
    by_ends: HashMap<(SocketAddr, SocketAddr, bool), u32>,
    /// The endpoint's number of each flow: it is the same for all its packets. 0 is not known yet.
    pods: Vec<AtomicU32>,
    /// The record of which a flow's last packet was, and 1. 0 is none.
    slots: Vec<AtomicU32>,
}

impl Flows {
    pub(super) fn new() -> Self {
        let mut flows = Vec::new();
        for six in [false, true] {
            let net = Net { six };
            let frontends: [(SocketAddr, usize); 4] = [
                ((net.vip(), port::OUT).into(), 1),
                ((net.vip(), port::MANY).into(), 1),
                ((net.vip(), port::VLAN).into(), 3),
                ((net.own(0), port::NODE).into(), 1),
            ];
            for wanted in FIRST..FIRST + PORTS {
                for number in 1..=CLIENTS {
                    let clients = [(net.client(number, wanted), 0), (net.client_beside(number, wanted), 1)];
                    for ((client, behind), (frontend, out), tcp) in clients.into_iter().flat_map(|client| {
                        frontends
                            .into_iter()
                            .flat_map(move |frontend| [(client, frontend, false), (client, frontend, true)])
                    }) {
                        flows.push(Flow {
                            six,
                            tcp,
                            client,
                            behind,
                            frontend,
                            out,
                        });
                    }
                }
            }
        }
        let ends = |flow: &Flow| (flow.client, flow.frontend, flow.tcp);
        let by_ends = (0..).zip(&flows).map(|(number, flow)| (ends(flow), number)).collect();
        let nothing = || flows.iter().map(|_| AtomicU32::new(0)).collect();
        Self {
            by_ends,
            pods: nothing(),
            slots: nothing(),
            all: flows,
        }
    }

    /// Some that want some ports: few ports have much to bear.
    pub(super) fn pick(&self, random: &mut fastrand::Rng) -> Vec<u32> {
        let ports = [1, 1, 2, 16][random.usize(..4)];
        // Datagrams alone, connections alone, or both.
        let protocols = [&[false][..], &[true], &[false, true]][random.usize(..3)];
        let mut picked = Vec::new();
        for _ in 0..ports {
            let wanted = FIRST + random.u16(..PORTS);
            let all = (0_u32..).zip(&self.all);
            let of_port: Vec<u32> = all
                .filter(|(_, flow)| flow.client.port() == wanted && protocols.contains(&flow.tcp))
                .map(|(number, _)| number)
                .collect();
            let count = random.usize(2..=MOST);
            picked.extend((0..count).map(|_| of_port[random.usize(..of_port.len())]));
        }
        picked.sort_unstable();
        picked.dedup();
        picked
    }

    pub(super) fn get(&self, number: u32) -> &Flow {
        &self.all[number as usize]
    }

    /// The flow of these ends.
    pub(super) fn of(&self, client: SocketAddr, frontend: SocketAddr, tcp: bool) -> Option<u32> {
        self.by_ends.get(&(client, frontend, tcp)).copied()
    }

    /// The number of the endpoint of a flow.
    pub(super) fn pod(&self, number: u32) -> Option<u8> {
        let pod = self.pods[number as usize].load(Ordering::Relaxed);
        u8::try_from(pod).ok().filter(|pod| *pod > 0)
    }

    /// Learns the endpoint of a flow. It is false if the flow had another one.
    pub(super) fn learn(&self, number: u32, pod: u8) -> bool {
        let place = &self.pods[number as usize];
        let before = place.compare_exchange(0, u32::from(pod), Ordering::Relaxed, Ordering::Relaxed);
        before.is_ok() || before == Err(u32::from(pod))
    }

    /// The record of which a flow's last packet was.
    pub(super) fn slot(&self, number: u32) -> Option<u16> {
        let slot = self.slots[number as usize].load(Ordering::Relaxed);
        u16::try_from(slot.checked_sub(1)?).ok()
    }

    pub(super) fn set_slot(&self, number: u32, slot: u16) {
        self.slots[number as usize].store(u32::from(slot) + 1, Ordering::Relaxed);
    }

    /// Forgets which records flows had.
    pub(super) fn forget(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

impl Flow {
    pub(super) fn net(&self) -> Net {
        Net { six: self.six }
    }

    /// The address of an endpoint of this number.
    pub(super) fn pod(&self, number: u8) -> SocketAddr {
        self.net().pod(self.out, number)
    }

    /// The number of an endpoint with this address, if it is one of the flow's Service.
    pub(super) fn number_of(&self, pod: SocketAddr) -> Option<u8> {
        let number = match pod.ip() {
            IpAddr::V4(addr) => addr.octets()[3],
            IpAddr::V6(addr) => addr.octets()[15],
        };
        let most = if self.frontend.port() == port::MANY { 64 } else { 1 };
        ((1..=most).contains(&number) && self.pod(number) == pod).then_some(number)
    }

    fn what(&self, flags: u8) -> What {
        if self.tcp { What::Tcp(flags) } else { What::Udp(true) }
    }

    /// A packet of the client.
    pub(super) fn asks(&self, flags: u8) -> Shape {
        let mut shape = Shape::new(self.client, self.frontend, self.what(flags));
        shape.macs = [mac(0), neighbour(0)];
        shape
    }

    /// The same behind the node.
    pub(super) fn asked(&self, flags: u8, pod: u8, port: u16) -> Shape {
        let source = (self.net().own(self.out), port).into();
        leaves(self.asks(flags).translated(source, self.pod(pod)), self.out)
    }

    /// A packet of the endpoint.
    pub(super) fn answers(&self, flags: u8, pod: u8, port: u16) -> Shape {
        let to = (self.net().own(self.out), port).into();
        let mut shape = Shape::new(self.pod(pod), to, self.what(flags));
        shape.macs = [mac(0), neighbour(0)];
        shape
    }

    /// The same behind the node.
    pub(super) fn answered(&self, flags: u8) -> Shape {
        // Who sent it to which port is not to be seen any more.
        let shape = self.answers(flags, 1, FIRST);
        leaves(shape.translated(self.frontend, self.client), self.behind)
    }
}

fn leaves(mut shape: Shape, device: usize) -> Shape {
    shape.macs = [neighbour(device), mac(device)];
    shape.vlan = (device == 3).then_some(VLAN);
    shape
}

/// The addresses and ports of a packet of TCP or UDP.
pub(super) fn ends(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let tagged = packet.get(12..14)? == [0x81, 0];
    let ip = packet.get(if tagged { 18 } else { 14 }..)?;
    let port = |at: usize| Some(u16::from_be_bytes(*ip.get(at..)?.first_chunk()?));
    if ip.first()? >> 4 == 4 {
        let addr = |at: usize| Some(Ipv4Addr::from(*ip.get(at..)?.first_chunk::<4>()?));
        return Some(((addr(12)?, port(20)?).into(), (addr(16)?, port(22)?).into()));
    }
    let addr = |at: usize| Some(Ipv6Addr::from(*ip.get(at..)?.first_chunk::<16>()?));
    Some(((addr(8)?, port(40)?).into(), (addr(24)?, port(42)?).into()))
}

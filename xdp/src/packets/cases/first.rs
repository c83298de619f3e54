//! First packets of flows.

use super::{ACK, Becomes, Before, Event, FIN, Kind, Maker, RST, SYN, To};
use std::net::SocketAddr;

use crate::packets::net::port;
use crate::packets::shape::What;
use tandem_xdp_layout::{Reason, State};

impl Maker {
    /// First packets of flows.
    pub(super) fn first_packets(&mut self) {
        for kind in [Kind::Tcp, Kind::Udp, Kind::UdpWithoutSum] {
            self.by_frontend(kind);
            self.by_packet(kind);
        }
        self.of_no_flow();
        self.affinity();
    }

    /// By what the packet goes to.
    fn by_frontend(&mut self, kind: Kind) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
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
        self.add(
            &name("nodePort on another address"),
            vec![],
            packet,
            Becomes::Passed(Reason::NoFrontend),
        );
        for (what, port, becomes) in [
            ("miss", 79, Becomes::Nobodys),
            ("no endpoint", port::NONE, Becomes::Passed(Reason::Refuse)),
            ("source denied", port::DENIED, Becomes::Passed(Reason::Denied)),
            ("endpoint here", port::HERE, Becomes::Chosen(Reason::NoWayOut, 0)),
            (
                "endpoint behind a tunnel",
                port::TUNNEL,
                Becomes::Chosen(Reason::NoWayOut, 0),
            ),
            (
                "neighbour unknown",
                port::UNKNOWN,
                Becomes::Chosen(Reason::NoNeighbour, 0),
            ),
        ] {
            let packet = self.client(port, first.clone());
            self.add(&name(what), vec![], packet, becomes);
        }
    }

    /// By what is strange about the packet, its client or the node.
    fn by_packet(&mut self, kind: Kind) {
        let first = Self::first(kind);
        let name = |what: &str| format!("{kind:?}, first packet, {what}");
        self.add(
            &name("no address on the way out"),
            vec![Before::Happens(Event::NoAddresses)],
            self.client(port::OUT, first.clone()),
            Becomes::Chosen(Reason::NoSource, 0),
        );
        let mut packet = self.client(port::OUT, first.clone());
        packet.hops = 1;
        self.add(&name("TTL 1"), vec![], packet, Becomes::Chosen(Reason::HopLimit, 0));
        let mut packet = self.client(port::OUT, first.clone());
        packet.from = self.net.far_client(40_001);
        self.add(
            &name("client behind a tunnel"),
            vec![],
            packet,
            Becomes::Chosen(Reason::NoWayBack, 0),
        );
        let mut packet = self.client(port::OUT, first.clone());
        packet.from = (self.net.own(1), 40_001).into();
        self.add(
            &name("source is ours"),
            vec![],
            packet,
            Becomes::Chosen(Reason::NoWayBack, 0),
        );
        let mut packet = self.client(port::OUT, first.clone());
        packet.options = true;
        self.add(&name("options"), vec![], packet, Becomes::Passed(Reason::Options));
        let mut packet = self.client(port::OUT, first.clone());
        packet.macs[0] = [2, 9, 9, 9, 9, 9];
        self.add(&name("for another MAC address"), vec![], packet, Becomes::Nobodys);
        let off = vec![Before::Happens(Event::Off)];
        let packet = self.client(port::OUT, first.clone());
        self.add(&name("switched off"), off, packet, Becomes::Passed(Reason::Off))
            .flows = 0;
        let held = vec![Before::Sent(self.client(port::HERE, first.clone()))];
        let packet = self.client(port::HERE, first.clone());
        self.add(
            &name("nftables has the flow"),
            held,
            packet,
            Becomes::Chosen(Reason::Held, 0),
        )
        .flows = 0;
        // What comes just before the first flows are taken stays with nftables, too.
        let noting = || Before::Happens(Event::Noting);
        let packet = self.client(port::OUT, first.clone());
        let becomes = Becomes::Chosen(Reason::Off, 0);
        self.add(&name("noted"), vec![noting()], packet.clone(), becomes).flows = 0;
        let noted = vec![noting(), Before::Sent(packet.clone()), Before::Happens(Event::On)];
        self.add(&name("noted before"), noted, packet, Becomes::Chosen(Reason::Held, 0))
            .flows = 0;
        let moving = || vec![Before::Happens(Event::Moving)];
        let packet = self.client(port::OUT, first.clone());
        let dropped = Becomes::Dropped(Reason::Moving);
        self.add(&name("flows are being carried over"), moving(), packet, dropped)
            .flows = 0;
        let packet = self.client(79, first.clone());
        self.add(
            &name("miss while flows are being carried over"),
            moving(),
            packet,
            Becomes::Nobodys,
        );
        let full = vec![Before::Happens(Event::PageFull)];
        let packet = self.client(port::OUT, first.clone());
        self.add(&name("page full"), full, packet, Becomes::Chosen(Reason::PageFull, 0))
            .flows = 0;
        // A connection's packets are told when they are too big; a datagram that may be divided could only be lost.
        let mut packet = self.client(port::SMALL, first.clone());
        packet.whole = self.net.six;
        let becomes = Becomes::Chosen(Reason::SmallWay, 0);
        if !(self.net.six && kind == Kind::Tcp) {
            self.add(&name("way out has a smaller MTU"), vec![], packet, becomes);
        }
    }

    /// Packets that begin no flow, and one that begins it although its way is narrow.
    fn of_no_flow(&mut self) {
        let to = To::Endpoint(self.net.pod(2, 1), 2);
        let packet = self.client(port::SMALL, What::Tcp(SYN));
        self.add(
            "Tcp, first packet, way out has a smaller MTU, may not be divided",
            vec![],
            packet,
            Becomes::Sent(to),
        );
        for flags in [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, SYN | RST, SYN | FIN, 0, 0xff] {
            let packet = self.client(port::OUT, What::Tcp(flags));
            let name = format!("Tcp without a flow, flags {flags:#x}");
            self.add(&name, vec![], packet, Becomes::Passed(Reason::NoFlow));
        }
        let mut packet = self.client(port::CLUSTER, What::Tcp(SYN));
        packet.to = (self.net.cluster_ip(), port::CLUSTER).into();
        self.add(
            "ClusterIP from outside",
            vec![],
            packet,
            Becomes::Passed(Reason::ClusterIp),
        );
        let packet = self.client(port::OUT, What::Other(132));
        self.add("SCTP", vec![], packet, Becomes::Nobodys);
        let packet = self.client(port::OUT, What::Echo);
        self.add("ICMP echo", vec![], packet, Becomes::Nobodys);
        let packet = self.reply(self.net.pod(1, 1), 1, What::Tcp(ACK));
        self.add("SNAT port of nobody", vec![], packet, Becomes::Nobodys);
    }

    fn affinity(&mut self) {
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
            self.add(&format!("{kind:?}, affinity hit"), before, other, Becomes::Sent(to))
                .flows = 2;
        }
    }
}

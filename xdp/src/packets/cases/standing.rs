//! Packets of flows that stand, and the ends of connections.

use super::{ACK, Becomes, Before, Event, FIN, Kind, Maker, RST, SYN, To};
use crate::packets::net::port;
use crate::packets::shape::{Shape, What};
use tandem_xdp_layout::{Reason, State};

impl Maker {
    /// Packets of flows that stand.
    pub(super) fn flows(&mut self) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
        for kind in [Kind::Tcp, Kind::Udp, Kind::UdpWithoutSum] {
            let (what, state) = match kind {
                Kind::Tcp => (What::Tcp(ACK), State::Open),
                _ => (Self::first(kind), State::Both),
            };
            let opened = self.opened(kind);
            let packet = self.client(port::OUT, what.clone());
            let case = self.add(
                &format!("{kind:?}, established"),
                opened.clone(),
                packet.clone(),
                Becomes::Sent(out),
            );
            case.state = Some((state, false));
            let reply = self.reply(self.net.pod(1, 1), 1, what.clone());
            let case = self.add(
                &format!("{kind:?}, reply"),
                opened.clone(),
                reply.clone(),
                Becomes::Sent(To::Client),
            );
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
            self.add(
                &format!("{kind:?}, reply of another pod"),
                opened.clone(),
                foreign,
                Becomes::Nobodys,
            );
            let mut foreign = reply.clone();
            foreign.to.set_ip(self.net.own(0));
            self.add(
                &format!("{kind:?}, reply to another address"),
                opened.clone(),
                foreign,
                Becomes::Nobodys,
            );
            let mut other = packet.clone();
            other.from.set_port(40_002);
            let becomes = if kind == Kind::Tcp {
                Becomes::Passed(Reason::NoFlow)
            } else {
                Becomes::Sent(out)
            };
            let flows = if kind == Kind::Tcp { 1 } else { 2 };
            self.add(
                &format!("{kind:?}, established, another port of the client"),
                opened.clone(),
                other,
                becomes,
            )
            .flows = flows;
        }
    }

    /// The ends of connections.
    pub(super) fn closing(&mut self) {
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
            (
                "FIN of both",
                vec![client_fin.clone()],
                &pod_fin,
                client.clone(),
                closed,
            ),
            (
                "FIN of both, the endpoint first",
                vec![pod_fin.clone()],
                &client_fin,
                to_pod.clone(),
                closed,
            ),
            (
                "last ACK",
                vec![client_fin.clone(), pod_fin.clone()],
                &client_ack,
                to_pod.clone(),
                closed,
            ),
            ("RST of the client", vec![], &client_rst, to_pod.clone(), closed),
            ("RST of the endpoint", vec![], &pod_rst, client.clone(), closed),
            (
                "late RST",
                vec![client_fin.clone(), pod_fin.clone()],
                &client_rst,
                to_pod.clone(),
                closed,
            ),
            (
                "a packet after a RST",
                vec![client_rst.clone()],
                &client_ack,
                to_pod.clone(),
                open,
            ),
            (
                "a reply after a RST",
                vec![client_rst.clone()],
                &pod_ack,
                client.clone(),
                open,
            ),
            ("SYN again", vec![], &syn, to_pod.clone(), open),
        ] {
            let before = with(self, &more);
            self.add(&format!("Tcp, {name}"), before, packet.clone(), becomes).state = Some(state);
        }
        self.again(with(self, &[client_fin, pod_fin]), syn);
    }

    /// Flows of a client that had one before.
    fn again(&mut self, closed: Vec<Before>, syn: Shape) {
        let to_pod = Becomes::Sent(To::Endpoint(self.net.pod(1, 1), 1));
        let case = self.add(
            "Tcp, another connection after the last one was closed",
            closed,
            syn.clone(),
            to_pod.clone(),
        );
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
}

//! ICMP errors, and packets in parts.

use super::{ACK, Becomes, Before, Kind, Maker, To};
use crate::packets::net::port;
use crate::packets::shape::{Part, Shape, What};
use tandem_xdp_layout::Reason;

impl Maker {
    /// ICMP errors about packets of a flow.
    pub(super) fn errors(&mut self) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
        for kind in [Kind::Tcp, Kind::Udp, Kind::UdpWithoutSum] {
            let what = if kind == Kind::Tcp {
                What::Tcp(ACK)
            } else {
                Self::first(kind)
            };
            let opened = self.opened(kind);
            // The packet as the client's router saw it: from the frontend.
            let mut answered = Shape::new(
                (self.net.vip(), port::OUT).into(),
                self.net.client(1, 40_001),
                what.clone(),
            );
            answered.hops = 60;
            // And as the endpoint's: from the node.
            let mut asked = Shape::new((self.net.own(1), 0).into(), self.net.pod(1, 1), what.clone());
            asked.hops = 60;
            for more in [8, 20, 40] {
                for router in [false, true] {
                    let by = if router { "a router" } else { "itself" };
                    let from = if router {
                        self.net.client(200, 0)
                    } else {
                        self.net.client(1, 0)
                    };
                    let error = What::Error(Box::new(answered.clone()), more, 1400);
                    let shape = self.arrives(Shape::new(from, (self.net.vip(), 0).into(), error));
                    let name = format!("{kind:?}, ICMP error from {by} at the client's side, {more} bytes");
                    self.add(&name, opened.clone(), shape, Becomes::Sent(out));
                    let from = if router {
                        self.net.pod(1, 200)
                    } else {
                        self.net.pod(1, 1)
                    };
                    let error = What::Error(Box::new(asked.clone()), more, 1400);
                    let shape = self.arrives(Shape::new(from, (self.net.own(1), 0).into(), error));
                    let name = format!("{kind:?}, ICMP error from {by} at the endpoint's side, {more} bytes");
                    self.add(&name, opened.clone(), shape, Becomes::Sent(To::Client));
                }
            }
            let error = What::Error(Box::new(answered.clone()), 7, 1400);
            let shape = self.arrives(Shape::new(self.net.client(200, 0), (self.net.vip(), 0).into(), error));
            self.add(
                &format!("{kind:?}, ICMP error with too little in it"),
                opened.clone(),
                shape,
                Becomes::Nobodys,
            );
            let mut forged = answered.clone();
            forged.to.set_port(40_002);
            let error = What::Error(Box::new(forged), 8, 1400);
            let shape = self.arrives(Shape::new(self.net.client(200, 0), (self.net.vip(), 0).into(), error));
            self.add(
                &format!("{kind:?}, ICMP error about no flow"),
                opened.clone(),
                shape,
                Becomes::Nobodys,
            );
            let error = What::Error(Box::new(answered.clone()), 8, 1400);
            let shape = self.arrives(Shape::new(self.net.client(200, 0), (self.net.own(0), 0).into(), error));
            self.add(
                &format!("{kind:?}, ICMP error that was sent to another address"),
                opened,
                shape,
                Becomes::Nobodys,
            );
        }
    }

    /// Packets in parts.
    pub(super) fn parts(&mut self) {
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
            self.add(
                &format!("Udp, {direction}, first fragment"),
                opened.clone(),
                first.clone(),
                Becomes::Sent(to),
            );
            let mut before = opened.clone();
            before.push(Before::Sent(first));
            let later = part(self, shape.clone(), Part::Later);
            self.add(
                &format!("Udp, {direction}, later fragment"),
                before,
                later.clone(),
                Becomes::Sent(to),
            );
            let becomes = Becomes::Passed(Reason::Fragment);
            self.add(
                &format!("Udp, {direction}, later fragment of another packet"),
                opened.clone(),
                later,
                becomes,
            );
        }
        let mut strange = part(self, packet, Part::Later);
        strange.what = What::Other(132);
        self.add("fragment of another protocol", vec![], strange, Becomes::Nobodys);
    }
}

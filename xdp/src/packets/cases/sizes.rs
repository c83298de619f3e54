//! Packets that are too big or too small, and changes while a flow stands.

use super::{ACK, Becomes, Before, Event, Kind, Maker, SYN, To};
use crate::packets::net::{VLAN, port};
use crate::packets::shape::What;
use tandem_xdp_layout::Reason;

impl Maker {
    /// Packets that are too big, and those that are too small.
    pub(super) fn sizes(&mut self) {
        for (kind, what) in [(Kind::Tcp, What::Tcp(ACK)), (Kind::Udp, What::Udp(true))] {
            let opened = self.opened(kind);
            for (direction, mut shape) in [
                ("established", self.client(port::OUT, what.clone())),
                ("reply", self.reply(self.net.pod(1, 1), 1, what.clone())),
            ] {
                shape.load = 1600;
                let becomes = Becomes::TooBig(1500);
                self.add(
                    &format!("{kind:?}, {direction}, too big"),
                    opened.clone(),
                    shape.clone(),
                    becomes,
                );
                shape.whole = false;
                if !self.net.six {
                    let becomes = Becomes::Dropped(Reason::TooBig);
                    self.add(
                        &format!("{kind:?}, {direction}, too big, may be divided"),
                        opened.clone(),
                        shape,
                        becomes,
                    );
                }
            }
        }
        let before = vec![Before::Sent(self.client(port::SMALL, What::Tcp(SYN)))];
        let mut shape = self.client(port::SMALL, What::Tcp(ACK));
        shape.load = 1390;
        self.add(
            "Tcp, established, too big for its way",
            before,
            shape,
            Becomes::TooBig(1400),
        );
        let opened = self.opened(Kind::Tcp);
        let shape = self.client(port::OUT, What::Tcp(ACK));
        let whole = shape.bytes().len();
        for cut in 14..whole {
            let header = if self.tagged { 18 } else { 14 };
            let becomes = if cut < header {
                Becomes::Nobodys
            } else {
                Becomes::Passed(Reason::Malformed)
            };
            // Every length up to the end of the headers, and some after it.
            if cut > header + 64 && cut % 16 != 0 {
                continue;
            }
            let case = self.add(
                &format!("Tcp, established, {cut} bytes of it"),
                opened.clone(),
                shape.clone(),
                becomes,
            );
            case.cut = Some(cut);
        }
    }

    /// Changes while a flow stands.
    pub(super) fn changes(&mut self) {
        let out = To::Endpoint(self.net.pod(1, 1), 1);
        for kind in [Kind::Tcp, Kind::Udp] {
            let what = if kind == Kind::Tcp {
                What::Tcp(ACK)
            } else {
                What::Udp(true)
            };
            for (name, event, flows) in [("generation raised", Event::Routes, 1), ("switched off", Event::Off, 1)] {
                let mut before = self.opened(kind);
                before.push(Before::Happens(event));
                let packet = self.client(port::OUT, what.clone());
                self.add(
                    &format!("{kind:?}, established, {name}"),
                    before.clone(),
                    packet,
                    Becomes::Sent(out),
                )
                .flows = flows;
                let reply = self.reply(self.net.pod(1, 1), 1, what.clone());
                self.add(
                    &format!("{kind:?}, reply, {name}"),
                    before,
                    reply,
                    Becomes::Sent(To::Client),
                )
                .flows = flows;
            }
            let mut before = self.opened(kind);
            before.push(Before::Happens(Event::TakenOver));
            let packet = self.client(port::OUT, what.clone());
            let becomes = if kind == Kind::Tcp {
                Becomes::Passed(Reason::NoFlow)
            } else {
                Becomes::Sent(out)
            };
            let flows = if kind == Kind::Tcp { 1 } else { 2 };
            self.add(
                &format!("{kind:?}, established, slot taken over"),
                before,
                packet,
                becomes,
            )
            .flows = flows;
        }
    }

    /// Packets that are nobody's.
    pub(super) fn strangers(&mut self) {
        let mut shape = self.client(port::OUT, What::Tcp(SYN));
        shape.vlan = Some(VLAN + 1);
        self.add("a VLAN that the node has not", vec![], shape, Becomes::Nobodys);
    }
}

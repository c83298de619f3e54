//! First packets that nftables gets although the flow could be XDP's a moment later: it stays with nftables.

use super::{ACK, Becomes, Before, Event, Kind, Maker};
use crate::packets::net::port;
use crate::packets::shape::{Part, Shape, What};
use tandem_xdp_layout::Reason;

impl Maker {
    /// Flows that stay with nftables.
    pub(super) fn left(&mut self) {
        self.begun_by_a_fragment();
        for kind in [Kind::Tcp, Kind::Udp, Kind::UdpWithoutSum] {
            self.while_rows_are_off(kind);
            // A connection to an endpoint of this node is not noted: there may be too many of them.
            let packet = self.client(port::LOCAL, Self::first(kind));
            let name = format!("{kind:?}, first packet, Local");
            let passed = Becomes::Passed(Reason::LocalPolicy);
            self.add(&name, vec![], packet, passed).held = usize::from(kind != Kind::Tcp);
        }
        let packet = self.client(port::OUT, What::Tcp(ACK));
        let off = vec![Before::Happens(Event::RowsOff)];
        let passed = Becomes::Passed(Reason::NoFlow);
        self.add("Tcp without a flow while the rows are off", off, packet, passed);
    }

    fn begun_by_a_fragment(&mut self) {
        let first = |maker: &Self, port, what| {
            let mut shape: Shape = maker.client(port, what);
            (shape.part, shape.load) = (Part::First, 120);
            shape
        };
        for (what, port, held) in [
            ("of no flow", port::OUT, 1),
            ("of no flow, endpoint here", port::HERE, 1),
            ("of no flow, Local", port::LOCAL, 1),
            ("of no flow, source denied", port::DENIED, 0),
            ("of no flow, no endpoint", port::NONE, 0),
            ("of no flow, miss", 79, 0),
        ] {
            let packet = first(self, port, What::Udp(true));
            let passed = Becomes::Passed(Reason::Fragment);
            self.add(&format!("Udp, first fragment {what}"), vec![], packet, passed)
                .held = held;
        }
        let packet = first(self, port::OUT, What::Tcp(ACK));
        let passed = Becomes::Passed(Reason::Fragment);
        self.add("Tcp, first fragment of no flow", vec![], packet, passed);
        let before = vec![Before::Sent(first(self, port::OUT, What::Udp(true)))];
        let packet = self.client(port::OUT, What::Udp(true));
        let held = Becomes::Chosen(Reason::Held, 0);
        self.add("Udp, whole after a first fragment", before, packet, held)
            .flows = 0;
        let packet = first(self, port::OUT, What::Udp(true));
        let off = vec![Before::Happens(Event::Off)];
        let passed = Becomes::Passed(Reason::Fragment);
        self.add("Udp, first fragment of no flow, switched off", off, packet, passed);
    }

    fn while_rows_are_off(&mut self, kind: Kind) {
        let off = || Before::Happens(Event::RowsOff);
        let packet = self.client(port::OUT, Self::first(kind));
        let passed = Becomes::Passed(Reason::Off);
        let name = |what: &str| format!("{kind:?}, first packet, {what}");
        self.add(&name("rows off"), vec![off()], packet.clone(), passed).held = 1;
        let on = vec![off(), Before::Sent(packet.clone()), Before::Happens(Event::RowsOn)];
        let held = Becomes::Chosen(Reason::Held, 0);
        self.add(&name("rows were off before"), on, packet.clone(), held).flows = 0;
        let miss = self.client(79, Self::first(kind));
        self.add(&name("miss, rows off"), vec![off()], miss, Becomes::Nobodys);
        let none = vec![off(), Before::Happens(Event::Off)];
        let passed = Becomes::Passed(Reason::Off);
        self.add(&name("rows off, and no new flows are taken"), none, packet, passed);
    }
}

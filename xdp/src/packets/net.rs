//! The addresses, ports and devices of the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The devices, in the order of their numbers from 1. The last one has no number: it stands for a tunnel.
pub(crate) const DEVICES: [&str; 6] = ["in", "out", "small", "vlan", "empty", "tun"];
/// The VLAN's number of the device `vlan`, and the number by which tagged packets come in.
pub(crate) const VLAN: u16 = 7;
pub(crate) const TAG: u16 = 100;

/// The MAC address of a device, and of the neighbour behind it.
pub(crate) fn mac(device: usize) -> [u8; 6] {
    [2, 0, 0, 0, device as u8, 1]
}
pub(crate) fn neighbour(device: usize) -> [u8; 6] {
    [2, 0, 0, 0, device as u8, 2]
}

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) six: bool,
}

impl Net {
    pub(crate) fn addr(self, four: [u8; 4], six: [u16; 8]) -> IpAddr {
        if self.six {
            Ipv6Addr::from(six).into()
        } else {
            Ipv4Addr::from(four).into()
        }
    }

    /// The node's address at a device.
    pub(crate) fn own(self, device: usize) -> IpAddr {
        self.addr([172, 16, device as u8, 1], [0xfd16, device as u16, 0, 0, 0, 0, 0, 1])
    }

    /// The neighbour's.
    pub(crate) fn gateway(self, device: usize) -> IpAddr {
        self.addr([172, 16, device as u8, 2], [0xfd16, device as u16, 0, 0, 0, 0, 0, 2])
    }

    /// A pod behind a device: 1 out, 2 small, 3 vlan, 5 tun; 0 is this node's, and 9 behind a neighbour that nobody knows.
    pub(crate) fn pod(self, behind: usize, number: u8) -> SocketAddr {
        let addr = self.addr(
            [10, 244, behind as u8, number],
            [0xfd10, behind as u16, 0, 0, 0, 0, 0, u16::from(number)],
        );
        (addr, 8080).into()
    }

    /// A client: behind `in`, or behind a device that is not XDP's.
    pub(crate) fn client(self, number: u8, port: u16) -> SocketAddr {
        (
            self.addr(
                [198, 51, 100, number],
                [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, u16::from(number)],
            ),
            port,
        )
            .into()
    }

    /// A client behind the device `out`.
    pub(crate) fn client_beside(self, number: u8, port: u16) -> SocketAddr {
        let six = [0x2001, 0xdb8, 0xd, 0, 0, 0, 0, u16::from(number)];
        (self.addr([198, 51, 101, number], six), port).into()
    }

    pub(crate) fn far_client(self, port: u16) -> SocketAddr {
        (self.addr([203, 0, 113, 1], [0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1]), port).into()
    }

    /// A LoadBalancer address.
    pub(crate) fn vip(self) -> IpAddr {
        self.addr([192, 0, 2, 10], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 10])
    }

    pub(crate) fn cluster_ip(self) -> IpAddr {
        self.addr([10, 96, 0, 1], [0xfd96, 0, 0, 0, 0, 0, 0, 1])
    }
}

/// The ports of the LoadBalancer address: what answers there.
pub(crate) mod port {
    pub(crate) const OUT: u16 = 80;
    pub(crate) const NONE: u16 = 81;
    pub(crate) const STICKY: u16 = 82;
    pub(crate) const DENIED: u16 = 83;
    pub(crate) const ALLOWED: u16 = 84;
    pub(crate) const LOCAL: u16 = 85;
    pub(crate) const HERE: u16 = 86;
    pub(crate) const TUNNEL: u16 = 87;
    pub(crate) const UNKNOWN: u16 = 88;
    pub(crate) const SMALL: u16 = 89;
    pub(crate) const VLAN: u16 = 90;
    pub(crate) const CLUSTER: u16 = 80;
    pub(crate) const MANY: u16 = 92;
    pub(crate) const HIGH: u16 = 50_000;
    pub(crate) const NODE: u16 = 30_080;
}

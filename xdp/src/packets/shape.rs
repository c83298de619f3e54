//! Packets as data, and their bytes. An independent library adds the checksums up.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::Sum16BitWords;

/// A packet.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) what: What,
    /// How many hops it may go.
    pub(crate) hops: u8,
    /// Whether no router may divide it (IPv4).
    pub(crate) whole: bool,
    /// The bytes behind the transport header.
    pub(crate) load: usize,
    /// Where it stands among the parts of a packet.
    pub(crate) part: Part,
    pub(crate) options: bool,
    /// The packet's number (IPv4).
    pub(crate) id: u16,
    /// The Ethernet addresses: to and from.
    pub(crate) macs: [[u8; 6]; 2],
    /// The VLAN tag.
    pub(crate) vlan: Option<u16>,
}

/// What is in a packet.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// TCP with these flags.
    Tcp(u8),
    /// UDP, with a checksum or without.
    Udp(bool),
    /// An ICMP echo request.
    Echo,
    /// An ICMP error about another packet, of which so many bytes behind the IP header are in it: that it is larger than this.
    Error(Box<Shape>, usize, u16),
    /// Another protocol.
    Other(u8),
}

/// A part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    First,
    Later,
}

/// How much of a packet's transport is in its first part.
const FIRST_PART: usize = 64;

impl Shape {
    pub(crate) fn new(from: SocketAddr, to: SocketAddr, what: What) -> Self {
        Self {
            from,
            to,
            what,
            hops: 64,
            whole: true,
            load: 100,
            part: Part::Whole,
            options: false,
            id: 0x1234,
            macs: [[0; 6]; 2],
            vlan: None,
        }
    }

    /// The same packet after a router that translates it.
    pub(crate) fn translated(&self, from: SocketAddr, to: SocketAddr) -> Self {
        let mut shape = self.clone();
        (shape.from, shape.to, shape.hops) = (from, to, self.hops - 1);
        shape
    }

    /// All its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.macs.concat();
        if let Some(vlan) = self.vlan {
            bytes.extend([0x81, 0]);
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(if self.from.is_ipv4() { [0x08, 0] } else { [0x86, 0xdd] });
        bytes.extend(self.ip());
        bytes
    }

    /// The bytes from the IP header on.
    fn ip(&self) -> Vec<u8> {
        let transport = self.transport();
        let transport = match self.part {
            Part::Whole => &transport[..],
            Part::First => &transport[..FIRST_PART],
            Part::Later => &transport[FIRST_PART..],
        };
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.ip4(from.octets(), to.octets(), transport),
            (from, to) => self.ip6(octets(from), octets(to), transport),
        }
    }

    fn ip4(&self, from: [u8; 4], to: [u8; 4], transport: &[u8]) -> Vec<u8> {
        let options: &[u8] = if self.options { &[1, 1, 1, 0] } else { &[] };
        let len = 20 + options.len();
        let total = u16::try_from(len + transport.len()).unwrap_or(u16::MAX);
        let offset: u16 = match self.part {
            Part::Whole => u16::from(self.whole) << 14,
            Part::First => 0x2000,
            Part::Later => (FIRST_PART / 8) as u16,
        };
        let mut bytes = vec![0x40 | (len / 4) as u8, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend([self.hops, self.protocol(), 0, 0]);
        bytes.extend(from);
        bytes.extend(to);
        bytes.extend(options);
        let sum = sum(&[&bytes]);
        bytes[10..12].copy_from_slice(&sum);
        bytes.extend(transport);
        bytes
    }

    fn ip6(&self, from: [u8; 16], to: [u8; 16], transport: &[u8]) -> Vec<u8> {
        let mut extension = Vec::new();
        let mut next = self.protocol();
        if self.part != Part::Whole {
            let offset: u16 = if self.part == Part::First { 1 } else { FIRST_PART as u16 };
            extension = vec![next, 0];
            extension.extend(offset.to_be_bytes());
            extension.extend([0x12, 0x34, 0x56, 0x78]);
            next = 44;
        }
        if self.options {
            extension = [vec![next, 0, 1, 4, 0, 0, 0, 0], extension].concat();
            next = 0;
        }
        let behind = u16::try_from(extension.len() + transport.len()).unwrap_or(u16::MAX);
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(behind.to_be_bytes());
        bytes.extend([next, self.hops]);
        bytes.extend(from);
        bytes.extend(to);
        bytes.extend(extension);
        bytes.extend(transport);
        bytes
    }

    fn protocol(&self) -> u8 {
        match self.what {
            What::Tcp(_) => 6,
            What::Udp(_) => 17,
            What::Echo | What::Error(..) if self.from.is_ipv4() => 1,
            What::Echo | What::Error(..) => 58,
            What::Other(protocol) => protocol,
        }
    }

    /// The transport header and what is behind it.
    fn transport(&self) -> Vec<u8> {
        let load: Vec<u8> = (0..self.load).map(|at| at as u8).collect();
        let ports = [self.from.port().to_be_bytes(), self.to.port().to_be_bytes()].concat();
        let (mut bytes, at) = match &self.what {
            What::Tcp(flags) => {
                let rest = [1, 2, 3, 4, 5, 6, 7, 8, 0x50, *flags, 0xff, 0xff, 0, 0, 0, 0];
                ([ports, rest.to_vec(), load].concat(), 16)
            }
            What::Udp(_) => {
                let len = (8 + load.len()) as u16;
                ([ports, len.to_be_bytes().to_vec(), vec![0, 0], load].concat(), 6)
            }
            What::Echo => {
                let kind = if self.from.is_ipv4() { 8 } else { 128 };
                ([vec![kind, 0, 0, 0, 0, 1, 0, 2], load].concat(), 2)
            }
            What::Error(about, more, mtu) => {
                let kind = if self.from.is_ipv4() { [3, 4] } else { [2, 0] };
                let mut inside = about.ip();
                inside.truncate(if self.from.is_ipv4() { 20 } else { 40 } + more);
                (
                    [kind.to_vec(), vec![0, 0, 0, 0], mtu.to_be_bytes().to_vec(), inside].concat(),
                    2,
                )
            }
            What::Other(_) => return [ports, load].concat(),
        };
        if matches!(self.what, What::Udp(false)) {
            return bytes;
        }
        let len = (bytes.len() as u32).to_be_bytes();
        let pseudo = [
            octets_of(self.from.ip()),
            octets_of(self.to.ip()),
            len.to_vec(),
            vec![0, self.protocol()],
        ]
        .concat();
        let has_addresses = !(self.from.is_ipv4() && self.protocol() == 1);
        let mut found = if has_addresses {
            sum(&[&pseudo, &bytes])
        } else {
            sum(&[&bytes])
        };
        if found == [0, 0] && matches!(self.what, What::Udp(_)) {
            found = [0xff, 0xff];
        }
        bytes[at..at + 2].copy_from_slice(&found);
        bytes
    }
}

fn sum(parts: &[&[u8]]) -> [u8; 2] {
    // Each part has an even length, but for the last one.
    let all = parts.iter().fold(Sum16BitWords::new(), |sum, part| sum.add_slice(part));
    all.ones_complement().to_ne_bytes()
}

fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

fn octets_of(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

//! The addresses of every world.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The ClusterIPs' ranges, IPv4 first.
pub const SERVICE_RANGES: [&str; 2] = ["10.96.0.0/12", "fd00:10:96::/112"];
/// The pods' ranges, of all nodes.
pub const POD_RANGES: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];
/// The ranges of LoadBalancer and external addresses.
pub const EXTERNAL_RANGES: [&str; 2] = ["203.0.113.0/24", "2001:db8:113::/64"];
/// The client outside the cluster.
pub const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 2)),
];

/// An address family, with the addresses that the flows use.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Ip {
    /// Both, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of Tandem's table, as nft names it.
    pub fn table(self) -> &'static str {
        self.of(["ip", "ip6"])
    }

    /// The one of a pair, IPv4 first, that belongs to this family.
    pub fn of<T>(self, pair: [T; 2]) -> T {
        let [v4, v6] = pair;
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// A ClusterIP: 10.96.0.N, fd00:10:96::N with N in hexadecimal.
    pub fn cluster_ip(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 96, 0, number).into(),
            Self::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// An address outside the cluster that leads to it: 203.0.113.N, 2001:db8:113::N with N in hexadecimal.
    pub fn external_ip(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(203, 0, 113, number).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// External addresses of both families, as a Service lists them.
    pub fn external_ips(number: u8) -> [String; 2] {
        Self::BOTH.map(|family| family.external_ip(number).to_string())
    }
}

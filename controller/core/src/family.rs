//! The two address families as types. All code for one family is generic over [`Family`], so that an IPv6 address
//! cannot reach an IPv4 table.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An address family as a value, for logs, labels and choices made at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl IpFamily {
    /// The family of an address.
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl Display for IpFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Some of the two families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// Whether IPv4 is among them.
    pub v4: bool,
    /// Whether IPv6 is among them.
    pub v6: bool,
}

impl Families {
    /// Both families.
    pub const BOTH: Self = Self { v4: true, v6: true };
    /// No family.
    pub const NONE: Self = Self { v4: false, v6: false };

    /// Only this family.
    pub fn only(family: IpFamily) -> Self {
        Self {
            v4: family == IpFamily::V4,
            v6: family == IpFamily::V6,
        }
    }

    /// Whether this family is among them.
    pub fn contains(self, family: IpFamily) -> bool {
        match family {
            IpFamily::V4 => self.v4,
            IpFamily::V6 => self.v6,
        }
    }

    /// Whether at least one family is among them.
    pub fn any(self) -> bool {
        self.v4 || self.v6
    }

    /// The families in at least one of the two values.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self {
            v4: self.v4 || others.v4,
            v6: self.v6 || others.v6,
        }
    }
}

/// An address family as a type: [`V4`] or [`V6`].
pub trait Family: Copy + Debug + Default + Eq + Hash + Ord + Send + Sync + 'static {
    /// An address.
    type Addr: Copy + Debug + Display + Eq + Hash + Ord + Send + Sync + Into<IpAddr>;
    /// A range of addresses.
    type Net: Copy + Debug + Display + Eq + Hash + Ord + Send + Sync + Into<IpNet>;
    /// The family as a value.
    const FAMILY: IpFamily;
    /// The address, if it is of this family.
    fn addr(addr: IpAddr) -> Option<Self::Addr>;
    /// The range, if it is of this family.
    fn net(net: IpNet) -> Option<Self::Net>;
    /// The range that holds only this address.
    fn host(addr: Self::Addr) -> Self::Net;
    /// The bytes of an address in network order: 4 or 16.
    fn octets(addr: &Self::Addr) -> impl AsRef<[u8]>;
}

/// IPv4
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4;

/// IPv6
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6;

impl Family for V4 {
    type Addr = Ipv4Addr;
    type Net = Ipv4Net;
    const FAMILY: IpFamily = IpFamily::V4;

    fn addr(addr: IpAddr) -> Option<Ipv4Addr> {
        match addr {
            IpAddr::V4(addr) => Some(addr),
            IpAddr::V6(_) => None,
        }
    }

    fn net(net: IpNet) -> Option<Ipv4Net> {
        match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }

    fn host(addr: Ipv4Addr) -> Ipv4Net {
        Ipv4Net::from(addr)
    }

    fn octets(addr: &Ipv4Addr) -> impl AsRef<[u8]> {
        addr.octets()
    }
}

impl Family for V6 {
    type Addr = Ipv6Addr;
    type Net = Ipv6Net;
    const FAMILY: IpFamily = IpFamily::V6;

    fn addr(addr: IpAddr) -> Option<Ipv6Addr> {
        match addr {
            IpAddr::V6(addr) => Some(addr),
            IpAddr::V4(_) => None,
        }
    }

    fn net(net: IpNet) -> Option<Ipv6Net> {
        match net {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        }
    }

    fn host(addr: Ipv6Addr) -> Ipv6Net {
        Ipv6Net::from(addr)
    }

    fn octets(addr: &Ipv6Addr) -> impl AsRef<[u8]> {
        addr.octets()
    }
}

//! What the kernel is to hold for the pod network, one row at a time.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::carrier::Carrier;
use super::mac::Mac;
use crate::family::IpFamily;
use crate::node::InterfaceName;

/// A row. Everything that tells it from other rows is in its [`Key`]; what is left can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// The device of a carrier.
    Device(Device),
    /// An address on a carrier's device: the source of packets from the node to pods of other nodes.
    Address {
        /// The device.
        on: Carrier,
        /// The address, alone in its range.
        addr: IpAddr,
    },
    /// Behind which node a MAC address is.
    Fdb {
        /// The device.
        on: Carrier,
        /// The other node's device.
        mac: Mac,
        /// The other node.
        to: IpAddr,
    },
    /// Which MAC address the first address of another node's range has.
    Neighbour {
        /// The device.
        on: Carrier,
        /// The address.
        addr: IpAddr,
        /// The other node's device.
        mac: Mac,
    },
    /// How a range of another node is reached.
    Route {
        /// The range.
        to: IpNet,
        /// The way.
        hop: Hop,
    },
    /// Packets to pods that this node does not have are refused, and not sent out by the default route.
    Refused {
        /// This node's range.
        range: IpNet,
    },
    /// An address from which VXLAN is taken.
    Source(IpAddr),
}

/// The device of a carrier, as it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is for.
    pub carrier: Carrier,
    /// Its name.
    pub name: InterfaceName,
    /// The number of the network.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// Its address. It is in the message that makes the device, so that udev leaves it alone.
    pub mac: Mac,
    /// The largest packet of a pod that goes by it.
    pub mtu: u32,
    /// The node's own outer address.
    pub local: IpAddr,
    /// The device below it.
    pub link: InterfaceName,
}

impl Device {
    /// Whether a device of this kind becomes the other one by a message, and keeps every row. Otherwise it is made anew.
    pub fn can_become(&self, other: &Self) -> bool {
        (self.carrier, self.name, self.vni, self.port) == (other.carrier, other.name, other.vni, other.port)
    }
}

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Over a carrier's device, to the address that its neighbour entry is for.
    Over(Carrier, IpAddr),
    /// To a node on this node's own link.
    Direct(InterfaceName, IpAddr),
}

/// What tells rows from each other, in the order in which they are added: nothing leads to what is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A device.
    Device(Carrier),
    /// An address of a device.
    Address(Carrier, IpAddr),
    /// An address that VXLAN is taken from.
    Source(IpAddr),
    /// An FDB entry.
    Fdb(Carrier, Mac),
    /// A neighbour.
    Neighbour(Carrier, IpAddr),
    /// A route to a range of another node.
    Route(IpNet),
    /// The refusal of a range of this node.
    Refused(IpNet),
}

impl Row {
    /// What tells it from other rows.
    pub fn key(&self) -> Key {
        match self {
            Self::Device(device) => Key::Device(device.carrier),
            Self::Address { on, addr } => Key::Address(*on, *addr),
            Self::Fdb { on, mac, .. } => Key::Fdb(*on, *mac),
            Self::Neighbour { on, addr, .. } => Key::Neighbour(*on, *addr),
            Self::Route { to, .. } => Key::Route(*to),
            Self::Refused { range } => Key::Refused(*range),
            Self::Source(addr) => Key::Source(*addr),
        }
    }

    /// On which carrier's device it stands. It goes when that device goes.
    pub fn stands_on(&self) -> Option<Carrier> {
        match self {
            Self::Address { on, .. }
            | Self::Fdb { on, .. }
            | Self::Neighbour { on, .. }
            | Self::Route {
                hop: Hop::Over(on, _), ..
            } => Some(*on),
            Self::Device(_) | Self::Route { .. } | Self::Refused { .. } | Self::Source(_) => None,
        }
    }
}

/// The row as `ip` and `bridge` have it.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => {
                let Device {
                    name,
                    vni,
                    port,
                    mac,
                    mtu,
                    local,
                    link,
                    ..
                } = device;
                write!(
                    f,
                    "link {name} address {mac} mtu {mtu} type vxlan id {vni} local {local} dev {link} dstport {port} nolearning"
                )
            }
            Self::Address { on, addr } => write!(f, "addr {} {on}", IpNet::from(*addr)),
            Self::Fdb { on, mac, to } => write!(f, "fdb {mac} {on} dst {to} self permanent"),
            Self::Neighbour { on, addr, mac } => write!(f, "neigh {addr} {on} lladdr {mac} PERMANENT"),
            Self::Route { to, hop } => match hop {
                Hop::Over(on, via) => write!(f, "route {to} via {via} {on} onlink"),
                Hop::Direct(link, via) => write!(f, "route {to} via {via} dev {link}"),
            },
            Self::Refused { range } => write!(f, "route unreachable {range}"),
            Self::Source(addr) => write!(f, "source {addr}"),
        }
    }
}

/// The family of the addresses inside: that of pods.
pub fn family(net: IpNet) -> IpFamily {
    IpFamily::of(net.addr())
}

//! What is known of the devices of this node.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use tandem_core::node::InterfaceName;

use crate::net::{Attached, Vlan};

/// The devices of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// All of them.
    pub devices: Vec<DeviceFacts>,
    /// The indices of those that a default route of either family leaves by, in whatever routing table.
    pub default_routes: BTreeSet<u32>,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its index.
    pub index: u32,
    /// Its name. None if Tandem cannot use the name. Such a device is never chosen, but others may stand on it, and it may
    /// stand on others.
    pub name: Option<InterfaceName>,
    /// The kind of a virtual device. None for hardware and `lo`.
    pub kind: Option<String>,
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// The largest packet.
    pub mtu: u32,
    /// Whether the administrator has switched it on.
    pub up: bool,
    /// What sort of device it is (`ARPHRD_…`).
    pub hardware: u16,
    /// The device that it belongs to: a bridge, a bond.
    pub master: Option<u32>,
    /// The device that it stands on.
    pub carrier: Option<u32>,
    /// The tag of a VLAN device.
    pub vlan: Option<Vlan>,
    /// The XDP program on it.
    pub attached: Option<Attached>,
    /// Whether it takes VLAN tags out of received packets. It is only asked where VLANs stand on it, or on the device that
    /// it belongs to.
    pub strips_vlan_tags: bool,
    /// Its addresses that packets may have as their source, the best first.
    pub v4: Vec<Ipv4Addr>,
    /// The same for IPv6.
    pub v6: Vec<Ipv6Addr>,
}

/// The best source addresses of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// For IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Facts {
    /// The device with this index.
    pub fn device(&self, index: u32) -> Option<&DeviceFacts> {
        self.devices.iter().find(|device| device.index == index)
    }

    /// The VLAN devices that stand on a device and have tags of 802.1Q.
    pub fn vlans_on(&self, index: u32) -> impl Iterator<Item = &DeviceFacts> {
        let inner = |device: &DeviceFacts| device.vlan.is_some_and(|vlan| !vlan.outer);
        let on_it = move |device: &&DeviceFacts| device.carrier == Some(index) && inner(device);
        self.devices.iter().filter(on_it)
    }

    /// The devices that belong to a device.
    pub fn members_of(&self, index: u32) -> impl Iterator<Item = &DeviceFacts> {
        self.devices.iter().filter(move |device| device.master == Some(index))
    }

    /// What to call the device with this index.
    pub fn name_of(&self, index: u32) -> String {
        let name = self.device(index).and_then(|device| device.name);
        name.map_or_else(|| format!("device {index}"), |name| name.to_string())
    }
}

impl DeviceFacts {
    /// Its best source addresses.
    pub fn sources(&self) -> Sources {
        Sources {
            v4: self.v4.first().copied(),
            v6: self.v6.first().copied(),
        }
    }

    /// Whether it has an address by which others may know it: not loopback, not link-local.
    pub fn has_global_address(&self) -> bool {
        let v4 = self.v4.iter().any(|addr| !addr.is_loopback() && !addr.is_link_local());
        let v6 = self
            .v6
            .iter()
            .any(|addr| !addr.is_loopback() && !addr.is_unicast_link_local());
        v4 || v6
    }

    /// Whether it is made of other devices, which give it what they receive.
    pub fn is_bond(&self) -> bool {
        matches!(self.kind(), "bond" | "team")
    }

    /// Its kind, or nothing for hardware and `lo`.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or_default()
    }
}

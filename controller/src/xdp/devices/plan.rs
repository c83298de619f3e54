//! What each device is used for, or why it is not.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tandem_core::node::InterfaceName;
use tandem_xdp::{DeviceNumber, IngressWord};

use super::facts::{DeviceFacts, Facts, Sources};
use super::pattern::DevicePattern;
use super::why::Why;
use crate::net::Link;

/// How many devices and VLANs there may be: one for each number.
const MOST: usize = DeviceNumber::COUNT as usize - 1;

/// What the devices are used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The devices that are used, and those of which somebody wants to know why they are not. Sorted by index.
    pub devices: Vec<Planned>,
    /// The patterns by which none of them came ([`Why::unmatched`]).
    pub unmatched: Vec<DevicePattern>,
}

/// A device, and what it is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: InterfaceName,
    /// What it is used for.
    pub usage: Use,
}

/// What a device is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// The program is attached, and packets may leave by it.
    Attach {
        /// Its MAC address.
        mac: [u8; 6],
        /// The largest packet, as far as a packet can be large.
        mtu: u16,
        /// Whether a packet may leave by the way it came (`XDP_TX`). Only hardware sends such packets at once: veth lets
        /// them wait, and a bond has no rings.
        native_return: bool,
        /// Its source addresses.
        sources: Sources,
    },
    /// Packets may leave by a VLAN on an attached device.
    WayOut {
        /// The index of the attached device.
        carrier: u32,
        /// The number of the VLAN.
        vlan: u16,
        /// The MAC address of the VLAN device.
        mac: [u8; 6],
        /// The largest packet of the VLAN device.
        mtu: u16,
        /// The source addresses of the VLAN device.
        sources: Sources,
    },
    /// It is not used.
    Refused(Why),
}

/// How much a pattern wants a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// It wants those of many devices that can be used.
    Loosely,
    /// It wants this one. If it cannot be, somebody wants to know why.
    Expressly,
}

/// Says what each device is used for. `ours` tells whether an XDP program of this number is Tandem's.
///
/// If there are more devices than numbers, those with the lowest index are used, and VLANs come last. A VLAN device on a
/// VLAN device and one with other tags than those of 802.1Q are no ways out: their packets are left to nftables.
pub fn plan(patterns: &[DevicePattern], facts: &Facts, ours: impl Fn(u32) -> bool) -> Plan {
    let mut found: Vec<(&DeviceFacts, InterfaceName)> = facts
        .devices
        .iter()
        .filter_map(|device| Some((device, device.name?)))
        .collect();
    found.sort_by_key(|(device, _)| device.index);
    let asked = |device: &DeviceFacts| patterns.iter().filter_map(|pattern| asks(pattern, device, facts)).max();
    let mut uses = BTreeMap::new();
    let mut taken = Taken::default();
    for (device, name) in found.iter().filter(|(device, _)| !is_vlan(device)) {
        let Some(asked) = asked(device) else { continue };
        let judged = judge(device, facts, &ours).and_then(|mac| taken.attach(device, facts).map(|()| mac));
        let usage = match judged {
            Ok(mac) => Use::Attach {
                mac,
                mtu: mtu(device),
                native_return: device.kind.is_none(),
                sources: device.sources(),
            },
            Err(why) if asked == Asked::Loosely && why.goes_without_saying() => continue,
            Err(why) => Use::Refused(why),
        };
        uses.insert(device.index, (*name, usage));
    }
    for (device, name) in found.iter().filter(|(device, _)| is_vlan(device)) {
        let usage = match way_out(device, facts, &mut taken) {
            Ok(usage) => usage,
            // Nobody has to name a way out. So if there is no number left for one, it is said in any case.
            Err(why) if why != Why::TooMany && asked(device) != Some(Asked::Expressly) => continue,
            Err(why) => Use::Refused(why),
        };
        uses.insert(device.index, (*name, usage));
    }
    let listed = |pattern: &DevicePattern| {
        let mut devices = facts.devices.iter().filter(|device| uses.contains_key(&device.index));
        devices.any(|device| asks(pattern, device, facts).is_some())
    };
    Plan {
        unmatched: patterns.iter().filter(|pattern| !listed(pattern)).cloned().collect(),
        devices: uses
            .into_iter()
            .map(|(index, (name, usage))| Planned { index, name, usage })
            .collect(),
    }
}

/// The numbers and places that are taken.
#[derive(Default)]
struct Taken {
    /// The attached devices by the place of their word.
    places: BTreeMap<u32, u32>,
    vlans: usize,
}

impl Taken {
    fn attach(&mut self, device: &DeviceFacts, facts: &Facts) -> Result<(), Why> {
        let place = IngressWord::place(device.index);
        if let Some(other) = self.places.get(&place) {
            let with = facts.name_of(*other);
            return Err(Why::Collides { with });
        }
        if self.places.len() + self.vlans >= MOST {
            return Err(Why::TooMany);
        }
        self.places.insert(place, device.index);
        Ok(())
    }

    fn is_attached(&self, index: u32) -> bool {
        self.places.get(&IngressWord::place(index)) == Some(&index)
    }
}

/// Whether a pattern wants a device.
fn asks(pattern: &DevicePattern, device: &DeviceFacts, facts: &Facts) -> Option<Asked> {
    let name = device.name?;
    let (wants, how) = match pattern {
        DevicePattern::Name(wanted) => (*wanted == name, Asked::Expressly),
        DevicePattern::Glob(glob) => (glob.matches(&name) && !is_of_a_pod(device), Asked::Loosely),
        DevicePattern::DefaultRoute => (facts.default_routes.contains(&device.index), Asked::Expressly),
        DevicePattern::Auto => (is_outward(device, facts), Asked::Loosely),
    };
    wants.then_some(how)
}

/// Whether it looks like the cable of a pod: the node itself has no address on it. A node that is a container has its
/// address on a veth device, too.
fn is_of_a_pod(device: &DeviceFacts) -> bool {
    device.kind() == "veth" && !device.has_global_address()
}

/// Whether packets from outside may come by a device.
fn is_outward(device: &DeviceFacts, facts: &Facts) -> bool {
    matches!(device.kind(), "" | "bond")
        && device.hardware == Link::ETHERNET
        && device.up
        && (device.has_global_address() || facts.vlans_on(device.index).any(DeviceFacts::has_global_address))
}

fn is_vlan(device: &DeviceFacts) -> bool {
    device.vlan.is_some() || device.kind() == "vlan"
}

/// The MAC address of a device that can be used, whatever the others are.
fn judge(device: &DeviceFacts, facts: &Facts, ours: impl Fn(u32) -> bool) -> Result<[u8; 6], Why> {
    if device.hardware == Link::LOOPBACK {
        return Err(Why::Loopback);
    }
    // Kinds that nobody has thought of are left alone. A dummy device takes a program in the kernel's general code, if
    // at all; the kernel says so. A tun device is a tunnel unless it carries Ethernet.
    let suited = match device.kind() {
        "" | "veth" | "dummy" => true,
        "tun" => device.hardware == Link::ETHERNET,
        _ => device.is_bond(),
    };
    if !suited {
        let kind = device.kind().to_owned();
        return Err(Why::Unsuited { kind });
    }
    let hardware = device.hardware;
    if hardware != Link::ETHERNET {
        return Err(Why::NoEthernet { hardware });
    }
    let mac = stands_alone(device, facts)?;
    if let Some(device) = stripping(device, facts) {
        return Err(Why::StripsTags { device });
    }
    match device.attached {
        Some(other) if !ours(other.program) => Err(Why::Foreign { program: other.program }),
        _ => Ok(mac),
    }
}

/// The MAC address of a device that is up and belongs to no other one.
fn stands_alone(device: &DeviceFacts, facts: &Facts) -> Result<[u8; 6], Why> {
    if let Some(master) = device.master {
        let name = facts.name_of(master);
        match facts.device(master) {
            Some(master) if master.is_bond() => return Err(Why::Member { bond: name }),
            // It chooses another routing table for the packets, and changes nothing else.
            Some(master) if master.kind() == "vrf" => {}
            // Open vSwitch learns, too. A master that nobody knows may be a bridge.
            _ => return Err(Why::Port { bridge: name }),
        }
    }
    let mac = device.mac.filter(|mac| *mac != [0; 6]).ok_or(Why::NoMac)?;
    if device.up { Ok(mac) } else { Err(Why::Down) }
}

/// Who takes tags away that somebody needs. The program on a bond gets what its members received, so their hardware
/// counts, and not what the bond says.
fn stripping(device: &DeviceFacts, facts: &Facts) -> Option<String> {
    facts.vlans_on(device.index).next()?;
    let strips = if device.is_bond() {
        facts.members_of(device.index).find(|member| member.strips_vlan_tags)
    } else {
        Some(device).filter(|device| device.strips_vlan_tags)
    };
    strips.map(|device| facts.name_of(device.index))
}

fn way_out(device: &DeviceFacts, facts: &Facts, taken: &mut Taken) -> Result<Use, Why> {
    let attached = device.carrier.filter(|carrier| taken.is_attached(*carrier));
    let Some(carrier) = attached else {
        let carrier = device.carrier.map(|carrier| facts.name_of(carrier));
        return Err(Why::Vlan { carrier });
    };
    // Number 0 is a priority without a VLAN. It would be taken for the carrier itself.
    let inner = device.vlan.filter(|vlan| !vlan.outer && vlan.id != 0);
    let vlan = inner.ok_or(Why::OtherTags)?.id;
    let mac = stands_alone(device, facts)?;
    if taken.places.len() + taken.vlans >= MOST {
        return Err(Why::TooMany);
    }
    taken.vlans += 1;
    Ok(Use::WayOut {
        carrier,
        vlan,
        mac,
        mtu: mtu(device),
        sources: device.sources(),
    })
}

fn mtu(device: &DeviceFacts) -> u16 {
    u16::try_from(device.mtu).unwrap_or(u16::MAX)
}

//! Reads the devices of this node.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;

use tandem_core::family::IpFamily;
use tandem_core::node::InterfaceName;

use super::facts::{DeviceFacts, Facts};
use crate::net::offload::strips_vlan_tags;
use crate::net::{Addresses, DefaultRoute, Link, Links, Mac, NetError, Routes, Rtnetlink, Scope, StatedAddress};

/// Reads the devices of the network namespace of this thread.
pub fn read(kernel: &mut Rtnetlink) -> Result<Facts, NetError> {
    let links = kernel.list::<Link>(&Links)?;
    let addresses = kernel.list::<StatedAddress>(&Addresses::default())?;
    let mut default_routes = BTreeSet::new();
    for family in [IpFamily::V4, IpFamily::V6] {
        let all = Routes {
            family,
            table: None,
            link: None,
        };
        let routes = kernel.list::<DefaultRoute>(&all)?;
        default_routes.extend(routes.into_iter().flat_map(|route| route.links));
    }
    let mut facts = Facts {
        devices: with_addresses(links, addresses),
        default_routes,
    };
    ask_for_stripping(&mut facts, strips_vlan_tags)?;
    Ok(facts)
}

fn with_addresses(links: Vec<Link>, mut addresses: Vec<StatedAddress>) -> Vec<DeviceFacts> {
    // The order is the kernel's otherwise.
    addresses.sort_by_key(|found| found.secondary);
    let mut devices: Vec<DeviceFacts> = links.into_iter().map(device).collect();
    let places = devices.iter().enumerate().map(|(place, device)| (device.index, place));
    let places: HashMap<u32, usize> = places.collect();
    for found in addresses.iter().filter(|found| found.usable) {
        // A device may have come between the two readings. The next reading has it.
        let Some(place) = places.get(&found.address.link) else {
            continue;
        };
        match found.address.address.addr() {
            _ if found.address.scope != Scope::UNIVERSE => {}
            IpAddr::V4(addr) => devices[*place].v4.push(addr),
            IpAddr::V6(addr) => devices[*place].v6.push(addr),
        }
    }
    devices
}

fn device(link: Link) -> DeviceFacts {
    DeviceFacts {
        index: link.index,
        name: link.name,
        kind: link.kind,
        mac: link.mac.map(|Mac(bytes)| bytes),
        mtu: link.mtu,
        up: link.up,
        hardware: link.hardware,
        master: link.master,
        carrier: link.carrier,
        vlan: link.vlan,
        attached: link.attached,
        ..DeviceFacts::default()
    }
}

/// Asks the devices that VLANs stand on, and the members of bonds that VLANs stand on. There may be hundreds of other
/// devices, and nobody wants to know it of them.
fn ask_for_stripping(facts: &mut Facts, ask: impl Fn(&InterfaceName) -> io::Result<bool>) -> Result<(), NetError> {
    let vlans = facts.devices.iter().filter(|device| device.vlan.is_some());
    let carriers: BTreeSet<u32> = vlans.filter_map(|device| device.carrier).collect();
    let bonds = facts.devices.iter().filter(|device| device.is_bond());
    let bonds: BTreeSet<u32> = bonds
        .map(|bond| bond.index)
        .filter(|index| carriers.contains(index))
        .collect();
    for device in &mut facts.devices {
        let in_bond = device.master.is_some_and(|master| bonds.contains(&master));
        if !in_bond && !carriers.contains(&device.index) {
            continue;
        }
        device.strips_vlan_tags = match device.name.map(|name| ask(&name)) {
            Some(Ok(answer)) => answer,
            // It has gone meanwhile.
            Some(Err(error)) if error.raw_os_error() == Some(libc::ENODEV) => false,
            Some(Err(source)) => {
                let what = "what devices do to VLAN tags";
                return Err(NetError::Read { what, source });
            }
            // It cannot be asked. Most devices do.
            None => true,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Address, Vlan};

    fn name(text: &str) -> Option<InterfaceName> {
        InterfaceName::parse(text).ok()
    }

    #[test]
    fn usable_global_addresses_are_kept_and_first_ones_come_first() {
        let link = |index| Link {
            index,
            name: name("eth0"),
            ..Link::default()
        };
        let found = |link, address: &str, scope, usable, secondary| StatedAddress {
            address: Address {
                link,
                address: address.parse().unwrap(),
                peer: None,
                scope,
            },
            usable,
            secondary,
        };
        let host = Scope::HOST;
        let all = Scope::UNIVERSE;
        let devices = with_addresses(
            vec![link(2), link(3)],
            vec![
                found(3, "192.0.2.2/24", all, true, true),
                found(3, "192.0.2.1/24", all, true, false),
                found(3, "192.0.2.3/24", host, true, false),
                found(3, "2001:db8::3/64", all, false, false),
                found(3, "2001:db8::2/64", all, true, true),
                found(3, "2001:db8::1/64", all, true, false),
                found(3, "fe80::1/64", Scope::LINK, true, false),
                found(9, "192.0.2.9/24", all, true, false),
            ],
        );
        assert_eq!((devices[0].v4.len(), devices[0].v6.len()), (0, 0));
        assert_eq!(
            devices[1].v4,
            ["192.0.2.1", "192.0.2.2"].map(|addr| addr.parse::<std::net::Ipv4Addr>().unwrap())
        );
        assert_eq!(
            devices[1].v6,
            ["2001:db8::1", "2001:db8::2"].map(|addr| addr.parse::<std::net::Ipv6Addr>().unwrap())
        );
    }

    #[test]
    fn only_devices_below_vlans_are_asked_for_stripping() {
        let device = |index, text: &str| DeviceFacts {
            index,
            name: name(text),
            ..DeviceFacts::default()
        };
        let vlan = |index, carrier| DeviceFacts {
            carrier: Some(carrier),
            vlan: Some(Vlan { id: 5, outer: false }),
            ..device(index, "vlan")
        };
        let member = |index, text, master| DeviceFacts {
            master: Some(master),
            ..device(index, text)
        };
        let of_kind = |kind: &str, device: DeviceFacts| DeviceFacts {
            kind: Some(kind.to_owned()),
            ..device
        };
        let mut facts = Facts {
            devices: vec![
                device(2, "below"),
                device(3, "alone"),
                of_kind("bond", device(4, "bond0")),
                member(5, "in-bond", 4),
                of_kind("bridge", device(6, "br0")),
                member(7, "port", 6),
                device(8, "gone"),
                member(9, "bad name", 4),
                vlan(10, 2),
                vlan(11, 4),
                vlan(12, 6),
                vlan(13, 8),
            ],
            ..Facts::default()
        };
        let asked = std::cell::RefCell::new(Vec::new());
        let ask = |name: &InterfaceName| {
            asked.borrow_mut().push(name.to_string());
            match name.as_str() {
                "gone" => Err(io::Error::from_raw_os_error(libc::ENODEV)),
                name => Ok(name != "br0"),
            }
        };
        ask_for_stripping(&mut facts, ask).unwrap();
        assert_eq!(asked.take(), ["below", "bond0", "in-bond", "br0", "gone"]);
        let strip = facts.devices.iter().filter(|device| device.strips_vlan_tags);
        assert_eq!(strip.map(|device| device.index).collect::<Vec<_>>(), [2, 4, 5, 9]);
        let refuse = |_: &InterfaceName| Err(io::Error::from_raw_os_error(libc::EPERM));
        let error = ask_for_stripping(&mut facts, refuse).unwrap_err().to_string();
        assert!(error.starts_with("cannot read what devices do to VLAN tags"), "{error}");
    }
}

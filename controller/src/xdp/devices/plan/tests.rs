mod refusals;

use super::*;
use crate::net::{AttachMode, Attached, Vlan};

/// The program that is Tandem's.
const OURS: u32 = 100;

fn name(text: &str) -> InterfaceName {
    InterfaceName::parse(text).unwrap()
}

fn patterns(texts: &[&str]) -> Vec<DevicePattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Hardware that can be used.
fn hardware(index: u32, text: &str) -> DeviceFacts {
    let [.., low] = index.to_be_bytes();
    DeviceFacts {
        index,
        name: Some(name(text)),
        mac: Some([2, 0, 0, 0, 0, low]),
        mtu: 1500,
        up: true,
        hardware: Link::ETHERNET,
        v4: vec![[192, 0, 2, low].into()],
        ..DeviceFacts::default()
    }
}

fn of_kind(kind: &str, device: DeviceFacts) -> DeviceFacts {
    DeviceFacts {
        kind: Some(kind.to_owned()),
        ..device
    }
}

fn belongs(master: u32, device: DeviceFacts) -> DeviceFacts {
    DeviceFacts {
        master: Some(master),
        ..device
    }
}

fn without_address(device: DeviceFacts) -> DeviceFacts {
    DeviceFacts {
        v4: Vec::new(),
        v6: Vec::new(),
        ..device
    }
}

fn strips(device: DeviceFacts) -> DeviceFacts {
    DeviceFacts {
        strips_vlan_tags: true,
        ..device
    }
}

fn with_program(program: u32, device: DeviceFacts) -> DeviceFacts {
    let mode = AttachMode::Native;
    DeviceFacts {
        attached: Some(Attached { program, mode }),
        ..device
    }
}

/// A VLAN device on the device `carrier`.
fn vlan(index: u32, text: &str, carrier: u32, id: u16) -> DeviceFacts {
    DeviceFacts {
        carrier: Some(carrier),
        vlan: Some(Vlan { id, outer: false }),
        ..of_kind("vlan", hardware(index, text))
    }
}

fn loopback() -> DeviceFacts {
    DeviceFacts {
        hardware: Link::LOOPBACK,
        mac: Some([0; 6]),
        mtu: 65536,
        ..hardware(1, "lo")
    }
}

fn facts(devices: Vec<DeviceFacts>) -> Facts {
    Facts {
        devices,
        ..Facts::default()
    }
}

/// Plans, and says in short what each device is used for.
fn said(texts: &[&str], facts: &Facts) -> Vec<String> {
    let plan = plan(&patterns(texts), facts, |program| program == OURS);
    let devices = plan.devices.iter().map(|planned| match &planned.usage {
        Use::Attach { native_return, .. } => {
            format!("{} attach{}", planned.name, if *native_return { " tx" } else { "" })
        }
        Use::WayOut { carrier, vlan, .. } => format!("{} out by {carrier}.{vlan}", planned.name),
        Use::Refused(why) => format!("{}: {why}", planned.name),
    });
    let unmatched = plan.unmatched.iter();
    let unmatched = unmatched.map(|pattern| format!("{pattern}: {}", Why::unmatched(pattern)));
    devices.chain(unmatched).collect()
}

#[test]
fn hardware_is_attached_with_all_that_programs_need() {
    let mut eth0 = hardware(2, "eth0");
    eth0.v4.push([192, 0, 2, 99].into());
    eth0.v6.push("2001:db8::2".parse().unwrap());
    let found = plan(&patterns(&["eth0"]), &facts(vec![loopback(), eth0]), |_| false);
    let usage = Use::Attach {
        mac: [2, 0, 0, 0, 0, 2],
        mtu: 1500,
        native_return: true,
        sources: Sources {
            v4: "192.0.2.2".parse().ok(),
            v6: "2001:db8::2".parse().ok(),
        },
    };
    let eth0 = Planned {
        index: 2,
        name: name("eth0"),
        usage,
    };
    assert_eq!(
        found,
        Plan {
            devices: vec![eth0],
            unmatched: vec![]
        }
    );
}

#[test]
fn only_hardware_returns_packets_by_the_way_they_came() {
    let devices = vec![
        hardware(2, "eth0"),
        of_kind("veth", hardware(3, "eth1")),
        of_kind("bond", hardware(4, "bond0")),
        of_kind("team", hardware(5, "team0")),
        of_kind("dummy", hardware(6, "d0")),
        of_kind("tun", hardware(7, "tap0")),
        with_program(OURS, hardware(8, "eth2")),
        belongs(11, hardware(9, "in-vrf")),
        of_kind("vrf", hardware(11, "blue")),
    ];
    let names = ["eth0", "eth1", "bond0", "team0", "d0", "tap0", "eth2", "in-vrf"];
    let expected = [
        "eth0 attach tx",
        "eth1 attach",
        "bond0 attach",
        "team0 attach",
        "d0 attach",
        "tap0 attach",
        "eth2 attach tx",
        "in-vrf attach tx",
    ];
    assert_eq!(said(&names, &facts(devices)), expected);
}

#[test]
fn a_packet_can_be_no_larger_than_its_length_says() {
    let large = DeviceFacts {
        mtu: 100_000,
        ..of_kind("dummy", hardware(2, "d0"))
    };
    let found = plan(&patterns(&["d0"]), &facts(vec![large]), |_| false);
    assert!(matches!(found.devices[0].usage, Use::Attach { mtu: u16::MAX, .. }));
}

#[test]
fn what_no_device_is_there_for_is_said() {
    let expected = [
        "eth0: there is no device of this name",
        "e*: no device that can be used has such a name",
        "default-route: no default route leaves by a device: name the devices",
        "auto: no Ethernet device or bond is up and has a global address, or a VLAN with one: name the devices",
    ];
    let nameless = DeviceFacts {
        name: None,
        ..hardware(2, "eth0")
    };
    let mut found = facts(vec![loopback(), nameless]);
    assert_eq!(said(&["eth0", "e*", "default-route", "auto"], &found), expected);
    found.default_routes.insert(2);
    assert_eq!(said(&["default-route"], &found), expected[2..3]);
    assert_eq!(said(&[], &found), [""; 0]);
}

#[test]
fn auto_takes_what_packets_from_outside_may_come_by_and_no_more() {
    let global_v6 = DeviceFacts {
        v6: vec!["2001:db8::1".parse().unwrap()],
        ..without_address(hardware(3, "six"))
    };
    let local = DeviceFacts {
        v4: vec![[169, 254, 0, 1].into(), [127, 0, 0, 9].into()],
        v6: vec!["fe80::1".parse().unwrap()],
        ..hardware(4, "local")
    };
    let devices = vec![
        loopback(),
        hardware(2, "eth0"),
        global_v6,
        local,
        without_address(hardware(5, "idle")),
        without_address(hardware(6, "trunk")),
        vlan(7, "trunk.5", 6, 5),
        DeviceFacts {
            up: false,
            ..hardware(8, "down")
        },
        of_kind("veth", hardware(9, "veth1")),
        of_kind("bond", hardware(10, "bond0")),
        belongs(10, hardware(11, "member")),
        belongs(13, hardware(12, "port")),
        of_kind("bridge", hardware(13, "br0")),
        of_kind("dummy", hardware(14, "dummy0")),
        of_kind("wireguard", hardware(15, "wg0")),
        DeviceFacts {
            hardware: 32,
            ..hardware(16, "ib0")
        },
        with_program(7, hardware(17, "other")),
    ];
    let expected = [
        "eth0 attach tx",
        "six attach tx",
        "trunk attach tx",
        "trunk.5 out by 6.5",
        "bond0 attach",
        "other: another XDP program is attached (number 7): detach it, or do not name this device",
    ];
    assert_eq!(said(&["auto"], &facts(devices)), expected);
}

#[test]
fn a_star_leaves_out_the_cables_of_pods() {
    let devices = vec![
        of_kind("veth", hardware(2, "eth0")),
        without_address(of_kind("veth", hardware(3, "veth1"))),
        without_address(hardware(4, "eth1")),
    ];
    let found = facts(devices);
    assert_eq!(said(&["*"], &found), ["eth0 attach", "eth1 attach tx"]);
    assert_eq!(said(&["veth1"], &found), ["veth1 attach"]);
}

#[test]
fn a_device_of_several_patterns_is_there_once() {
    let mut found = facts(vec![hardware(2, "eth0"), vlan(3, "eth0.5", 2, 5)]);
    found.default_routes.insert(2);
    let expected = ["eth0 attach tx", "eth0.5 out by 2.5"];
    let all = ["eth0", "eth0", "e*", "default-route", "auto", "eth0.5", "*.5"];
    assert_eq!(said(&all, &found), expected);
}

#[test]
fn vlans_on_attached_devices_are_ways_out_and_others_are_not() {
    let outer = DeviceFacts {
        vlan: Some(Vlan { id: 7, outer: true }),
        ..vlan(7, "outer", 2, 7)
    };
    let devices = vec![
        hardware(2, "eth0"),
        hardware(3, "eth1"),
        vlan(4, "v5", 2, 5),
        vlan(5, "stacked", 4, 6),
        vlan(6, "elsewhere", 3, 5),
        outer,
        vlan(8, "priority", 2, 0),
        DeviceFacts {
            up: false,
            ..vlan(9, "down", 2, 9)
        },
        belongs(20, vlan(10, "port", 2, 10)),
        DeviceFacts {
            name: None,
            ..vlan(11, "nameless", 2, 11)
        },
        of_kind("bridge", hardware(20, "br0")),
        of_kind(
            "macvlan",
            DeviceFacts {
                carrier: Some(2),
                ..hardware(12, "mac0")
            },
        ),
    ];
    let found = facts(devices);
    assert_eq!(said(&["eth0"], &found), ["eth0 attach tx", "v5 out by 2.5"]);
    let named = ["eth0", "stacked", "outer", "priority", "down", "port"];
    let expected = [
        "eth0 attach tx",
        "v5 out by 2.5",
        "stacked: is a VLAN device: name its carrier v5 instead; packets leave by it if v5 is used",
        "outer: is a VLAN device whose tags are not those of 802.1Q: nftables serves its packets",
        "priority: is a VLAN device whose tags are not those of 802.1Q: nftables serves its packets",
        "down: is down: switch it on",
        "port: is a port of the bridge br0: the bridge would learn the marks' MAC addresses; nftables serves its packets",
    ];
    assert_eq!(said(&named, &found), expected);
}

#[test]
fn a_way_out_has_the_facts_of_the_vlan_device() {
    let own = DeviceFacts {
        mac: Some([2, 0, 0, 0, 0, 77]),
        mtu: 1400,
        ..vlan(4, "v5", 2, 5)
    };
    let found = plan(&patterns(&["eth0"]), &facts(vec![own, hardware(2, "eth0")]), |_| false);
    let expected = Use::WayOut {
        carrier: 2,
        vlan: 5,
        mac: [2, 0, 0, 0, 0, 77],
        mtu: 1400,
        sources: Sources {
            v4: "192.0.2.4".parse().ok(),
            v6: None,
        },
    };
    assert_eq!((found.devices[1].index, &found.devices[1].usage), (4, &expected));
}

#[test]
fn tags_may_be_taken_away_where_nobody_needs_them() {
    let outer = DeviceFacts {
        vlan: Some(Vlan { id: 7, outer: true }),
        ..vlan(4, "outer", 2, 7)
    };
    let bond = strips(of_kind("bond", hardware(3, "bond0")));
    let member = belongs(3, hardware(5, "member"));
    let devices = vec![strips(hardware(2, "eth0")), outer, bond, member, vlan(6, "v5", 3, 5)];
    let expected = ["eth0 attach tx", "bond0 attach", "v5 out by 3.5"];
    assert_eq!(said(&["eth0", "bond0"], &facts(devices)), expected);
}

#[test]
fn of_two_devices_with_one_place_the_first_is_used() {
    let devices = vec![
        hardware(2 + 2 * IngressWord::COUNT, "far"),
        hardware(2, "near"),
        hardware(3, "next"),
    ];
    let expected = [
        "near attach tx",
        "next attach tx",
        "far: its index and that of near are a multiple of 1024 apart, so only one of them is used: make one of them anew",
    ];
    assert_eq!(said(&["*"], &facts(devices)), expected);
}

#[test]
fn there_are_as_many_ways_out_as_numbers() {
    let mut devices: Vec<DeviceFacts> = (2..64).map(|index| hardware(index, &format!("eth{index}"))).collect();
    devices.extend([vlan(70, "v1", 2, 1), vlan(71, "v2", 2, 2)]);
    let all = said(&["eth*"], &facts(devices.clone()));
    assert_eq!(all.len(), 64);
    assert_eq!(
        all[61..],
        [
            "eth63 attach tx",
            "v1 out by 2.1",
            "v2: 63 devices and VLANs are used already: name fewer"
        ]
    );
    devices.extend([hardware(64, "eth64"), hardware(65, "eth65")]);
    let all = said(&["eth*"], &facts(devices));
    let expected = [
        "eth64 attach tx",
        "eth65: 63 devices and VLANs are used already: name fewer",
        "v1: 63 devices and VLANs are used already: name fewer",
        "v2: 63 devices and VLANs are used already: name fewer",
    ];
    assert_eq!(all[62..], expected);
}

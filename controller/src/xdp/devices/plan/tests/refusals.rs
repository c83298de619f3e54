//! Each refusal once.

use super::*;

/// Devices of which the first is refused, the reason, and whether a `*` leaves it out without a word.
type Refusal = (Vec<DeviceFacts>, &'static str, bool);

/// What belongs to another device, or stands on one.
fn of_others() -> Vec<Refusal> {
    let bridge = || of_kind("bridge", hardware(8, "br0"));
    let bond = || of_kind("bond", hardware(9, "bond0"));
    vec![
        (
            vec![belongs(8, of_kind("veth", hardware(2, "x"))), bridge()],
            "is a port of the bridge br0: the bridge would learn the marks' MAC addresses; nftables serves its packets",
            true,
        ),
        (
            vec![
                belongs(8, hardware(2, "x")),
                of_kind("openvswitch", hardware(8, "ovs-system")),
            ],
            "is a port of the bridge ovs-system: the bridge would learn the marks' MAC addresses; nftables serves its packets",
            true,
        ),
        (
            vec![belongs(8, hardware(2, "x"))],
            "is a port of the bridge device 8: the bridge would learn the marks' MAC addresses; nftables serves its packets",
            true,
        ),
        (
            vec![belongs(9, hardware(2, "x")), bond()],
            "is a member of bond0: name bond0 instead",
            true,
        ),
        (
            vec![belongs(9, hardware(2, "x")), of_kind("team", hardware(9, "team0"))],
            "is a member of team0: name team0 instead",
            true,
        ),
        (
            vec![vlan(2, "x", 3, 5), hardware(3, "eth0")],
            "is a VLAN device: name its carrier eth0 instead; packets leave by it if eth0 is used",
            true,
        ),
        (
            vec![DeviceFacts {
                carrier: None,
                ..vlan(2, "x", 3, 5)
            }],
            "is a VLAN device, and its carrier is in another network namespace: nftables serves its packets",
            true,
        ),
        (
            vec![strips(hardware(2, "x")), vlan(3, "v5", 2, 5)],
            "VLAN devices stand on it and x takes their tags away: ethtool -K x rxvlan off",
            false,
        ),
        (
            vec![
                of_kind("bond", hardware(2, "x")),
                belongs(2, hardware(5, "eth0")),
                strips(belongs(2, hardware(6, "eth1"))),
                vlan(3, "v5", 2, 5),
            ],
            "VLAN devices stand on it and eth1 takes their tags away: ethtool -K eth1 rxvlan off",
            false,
        ),
    ]
}

/// What is so by itself.
fn by_themselves() -> Vec<Refusal> {
    let changed = |change: fn(&mut DeviceFacts)| {
        let mut device = hardware(2, "x");
        change(&mut device);
        vec![device]
    };
    let lo = DeviceFacts {
        name: Some(name("x")),
        ..loopback()
    };
    vec![
        (
            vec![lo],
            "is the loopback device: name those that packets from outside come by",
            true,
        ),
        (
            changed(|x| x.hardware = 32),
            "is no Ethernet device (hardware type 32): nftables serves its packets",
            false,
        ),
        (changed(|x| x.up = false), "is down: switch it on", false),
        (changed(|x| x.mac = None), "has no MAC address: give it one", false),
        (
            changed(|x| x.mac = Some([0; 6])),
            "has no MAC address: give it one",
            false,
        ),
        (
            vec![with_program(7, hardware(2, "x"))],
            "another XDP program is attached (number 7): detach it, or do not name this device",
            false,
        ),
    ]
}

fn of_kinds() -> Vec<Refusal> {
    let kinds = [
        (
            "vxlan",
            "is of kind vxlan, by which no program can send: name the device that its packets leave by",
        ),
        ("geneve", "is of kind geneve, "),
        ("gretap", "is of kind gretap, "),
        ("bridge", "is of kind bridge, "),
        ("macvlan", "is of kind macvlan, "),
        ("ipvlan", "is of kind ipvlan, "),
        ("vrf", "is of kind vrf, "),
        ("netkit", "is of kind netkit, "),
    ];
    let kinds = kinds.map(|(kind, said)| (vec![of_kind(kind, hardware(2, "x"))], said, true));
    let tunnels = [
        ("gre", 778, "is of kind gre, "),
        ("ipip", 768, "is of kind ipip, "),
        ("sit", 776, "is of kind sit, "),
        ("ip6tnl", 769, "is of kind ip6tnl, "),
        ("wireguard", 65534, "is of kind wireguard, "),
        ("tun", 65534, "is of kind tun, "),
    ];
    let tunnels = tunnels.map(|(kind, hardware_type, said)| {
        let mut tunnel = of_kind(kind, hardware(2, "x"));
        (tunnel.hardware, tunnel.mac) = (hardware_type, None);
        (vec![tunnel], said, true)
    });
    kinds.into_iter().chain(tunnels).collect()
}

#[test]
fn a_device_that_cannot_be_used_is_refused_with_the_reason() {
    for (devices, why, silent) in [of_others(), by_themselves(), of_kinds()].concat() {
        let index = devices[0].index;
        let mut facts = facts(devices);
        let refused = said(&["x"], &facts);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].starts_with(&format!("x: {why}")), "{refused:?}");
        let left_out = ["x*: no device that can be used has such a name".to_owned()];
        let globbed = said(&["x*"], &facts);
        assert_eq!(globbed, if silent { &left_out[..] } else { &refused[..] }, "x*");
        assert_eq!(said(&["x*", "x"], &facts), refused, "a name counts more than a pattern");
        facts.default_routes.insert(index);
        assert_eq!(said(&["default-route"], &facts), refused, "default-route");
    }
}

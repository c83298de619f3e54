use super::*;

const MAC: &str = r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#;
const PREFIX: &str = "flannel.alpha.coreos.com/";

/// A Node with two families, changed by these annotations; an empty value takes one away.
fn said(ranges: &[&str], changed: &[(&str, &str)]) -> NodeSaid {
    let usual = [
        ("kube-subnet-manager", "true"),
        ("backend-type", "vxlan"),
        ("backend-data", MAC),
        ("public-ip", "192.0.2.12"),
        ("backend-v6-data", MAC),
        ("public-ipv6", "2001:db8:2::12"),
    ];
    let mut said = NodeSaid {
        name: "node2".into(),
        created: Some(1),
        pod_cidrs: ranges.iter().map(|range| Box::from(*range)).collect(),
        addresses: vec!["192.0.2.12".parse().unwrap()],
        ..NodeSaid::default()
    };
    let is_changed = |name: &str| changed.iter().any(|(other, _)| *other == name);
    let kept = usual.iter().filter(|(name, _)| !is_changed(name));
    let added = changed.iter().filter(|(_, value)| !value.is_empty());
    for (name, value) in kept.chain(added) {
        let name = if *name == "carries" {
            crate::podnet::said::CARRIES.to_owned()
        } else {
            format!("{PREFIX}{name}")
        };
        said.annotations.keep(PREFIX, &name, value);
    }
    said
}

const RANGES: [&str; 2] = ["10.244.2.0/24", "fd00:10:244:2::/64"];

fn read(ranges: &[&str], changed: &[(&str, &str)]) -> (Peer, Vec<String>) {
    let reading = Reading {
        vni: 1,
        own: vec!["192.0.2.11".parse().unwrap(), "2001:db8:2::11".parse().unwrap()],
    };
    let (peer, problems) = Peer::read(&said(ranges, changed), &reading);
    (peer, problems.iter().map(ToString::to_string).collect())
}

fn ranges(peer: &Peer) -> [Option<String>; 2] {
    FAMILIES.map(|family| peer.pods.of(family).map(|range| range.to_string()))
}

fn families(peer: &Peer) -> [bool; 2] {
    FAMILIES.map(|family| peer.vteps.of(family).is_some())
}

#[test]
fn a_node_of_flannels_is_read_whole() {
    let (peer, problems) = read(&RANGES, &[]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(ranges(&peer), RANGES.map(|range| Some(range.to_owned())));
    let vtep = peer.vteps.v6.unwrap();
    assert_eq!(
        (vtep.mac.to_string(), vtep.address.to_string()),
        ("12:c6:65:89:b4:e3".into(), "2001:db8:2::12".into())
    );
    assert_eq!(peer.carries, Families::NONE);
    let (peer, problems) = read(&RANGES, &[("carries", "ipv4, ipv6,")]);
    assert_eq!((peer.carries, problems.len()), (Families::BOTH, 0));
}

#[test]
fn what_is_wrong_with_one_family_leaves_the_other_one_whole() {
    for (changed, wanted, problem) in [
        (
            ("public-ip", ""),
            [false, true],
            "annotation public-ip is not set: it is not reached by VXLAN over IPv4",
        ),
        (
            ("public-ip", "192.0.2.12:8472"),
            [false, true],
            "annotation public-ip is \"192.0.2.12:8472\", which is no IP address",
        ),
        (
            ("public-ip", "0.0.0.0"),
            [false, true],
            "unspecified addresses are never sent to",
        ),
        (
            ("public-ip", "127.0.0.1"),
            [false, true],
            "loopback addresses are never sent to",
        ),
        (
            ("public-ip", "224.0.0.1"),
            [false, true],
            "multicast addresses are never sent to",
        ),
        (
            ("public-ip", "2001:db8::1"),
            [false, true],
            "which is of the other family",
        ),
        (("public-ip", "192.0.2.11"), [false, true], "which is this node's own"),
        (
            ("public-ipv6", "fe80::1"),
            [true, false],
            "link-local addresses are never sent to",
        ),
        (
            ("public-ipv6", "::ffff:192.0.2.12"),
            [true, false],
            "which is of the other family",
        ),
        (("backend-data", "{"), [false, true], "annotation backend-data: EOF"),
        (
            ("backend-v6-data", r#"{"VNI":7,"VtepMAC":"12:c6:65:89:b4:e3"}"#),
            [true, false],
            "VNI is 7, and this node's is 1",
        ),
        (
            ("carries", "ipv4,ipx"),
            [true, true],
            "\"ipx\" is no family (ipv4, ipv6): the word has no effect",
        ),
    ] {
        let (peer, problems) = read(&RANGES, &[changed]);
        assert_eq!(families(&peer), wanted, "{changed:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(problem), "{changed:?}: {problems:?}");
    }
}

#[test]
fn a_family_that_a_node_says_nothing_of_is_no_problem() {
    for value in ["", "null"] {
        let (peer, problems) = read(&RANGES, &[("backend-v6-data", value), ("public-ipv6", "")]);
        assert_eq!((families(&peer), problems.len()), ([true, false], 0));
    }
}

#[test]
fn a_node_that_takes_no_part_is_named_and_its_range_is_known_all_the_same() {
    for (changed, problem) in [
        (
            ("kube-subnet-manager", ""),
            "kube-subnet-manager is not set, and must be \"true\"",
        ),
        (
            ("kube-subnet-manager", "false"),
            "kube-subnet-manager is \"false\", and must be \"true\"",
        ),
        (
            ("backend-type", "wireguard"),
            "backend-type is \"wireguard\", and must be \"vxlan\"",
        ),
    ] {
        let (peer, problems) = read(&RANGES, &[changed]);
        assert_eq!(families(&peer), [false; 2]);
        assert!(ranges(&peer).iter().all(Option::is_some));
        assert!(problems.len() == 1 && problems[0].contains(problem), "{problems:?}");
    }
}

#[test]
fn ranges_that_cannot_be_used_are_named_one_by_one() {
    for (given, wanted, problem) in [
        (&[][..], [None, None], "spec.podCIDRs is empty"),
        (
            &["10.244.2.7/24"],
            [None, None],
            "\"10.244.2.7/24\": it has bits behind its length",
        ),
        (&["10.244.2.0"], [None, None], "not a range in CIDR notation"),
        (&["0.0.0.0/0"], [None, None], "no range that pods can have"),
        (&["10.244.2.1/32"], [None, None], "no range that pods can have"),
        (&["224.0.0.0/8"], [None, None], "no range that pods can have"),
        (
            &["10.244.2.0/24", "10.244.3.0/24"],
            [Some("10.244.2.0/24"), None],
            "the Node has a range of IPv4 already",
        ),
        (&["fd00::/64", "x"], [None, Some("fd00::/64")], "\"x\": not a range"),
    ] {
        let (peer, problems) = read(given, &[]);
        assert_eq!(ranges(&peer), wanted.map(|range| range.map(str::to_owned)), "{given:?}");
        assert!(
            problems.len() == 1 && problems[0].contains(problem),
            "{given:?}: {problems:?}"
        );
    }
}

#[test]
fn the_node_that_was_made_first_is_the_older_one_and_nodes_of_manifests_come_last() {
    let node = |name: &str, created| {
        Age::of(&NodeSaid {
            name: name.into(),
            created,
            ..NodeSaid::default()
        })
    };
    let order = [
        node("z", Some(-5)),
        node("b", Some(1)),
        node("c", Some(1)),
        node("a", Some(2)),
        node("a", None),
    ];
    assert!(order.is_sorted());
}

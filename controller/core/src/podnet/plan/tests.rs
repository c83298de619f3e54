//! Histories against fresh starts, and what a change costs.

use proptest::prelude::*;

use super::super::annotation::Device;
use super::super::diff::{self, Change};
use super::super::own::{End, Underlay};
use super::*;
use crate::family::Families;
use crate::node::InterfaceName;

const PREFIX: &str = "flannel.alpha.coreos.com/";

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn outer(family: IpFamily, last: u8) -> IpAddr {
    match family {
        IpFamily::V4 => [192, 0, 2, last].into(),
        IpFamily::V6 => [0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(last)].into(),
    }
}

fn range(family: IpFamily, number: u8) -> IpNet {
    match family {
        IpFamily::V4 => format!("10.244.{number}.0/24"),
        IpFamily::V6 => format!("fd00:10:244:{number:x}::/64"),
    }
    .parse()
    .unwrap()
}

/// A Node whose ranges, addresses and MAC addresses have these numbers.
fn node(name: &str, created: i64, numbers: (u8, u8, u8), families: Families) -> NodeSaid {
    let (pods, at, device) = numbers;
    let mut said = NodeSaid {
        name: name.into(),
        created: Some(created),
        ..NodeSaid::default()
    };
    said.annotations
        .keep(PREFIX, "flannel.alpha.coreos.com/kube-subnet-manager", "true");
    said.annotations
        .keep(PREFIX, "flannel.alpha.coreos.com/backend-type", "vxlan");
    for family in FAMILIES.into_iter().filter(|family| families.contains(*family)) {
        said.pod_cidrs.push(range(family, pods).to_string().into());
        said.addresses.push(outer(family, at));
        *said.annotations.device.of_mut(family) = Some(
            Device {
                vni: 1,
                mac: mac(device),
            }
            .to_string()
            .into(),
        );
        *said.annotations.public.of_mut(family) = Some(outer(family, at).to_string().into());
    }
    said
}

fn own(families: Families) -> Own {
    let link = InterfaceName::parse("eth0").unwrap();
    let mut own = Own {
        name: "node1".into(),
        vni: 1,
        port: 8472,
        ..Own::default()
    };
    for family in FAMILIES.into_iter().filter(|family| families.contains(*family)) {
        *own.pods.of_mut(family) = Some(range(family, 1));
        own.addresses.push(outer(family, 11));
        let on_link = match family {
            IpFamily::V4 => "192.0.2.0/25",
            IpFamily::V6 => "2001:db8:2::/64",
        };
        *own.ends.of_mut(family) = Some(End {
            name: InterfaceName::parse(&Carrier::vxlan(family).device_name(1)).unwrap(),
            mac: mac(1),
            underlay: Underlay {
                link,
                address: outer(family, 11),
                mtu: 1500,
                on_link: vec![on_link.parse().unwrap()],
            },
        });
    }
    own
}

fn two_nodes() -> Plan {
    let mut plan = Plan::default();
    plan.set_own(own(Families::BOTH));
    plan.node(node("node2", 2, (2, 12, 2), Families::BOTH));
    plan
}

fn shown(changes: &[Change]) -> String {
    changes
        .iter()
        .flat_map(|change| [change.to_string(), "\n".into()])
        .collect()
}

fn troubles(plan: &Plan, name: &str) -> Vec<String> {
    let peer = plan.peer(name).unwrap();
    peer.troubles.iter().map(ToString::to_string).collect()
}

#[test]
fn a_node_and_its_peer_have_flannels_rows() {
    let plan = two_nodes();
    insta::assert_snapshot!(shown(&diff::difference(&Table::new(), plan.wanted())), @r"
    + link flannel.1 address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 local 192.0.2.11 dev eth0 dstport 8472 nolearning
    + link flannel-v6.1 address 02:00:00:00:00:01 mtu 1430 type vxlan id 1 local 2001:db8:2::b dev eth0 dstport 8472 nolearning
    + addr 10.244.1.0/32 VXLAN over IPv4
    + addr fd00:10:244:1::/128 VXLAN over IPv6
    + source 192.0.2.12
    + source 2001:db8:2::c
    + fdb 02:00:00:00:00:02 VXLAN over IPv4 dst 192.0.2.12 self permanent
    + fdb 02:00:00:00:00:02 VXLAN over IPv6 dst 2001:db8:2::c self permanent
    + neigh 10.244.2.0 VXLAN over IPv4 lladdr 02:00:00:00:00:02 PERMANENT
    + neigh fd00:10:244:2:: VXLAN over IPv6 lladdr 02:00:00:00:00:02 PERMANENT
    + route 10.244.2.0/24 via 10.244.2.0 VXLAN over IPv4 onlink
    + route fd00:10:244:2::/64 via fd00:10:244:2:: VXLAN over IPv6 onlink
    + route unreachable 10.244.1.0/24
    + route unreachable fd00:10:244:1::/64
    ");
    assert_eq!(troubles(&plan, "node2"), [""; 0]);
}

#[test]
fn a_heartbeat_changes_nothing_and_a_new_mac_changes_what_has_it_in_an_order_without_a_gap() {
    let mut plan = two_nodes();
    assert_eq!(plan.node(node("node2", 2, (2, 12, 2), Families::BOTH)), []);
    insta::assert_snapshot!(shown(&plan.node(node("node2", 2, (2, 12, 7), Families::BOTH))), @r"
    + fdb 02:00:00:00:00:07 VXLAN over IPv4 dst 192.0.2.12 self permanent
    + fdb 02:00:00:00:00:07 VXLAN over IPv6 dst 2001:db8:2::c self permanent
    + neigh 10.244.2.0 VXLAN over IPv4 lladdr 02:00:00:00:00:07 PERMANENT
    + neigh fd00:10:244:2:: VXLAN over IPv6 lladdr 02:00:00:00:00:07 PERMANENT
    - fdb 02:00:00:00:00:02 VXLAN over IPv6 dst 2001:db8:2::c self permanent
    - fdb 02:00:00:00:00:02 VXLAN over IPv4 dst 192.0.2.12 self permanent
    ");
    insta::assert_snapshot!(shown(&plan.node(node("node2", 2, (2, 13, 7), Families::BOTH))), @r"
    + source 192.0.2.13
    + source 2001:db8:2::d
    + fdb 02:00:00:00:00:07 VXLAN over IPv4 dst 192.0.2.13 self permanent
    + fdb 02:00:00:00:00:07 VXLAN over IPv6 dst 2001:db8:2::d self permanent
    - source 2001:db8:2::c
    - source 192.0.2.12
    ");
    insta::assert_snapshot!(shown(&plan.gone("node2")), @r"
    - route fd00:10:244:2::/64 via fd00:10:244:2:: VXLAN over IPv6 onlink
    - route 10.244.2.0/24 via 10.244.2.0 VXLAN over IPv4 onlink
    - neigh fd00:10:244:2:: VXLAN over IPv6 lladdr 02:00:00:00:00:07 PERMANENT
    - neigh 10.244.2.0 VXLAN over IPv4 lladdr 02:00:00:00:00:07 PERMANENT
    - fdb 02:00:00:00:00:07 VXLAN over IPv6 dst 2001:db8:2::d self permanent
    - fdb 02:00:00:00:00:07 VXLAN over IPv4 dst 192.0.2.13 self permanent
    - source 2001:db8:2::d
    - source 192.0.2.13
    ");
    assert_eq!(plan.gone("node2"), []);
}

#[test]
fn the_older_node_keeps_what_two_claim_and_the_other_takes_over_in_the_change_in_which_it_goes() {
    let mut plan = two_nodes();
    assert_eq!(
        plan.node(node("clone", 3, (2, 13, 2), Families::only(IpFamily::V4))),
        []
    );
    assert_eq!(
        troubles(&plan, "clone"),
        [
            "spec.podCIDRs 10.244.2.0/24: the older Node node2 has this range: pods of this Node are not reached by it",
            "VtepMAC 02:00:00:00:00:02: the older Node node2 has this address: the Node is not reached by VXLAN over IPv4",
        ]
    );
    insta::assert_snapshot!(shown(&plan.gone("node2")), @r"
    + source 192.0.2.13
    + fdb 02:00:00:00:00:02 VXLAN over IPv4 dst 192.0.2.13 self permanent
    - route fd00:10:244:2::/64 via fd00:10:244:2:: VXLAN over IPv6 onlink
    - neigh fd00:10:244:2:: VXLAN over IPv6 lladdr 02:00:00:00:00:02 PERMANENT
    - fdb 02:00:00:00:00:02 VXLAN over IPv6 dst 2001:db8:2::c self permanent
    - source 2001:db8:2::c
    - source 192.0.2.12
    ");
    assert_eq!(troubles(&plan, "clone"), [""; 0]);
}

#[test]
fn pods_of_both_families_go_over_an_underlay_of_one_between_nodes_that_say_so() {
    let mut plan = Plan::default();
    let mut here = own(Families::BOTH);
    here.ends.v6 = None;
    plan.set_own(here.clone());
    let mut there = node("node2", 2, (2, 12, 2), Families::BOTH);
    there.annotations.device.v6 = None;
    plan.node(there.clone());
    assert_eq!(
        troubles(&plan, "node2"),
        [
            "pods of IPv6 are not reached: this node has no device for IPv6, and both do not say that they carry it otherwise"
        ]
    );
    here.carries = Families::only(IpFamily::V4);
    assert_eq!(
        shown(&plan.set_own(here)),
        "+ addr fd00:10:244:1::/128 VXLAN over IPv4\n"
    );
    there.annotations.carries = Some("ipv4".into());
    insta::assert_snapshot!(shown(&plan.node(there)), @r"
    + neigh fd00:10:244:2:: VXLAN over IPv4 lladdr 02:00:00:00:00:02 PERMANENT
    + route fd00:10:244:2::/64 via fd00:10:244:2:: VXLAN over IPv4 onlink
    ");
    assert_eq!(troubles(&plan, "node2"), [""; 0]);
}

#[test]
fn peers_on_the_same_link_are_reached_directly_if_that_is_set() {
    let mut plan = two_nodes();
    let mut here = own(Families::BOTH);
    here.direct = true;
    insta::assert_snapshot!(shown(&plan.set_own(here)), @r"
    + route 10.244.2.0/24 via 192.0.2.12 dev eth0
    + route fd00:10:244:2::/64 via 2001:db8:2::c dev eth0
    - neigh fd00:10:244:2:: VXLAN over IPv6 lladdr 02:00:00:00:00:02 PERMANENT
    - neigh 10.244.2.0 VXLAN over IPv4 lladdr 02:00:00:00:00:02 PERMANENT
    - fdb 02:00:00:00:00:02 VXLAN over IPv6 dst 2001:db8:2::c self permanent
    - fdb 02:00:00:00:00:02 VXLAN over IPv4 dst 192.0.2.12 self permanent
    ");
}

#[test]
fn an_mtu_or_an_address_that_moves_changes_the_device_in_place_and_a_vni_makes_it_anew_with_its_rows() {
    let mut plan = two_nodes();
    let mut here = own(Families::BOTH);
    for end in [&mut here.ends.v4, &mut here.ends.v6].into_iter().flatten() {
        end.underlay.mtu = 1400;
    }
    insta::assert_snapshot!(shown(&plan.set_own(here)), @r"
    + link flannel.1 address 02:00:00:00:00:01 mtu 1350 type vxlan id 1 local 192.0.2.11 dev eth0 dstport 8472 nolearning
    + link flannel-v6.1 address 02:00:00:00:00:01 mtu 1330 type vxlan id 1 local 2001:db8:2::b dev eth0 dstport 8472 nolearning
    ");
    let before = plan.wanted().clone();
    let mut here = own(Families::BOTH);
    here.port = 4789;
    plan.set_own(here);
    let changes = diff::difference(&before, plan.wanted());
    insta::assert_snapshot!(shown(&changes), @r"
    - link flannel-v6.1 address 02:00:00:00:00:01 mtu 1330 type vxlan id 1 local 2001:db8:2::b dev eth0 dstport 8472 nolearning
    - link flannel.1 address 02:00:00:00:00:01 mtu 1350 type vxlan id 1 local 192.0.2.11 dev eth0 dstport 8472 nolearning
    + link flannel.1 address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 local 192.0.2.11 dev eth0 dstport 4789 nolearning
    + link flannel-v6.1 address 02:00:00:00:00:01 mtu 1430 type vxlan id 1 local 2001:db8:2::b dev eth0 dstport 4789 nolearning
    + addr 10.244.1.0/32 VXLAN over IPv4
    + addr fd00:10:244:1::/128 VXLAN over IPv6
    + fdb 02:00:00:00:00:02 VXLAN over IPv4 dst 192.0.2.12 self permanent
    + fdb 02:00:00:00:00:02 VXLAN over IPv6 dst 2001:db8:2::c self permanent
    + neigh 10.244.2.0 VXLAN over IPv4 lladdr 02:00:00:00:00:02 PERMANENT
    + neigh fd00:10:244:2:: VXLAN over IPv6 lladdr 02:00:00:00:00:02 PERMANENT
    + route 10.244.2.0/24 via 10.244.2.0 VXLAN over IPv4 onlink
    + route fd00:10:244:2::/64 via fd00:10:244:2:: VXLAN over IPv6 onlink
    ");
}

#[test]
fn reserved_ranges_are_nobodys() {
    let mut plan = two_nodes();
    let services: IpNet = "10.244.0.0/16".parse().unwrap();
    let reserved = BTreeSet::from([(services, Arc::from("the range of Services"))]);
    let changes = plan.reserve(&reserved);
    assert!(
        changes
            .iter()
            .any(|change| change.to_string().contains("- route 10.244.2.0/24")),
        "{}",
        shown(&changes)
    );
    assert_eq!(
        troubles(&plan, "node2"),
        [
            "spec.podCIDRs 10.244.2.0/24: it overlaps 10.244.0.0/16, which the range of Services has: pods of this Node are not \
             reached by it"
        ]
    );
    assert!(plan.own_range_taken().is_some());
    plan.reserve(&BTreeSet::new());
    assert_eq!(troubles(&plan, "node2"), [""; 0]);
    assert!(plan.own_range_taken().is_none());
}

/// A step of a history.
#[derive(Clone, Debug)]
enum Step {
    Node(NodeSaid),
    Gone(usize),
    Own(Own),
    Reserve(Option<u8>),
}

const NAMES: [&str; 5] = ["node1", "node2", "node3", "node4", "node5"];

fn families() -> impl Strategy<Value = Families> {
    (any::<bool>(), any::<bool>()).prop_map(|(v4, v6)| Families { v4, v6 })
}

fn step() -> impl Strategy<Value = Step> {
    let said = (
        0..NAMES.len(),
        0_i64..4,
        0_u8..4,
        10_u8..14,
        1_u8..5,
        families(),
        families(),
        any::<bool>(),
    );
    let node = said.prop_map(|(name, created, pods, at, device, has, carries, wide)| {
        let mut said = node(NAMES[name], created, (pods, at, device), has);
        if wide {
            said.pod_cidrs.push("10.244.0.0/22".into());
        }
        let words = [(carries.v4, "ipv4"), (carries.v6, "ipv6")];
        let words: Vec<&str> = words.iter().filter(|(has, _)| *has).map(|(_, word)| *word).collect();
        said.annotations.carries = Some(words.join(",").into());
        Step::Node(said)
    });
    let own = (families(), families(), families(), any::<bool>(), 1_u8..5, 1_u32..3).prop_map(
        |(has, carries, ends, direct, device, vni)| {
            let mut own = own(has);
            own.carries = carries;
            own.direct = direct;
            own.vni = vni;
            for family in FAMILIES {
                let end = own.ends.of_mut(family);
                *end = end.take().filter(|_| ends.contains(family)).map(|end| End {
                    mac: mac(device),
                    ..end
                });
            }
            Step::Own(own)
        },
    );
    prop_oneof![
        6 => node,
        2 => (0..NAMES.len()).prop_map(Step::Gone),
        2 => own,
        1 => prop::option::of(0_u8..4).prop_map(Step::Reserve),
    ]
}

/// Does what the changes say, as the kernel does.
fn apply(kernel: &mut Table, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(row) => {
                if let Some(on) = row.stands_on() {
                    assert!(
                        kernel.contains_key(&Key::Device(on)),
                        "{change}: there is no such device"
                    );
                }
                kernel.insert(row.key(), row.clone());
            }
            Change::Take(row) => {
                assert_eq!(
                    kernel.remove(&row.key()).as_ref(),
                    Some(row),
                    "{change}: it is not there"
                );
                if let Row::Device(device) = row {
                    kernel.retain(|_, other| other.stands_on() != Some(device.carrier));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn after_any_history_the_rows_and_what_is_said_of_peers_are_those_of_a_fresh_start(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        let mut plan = Plan::default();
        let mut nodes: BTreeMap<Arc<str>, NodeSaid> = BTreeMap::new();
        let (mut here, mut reserved) = (Own::default(), BTreeSet::new());
        for step in steps {
            let before = plan.wanted().clone();
            let changes = match step {
                Step::Node(said) => {
                    nodes.insert(Arc::clone(&said.name), said.clone());
                    plan.node(said)
                }
                Step::Gone(at) => {
                    nodes.remove(NAMES[at]);
                    plan.gone(NAMES[at])
                }
                Step::Own(own) => {
                    here = own.clone();
                    plan.set_own(own)
                }
                Step::Reserve(number) => {
                    let of = |number| (range(IpFamily::V4, number), Arc::from("Services"));
                    reserved = number.map(of).into_iter().collect();
                    plan.reserve(&reserved)
                }
            };
            let mut fresh = Plan::default();
            fresh.reserve(&reserved);
            fresh.set_own(here.clone());
            for said in nodes.values().rev() {
                fresh.node(said.clone());
            }
            prop_assert_eq!(plan.wanted(), fresh.wanted());
            prop_assert!(plan.peers().eq(fresh.peers()));
            // A row of a peer leads to a node that says so.
            for row in plan.wanted().values() {
                if let Row::Route { to, .. } = row {
                    let text = to.to_string();
                    prop_assert!(nodes.values().any(|said| said.pod_cidrs.iter().any(|range| **range == *text)));
                }
            }
            // What is told is what has to be done, and nothing else.
            prop_assert_eq!(&changes, &diff::difference(&before, plan.wanted()));
            let mut kernel = before;
            apply(&mut kernel, &changes);
            prop_assert_eq!(&kernel, plan.wanted());
        }
    }
}

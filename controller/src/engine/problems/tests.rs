use tandem_core::family::{V4, V6};
use tandem_core::node::Heard;

use super::*;

fn settings(local_pods: LocalPods, node_port_addresses: NodePortAddresses) -> NodeSettings {
    NodeSettings {
        node_name: "node1".into(),
        local_pods,
        node_port_addresses,
        masquerade_all: false,
        masquerade_bit: 14,
        drop_invalid: false,
    }
}

fn parse<T: std::str::FromStr<Err: fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn node(addresses: &[&str], pod_cidrs: &[&str]) -> Node {
    Node {
        name: "node1".into(),
        addresses: parse(addresses),
        pod_cidrs: parse(pod_cidrs),
        ..Node::default()
    }
}

/// A node whose object said these things in this order; the interfaces have all of its addresses.
struct Case {
    settings: NodeSettings,
    said: Vec<Node>,
    gone: bool,
    complete: bool,
    cidrs: Vec<IpNet>,
    around: Surroundings,
}

impl Case {
    fn of(said: Vec<Node>) -> Self {
        Self {
            settings: settings(LocalPods::NodeCidrs, NodePortAddresses::Primary),
            said,
            gone: false,
            complete: true,
            cidrs: parse(&["10.96.0.0/12", "fd00:10:96::/112"]),
            around: Surroundings::default(),
        }
    }

    fn problems(&self) -> Vec<NodeProblem> {
        let mut heard = Heard::default();
        self.said.iter().for_each(|node| heard.hear(node));
        let interfaces: Vec<IpAddr> = self.said.iter().flat_map(|node| node.addresses.clone()).collect();
        let said = self.said.last();
        let v4 = heard.node::<V4>(said, &NodeRows::default(), &interfaces);
        let v6 = heard.node::<V6>(said, &NodeRows::default(), &interfaces);
        let choice = &self.settings.node_port_addresses;
        let rows4 = NodeRows::<V4>::new(&self.cidrs, &v4.pod_cidrs, choice, &v4, &interfaces);
        let rows6 = NodeRows::<V6>::new(&self.cidrs, &v6.pod_cidrs, choice, &v6, &interfaces);
        let facts = Facts {
            settings: &self.settings,
            complete: self.complete,
            node: said,
            gone: self.gone,
            around: &self.around,
        };
        facts.problems((&v4, &rows4), (&v6, &rows6))
    }

    fn text(&self) -> String {
        let line = |problem: &NodeProblem| format!("{}: {problem}\n", problem.object());
        self.problems().iter().map(line).collect()
    }
}

const ADDRESSES: [&str; 2] = ["192.0.2.11", "2001:db8:2::11"];
const PODS: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

fn whole() -> Node {
    node(&ADDRESSES, &PODS)
}

#[test]
fn a_node_with_everything_has_no_problem() {
    assert_eq!(Case::of(vec![whole()]).problems(), []);
}

#[test]
fn a_node_without_an_object_is_named_once_the_lists_are_complete() {
    let mut case = Case::of(Vec::new());
    insta::assert_snapshot!(case.text(), @"");
    assert!(case.problems().iter().all(NodeProblem::is_fatal));
    case.complete = false;
    assert_eq!(case.problems(), []);
}

#[test]
fn a_node_whose_object_is_gone_is_named() {
    let mut case = Case::of(vec![whole()]);
    case.gone = true;
    insta::assert_snapshot!(case.text(), @"");
}

#[test]
fn what_a_node_does_not_say_any_more_is_named_by_family() {
    for missing in [
        whole(),
        node(&ADDRESSES[..1], &PODS),
        node(&ADDRESSES[1..], &PODS),
        node(&[], &PODS),
        node(&ADDRESSES, &PODS[..1]),
        node(&ADDRESSES, &PODS[1..]),
        node(&ADDRESSES, &[]),
    ] {
        let has = |family, node: &Node| {
            let pods = node.pod_cidrs.iter().any(|net| IpFamily::of(net.addr()) == family);
            (node.primary(family).is_some(), pods)
        };
        let problems = Case::of(vec![whole(), missing.clone()]).problems();
        for family in [IpFamily::V4, IpFamily::V6] {
            let addresses = problems
                .iter()
                .any(|problem| matches!(problem, NodeProblem::AddressesKept { family: of, .. } if *of == family));
            let pods = problems
                .iter()
                .any(|problem| matches!(problem, NodeProblem::PodRangesKept { family: of, .. } if *of == family));
            assert_eq!((!addresses, !pods), has(family, &missing), "{missing:?} {family}");
        }
    }
    insta::assert_snapshot!(Case::of(vec![whole(), node(&[], &[])]).text(), @"");
}

#[test]
fn a_node_that_never_said_anything_is_named() {
    insta::assert_snapshot!(Case::of(vec![node(&[], &[])]).text(), @"");
}

#[test]
fn one_family_alone_is_no_problem() {
    assert_eq!(Case::of(vec![node(&ADDRESSES[..1], &PODS[..1])]).problems(), []);
    assert_eq!(Case::of(vec![node(&ADDRESSES[1..], &PODS[1..])]).problems(), []);
}

#[test]
fn what_no_setting_asks_for_is_not_missed() {
    let mut case = Case::of(vec![whole(), node(&[], &[])]);
    case.settings = settings(LocalPods::Unknown, NodePortAddresses::Ranges(Vec::new()));
    assert_eq!(case.problems(), []);
}

fn held(list: &[(&str, &str)]) -> Surroundings {
    let one =
        |(address, interface): &(&str, &str)| (address.parse().unwrap(), InterfaceName::parse(interface).unwrap());
    Surroundings {
        addresses: list.iter().map(one).collect(),
        ..Surroundings::default()
    }
}

#[test]
fn addresses_inside_a_service_range_are_named_by_interface() {
    let mut case = Case::of(vec![whole()]);
    case.around = held(&[
        ("10.95.255.255", "eth1"),
        ("10.100.0.5", "eth0"),
        ("10.112.0.0", "eth1"),
        ("fd00:10:96::5", "eth0"),
        ("fd00:10:97::5", "eth0"),
        ("10.96.0.1", "kube-ipvs0"),
        ("10.96.0.10", "kube-ipvs0"),
        ("10.96.0.11", "kube-ipvs0"),
    ]);
    insta::assert_snapshot!(case.text(), @"");
}

#[test]
fn the_nodes_own_dns_cache_has_its_address_on_purpose() {
    let mut case = Case::of(vec![whole()]);
    case.around = held(&[("10.96.0.10", "nodelocaldns"), ("169.254.20.10", "nodelocaldns")]);
    assert_eq!(case.problems(), []);
}

#[test]
fn chains_that_drop_what_is_forwarded_are_named_with_what_helps() {
    let chain = |family, table: &str, chain: &str| ForwardDrop {
        family,
        table: table.into(),
        chain: chain.into(),
    };
    let mut case = Case::of(vec![whole()]);
    let chains = vec![
        chain("inet", "fw", "fwd"),
        chain("ip", "filter", "FORWARD"),
        chain("ip6", "filter", "FORWARD"),
    ];
    case.around.take(Around::ForwardDrops(chains));
    insta::assert_snapshot!(case.text(), @"");
    case.around.take(Around::ForwardDrops(Vec::new()));
    assert_eq!(case.problems(), []);
}

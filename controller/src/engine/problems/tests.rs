use tandem_core::family::{V4, V6};
use tandem_core::node::LastListed;
use tandem_core::object::Choice;

use super::*;

fn settings(detect_local: DetectLocal, node_port_addresses: NodePortAddresses) -> NodeSettings {
    NodeSettings {
        node_name: "node1".into(),
        detect_local,
        node_port_addresses,
        masquerade_all: false,
        masquerade_bit: 14,
        drop_invalid: false,
        usual_choice: Choice::Random,
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

/// A node whose object had these versions in this order. The interfaces have all of its addresses.
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
            settings: settings(DetectLocal::Sources(PodRanges::OfNode), NodePortAddresses::Primary),
            said,
            gone: false,
            complete: true,
            cidrs: parse(&["10.96.0.0/12", "fd00:10:96::/112"]),
            around: Surroundings::default(),
        }
    }

    fn problems(&self) -> Vec<NodeProblem> {
        let mut last_listed = LastListed::default();
        self.said.iter().for_each(|node| last_listed.take(node));
        let interfaces: Vec<IpAddr> = self.said.iter().flat_map(|node| node.addresses.clone()).collect();
        let said = self.said.last();
        let v4 = last_listed.node::<V4>(said, &NodeRows::default(), &interfaces);
        let v6 = last_listed.node::<V6>(said, &NodeRows::default(), &interfaces);
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
    insta::assert_snapshot!(case.text(), @r#"Node node1: no Node object named "node1" was read: the node's own rows stay as an earlier run left them, endpoints on this node are not known as such, and hints for zones do not count. If this node's object has another name, give it with --hostname-override (names are compared in lower case, dots and all)"#);
    assert!(case.problems().iter().all(NodeProblem::is_fatal));
    case.complete = false;
    assert_eq!(case.problems(), []);
}

#[test]
fn a_node_whose_object_is_gone_is_named() {
    let mut case = Case::of(vec![whole()]);
    case.gone = true;
    insta::assert_snapshot!(case.text(), @"Node node1: the object is gone: what it said last still counts");
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
    insta::assert_snapshot!(Case::of(vec![whole(), node(&[], &[])]).text(), @r#"
    this node: the Node object lists no IPv4 address: 192.0.2.11 still takes nodePort traffic, as an interface has it
    this node: the Node object lists no IPv6 address: 2001:db8:2::11 still takes nodePort traffic, as an interface has it
    this node: the Node object has no IPv4 range in spec.podCIDRs: sources in 10.244.1.0/24 still count as pods
    this node: the Node object has no IPv6 range in spec.podCIDRs: sources in fd00:10:244:1::/64 still count as pods
    "#);
}

#[test]
fn a_node_that_never_said_anything_is_named() {
    insta::assert_snapshot!(Case::of(vec![node(&[], &[])]).text(), @r#"
    this node: the Node object lists no address, and none is known from before that an interface has: nothing takes nodePort traffic
    this node: the Node object has no spec.podCIDRs, which detectLocalMode NodeCIDR asks for: no source counts as a pod
    "#);
}

#[test]
fn one_family_alone_is_no_problem() {
    assert_eq!(Case::of(vec![node(&ADDRESSES[..1], &PODS[..1])]).problems(), []);
    assert_eq!(Case::of(vec![node(&ADDRESSES[1..], &PODS[1..])]).problems(), []);
}

#[test]
fn what_no_setting_asks_for_is_not_missed() {
    let mut case = Case::of(vec![whole(), node(&[], &[])]);
    case.settings = settings(DetectLocal::Nothing, NodePortAddresses::Ranges(Vec::new()));
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
    insta::assert_snapshot!(case.text(), @r#"
    interface eth0: 10.100.0.5 lies inside the Service range 10.96.0.0/12: give the interface other addresses, or the Services another range. For now this node answers there; once a Service has such an address as ClusterIP, the Service's ports lead to the Service
    interface kube-ipvs0: 10.96.0.1 and 2 more lie inside the Service range 10.96.0.0/12: kube-proxy's ipvs mode left them; ports of a ClusterIP that no Service has reach this node's own programs. Run `kube-proxy --cleanup` once on this node
    interface eth0: fd00:10:96::5 lies inside the Service range fd00:10:96::/112: give the interface other addresses, or the Services another range. For now this node answers there; once a Service has such an address as ClusterIP, the Service's ports lead to the Service
    "#);
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
        chain("inet", "fw", "guard"),
        chain("ip", "filter", "FORWARD"),
        chain("ip6", "filter", "FORWARD"),
    ];
    case.around.take(NodeFact::ForwardDrops(chains));
    insta::assert_snapshot!(case.text(), @r#"
    chain inet fw guard: policy drop: packets to pods, also those to nodePorts and LoadBalancer addresses, are dropped unless a rule there accepts them (kube-proxy's iptables mode had such a rule, Tandem has none). Accept what was translated: `nft insert rule inet fw guard ct status dnat accept`; or all that is forwarded: `nft chain inet fw guard '{ policy accept; }'`
    chain ip filter FORWARD: policy drop: packets to pods, also those to nodePorts and LoadBalancer addresses, are dropped unless a rule there accepts them (kube-proxy's iptables mode had such a rule, Tandem has none). Accept what was translated: `iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT`; or all that is forwarded: `iptables -P FORWARD ACCEPT`
    chain ip6 filter FORWARD: policy drop: packets to pods, also those to nodePorts and LoadBalancer addresses, are dropped unless a rule there accepts them (kube-proxy's iptables mode had such a rule, Tandem has none). Accept what was translated: `ip6tables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT`; or all that is forwarded: `ip6tables -P FORWARD ACCEPT`
    "#);
    case.around.take(NodeFact::ForwardDrops(Vec::new()));
    assert_eq!(case.problems(), []);
}

#[test]
fn an_api_server_at_a_cluster_ip_is_named_before_it_fails() {
    let server = |name: &str, address: Option<&str>| {
        let mut case = Case::of(vec![whole()]);
        case.around.take(NodeFact::ApiServer(ApiServer {
            name: name.into(),
            address: address.map(|text| text.parse().unwrap()),
        }));
        case
    };
    insta::assert_snapshot!(server("10.96.0.1:443", Some("10.96.0.1")).text(), @"API server: its address 10.96.0.1 lies inside the Service range 10.96.0.0/12: only a service proxy makes it answer. After a restart of this node, Tandem cannot reach it, and no Service works. Give the API server's own address, by --master or in a kubeconfig");
    insta::assert_snapshot!(server("[fd00:10:96::1]:443", Some("fd00:10:96::1")).text(), @"API server: its address fd00:10:96::1 lies inside the Service range fd00:10:96::/112: only a service proxy makes it answer. After a restart of this node, Tandem cannot reach it, and no Service works. Give the API server's own address, by --master or in a kubeconfig");
    assert_eq!(server("192.0.2.1:6443", Some("192.0.2.1")).problems(), []);
    assert_eq!(server("api.example:6443", None).problems(), []);
}

#[test]
fn why_objects_cannot_be_read_names_the_server_once() {
    let mut around = Surroundings::default();
    let silent = "cannot list services: no answer for 30 s";
    assert_eq!(around.with_server(silent.to_owned()), silent);
    around.take(NodeFact::ApiServer(ApiServer {
        name: "192.0.2.1:6443".into(),
        address: None,
    }));
    assert_eq!(
        around.with_server(silent.to_owned()),
        "cannot list services: no answer for 30 s (API server 192.0.2.1:6443)"
    );
    let refused = "cannot list services: 192.0.2.1:6443: Connection refused (os error 111)";
    assert_eq!(around.with_server(refused.to_owned()), refused);
}

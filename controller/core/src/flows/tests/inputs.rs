//! What happens to a flow if one input of its translation goes. There is a test for each input.

use std::net::Ipv4Addr;

use super::*;
use crate::object::{EndpointSlice, Service, TrafficPolicy};

const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);

/// Everything that a translation depends on.
struct World {
    service: Service,
    slices: Vec<EndpointSlice>,
    /// Whether the node's address takes nodePort traffic.
    on_node: bool,
}

impl World {
    fn new() -> Self {
        let mut service = mk_exposed("dns");
        service.ports = vec![mk_port("udp", Protocol::Udp, 53)];
        service.ports[0].node_port = Some(port(30_053));
        Self {
            service,
            slices: slices(&[local("10.244.0.1")]),
            on_node: true,
        }
    }

    fn flows(&self) -> [Change; 1] {
        let plans = plans::<V4>(&self.service, &self.slices);
        let ports = plans.iter().filter_map(PortFlows::of).collect();
        [(ObjectKey::new("ns", "dns"), ports)]
    }
}

fn slices(entries: &[SliceEndpoint]) -> Vec<EndpointSlice> {
    let mut slice = mk_slice("dns", entries);
    slice.ports = vec![mk_slice_port("udp", Protocol::Udp, 5353)].into();
    vec![slice]
}

/// The flows that are cut after this change.
fn cut_by(take: impl FnOnce(&mut World)) -> Vec<&'static str> {
    let mut world = World::new();
    let mut ledger = ledger(world.flows());
    take(&mut world);
    let look = FlowCheck {
        everything: !world.on_node,
        changed: ledger.apply(world.flows()).destinations.into_iter().collect(),
        left: if world.on_node { BTreeSet::new() } else { [NODE].into() },
        ..FlowCheck::default()
    };
    let node_addresses = if world.on_node { [NODE].into() } else { BTreeSet::new() };
    let flows = [
        ("ClusterIP", at([10, 96, 0, 1], 53)),
        ("externalIP", at([198, 51, 100, 1], 53)),
        ("LoadBalancer", at([203, 0, 113, 1], 53)),
        ("nodePort", at(NODE.octets(), 30_053)),
    ];
    let client = at([198, 51, 100, 2], 4000);
    let wrong = |to| look.wrong(&flow(client, to, endpoint(1)), &ledger, &node_addresses);
    let cut = flows.iter().filter(|(_, to)| wrong(*to).is_some());
    cut.map(|(name, _)| *name).collect()
}

const ALL: [&str; 4] = ["ClusterIP", "externalIP", "LoadBalancer", "nodePort"];
const NONE: [&str; 0] = [];

#[test]
fn a_flow_is_cut_when_the_address_goes_that_it_is_to() {
    assert_eq!(cut_by(|_| ()), NONE);
    assert_eq!(cut_by(|world| world.service.external_ips.clear()), ["externalIP"]);
    assert_eq!(cut_by(|world| world.service.ingress_ips.clear()), ["LoadBalancer"]);
    assert_eq!(cut_by(|world| world.service.ports[0].node_port = None), ["nodePort"]);
    let other_number = |world: &mut World| world.service.ports[0].node_port = Some(port(30_054));
    assert_eq!(cut_by(other_number), ["nodePort"]);
    assert_eq!(cut_by(|world| world.on_node = false), ["nodePort"]);
    let moved = |world: &mut World| world.service.cluster_ips = ips(&["10.96.0.9"]);
    assert_eq!(cut_by(moved), ["ClusterIP"]);
    assert_eq!(cut_by(|world| world.service.ports[0].port = port(54)), ALL[..3]);
}

#[test]
fn a_flow_is_cut_when_its_services_family_port_or_protocol_goes() {
    assert_eq!(cut_by(|world| world.service.cluster_ips = ips(&["fd00:10:96::1"])), ALL);
    assert_eq!(cut_by(|world| world.service.ports.clear()), ALL);
    assert_eq!(cut_by(|world| world.service.ports[0].protocol = Protocol::Tcp), ALL);
    assert_eq!(cut_by(|world| world.service.ports[0].name = "other".into()), ALL);
}

#[test]
fn a_flow_is_cut_when_its_endpoint_goes_or_serves_no_more() {
    assert_eq!(cut_by(|world| world.slices.clear()), ALL);
    assert_eq!(cut_by(|world| world.slices = slices(&[local("10.244.0.2")])), ALL);
    assert_eq!(
        cut_by(|world| world.slices = slices(&[unready(local("10.244.0.1"))])),
        ALL
    );
    let other_port = |world: &mut World| world.slices[0].ports = vec![mk_slice_port("udp", Protocol::Udp, 5354)].into();
    assert_eq!(cut_by(other_port), ALL);
}

/// As with kube-proxy: these inputs decide where a new flow goes. A flow whose endpoint still answers may stay.
#[test]
fn a_flow_stays_while_its_endpoint_answers_whatever_decides_about_new_ones() {
    let finishing = [terminating(local("10.244.0.1")), local("10.244.0.2")];
    assert_eq!(cut_by(|world| world.slices = slices(&finishing)), NONE);
    let moved_away = |world: &mut World| {
        world.service.external_policy = TrafficPolicy::Local;
        world.service.internal_policy = TrafficPolicy::Local;
        world.slices = slices(&[remote("10.244.0.1")]);
    };
    assert_eq!(cut_by(moved_away), NONE);
    let shut_out = |world: &mut World| world.service.source_ranges = vec!["192.0.2.128/25".parse().unwrap()];
    assert_eq!(cut_by(shut_out), NONE);
}

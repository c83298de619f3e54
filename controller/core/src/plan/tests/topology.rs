//! Hints in slices, and every case in which they do not count.

use crate::family::V4;
use crate::object::{Choice, EndpointSlice, Hints, Node, NodeHint, Service, SliceEndpoint, TrafficPolicy};
use crate::plan::plan;
use crate::samples::*;

const NONE: &[&str] = &[];

fn zones(names: &[&str]) -> Hints {
    Hints {
        zones: names.iter().map(|name| (*name).into()).collect(),
        nodes: NodeHint::None,
    }
}

fn node_hint(nodes: NodeHint, names: &[&str]) -> Hints {
    Hints { nodes, ..zones(names) }
}

fn slice(endpoints: &[(SliceEndpoint, Hints)]) -> EndpointSlice {
    let (entries, hints): (Vec<_>, Vec<_>) = endpoints.iter().cloned().unzip();
    EndpointSlice {
        hints: hints.into(),
        ..mk_slice("web", &entries)
    }
}

fn lists(service: &Service, zone: Option<&str>, slices: &[EndpointSlice]) -> [String; 2] {
    let node = Node {
        zone: zone.map(Into::into),
        ..mk_node()
    };
    let plans = plan::<V4>(service, &slices.iter(), &node, Choice::Random).unwrap();
    [&plans[0].all, &plans[0].local].map(|list| list_text(list.as_ref()))
}

/// What a client in this zone reaches at the ClusterIP.
fn reached(zone: Option<&str>, endpoints: &[(SliceEndpoint, Hints)]) -> String {
    let [all, _] = lists(&mk_service("web"), zone, &[slice(endpoints)]);
    all
}

const BOTH: &str = "10.0.1.1:8080 10.0.2.1:8080";

#[test]
fn a_client_reaches_the_endpoints_that_are_hinted_for_its_zone() {
    let endpoints = [
        (local("10.0.1.1"), zones(&["a"])),
        (remote("10.0.2.1"), zones(&["b", "c"])),
    ];
    assert_eq!(reached(Some("a"), &endpoints), "10.0.1.1:8080");
    assert_eq!(reached(Some("c"), &endpoints), "10.0.2.1:8080");
}

#[test]
fn zone_hints_do_not_count_where_the_zone_has_none_or_the_node_no_zone() {
    let endpoints = [(local("10.0.1.1"), zones(&["a"])), (remote("10.0.2.1"), zones(&["b"]))];
    for zone in [Some("d"), None] {
        assert_eq!(reached(zone, &endpoints), BOTH, "{zone:?}");
    }
}

#[test]
fn zone_hints_do_not_count_where_a_ready_endpoint_has_none() {
    let endpoints = [(local("10.0.1.1"), zones(&["a"])), (remote("10.0.2.1"), zones(NONE))];
    assert_eq!(reached(Some("a"), &endpoints), BOTH);
    // A slice without any hints has an empty list of them.
    let slices = [
        slice(&[(local("10.0.1.1"), zones(&["a"]))]),
        mk_slice("web", &[remote("10.0.2.1")]),
    ];
    assert_eq!(lists(&mk_service("web"), Some("a"), &slices)[0], BOTH);
}

#[test]
fn endpoints_that_are_not_ready_have_no_say() {
    for other in [unready(remote("10.0.3.1")), terminating(remote("10.0.3.1"))] {
        let endpoints = [
            (local("10.0.1.1"), zones(&["a"])),
            (remote("10.0.2.1"), zones(&["b"])),
            (other, zones(NONE)),
        ];
        assert_eq!(reached(Some("a"), &endpoints), "10.0.1.1:8080");
    }
    // An unready endpoint of this zone does not make hints count.
    let endpoints = [
        (unready(local("10.0.1.1")), zones(&["a"])),
        (remote("10.0.2.1"), zones(&["b"])),
    ];
    assert_eq!(reached(Some("a"), &endpoints), "10.0.2.1:8080");
}

#[test]
fn without_a_ready_endpoint_the_terminating_ones_are_used_whatever_their_hints() {
    let endpoints = [
        (terminating(local("10.0.1.1")), zones(&["a"])),
        (terminating(remote("10.0.2.1")), zones(&["b"])),
    ];
    assert_eq!(reached(Some("a"), &endpoints), BOTH);
}

#[test]
fn hints_for_nodes_win_over_hints_for_zones() {
    let endpoints = [
        (local("10.0.1.1"), node_hint(NodeHint::Here, &["a"])),
        (remote("10.0.2.1"), node_hint(NodeHint::Elsewhere, &["a"])),
    ];
    assert_eq!(reached(Some("a"), &endpoints), "10.0.1.1:8080");
}

#[test]
fn hints_for_zones_count_where_those_for_nodes_do_not() {
    let elsewhere = [
        (local("10.0.1.1"), node_hint(NodeHint::Elsewhere, &["a"])),
        (remote("10.0.2.1"), node_hint(NodeHint::Elsewhere, &["b"])),
    ];
    assert_eq!(reached(Some("b"), &elsewhere), "10.0.2.1:8080");
    let partly = [
        (local("10.0.1.1"), node_hint(NodeHint::Here, &["a"])),
        (remote("10.0.2.1"), node_hint(NodeHint::None, &["b"])),
    ];
    assert_eq!(reached(Some("b"), &partly), "10.0.2.1:8080");
}

#[test]
fn a_local_policy_is_stricter_than_any_hint() {
    let service = Service {
        external_policy: TrafficPolicy::Local,
        ..mk_exposed("web")
    };
    let endpoints = [
        (local("10.0.1.1"), zones(&["b"])),
        (remote("10.0.2.1"), zones(&["a"])),
        (remote("10.0.3.1"), zones(&["b"])),
    ];
    let [all, near] = lists(&service, Some("a"), &[slice(&endpoints)]);
    assert_eq!(all, "10.0.2.1:8080", "pods and the node use the hints");
    assert_eq!(near, "10.0.1.1:8080", "what comes from outside stays on the node");
}

#[test]
fn a_hairpin_is_open_for_local_endpoints_of_both_lists() {
    let service = Service {
        external_policy: TrafficPolicy::Local,
        ..mk_exposed("web")
    };
    let endpoints = [(local("10.0.1.1"), zones(&["b"])), (remote("10.0.2.1"), zones(&["a"]))];
    let node = Node {
        zone: Some("a".into()),
        ..mk_node()
    };
    let plans = plan::<V4>(&service, &[slice(&endpoints)].iter(), &node, Choice::Random).unwrap();
    assert_eq!(plans[0].hairpin.len(), 1);
}

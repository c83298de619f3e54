//! Which list a frontend uses under the traffic policies, and what its clients see if the list is empty.

use crate::family::V4;
use crate::object::TrafficPolicy::{Cluster, Local};
use crate::object::{Service, SliceEndpoint, TrafficPolicy};
use crate::samples::*;

const CLUSTER_IP: &str = "cluster 10.96.0.1 80/TCP";
const OUTSIDE: [&str; 3] = [
    "external 203.0.113.1 80/TCP",
    "external 198.51.100.1 80/TCP",
    "node-port 30080/TCP",
];

/// Endpoints, and what a client gets under policy `Cluster` and under policy `Local`.
fn cases() -> Vec<(Vec<SliceEndpoint>, [&'static str; 2])> {
    let [first, second] = [local("10.0.1.1"), local("10.0.1.2")];
    let far = remote("10.0.2.1");
    vec![
        (vec![], ["refused", "refused"]),
        (vec![first], ["10.0.1.1:8080", "10.0.1.1:8080"]),
        (
            vec![far, second, first],
            [
                "10.0.1.1:8080 10.0.1.2:8080 10.0.2.1:8080",
                "10.0.1.1:8080 10.0.1.2:8080",
            ],
        ),
        (vec![far], ["10.0.2.1:8080", "discarded"]),
        (vec![unready(first), unready(far)], ["refused", "refused"]),
        (vec![unready(first), far], ["10.0.2.1:8080", "discarded"]),
        (vec![terminating(first)], ["10.0.1.1:8080", "10.0.1.1:8080"]),
        (vec![terminating(far)], ["10.0.2.1:8080", "discarded"]),
        (vec![terminating(first), second], ["10.0.1.2:8080", "10.0.1.2:8080"]),
        (vec![terminating(first), far], ["10.0.2.1:8080", "10.0.1.1:8080"]),
        (
            vec![terminating(first), terminating(far)],
            ["10.0.1.1:8080 10.0.2.1:8080", "10.0.1.1:8080"],
        ),
        (
            vec![terminating(first), unready(second), far],
            ["10.0.2.1:8080", "10.0.1.1:8080"],
        ),
    ]
}

fn under(outcomes: [&'static str; 2], policy: TrafficPolicy) -> &'static str {
    match policy {
        Cluster => outcomes[0],
        Local => outcomes[1],
    }
}

fn for_every_case(mut check: impl FnMut(TrafficPolicy, TrafficPolicy, &[SliceEndpoint], [&'static str; 2])) {
    for internal in [Cluster, Local] {
        for external in [Cluster, Local] {
            for (endpoints, outcomes) in cases() {
                check(internal, external, &endpoints, outcomes);
            }
        }
    }
}

#[test]
fn the_cluster_ip_follows_the_internal_policy_and_everything_outside_the_external_one() {
    for_every_case(|internal, external, endpoints, outcomes| {
        let service = Service {
            internal_policy: internal,
            external_policy: external,
            ..mk_exposed("web")
        };
        let plan = plan_one::<V4>(&service, &[mk_slice("web", endpoints)]);
        let case = format!("internal {internal:?}, external {external:?}, {endpoints:?}");
        assert_eq!(outcome(&plan, CLUSTER_IP), under(outcomes, internal), "{case}");
        for frontend in OUTSIDE {
            assert_eq!(
                outcome(&plan, frontend),
                under(outcomes, external),
                "{case}: {frontend}"
            );
        }
        assert_eq!(
            list_text(plan.all.as_ref()),
            outcomes[0],
            "short circuits use all: {case}"
        );
        let uses_local = internal == Local || external == Local;
        assert_eq!(plan.local.is_some(), uses_local, "{case}");
    });
}

#[test]
fn without_anything_outside_only_the_list_of_the_internal_policy_is_made() {
    for_every_case(|internal, external, endpoints, outcomes| {
        let service = Service {
            internal_policy: internal,
            external_policy: external,
            ..mk_service("web")
        };
        let plan = plan_one::<V4>(&service, &[mk_slice("web", endpoints)]);
        let lists = [list_text(plan.all.as_ref()), list_text(plan.local.as_ref())];
        let expected = match internal {
            Cluster => [outcomes[0], "-"],
            Local => ["-", outcomes[1]],
        };
        assert_eq!(lists, expected, "{internal:?} {external:?} {endpoints:?}");
    });
}

#[test]
fn an_address_of_the_other_family_asks_for_no_list_in_this_one() {
    let service = Service {
        internal_policy: Local,
        external_policy: Local,
        external_ips: ips(&["2001:db8::1"]),
        ..mk_service("web")
    };
    let plan = plan_one::<V4>(&service, &[mk_slice("web", &[local("10.0.1.1")])]);
    assert_eq!(list_text(plan.all.as_ref()), "-");
    assert_eq!(list_text(plan.local.as_ref()), "10.0.1.1:8080");
}

#[test]
fn a_node_port_of_one_port_asks_for_no_list_of_another_port() {
    let mut service = mk_exposed("web");
    service.ports.push(mk_port("admin", crate::row::Protocol::Tcp, 81));
    service.external_ips.clear();
    service.ingress_ips.clear();
    service.external_policy = Local;
    let plans = plans::<V4>(&service, &[mk_slice("web", &[local("10.0.1.1")])]);
    assert!(plans[0].local.is_some());
    assert!(plans[1].local.is_none());
}

#[test]
fn no_slice_at_all_is_the_same_as_no_endpoint() {
    let service = Service {
        internal_policy: Local,
        external_policy: Local,
        ..mk_exposed("web")
    };
    let plan = plan_one::<V4>(&service, &[]);
    assert_eq!(outcome(&plan, CLUSTER_IP), "refused");
    assert_eq!(outcome(&plan, OUTSIDE[0]), "refused");
}

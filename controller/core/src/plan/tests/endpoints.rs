//! Which entries of which slices become endpoints.

use crate::family::{IpFamily, V4, V6};
use crate::object::{Conditions, EndpointSlice, Service, SliceEndpoint, TrafficPolicy};
use crate::row::Protocol;
use crate::samples::*;

/// All usable endpoints of port `http` from these slices.
fn all(slices: &[EndpointSlice]) -> String {
    list_text(plan_one::<V4>(&mk_service("web"), slices).all.as_ref())
}

#[test]
fn endpoints_are_sorted_whatever_the_order_of_slices_and_entries() {
    let [a, b, c] = [remote("10.0.9.1"), local("10.0.10.1"), remote("10.0.1.1")];
    let expected = "10.0.1.1:8080 10.0.9.1:8080 10.0.10.1:8080";
    assert_eq!(all(&[mk_slice("web", &[a, b]), mk_slice("web", &[c])]), expected);
    assert_eq!(all(&[mk_slice("web", &[c]), mk_slice("web", &[b, a])]), expected);
}

#[test]
fn a_ready_endpoint_counts_even_if_it_terminates_or_does_not_serve() {
    // The slice controller writes this for publishNotReadyAddresses.
    let conditions = Conditions {
        ready: true,
        serving: false,
        terminating: true,
    };
    let entry = SliceEndpoint {
        conditions,
        ..remote("10.0.2.1")
    };
    assert_eq!(
        all(&[mk_slice("web", &[entry, terminating(local("10.0.1.1"))])]),
        "10.0.2.1:8080"
    );
}

#[test]
fn nothing_but_serving_and_terminating_is_fallen_back_to() {
    for (serving, is_terminating) in [(false, false), (false, true), (true, false)] {
        let conditions = Conditions {
            ready: false,
            serving,
            terminating: is_terminating,
        };
        let entry = SliceEndpoint {
            conditions,
            ..local("10.0.1.1")
        };
        let (slices, case) = ([mk_slice("web", &[entry])], format!("{conditions:?}"));
        assert_eq!(all(&slices), "refused", "{case}");
        let service = Service {
            external_policy: TrafficPolicy::Local,
            ..mk_exposed("web")
        };
        let plan = plan_one::<V4>(&service, &slices);
        assert_eq!(list_text(plan.local.as_ref()), "refused", "{case}");
    }
}

#[test]
fn one_endpoint_in_several_slices_counts_once() {
    let entry = remote("10.0.2.1");
    assert_eq!(
        all(&[mk_slice("web", &[entry, entry]), mk_slice("web", &[entry])]),
        "10.0.2.1:8080"
    );
}

#[test]
fn of_two_entries_for_one_endpoint_the_more_usable_one_counts_and_local_wins() {
    let near = local("10.0.1.1");
    let far = remote("10.0.1.1");
    for (one, other, usable) in [
        (unready(near), far, true),
        (terminating(near), far, true),
        (unready(near), terminating(far), true),
        (near, unready(far), true),
        (unready(near), unready(far), false),
    ] {
        for slices in [[one, other], [other, one]].map(|pair| pair.map(|entry| mk_slice("web", &[entry]))) {
            let service = Service {
                internal_policy: TrafficPolicy::Local,
                ..mk_service("web")
            };
            let plan = plan_one::<V4>(&service, &slices);
            let expected = if usable { "10.0.1.1:8080" } else { "refused" };
            assert_eq!(list_text(plan.local.as_ref()), expected, "{one:?} {other:?}");
        }
    }
}

#[test]
fn one_address_with_two_ports_is_two_endpoints() {
    let other = EndpointSlice {
        ports: [mk_slice_port("http", Protocol::Tcp, 9090)].into(),
        ..mk_slice("web", &[remote("10.0.2.1")])
    };
    assert_eq!(
        all(&[mk_slice("web", &[remote("10.0.2.1")]), other]),
        "10.0.2.1:8080 10.0.2.1:9090"
    );
}

#[test]
fn a_slice_port_belongs_to_the_service_port_of_its_name_and_protocol() {
    let slice = EndpointSlice {
        ports: [
            mk_slice_port("http", Protocol::Udp, 1),
            mk_slice_port("", Protocol::Tcp, 2),
            mk_slice_port("https", Protocol::Tcp, 3),
        ]
        .into(),
        ..mk_slice("web", &[remote("10.0.2.1")])
    };
    assert_eq!(all(&[slice]), "refused");
}

#[test]
fn a_port_without_a_name_is_matched_with_a_slice_port_without_a_name() {
    let service = Service {
        ports: vec![mk_port("", Protocol::Tcp, 80)],
        ..mk_service("web")
    };
    let slice = EndpointSlice {
        ports: [mk_slice_port("", Protocol::Tcp, 8080)].into(),
        ..mk_slice("web", &[remote("10.0.2.1")])
    };
    let plan = plan_one::<V4>(&service, &[slice]);
    assert_eq!(list_text(plan.all.as_ref()), "10.0.2.1:8080");
    assert_eq!(plan.key.to_string(), "ns/web");
}

#[test]
fn one_number_in_three_protocols_is_three_ports_with_their_own_endpoints() {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let service = Service {
        ports: protocols.map(|protocol| mk_port("dns", protocol, 53)).to_vec(),
        ..mk_service("dns")
    };
    let slice = EndpointSlice {
        ports: [
            mk_slice_port("dns", Protocol::Sctp, 3),
            mk_slice_port("dns", Protocol::Tcp, 1),
            mk_slice_port("dns", Protocol::Udp, 2),
        ]
        .into(),
        ..mk_slice("dns", &[remote("10.0.2.1")])
    };
    let found: Vec<_> = plans::<V4>(&service, &[slice])
        .iter()
        .map(|plan| {
            (
                plan.key.protocol,
                frontend_texts(plan).join(" "),
                list_text(plan.all.as_ref()),
            )
        })
        .collect();
    let expected = [
        (Protocol::Tcp, "cluster 10.96.0.1 53/TCP", "10.0.2.1:1"),
        (Protocol::Udp, "cluster 10.96.0.1 53/UDP", "10.0.2.1:2"),
        (Protocol::Sctp, "cluster 10.96.0.1 53/SCTP", "10.0.2.1:3"),
    ];
    assert_eq!(found, expected.map(|(p, f, l)| (p, f.to_owned(), l.to_owned())));
}

#[test]
fn several_ports_take_their_endpoints_from_different_slices() {
    let service = Service {
        ports: vec![mk_port("http", Protocol::Tcp, 80), mk_port("admin", Protocol::Tcp, 81)],
        ..mk_service("web")
    };
    let admin = EndpointSlice {
        ports: [mk_slice_port("admin", Protocol::Tcp, 9000)].into(),
        ..mk_slice("web", &[remote("10.0.2.2")])
    };
    let found: Vec<_> = plans::<V4>(&service, &[admin, mk_slice("web", &[remote("10.0.2.1")])])
        .iter()
        .map(|plan| list_text(plan.all.as_ref()))
        .collect();
    assert_eq!(found, ["10.0.2.1:8080", "10.0.2.2:9000"]);
}

#[test]
fn slices_of_the_other_family_are_ignored() {
    let service = Service {
        cluster_ips: ips(&["10.96.0.1", "fd00::1"]),
        ..mk_service("web")
    };
    let slices = [
        mk_slice("web", &[local("10.0.1.1")]),
        mk_slice("web", &[local("fd01::1")]),
    ];
    assert_eq!(
        list_text(plan_one::<V4>(&service, &slices).all.as_ref()),
        "10.0.1.1:8080"
    );
    assert_eq!(
        list_text(plan_one::<V6>(&service, &slices).all.as_ref()),
        "fd01::1:8080"
    );
    assert_eq!(
        list_text(plan_one::<V6>(&service, &slices[..1]).all.as_ref()),
        "refused"
    );
}

#[test]
fn an_address_of_the_other_family_in_a_slice_is_left_out() {
    let slice = EndpointSlice {
        family: IpFamily::V4,
        ..mk_slice("web", &[local("fd01::1"), local("10.0.1.1")])
    };
    assert_eq!(all(std::slice::from_ref(&slice)), "10.0.1.1:8080");
    let service = Service {
        cluster_ips: ips(&["fd00::1"]),
        ..mk_service("web")
    };
    assert_eq!(list_text(plan_one::<V6>(&service, &[slice]).all.as_ref()), "refused");
}

#[test]
fn only_usable_endpoints_on_this_node_may_reach_themselves() {
    let entries = [
        local("10.0.1.2"),
        local("10.0.1.1"),
        remote("10.0.2.1"),
        unready(local("10.0.1.3")),
        terminating(local("10.0.1.4")),
    ];
    let plan = plan_one::<V4>(&mk_service("web"), &[mk_slice("web", &entries)]);
    assert_eq!(
        plan.hairpin,
        ["10.0.1.1", "10.0.1.2"].map(|addr| addr.parse::<std::net::Ipv4Addr>().unwrap())
    );
}

#[test]
fn endpoints_that_only_the_local_list_falls_back_to_may_reach_themselves_too() {
    let service = Service {
        external_policy: TrafficPolicy::Local,
        ..mk_exposed("web")
    };
    let entries = [terminating(local("10.0.1.4")), remote("10.0.2.1")];
    let plan = plan_one::<V4>(&service, &[mk_slice("web", &entries)]);
    assert_eq!(plan.hairpin, ["10.0.1.4".parse::<std::net::Ipv4Addr>().unwrap()]);
}

#[test]
fn udp_flows_may_be_with_every_endpoint_that_answers_whatever_the_policies() {
    let service = Service {
        internal_policy: TrafficPolicy::Local,
        ports: vec![mk_port("dns", Protocol::Udp, 53), mk_port("http", Protocol::Tcp, 80)],
        ..mk_service("web")
    };
    let slice = EndpointSlice {
        ports: [
            mk_slice_port("dns", Protocol::Udp, 53),
            mk_slice_port("http", Protocol::Tcp, 8080),
        ]
        .into(),
        ..mk_slice(
            "web",
            &[
                remote("10.0.2.1"),
                terminating(local("10.0.1.1")),
                unready(local("10.0.3.1")),
            ],
        )
    };
    let plans = plans::<V4>(&service, &[slice]);
    let answering = |plan: usize| {
        let endpoints = plans[plan].answering.iter().map(|e| format!("{}:{}", e.addr, e.port));
        endpoints.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(answering(0), "10.0.1.1:53 10.0.2.1:53");
    assert_eq!(answering(1), "", "connections end by themselves");
}

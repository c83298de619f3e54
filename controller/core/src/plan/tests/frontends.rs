//! Which addresses lead to a Service in each family.

use crate::family::{V4, V6};
use crate::object::{Service, ServicePort};
use crate::row::Protocol;
use crate::samples::*;

#[test]
fn a_service_is_planned_only_in_the_families_of_its_cluster_ips() {
    let service = Service {
        external_ips: ips(&["2001:db8::1"]),
        ..mk_service("web")
    };
    assert_eq!(plans::<V4>(&service, &[]).len(), 1);
    assert_eq!(plans::<V6>(&service, &[]), []);
    let service = Service {
        cluster_ips: Vec::new(),
        ..mk_exposed("web")
    };
    assert_eq!(plans::<V4>(&service, &[]), []);
}

#[test]
fn a_dual_stack_service_is_planned_in_both_families_in_either_order() {
    for cluster_ips in [["10.96.0.1", "fd00::1"], ["fd00::1", "10.96.0.1"]] {
        let service = Service {
            cluster_ips: ips(&cluster_ips),
            ..mk_service("web")
        };
        let v4 = plan_one::<V4>(&service, &[]);
        let v6 = plan_one::<V6>(&service, &[]);
        assert_eq!(frontend_texts(&v4), ["cluster 10.96.0.1 80/TCP"]);
        assert_eq!(frontend_texts(&v6), ["cluster fd00::1 80/TCP"]);
        assert_eq!(v4.key, v6.key);
    }
}

#[test]
fn outside_addresses_go_to_their_own_family_in_any_order() {
    for reversed in [false, true] {
        let mut service = Service {
            cluster_ips: ips(&["10.96.0.1", "fd00::1"]),
            external_ips: ips(&["198.51.100.1", "2001:db8::1", "198.51.100.2"]),
            ingress_ips: ips(&["2001:db8::9", "203.0.113.1"]),
            ..mk_service("web")
        };
        if reversed {
            service.external_ips.reverse();
            service.ingress_ips.reverse();
        }
        let sorted = |mut texts: Vec<String>| {
            texts.sort_unstable();
            texts
        };
        assert_eq!(
            sorted(frontend_texts(&plan_one::<V4>(&service, &[]))),
            [
                "cluster 10.96.0.1 80/TCP",
                "external 198.51.100.1 80/TCP",
                "external 198.51.100.2 80/TCP",
                "external 203.0.113.1 80/TCP",
            ]
        );
        assert_eq!(
            sorted(frontend_texts(&plan_one::<V6>(&service, &[]))),
            [
                "cluster fd00::1 80/TCP",
                "external 2001:db8::1 80/TCP",
                "external 2001:db8::9 80/TCP",
            ]
        );
    }
}

#[test]
fn every_port_has_its_own_frontends_and_node_ports_go_to_both_families() {
    let service = Service {
        cluster_ips: ips(&["fd00::1", "10.96.0.1"]),
        external_ips: ips(&["198.51.100.1"]),
        ports: vec![
            ServicePort {
                node_port: Some(port(30080)),
                ..mk_port("http", Protocol::Tcp, 80)
            },
            ServicePort {
                node_port: Some(port(30080)),
                ..mk_port("quic", Protocol::Udp, 80)
            },
            mk_port("admin", Protocol::Tcp, 81),
        ],
        ..mk_service("web")
    };
    let v4: Vec<String> = plans::<V4>(&service, &[]).iter().flat_map(frontend_texts).collect();
    assert_eq!(
        v4,
        [
            "cluster 10.96.0.1 80/TCP",
            "external 198.51.100.1 80/TCP",
            "node-port 30080/TCP",
            "cluster 10.96.0.1 80/UDP",
            "external 198.51.100.1 80/UDP",
            "node-port 30080/UDP",
            "cluster 10.96.0.1 81/TCP",
            "external 198.51.100.1 81/TCP",
        ]
    );
    let v6: Vec<String> = plans::<V6>(&service, &[]).iter().flat_map(frontend_texts).collect();
    assert_eq!(
        v6,
        [
            "cluster fd00::1 80/TCP",
            "node-port 30080/TCP",
            "cluster fd00::1 80/UDP",
            "node-port 30080/UDP",
            "cluster fd00::1 81/TCP",
        ]
    );
}

#[test]
fn an_address_named_twice_is_one_frontend() {
    let service = Service {
        external_ips: ips(&["203.0.113.1", "198.51.100.1", "198.51.100.1"]),
        ingress_ips: ips(&["203.0.113.1", "203.0.113.1"]),
        ..mk_service("web")
    };
    assert_eq!(
        frontend_texts(&plan_one::<V4>(&service, &[])),
        [
            "cluster 10.96.0.1 80/TCP",
            "external 203.0.113.1 80/TCP",
            "external 198.51.100.1 80/TCP",
        ]
    );
}

#[test]
fn labels_name_namespace_service_and_port() {
    assert_eq!(&*http("web").label(), "ns/web:http");
    assert_eq!(plan_one::<V4>(&mk_service("web"), &[]).key, http("web"));
}

#[test]
fn labels_are_cut_to_what_a_data_plane_keeps_and_names_are_not() {
    let mut key = http(&"s".repeat(63));
    key.service.namespace = "n".repeat(63).into();
    assert_eq!(key.to_string().len(), 132);
    assert_eq!(*key.label(), key.to_string()[..127]);
    key.service.name = format!("{}é", "s".repeat(62)).into();
    assert_eq!(key.label().len(), 126, "never within a character");
}

#[test]
fn age_and_affinity_are_the_services() {
    let service = Service {
        created: 17,
        affinity: Some(10_800),
        ..mk_service("web")
    };
    let plan = plan_one::<V4>(&service, &[]);
    assert_eq!((plan.created, plan.affinity), (17, Some(10_800)));
}

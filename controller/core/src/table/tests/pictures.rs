//! The rows of whole Services, as pictures for a reader.

use insta::assert_snapshot;

use super::*;
use crate::object::TrafficPolicy;

const A: &str = "10.0.1.1";
const B: &str = "10.0.2.1";

fn picture(service: &Service, endpoints: &[SliceEndpoint]) -> String {
    rows_text(&table_of([mk_plan(service, endpoints)]).rows())
}

#[test]
fn a_cluster_ip_with_two_endpoints() {
    assert_snapshot!(picture(&mk_service("web"), &[local(A), remote(B)]), @r"
    cluster-ip 10.96.0.1
    endpoint f000:0200 . 0 : 10.0.1.1:8080
    endpoint f000:0200 . 1 : 10.0.2.1:8080
    frontend cluster 10.96.0.1 80/TCP : f000:0200  # ns/web:http
    hairpin 10.0.1.1
    service f000:0200 : any of 2  # ns/web:http
    ");
}

#[test]
fn a_load_balancer_that_keeps_to_local_endpoints() {
    let service = Service {
        external_policy: TrafficPolicy::Local,
        source_ranges: nets(&["192.0.2.0/24", "100.64.0.0/10"]),
        restricted: Families::BOTH,
        ..mk_exposed("web")
    };
    assert_snapshot!(picture(&service, &[local(A), remote(B)]), @r"
    allowed-source 203.0.113.1 80/TCP . 100.64.0.0/10
    allowed-source 203.0.113.1 80/TCP . 192.0.2.0/24
    allowed-source 203.0.113.1 80/TCP . 203.0.113.1/32
    cluster-ip 10.96.0.1
    endpoint f000:0200 . 0 : 10.0.1.1:8080
    endpoint f000:0200 . 1 : 10.0.2.1:8080
    endpoint f800:0200 . 0 : 10.0.1.1:8080
    frontend cluster 10.96.0.1 80/TCP : f000:0200  # ns/web:http
    frontend external 198.51.100.1 80/TCP : f800:0200  # ns/web:http
    frontend external 203.0.113.1 80/TCP : f800:0200  # ns/web:http
    frontend node-port 30080/TCP : f800:0200  # ns/web:http
    hairpin 10.0.1.1
    restricted 203.0.113.1 80/TCP
    service f000:0200 : any of 2  # ns/web:http
    service f800:0200 : any of 1  # ns/web:http
    ");
}

#[test]
fn a_load_balancer_with_endpoints_on_other_nodes_only() {
    let service = Service {
        external_policy: TrafficPolicy::Local,
        ..mk_exposed("web")
    };
    assert_snapshot!(picture(&service, &[remote(B)]), @r"
    cluster-ip 10.96.0.1
    endpoint f000:0200 . 0 : 10.0.2.1:8080
    frontend cluster 10.96.0.1 80/TCP : f000:0200  # ns/web:http
    frontend external 198.51.100.1 80/TCP : f800:0200  # ns/web:http
    frontend external 203.0.113.1 80/TCP : f800:0200  # ns/web:http
    frontend node-port 30080/TCP : f800:0200  # ns/web:http
    service f000:0200 : any of 1  # ns/web:http
    service f800:0200 : discard  # ns/web:http
    ");
}

#[test]
fn affinity_on_a_node_port() {
    let service = Service {
        affinity: Some(10_800),
        ingress_ips: Vec::new(),
        external_ips: Vec::new(),
        ..mk_exposed("web")
    };
    assert_snapshot!(picture(&service, &[local(A), remote(B)]), @r"
    cluster-ip 10.96.0.1
    endpoint-id f400:0001 : 10.0.1.1:8080
    endpoint-id f400:0002 : 10.0.2.1:8080
    frontend cluster 10.96.0.1 80/TCP : f400:0000  # ns/web:http
    frontend node-port 30080/TCP : f400:0000  # ns/web:http
    hairpin 10.0.1.1
    service f400:0000 : sticky of 2 for 10800s  # ns/web:http
    sticky-endpoint f400:0000 . 0 : f400:0001
    sticky-endpoint f400:0000 . 1 : f400:0002
    ");
}

#[test]
fn a_service_without_endpoints() {
    assert_snapshot!(picture(&mk_exposed("web"), &[unready(local(A))]), @r"
    cluster-ip 10.96.0.1
    frontend cluster 10.96.0.1 80/TCP : f000:0200  # ns/web:http
    frontend external 198.51.100.1 80/TCP : f000:0200  # ns/web:http
    frontend external 203.0.113.1 80/TCP : f000:0200  # ns/web:http
    frontend node-port 30080/TCP : f000:0200  # ns/web:http
    service f000:0200 : refuse  # ns/web:http
    ");
}

#[test]
fn an_ipv6_service() {
    let service = Service {
        cluster_ips: ips(&["fd00::1"]),
        external_ips: ips(&["2001:db8::1"]),
        ..mk_service("web")
    };
    let mut table = Table::<crate::family::V6>::default();
    table.set(plan_one(&service, &[mk_slice("web", &[local("fd01::1")])]));
    assert_snapshot!(rows_text(&table.rows()), @r"
    cluster-ip fd00::1
    endpoint f000:0200 . 0 : fd01::1:8080
    frontend cluster fd00::1 80/TCP : f000:0200  # ns/web:http
    frontend external 2001:db8::1 80/TCP : f000:0200  # ns/web:http
    hairpin fd01::1
    service f000:0200 : any of 1  # ns/web:http
    ");
}

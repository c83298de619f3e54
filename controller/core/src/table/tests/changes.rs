//! Every single change touches as few rows as possible.

use super::*;
use crate::object::{EndpointSlice, ServicePort, TrafficPolicy};
use crate::row::Protocol;

const A: &str = "10.0.1.1";
const B: &str = "10.0.2.1";
const C: &str = "10.0.2.2";

fn web(endpoints: &[SliceEndpoint]) -> PortPlan<V4> {
    mk_plan(&mk_service("web"), endpoints)
}

#[test]
fn the_same_plan_again_changes_nothing() {
    let plan = mk_plan(&mk_exposed("web"), &[local(A), remote(B)]);
    let mut table = table_of([plan.clone()]);
    assert_eq!(change(&mut table, plan), NOTHING);
}

#[test]
fn the_order_of_objects_entries_and_addresses_changes_nothing() {
    let service = Service {
        external_ips: ips(&["198.51.100.1", "198.51.100.2"]),
        source_ranges: nets(&["192.0.2.0/24", "100.64.0.0/10"]),
        restricted: Families::BOTH,
        ..mk_exposed("web")
    };
    let mut table = table_of([mk_plan(&service, &[local(A), remote(B)])]);
    let mut other = service;
    other.external_ips.reverse();
    other.source_ranges.reverse();
    assert_eq!(change(&mut table, mk_plan(&other, &[remote(B), local(A)])), NOTHING);
}

#[test]
fn a_new_endpoint_is_one_row_and_the_count() {
    let mut table = table_of([web(&[remote(B)])]);
    assert_eq!(
        change(&mut table, web(&[remote(B), remote(C)])),
        [
            "+ endpoint f000:0200 . 1 : 10.0.2.2:8080",
            "~ service f000:0200 : any of 1 -> any of 2",
        ]
    );
}

#[test]
fn a_new_endpoint_on_this_node_may_also_reach_itself() {
    let mut table = table_of([web(&[remote(B)])]);
    assert_eq!(
        change(&mut table, web(&[local(A), remote(B)])),
        [
            "+ endpoint f000:0200 . 1 : 10.0.1.1:8080",
            "+ hairpin 10.0.1.1",
            "~ service f000:0200 : any of 1 -> any of 2",
        ]
    );
}

#[test]
fn the_last_endpoint_to_go_is_one_row_and_the_count() {
    let mut table = table_of([web(&[remote(B), remote(C)])]);
    assert_eq!(
        change(&mut table, web(&[remote(B)])),
        [
            "- endpoint f000:0200 . 1 : 10.0.2.2:8080",
            "~ service f000:0200 : any of 2 -> any of 1",
        ]
    );
}

#[test]
fn an_endpoint_that_goes_from_the_middle_is_replaced_by_the_last() {
    let mut table = table_of([web(&[remote(A), remote(B), remote(C)])]);
    assert_eq!(
        change(&mut table, web(&[remote(B), remote(C)])),
        [
            "- endpoint f000:0200 . 2 : 10.0.2.2:8080",
            "~ endpoint f000:0200 . 0 : 10.0.1.1:8080 -> 10.0.2.2:8080",
            "~ service f000:0200 : any of 3 -> any of 2",
        ]
    );
}

#[test]
fn a_replaced_endpoint_is_one_changed_row() {
    let mut table = table_of([web(&[remote(A), remote(B)])]);
    assert_eq!(
        change(&mut table, web(&[remote(B), remote(C)])),
        ["~ endpoint f000:0200 . 0 : 10.0.1.1:8080 -> 10.0.2.2:8080"]
    );
}

#[test]
fn an_endpoint_that_is_no_longer_ready_goes_and_comes_back() {
    let mut table = table_of([web(&[remote(A), remote(B)])]);
    assert_eq!(
        change(&mut table, web(&[remote(A), unready(remote(B))])),
        [
            "- endpoint f000:0200 . 1 : 10.0.2.1:8080",
            "~ service f000:0200 : any of 2 -> any of 1",
        ]
    );
    assert_eq!(change(&mut table, web(&[remote(A), terminating(remote(B))])), NOTHING);
    assert_eq!(change(&mut table, web(&[remote(A), remote(B)])).len(), 2);
}

#[test]
fn a_service_scaled_to_zero_refuses_and_keeps_its_frontends_and_id() {
    let mut table = table_of([web(&[remote(A), remote(B)])]);
    let full = rows_text(&table.rows());
    assert_eq!(
        change(&mut table, web(&[])),
        [
            "- endpoint f000:0200 . 0 : 10.0.1.1:8080",
            "- endpoint f000:0200 . 1 : 10.0.2.1:8080",
            "~ service f000:0200 : any of 2 -> refuse",
        ]
    );
    assert_eq!(
        change(&mut table, web(&[remote(A), remote(B)])),
        [
            "+ endpoint f000:0200 . 0 : 10.0.1.1:8080",
            "+ endpoint f000:0200 . 1 : 10.0.2.1:8080",
            "~ service f000:0200 : refuse -> any of 2",
        ]
    );
    assert_eq!(rows_text(&table.rows()), full);
}

#[test]
fn a_local_list_without_endpoints_discards_while_there_are_some_elsewhere() {
    let service = Service {
        internal_policy: TrafficPolicy::Local,
        ..mk_service("web")
    };
    let mut table = table_of([mk_plan(&service, &[remote(B)])]);
    assert_eq!(
        rows_text(&table.rows()),
        "cluster-ip 10.96.0.1\n\
         frontend cluster 10.96.0.1 80/TCP : f800:0200  # ns/web:http\n\
         service f800:0200 : discard  # ns/web:http"
    );
    assert_eq!(
        change(&mut table, mk_plan(&service, &[])),
        ["~ service f800:0200 : discard -> refuse"]
    );
}

#[test]
fn a_renamed_port_keeps_its_frontend() {
    let mut table = table_of([web(&[remote(A)])]);
    let service = Service {
        ports: vec![mk_port("web", Protocol::Tcp, 80)],
        ..mk_service("web")
    };
    let slice = EndpointSlice {
        ports: [mk_slice_port("web", Protocol::Tcp, 8080)].into(),
        ..mk_slice("web", &[remote(A)])
    };
    assert_eq!(table.set(plan_one(&service, &[slice])), None);
    table.remove(&http("web"));
    assert_eq!(
        settle(&mut table),
        [
            "+ endpoint f000:0400 . 0 : 10.0.1.1:8080",
            "+ service f000:0400 : any of 1",
            "- service f000:0200 : any of 1",
            "- endpoint f000:0200 . 0 : 10.0.1.1:8080",
            "~ frontend cluster 10.96.0.1 80/TCP : f000:0200 -> f000:0400",
        ]
    );
}

#[test]
fn another_port_number_moves_the_frontend_only() {
    let mut table = table_of([web(&[remote(A)])]);
    let service = Service {
        ports: vec![mk_port("http", Protocol::Tcp, 81)],
        ..mk_service("web")
    };
    assert_eq!(
        change(&mut table, mk_plan(&service, &[remote(A)])),
        [
            "+ frontend cluster 10.96.0.1 81/TCP : f000:0200",
            "- frontend cluster 10.96.0.1 80/TCP : f000:0200",
        ]
    );
}

#[test]
fn another_target_port_changes_the_endpoints_only() {
    let mut table = table_of([web(&[remote(A)])]);
    let slice = EndpointSlice {
        ports: [mk_slice_port("http", Protocol::Tcp, 9090)].into(),
        ..mk_slice("web", &[remote(A)])
    };
    assert_eq!(
        change(&mut table, plan_one(&mk_service("web"), &[slice])),
        ["~ endpoint f000:0200 . 0 : 10.0.1.1:8080 -> 10.0.1.1:9090"]
    );
}

#[test]
fn a_change_to_node_port_and_back_is_one_frontend() {
    let mut table = table_of([web(&[remote(A)])]);
    let service = Service {
        ports: vec![ServicePort {
            node_port: Some(port(30080)),
            ..mk_port("http", Protocol::Tcp, 80)
        }],
        ..mk_service("web")
    };
    assert_eq!(
        change(&mut table, mk_plan(&service, &[remote(A)])),
        ["+ frontend node-port 30080/TCP : f000:0200"]
    );
    assert_eq!(
        change(&mut table, web(&[remote(A)])),
        ["- frontend node-port 30080/TCP : f000:0200"]
    );
}

#[test]
fn another_external_policy_points_the_outside_frontends_to_the_other_list() {
    let cluster = mk_exposed("web");
    let local_only = Service {
        external_policy: TrafficPolicy::Local,
        ..cluster.clone()
    };
    let mut table = table_of([mk_plan(&cluster, &[local(A), remote(B)])]);
    let to_local = [
        "+ endpoint f800:0200 . 0 : 10.0.1.1:8080",
        "+ service f800:0200 : any of 1",
        "~ frontend external 198.51.100.1 80/TCP : f000:0200 -> f800:0200",
        "~ frontend external 203.0.113.1 80/TCP : f000:0200 -> f800:0200",
        "~ frontend node-port 30080/TCP : f000:0200 -> f800:0200",
    ];
    assert_eq!(
        change(&mut table, mk_plan(&local_only, &[local(A), remote(B)])),
        to_local
    );
    let back = change(&mut table, mk_plan(&cluster, &[local(A), remote(B)]));
    assert_eq!(back.len(), to_local.len(), "{back:#?}");
}

#[test]
fn another_internal_policy_points_the_cluster_ip_to_the_other_list() {
    let mut table = table_of([web(&[local(A), remote(B)])]);
    let service = Service {
        internal_policy: TrafficPolicy::Local,
        ..mk_service("web")
    };
    assert_eq!(
        change(&mut table, mk_plan(&service, &[local(A), remote(B)])),
        [
            "+ endpoint f800:0200 . 0 : 10.0.1.1:8080",
            "+ service f800:0200 : any of 1",
            "- service f000:0200 : any of 2",
            "- endpoint f000:0200 . 0 : 10.0.1.1:8080",
            "- endpoint f000:0200 . 1 : 10.0.2.1:8080",
            "~ frontend cluster 10.96.0.1 80/TCP : f000:0200 -> f800:0200",
        ]
    );
}

#[test]
fn a_new_external_ip_is_one_row() {
    let mut table = table_of([web(&[remote(A)])]);
    let service = Service {
        external_ips: ips(&["198.51.100.1"]),
        ..mk_service("web")
    };
    assert_eq!(
        change(&mut table, mk_plan(&service, &[remote(A)])),
        ["+ frontend external 198.51.100.1 80/TCP : f000:0200"]
    );
    assert_eq!(
        change(&mut table, web(&[remote(A)])),
        ["- frontend external 198.51.100.1 80/TCP : f000:0200"]
    );
}

#[test]
fn source_ranges_come_and_go_one_row_each() {
    let mk = |ranges: &[&str]| Service {
        source_ranges: nets(ranges),
        restricted: closed(!ranges.is_empty()),
        ingress_ips: ips(&["203.0.113.1"]),
        ..mk_service("web")
    };
    let mut table = table_of([mk_plan(&mk(&[]), &[])]);
    assert_eq!(
        change(&mut table, mk_plan(&mk(&["100.64.0.0/10"]), &[])),
        [
            "+ allowed-source 203.0.113.1 80/TCP . 100.64.0.0/10",
            "+ restricted 203.0.113.1 80/TCP",
        ]
    );
    assert_eq!(
        change(&mut table, mk_plan(&mk(&["100.64.0.0/10", "198.51.100.0/24"]), &[])),
        ["+ allowed-source 203.0.113.1 80/TCP . 198.51.100.0/24"]
    );
    assert_eq!(
        change(&mut table, mk_plan(&mk(&["198.51.100.0/24"]), &[])),
        ["- allowed-source 203.0.113.1 80/TCP . 100.64.0.0/10"]
    );
    assert_eq!(
        change(&mut table, mk_plan(&mk(&[]), &[])),
        [
            "- restricted 203.0.113.1 80/TCP",
            "- allowed-source 203.0.113.1 80/TCP . 198.51.100.0/24",
        ]
    );
}

#[test]
fn a_removed_service_leaves_nothing_behind() {
    let service = Service {
        external_policy: TrafficPolicy::Local,
        affinity: Some(10),
        source_ranges: nets(&["192.0.2.0/24"]),
        restricted: Families::BOTH,
        ..mk_exposed("web")
    };
    let mut table = table_of([mk_plan(&service, &[local(A), remote(B)])]);
    let stood = table.rows().len();
    table.remove(&http("web"));
    let delta = table.take();
    assert_eq!(
        (delta.removed.len(), delta.added.len(), delta.changed.len()),
        (stood, 0, 0)
    );
    assert_eq!(table.rows(), []);
    table.remove(&http("web"));
    assert!(table.take().is_empty());
}

#[test]
fn rows_that_several_ports_share_go_with_the_last() {
    let both = Service {
        ports: vec![mk_port("http", Protocol::Tcp, 80), mk_port("admin", Protocol::Tcp, 81)],
        ..mk_service("web")
    };
    let slice = EndpointSlice {
        ports: [
            mk_slice_port("http", Protocol::Tcp, 8080),
            mk_slice_port("admin", Protocol::Tcp, 8081),
        ]
        .into(),
        ..mk_slice("web", &[local(A)])
    };
    let plans = plans::<V4>(&both, &[slice]);
    let admin = plans[1].key.clone();
    let mut table = table_of(plans);
    let shared = ["- cluster-ip 10.96.0.1", "- hairpin 10.0.1.1"];
    table.remove(&admin);
    let first = settle(&mut table);
    assert!(!first.iter().any(|line| shared.contains(&line.as_str())), "{first:#?}");
    table.remove(&http("web"));
    let second = settle(&mut table);
    assert!(
        shared.iter().all(|line| second.contains(&(*line).to_owned())),
        "{second:#?}"
    );
}

#[test]
fn node_rows_change_one_by_one() {
    let rows = |cidrs: &[&str], pods: &[&str], addresses: &[&str]| NodeRows::<V4> {
        service_cidrs: nets(cidrs).into_iter().filter_map(V4::net).collect(),
        local_pods: nets(pods).into_iter().filter_map(V4::net).collect(),
        node_addresses: ips(addresses).into_iter().filter_map(V4::addr).collect(),
    };
    let mut table = table_of([]);
    table.set_node(rows(&["10.96.0.0/12"], &["10.0.0.0/16"], &["192.0.2.11"]));
    assert_eq!(
        settle(&mut table),
        [
            "+ service-cidr 10.96.0.0/12",
            "+ local-pods 10.0.0.0/16",
            "+ node-address 192.0.2.11"
        ]
    );
    table.set_node(rows(&["10.96.0.0/12"], &["10.0.0.0/16"], &["192.0.2.11"]));
    assert_eq!(settle(&mut table), NOTHING);
    table.set_node(rows(&["10.96.0.0/12"], &["10.0.0.0/15"], &["192.0.2.11", "192.0.2.12"]));
    assert_eq!(
        settle(&mut table),
        [
            "+ local-pods 10.0.0.0/15",
            "+ node-address 192.0.2.12",
            "- local-pods 10.0.0.0/16"
        ]
    );
}

#[test]
fn changes_that_undo_each_other_before_they_are_taken_are_no_change() {
    let mut table = table_of([web(&[remote(A)])]);
    table.set(web(&[remote(B), remote(C)]));
    table.set(mk_plan(&mk_service("other"), &[remote(B)]));
    table.remove(&http("other"));
    table.set(web(&[remote(A)]));
    assert_eq!(settle(&mut table), NOTHING);
}

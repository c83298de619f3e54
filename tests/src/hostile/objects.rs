//! Objects as large as possible. The API server accepts about 1.5 MB per object.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::manifests::{Service, Slice};

const NAMESPACE: &str = "hostile";
/// The name of its Services.
const NAME: &str = "crowd";

/// The steps, each with a word for it and what is written: made, changed, deleted.
pub(super) fn steps() -> Vec<(&'static str, Vec<Value>)> {
    let externals = |first: u32| addresses(Ipv4Addr::new(203, 0, 113, 0).to_bits() + first, 4096);
    let ranges = |first: u32| -> Vec<String> {
        addresses(first << 12, 4096)
            .map(|address| format!("{address}/32"))
            .collect()
    };
    let ingress = || addresses(Ipv4Addr::new(198, 18, 0, 0).to_bits(), 64);
    vec![
        ("64 externalIPs x 100 ports", crowd(externals(1).take(64), &[], 100, 8)),
        (
            "the same, one address and one port fewer",
            crowd(externals(1).take(63), &[], 99, 8),
        ),
        ("deleted", Vec::new()),
        // This is just below the limits of a Service.
        (
            "256 externalIPs x 120 ports",
            crowd(externals(1).take(256), &[], 120, 8),
        ),
        ("the same, other addresses", crowd(externals(9).take(256), &[], 120, 8)),
        ("deleted", Vec::new()),
        (
            "40 source ranges x 4 addresses x 50 ports",
            load_balancer(ingress().take(4), &ranges(11 << 8)[..40], 50),
        ),
        ("deleted", Vec::new()),
        ("4,096 externalIPs x 1,000 ports", crowd(externals(1), &[], 1000, 8)),
        ("the same, other addresses", crowd(externals(2), &[], 1000, 8)),
        ("deleted", Vec::new()),
        (
            "4,096 source ranges x 64 addresses x 200 ports",
            load_balancer(ingress(), &ranges(11 << 8), 200),
        ),
        (
            "the same, other ranges",
            load_balancer(ingress(), &ranges(11 << 8 | 1), 200),
        ),
        ("deleted", Vec::new()),
        (
            "10,000 endpoints x 100 ports",
            crowd(externals(1).take(1), &[], 100, 10_000),
        ),
        (
            "the same, 1,000 endpoints fewer",
            crowd(externals(1).take(1), &[], 100, 9_000),
        ),
        ("deleted", Vec::new()),
    ]
}

fn addresses(first: u32, count: u32) -> impl Iterator<Item = IpAddr> {
    (first..first + count).map(|bits| IpAddr::V4(bits.into()))
}

/// A Service with these externalIPs, and this number of ports and endpoints.
fn crowd(externals: impl Iterator<Item = IpAddr>, ranges: &[String], ports: u16, endpoints: u32) -> Vec<Value> {
    let service = Service::new(NAMESPACE, NAME).cluster_ips(&["10.111.0.1"]);
    let mut service = service.build();
    service["spec"]["externalIPs"] = externals.map(|address| json!(address)).collect();
    if !ranges.is_empty() {
        service["spec"]["loadBalancerSourceRanges"] = json!(ranges);
    }
    service["spec"]["ports"] = numbers(ports)
        .map(|port| json!({ "name": name(port), "protocol": "TCP", "port": port, "targetPort": port }))
        .collect();
    let mut objects = vec![service];
    // A slice has a thousand endpoints at most.
    for (number, first) in (0..endpoints).step_by(1000).enumerate() {
        let mut slice = Slice::new(NAMESPACE, &format!("{NAME}-{number}"), NAME).build();
        slice["ports"] = numbers(ports)
            .map(|port| json!({ "name": name(port), "protocol": "TCP", "port": port }))
            .collect();
        let first_address = Ipv4Addr::new(10, 200, 0, 0).to_bits() + first;
        let ready = json!({ "ready": true, "serving": true, "terminating": false });
        slice["endpoints"] = addresses(first_address, (endpoints - first).min(1000))
            .map(|address| json!({ "addresses": [address], "nodeName": "elsewhere", "conditions": ready }))
            .collect();
        objects.push(slice);
    }
    objects
}

/// A LoadBalancer with these addresses, which only these ranges may use.
fn load_balancer(ingress: impl Iterator<Item = IpAddr>, ranges: &[String], ports: u16) -> Vec<Value> {
    let mut objects = crowd([].into_iter(), ranges, ports, 8);
    objects[0]["spec"]["type"] = json!("LoadBalancer");
    let ingress: Value = ingress
        .map(|address| json!({ "ip": address, "ipMode": "VIP" }))
        .collect();
    objects[0]["status"] = json!({ "loadBalancer": { "ingress": ingress } });
    objects
}

fn numbers(count: u16) -> impl Iterator<Item = u16> {
    1..=count
}

fn name(port: u16) -> String {
    format!("p{port}")
}

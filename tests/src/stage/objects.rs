//! The objects of flow tests. Their addresses follow from small numbers.

use std::net::Ipv4Addr;

use serde_json::Value;

pub use crate::addresses::Ip;
use crate::manifests::{Service, Slice};
use crate::node::PodRanges;
use crate::topology::PODS;
use crate::traffic::Protocol;

use super::PROTOCOLS;

/// The namespace of all Services.
pub const NAMESPACE: &str = "shop";
/// The port that every pod serves.
pub const TARGET: u16 = 8080;

pub(super) const MARKER_FILE: &str = "zz-marker.yaml";
pub(super) const MARKER_NAMESPACE: &str = "zz";
pub(super) const MARKER_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// The name of the port of this protocol: `tcp`, `udp` or `sctp`.
pub fn port_name(protocol: Protocol) -> String {
    protocol.to_string().to_lowercase()
}

/// A dual-stack Service without ports.
pub fn bare_service(name: &str, number: u8) -> Service {
    let addresses = Ip::BOTH.map(|family| family.cluster_ip(number).to_string());
    Service::new(NAMESPACE, name).cluster_ips(&addresses.each_ref().map(String::as_str))
}

/// A dual-stack Service with port 80 in every protocol, named `tcp`, `udp` and `sctp`.
pub fn service(name: &str, number: u8) -> Service {
    PROTOCOLS
        .into_iter()
        .fold(bare_service(name, number), |service, protocol| {
            service.port(&port_name(protocol), protocol, 80, TARGET)
        })
}

/// The same with a nodePort, one number for every protocol.
pub fn node_port_service(name: &str, number: u8, node_port: u16) -> Service {
    PROTOCOLS
        .into_iter()
        .fold(bare_service(name, number), |service, protocol| {
            service.node_port(&port_name(protocol), protocol, 80, TARGET, node_port)
        })
}

/// A slice of this family, without endpoints yet, with the ports of [`service`].
pub fn slice(name: &str, service: &str, family: Ip) -> Slice {
    let slice = Slice::new(NAMESPACE, name, service).family(family == Ip::V6);
    PROTOCOLS.into_iter().fold(slice, |slice, protocol| {
        slice.port(&port_name(protocol), protocol, TARGET)
    })
}

/// One slice of each family with these pods of [`crate::topology`], all ready.
pub fn slices(service: &str, pods: &[&str]) -> Vec<Value> {
    let of_family = |family: Ip| {
        let name = format!("{service}-{}", family.of(["v4", "v6"]));
        let chosen = PODS.iter().filter(|(name, ..)| pods.contains(name));
        let add = |slice: Slice, (_, node, number): &(&str, u8, u8)| {
            let ranges = PodRanges::of_node(*node);
            let address = family.of([ranges.v4(*number).into(), ranges.v6(*number).into()]);
            slice.ready(address, &format!("node{node}"))
        };
        chosen.fold(slice(&name, service, family), add).build()
    };
    Ip::BOTH.map(of_family).into()
}

/// A Service that nobody uses. The port of its endpoint shows which change was the last.
pub(super) fn marker(change: u16) -> [Value; 2] {
    let service = Service::new(MARKER_NAMESPACE, "marker").cluster_ips(&["10.111.255.254"]);
    let slice = Slice::new(MARKER_NAMESPACE, "marker", "marker");
    [
        service.port("", Protocol::Tcp, 9, 9).build(),
        slice
            .port("", Protocol::Tcp, change)
            .ready(MARKER_ADDRESS.into(), "elsewhere")
            .build(),
    ]
}

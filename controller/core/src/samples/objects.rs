//! Services and their ports.

use std::net::Ipv4Addr;

use crate::family::Families;
use crate::object::{ObjectKey, Service, ServicePort, ServiceType, TrafficPolicy};
use crate::row::{Port, Protocol};

/// A Service in namespace `ns` with ClusterIP 10.96.0.1 and port `http`, 80/TCP. A test changes the fields that it is
/// about.
pub fn mk_service(name: &str) -> Service {
    Service {
        key: ObjectKey::new("ns", name),
        uid: None,
        created: 0,
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![Ipv4Addr::new(10, 96, 0, 1).into()],
        external_ips: Vec::new(),
        ingress_ips: Vec::new(),
        source_ranges: Vec::new(),
        restricted: Families::NONE,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        choice: None,
        health_check_node_port: None,
        ports: vec![mk_port("http", Protocol::Tcp, 80)],
    }
}

/// A Service's port without a nodePort.
///
/// # Panics
///
/// If the number is 0.
#[expect(clippy::expect_used, reason = "a test that asks for port 0 is wrong")]
pub fn mk_port(name: &str, protocol: Protocol, number: u16) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol,
        port: Port::new(number).expect("a port is not 0"),
        node_port: None,
    }
}

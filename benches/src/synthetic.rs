//! Synthetic clusters of any size, the same in every run.
//!
//! Service `n` is `team-<n % 100>/service-<n>`. It has one TCP port, named `http`, and a ClusterIP and one
//! EndpointSlice in each of its families. No address is used twice. One endpoint in a hundred is on this node, as in a
//! cluster of a hundred nodes. [`text`] has the same objects as the API server writes them.

mod text;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use tandem::event::{Event, Object, ObjectKind, ServiceCidr};
use tandem_core::family::{Family, IpFamily};
use tandem_core::node::{NodePortAddresses, NodeRows};
use tandem_core::object::{Conditions, EndpointSlice, Endpoints, Node, ObjectKey, Service, SliceEndpoint, SlicePort};
use tandem_core::row::{Port, Protocol};
use tandem_core::samples::{mk_port, mk_service};

pub use text::{node_object, service_cidr_object};

/// The name of this node.
pub const NODE: &str = "node1";
/// The port of every Service.
pub const PORT: Port = NonZeroU16::new(80).expect("a port");
/// The port of every endpoint.
pub const TARGET: Port = NonZeroU16::new(8080).expect("a port");
/// One endpoint in this number is on this node.
const NODES: u32 = 100;
/// 10.96.0.0, the first address of the ClusterIPs' range, and 10.128.0.0, the first address of the endpoints' range.
const SERVICES_V4: u32 = 0x0a60_0000;
const PODS_V4: u32 = 0x0a80_0000;
const SERVICES_V6: u128 = 0xfd00_0010_0096 << 80;
const PODS_V6: u128 = 0xfd00_0010_0128 << 80;

/// The size of a cluster, and the families of its Services.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The number of Services.
    pub services: u32,
    /// The number of endpoints of each Service in each family.
    pub endpoints: u32,
    /// The families of every Service.
    pub families: &'static [IpFamily],
}

/// Both families, IPv4 first.
pub const DUAL_STACK: &[IpFamily] = &[IpFamily::V4, IpFamily::V6];
/// Only IPv4.
pub const IPV4: &[IpFamily] = &[IpFamily::V4];

impl Shape {
    /// Dual-stack Services with this number of endpoints in each family.
    pub const fn dual_stack(services: u32, endpoints: u32) -> Self {
        Self {
            services,
            endpoints,
            families: DUAL_STACK,
        }
    }

    /// The ClusterIP of Service `n`.
    pub fn cluster_ip(&self, n: u32, family: IpFamily) -> IpAddr {
        match family {
            IpFamily::V4 => Ipv4Addr::from_bits(SERVICES_V4 + 1 + n).into(),
            IpFamily::V6 => Ipv6Addr::from_bits(SERVICES_V6 + 1 + u128::from(n)).into(),
        }
    }

    /// The address of endpoint `k` of Service `n`. The endpoint with number [`Self::endpoints`] is the one that comes
    /// and goes.
    pub fn endpoint(&self, n: u32, k: u32, family: IpFamily) -> IpAddr {
        let index = n * (self.endpoints + 1) + k + 1;
        match family {
            IpFamily::V4 => Ipv4Addr::from_bits(PODS_V4 + index).into(),
            IpFamily::V6 => Ipv6Addr::from_bits(PODS_V6 + u128::from(index)).into(),
        }
    }

    /// The number of the node that endpoint `k` of Service `n` is on; 1 is [`NODE`].
    fn node_of(&self, n: u32, k: u32) -> u32 {
        (n * (self.endpoints + 1) + k) % NODES + 1
    }

    /// Service `n`.
    pub fn service(&self, n: u32) -> Service {
        Service {
            key: key(n, ""),
            created: 1_760_000_000 + i64::from(n),
            cluster_ips: self.families.iter().map(|family| self.cluster_ip(n, *family)).collect(),
            ports: vec![mk_port("http", Protocol::Tcp, PORT.get())],
            ..mk_service("")
        }
    }

    /// The slice of Service `n` in one family, with this number of endpoints more than usual (none or one).
    pub fn slice(&self, n: u32, family: IpFamily, more: u32) -> EndpointSlice {
        let endpoint = |k: u32| SliceEndpoint {
            addr: self.endpoint(n, k, family),
            conditions: Conditions::READY,
            local: self.node_of(n, k) == 1,
        };
        EndpointSlice {
            key: key(n, slice_suffix(family)),
            service: key(n, "").name,
            family,
            ports: [SlicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: TARGET,
            }]
            .into(),
            endpoints: (0..self.endpoints + more).map(endpoint).collect(),
            hints: Box::default(),
        }
    }

    /// All events that a source sends at the start.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let shape = *self;
        let applied = |object: Object| Event::Applied(object, Vec::new());
        let services = (0..shape.services).map(move |n| applied(Object::Service(shape.service(n))));
        let slices = (0..shape.services).flat_map(move |n| {
            shape
                .families
                .iter()
                .map(move |family| applied(Object::EndpointSlice(shape.slice(n, *family, 0))))
        });
        let node = node();
        let first = [
            Event::Interfaces(node.addresses.clone()),
            applied(Object::Node(node)),
            Event::Listed(ObjectKind::Node),
            applied(Object::ServiceCidr(ServiceCidr {
                key: ObjectKey::new("", "kubernetes"),
                cidrs: service_ranges(),
            })),
            Event::Listed(ObjectKind::ServiceCidr),
        ];
        let listed = |kind: ObjectKind| std::iter::once(Event::Listed(kind));
        first
            .into_iter()
            .chain(services)
            .chain(listed(ObjectKind::Service))
            .chain(slices)
            .chain(listed(ObjectKind::EndpointSlice))
    }
}

/// This node.
pub fn node() -> Node {
    let addresses = [
        IpAddr::from([192, 0, 2, 11]),
        IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x11]),
    ];
    Node {
        name: NODE.into(),
        addresses: addresses.to_vec(),
        ..Node::default()
    }
}

/// The ranges of ClusterIPs.
pub fn service_ranges() -> Vec<IpNet> {
    ranges([
        (Ipv4Addr::from_bits(SERVICES_V4).into(), 12),
        (Ipv6Addr::from_bits(SERVICES_V6).into(), 108),
    ])
}

/// The ranges of endpoints' addresses.
pub fn pod_ranges() -> Vec<IpNet> {
    ranges([
        (Ipv4Addr::from_bits(PODS_V4).into(), 9),
        (Ipv6Addr::from_bits(PODS_V6).into(), 48),
    ])
}

/// What the tables hold of this node.
pub fn node_rows<F: Family>() -> NodeRows<F> {
    let node = node();
    NodeRows::new(
        &service_ranges(),
        &pod_ranges(),
        &NodePortAddresses::Primary,
        &node,
        &node.addresses,
    )
}

/// Endpoints on this node that are ready.
pub fn ready_here(addresses: &[IpAddr]) -> Endpoints {
    let ready = |addr: &IpAddr| SliceEndpoint {
        addr: *addr,
        conditions: Conditions::READY,
        local: true,
    };
    addresses.iter().map(ready).collect()
}

fn ranges(ranges: [(IpAddr, u8); 2]) -> Vec<IpNet> {
    ranges
        .into_iter()
        .filter_map(|(first, bits)| IpNet::new(first, bits).ok())
        .collect()
}

fn key(n: u32, suffix: &str) -> ObjectKey {
    ObjectKey {
        namespace: Arc::from(format!("team-{}", n % 100)),
        name: Arc::from(format!("service-{n}{suffix}")),
    }
}

/// The part of a slice's name after the name of its Service.
fn slice_suffix(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "-x4w7k",
        IpFamily::V6 => "-m2q9z",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_endpoints_share_an_address() {
        let shape = Shape::dual_stack(50, 3);
        let mut seen = std::collections::HashSet::new();
        for n in 0..shape.services {
            for family in DUAL_STACK {
                let slice = shape.slice(n, *family, 1);
                assert!(slice.endpoints.iter().all(|endpoint| seen.insert(endpoint.addr)));
            }
        }
    }

    #[test]
    fn addresses_lie_in_their_ranges() {
        let shape = Shape::dual_stack(50_000, 50);
        for family in DUAL_STACK {
            let last = shape.services - 1;
            let inside = |ranges: &[IpNet], addr: IpAddr| ranges.iter().any(|range| range.contains(&addr));
            assert!(inside(&service_ranges(), shape.cluster_ip(last, *family)));
            assert!(inside(&pod_ranges(), shape.endpoint(last, shape.endpoints, *family)));
        }
    }
}

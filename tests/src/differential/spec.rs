//! The Services of both worlds as numbers: who answers where, and the objects that say so.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};

use crate::addresses::Ip;
use crate::manifests::{Policy, Service, Slice};
use crate::node::PodRanges;
use crate::traffic::Protocol;

/// The pods: their names, the numbers of their nodes and of their addresses. The agent is on node 1.
pub(super) const PODS: [(&str, u8, u8); 7] = [
    ("p-1", 1, 10),
    ("p-2", 1, 11),
    ("p-3", 2, 10),
    ("p-4", 2, 11),
    ("p-5", 2, 12),
    ("p-6", 3, 10),
    ("p-7", 3, 11),
];
/// How many addresses the client has, and how many of them a source range has.
pub(super) const CLIENTS: u8 = 8;
const RANGE: u8 = 4;
/// The port that every pod serves.
pub(super) const TARGET: u16 = 8080;
const NAMESPACE: &str = "twins";

/// The state of an endpoint that is in the slices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Ready,
    /// It goes, and still serves.
    Terminating,
    Unready,
}

/// By which of a Service's addresses a client comes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Way {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::ClusterIp, Self::ExternalIp, Self::LoadBalancer, Self::NodePort];
}

/// A Service.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of the object that is there or not"
)]
pub(super) struct Spec {
    /// Its name and its addresses follow from it.
    pub(super) number: u8,
    /// Which Service of this name it is. Each one that is made has another.
    pub(super) life: u32,
    pub(super) external: bool,
    pub(super) balanced: bool,
    pub(super) node_port: bool,
    /// Whether its policy is `Local`.
    pub(super) local: bool,
    /// Which ranges of clients may reach the LoadBalancer address, if not all may.
    pub(super) ranges: Option<Vec<u8>>,
    pub(super) affinity: bool,
    pub(super) maglev: bool,
    /// Its endpoints by their places in [`PODS`].
    pub(super) endpoints: BTreeMap<usize, State>,
}

/// Whether a pod is on the node of the agent.
pub(super) fn is_here(pod: usize) -> bool {
    PODS[pod].1 == 1
}

/// An address of the client.
pub(super) fn client(family: Ip, number: u8) -> IpAddr {
    match family {
        Ip::V4 => Ipv4Addr::new(198, 51, 100, 20 + number).into(),
        Ip::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 0x20 + u16::from(number)).into(),
    }
}

/// Where a Service of this number is asked; `node` is the node's address.
pub(super) fn frontend(number: u8, way: Way, family: Ip, node: IpAddr) -> SocketAddr {
    match way {
        Way::ClusterIp => (family.cluster_ip(number), port(number)).into(),
        // All Services share one address, and each has a port of its own.
        Way::ExternalIp => (family.external_ip(200), port(number)).into(),
        Way::LoadBalancer => (family.external_ip(number), port(number)).into(),
        Way::NodePort => (node, node_port(number)).into(),
    }
}

/// The port of a Service.
fn port(number: u8) -> u16 {
    8000 + u16::from(number)
}

fn node_port(number: u8) -> u16 {
    30_000 + u16::from(number)
}

impl Spec {
    /// Whether it has this address.
    pub(super) fn has(&self, way: Way) -> bool {
        match way {
            Way::ClusterIp => true,
            Way::ExternalIp => self.external,
            Way::LoadBalancer => self.balanced,
            Way::NodePort => self.node_port,
        }
    }

    /// Whether only the endpoints of this node answer there.
    pub(super) fn is_local(&self, way: Way) -> bool {
        self.local && way != Way::ClusterIp
    }

    /// Whether a client may ask there.
    pub(super) fn lets_in(&self, way: Way, client: u8) -> bool {
        let ranges = self.ranges.as_ref().filter(|_| way == Way::LoadBalancer);
        ranges.is_none_or(|ranges| ranges.contains(&(client / RANGE)))
    }

    /// Who answers a new client.
    pub(super) fn set(&self, way: Way) -> Vec<usize> {
        let of = |wanted: State| -> Vec<usize> {
            let chosen = self
                .endpoints
                .iter()
                .filter(|(pod, state)| **state == wanted && (!self.is_local(way) || is_here(**pod)));
            chosen.map(|(pod, _)| *pod).collect()
        };
        let ready = of(State::Ready);
        if ready.is_empty() {
            of(State::Terminating)
        } else {
            ready
        }
    }

    /// Its name, which is also that of its file.
    pub(super) fn name(number: u8) -> String {
        format!("s-{number}")
    }

    /// Its objects.
    pub(super) fn objects(&self) -> Vec<Value> {
        let name = Self::name(self.number);
        let cluster = Ip::BOTH.map(|family| family.cluster_ip(self.number).to_string());
        let mut service = Service::new(NAMESPACE, &name).cluster_ips(&cluster.each_ref().map(String::as_str));
        for (name, protocol) in PROTOCOLS {
            let port = port(self.number);
            service = if self.node_port {
                service.node_port(name, protocol, port, TARGET, node_port(self.number))
            } else {
                service.port(name, protocol, port, TARGET)
            };
        }
        if self.external {
            service = service.external_ips(&Ip::external_ips(200).each_ref().map(String::as_str));
        }
        if self.balanced {
            service = service.load_balancer(&Ip::external_ips(self.number).each_ref().map(String::as_str));
        }
        if self.balanced
            && let Some(ranges) = &self.ranges
        {
            let ranges: Vec<String> = ranges.iter().flat_map(|range| sources(*range)).collect();
            service = service.source_ranges(&ranges.iter().map(String::as_str).collect::<Vec<_>>());
        }
        if self.local {
            service = service.external_policy(Policy::Local);
        }
        if self.affinity {
            service = service.affinity(10_800);
        }
        let mut service = service.build();
        if self.maglev {
            service["metadata"]["annotations"] = json!({ "tandem.config/pick": "maglev" });
        }
        let slices = Ip::BOTH.map(|family| self.slice(&name, family));
        [service].into_iter().chain(slices).collect()
    }

    fn slice(&self, service: &str, family: Ip) -> Value {
        let mut slice =
            Slice::new(NAMESPACE, &format!("{service}-{}", family.table()), service).family(family == Ip::V6);
        for (name, protocol) in PROTOCOLS {
            slice = slice.port(name, protocol, TARGET);
        }
        for (pod, state) in &self.endpoints {
            let (_, node, number) = PODS[*pod];
            let ranges = PodRanges::of_node(node);
            let address = family.of([ranges.v4(number).into(), ranges.v6(number).into()]);
            let node = format!("node{node}");
            slice = match state {
                State::Ready => slice.ready(address, &node),
                State::Terminating => slice.terminating(address, &node),
                State::Unready => slice.unready(address, &node),
            };
        }
        slice.build()
    }
}

const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

/// A range of clients in both families. One beyond the last is of nobody.
fn sources(range: u8) -> [String; 2] {
    let [v4, v6] = Ip::BOTH.map(|family| client(family, range * RANGE));
    [format!("{v4}/30"), format!("{v6}/126")]
}

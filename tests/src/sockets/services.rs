//! The Services of `make sockets`, as data, and the lists that follow from kube-proxy's rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};

use crate::addresses::Ip;
use crate::manifests::{Policy, Service, Slice};
use crate::node::PodRanges;
use crate::stage::{NAMESPACE, PROTOCOLS, TARGET, port_name};
use crate::traffic::Protocol;

/// The endpoint in the node's own network.
pub(super) const HOST: &str = "host";

/// The address of node 1, 2, ….
pub(super) fn node_address(number: u8, family: Ip) -> IpAddr {
    let v4 = Ipv4Addr::new(192, 0, 2, 10 + number);
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10 + u16::from(number));
    family.of([v4.into(), v6.into()])
}

/// How an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// It goes, and still serves.
    Terminating,
}

use State::{Ready, Terminating};

/// A Service. Its addresses follow from its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) number: u8,
    pub(super) internal: Policy,
    pub(super) external: Policy,
    /// Whether a client stays with its endpoint.
    pub(super) sticky: bool,
    /// Whether its endpoints have hints for the zone of their own node.
    pub(super) hints: bool,
    /// Who may reach its LoadBalancer address, if not everybody.
    pub(super) ranges: &'static [&'static str],
    pub(super) endpoints: &'static [(&'static str, State)],
}

/// A Service that answers everybody by these endpoints.
const fn plain(name: &'static str, number: u8, endpoints: &'static [(&'static str, State)]) -> Spec {
    Spec {
        name,
        number,
        internal: Policy::Cluster,
        external: Policy::Cluster,
        sticky: false,
        hints: false,
        ranges: &[],
        endpoints,
    }
}

const fn internal_local(name: &'static str, number: u8, endpoints: &'static [(&'static str, State)]) -> Spec {
    Spec {
        internal: Policy::Local,
        ..plain(name, number, endpoints)
    }
}

const fn external_local(name: &'static str, number: u8, endpoints: &'static [(&'static str, State)]) -> Spec {
    Spec {
        external: Policy::Local,
        ..plain(name, number, endpoints)
    }
}

const EVERYBODY_HERE: &[&str] = &["10.0.0.0/8", "192.0.2.0/24", "fd00::/8", "2001:db8:2::/64"];
const NOBODY_HERE: &[&str] = &["203.0.113.0/24", "2001:db8:113::/64"];

/// An endpoint on each node.
pub(super) const BOTH: Spec = plain("both", 10, &[("web-1", Ready), ("web-3", Ready)]);
/// Only one endpoint, which also asks.
pub(super) const ITSELF: Spec = plain("itself", 11, &[("web-1", Ready)]);
pub(super) const HERE: Spec = plain("here", 12, &[("web-2", Ready)]);
pub(super) const THERE: Spec = plain("there", 13, &[("web-3", Ready)]);
pub(super) const EMPTY: Spec = plain("empty", 14, &[]);
pub(super) const HOST_NETWORK: Spec = plain("host-network", 15, &[(HOST, Ready)]);
pub(super) const INTERNAL: Spec = internal_local("internal", 20, &[("web-2", Ready), ("web-3", Ready)]);
pub(super) const INTERNAL_THERE: Spec = internal_local("internal-there", 21, &[("web-3", Ready)]);
pub(super) const INTERNAL_ENDS: Spec = internal_local("internal-ends", 22, &[("web-2", Terminating), ("web-3", Ready)]);
pub(super) const EXTERNAL: Spec = external_local("external", 23, &[("web-2", Ready), ("web-3", Ready)]);
pub(super) const EXTERNAL_THERE: Spec = external_local("external-there", 24, &[("web-3", Ready)]);
pub(super) const ENDS: Spec = plain("ends", 25, &[("web-2", Ready), ("web-3", Terminating)]);
pub(super) const ALL_END: Spec = plain("all-end", 26, &[("web-3", Terminating)]);
pub(super) const HINTS: Spec = Spec {
    hints: true,
    ..plain("hints", 27, &[("web-2", Ready), ("web-3", Ready)])
};
pub(super) const ALLOWED: Spec = Spec {
    ranges: EVERYBODY_HERE,
    ..plain("allowed", 28, &[("web-2", Ready)])
};
pub(super) const DENIED: Spec = Spec {
    ranges: NOBODY_HERE,
    ..plain("denied", 29, &[("web-2", Ready)])
};
pub(super) const STICKY: Spec = Spec {
    sticky: true,
    ..plain("sticky", 30, &[("web-1", Ready), ("web-2", Ready), ("web-3", Ready)])
};

/// All of them.
pub(super) const ALL: [Spec; 17] = [
    BOTH,
    ITSELF,
    HERE,
    THERE,
    EMPTY,
    HOST_NETWORK,
    INTERNAL,
    INTERNAL_THERE,
    INTERNAL_ENDS,
    EXTERNAL,
    EXTERNAL_THERE,
    ENDS,
    ALL_END,
    HINTS,
    ALLOWED,
    DENIED,
    STICKY,
];

/// Where endpoints are, by their names.
pub(super) fn node_of(endpoint: &str) -> u8 {
    if endpoint == "web-3" { 2 } else { 1 }
}

/// The address and port of an endpoint.
pub(super) fn endpoint(name: &str, family: Ip) -> SocketAddr {
    let number = match name {
        "web-2" => 11,
        _ => 10,
    };
    let ranges = PodRanges::of_node(node_of(name));
    let address: IpAddr = match name {
        HOST => node_address(1, family),
        _ => family.of([ranges.v4(number).into(), ranges.v6(number).into()]),
    };
    SocketAddr::new(address, TARGET)
}

impl Spec {
    /// Its nodePort, one number for every transport.
    pub(super) fn node_port(&self) -> u16 {
        30_000 + u16::from(self.number)
    }

    /// The number of its LoadBalancer address.
    pub(super) fn load_balancer(&self) -> u8 {
        100 + self.number
    }

    /// The endpoints of these that answer: those that are ready, else those that still serve.
    fn usable(endpoints: &[(&'static str, State)]) -> Vec<&'static str> {
        let of = |wanted: State| {
            endpoints
                .iter()
                .filter(move |(_, state)| *state == wanted)
                .map(|(name, _)| *name)
        };
        let ready: Vec<_> = of(Ready).collect();
        if ready.is_empty() {
            of(Terminating).collect()
        } else {
            ready
        }
    }

    /// Who answers under the policy `Cluster`.
    pub(super) fn all(&self) -> Vec<&'static str> {
        // Both nodes are in zones of their own, which have an endpoint each.
        let near = |(name, _): &(&str, State)| !self.hints || node_of(name) == 1;
        Self::usable(&self.endpoints.iter().copied().filter(near).collect::<Vec<_>>())
    }

    /// Who answers on this node under the policy `Local`.
    pub(super) fn local(&self, node: u8) -> Vec<&'static str> {
        let here = |(name, _): &(&str, State)| node_of(name) == node;
        Self::usable(&self.endpoints.iter().copied().filter(here).collect::<Vec<_>>())
    }

    /// Its objects: the Service and a slice of each family.
    pub(super) fn objects(&self) -> Vec<Value> {
        let text = |address: IpAddr| address.to_string();
        let of = |number: fn(Ip, u8) -> IpAddr, which: u8| Ip::BOTH.map(|family| text(number(family, which)));
        let (cluster, external) = (of(Ip::cluster_ip, self.number), of(Ip::external_ip, self.number));
        let load_balancer = of(Ip::external_ip, self.load_balancer());
        let mut service = Service::new(NAMESPACE, self.name)
            .cluster_ips(&cluster.each_ref().map(String::as_str))
            .external_ips(&external.each_ref().map(String::as_str))
            .load_balancer(&load_balancer.each_ref().map(String::as_str))
            .internal_policy(self.internal)
            .external_policy(self.external);
        for protocol in PROTOCOLS {
            service = service.node_port(&port_name(protocol), protocol, 80, TARGET, self.node_port());
        }
        if self.sticky {
            service = service.affinity(600);
        }
        if !self.ranges.is_empty() {
            service = service.source_ranges(self.ranges);
        }
        let mut objects = vec![service.build()];
        objects.extend(Ip::BOTH.map(|family| self.slice(family)));
        objects
    }

    fn slice(&self, family: Ip) -> Value {
        let name = format!("{}-{}", self.name, family.of(["v4", "v6"]));
        let mut slice = Slice::new(NAMESPACE, &name, self.name).family(family == Ip::V6);
        for protocol in PROTOCOLS {
            slice = slice.port(&port_name(protocol), protocol, TARGET);
        }
        for (name, state) in self.endpoints {
            let (address, node) = (endpoint(name, family).ip(), format!("node{}", node_of(name)));
            slice = match state {
                Ready => slice.ready(address, &node),
                Terminating => slice.terminating(address, &node),
            };
        }
        let mut slice = slice.build();
        if self.hints
            && let Some(endpoints) = slice["endpoints"].as_array_mut()
        {
            for endpoint in endpoints {
                let zone = endpoint["nodeName"].clone();
                endpoint["hints"] = json!({ "forZones": [{ "name": zone }] });
            }
        }
        slice
    }
}

/// A Service of many ports of one transport, `p0`, `p1`, …, each with a port of its own at these endpoints.
pub(super) fn many_ports(
    (name, number): (&str, u8),
    protocol: Protocol,
    ports: &[(u16, u16)],
    endpoints: &[&str],
    sticky: bool,
) -> Vec<Value> {
    let addresses = Ip::BOTH.map(|family| family.cluster_ip(number).to_string());
    let mut service = Service::new(NAMESPACE, name).cluster_ips(&addresses.each_ref().map(String::as_str));
    for (at, (port, target)) in ports.iter().enumerate() {
        service = service.port(&format!("p{at}"), protocol, *port, *target);
    }
    if sticky {
        service = service.affinity(600);
    }
    let of_family = |family: Ip| {
        let slice_name = format!("{name}-{}", family.of(["v4", "v6"]));
        let mut slice = Slice::new(NAMESPACE, &slice_name, name).family(family == Ip::V6);
        for (at, (_, target)) in ports.iter().enumerate() {
            slice = slice.port(&format!("p{at}"), protocol, *target);
        }
        for name in endpoints {
            slice = slice.ready(endpoint(name, family).ip(), &format!("node{}", node_of(name)));
        }
        slice.build()
    };
    let mut objects = vec![service.build()];
    objects.extend(Ip::BOTH.map(of_family));
    objects
}

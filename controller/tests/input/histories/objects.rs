//! Objects of a small cluster, as the API writes them, and their possible changes.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use tandem::event::ObjectKind;

/// One object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Id {
    Service(usize),
    Slice(usize),
    Node,
    Cidr(usize),
    /// The addresses of the node's interfaces.
    Interfaces,
}

pub(crate) const SERVICES: usize = 4;
pub(crate) const SLICES: usize = 6;
const CIDRS: usize = 2;

/// The new state of an object.
#[derive(Clone, Debug)]
pub(crate) enum Version {
    Json(Value),
    /// A field has the wrong type. What was known of the object stays.
    Unreadable,
    Gone,
    Addresses(Vec<&'static str>),
}

impl Id {
    pub(crate) fn all() -> Vec<Self> {
        let services = (0..SERVICES).map(Self::Service);
        let others = [Self::Node, Self::Interfaces];
        services
            .chain((0..SLICES).map(Self::Slice))
            .chain((0..CIDRS).map(Self::Cidr))
            .chain(others)
            .collect()
    }

    pub(crate) fn kind(self) -> Option<ObjectKind> {
        match self {
            Self::Service(_) => Some(ObjectKind::Service),
            Self::Slice(_) => Some(ObjectKind::EndpointSlice),
            Self::Node => Some(ObjectKind::Node),
            Self::Cidr(_) => Some(ObjectKind::ServiceCidr),
            Self::Interfaces => None,
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Service(n) => format!("s{n}"),
            Self::Slice(n) => format!("slice{n}"),
            Self::Node => "node-a".into(),
            Self::Cidr(n) => format!("cidr{n}"),
            Self::Interfaces => "interfaces".into(),
        }
    }

    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Service(_) | Self::Slice(_) => "shop",
            _ => "",
        }
    }
}

const CLUSTER_IPS: [(&str, &str); 3] = [
    ("10.96.0.1", "fd00:96::1"),
    ("10.96.0.2", "fd00:96::2"),
    ("10.96.0.3", "fd00:96::3"),
];
const INGRESS: [&str; 4] = ["203.0.113.1", "203.0.113.2", "2001:db8:1::1", "2001:db8:1::2"];
const EXTERNAL: [&str; 4] = ["198.51.100.1", "203.0.113.1", "2001:db8:1::1", "2001:db8:2::1"];
const RANGES: [&str; 5] = [
    "0.0.0.0/0",
    "192.0.2.0/24",
    "100.64.0.0/10",
    "2001:db8:5::/48",
    "not a range",
];

fn policy() -> impl Strategy<Value = &'static str> {
    select(vec!["Cluster", "Local"])
}

fn some(all: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![2 => Just(Vec::new()), 1 => subsequence(all, 0..=all.len())]
}

fn families() -> impl Strategy<Value = Value> {
    (0..CLUSTER_IPS.len(), 0..5u8).prop_map(|(n, families)| {
        let (v4, v6) = CLUSTER_IPS[n];
        match families {
            0 | 1 => json!([v4, v6]),
            2 => json!([v6, v4]),
            3 => json!([v4]),
            _ => json!([v6]),
        }
    })
}

fn port(name: &'static str, protocol: &'static str) -> impl Strategy<Value = Value> {
    let node_port = option::of(select(vec![30001, 30002]));
    (select(vec![53, 80]), node_port).prop_map(
        move |(port, node_port)| json!({"name": name, "protocol": protocol, "port": port, "nodePort": node_port}),
    )
}

fn ports() -> impl Strategy<Value = Vec<Value>> {
    (port("http", "TCP"), port("dns", "UDP")).prop_flat_map(|(http, dns)| subsequence(vec![http, dns], 1..=2))
}

fn service(n: usize) -> impl Strategy<Value = Version> {
    let usable = (
        (0..3u8, families(), ports()),
        (some(&INGRESS), some(&EXTERNAL), some(&RANGES)),
        (policy(), policy()),
        option::of(select(vec![10, 20])),
    )
        .prop_map(move |(basics, addresses, policies, affinity)| {
            let (created, cluster_ips, ports) = basics;
            let (ingress, external, ranges) = addresses;
            let ingress: Vec<Value> = ingress.iter().map(|ip| json!({"ip": ip})).collect();
            json!({
                "metadata": {"namespace": "shop", "name": format!("s{n}"), "creationTimestamp": format!("2026-01-0{}T00:00:00Z", created + 1)},
                "spec": {
                    "type": "LoadBalancer", "clusterIP": cluster_ips[0], "clusterIPs": cluster_ips,
                    "externalIPs": external, "loadBalancerSourceRanges": ranges,
                    "internalTrafficPolicy": policies.0, "externalTrafficPolicy": policies.1,
                    "sessionAffinity": if affinity.is_some() { "ClientIP" } else { "None" },
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": affinity}},
                    "ports": ports,
                },
                "status": {"loadBalancer": {"ingress": ingress}},
            })
        });
    let version = (usable, 0..9u8).prop_map(|(mut service, headless)| {
        if headless == 0 {
            service["spec"]["clusterIP"] = json!("None");
        }
        Version::Json(service)
    });
    prop_oneof![
        9 => version,
        1 => Just(Version::Unreadable),
        1 => Just(Version::Gone),
    ]
}

fn endpoint(v4: bool) -> impl Strategy<Value = Value> {
    let zones = option::of(subsequence(vec!["a", "b"], 1..=2));
    let node = option::of(select(vec!["node-a", "node-b"]));
    (1..6u8, any::<[bool; 3]>(), select(vec!["node-a", "node-b"]), (0..3u8, zones, node)).prop_map(
        move |(last, [ready, serving, terminating], on, (hinted, zones, node))| {
            let address = if v4 { format!("10.0.0.{last}") } else { format!("fd00::{last}") };
            let named = |names: Vec<&str>| names.into_iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
            let hints = match hinted {
                0 => Value::Null,
                1 => json!({"forZones": named(zones.unwrap_or_default())}),
                _ => json!({"forZones": named(zones.unwrap_or_default()), "forNodes": named(node.into_iter().collect())}),
            };
            json!({
                "addresses": [address], "nodeName": on, "hints": hints,
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            })
        },
    )
}

fn slice(n: usize) -> impl Strategy<Value = Version> {
    let whole = (0..SERVICES, any::<bool>(), any::<bool>()).prop_flat_map(move |(service, v4, moved)| {
        // Most slices stay with one Service, some move.
        let service = if moved { service } else { n % SERVICES };
        vec(endpoint(v4), 0..5).prop_map(move |endpoints| {
            json!({
                "metadata": {"namespace": "shop", "name": format!("slice{n}"), "labels": {"kubernetes.io/service-name": format!("s{service}")}},
                "addressType": if v4 { "IPv4" } else { "IPv6" }, "endpoints": endpoints,
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}],
            })
        })
    });
    prop_oneof![
        8 => whole.prop_map(Version::Json),
        1 => Just(Version::Unreadable),
        1 => Just(Version::Gone),
    ]
}

/// A node that has values for both families. If a value were missing, the earlier one would stay. Then the tables would
/// depend on more than the last objects.
fn node() -> impl Strategy<Value = Version> {
    let addresses = (
        select(vec!["192.0.2.11", "198.51.100.11"]),
        select(vec!["2001:db8:5::11", "2001:db8:5::12"]),
    );
    let pods = (
        select(vec!["10.0.0.0/24", "10.0.1.0/24"]),
        select(vec!["fd00::/64", "fd00:1::/64"]),
    );
    (addresses, pods, option::of(select(vec!["a", "b"]))).prop_map(|(addresses, pods, zone)| {
        let (addresses, pods) = ([addresses.0, addresses.1], [pods.0, pods.1]);
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .collect();
        Version::Json(json!({
            "metadata": {"name": "node-a", "labels": {"topology.kubernetes.io/zone": zone}},
            "spec": {"podCIDRs": pods}, "status": {"addresses": addresses},
        }))
    })
}

fn cidr(n: usize) -> impl Strategy<Value = Version> {
    let ranges = subsequence(vec!["10.96.0.0/16", "10.96.0.0/12", "fd00:96::/112", "nonsense"], 0..=4);
    prop_oneof![
        4 => ranges.prop_map(move |ranges| Version::Json(json!({"metadata": {"name": format!("cidr{n}")}, "spec": {"cidrs": ranges}}))),
        1 => Just(Version::Gone),
    ]
}

/// One change of one object.
pub(crate) fn change() -> impl Strategy<Value = (Id, Version)> {
    let of = |id: Id, version: BoxedStrategy<Version>| version.prop_map(move |version| (id, version));
    let addresses = subsequence(vec!["192.0.2.11", "10.0.0.1", "fe80::1"], 0..=3);
    prop_oneof![
        6 => (0..SERVICES).prop_flat_map(move |n| of(Id::Service(n), service(n).boxed())),
        6 => (0..SLICES).prop_flat_map(move |n| of(Id::Slice(n), slice(n).boxed())),
        2 => of(Id::Node, node().boxed()),
        1 => (0..CIDRS).prop_flat_map(move |n| of(Id::Cidr(n), cidr(n).boxed())),
        1 => of(Id::Interfaces, addresses.prop_map(Version::Addresses).boxed()),
    ]
}

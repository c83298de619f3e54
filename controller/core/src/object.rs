//! The Kubernetes objects that rows are made from, with the fields that Tandem uses. The decoder parses addresses and
//! ports once ([`crate::addr`]). After that, they are valid.

mod endpoints;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::family::{Families, IpFamily};
use crate::row::{Port, Protocol};
use crate::uid::Uid;

pub use endpoints::Endpoints;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace; empty for cluster-wide objects.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// Makes a key from its two parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// Writes the key as kubectl and kube-proxy do: `namespace/name`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// `spec.type` of the Services that Tandem programs. `ExternalName` and headless Services never become a [`Service`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceType {
    /// `ClusterIP`
    ClusterIp,
    /// `NodePort`
    NodePort,
    /// `LoadBalancer`
    LoadBalancer,
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        })
    }
}

/// `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrafficPolicy {
    /// All usable endpoints.
    #[default]
    Cluster,
    /// Endpoints on this node only.
    Local,
}

/// How packets from outside pick an endpoint: annotation `tandem.config/pick`, and `xdp.pick` for Services without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Any endpoint.
    #[default]
    Random,
    /// The one that every node picks for this client ([`crate::maglev`]).
    Maglev,
}

impl Choice {
    /// The choice with this name: `random` or `maglev`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "random" => Some(Self::Random),
            "maglev" => Some(Self::Maglev),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Maglev => "maglev",
        }
    }
}

/// A Service with a ClusterIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`; none in a manifest without one.
    pub uid: Option<Uid>,
    /// `metadata.creationTimestamp` in seconds since 1970. If two Services claim one frontend, the older has it.
    pub created: i64,
    /// `spec.type`
    pub kind: ServiceType,
    /// `spec.clusterIPs`, in the order of `spec.ipFamilies`
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip`, without those of `ipMode: Proxy`
    pub ingress_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`; none means everyone. See [`Self::restricted`].
    pub source_ranges: Vec<IpNet>,
    /// The families that `spec.loadBalancerSourceRanges` closes to all other sources. Each entry closes its family. An
    /// entry that could not be read and may be of either family closes both. If a closed family has no readable range,
    /// nobody gets in.
    pub restricted: Families,
    /// `spec.internalTrafficPolicy`
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`
    pub external_policy: TrafficPolicy,
    /// Seconds a client is remembered (`sessionAffinity: ClientIP`)
    pub affinity: Option<u32>,
    /// Annotation `tandem.config/pick`; none means the node's usual choice.
    pub choice: Option<Choice>,
    /// `spec.healthCheckNodePort`
    pub health_check_node_port: Option<Port>,
    /// `spec.ports`
    pub ports: Vec<ServicePort>,
}

/// The largest length of a name in the API, in bytes.
const LONGEST_NAME: usize = 253;

/// Whether a text is not longer than a name in the API can be, and has only characters that such a name can have.
/// Tandem prints names as they are: to the log, in tables for people, and in comments that nft lists without escapes.
pub fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

/// One of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; empty if a Service has one port without a name
    pub name: Arc<str>,
    /// `protocol`
    pub protocol: Protocol,
    /// `port`
    pub port: Port,
    /// `nodePort`
    pub node_port: Option<Port>,
}

/// An EndpointSlice of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub key: ObjectKey,
    /// The name in label `kubernetes.io/service-name`; the namespace is the slice's own.
    pub service: Arc<str>,
    /// `addressType`
    pub family: IpFamily,
    /// `ports`. Most slices have the same, so they are shared.
    pub ports: Arc<[SlicePort]>,
    /// `endpoints`
    pub endpoints: Endpoints,
    /// `endpoints[].hints`: one for each endpoint. If no endpoint has hints, which is the common case, it is empty.
    pub hints: Box<[Hints]>,
}

/// `hints` of an endpoint: the zones and nodes that should use it (KEP-2433, KEP-4444, KEP-3015).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forZones[].name`
    pub zones: Box<[Arc<str>]>,
    /// `forNodes[].name`
    pub nodes: NodeHint,
}

/// What `hints.forNodes` says of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeHint {
    /// It names no node.
    #[default]
    None,
    /// It names this node.
    Here,
    /// It names other nodes only.
    Elsewhere,
}

/// One of a slice's `ports`. If a port has no number, or a protocol that Services cannot have, it is left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlicePort {
    /// `name`, matched with the Service port's name
    pub name: Arc<str>,
    /// `protocol`
    pub protocol: Protocol,
    /// `port`
    pub port: Port,
}

/// One of a slice's `endpoints`, with its first address. The others do not count, as in kube-proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// `addresses[0]`
    pub addr: IpAddr,
    /// `conditions`
    pub conditions: Conditions,
    /// Whether `nodeName` is this node
    pub local: bool,
}

/// `conditions` of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// `ready`; missing means true
    pub ready: bool,
    /// `serving`; missing means true, as in kube-proxy
    pub serving: bool,
    /// `terminating`; missing means false
    pub terminating: bool,
}

impl Conditions {
    /// A ready endpoint.
    pub const READY: Self = Self {
        ready: true,
        serving: true,
        terminating: false,
    };

    /// Whether it may be used if no endpoint is ready (KEP-1669).
    pub fn fallback(self) -> bool {
        self.serving && self.terminating
    }
}

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`
    pub name: Arc<str>,
    /// `status.addresses` of type InternalIP, then ExternalIP, in their order
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`
    pub pod_cidrs: Vec<IpNet>,
    /// Label `topology.kubernetes.io/zone`; none if it is missing or empty.
    pub zone: Option<Arc<str>>,
    /// Whether the node will go soon: it has a `metadata.deletionTimestamp` or the taint
    /// `ToBeDeletedByClusterAutoscaler`. Then its health checks tell load balancers to send it no new connections.
    pub leaving: bool,
}

impl Node {
    /// The node's first address of a family: the one that `primary` means.
    pub fn primary(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|addr| IpFamily::of(*addr) == family)
    }
}

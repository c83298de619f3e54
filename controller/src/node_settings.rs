//! What configuration says about the node's own rows and the fixed rules. Sources of it tell the engine by an event.

use ipnet::IpNet;
use tandem_core::node::NodePortAddresses;
use tandem_core::plane;

/// How pods are told from other sources, as configuration says it.
pub type DetectLocal = plane::DetectLocal<PodRanges>;

/// Where the ranges come from whose sources count as pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodRanges {
    /// These ranges (`detectLocalMode: ClusterCIDR`).
    Listed(Vec<IpNet>),
    /// `spec.podCIDRs` of the node (`detectLocalMode: NodeCIDR`).
    OfNode,
}

/// What configuration says about the node's own rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The name of this node's object.
    pub node_name: String,
    /// Which sources count as pods.
    pub detect_local: DetectLocal,
    /// Which addresses take nodePort traffic.
    pub node_port_addresses: NodePortAddresses,
    /// Whether everything that is sent to ClusterIPs is masqueraded.
    pub masquerade_all: bool,
    /// Which bit of the packet mark asks for masquerading.
    pub masquerade_bit: u8,
    /// Whether forwarded packets that connection tracking calls invalid are dropped.
    pub drop_invalid: bool,
}

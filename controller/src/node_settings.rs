//! The part of the configuration that concerns rows and the fixed rules. It reaches the engine as an
//! event.

use std::sync::Arc;

use ipnet::IpNet;
use tandem_core::node::NodePortAddresses;
use tandem_core::object::Choice;
use tandem_core::plane;

/// How to tell pods from other sources, as configured.
pub type DetectLocal = plane::DetectLocal<PodRanges>;

/// Which ranges count as pods' ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodRanges {
    /// These ranges (`detectLocalMode: ClusterCIDR`).
    Listed(Vec<IpNet>),
    /// `spec.podCIDRs` of the node (`detectLocalMode: NodeCIDR`).
    OfNode,
}

/// The part of the configuration that concerns rows and the fixed rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The name of this node's object.
    pub node_name: Arc<str>,
    /// Which sources count as pods.
    pub detect_local: DetectLocal,
    /// Which addresses take nodePort traffic.
    pub node_port_addresses: NodePortAddresses,
    /// Whether all packets to ClusterIPs are masqueraded.
    pub masquerade_all: bool,
    /// Which bit of the packet mark means masquerading.
    pub masquerade_bit: u8,
    /// Whether forwarded packets are dropped if connection tracking calls them invalid.
    pub drop_invalid: bool,
    /// How packets from outside pick an endpoint of a Service that does not say it.
    pub usual_choice: Choice,
}

//! What the rows of both families are made from, borrowed for one step of the engine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use tandem_core::family::Family;
use tandem_core::node::{LastListed, NodeRows};
use tandem_core::object::{Node, ObjectKey};
use tandem_core::plane::{self, Ahead, Place, RuleSettings};

use crate::index::Services;
use crate::node_settings::{DetectLocal, NodeSettings, PodRanges};

/// The state of the inputs in one step.
pub struct Inputs<'a> {
    /// Services and slices.
    pub services: &'a Services,
    /// This node's object, once known.
    pub node: Option<&'a Node>,
    /// The last addresses and pod ranges of this node's object, per family.
    pub last_listed: &'a LastListed,
    /// Configuration.
    pub settings: &'a NodeSettings,
    /// Where the rules stand among those of a kube-proxy.
    pub place: Place,
    /// Who sees packets from outside before the rules do.
    pub ahead: Ahead,
    /// The ranges of ClusterIPs, by ServiceCIDR.
    pub service_cidrs: &'a BTreeMap<ObjectKey, Vec<IpNet>>,
    /// Addresses of the node's interfaces.
    pub interfaces: &'a [IpAddr],
    /// The present time, for readers of the status.
    pub time: SystemTime,
}

impl Inputs<'_> {
    /// This node, with the values that count in one family. `found` are the rows that the first opening found.
    pub fn node<F: Family>(&self, found: &NodeRows<F>) -> Node {
        self.last_listed.node(self.node, found, self.interfaces)
    }

    /// The node's own rows of one family.
    pub fn node_rows<F: Family>(&self, node: &Node) -> NodeRows<F> {
        let local_pods = match &self.settings.detect_local {
            DetectLocal::Sources(PodRanges::Listed(ranges)) => ranges.as_slice(),
            DetectLocal::Sources(PodRanges::OfNode) => &node.pod_cidrs,
            DetectLocal::Interface(_) | DetectLocal::InterfacePrefix(_) | DetectLocal::Nothing => &[],
        };
        let choice = &self.settings.node_port_addresses;
        let cidrs: Vec<IpNet> = self.service_cidrs.values().flatten().copied().collect();
        NodeRows::new(&cidrs, local_pods, choice, node, self.interfaces)
    }

    /// What the fixed rules of one family depend on.
    pub fn rules<F: Family>(&self, rows: &NodeRows<F>) -> RuleSettings {
        let wanted = &self.settings.detect_local;
        let detect_local = match *wanted {
            _ if wanted.is_nobody(!rows.local_pods.is_empty()) => plane::DetectLocal::Nothing,
            DetectLocal::Interface(name) => plane::DetectLocal::Interface(name),
            DetectLocal::InterfacePrefix(name) => plane::DetectLocal::InterfacePrefix(name),
            DetectLocal::Sources(_) => plane::DetectLocal::Sources(()),
            DetectLocal::Nothing => plane::DetectLocal::Nothing,
        };
        RuleSettings {
            masquerade_bit: self.settings.masquerade_bit,
            masquerade_all: self.settings.masquerade_all,
            detect_local,
            drop_invalid: self.settings.drop_invalid,
            place: self.place,
            ahead: self.ahead,
        }
    }

    /// Whether rows of an earlier run may decide which sources are pods. They may if the node's object should say it,
    /// and does not.
    pub fn asks_the_tables<F: Family>(&self, rows: &NodeRows<F>) -> bool {
        self.settings.detect_local == DetectLocal::Sources(PodRanges::OfNode) && rows.local_pods.is_empty()
    }
}

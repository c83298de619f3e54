//! The settings under which the cases are asked.

use serde_json::json;

use crate::tandem::Plan;

/// Settings of the Tandem that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// `dataPlane: xdp`, everything else as it is by itself.
    Usual,
    /// `masqueradeAll`.
    MasqueradeAll,
    /// Nobody is told to be a pod.
    DetectsNobody,
    /// nodePorts on loopback addresses.
    Loopback,
    /// The node's folder is the hierarchy's root, in which the kernel's threads are.
    RootFolder,
    /// `socketLoadBalancing: node`.
    NodeOnly,
    /// `socketLoadBalancing: off`.
    Off,
    /// `dataPlane: nft`.
    Nft,
}

impl Variant {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::MasqueradeAll => "masqueradeAll",
            Self::DetectsNobody => "no detectLocal",
            Self::Loopback => "nodePortLoopback",
            Self::RootFolder => "root folder",
            Self::NodeOnly => "sockets of the node",
            Self::Off => "sockets off",
            Self::Nft => "dataPlane: nft",
        }
    }

    pub(super) fn apply(self, plan: Plan) -> Plan {
        match self {
            Self::Usual => plan,
            Self::MasqueradeAll => plan.setting("nftables", json!({ "masqueradeAll": true })),
            Self::DetectsNobody => plan.setting("clusterCIDR", ""),
            Self::Loopback => plan.own_setting("nodePortLoopback", true),
            Self::RootFolder => plan.own_setting("nodeCgroup", json!(null)),
            Self::NodeOnly => plan.own_setting("socketLoadBalancing", "node"),
            Self::Off => plan.own_setting("socketLoadBalancing", "off"),
            Self::Nft => plan.own_setting("dataPlane", "nft"),
        }
    }

    /// Whether sockets of the node's own network are taken.
    pub(super) fn takes_node(self) -> bool {
        !matches!(self, Self::Off | Self::Nft)
    }

    /// Whether sockets of pods are taken.
    pub(super) fn takes_pods(self) -> bool {
        // With the root folder, kubelet's is looked for right below the root, where this test has none.
        self.takes_node() && !matches!(self, Self::NodeOnly | Self::RootFolder)
    }
}

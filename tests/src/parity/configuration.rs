//! The configuration of both programs: the same `KubeProxyConfiguration`.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::manifests;

/// A configuration by its name.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
pub enum Configuration {
    /// Pods are recognised by their ranges: `detectLocalMode: ClusterCIDR`.
    Base,
    /// No range is given, so no source is known to be a pod.
    NoDetector,
    /// `nftables.masqueradeAll`.
    MasqueradeAll,
    /// Both of these.
    MasqueradeAllNoDetector,
    /// `detectLocalMode: NodeCIDR`.
    NodeCidr,
    /// `detectLocalMode: BridgeInterface`. Only pods `shell-N` are behind this interface.
    BridgeInterface,
    /// `detectLocalMode: InterfaceNamePrefix`. All pods are behind such interfaces.
    InterfaceNamePrefix,
    /// NodePorts at every address of a node.
    NodePortAll,
    /// NodePorts at the nodes' second addresses.
    NodePortRanges,
}

/// The nodes' second addresses, which their Node objects do not have.
pub(super) const SECONDARY: [&str; 2] = ["198.18.0.0/24", "2001:db8:18::/64"];
/// The name of the cable of `shell-N` on its node.
const SHELL_LINK: &str = "pod10";

impl Configuration {
    /// Its name in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::NoDetector => "no-detector",
            Self::MasqueradeAll => "masquerade-all",
            Self::MasqueradeAllNoDetector => "masquerade-all-no-detector",
            Self::NodeCidr => "node-cidr",
            Self::BridgeInterface => "bridge-interface",
            Self::InterfaceNamePrefix => "interface-name-prefix",
            Self::NodePortAll => "node-port-all",
            Self::NodePortRanges => "node-port-ranges",
        }
    }

    /// The content of the file, without what is specific to one node or program.
    pub fn build(self) -> Value {
        let mut file = manifests::configuration();
        file["detectLocalMode"] = json!("ClusterCIDR");
        // Without this, kube-proxy would wait a second between two changes. That proves nothing here, and takes minutes
        // in total.
        file["nftables"] = json!({ "minSyncPeriod": "10ms" });
        file["conntrack"] =
            json!({ "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" });
        if matches!(self, Self::NoDetector | Self::MasqueradeAllNoDetector) {
            file["clusterCIDR"] = json!("");
        }
        match self {
            Self::Base | Self::NoDetector => {}
            Self::MasqueradeAll | Self::MasqueradeAllNoDetector => file["nftables"]["masqueradeAll"] = json!(true),
            Self::NodeCidr => file["detectLocalMode"] = json!("NodeCIDR"),
            Self::BridgeInterface => {
                file["detectLocalMode"] = json!("BridgeInterface");
                file["detectLocal"] = json!({ "bridgeInterface": SHELL_LINK });
            }
            Self::InterfaceNamePrefix => {
                file["detectLocalMode"] = json!("InterfaceNamePrefix");
                file["detectLocal"] = json!({ "interfaceNamePrefix": "pod" });
            }
            Self::NodePortAll => file["nodePortAddresses"] = json!(["0.0.0.0/0", "::/0"]),
            Self::NodePortRanges => file["nodePortAddresses"] = json!(SECONDARY),
        }
        file
    }
}

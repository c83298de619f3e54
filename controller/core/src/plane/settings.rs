//! What a data plane's fixed rules depend on.

use crate::node::InterfaceName;
use crate::plane::Ahead;

/// What the fixed rules depend on. It may differ from the last start: then the rules are replaced, and the rows stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// The bit of the packet mark that means "masquerade this", 0 to 31.
    pub masquerade_bit: u8,
    /// Whether all traffic to ClusterIPs is masqueraded, even from pods.
    pub masquerade_all: bool,
    /// How pods are distinguished from other sources. What others send to ClusterIPs is masqueraded. Pods reach all
    /// endpoints of an external address.
    pub detect_local: DetectLocal,
    /// Whether packets that connection tracking calls invalid, and that are not for this node, are dropped. Without
    /// this, a reply that belongs to no connection any more reaches a client with the endpoint's own address as its
    /// source.
    pub drop_invalid: bool,
    /// Where the rules stand among those of another service proxy.
    pub place: Place,
    /// Whether XDP programs choose endpoints before packets are here. Then the rules follow what a packet says was chosen,
    /// and masquerading keeps off the ports 49152–65535.
    pub ahead: Ahead,
}

/// Where the rules stand among those of another service proxy on the node. Whoever's rules a packet meets first decides
/// about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// These rules decide.
    #[default]
    First,
    /// The other program's rules decide. What it has no rule for, these rules decide.
    Second,
}

/// How pods are distinguished from other sources. `R` says where the ranges of their addresses come from. Configuration
/// needs that; the fixed rules do not, because they read the ranges from rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectLocal<R = ()> {
    /// No source counts as a pod.
    #[default]
    Nothing,
    /// By their address ([`Row::LocalPods`](crate::row::Row::LocalPods)).
    Sources(R),
    /// By the interface that their packets come in through.
    Interface(InterfaceName),
    /// By interfaces whose names begin like this.
    InterfacePrefix(InterfaceName),
}

impl<R> DetectLocal<R> {
    /// Whether no source counts as a pod. If there is no range of a family, nobody's address is in one.
    pub fn is_nobody(&self, has_ranges: bool) -> bool {
        match self {
            Self::Nothing => true,
            Self::Sources(_) => !has_ranges,
            Self::Interface(_) | Self::InterfacePrefix(_) => false,
        }
    }
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self {
            masquerade_bit: 14,
            masquerade_all: false,
            detect_local: DetectLocal::Nothing,
            drop_invalid: false,
            place: Place::First,
            ahead: Ahead::Nobody,
        }
    }
}

impl RuleSettings {
    /// The packet mark that means "masquerade this".
    pub fn masquerade_mark(self) -> u32 {
        1 << (self.masquerade_bit & 31)
    }
}

//! What a data plane's fixed rules depend on.

use crate::node::InterfaceName;

/// What the fixed rules depend on. It may differ from the last start: the rules are then replaced, the rows stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// The bit of the packet mark that stands for "masquerade this", 0 to 31.
    pub masquerade_bit: u8,
    /// Masquerade all traffic to ClusterIPs, also that from pods.
    pub masquerade_all: bool,
    /// How pods are told from other sources: what others send to ClusterIPs is masqueraded, and pods are led to all
    /// endpoints of an external address.
    pub detect_local: DetectLocal,
    /// Drop what connection tracking calls invalid and is not for this node. Replies that belong to no connection any
    /// more would otherwise reach clients with the endpoint's own address.
    pub drop_invalid: bool,
}

/// How pods are told from other sources. `R` says where the ranges of their addresses come from: configuration does; the
/// fixed rules need not know, for they read the ranges that are rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectLocal<R = ()> {
    /// Not at all.
    #[default]
    Nothing,
    /// By their address ([`Row::LocalPods`](crate::row::Row::LocalPods)).
    Sources(R),
    /// By the interface that their packets come in by.
    Interface(InterfaceName),
    /// By interfaces whose names begin so.
    InterfacePrefix(InterfaceName),
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self {
            masquerade_bit: 14,
            masquerade_all: false,
            detect_local: DetectLocal::Nothing,
            drop_invalid: false,
        }
    }
}

impl RuleSettings {
    /// The packet mark that stands for "masquerade this".
    pub fn masquerade_mark(self) -> u32 {
        1 << (self.masquerade_bit & 31)
    }
}

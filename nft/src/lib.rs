//! Rows to nftables: the tables `ip tandem` and `ip6 tandem`, over one netlink socket each.
//!
//! All rules are fixed; Services and endpoints are set elements only, so a change is a handful of elements in one
//! transaction, however large the cluster is. [`Kernel`] holds one family's table, [`Memory`] is the same thing without
//! a kernel. The tables are this crate's alone, and it touches no other; stock `nft` lists them and can load what it
//! listed.

mod adopt;
mod affinity;
mod answer;
mod chain;
mod change;
mod decode;
mod demand;
mod element;
mod explain;
mod expr;
mod family;
mod forward;
mod holder;
mod kernel;
mod key;
mod listing;
mod lock;
mod memory;
mod outcome;
mod owner;
mod parts;
mod remove;
mod rivals;
mod rules;
mod sets;
mod socket;
#[cfg(test)]
mod tests;
mod udata;
mod wire;

pub use adopt::OpenError;
pub use affinity::{REMEMBERED_MOST, UnreadError, unremembered};
pub use forward::{ForwardDrop, ForwardError, forward_drops};
pub use kernel::{Kernel, TidyError};
pub use lock::{LockError, NodeLock};
pub use memory::Memory;
pub use owner::Ownership;
pub use remove::{RemoveError, has_kube_services, remove, remove_kube_proxys};
pub use socket::Buffers;

/// The name of both tables.
const TABLE: &str = "tandem";

use tandem_core::node::InterfaceName;

/// What the fixed rules depend on. It may differ from the last start: the rules are then replaced, the rows stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
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

/// How pods are told from other sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectLocal {
    /// Not at all.
    #[default]
    Nothing,
    /// By their address ([`Row::LocalPods`](tandem_core::row::Row::LocalPods)).
    Sources,
    /// By the interface that their packets come in by.
    Interface(InterfaceName),
    /// By interfaces whose names begin so.
    InterfacePrefix(InterfaceName),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            masquerade_bit: 14,
            masquerade_all: false,
            detect_local: DetectLocal::Nothing,
            drop_invalid: false,
        }
    }
}

impl Settings {
    fn mark(self) -> u32 {
        1 << (self.masquerade_bit & 31)
    }
}

/// As much of a label as the kernel stores: rows read back carry this.
pub fn stored_label(label: &str) -> &str {
    udata::cut(label)
}

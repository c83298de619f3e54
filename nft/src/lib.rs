//! Rows to nftables: the tables `ip tandem` and `ip6 tandem`, over one netlink socket each.
//!
//! All rules are fixed; Services and endpoints are set elements only, so a change is a handful of elements in one
//! transaction, however large the cluster is. [`Kernel`] holds one family's table, [`Memory`] is the same thing without
//! a kernel. The tables are this crate's alone, and it touches no other; stock `nft` lists them and can load what it
//! listed.

mod adopt;
mod answer;
mod chain;
mod decode;
mod demand;
mod element;
mod explain;
mod expr;
mod family;
mod kernel;
mod key;
mod listing;
mod lock;
mod memory;
mod owner;
mod rules;
mod sets;
mod socket;
#[cfg(test)]
mod tests;
mod udata;
mod wire;

pub use adopt::OpenError;
pub use kernel::{Kernel, TidyError};
pub use lock::{LockError, NodeLock};
pub use memory::Memory;
pub use owner::Ownership;

/// The name of both tables.
const TABLE: &str = "tandem";

/// What the fixed rules depend on. It may differ from the last start: the rules are then replaced, the rows stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The bit of the packet mark that stands for "masquerade this", 0 to 31.
    pub masquerade_bit: u8,
    /// Masquerade all traffic to ClusterIPs, also that from pods.
    pub masquerade_all: bool,
    /// Tell pods by their address ([`Row::LocalPods`](tandem_core::row::Row::LocalPods)), masquerade what others send
    /// to ClusterIPs, and lead pods to all endpoints of an external address.
    pub detect_local: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            masquerade_bit: 14,
            masquerade_all: false,
            detect_local: false,
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

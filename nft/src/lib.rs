//! Rows to nftables: the tables `ip tandem` and `ip6 tandem`, over one netlink socket each.
//!
//! All rules are fixed; Services and endpoints are set elements only, so a change is a handful of elements in one
//! transaction, however large the cluster is. [`Kernel`] holds one family's table. The tables are this crate's alone, and it
//! touches no other; stock `nft` lists them and can load what it listed.

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
pub use forward::{ForwardError, forward_drops};
pub use kernel::{Kernel, TidyError};
pub use lock::{LockError, NodeLock};
pub use remove::{RemoveError, has_kube_services, remove, remove_kube_proxys};
pub use socket::Buffers;

/// The name of both tables.
const TABLE: &str = "tandem";

/// As much of a label as the kernel stores: rows read back carry this.
pub fn stored_label(label: &str) -> &str {
    udata::cut(label)
}

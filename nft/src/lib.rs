//! Writes rows into nftables: into the tables `ip tandem` and `ip6 tandem`, over one netlink socket each.
//!
//! All rules are fixed, and Services and endpoints are set elements only. So a change is a handful of elements in one
//! transaction, however large the cluster is. [`NftTable`] holds one family's table. The tables belong to this crate
//! alone, and it changes no table of others, except that it removes the one that kube-proxy left. Stock `nft` lists
//! the tables and can load what it listed.

mod elements;
mod family;
mod picks;
mod rules;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use elements::decode::ServiceCount;
pub use elements::sets::REMEMBERED_MOST;
pub use table::adopt::OpenError;
pub use table::affinity::{CounterError, unremembered};
pub use table::check::{LackError, check_kernel};
pub use table::counts::service_counts;
pub use table::error::TableError;
pub use table::forward::{ForwardError, forward_drops};
pub use table::kube_proxy::{KubeProxyError, has_legacy_nat, kube_proxy_table, kube_services};
pub use table::lock::{LockError, NodeLock};
pub use table::nft_table::NftTable;
pub use table::remove::{RemoveError, remove, remove_kube_proxys};
pub use wire::outcome::RefusedError;
pub use wire::outcome::{LostError, TransactionError};
pub use wire::socket::ListError;

/// The name of both tables.
const TABLE: &str = "tandem";

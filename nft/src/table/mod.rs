//! A table in the kernel: opens, reads and changes it, has it asked before the chains of others, and removes it.

pub(crate) mod adopt;
pub(crate) mod affinity;
pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod compatible;
pub(crate) mod counts;
pub(crate) mod error;
pub(crate) mod explain;
pub(crate) mod foreign;
pub(crate) mod forward;
pub(crate) mod halves;
pub(crate) mod holder;
pub(crate) mod kube_proxy;
pub(crate) mod listing;
pub(crate) mod lock;
pub(crate) mod nat_order;
pub(crate) mod nft_table;
pub(crate) mod remove;
pub(crate) mod session;

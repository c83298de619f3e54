//! Chains of other programs that drop what is forwarded. Tandem's rules cannot help it: a packet passes every chain of a
//! hook, and the one that drops it wins. Read, never changed.

use std::fmt;

use crate::listing;
use crate::socket::{Buffers, ListError, Socket};

/// A filter chain of hook `forward` whose policy is `drop`. Written as nft names it: `ip filter FORWARD`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForwardDrop {
    /// `ip`, `ip6` or `inet`
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
}

impl fmt::Display for ForwardDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

/// Why nobody knows whether there are such chains.
#[derive(Debug, thiserror::Error)]
#[error("listing the chains of other programs: {0}")]
pub struct ForwardError(#[from] ListError);

impl From<std::io::Error> for ForwardError {
    fn from(error: std::io::Error) -> Self {
        Self(error.into())
    }
}

/// All of them in this network namespace, sorted. Chains that iptables keeps outside of nftables (`iptables-legacy`) are
/// not seen.
pub fn forward_drops() -> Result<Vec<ForwardDrop>, ForwardError> {
    let mut found = listing::forward_drops(&mut Socket::with(Buffers::SMALL)?)?;
    found.sort_unstable();
    Ok(found)
}

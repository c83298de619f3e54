//! Rules of other programs that packets to Services meet.

use std::fmt;

/// A filter chain of hook `forward` whose policy is `drop`. It is written as nft names it: `ip filter FORWARD`.
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

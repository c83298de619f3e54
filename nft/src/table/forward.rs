//! Chains of other programs that drop what is forwarded. Tandem's rules cannot help it: a packet passes every chain of a
//! hook, and the one that drops it wins. Read, never changed.

use tandem_core::plane::ForwardDrop;

use crate::table::foreign;
use crate::wire::socket::{Buffers, ListError, NetlinkSocket};

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
    let mut found = foreign::forward_drops(&mut NetlinkSocket::with(Buffers::SMALL)?)?;
    found.sort_unstable();
    Ok(found)
}

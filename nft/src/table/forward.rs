//! Finds chains of other programs that drop what is forwarded. Tandem's rules cannot prevent it: a packet passes
//! every chain of a hook, and one that drops it is enough. It only reads.

use tandem_core::plane::ForwardDrop;

use crate::table::foreign;
use crate::wire::socket::{Buffers, ListError, NetlinkSocket};

/// Why it is not known whether there are such chains.
#[derive(Debug, thiserror::Error)]
#[error("listing the chains of other programs: {0}")]
pub struct ForwardError(#[from] ListError);

impl From<std::io::Error> for ForwardError {
    fn from(error: std::io::Error) -> Self {
        Self(error.into())
    }
}

/// All such chains of this network namespace, sorted. It does not see the chains that iptables keeps outside of
/// nftables (`iptables-legacy`).
pub fn forward_drops() -> Result<Vec<ForwardDrop>, ForwardError> {
    let mut found = foreign::forward_drops(&mut NetlinkSocket::with(Buffers::SMALL)?)?;
    found.sort_unstable();
    Ok(found)
}

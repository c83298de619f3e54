//! How full the memory of clients is. For status; the way of a change never comes here.

use tandem_core::family::Family;

use crate::rules::UNREMEMBERED;
use crate::table::listing::{self, words};
use crate::wire::socket::{Buffers, Socket};

/// Why the counter could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnreadError(String);

/// How many new connections had a client that could not be remembered because the map was full; none where there is no
/// table.
pub fn unremembered<F: Family>() -> Result<Option<u64>, UnreadError> {
    let mut socket = Socket::with(Buffers::SMALL)
        .map_err(|error| UnreadError(format!("opening a netlink socket for nftables: {error}")))?;
    listing::counter(&mut socket, F::FAMILY, UNREMEMBERED).map_err(|error| UnreadError(words(F::FAMILY, &error)))
}

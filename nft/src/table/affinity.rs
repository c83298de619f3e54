//! Reads how often a client could not be remembered. Used for status. No change comes here.

use std::io;

use tandem_core::family::Family;

use crate::rules::UNREMEMBERED;
use crate::table::error::TableError;
use crate::table::listing;
use crate::wire::socket::{Buffers, NetlinkSocket};

/// Why the counter could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    /// The netlink socket could not be opened.
    #[error("opening a netlink socket for nftables: {0}")]
    Socket(#[source] io::Error),
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] TableError),
}

/// How many new connections had a client that could not be remembered, because the map was full. None if there is no
/// table.
pub fn unremembered<F: Family>() -> Result<Option<u64>, CounterError> {
    let mut socket = NetlinkSocket::with(Buffers::SMALL).map_err(CounterError::Socket)?;
    let count = listing::counter(&mut socket, F::FAMILY, UNREMEMBERED);
    Ok(count.map_err(|error| TableError::reading(F::FAMILY, error))?)
}

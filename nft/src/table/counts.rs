//! Reads how many connections went to each Service port. Used when somebody asks for it. No change comes here.

use std::collections::HashMap;

use tandem_core::family::Family;

use crate::elements::decode::{self, ServiceCount};
use crate::elements::sets::Set;
use crate::family::numbers;
use crate::table::affinity::CounterError;
use crate::table::error::TableError;
use crate::wire::socket::{Buffers, ListError, NetlinkSocket};
use crate::wire::{Command, DUMP, attr, text};

/// How many connections nftables gave to each Service port since the port was programmed. None if there is no table. While
/// Service ports come and go, one may be missing.
pub fn service_counts<F: Family>() -> Result<Option<Vec<ServiceCount>>, CounterError> {
    let mut socket = NetlinkSocket::with(Buffers::SMALL).map_err(CounterError::Socket)?;
    let found = socket.query(
        Command::GetSetElem,
        DUMP,
        numbers(F::FAMILY).nfproto,
        |buf| {
            text(buf, attr::elements::TABLE, crate::TABLE);
            text(buf, attr::elements::SET, Set::Services.name());
        },
        HashMap::new,
        decode::service_counts,
    );
    match found {
        Ok(found) => Ok(Some(found.into_values().collect())),
        Err(ListError::Io(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(TableError::reading(F::FAMILY, error).into()),
    }
}

//! Removes a table for good: for `tandem run --cleanup`. A table whose owner is gone can be deleted by anyone, as the
//! kernel takes the owner's mark off; one whose owner lives belongs to a running Tandem and is left alone.

use tandem_core::family::Family;

use crate::family::numbers;
use crate::listing::{self, words};
use crate::owner;
use crate::socket::{Outcome, Socket};
use crate::wire::{Batch, Command, text};
use crate::{TABLE, explain};

const OWNER: u32 = 0x2;

/// Why a table was not removed; it is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The netlink socket could not be opened.
    #[error("opening a netlink socket for nftables: {0}")]
    Socket(std::io::Error),
    /// A running program owns it.
    #[error("table {table} is not removed: it belongs to a running program, {owner}")]
    Owned {
        /// The table.
        table: String,
        /// The process, as far as its port id names it.
        owner: String,
    },
    /// The kernel refused.
    #[error("removing table {table}: {reason}")]
    Failed {
        /// The table.
        table: String,
        /// What it said.
        reason: String,
    },
}

/// Removes this family's table with all that is in it; false if there is none.
pub fn remove<F: Family>() -> Result<bool, RemoveError> {
    let table = format!("{} {TABLE}", numbers(F::FAMILY).name);
    let failed = |reason: String| RemoveError::Failed {
        table: table.clone(),
        reason,
    };
    let mut socket = Socket::open().map_err(RemoveError::Socket)?;
    let found = listing::table(&mut socket, F::FAMILY).map_err(|error| failed(words(F::FAMILY, &error)))?;
    let Some(facts) = found else {
        return Ok(false);
    };
    if facts.flags & OWNER != 0 && facts.owner != 0 {
        let owner = owner::port(facts.owner);
        return Err(RemoveError::Owned { table, owner });
    }
    let mut batch = Batch::default();
    let first = socket.sequence();
    batch.begin(numbers(F::FAMILY).nfproto, first);
    batch.message(Command::DelTable, 0, |buf| text(buf, 1, TABLE));
    batch.end();
    match socket.transact(batch.bytes(), first, batch.last_sequence()) {
        Outcome::Done => Ok(true),
        // Somebody else was quicker.
        Outcome::Refused(refusals) if refusals.iter().all(|refusal| refusal.errno == libc::ENOENT) => Ok(false),
        Outcome::Refused(refusals) => Err(failed(explain::reason(refusals.first()))),
        Outcome::NotSent(error) => Err(failed(error.to_string())),
        Outcome::Lost(reason) => Err(failed(reason)),
    }
}
